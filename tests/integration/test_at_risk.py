"""Lines whose day will be missed, or is: by an ETA that moves, by a day that passes, and never by what is here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from random import Random
from threading import Event
from typing import Any
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from sqlalchemy import Connection, Engine, NullPool, TextClause, create_engine, text
from tests.integration.conftest import Sql
from tests.unit.test_docs import DOCS, blocks, section
from tests.unit.test_placing import order

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database import migrations
from allocation.database.migrations import online
from allocation.database.schema import REVISION
from allocation.domain.commands import (
    CancelOrder,
    ChangeEta,
    Command,
    CreateBatch,
    Dispatch,
    ParcelLine,
    PlaceOrder,
    ReceiveBatch,
    ReleaseLine,
)
from allocation.domain.errors import DomainError
from allocation.domain.values import Mode
from allocation.entrypoints.cli import main
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.views import AtRisk
from messaging.envelope import LONGEST_TEXT

JANUARY, FEBRUARY, MARCH = date(2199, 1, 15), date(2199, 2, 1), date(2199, 3, 1)


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


@pytest.fixture
def later(settings: Settings) -> Iterator[Service]:
    """Where it is a day later, or two."""
    service = bootstrap(replace(settings, time_zone="Pacific/Kiritimati"))
    yield service
    service.close()


@pytest.fixture
def earlier(settings: Settings) -> Iterator[Service]:
    service = bootstrap(replace(settings, time_zone="Etc/GMT+12"))
    yield service
    service.close()


def given(service: Service, *asked: Command) -> None:
    for command in asked:
        service.bus.handle(command)


def listed(service: Service, sku: str | None = None) -> list[AtRisk]:
    found, end = service.views.at_risk(sku, None, 1_000)
    assert end is None
    return found


def today_of(service: Service, sku: str = "LAMP") -> date:
    [found] = service.views.availability([sku])
    assert found
    return found.by_date[0].date


def three_of_a_ship(service: Service) -> None:
    """One of them is needed later than the others, and one on no day."""
    given(
        service,
        CreateBatch("by-ship", "LAMP", 100, JANUARY),
        order("anna", "backorder", ("LAMP", 5), needed_by=JANUARY),
        order("ben", "backorder", ("LAMP", 3, "1"), ("LAMP", 2, "2"), needed_by=JANUARY + timedelta(days=3)),
        order("cleo", "backorder", ("LAMP", 1), needed_by=MARCH),
        order("dora", "backorder", ("LAMP", 1)),
    )


def test_an_eta_that_moves_keeps_promises_and_shows_3_lines_at_risk_and_back_again_none(
    service: Service, differences: Callable[[], list[str]]
) -> None:
    three_of_a_ship(service)
    assert listed(service) == []

    given(service, ChangeEta("by-ship", FEBRUARY))

    fourth = JANUARY + timedelta(days=3)
    assert listed(service) == [
        AtRisk("anna", "LAMP", "LAMP", 5, "by-ship", FEBRUARY, JANUARY, 17),
        AtRisk("ben", "1", "LAMP", 3, "by-ship", FEBRUARY, fourth, 14),
        AtRisk("ben", "2", "LAMP", 2, "by-ship", FEBRUARY, fourth, 14),
    ]
    assert differences() == []
    given(service, ChangeEta("by-ship", JANUARY))
    assert listed(service) == []


def test_what_is_here_has_left_or_was_given_back_is_not_at_risk(service: Service, later: Service) -> None:
    three_of_a_ship(service)
    given(service, ChangeEta("by-ship", MARCH), ReleaseLine("anna", "LAMP"))
    assert {one.orderid for one in listed(service)} == {"ben"}

    given(service, ReceiveBatch("by-ship", "r-1", 100))

    assert listed(service) == []
    given(service, Dispatch("ben", "d-1", (ParcelLine("1", 3),)))
    assert listed(later) == []


def test_of_a_line_that_is_split_the_part_that_comes_too_late(service: Service) -> None:
    given(
        service,
        CreateBatch("here", "LAMP", 2),
        CreateBatch("soon", "LAMP", 2, JANUARY),
        CreateBatch("ship", "LAMP", 9, JANUARY),
        order("anna", "partial", ("LAMP", 6), needed_by=FEBRUARY),
        ChangeEta("ship", MARCH),
    )

    assert service.views.order("anna")
    assert [(one.batchref, one.qty, one.days) for one in listed(service)] in ([("ship", 6, 28)], [("ship", 2, 28)])


def test_overdue_goods_come_today_at_the_earliest_and_who_waits_is_listed_from_the_day_after(
    earlier: Service, later: Service
) -> None:
    """A day passes where it has come before."""
    given(earlier, CreateBatch("none", "LAMP", 0))
    day = today_of(earlier)
    given(
        earlier,
        CreateBatch("due", "LAMP", 5, day),
        order("anna", "backorder", ("LAMP", 4), needed_by=day),
        order("ben", "backorder", ("LAMP", 8), needed_by=day),
        order("cleo", "backorder", ("LAMP", 9), needed_by=MARCH),
    )
    assert listed(earlier) == [], "it is the day"

    days = (today_of(later) - day).days
    assert days > 0
    assert listed(later) == [
        AtRisk("anna", "LAMP", "LAMP", 4, "due", day, day, days),
        AtRisk("ben", "LAMP", "LAMP", 8, None, None, day, days),
    ]
    given(later, CancelOrder("ben"), ReceiveBatch("due", "r-1", 5))
    assert listed(later) == []


# --- over HTTP -------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("sku", [None, "LAMP", "SOFA"])
def test_it_is_listed_by_pages_in_the_order_of_the_days_missed(
    earlier: Service, later: Service, sku: str | None, limit: int
) -> None:
    client = create_app(later, UNRESTRICTED).test_client()
    given(earlier, CreateBatch("none", "LAMP", 0))
    day = today_of(earlier)
    given(
        earlier,
        *(CreateBatch(f"{sku}-{n}", sku, 3, day) for sku in ("LAMP", "SOFA") for n in range(2)),
        *(
            order(f"o-{n}", "partial", ("SOFA", 1), ("LAMP", 2), needed_by=day + timedelta(days=(n + 1) % 2))
            for n in range(4)
        ),
        order("o-4", "partial", ("SOFA", 9), needed_by=day),
        *(ChangeEta(f"{sku}-{n}", MARCH) for sku in ("LAMP", "SOFA") for n in range(2)),
    )
    whole = listed(later, sku)

    found: list[Any] = []
    query = f"limit={limit}" + (f"&sku={sku}" if sku else "")
    following = f"/v1/at-risk?{query}"
    while following:
        answer = client.get(following)
        page = answer.json or {}
        assert len(page["items"]) == limit or not page["next"]
        found += page["items"]
        assert len(found) <= len(whole), "something is told again"
        following = page["next"] and f"/v1/at-risk?{query}&cursor={page['next']}"
        assert bool(following) == ("Link" in answer.headers)

    assert found == [json.loads(json.dumps(vars_of(one), default=str)) for one in whole]
    keys = [(one.needed_by, one.sku, version_of(earlier, one), one.batchref is None) for one in whole]
    assert keys == sorted(set(keys))
    assert whole == [one for one in listed(later) if sku in {None, one.sku}]
    if sku is None:
        assert len(keys) > 8
        assert {None, "LAMP-1", "SOFA-0"} <= {one.batchref for one in whole}, "some wait"
        assert len({key[:3] for key in keys}) < len(keys), "a part of a line waits since its other part was promised"


def version_of(service: Service, one: AtRisk) -> int:
    of_promise = "SELECT version FROM allocations WHERE (orderid, lineid, batchref) = (:orderid, :lineid, :batchref)"
    of_waiting = "SELECT since FROM backorders WHERE (orderid, lineid) = (:orderid, :lineid)"
    with service.engine.connect() as connection:
        return int(connection.execute(text(of_promise if one.batchref else of_waiting), vars_of(one)).scalar_one())


def vars_of(one: AtRisk) -> dict[str, Any]:
    return {name: getattr(one, name) for name in one.__slots__}


@pytest.mark.parametrize(
    "query", ["?cursor=nonsense", "?cursor=WyJub25lIiwgIkxBTVAiLCAxLCBmYWxzZV0", "?skus=LAMP", "?limit=201", "?sku="]
)
def test_a_question_that_makes_no_sense_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/v1/at-risk{query}").status_code == 422


def long_name(dice: Random) -> str:
    """As many characters as a name may have, four bytes each, in an order that the server can't compress."""
    return "".join(chr(dice.randrange(0x20000, 0x2A6D7)) for _ in range(LONGEST_TEXT))


def test_names_may_be_as_long_as_names_may_be(
    earlier: Service, later: Service, differences: Callable[[], list[str]]
) -> None:
    dice = Random(1)
    orderid, coming, waiting, on_ship, none = (long_name(dice) for _ in range(5))
    lines = [{"lineid": long_name(dice), "sku": sku, "qty": 1} for sku in (coming, waiting)]
    first, following = sorted(lines, key=lambda line: str(line["sku"]))
    given(earlier, CreateBatch(none, waiting, 0))
    day = today_of(earlier, waiting)
    given(earlier, CreateBatch(on_ship, coming, 1, day))
    there, a_day_later = (create_app(one, UNRESTRICTED).test_client() for one in (earlier, later))
    asked = {"orderid": orderid, "mode": "backorder", "needed_by": str(day), "lines": lines}

    answer = there.post("/v1/orders", json=asked)

    assert (answer.status_code, (answer.json or {}).get("outcome")) == (201, "partly_allocated")
    page = a_day_later.get("/v1/at-risk?limit=1").json or {}
    assert [one["lineid"] for one in page["items"]] == [first["lineid"]]
    page = a_day_later.get(f"/v1/at-risk?limit=1&cursor={page['next']}").json or {}
    assert [one["lineid"] for one in page["items"]] == [following["lineid"]]
    assert page["next"] is None
    for line in lines:
        found = a_day_later.get("/v1/at-risk", query_string={"sku": line["sku"]}).json or {}
        assert [one["lineid"] for one in found["items"]] == [line["lineid"]]
    assert differences() == []
    cancelled = a_day_later.post(f"/v1/orders/{quote(orderid)}/cancellation")
    assert cancelled.status_code == 200, cancelled.text
    assert listed(later) == []
    assert differences() == []


def test_a_sku_of_a_name_from_before_names_had_one_form_is_found(service: Service, client: FlaskClient) -> None:
    given(
        service,
        CreateBatch("b", "e\u0301", 5, JANUARY),
        order("anna", "backorder", ("e\u0301", 5), needed_by=JANUARY),
        ChangeEta("b", MARCH),
    )

    assert len((client.get("/v1/at-risk?sku=e\u0301").json or {})["items"]) == 1


# --- whatever happens ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_line_is_listed_when_its_order_says_that_it_is_at_risk(
    earlier: Service, later: Service, differences: Callable[[], list[str]], seed: int
) -> None:
    dice = Random(seed)
    given(earlier, CreateBatch("none", "LAMP", 0))
    day = today_of(earlier)

    def some_day() -> date:
        return day + timedelta(days=dice.randrange(4))

    refs, orderids = ["none"], ["nobody"]
    for number in range(80):
        mode: Mode = dice.choice(["partial", "backorder"])
        line, ref, orderid = ("LAMP", dice.randrange(1, 9)), dice.choice(refs), dice.choice(orderids)
        possible: list[Command] = [
            CreateBatch(f"b-{number}", "LAMP", dice.randrange(9), dice.choice([None, *(some_day() for _ in range(4))])),
            order(f"o-{number}", mode, line, needed_by=dice.choice([None, some_day()])),
            ChangeEta(ref, some_day()),
            ReceiveBatch(ref, f"r-{number}", dice.randrange(9)),
            Dispatch(orderid, f"d-{number}", (ParcelLine("LAMP", 1),)),
            CancelOrder(orderid),
        ]
        [asked] = dice.choices(possible, weights=[5, 9, 6, 1, 1, 1])
        try:
            earlier.bus.handle(asked)
        except DomainError:
            continue
        if isinstance(asked, CreateBatch):
            refs.append(asked.ref)
        elif isinstance(asked, PlaceOrder):
            orderids.append(asked.orderid)

    everybody: set[str] = set()
    for service in (earlier, later):
        orders = map(service.views.order, orderids)
        said = {found.orderid for found in orders if found and any(line.at_risk for line in found.lines)}
        assert {one.orderid for one in listed(service)} == said
        everybody |= said
    assert everybody, "else it shows nothing"
    assert differences() == []


# --- what is there from before ---------------------------------------------------

FROM_BEFORE = """
    INSERT INTO order_lines (orderid, lineid, sku, version, others, since, terms) VALUES
        ('anna', '1', 'LAMP', 2, '{4}', 2, '{"needed_by": "2199-01-15"}'),
        ('ben', '1', 'LAMP', 3, NULL, NULL, NULL),
        ('cleo', '1', 'SOFA', 2, NULL, 2, '{"needed_by": "2199-02-01"}'),
        ('dora', '1', 'SOFA', NULL, NULL, 3, '{"needed_by": "2199-02-01"}'),
        ('emma', '1', 'SOFA', 4, NULL, 4, '{"needed_by": null}'),
        ('emma', '2', 'SOFA', 5, NULL, 5, '{"needed_by": "2199-03-01"}');
    INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref) VALUES
        ('LAMP', 2, 'anna', '1', 5, 'b'), ('LAMP', 3, 'ben', '1', 1, 'b'), ('LAMP', 4, 'anna', '1', 2, 'c'),
        ('SOFA', 2, 'cleo', '1', 1, 's'), ('SOFA', 4, 'emma', '1', 1, 's'), ('SOFA', 5, 'emma', '2', 1, 's');
"""
FILLED = [JANUARY, None, JANUARY, FEBRUARY, None, MARCH]


@pytest.fixture
def before(unmigrated_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """A database in which promises know no day, to be filled by two lines at a time."""
    migrations.upgrade(unmigrated_url, "0017")
    monkeypatch.setattr(online, "ROWS_AT_A_TIME", 2)
    engine = create_engine(unmigrated_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql(FROM_BEFORE)
    yield engine
    engine.dispose()


def upgraded(engine: Engine) -> str:
    return migrations.upgrade(engine.url.render_as_string(hide_password=False))


def days_of(engine: Engine) -> list[date | None]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT needed_by FROM allocations ORDER BY sku, version"))
        return list(found.scalars())


def test_promises_from_before_get_the_day_of_their_lines_however_long_their_names_are(before: Engine) -> None:
    dice = Random(2)
    names = {name: long_name(dice) for name in ("orderid", "lineid", "batchref", "sku")}
    with before.begin() as connection:
        for statement in (
            "INSERT INTO order_lines (orderid, lineid, sku, version, since, terms) "
            """VALUES (:orderid, :lineid, :sku, 1, 1, '{"needed_by"\\: "2199-01-15"}')""",
            "INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref) "
            "VALUES (:sku, 1, :orderid, :lineid, 1, :batchref)",
            "INSERT INTO backorders (sku, since, orderid, lineid, qty, needs, turn, places, needed_by) "
            "VALUES (:sku, 1, :orderid, :lineid, 1, 1, 0, 1, '2199-01-15')",
        ):
            connection.execute(text(statement), names)

    upgraded(before)

    assert days_of(before) == [*FILLED, JANUARY]


def test_whoever_reads_and_writes_promises_goes_on_while_they_are_filled(
    before: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_half_way, goes_on = Event(), Event()
    fill_some = online.fill_some

    def and_pause(*asked: Any) -> Any:
        end = fill_some(*asked)
        if end == {"orderid": "dora", "lineid": "1"}:
            is_half_way.set()
            assert goes_on.wait(30)
        return end

    monkeypatch.setattr(online, "fill_some", and_pause)
    with ThreadPoolExecutor(1) as pool:
        migration = pool.submit(upgraded, before)
        try:
            assert is_half_way.wait(30), migration.result(0)
            with before.begin() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
                assert connection.execute(text("SELECT count(needed_by) FROM allocations")).scalar_one() == 3
                assert connection.execute(text("UPDATE allocations SET qty = qty + 1")).rowcount == 6
                connection.execute(text("LOCK TABLE allocations, order_lines IN ROW EXCLUSIVE MODE"))
        finally:
            goes_on.set()
        assert migration.result(30) == REVISION

    assert days_of(before) == FILLED


def test_a_fill_that_was_cut_short_is_completed_by_migrating_again(
    before: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_some = online.fill_some
    places: list[Any] = []

    def once(*asked: Any) -> Any:
        if places:
            raise KeyboardInterrupt
        places.append(fill_some(*asked))
        return places[0]

    with monkeypatch.context() as patch:
        patch.setattr(online, "fill_some", once)
        with pytest.raises(KeyboardInterrupt):
            upgraded(before)
    assert days_of(before) == [JANUARY, None, JANUARY, None, None, None]

    assert upgraded(before) == REVISION

    assert days_of(before) == FILLED


def test_rows_at_which_somebody_is_are_filled_when_they_are_let_go(
    before: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits long behind the fill, and it does not begin anew."""
    monkeypatch.setattr(migrations, "LOCK_TIMEOUT", "100ms")
    fill_some, places = online.fill_some, list[str]()
    with before.connect() as writer:

        def locked_once(connection: Connection, statement: TextClause, place: dict[str, Any]) -> Any:
            places.append(place["orderid"])
            if places == ["", "ben"]:
                writer.execute(text("UPDATE allocations SET qty = qty + 1 WHERE orderid = 'cleo'"))
            elif places == ["", "ben", "ben"]:
                writer.commit()
            return fill_some(connection, statement, place)

        monkeypatch.setattr(online, "fill_some", locked_once)
        assert upgraded(before) == REVISION

    assert places == ["", "ben", "ben", "dora", "emma"]
    assert days_of(before) == FILLED


FILL = blocks(section(DOCS / "operations.md", "A new release"), "sql")[0]


def test_days_that_an_older_process_has_left_out_are_named_and_can_be_filled(
    service: Service, sql: Sql, differences: Callable[[], list[str]]
) -> None:
    """As it does on this schema; what the pages say brings them back."""
    three_of_a_ship(service)
    given(service, ChangeEta("by-ship", FEBRUARY))
    whole = listed(service)
    sql("UPDATE allocations SET needed_by = NULL WHERE orderid IN ('anna', 'cleo', 'dora')")
    assert listed(service) == whole[1:]
    assert differences() == [
        "allocation 2 of 'LAMP' by its history: "
        "expected 5 of 'LAMP' for line 'LAMP' of order 'anna' from batch 'by-ship', needed by 2199-01-15, "
        "found 5 of 'LAMP' for line 'LAMP' of order 'anna' from batch 'by-ship'",
        "allocation 5 of 'LAMP' by its history: "
        "expected 1 of 'LAMP' for line 'LAMP' of order 'cleo' from batch 'by-ship', needed by 2199-03-01, "
        "found 1 of 'LAMP' for line 'LAMP' of order 'cleo' from batch 'by-ship'",
    ]

    for _ in range(2):
        sql(FILL)

        assert differences() == []
        assert listed(service) == whole


# --- in a file -------------------------------------------------------------------


def test_all_of_it_is_exported(earlier: Service, later: Service, settings: Settings, tmp_path: Path) -> None:
    given(earlier, CreateBatch("none", "LAMP", 0))
    day = today_of(earlier)
    given(
        earlier,
        CreateBatch("due", "LAMP", 5, day),
        order("=anna", "backorder", ("LAMP", 4), needed_by=day),
        order("ben", "backorder", ("LAMP", 8), needed_by=day),
    )
    terminal = CliRunner(env=settings.as_environment({}) | {"TIME_ZONE": "Pacific/Kiritimati", "LOG_LEVEL": "ERROR"})
    file = tmp_path / "late.csv"

    said = terminal.invoke(main, ["export", "at-risk", str(file)])

    days = (today_of(later) - day).days
    assert said.output == "2 lines at risk written\n"
    assert file.read_text().splitlines() == [
        "orderid,lineid,sku,qty,batchref,eta,needed_by,days",
        f"'=anna,LAMP,LAMP,4,due,{day},{day},{days}",
        f"ben,LAMP,LAMP,8,,,{day},{days}",
    ]


# --- at the command line ---------------------------------------------------------


def test_it_is_a_list_at_the_command_line(service: Service, settings: Settings) -> None:
    three_of_a_ship(service)
    given(service, ChangeEta("by-ship", FEBRUARY))
    terminal = CliRunner(env=settings.as_environment({}) | {"LOG_LEVEL": "ERROR"})

    header, first, *_ = terminal.invoke(main, ["at-risk", "LAMP"]).stdout.splitlines()
    as_json = terminal.invoke(main, ["at-risk", "--json", "--limit", "2"])

    assert header.split() == ["needed", "by", "days", "late", "order", "line", "SKU", "qty", "batch", "eta"]
    assert first.split() == ["2199-01-15", "17", "anna", "LAMP", "LAMP", "5", "by-ship", "2199-02-01"]
    assert [json.loads(line)["lineid"] for line in as_json.stdout.splitlines()] == ["LAMP", "1"]
    assert as_json.stderr == "There are more than 2; see --limit.\n"
    assert terminal.invoke(main, ["at-risk", "SOFA"]).stdout == "No line is at risk.\n"
