"""The API under /v1 on a real database: what is answered of stock, orders and the log, and what two at once get."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text
from tests.integration.conftest import AtOnce, Sql
from tests.unit.test_docs import DOCS, blocks, section

from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.views import Batch, Incoming, Line, Order, Promise, Room, Stock
from embedded.waiting import wait_for
from messaging.envelope import Request
from messaging.sql.log_reader import SLACK, EventFilter, LoggedEvent, LogPosition, UnknownPosition

PATIENCE = 10.0
JANUARY, MARCH = date(2031, 1, 1), date(2031, 3, 1)


def given(service: Service, *asked: commands.Command) -> None:
    for command in asked:
        for outcome in service.bus.handle_together([Request(command)]):
            outcome.unwrap()


@pytest.fixture
def client(service: Service) -> FlaskClient:
    return create_app(service, UNRESTRICTED).test_client()


# --- stock ---------------------------------------------------------------------


def test_a_hold_that_is_voided_is_gone_and_the_one_of_another_sku_with_its_id_stays(
    service: Service, client: FlaskClient
) -> None:
    for sku in ("LAMP", "SOFA"):
        given(service, commands.CreateBatch(f"b-{sku}", sku, 10), commands.PlaceHold("cart", sku, 1, 600))

    assert client.delete("/v1/holds/cart?sku=LAMP").status_code == 204

    assert [client.get(f"/v1/holds/cart?sku={sku}").status_code for sku in ("LAMP", "SOFA")] == [404, 200]


def test_a_product_is_what_is_there_and_what_is_to_come_by_day(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("sold", "LAMP", 3),
        commands.CreateBatch("late", "LAMP", 7, MARCH),
        commands.CreateBatch("here", "LAMP", 10),
        commands.CreateBatch("soon", "LAMP", 20, JANUARY),
        commands.CreateBatch("soon too", "LAMP", 5, JANUARY),
        commands.CreateBatch("other", "SOFA", 1),
        commands.CreateBatch("its twin", "SOFA", 1),
        commands.Allocate("o1", "LAMP", 3),
        commands.Allocate("o2", "LAMP", 4),
        commands.Allocate("o3", "LAMP", 18),
    )

    incoming = [Incoming(JANUARY, 25, 18, 7), Incoming(MARCH, 7, 0, 7)]
    assert service.views.product("LAMP") == Stock("LAMP", 13, 7, 6, incoming)
    assert service.views.product("SOFA") == Stock("SOFA", 2, 0, 2, [])
    assert service.views.product("lamp") is None


def test_all_products_are_listed_in_pages_each_once(service: Service, client: FlaskClient) -> None:
    skus = sorted(f"SKU {letter}" for letter in "äbcdefÅ/&%_=?")
    given(service, *(commands.CreateBatch(f"b-{sku}", sku, 1, JANUARY) for sku in skus))
    given(service, *(commands.CreateBatch(f"c-{sku}", sku, 2, MARCH) for sku in skus))

    found, path = [], "/v1/products?limit=5"
    for size in (5, 5, 3):
        answer = client.get(path)
        items = (answer.json or {})["items"]
        assert len(items) == size
        found += [item["sku"] for item in items]
        link = answer.headers.get("Link", "")
        assert ((answer.json or {})["next"] is None) == (link == "")
        path = link.removeprefix("<").removesuffix('>; rel="next"')

    assert found == sorted(skus, key=str.encode)
    assert path == "", "and that was the last one"


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
def test_batches_of_a_product_are_listed_in_the_order_in_which_they_are_allocated(
    service: Service, client: FlaskClient, limit: int
) -> None:
    """Whether they are exhausted or not, and also when that changes between two pages."""
    sku = "A/LAMP?"
    given(
        service,
        commands.CreateBatch("march", sku, 7, MARCH),
        commands.CreateBatch("z-here", sku, 3),
        commands.CreateBatch("january", sku, 6, JANUARY),
        commands.CreateBatch("a-here", sku, 9),
        commands.CreateBatch("january-too", sku, 5, JANUARY),
        commands.CreateBatch("of-another", "LAMP", 5),
        commands.Allocate("o1", sku, 3),
        commands.Allocate("o2", sku, 8),
    )

    found: list[dict[str, object]] = []
    path = f"/v1/batches?sku={quote(sku, safe='')}&limit={limit}"
    while path and len(found) <= 5:
        answer = client.get(path)
        found += (answer.json or {})["items"]
        path = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
        given(service, commands.ChangeBatchQuantity("january", len(found)))

    assert [batch["ref"] for batch in found] == ["z-here", "a-here", "january", "january-too", "march"]
    assert [batch["available"] for batch in found[:2]] == [0, 1]
    assert found[0] == client.get("/v1/batches/z-here").json


def test_of_a_product_that_nobody_knows_there_are_no_batches(client: FlaskClient) -> None:
    assert client.get("/v1/batches?sku=NIX").json == {"items": [], "next": None}


def all_pages(client: FlaskClient, path: str) -> list[str]:
    found: list[str] = []
    while path:
        answer = client.get(path)
        found += (batch["ref"] for batch in (answer.json or {})["items"])
        path = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')
    return found


@pytest.mark.parametrize("limit", [1, 2, 200])
def test_batches_of_all_products_are_listed_and_those_that_somebody_must_see_to(
    service: Service, client: FlaskClient, limit: int
) -> None:
    """Whether the clock has recorded that they are overdue or not."""
    past = datetime.now(UTC).date() - timedelta(days=2)
    given(
        service,
        commands.CreateBatch("b", "LAMP", 3, past),
        commands.CreateBatch("a", "LAMP", 3, past),
        commands.CreateBatch("first", "SOFA", 4, past - timedelta(days=9)),
        commands.CreateBatch("sour", "MILK", 4, past, past),
        commands.CreateBatch("old", "MILK", 4, None, past),
        commands.CreateBatch("later", "LAMP", 4, MARCH),
        commands.CreateBatch("here", "LAMP", 4),
        commands.Quarantine("here", 1, "damaged", "q"),
        commands.ApplyDueDates("MILK", ("sour", "old")),
    )

    def listed(query: str) -> list[str]:
        return all_pages(client, f"/v1/batches?limit={limit}{query}")

    assert listed("") == ["a", "b", "first", "here", "later", "old", "sour"]
    for _ in range(2):
        assert listed("&overdue=true") == ["first", "a", "b"], "what has expired is no use when it comes"
        assert listed("&overdue=true&sku=LAMP") == ["a", "b"]
        assert service.views.due_dates().overdue_batches == 3, "the metric and the status count what is listed"
        given(service, commands.ApplyDueDates("LAMP", ("a",)), commands.ApplyDueDates("SOFA", ("first",)))
    assert listed("&quarantined=true") == ["here", "old"]
    assert listed("&quarantined=true&sku=LAMP") == ["here"]
    assert listed("&quarantined=true&overdue=true") == []


@pytest.mark.parametrize("sku", ["", "&sku=LAMP"])
def test_whoever_goes_through_overdue_batches_and_states_other_days_misses_none(
    service: Service, client: FlaskClient, sku: str
) -> None:
    past = datetime.now(UTC).date() - timedelta(days=9)
    given(service, *(commands.CreateBatch(f"b{n}", "LAMP", 3, past + timedelta(days=n)) for n in range(4)))

    seen: list[str] = []
    path = f"/v1/batches?limit=2&overdue=true{sku}"
    while path:
        answer = client.get(path)
        refs = [batch["ref"] for batch in (answer.json or {})["items"]]
        given(service, *(commands.ChangeEta(ref, MARCH) for ref in refs))
        seen += refs
        path = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')

    assert seen == ["b0", "b1", "b2", "b3"]


def test_a_cursor_is_of_the_list_that_gave_it(service: Service, client: FlaskClient) -> None:
    past = datetime.now(UTC).date() - timedelta(days=2)
    given(service, *(commands.CreateBatch(ref, "LAMP", 3, past) for ref in ("a", "b")))
    queries = ("", "&sku=LAMP", "&overdue=true", "&overdue=true&sku=LAMP")
    cursors = {query: client.get(f"/v1/batches?limit=1{query}").json["next"] for query in queries}  # type: ignore[index]

    for asked in queries:
        for query, cursor in cursors.items():
            answer = client.get(f"/v1/batches?limit=1{asked}&cursor={cursor}")
            assert answer.status_code == (200 if asked == query else 422), (asked, query)


def test_room_is_what_all_batches_have_and_at_most_one(service: Service) -> None:
    yesterday = datetime.now(UTC).date() - timedelta(days=2)
    given(
        service,
        commands.CreateBatch("sold", "LAMP", 3),
        commands.CreateBatch("here", "LAMP", 10),
        commands.CreateBatch("overdue", "LAMP", 4, yesterday),
        commands.CreateBatch("promised", "LAMP", 6, JANUARY),
        commands.CreateBatch("late", "LAMP", 7, MARCH),
        commands.Allocate("o1", "LAMP", 3),
        commands.Allocate("o2", "LAMP", 8),
        commands.Allocate("o3", "LAMP", 6),
    )

    assert service.views.room("LAMP") == Room(30, 17, 13, 7, MARCH)
    assert service.views.room("SOFA") == Room(0, 0, 0, 0, None)


def test_a_batch_is_what_it_is_now(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 10, JANUARY), commands.Allocate("o1", "LAMP", 4))
    given(service, commands.ChangeBatchQuantity("b1", 9))

    assert service.views.batch("b1") == Batch("b1", "LAMP", 9, 4, 5, JANUARY, state="expected")
    assert service.views.batch("B1") is None


def test_an_order_has_its_lines_with_batch_and_eta_in_the_order_of_allocation(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("b1", "LAMP", 4),
        commands.CreateBatch("b2", "LAMP", 4, JANUARY),
        commands.CreateBatch("b3", "SOFA", 1),
        commands.Allocate("o/1", "LAMP", 4, "first"),
        commands.Allocate("o/1", "SOFA", 1),
        commands.Allocate("o/1", "SOFA", 1, "out of stock"),
        commands.ChangeBatchQuantity("b1", 1),
    )

    sofa = Line("SOFA", "SOFA", 1, "b3", None, [Promise("b3", 1, None, 0)])
    lamp = Line("first", "LAMP", 4, "b2", JANUARY, [Promise("b2", 4, JANUARY, 0)])
    assert service.views.order("o/1") == Order("o/1", [sofa, lamp]), "a moved line counts as newly promised"
    assert service.views.order("o") is None


# --- the log -------------------------------------------------------------------


def short(entries: list[LoggedEvent]) -> list[tuple[str, int]]:
    return [(entry.stream, entry.version) for entry in entries]


def read(service: Service, after: LogPosition | None = None, most: int = 100, **wanted: Any) -> list[tuple[str, int]]:
    return short(service.log.read(EventFilter(**wanted), after, most))


def settled(service: Service, number: int) -> None:
    """Autovacuum, too, has transactions, and what is younger than the oldest that is open is not told yet."""
    wait_for(lambda: len(read(service, most=1_000)) == number, within=PATIENCE)


def some_history(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("b1", "LAMP", 4),
        commands.CreateBatch("b2", "SOFA", 4),
        commands.Allocate("o1", "LAMP", 1),
        commands.Allocate("o1", "SOFA", 1),
        commands.Allocate("o2", "LAMP", 2),
        commands.Allocate("o1", "LAMP", 9, "much"),
        commands.ChangeBatchQuantity("b1", 0),
    )
    settled(service, 11)


EVERYTHING = [("LAMP", 1), ("SOFA", 1), ("LAMP", 2), ("SOFA", 2), *(("LAMP", version) for version in range(3, 10))]


def test_the_log_is_told_in_the_order_of_commits_and_by_sku_and_order(service: Service) -> None:
    some_history(service)

    assert read(service) == EVERYTHING
    assert read(service, stream="LAMP") == [("LAMP", version) for version in range(1, 10)]
    assert read(service, subject="o1") == [("LAMP", 2), ("SOFA", 2), ("LAMP", 4), ("LAMP", 6), ("LAMP", 8)]
    assert read(service, subject="o1", stream="SOFA") == [("SOFA", 2)]
    assert read(service, subject="o", stream="SOFA") == read(service, stream="lamp") == []


def test_what_was_out_of_stock_is_found_by_its_order(service: Service, client: FlaskClient) -> None:
    """No table of what is allocated knows of it."""
    given(service, commands.CreateBatch("b1", "LAMP", 4), commands.Allocate("o/9", "LAMP", 5))
    settled(service, 2)

    (event,) = (client.get(f"/v1/events?orderid={quote('o/9', safe='')}").json or {})["items"]

    assert (event["type"], event["sku"], event["version"]) == ("allocation.out_of_stock.v1", "LAMP", 2)
    assert event["data"] == {"orderid": "o/9", "sku": "LAMP", "qty": 5, "lineid": "LAMP"}
    assert event["correlation_id"] == event["causation_id"]


@pytest.mark.parametrize(
    "query", ["", "&sku=LAMP", "&orderid=o1", "&since=2020-01-01T00:00:00Z", "&orderid=o1&sku=LAMP"]
)
def test_page_after_page_is_the_same_as_all_at_once(service: Service, client: FlaskClient, query: str) -> None:
    some_history(service)

    def pages() -> Iterator[dict[str, Any]]:
        path = f"/v1/events?limit=2{query}"
        while path:
            answer = client.get(path)
            assert answer.status_code == 200
            yield from (answer.json or {})["items"]
            path = answer.headers.get("Link", "").removeprefix("<").removesuffix('>; rel="next"')

    whole = client.get(f"/v1/events?limit=200{query}").json or {}
    assert list(pages()) == whole["items"]
    assert len(whole["items"]) > 3
    assert whole["next"] is None


def test_who_resumes_gets_what_has_come_since(service: Service, client: FlaskClient) -> None:
    some_history(service)
    resume = (client.get("/v1/events").json or {})["resume"]
    nothing = client.get(f"/v1/events?cursor={resume}").json or {}
    given(service, commands.CreateBatch("b3", "SOFA", 1))
    settled(service, 12)

    (event,) = (client.get(f"/v1/events?cursor={nothing['resume']}").json or {})["items"]

    assert nothing == {"items": [], "next": None, "resume": resume}
    assert (event["sku"], event["version"]) == ("SOFA", 3)


@pytest.mark.parametrize("wanted", ["", "&sku=LAMP", "&orderid=o1"])
def test_a_cursor_of_another_history_is_refused(service: Service, client: FlaskClient, sql: Sql, wanted: str) -> None:
    """As after a restore: other events have taken the places of those that somebody was told."""
    some_history(service)
    settled(service, 11)
    cursor = (client.get(f"/v1/events?limit=1{wanted}").json or {})["resume"]
    assert client.get(f"/v1/events?cursor={cursor}{wanted}").status_code == 200

    sql("UPDATE event_log SET id = gen_random_uuid()")

    answer = client.get(f"/v1/events?cursor={cursor}{wanted}")
    assert answer.status_code == 422
    [error] = (answer.json or {})["errors"]
    assert error["parameter"] == "cursor"


def test_a_place_that_is_not_in_the_log_is_said_so(service: Service) -> None:
    some_history(service)

    for place, wanted in (
        (LogPosition("LAMP", 99), EventFilter()),
        (LogPosition("LAMP", 99), EventFilter(subject="o1")),
        (LogPosition("LAMP", 1), EventFilter(stream="SOFA")),
        (LogPosition("LAMP", 1, "00000000-0000-4000-8000-000000000000"), EventFilter()),
        (LogPosition("LAMP", 1, "00000000-0000-4000-8000-000000000000"), EventFilter(stream="LAMP")),
        (LogPosition("LAMP", 1, "00000000-0000-4000-8000-000000000000"), EventFilter(subject="o1")),
    ):
        with pytest.raises(UnknownPosition):
            service.log.read(wanted, place, 1)


def test_nothing_is_published_before_what_may_still_come_before_it(service: Service, engine: Engine) -> None:
    """Who has gone on from a later event would never see it."""
    given(service, commands.CreateBatch("b1", "LAMP", 4), commands.CreateBatch("b2", "SOFA", 4))
    settled(service, 2)
    with engine.connect() as slow:
        slow.execute(text("BEGIN"))
        slow.execute(text("SELECT pg_current_xact_id()"))  # the older transaction, by its number
        given(service, commands.Allocate("o1", "SOFA", 1))

        assert read(service) == [("LAMP", 1), ("SOFA", 1)]
        assert read(service, subject="o1") == []
        assert read(service, stream="SOFA") == [("SOFA", 1), ("SOFA", 2)], "of one stream nothing can come before it"

        slow.execute(
            text("""
                INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects)
                VALUES ('LAMP', 2, gen_random_uuid(), 'allocated.v1', '{"orderid": "o1"}', 'c', 'a test', now(), '[]')
            """)
        )
        slow.execute(text("COMMIT"))
    settled(service, 4)

    assert read(service) == [("LAMP", 1), ("SOFA", 1), ("LAMP", 2), ("SOFA", 2)]
    assert read(service, LogPosition("SOFA", 1)) == read(service, subject="o1") == [("LAMP", 2), ("SOFA", 2)]


RENUMBER = blocks(section(DOCS / "operations.md", "Backup"), "sql")[0]


def test_a_log_from_another_server_is_told_and_goes_on_once_it_is_renumbered(service: Service, sql: Sql) -> None:
    """Whose transactions had higher numbers than ours."""
    some_history(service)
    sql("UPDATE event_log SET transaction_id = transaction_id + 1000000000")

    assert read(service) == EVERYTHING
    sql(RENUMBER)
    given(service, commands.CreateBatch("b3", "SOFA", 1))
    settled(service, 12)

    assert read(service) == [*EVERYTHING, ("SOFA", 3)]
    assert read(service, LogPosition("LAMP", 8)) == [("LAMP", 9), ("SOFA", 3)]


def recorded_by_clocks_that_differ(sql: Sql) -> list[tuple[tuple[str, int], datetime]]:
    """A log of sixty events of two streams, a transaction each and nearly in the order of time; places and times."""
    log = []
    for number in range(60):
        place = f"S{number % 2}", 1 + number // 2
        time = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=3 * number) + SLACK * (0, 0.9, 0, 0.5)[number % 4]
        sql(
            """
            INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects)
            VALUES (:stream, :version, gen_random_uuid(), 'allocated.v1', '{"orderid": "o1"}', 'c', 'a', :time, '[]')
            """,
            stream=place[0],
            version=place[1],
            time=time,
        )
        log.append((place, time))
    return log


def test_a_span_of_time_is_told_whichever_way_it_is_asked_for(service: Service, sql: Sql) -> None:
    log = recorded_by_clocks_that_differ(sql)
    settled(service, 60)
    moments = [log[0][1] + timedelta(seconds=seconds) for seconds in range(-5, 200, 7)]
    spans: list[tuple[datetime | None, datetime | None]] = [(None, moments[0]), (moments[-1], None)]
    for moment in moments:
        spans += [(None, moment), (moment, None), (moment, moment + timedelta(seconds=20))]

    for since, until in spans:
        wanted = [place for place, time in log if (since is None or since <= time) and (until is None or time < until)]
        assert read(service, since=since, until=until) == wanted
        assert read(service, since=since, until=until, subject="o1") == wanted
        assert read(service, since=since, until=until, stream="S1") == [place for place in wanted if place[0] == "S1"]
        later = [place for place in wanted if [place for place, _ in log].index(place) > 20]
        assert read(service, LogPosition(*log[20][0]), since=since, until=until) == later


def test_a_time_that_the_database_can_hardly_name_is_a_time(client: FlaskClient, service: Service) -> None:
    some_history(service)
    for moment in ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59.999999-14:00", "2026-01-01t00:00:00z"):
        for query in (f"since={moment}", f"until={moment}", f"sku=LAMP&since={moment}&until={moment}"):
            assert client.get(f"/v1/events?{query}").status_code == 200


def test_an_empty_log_has_no_events(service: Service) -> None:
    moment = datetime.now(UTC)

    assert read(service, since=moment, until=moment) == read(service, stream="LAMP", since=moment) == []


# --- two at once ----------------------------------------------------------------


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


def test_of_many_who_have_seen_the_same_batch_one_changes_it(
    service: Service, client: FlaskClient, at_once: AtOnce, engine: Engine, sql: Sql
) -> None:
    """All have read it before one of them can write. So the condition must be looked at where the batch is changed."""
    given(service, commands.CreateBatch("b1", "LAMP", 100))

    def change(qty: int) -> int:
        with client.application.test_client() as own:
            return own.patch("/v1/batches/b1", json={"qty": qty}, headers={"If-Match": '"100-0-0-0-0-0-0"'}).status_code

    def hold_back() -> None:
        wait_for(lambda: sql(WAITING) == [(8,)], within=PATIENCE)
        lock.execute(text("ROLLBACK"))

    with engine.connect() as lock:
        lock.execute(text("BEGIN"))
        lock.execute(text("SELECT FROM products FOR UPDATE"))
        *answers, _ = at_once(*(partial(change, qty) for qty in range(90, 98)), hold_back)

    assert sorted(answers) == [200, *[412] * 7]
    assert len(read(service, stream="LAMP")) == 2
