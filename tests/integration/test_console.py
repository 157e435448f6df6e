"""What the console asks of the database: a page of stock, one SKU's history, the newest events, who is signed in."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import date

import pytest
from sqlalchemy import Engine, text

from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED
from allocation.views import stock_history, stock_list
from allocation.views.stock_history import Balance, Figures, History
from embedded.waiting import wait_for
from messaging.envelope import Request
from messaging.sql.dead_letters import DeadLetter

LONG_AGO, LATER, LATER_STILL = date(2001, 1, 1), date(2031, 1, 1), date(2031, 2, 1)

Sql = Callable[..., list[tuple[object, ...]]]


def given(service: Service, *asked: commands.Command) -> None:
    for outcome in service.bus.handle_together([Request(command) for command in asked]):
        outcome.unwrap()


def skus(service: Service, part: str = "", after: str = "", most: int = 100) -> list[str]:
    return [shelf.sku for shelf in service.views.stock_list(part, after, most).shelves]


def history(service: Service, sku: str, before: int | None = None, most: int = 100) -> History:
    found = service.views.stock_history(sku, before, most)
    assert found
    return found


# --- a page of stock -------------------------------------------------------------


def test_a_shelf_has_the_sums_of_all_batches_and_its_batches_in_the_order_of_allocation(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("latest", "CHAIR", 50, LATER_STILL),
        commands.CreateBatch("later", "CHAIR", 30, LATER),
        commands.CreateBatch("here", "CHAIR", 10),
        commands.Allocate("o1", "CHAIR", 10),
        commands.Allocate("o2", "CHAIR", 7),
        commands.CreateBatch("other", "TABLE", 1),
    )

    chair, table = service.views.stock_list("", "", 100).shelves

    assert (chair.sku, chair.available, chair.allocated, chair.batch_count) == ("CHAIR", 0, 10, 3)
    assert (chair.incoming, chair.incoming_allocated) == (73, 7)
    assert [(batch.ref, batch.eta, batch.qty, batch.allocated) for batch in chair.batches] == [
        ("here", None, 10, 10),
        ("later", LATER, 30, 7),
        ("latest", LATER_STILL, 50, 0),
    ]
    assert (table.sku, table.available) == ("TABLE", 1)


def test_what_was_dispatched_is_in_the_batch_and_not_in_the_sums_nor_is_what_has_expired(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("old", "CHAIR", 9, expires=LONG_AGO),
        commands.CreateBatch("here", "CHAIR", 20),
        commands.Allocate("o1", "CHAIR", 10),
        commands.Dispatch("o1", "p1", (commands.ParcelLine("CHAIR", 6),)),
        commands.Quarantine("here", 3, "damaged", "q1"),
    )

    [chair] = service.views.stock_list("", "", 100).shelves
    figures = history(service, "CHAIR").figures

    assert (chair.available, chair.allocated, chair.batch_count) == (7, 4, 2)
    assert [(one.ref, one.state, one.available, one.dispatched, one.quarantined) for one in chair.batches] == [
        ("old", "expired", 9, 0, 0),
        ("here", "received", 7, 6, 3),
    ]
    assert figures == Figures(
        available=7, on_hand=14, allocated=4, held=0, quarantined=3, incoming=0, incoming_allocated=0, expired=9
    )


def test_of_many_batches_the_open_ones_are_shown_first_and_all_are_counted(service: Service) -> None:
    many = stock_list.BATCHES_SHOWN + 5
    given(service, *(commands.CreateBatch(f"b{number:02}", "CHAIR", 1) for number in range(many)))
    given(service, *(commands.Allocate(f"o{number}", "CHAIR", 1) for number in range(10)))

    (shelf,) = service.views.stock_list("", "", 100).shelves

    assert (shelf.batch_count, shelf.available, shelf.allocated) == (many, many - 10, 10)
    assert len(shelf.batches) == stock_list.BATCHES_SHOWN
    assert sum(batch.available for batch in shelf.batches) == many - 10


def test_a_part_of_a_name_is_found_in_either_case_and_means_only_itself(service: Service) -> None:
    for sku in ("RED-CHAIR", "red-table", "100%_WOOL", "100 WOOL", "back\\slash"):
        given(service, commands.CreateBatch(f"b {sku}", sku, 1))

    assert skus(service, "red") == skus(service, "RED") == ["RED-CHAIR", "red-table"]
    assert skus(service, "%") == skus(service, "0%_w") == skus(service, "_") == ["100%_WOOL"]
    assert skus(service, "\\") == ["back\\slash"]
    assert skus(service, "'; DROP TABLE products; --") == []
    assert len(skus(service)) == 5


def test_pages_go_on_behind_the_last_sku_until_there_is_none(service: Service) -> None:
    given(service, *(commands.CreateBatch(f"b{number}", f"SKU-{number}", 1) for number in range(5)))

    seen: list[str] = []
    after: str | None = ""
    while after is not None:
        page = service.views.stock_list("sku", after, 2)
        seen, after = [*seen, *(shelf.sku for shelf in page.shelves)], page.next

    assert seen == [f"SKU-{number}" for number in range(5)]


def test_only_so_many_skus_are_searched_for_one_page(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stock_list, "LOOKED_AT", 3)
    given(service, *(commands.CreateBatch(f"b{number}", f"SKU-{number}", 1) for number in range(7)))

    nothing_yet = service.views.stock_list("6", "", 10)
    nor_yet = service.views.stock_list("6", nothing_yet.next or "", 10)
    found = service.views.stock_list("6", nor_yet.next or "", 10)

    assert (nothing_yet.shelves, nothing_yet.next) == ([], "SKU-2")
    assert (nor_yet.shelves, nor_yet.next) == ([], "SKU-5")
    assert ([shelf.sku for shelf in found.shelves], found.next) == (["SKU-6"], None)


# --- one SKU's history -----------------------------------------------------------


def test_a_history_leads_to_what_is_there(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("here", "CHAIR", 20),
        commands.CreateBatch("later", "CHAIR", 100, LATER),
        commands.Allocate("anna", "CHAIR", 12),
        commands.Allocate("ben", "CHAIR", 8),
        commands.Allocate("cleo", "CHAIR", 500),
        commands.ChangeBatchQuantity("here", 15),
        commands.ChangeBatchQuantity("here", 13),
    )

    told = history(service, "CHAIR")

    assert [(step.change, step.after) for step in reversed(told.steps)] == [
        (Balance(20, 0), Balance(20, 0)),
        (Balance(0, 100), Balance(20, 100)),
        (Balance(-12, 0), Balance(8, 100)),
        (Balance(-8, 0), Balance(0, 100)),
        (Balance(0, 0), Balance(0, 100)),
        (Balance(-5, 0), Balance(-5, 100)),
        (Balance(8, 0), Balance(3, 100)),
        (Balance(0, -8), Balance(3, 92)),
        (Balance(-2, 0), Balance(1, 92)),
    ]
    assert told.figures == Figures(1, 13, 12, 0, 0, 92, 8, 0)
    assert told.older is None
    assert [batch.ref for batch in told.batches] == ["here", "later"]


def test_a_history_of_receipts_counts_returns_and_write_offs_adds_up(service: Service) -> None:
    given(
        service,
        commands.CreateBatch("ship", "CHAIR", 100, LATER),
        commands.Allocate("anna", "CHAIR", 10),
        commands.ReceiveBatch("ship", "r1", 60, 5, rest=commands.Rest("ship-2", LATER_STILL)),
        commands.Dispatch("anna", "p1", (commands.ParcelLine("CHAIR", 10),)),
        commands.ReturnLine("anna", "CHAIR", 3, "ret1", "check"),
        commands.WriteOff("ship", 5, "damaged", "w1"),
        commands.CountBatch("ship", 44, 45, "c1", "lost"),
        commands.ReceiveBatch("ship", "r2", 10),
        commands.ReleaseQuarantine("ship", 3, "rel1"),
        commands.ChangeEta("ship-2", LATER),
    )
    balances = [
        Balance(0, 100),
        Balance(0, 90),  # ten are promised
        Balance(0, 130),  # the rest is purchased once more, until the receipt says what came
        Balance(50, 40),
        Balance(45, 40),  # the damaged
        Balance(45, 40),  # what leaves was promised
        Balance(48, 40),
        Balance(45, 40),  # to be checked
        Balance(45, 40),  # what is written off was not for sale
        Balance(44, 40),
        Balance(54, 40),
        Balance(57, 40),
        Balance(57, 40),
    ]

    assert [step.after for step in reversed(history(service, "CHAIR").steps)] == balances
    for most in (1, 2, 5):
        last = len(balances)
        pages = [history(service, "CHAIR", before, most) for before in range(last + 1, 1, -most)]
        assert [step.after for page in pages for step in page.steps] == balances[::-1]


@pytest.mark.parametrize("most", [1, 2, 3, 7, 50])
def test_pages_of_a_history_tell_what_the_whole_tells(service: Service, most: int) -> None:
    given(service, commands.CreateBatch("b1", "CHAIR", 100), commands.CreateBatch("b2", "CHAIR", 100, LATER))
    for number in range(8):
        given(
            service, commands.Allocate(f"o{number}", "CHAIR", 9), commands.ChangeBatchQuantity("b1", 90 - 11 * number)
        )
    whole = history(service, "CHAIR").steps

    paged, before = list(history(service, "CHAIR", None, most).steps), history(service, "CHAIR", None, most).older
    while before:
        page = history(service, "CHAIR", before, most)
        paged, before = paged + page.steps, page.older

    assert paged == whole
    assert all(step.after for step in whole)


def test_far_back_the_balance_is_not_reckoned_but_what_happened_is_told(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock_history, "RECKONED", 5)
    given(service, commands.CreateBatch("b1", "CHAIR", 100))
    given(service, *(commands.Allocate(f"o{number}", "CHAIR", 1) for number in range(9)))

    near, far = history(service, "CHAIR", None, 4), history(service, "CHAIR", 4, 3)

    assert [step.after for step in near.steps] == [Balance(91 + number, 0) for number in range(4)]
    assert [step.version for step in far.steps] == [3, 2, 1]
    assert [step.after for step in far.steps] == [None, None, None]


def test_a_quantity_that_changed_too_long_ago_to_be_found_is_not_guessed(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stock_history, "_LOOKED_BACK", 2)
    given(service, commands.CreateBatch("b1", "CHAIR", 100), commands.ChangeBatchQuantity("b1", 50))
    given(service, *(commands.Allocate(f"o{number}", "CHAIR", 1) for number in range(5)))
    given(service, commands.ChangeBatchQuantity("b1", 40), commands.Allocate("last", "CHAIR", 1))

    steps = history(service, "CHAIR", None, 3).steps

    assert [step.after for step in steps] == [Balance(34, 0), Balance(35, 0), None]


def test_a_sku_that_was_never_purchased_has_no_history(service: Service) -> None:
    assert service.views.stock_history("nix", None, 10) is None


# --- the newest events -----------------------------------------------------------


def test_the_newest_events_come_last_and_no_others(service: Service) -> None:
    given(service, commands.CreateBatch("b1", "CHAIR", 100), commands.CreateBatch("b2", "TABLE", 100))
    given(service, *(commands.Allocate(f"o{number}", ("CHAIR", "TABLE")[number % 2], 1) for number in range(6)))

    latest = service.log.latest(4)

    assert [entry.data["orderid"] for entry in latest] == ["o2", "o3", "o4", "o5"]


def test_an_event_is_shown_only_when_none_can_come_before_it_any_more(service: Service, engine: Engine) -> None:
    """Or whoever goes on from it would miss the one that comes late."""
    given(service, commands.CreateBatch("b1", "CHAIR", 100))
    with engine.connect() as late:
        late.execute(text("BEGIN; SELECT pg_current_xact_id()"))
        given(service, commands.Allocate("o1", "CHAIR", 1))
        assert [entry.version for entry in service.log.latest(10)] == [1]
        late.execute(text("COMMIT"))

    assert [entry.version for entry in service.log.latest(10)] == [1, 2]


# --- who is signed in ------------------------------------------------------------


def test_a_session_is_found_by_its_token_until_it_is_closed(service: Service) -> None:
    sessions = service.console_sessions
    sessions.open("token", "anna")

    assert sessions.principal("token") == "anna"
    assert sessions.principal("another") is None
    sessions.close("token")
    assert sessions.principal("token") is None


def test_a_session_lasts_for_half_a_day_and_is_forgotten_then(service: Service, sql: Sql) -> None:
    sessions = service.console_sessions
    sessions.open("token", "anna")
    ((left,),) = sql("SELECT extract(epoch FROM ends_at - now())::int FROM console_sessions")
    assert isinstance(left, int)
    assert 12 * 3600 - 60 < left <= 12 * 3600

    sql("UPDATE console_sessions SET ends_at = now()")

    assert sessions.principal("token") is None
    sessions.open("next", "ben")
    assert sql("SELECT principal FROM console_sessions") == [("ben",)]


def test_a_key_has_ten_sessions_and_the_newest_are_kept(service: Service) -> None:
    sessions = service.console_sessions
    sessions.open("of-ben", "ben")
    for number in range(12):
        sessions.open(str(number), "anna")

    assert [number for number in range(12) if sessions.principal(str(number))] == [*range(2, 12)]
    assert sessions.principal("of-ben") == "ben"


def test_sessions_of_a_clock_that_was_ahead_keep_nobody_out(service: Service, sql: Sql) -> None:
    sessions = service.console_sessions
    for number in range(10):
        sessions.open(str(number), "anna")
    sql("UPDATE console_sessions SET ends_at = ends_at + interval '5 minutes'")

    sessions.open("token", "anna")

    assert sessions.principal("token") == "anna"


def test_whoever_reads_the_database_learns_no_token(service: Service, sql: Sql) -> None:
    service.console_sessions.open("a-token-that-nobody-knows", "anna")

    assert "a-token" not in str(sql("SELECT convert_from(token, 'LATIN1') FROM console_sessions"))


# --- what is found -----------------------------------------------------------------


@pytest.mark.parametrize("order", ["got-it", "got-nothing", "lost-it"])
def test_an_order_is_found_whatever_became_of_it(service: Service, order: str) -> None:
    given(
        service,
        commands.CreateBatch("b1", "CHAIR", 10),
        commands.Allocate("got-it", "CHAIR", 4),
        commands.Allocate("got-nothing", "CHAIR", 500),
        commands.Allocate("lost-it", "CHAIR", 6),
        commands.ChangeBatchQuantity("b1", 4),
    )
    browser = create_app(service, UNRESTRICTED).test_client()

    def hits() -> str:
        return browser.get(f"/console?q={order}").text.partition("Latest events")[0]

    assert wait_for(lambda: f"/console/order?id={order}" in hits(), within=10)

    assert browser.get(f"/console/order?id={order}").status_code == 200
    assert "no order or batch is called that" in browser.get("/console?q=nobody").text


# --- a database that has lost its connections --------------------------------------


@pytest.mark.parametrize(
    "page", ["", "/product?sku=CHAIR", "/order?id=o1", "/dead-letters", "/events", "/dead-letters/retry"]
)
def test_a_page_does_not_mind_that_connections_were_cut(
    service: Service, cut_connections: Callable[[], int], page: str
) -> None:
    given(service, commands.CreateBatch("b1", "CHAIR", 10), commands.Allocate("o1", "CHAIR", 4))
    service.dead_letters.store(source="a channel", body=b"{}", reason="unreadable")
    browser = create_app(service, UNRESTRICTED).test_client()
    token = re.search('name="csrf_token" value="([0-9a-f]+)"', browser.get("/console/dead-letters").text)
    assert token
    (letter,) = service.dead_letters.messages()

    cut_connections()
    if page == "/dead-letters/retry":
        answer = browser.post(f"/console{page}", data={"csrf_token": token[1], "letter": letter.id})
    else:
        answer = browser.get(f"/console{page}")

    assert answer.status_code in (200, 303), answer.text


def test_nor_does_whoever_signs_in_or_out(service: Service, cut_connections: Callable[[], int]) -> None:
    sessions = service.console_sessions
    sessions.principal("token")

    cut_connections()
    sessions.open("token", "anna")
    cut_connections()
    assert sessions.principal("token") == "anna"
    cut_connections()
    sessions.close("token")

    assert sessions.principal("token") is None


# --- dead letters, one by one ----------------------------------------------------


def test_dead_letters_are_found_one_by_one_or_the_oldest_first(service: Service, sql: Sql) -> None:
    for number in range(3):
        service.dead_letters.store(source="a channel", body=b"%d" % number, reason="unreadable")
    numbers = [letter.number for letter in service.dead_letters.messages()]
    given(service, commands.CreateBatch("b1", "CHAIR:1", 9), commands.Allocate("o1", "CHAIR:1", 1))
    given(service, commands.CreateBatch("b2", "TABLE", 9))
    sql("UPDATE outbox SET dead_at = now(), reason = 'refused', first_failed_at = now(), last_failed_at = now()")

    assert [letter.number for letter in service.dead_letters.beginnings(most=2, longest=9)] == numbers[:2]
    assert len(service.dead_letters.effects(most=1)) == 1
    every: list[DeadLetter] = [*service.dead_letters.messages(), *service.dead_letters.effects()]
    assert {letter.id for letter in every} > {f"message:{numbers[1]}", "effect:publish_event:2:CHAIR:1"}
    assert [service.dead_letters.find(letter.id) for letter in every] == every
    for nobody in (f"message:{10**17}", f"message:{10**30}", "effect:publish_event:9:CHAIR:1", "effect:1:CHAIR", ""):
        assert service.dead_letters.find(nobody) is None


@pytest.mark.parametrize(
    "odd",
    ["effect:x:1:a\0b", "effect:x\0:1:a", "message:1\0", "effect:x:١:a", f"effect:x:{10**17}:a", "effect:\ud800:1:a"],
)
def test_no_letter_whatever_is_found_by_a_name_that_nothing_has(service: Service, odd: str) -> None:
    assert service.dead_letters.find(odd) is None


def test_of_a_message_only_its_beginning_is_read_for_a_list(service: Service) -> None:
    service.dead_letters.store(source="a channel", body=b"x" * 100_000, reason="unreadable")
    service.dead_letters.store(source="a channel", body=b"\xff\0", reason="unreadable")

    large, small = service.dead_letters.beginnings(most=2, longest=4096)

    assert (large.body, large.size) == (b"x" * 4096, 100_000)
    assert (small.body, small.size) == (b"\xff\0", 2)
    assert [large.id, small.id] == [letter.id for letter in service.dead_letters.messages()]
    assert [one.id for one in service.dead_letters.beginnings(most=1, longest=1)] == [large.id]


# --- a large catalogue -----------------------------------------------------------

_MANY = 100_000
_FILL = f"""
    INSERT INTO products SELECT 'SKU-' || lpad(number::text, 6, '0'), 2 FROM generate_series(1, {_MANY}) AS number;
    INSERT INTO batches (sku, reference, eta, initial_quantity, purchased_quantity, allocated_quantity, added)
    SELECT sku, sku || kind, CASE kind WHEN 'b' THEN date '2031-01-01' END, 50, 50,
           CASE kind WHEN 'c' THEN 50 ELSE 7 END, 1
    FROM products CROSS JOIN unnest('{{a,b,c}}'::text[]) AS kind;
    INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects)
    SELECT sku, 1, gen_random_uuid(), 'batch_created.v1',
           jsonb_build_object('ref', sku || 'a', 'sku', sku, 'qty', 50, 'eta', null), 'c', 'http', now(), '[]'
    FROM products;
    ANALYZE;
"""


@pytest.mark.own_database
@pytest.mark.slow
def test_pages_are_quick_with_a_hundred_thousand_skus(service: Service, sql: Sql) -> None:
    """Far quicker on any machine that is left alone; the limit is for one that is not."""
    sql(_FILL)
    browser = create_app(service, UNRESTRICTED).test_client()

    for page, expected in (
        ("/console", "SKU-000001"),
        ("/console?after=SKU-050000", "SKU-050001"),
        ("/console?q=sku-0999", "SKU-099900"),
        ("/console?q=99999", "SKU-099999"),
        ("/console?q=nowhere", "No SKU has"),
        ("/console/product?sku=SKU-077777", "SKU-077777a"),
    ):
        took = []
        for _ in range(3):
            begun = time.perf_counter()
            answer = browser.get(page)
            took.append(time.perf_counter() - begun)
            assert answer.status_code == 200
            assert expected in answer.text
        assert min(took) < 0.5, page
