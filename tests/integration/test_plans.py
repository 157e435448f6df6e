"""However much is stored, a statement touches what was asked for: by a key, and not by what the planner believes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from tests.integration.large import LINES, analyze_and_leave_alone, fill, mislead
from tests.integration.plans import Plan, explained

import embedded
from allocation.adapters.wire_names import CODEC
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.database.engine import database_engine
from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, OrderedLine, PlaceOrder
from allocation.views import AtRiskCursor, BackorderCursor, BatchCursor, ProductCursor
from allocation.views.stock_totals import stock_totals
from embedded.waiting import wait_for
from messaging.envelope import Metadata, Recorded, Request
from messaging.outbox.claims import Failure
from messaging.sql.backlog import backlogs, waiting
from messaging.sql.housekeeping import Housekeeping
from messaging.sql.limits import FOR_WORK
from messaging.sql.log_reader import EventFilter, LogPosition
from messaging.sql.redelivery import SqlDelivered

EFFECT = "publish_event"
FEW_WERE_LEFT = "analyzed when few were left"
NEWEST = 1_001 + LINES
"""The version of HOT."""


def rehearse(service: Service) -> None:
    """Send every statement so often that the driver has prepared it, and the server has a plan that it keeps."""
    for turn in range(6):
        batch, line = f"early-{turn}", Allocate(f"early-{turn}", "EARLY", 1)
        service.bus.handle(CreateBatch(batch, "EARLY", 1), message_id=f"{batch}-created")
        service.bus.handle(line, message_id=f"{batch}-allocated")
        service.bus.handle(line)
        service.bus.handle(ChangeBatchQuantity(batch, 0))
        with service.bus.unit_of_work() as uow:
            uow.lock([line, ChangeBatchQuantity(batch, 0)], wait=True)
            uow.prefetch([line], [])
            uow.commit()  # at a rollback the driver lets go of all that it has prepared
        wanted = PlaceOrder(
            f"early-wanted-{turn}", (OrderedLine("EARLY", 100), OrderedLine("EARLY", 1, "2")), "partial"
        )
        service.bus.handle(wanted)
        service.bus.handle(CreateBatch(f"early-more-{turn}", "EARLY", 2))
        service.views.allocations("early")
        ask_everything(service)
        claims = service.relay.deliveries.claim(EFFECT, 1)
        service.relay.deliveries.extend(EFFECT, claims)
        claims[0].delivered.append(NEWEST)  # the driver has a statement for each size of numbers
        service.relay.deliveries.settle(EFFECT, claims)
        service.backfill.deliveries.claim_these(EFFECT, ["EARLY"])
        service.backfill.delivered.last_versions(EFFECT, "", 1)
        service.housekeeping.forget_old_messages()


def told_over_http(service: Service, wanted: EventFilter, after: LogPosition | None, most: int) -> int:
    """How many events, once no transaction on the server is older than they are."""
    wait_for(lambda: service.log.read(wanted, after, most), within=10)
    return len(service.log.read(wanted, after, most))


def ask_everything(service: Service) -> None:
    views, now = service.views, datetime.now(UTC)
    views.stock_list("", "", 1), views.stock_list("EA", "", 1), views.stock_history("EARLY", None, 1)
    views.batches("EARLY", None, 1), views.batches("EARLY", BatchCursor("early-1", added=1), 1)
    views.batches(None, None, 1), views.batches(None, BatchCursor("early-1"), 1, quarantined=True)
    views.batches(None, BatchCursor("early-1", now.date()), 1, overdue=True), views.orders(None, 1)
    views.products(None, 1), views.product("EARLY"), views.room("EARLY"), views.batch("early-1"), views.order("early-1")
    views.backorders("EARLY", None, 1), views.backorders(None, BackorderCursor("EARLY", -5, 1), 1)
    views.availability(["EARLY", "LATE"], 1), views.at_risk(None, None, 1), views.at_risk("EARLY", AtRiskCursor(), 1)
    for wanted in (EventFilter(), EventFilter(stream="EARLY"), EventFilter(subject="early-1")):
        for asked in (wanted, replace(wanted, since=now, until=now)):
            for after in (None, LogPosition("EARLY", 1)):
                service.log.read(asked, after, 1)
    service.log.knows("early-1")


def plans_kept(service: Service) -> int:
    with service.engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM pg_prepared_statements")).scalar_one())


@pytest.fixture(scope="module", params=["analyzed when empty", "analyzed", FEW_WERE_LEFT])
def service(
    request: pytest.FixtureRequest, template: tuple[Engine, str], servers: embedded.Servers, tmp_path_factory: Any
) -> Iterator[Service]:
    """On large tables, with one connection: the server's plans are kept on it since there was nothing, or are new."""
    admin, original = template
    name = f"large_{uuid4().hex}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {original}"))
    url = make_url(admin.url).set(database=name)
    home: Path = tmp_path_factory.mktemp("large")
    settings = Settings(database_url=url.render_as_string(hide_password=False), redis_url=servers.redis_url, home=home)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    service = bootstrap(settings, connections=1)
    try:
        with engine.connect() as connection:
            analyze_and_leave_alone(connection)
            rehearse(service)
            assert plans_kept(service) > 15
            fill(connection)
            if request.param == "analyzed":
                connection.execute(text("ANALYZE"))
            elif request.param == FEW_WERE_LEFT:
                mislead(connection)
        yield service
    finally:
        service.close()
        engine.dispose()
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def sorted_rows(request: pytest.FixtureRequest) -> int:
    """So many rows of a product may be read to find the first of them: who takes them for ten rather sorts them than
    follow an index that is larger by some pages."""
    return LINES + 100 if request.node.callspec.params["service"] == FEW_WERE_LEFT else 0


@pytest.fixture
def by_key(service: Service) -> Iterator[Engine]:
    """A connection of their own for those who leave their transaction to be rolled back."""
    engine = database_engine(service.engine.url.render_as_string(hide_password=False), limits=FOR_WORK)
    yield engine
    engine.dispose()


@pytest.fixture
def told(by_key: Engine) -> SqlDelivered:
    return SqlDelivered(by_key, CODEC)


def touches(plans: list[Plan], *, rows: int, pages: int) -> None:
    """Each at most so much, and nothing that it does not want."""
    assert plans
    for plan in plans:
        assert not plan.scanned, f"reads all of {plan.scanned}: {plan}"
        assert plan.rows <= rows, str(plan)
        assert plan.pages <= pages, str(plan)


# --- a command -----------------------------------------------------------------


def test_an_allocation(service: Service) -> None:
    with explained() as plans:
        service.bus.handle(Allocate("new", "HOT", 1), message_id="new")

    lock, product, line, message, written = plans
    touches([lock, product], rows=2, pages=20)
    touches([line, message], rows=0, pages=6)
    touches([written], rows=2, pages=100)


def test_an_allocation_that_is_asked_for_again(service: Service) -> None:
    with explained() as plans:
        service.bus.handle(Allocate("hot-77", "HOT", 1))

    touches(plans, rows=4, pages=20)


def test_a_hundred_allocations_together(service: Service) -> None:
    lines = [Allocate(f"together-{number}", f"SKU-{number}", 1) for number in range(100)]

    with explained() as plans:
        for outcome in service.bus.handle_together([Request(line) for line in lines]):
            outcome.unwrap()

    questions, written = plans[:-1], plans[-1]
    touches(questions, rows=2 * 100, pages=20 * 100)
    touches([written], rows=2 * 100, pages=90 * 100)


def test_a_lock(service: Service) -> None:
    with explained() as plans, service.bus.unit_of_work() as uow:
        uow.lock([Allocate("o", "SKU-7", 1), ChangeBatchQuantity("open", 1)], wait=True)
        uow.prefetch([], [])
        uow.commit()

    touches(plans, rows=1 + 2, pages=20)


def test_a_batch_that_is_created(service: Service) -> None:
    with explained() as plans:
        service.bus.handle(CreateBatch("new", "SKU-500", 1))

    touches(plans, rows=2, pages=90)


def test_a_batch_that_is_cut(service: Service, sorted_rows: int) -> None:
    """Ten of its lines, out of fifteen thousand, are broken, and promised from another one."""
    service.bus.handle(CreateBatch("larger", "HOT", 1_000))
    with service.bus.unit_of_work() as uow:
        batch = uow.products.get_by_batchref("open").batches["open"]
        uow.commit()

    with explained() as plans:
        service.bus.handle(ChangeBatchQuantity("open", batch.taken_quantity - 10))

    known, promises, lines, written = plans[:3], plans[3], plans[4], plans[5:]
    touches(known, rows=3, pages=20)
    touches([promises], rows=500 + sorted_rows, pages=50 + sorted_rows // 50)
    touches([lines], rows=3 * 10, pages=10 * 10)
    touches(written, rows=50, pages=400)


def test_who_is_served_when_thirty_thousand_wait(service: Service, sorted_rows: int) -> None:
    """Of twenty sizes, of which the least is 11: the first two take 25 of 26."""
    with explained() as plans:
        service.bus.handle(CreateBatch("wanted", "WANTED", 26))

    [*known, queue, lines, nobody], written = plans[:-1], plans[-1]
    touches(known, rows=2, pages=20)
    touches([queue], rows=20 + 16 * 100 + 2 * 20 * sorted_rows, pages=2_000 + sorted_rows)
    touches([lines], rows=2 * 100, pages=10 * 100)
    touches([nobody], rows=20 + 2 * sorted_rows, pages=100 + sorted_rows // 15)
    touches([written], rows=20, pages=300)


def test_who_comes_anew_does_not_look_at_the_queue(service: Service) -> None:
    service.bus.handle(CreateBatch("for others", "WANTED", 5))

    with explained() as plans:
        assert service.bus.handle(Allocate("newcomer", "WANTED", 5)) == "for others"

    assert not [plan for plan in plans[:-1] if "backorders_in_turn" in plan.text]
    touches(plans, rows=5, pages=100)


# --- a question ----------------------------------------------------------------


def test_what_an_order_has(service: Service) -> None:
    with explained() as plans:
        assert service.views.allocations("hot-3") == [{"sku": "HOT", "batchref": "open"}]

    touches(plans, rows=1, pages=8)


def test_a_page_of_those_who_wait(service: Service, sorted_rows: int) -> None:
    with explained() as plans:
        items, end = service.views.backorders("WANTED", None, 50)
    assert len(items) == 50
    touches(plans, rows=4 * 51 + 2 * sorted_rows, pages=10 * 51 + 2 * sorted_rows // 50)

    with explained() as plans:
        service.views.backorders(None, end, 50)
    touches(plans, rows=4 * 51 + 60 + 2 * sorted_rows, pages=10 * 51 + 2 * sorted_rows // 50)


def test_a_page_of_those_at_risk(service: Service) -> None:
    """Of thirty thousand promises of a batch that comes too late, and fifteen thousand lines that wait past their day,
    a thousand on one; as many promises of what is here do not matter."""
    with explained() as plans:
        items, end = service.views.at_risk(None, None, 50)
    assert {one.batchref for one in items} == {"late"}, "of one day the SKUs in their order"
    touches(plans, rows=2 * 51 + 10, pages=6 * 51)

    day = items[0].needed_by
    for sku, behind, batches in (
        (None, AtRiskCursor(day, "LATE", 1_960), {"late", None}),
        ("LATE", AtRiskCursor(day, "LATE", 1_960), {"late"}),
        (None, AtRiskCursor(day, "WANTED", 1_900), {None}),
        ("WANTED", AtRiskCursor(day, "WANTED", 1_900), {None}),
    ):
        with explained() as plans:
            found, _ = service.views.at_risk(sku, behind, 50)
        assert {one.batchref for one in found} == batches
        touches(plans, rows=2 * 51 + 10, pages=6 * 51)

    with explained() as plans:
        items, _ = service.views.at_risk("LATE", end, 50)
    assert {one.batchref for one in items} == {"late"}
    touches(plans, rows=2 * 51 + 10, pages=6 * 51)


def test_an_order_of_which_many_lines_wait(service: Service) -> None:
    """In a queue of thirty thousand, which is counted once, and gone through once for all of them."""
    service.bus.handle(PlaceOrder("much", tuple(OrderedLine("WANTED", 9, f"{n}") for n in range(50)), "backorder"))

    with explained() as plans:
        order = service.views.order("much")
        waiting = service.views.backorders_of("much")

    assert order
    assert [line.position for line in order.lines].count(None) == 0
    assert len(waiting) == 50
    touches(plans, rows=2 * NEWEST, pages=3_000)
    assert sum(plan.rows_of_parts for plan in plans) <= 2 * 50


def test_a_page_of_orders(service: Service) -> None:
    with explained() as plans:
        assert len(service.views.orders(None, 50)[0]) == 50

    touches(plans, rows=6 * 1_000, pages=20 * 1_000)


def test_a_product_with_many_exhausted_batches(service: Service) -> None:
    with explained() as plans:
        assert service.views.product("HOT")
        assert service.views.room("HOT").purchased > 1_000

    touches(plans, rows=1 + 1_100, pages=1_200)


def test_what_can_be_had_of_many_products_and_of_one_with_many_exhausted_batches(service: Service) -> None:
    with explained() as plans:
        found = service.views.availability([f"SKU-{number}" for number in range(200)], 1)
    assert all(found)
    touches(plans, rows=5 * 200, pages=15 * 200)

    with explained() as plans:
        assert service.views.availability(["HOT"], 1)[0]
    touches(plans, rows=1 + 1_100, pages=1_200)


def test_what_can_be_had_of_a_product_that_thirty_thousand_wait_for(service: Service) -> None:
    with explained() as plans:
        [found] = service.views.availability(["WANTED"], 1)

    assert found
    touches(plans, rows=found.waiting.lines + 10, pages=600)


def test_a_page_of_a_product_s_many_exhausted_batches(service: Service) -> None:
    _, end = service.views.batches("HOT", None, 50)

    with explained() as plans:
        assert len(service.views.batches("HOT", end, 50)[0]) == 50

    touches(plans, rows=1 + 1_100, pages=1_200)


def test_a_page_of_batches_of_all_products_and_of_the_few_that_somebody_must_see_to(service: Service) -> None:
    with explained() as plans:
        assert len(service.views.batches(None, BatchCursor("batch-3"), 50)[0]) == 50
    touches(plans, rows=51, pages=6 * 50)

    with explained() as plans:
        assert service.views.batches(None, None, 50, overdue=True) == ([], None)
        assert service.views.batches(None, None, 50, quarantined=True) == ([], None)
    touches(plans, rows=1, pages=10)


def test_fifty_products(service: Service) -> None:
    with explained() as plans:
        assert len(service.views.products(ProductCursor("SKU-3"), 50)[0]) == 50

    touches(plans, rows=3 * 50, pages=12 * 50)


def test_twenty_five_products_with_their_batches(service: Service) -> None:
    with explained() as plans:
        assert len(service.views.stock_list("", "SKU-3", 25).shelves) == 25

    touches(plans, rows=(1 + 2 * 3) * 26, pages=25 * 26)


def test_few_of_a_product_s_many_exhausted_batches(service: Service) -> None:
    with explained() as plans:
        [shelf] = service.views.stock_list("", "HOR", 1).shelves

    assert shelf.batch_count > 1_000
    touches(plans, rows=1_100 + 100, pages=1_300)


def test_why_there_are_as_many_of_a_product_as_there_are(service: Service) -> None:
    with explained() as plans:
        history = service.views.stock_history("HOT", 20_000, 50)

    assert history
    assert len(history.steps) == 50
    touches(plans, rows=1 + 1_100 + 50, pages=1_300)


def test_a_batch_and_an_order(service: Service) -> None:
    with explained() as plans:
        assert service.views.batch("batch-7")
        assert service.views.order("hot-3")

    touches(plans, rows=5, pages=30)


def test_a_page_of_the_log(service: Service) -> None:
    assert told_over_http(service, EventFilter(), LogPosition("SKU-500", 2), 50) == 50

    with explained() as plans:
        service.log.read(EventFilter(), LogPosition("SKU-500", 2), 50)

    touches(plans, rows=50, pages=60)


def test_a_page_of_one_product_s_log_at_some_time(service: Service) -> None:
    span = EventFilter(stream="HOT", since=datetime(2020, 1, 1, tzinfo=UTC), until=datetime(2030, 1, 1, tzinfo=UTC))

    with explained() as plans:
        assert len(service.log.read(span, LogPosition("HOT", 20_000), 50)) == 50

    assert len(plans) < 40
    touches(plans, rows=50, pages=60)


def test_all_that_happened_to_an_order(service: Service) -> None:
    assert told_over_http(service, EventFilter(subject="hot-77"), None, 50) == 1

    with explained() as plans:
        service.log.read(EventFilter(subject="hot-77"), None, 50)

    touches(plans, rows=2, pages=8)


def test_whether_there_is_such_an_order(service: Service) -> None:
    lines = [Request(Allocate("of-many-lines", "SKU-77", 1, f"line-{number}")) for number in range(60)]
    for outcome in service.bus.handle_together(lines):
        outcome.unwrap()
    assert wait_for(lambda: service.log.knows("of-many-lines"), within=10)

    with explained() as plans:
        assert service.log.knows("of-many-lines")
        assert not service.log.knows("nobody")

    touches(plans, rows=2, pages=8)


def test_what_became_of_a_lost_commit(service: Service) -> None:
    event = Recorded("HOT", NEWEST - 7, object(), Metadata(str(uuid4()), "", None, "", datetime.now(UTC)))

    with explained() as plans, service.bus.unit_of_work() as uow:
        assert not uow.event_log.has(event)
        uow.commit()

    touches(plans, rows=1, pages=6)


def test_what_waits_in_short(by_key: Engine) -> None:
    """A first letter and its event for each of the thousand streams that wait, and an index entry for each letter."""
    with explained() as plans, by_key.connect() as asked:
        backlog, *_ = backlogs(asked)

    assert backlog.waiting > 15_000
    assert backlog.streams > 900
    effects, letters, heads, *_ = plans
    touches([effects], rows=3, pages=10)
    touches([letters], rows=backlog.waiting, pages=backlog.waiting)
    touches([heads], rows=2 * backlog.streams + 10, pages=10 * backlog.streams)


def test_the_stock_in_short(by_key: Engine) -> None:
    """Exhausted batches, of which there are more and more, are not looked at; nor are lines."""
    with explained() as plans, by_key.connect() as asked:
        found = stock_totals(asked, "UTC")

    skus, batches = plans
    touches([skus], rows=found.skus, pages=3 * found.skus)
    touches([batches], rows=found.open_batches, pages=3 * found.open_batches)
    assert found.open_batches < found.skus + 10


# --- effects -------------------------------------------------------------------


def test_a_claim_and_its_end(service: Service) -> None:
    """Three streams, one of which has ten thousand letters."""
    deliveries = service.relay.deliveries

    with explained() as plans:
        claims = deliveries.claim(EFFECT, 3)
        assert deliveries.extend(EFFECT, claims) == {claim.stream for claim in claims}
        for claim in claims:
            claim.delivered.append(claim.messages[0].version)
            claim.failure = Failure(claim.messages[1].version, "as a test", None, is_fault=True)
        deliveries.settle(EFFECT, claims)

    letters = sum(len(claim.messages) for claim in claims)
    claimed, read, extended, settled, failed = plans
    touches([claimed], rows=2 * 3, pages=60)
    touches([read], rows=2 * letters, pages=6 * letters)
    touches([extended], rows=3, pages=30)
    touches([settled], rows=2 * 3, pages=50)
    touches([failed], rows=1, pages=20)


def test_streams_claimed_by_name(service: Service) -> None:
    with explained() as plans:
        assert len(service.backfill.deliveries.claim_these(EFFECT, ["SKU-8", "SKU-9"])) == 2

    touches(plans, rows=4, pages=30)


def test_how_far_some_streams_have_been_published(service: Service) -> None:
    with explained() as plans:
        assert len(service.backfill.delivered.last_versions(EFFECT, "SKU-1", 10)) == 10

    touches(plans, rows=10, pages=20)


def test_what_is_published_again(told: SqlDelivered) -> None:
    spans = {"HOT": (20_000, 20_100), "SKU-9": (1, 5)}

    with explained() as plans:
        assert len(list(told.messages(EFFECT, spans, timedelta(days=7)))) == 104

    touches(plans, rows=2 * 104 + 4, pages=6 * 104)  # once to see where the young ones begin, from the last told on


def test_what_was_dropped_is_not_published_again(told: SqlDelivered) -> None:
    with explained() as plans:
        assert not list(told.messages(EFFECT, {"HOT": (2_000, 2_100)}, timedelta(days=7)))

    touches(plans, rows=3 * 101 + 2, pages=6 * 100)


# --- what is measured ------------------------------------------------------------


def test_how_much_waits_is_counted_up_to_a_limit_and_the_oldest_looked_for_in_so_many_streams(service: Service) -> None:
    with explained() as plans:
        found = waiting(service.engine, most_messages=500, most_streams=100)

    [backlog] = [one for one in found.backlogs if one.effect == EFFECT]
    assert (backlog.waiting, backlog.streams, found.dead_messages) == (500, 100, 500)
    effects, counted, heads, *_, dead_messages = plans
    touches([effects], rows=3, pages=12)
    touches([counted, dead_messages], rows=500, pages=500)
    touches([heads], rows=2 * 101, pages=10 * 101)


# --- what is done now and then ---------------------------------------------------


def test_forgetting_old_messages(service: Service) -> None:
    with explained() as plans:
        assert Housekeeping(service.engine, batch=100).forget_old_messages() == 100

    touches(plans, rows=2 * 100 + 1, pages=10 * 100)  # and the last event, for its time


def test_a_dead_letter_that_is_settled(service: Service) -> None:
    letter = service.dead_letters.messages()[0]

    with explained() as plans:
        service.dead_letters.resolve(letter)

    touches(plans, rows=1, pages=6)
