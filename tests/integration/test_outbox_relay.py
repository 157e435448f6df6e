"""The outbox on a real database: every event reaches the outside, in order, whatever happens to those who carry it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Event, Lock, Thread
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, text
from tests.fakes import FakeNotifications
from tests.integration.threads import at_work

from allocation.adapters.wire_names import CODEC
from allocation.bootstrap import Service
from allocation.check import open_snapshot
from allocation.database import migrations
from allocation.database.engine import database_engine
from allocation.domain import allocating, commands
from allocation.domain.errors import InvalidSku
from allocation.domain.events import Allocated, OutOfStock
from allocation.domain.events import Event as DomainEvent
from allocation.domain.lines import OrderLine
from allocation.service_layer.mails import SendOutOfStockNotification
from allocation.service_layer.ports import Mail, Notifications
from allocation.service_layer.routing import PUBLISH_EVENT, SEND_OUT_OF_STOCK_NOTIFICATION
from embedded.waiting import wait_for
from messaging.codec import Codec
from messaging.envelope import Delivery, Metadata, Recorded, Request
from messaging.errors import Unavailable
from messaging.outbox.claims import Claim, Failure
from messaging.outbox.delivery import RetryPolicy
from messaging.outbox.effects import Effect, one_by_one
from messaging.outbox.relay import Relay
from messaging.routes import Routes
from messaging.sql.connections import connection
from messaging.sql.deliveries import SqlDeliveries

Sql = Callable[..., list[tuple[Any, ...]]]

PUBLISH = PUBLISH_EVENT
MAIL = SEND_OUT_OF_STOCK_NOTIFICATION
PATIENCE = 20.0


@dataclass
class Publisher:
    """Writes down which allocations it is told, one by one; `before` is called first, and may raise. Never two of a
    stream at a time."""

    before: Callable[[Recorded[Allocated]], object] = lambda _: None
    told: list[Recorded[Allocated]] = field(default_factory=list)
    overlaps: list[str] = field(default_factory=list)
    _at_work: set[str] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)

    @property
    def effect(self) -> Effect[Any]:
        return Effect(PUBLISH, one_by_one(self))

    def __call__(self, delivery: Delivery[DomainEvent]) -> None:
        recorded = delivery.recorded
        if isinstance(recorded.event, Allocated):
            self._publish(recorded)  # type: ignore[arg-type]  # as was just seen

    def _publish(self, recorded: Recorded[Allocated]) -> None:
        with self._lock:
            if recorded.stream in self._at_work:
                self.overlaps.append(recorded.stream)
            self._at_work.add(recorded.stream)
        try:
            self.before(recorded)
            self.told.append(recorded)
        finally:
            self._at_work.discard(recorded.stream)

    @property
    def orders(self) -> list[str]:
        return [recorded.event.orderid for recorded in self.told]

    def versions(self) -> dict[str, list[int]]:
        told = defaultdict(list)
        for recorded in self.told:
            told[recorded.stream].append(recorded.version)
        return dict(told)


class MailServerDown:
    def send(self, mail: Mail) -> None:
        raise Unavailable("no mail today")


@pytest.fixture
def publisher() -> Publisher:
    return Publisher()


@pytest.fixture
def notifications() -> FakeNotifications:
    return FakeNotifications()


def deliveries(engine: Engine, **options: Any) -> SqlDeliveries:
    """With claims that do not run out because the machine is slow."""
    return SqlDeliveries(engine, CODEC, **({"lease": 600} | options))


def relay_on(
    engine: Engine,
    publisher: Publisher,
    notifications: Notifications | None = None,
    streams_at_once: int = 100,
    **options: Any,
) -> Relay:
    table: Routes[object] = Routes()
    for kind in get_args(DomainEvent):
        table.effect(kind, publisher.effect)
    send_mail = one_by_one(SendOutOfStockNotification(notifications or FakeNotifications(), "stock@made.com"))
    table.effect(OutOfStock, Effect(MAIL, send_mail, workers=4))
    return Relay(
        table,
        deliveries(engine, **options),
        RetryPolicy(first_wait=60, longest_wait_in_an_outage=100_000),
        streams_at_once=streams_at_once,
    )


@pytest.fixture
def relay(engine: Engine, publisher: Publisher, notifications: FakeNotifications) -> Relay:
    return relay_on(engine, publisher, notifications)


def allocated(service: Service, sku: str, *orders: str) -> None:
    """Purchase the SKU, which was told already, and allocate these orders: versions 2 and up."""
    asked = [commands.CreateBatch(f"b-{sku}", sku, 10_000), *(commands.Allocate(order, sku, 1) for order in orders)]
    service.bus.handle_together([Request(command) for command in asked])
    with service.engine.begin() as connection:
        about = {"effect": PUBLISH, "stream": sku}
        connection.execute(
            text("DELETE FROM outbox WHERE effect = :effect AND stream = :stream AND version = 1"), about
        )
        connection.execute(text("INSERT INTO deliveries VALUES (:effect, :stream, 1, 1) ON CONFLICT DO NOTHING"), about)


def deliver_all(relay: Relay, effect: str) -> None:
    while relay.deliver(effect):
        pass


def waiting(sql: Sql) -> list[tuple[Any, ...]]:
    return sql("SELECT effect, stream, version FROM outbox ORDER BY effect, stream, version")


# --- after the commit --------------------------------------------------------


def test_nothing_is_published_before_it_is_committed(service: Service, relay: Relay, publisher: Publisher) -> None:
    allocated(service, "LAMP")

    with service.bus.unit_of_work() as uow:
        allocating.allocate(uow.products.get("LAMP"), OrderLine("o1", "LAMP", 1))
        for new in uow.collect_new_events():
            recorded = Recorded(new.stream, new.version, new.event, Metadata.first("test"))
            uow.event_log.append(recorded, [PUBLISH])
            uow.outbox.post(recorded, PUBLISH)
        assert relay.deliver(PUBLISH) == 0
        uow.commit()

    assert relay.deliver(PUBLISH) == 1
    assert publisher.orders == ["o1"]


def test_what_was_refused_leaves_nothing_to_tell(service: Service, sql: Sql) -> None:
    with pytest.raises(InvalidSku):
        service.bus.handle(commands.Allocate("o1", "LAMP", 1))

    assert waiting(sql) == []


def test_what_is_published_can_be_read_at_once(service: Service, engine: Engine) -> None:
    read = []
    publisher = Publisher(before=lambda recorded: read.append(service.views.allocations(recorded.event.orderid)))
    allocated(service, "LAMP", "o1")

    relay_on(engine, publisher).deliver(PUBLISH)

    assert read == [[{"sku": "LAMP", "batchref": "b-LAMP"}]]


# --- order -------------------------------------------------------------------


def test_events_of_a_stream_are_published_in_their_order_however_few_are_claimed_at_a_time(
    service: Service, engine: Engine, publisher: Publisher, sql: Sql
) -> None:
    orders = [f"o{number}" for number in range(7)]
    allocated(service, "LAMP", *orders)

    deliver_all(relay_on(engine, publisher, messages=2), PUBLISH)

    assert publisher.orders == orders
    assert publisher.versions() == {"LAMP": [2, 3, 4, 5, 6, 7, 8]}
    assert waiting(sql) == []


def test_what_is_published_is_the_event_as_it_was_recorded(
    service: Service, relay: Relay, publisher: Publisher, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LÄMP-🛋", 10))
    metadata = Metadata.first("http", correlation_id="request-1")

    service.bus.handle(commands.Allocate("o1", "LÄMP-🛋", 3, "line-1"), metadata)
    relay.deliver(PUBLISH)

    [told] = publisher.told
    [(stored_id,)] = sql("SELECT id::text FROM event_log WHERE type = 'allocated.v1'")
    assert (told.stream, told.version) == ("LÄMP-🛋", 2)
    assert told.event == Allocated("o1", "LÄMP-🛋", 3, "b1", "line-1")
    assert told.metadata.id == stored_id
    assert (told.metadata.correlation_id, told.metadata.causation_id) == ("request-1", metadata.id)
    assert (told.metadata.source, told.metadata.time.tzinfo is not None) == ("http", True)


@pytest.mark.parametrize(("skus", "turns"), [("ABCDE", [2, 2, 1, 2, 2, 1]), ("ABCD", [2, 2, 2, 2])])
def test_every_stream_gets_its_turn_when_there_are_more_than_one_claim_takes(
    service: Service, engine: Engine, skus: str, turns: list[int]
) -> None:
    for sku in skus:
        allocated(service, sku, *(f"{sku}{number}" for number in range(4)))
    publisher = Publisher()
    relay = relay_on(engine, publisher, streams_at_once=2, messages=1)

    assert [relay.deliver(PUBLISH) for _ in turns] == turns, "never idle"

    assert publisher.orders == [f"{sku}{number}" for number in range(2) for sku in skus], "round and round"


def test_many_streams_are_all_published(service: Service, engine: Engine, publisher: Publisher, sql: Sql) -> None:
    for number in range(23):
        allocated(service, f"LAMP-{number}", f"o{number}")

    deliver_all(relay_on(engine, publisher, streams_at_once=5), PUBLISH)

    assert sorted(publisher.orders) == sorted(f"o{number}" for number in range(23))
    assert waiting(sql) == []


# --- failures ----------------------------------------------------------------


def fail_for(orderid: str, error: Exception) -> Publisher:
    def fail(recorded: Recorded[Allocated]) -> None:
        if recorded.event.orderid == orderid:
            raise error

    return Publisher(before=fail)


def test_what_fails_holds_up_its_own_stream_and_effect_only(
    service: Service, engine: Engine, notifications: FakeNotifications, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1", "o2", "o3")
    allocated(service, "TABLE", "o4")
    service.bus.handle(commands.Allocate("o5", "LAMP", 100_000))
    publisher = fail_for("o2", Unavailable("not now"))
    relay = relay_on(engine, publisher, notifications)

    deliver_all(relay, PUBLISH)
    deliver_all(relay, MAIL)

    assert publisher.orders == ["o1", "o4"]
    assert [mail.subject for mail in notifications.sent] == ["Out of stock for LAMP"]
    assert waiting(sql) == [(PUBLISH, "LAMP", 3), (PUBLISH, "LAMP", 4), (PUBLISH, "LAMP", 5)]


def test_a_mail_that_fails_does_not_hold_up_the_events(
    service: Service, engine: Engine, publisher: Publisher, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1")
    service.bus.handle(commands.Allocate("o2", "LAMP", 100_000))
    service.bus.handle(commands.Allocate("o3", "LAMP", 1))
    relay = relay_on(engine, publisher, MailServerDown())

    deliver_all(relay, MAIL)
    deliver_all(relay, PUBLISH)

    assert publisher.orders == ["o1", "o3"]
    assert waiting(sql) == [(MAIL, "LAMP", 3)], "nor is it struck off with the event"


def test_of_several_failures_each_is_noted(service: Service, engine: Engine, sql: Sql) -> None:
    def fail(recorded: Recorded[Allocated]) -> None:
        raise ValueError(f"can't tell {recorded.stream}")

    for sku in ("LAMP", "TABLE"):
        allocated(service, sku, f"o-{sku}")

    relay_on(engine, Publisher(before=fail)).deliver(PUBLISH)

    noted = sql("SELECT stream, attempts, reason FROM outbox ORDER BY stream")
    assert noted == [(sku, 1, f'ValueError("can\'t tell {sku}")') for sku in ("LAMP", "TABLE")]


def test_a_failure_does_not_make_forget_how_far_an_effect_has_got(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1")
    relay = relay_on(engine, fail_for("o2", Unavailable("not now")))
    deliver_all(relay, PUBLISH)
    service.bus.handle(commands.Allocate("o2", "LAMP", 1))

    relay.deliver(PUBLISH)

    assert sql("SELECT delivered_version, delivered_count FROM deliveries") == [(2, 2)]


def test_what_failed_is_tried_again_when_its_time_has_come_and_not_before(
    service: Service, engine: Engine, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1")
    tries = []

    def fail_twice(recorded: Recorded[Allocated]) -> None:
        tries.append(recorded.metadata.id)
        if len(tries) < 3:
            raise Unavailable("not now")

    publisher = Publisher(before=fail_twice)
    relay = relay_on(engine, publisher)
    waits = "SELECT attempts, reason, extract(epoch FROM retry_at - last_failed_at) FROM outbox"

    relay.deliver(PUBLISH)
    assert sql(waits) == [(1, "Unavailable('not now')", 60)]
    assert (relay.deliver(PUBLISH), len(tries)) == (0, 1), "not before its time"

    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    relay.deliver(PUBLISH)
    assert sql(waits) == [(2, "Unavailable('not now')", 120)]

    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    assert relay.deliver(PUBLISH) == 1
    assert tries == [publisher.told[0].metadata.id] * 3, "with the same id on every repeat"


@pytest.mark.parametrize(
    "damage",
    [
        "time = 'infinity'",
        "time = '-infinity'",
        "time = '0044-03-15 12:00:00+00 BC'",
        """data = ('{"deep": ' || repeat('[', 5000) || repeat(']', 5000) || '}')::jsonb""",
        "data = '[]'",
    ],
)
def test_a_damaged_row_holds_back_its_own_sku_only_and_is_named_by_check(
    service: Service, engine: Engine, publisher: Publisher, sql: Sql, damage: str
) -> None:
    for sku in ("DESK", "LAMP", "SOFA"):
        allocated(service, sku, "o1")
    sql(f"UPDATE event_log SET {damage} WHERE stream = 'LAMP' AND version = 2")

    deliver_all(relay_on(engine, publisher), PUBLISH)

    assert sorted(recorded.stream for recorded in publisher.told) == ["DESK", "SOFA"]
    assert sql("SELECT stream, version, dead_at IS NOT NULL FROM outbox WHERE effect = :effect", effect=PUBLISH) == [
        ("LAMP", 2, True)
    ]
    with open_snapshot(engine) as snapshot:
        named = [str(difference) for difference in snapshot.differences()]
    assert any("event 2 of 'LAMP'" in one for one in named)


def test_what_cannot_be_read_is_dead_at_once_and_holds_its_stream(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1", "o2", "o3")
    allocated(service, "TABLE", "o4")
    sql("UPDATE event_log SET data = data - 'sku' WHERE stream = 'LAMP' AND version = 3")
    publisher = Publisher()

    deliver_all(relay_on(engine, publisher), PUBLISH)

    assert publisher.orders == ["o1", "o4"]
    [(version, why)] = sql("SELECT version, reason FROM outbox WHERE dead_at IS NOT NULL")
    assert version == 3
    assert "not a allocated.v1" in why
    assert sql("SELECT attempts FROM outbox WHERE version = 4") == [(0,)], "the next one waits"


def test_an_event_of_a_newer_release_holds_its_stream_alone_and_is_published_by_a_relay_that_knows_it(
    service: Service, engine: Engine, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1", "o2", "o3")
    allocated(service, "TABLE", "o4")
    sql("UPDATE event_log SET type = 'allocated.v99' WHERE stream = 'LAMP' AND version = 3")
    publisher = Publisher()
    old = relay_on(engine, publisher)

    deliver_all(old, PUBLISH)
    for _ in range(15):
        sql("UPDATE outbox SET retry_at = clock_timestamp()")
        assert old.deliver(PUBLISH) == 0

    assert publisher.orders == ["o1", "o4"]
    [(version, attempts, faults, reason, dead_at)] = sql(
        "SELECT version, attempts, faults, reason, dead_at FROM outbox WHERE attempts > 0"
    )
    assert (version, attempts, faults, dead_at) == (3, 16, 0, None), "however often, it is never given up"
    assert reason == "no message is known as allocated.v99 to this release; a newer one may have written it"
    [(pause,)] = sql("SELECT round(extract(epoch FROM retry_at - last_failed_at)) FROM outbox WHERE attempts > 0")
    assert pause == 30

    kinds = {CODEC.name(kind): kind for kind in get_args(DomainEvent)}
    newer = Codec(kinds, {"allocated.v99": lambda data: ("allocated.v1", data)})
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    deliver_all(replace(old, deliveries=SqlDeliveries(engine, newer)), PUBLISH)

    assert publisher.orders == ["o1", "o4", "o2", "o3"]
    assert sql("SELECT * FROM outbox WHERE effect = :effect", effect=PUBLISH) == []


def test_what_the_log_has_lost_is_not_passed_over(
    service: Service, relay: Relay, publisher: Publisher, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1", "o2")
    sql("DELETE FROM event_log WHERE version = 2 RETURNING version")

    deliver_all(relay, PUBLISH)

    assert publisher.told == []
    assert sql("SELECT reason FROM outbox WHERE dead_at IS NOT NULL") == [("the log has no version 2 of LAMP",)]


def test_what_keeps_failing_for_its_own_sake_is_dead_after_ten_attempts_until_someone_wakes_it(
    service: Service, engine: Engine, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1", "o2")
    publisher = fail_for("o1", ValueError("can't be told"))
    relay = relay_on(engine, publisher)

    for _ in range(12):
        relay.deliver(PUBLISH)
        sql("UPDATE outbox SET retry_at = clock_timestamp() WHERE retry_at IS NOT NULL")

    assert sql("SELECT attempts, dead_at IS NOT NULL FROM outbox ORDER BY version") == [(10, True), (0, False)]
    publisher.before = lambda _: None
    sql("UPDATE outbox SET dead_at = NULL")
    assert relay.deliver(PUBLISH) == 2


def test_what_was_published_but_not_written_down_is_published_again_with_the_same_id(
    service: Service, engine: Engine, cut_connections: Callable[[], int], sql: Sql
) -> None:
    allocated(service, "LAMP", "o1")
    cuts = [cut_connections]
    publisher = Publisher(before=lambda _: cuts and cuts.pop()())
    relay = relay_on(engine, publisher)

    with pytest.raises(Unavailable):
        relay.deliver(PUBLISH)
    sql("UPDATE deliveries SET claimed_until = clock_timestamp()")
    relay.deliver(PUBLISH)

    assert publisher.orders == ["o1", "o1"]
    assert len({recorded.metadata.id for recorded in publisher.told}) == 1
    assert waiting(sql) == []


# --- several relays ----------------------------------------------------------


def test_what_one_relay_has_claimed_no_other_gets(service: Service, engine: Engine) -> None:
    allocated(service, "LAMP", "o1")
    one, other = deliveries(engine), deliveries(engine)

    [mine] = one.claim(PUBLISH)
    assert other.claim(PUBLISH) == []
    one.settle(PUBLISH, [mine])

    [theirs] = other.claim(PUBLISH)
    assert [letter.version for letter in theirs.messages] == [2], "let go of undone"


def test_a_relay_gets_those_streams_that_are_free(service: Service, engine: Engine) -> None:
    for sku in "ABCD":
        allocated(service, sku, f"o-{sku}")
    one, other = deliveries(engine), deliveries(engine)

    assert [claim.stream for claim in one.claim(PUBLISH, 2)] == ["A", "B"]
    assert [claim.stream for claim in other.claim(PUBLISH, 2)] == ["C", "D"]


def test_a_claim_that_ran_out_is_taken_over_and_whoever_comes_late_changes_nothing(
    service: Service, engine: Engine, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1", "o2")
    slow, quick, third = (deliveries(engine) for _ in range(3))
    [late] = slow.claim(PUBLISH)
    sql("UPDATE deliveries SET claimed_until = clock_timestamp()")

    [taken_over] = quick.claim(PUBLISH)
    late.delivered, late.failure = [2], Failure(3, "too late to say so", retry_in=None, is_fault=True)
    slow.settle(PUBLISH, [late])

    assert sql("SELECT version, dead_at, attempts FROM outbox ORDER BY version") == [(2, None, 0), (3, None, 0)]
    assert third.claim(PUBLISH) == [], "the claim of the quick one still holds"
    taken_over.delivered = [2, 3]
    quick.settle(PUBLISH, [taken_over])
    assert waiting(sql) == []
    assert sql("SELECT delivered_version, delivered_count, claimed_by FROM deliveries") == [(3, 3, None)]


def test_a_token_rises_though_the_clock_was_put_back(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1")
    sql("UPDATE deliveries SET token = :far_ahead", far_ahead=2**60)

    [claim] = deliveries(engine).claim(PUBLISH)

    assert claim.token > 2**60


def set_the_clock_back(sql: Sql) -> None:
    """By an hour: that is, what was written down before is an hour ahead."""
    sql("UPDATE deliveries SET token = token + 3600000000, claimed_until = claimed_until + interval '1 hour'")
    sql(
        "UPDATE outbox SET retry_at = retry_at + interval '1 hour', last_failed_at = last_failed_at + interval '1 hour'"
    )


@pytest.mark.parametrize("claim", ["claim", "claim_these"])
def test_the_streams_of_a_relay_that_died_before_the_clock_was_set_back_are_taken_over(
    service: Service, engine: Engine, sql: Sql, claim: str
) -> None:
    allocated(service, "LAMP", "o1")
    [theirs] = deliveries(engine).claim(PUBLISH)
    set_the_clock_back(sql)

    taken = deliveries(engine)
    [ours] = taken.claim(PUBLISH) if claim == "claim" else taken.claim_these(PUBLISH, ["LAMP"])

    assert ours.token > theirs.token
    assert deliveries(engine).claim(PUBLISH) == [], "as after any claim"


def test_what_failed_before_the_clock_was_set_back_is_tried_again_and_then_waits_as_ever(
    service: Service, engine: Engine, sql: Sql
) -> None:
    allocated(service, "LAMP", "o1")
    relay = relay_on(engine, fail_for("o1", Unavailable("not now")))
    relay.deliver(PUBLISH)
    set_the_clock_back(sql)

    relay.deliver(PUBLISH)
    relay.deliver(PUBLISH)

    assert sql("SELECT attempts, retry_at > clock_timestamp() + interval '5 minutes' FROM outbox") == [(2, False)]


def test_who_waits_while_another_claims_gets_nothing_of_it(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1")
    claims: list[Claim] = []
    thread = Thread(target=lambda: claims.extend(deliveries(engine).claim(PUBLISH)))
    with connection(engine, "READ COMMITTED") as another, another.begin():
        another.execute(
            text("UPDATE deliveries SET claimed_by = 'another', claimed_until = now() + interval '10 minutes'")
        )
        thread.start()
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        assert wait_for(lambda: sql(waits) == [(1,)], within=PATIENCE)
    thread.join(PATIENCE)

    assert claims == []


def test_a_claim_that_is_just_being_kept_up_is_settled_after_that(service: Service, engine: Engine, sql: Sql) -> None:
    """By another thread of the same relay, which does nothing else all the time."""
    allocated(service, "LAMP", "o1")
    ours = deliveries(engine)
    (claim,) = ours.claim(PUBLISH)
    claim.delivered += [letter.version for letter in claim.messages]
    with ThreadPoolExecutor(1) as pool, connection(engine, "READ COMMITTED") as another, another.begin():
        another.execute(text("UPDATE deliveries SET claimed_until = claimed_until + interval '1 millisecond'"))
        settling = pool.submit(ours.settle, PUBLISH, [claim])
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted"
        assert wait_for(lambda: sql(waits) == [(1,)], within=PATIENCE)
        another.commit()
        settling.result(PATIENCE)

    assert sql("SELECT count(*) FROM outbox WHERE effect = 'publish_event'") == [(0,)]


def test_a_refill_passes_over_what_another_is_about_to_claim(service: Service, engine: Engine) -> None:
    allocated(service, "LAMP", "o1")

    with connection(engine, "READ COMMITTED") as another, another.begin():
        another.execute(
            text("UPDATE deliveries SET claimed_by = 'another', claimed_until = now() + interval '10 minutes'")
        )
        assert deliveries(engine).claim_these(PUBLISH, ["LAMP"]) == []


def test_a_claim_lasts_as_long_as_the_lease_says(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1")

    deliveries(engine, lease=1234).claim(PUBLISH)

    [(seconds,)] = sql("SELECT extract(epoch FROM claimed_until - clock_timestamp()) FROM deliveries")
    assert 1200 < seconds < 1234


def test_an_effect_that_takes_longer_than_the_lease_is_carried_out_once(service: Service, engine: Engine) -> None:
    allocated(service, "LAMP", "o1")
    hanging, done = Event(), Event()

    def hang(_: Recorded[Allocated]) -> None:
        hanging.set()
        assert done.wait(PATIENCE)

    publisher = Publisher(before=hang)
    lease = 0.4
    with at_work(relay_on(engine, publisher, lease=lease).run):
        assert hanging.wait(PATIENCE)
        other = deliveries(engine)
        begun = time.monotonic()
        try:
            while time.monotonic() < begun + 3 * lease:
                assert other.claim(PUBLISH) == []
        finally:
            done.set()
    assert publisher.orders == ["o1"]


def test_a_claim_that_was_let_go_is_not_kept_up(service: Service, engine: Engine) -> None:
    allocated(service, "LAMP", "o1")
    one, other = deliveries(engine), deliveries(engine)
    [claim] = one.claim(PUBLISH)
    assert one.extend(PUBLISH, [claim]) == {"LAMP"}
    one.settle(PUBLISH, [claim])

    assert one.extend(PUBLISH, [claim]) == set()

    assert len(other.claim(PUBLISH)) == 1


def test_a_claim_that_another_has_taken_over_can_not_be_kept_up(service: Service, engine: Engine, sql: Sql) -> None:
    allocated(service, "LAMP", "o1")
    slow, quick = deliveries(engine), deliveries(engine)
    [late] = slow.claim(PUBLISH)
    sql("UPDATE deliveries SET claimed_until = clock_timestamp()")
    quick.claim(PUBLISH)

    assert slow.extend(PUBLISH, [late]) == set()


@pytest.mark.parametrize("state", ["dead_at = now()", "retry_at = now() + interval '1 hour'"])
def test_a_head_that_has_just_failed_elsewhere_is_not_tried_at_once(
    service: Service, engine: Engine, sql: Sql, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """Another relay settles its failure between our look at the outbox and our claim."""
    allocated(service, "LAMP", "o1", "o2")
    ours = deliveries(engine)
    claim_streams = ours._claim_streams

    def and_meanwhile(effect: str, after: str, most: int) -> list[Claim]:
        claims = claim_streams(effect, after, most)
        sql(f"UPDATE outbox SET {state} WHERE version = 2")
        return claims

    monkeypatch.setattr(ours, "_claim_streams", and_meanwhile)

    [claim] = ours.claim(PUBLISH)

    assert claim.messages == []


def test_what_a_relay_could_not_settle_it_takes_again_at_once(
    service: Service, engine: Engine, cut_connections: Callable[[], int]
) -> None:
    """Its claim still holds, but not against itself."""
    allocated(service, "LAMP", "o1")
    cuts = [cut_connections]
    publisher = Publisher(before=lambda _: cuts and cuts.pop()())
    relay = relay_on(engine, publisher)
    with pytest.raises(Unavailable):
        relay.deliver(PUBLISH)
    assert deliveries(engine).claim(PUBLISH) == [], "another has to wait"

    assert relay.deliver(PUBLISH) == 1


@pytest.mark.parametrize("state", ["dead_at = now()", "retry_at = now() + interval '1 hour'"])
def test_a_stream_whose_first_letter_is_dead_or_not_due_is_not_claimed(
    service: Service, engine: Engine, sql: Sql, state: str
) -> None:
    allocated(service, "LAMP", "o1", "o2")
    allocated(service, "TABLE", "o3")
    sql(f"UPDATE outbox SET {state} WHERE stream = 'LAMP' AND version = 2")

    assert [claim.stream for claim in deliveries(engine).claim(PUBLISH)] == ["TABLE"]


def test_how_far_each_effect_has_got_is_counted(service: Service, relay: Relay, sql: Sql) -> None:
    allocated(service, "LAMP", "o1", "o2")
    service.bus.handle(commands.Allocate("o3", "LAMP", 100_000))
    deliver_all(relay, PUBLISH)
    service.bus.handle(commands.Allocate("o4", "LAMP", 1))
    deliver_all(relay, PUBLISH)

    counted = "SELECT effect, stream, delivered_version, delivered_count FROM deliveries"

    assert sql(counted) == [(PUBLISH, "LAMP", 5, 5)]


def test_several_relays_publish_everything_once_in_order_and_never_two_of_a_stream_at_a_time(
    service: Service, engine: Engine, sql: Sql
) -> None:
    skus = [f"LAMP-{number}" for number in range(12)]
    publisher = Publisher(before=lambda recorded: service.views.allocations(recorded.event.orderid))
    relays = [relay_on(engine, publisher, streams_at_once=3, messages=2) for _ in range(4)]

    with at_work(relays[0].run), at_work(relays[1].run), at_work(relays[2].run), at_work(relays[3].run):
        for number in range(10):
            for sku in skus:
                allocated(service, sku, f"{sku}-o{number}")
        assert wait_for(lambda: not waiting(sql), within=PATIENCE), f"never told: {waiting(sql)}"

    assert publisher.versions() == {sku: list(range(2, 12)) for sku in skus}
    assert publisher.overlaps == []


def test_relays_that_claim_at_the_same_moment_share_the_streams(
    service: Service, engine: Engine, at_once: Callable[..., list[Any]]
) -> None:
    for round_ in range(5):
        skus = {f"LAMP-{round_}-{number}" for number in range(6)}
        for sku in skus:
            allocated(service, sku, sku)

        claims: list[list[Claim]] = at_once(*(lambda: deliveries(engine).claim(PUBLISH) for _ in range(4)))

        got = [claim.stream for one in claims for claim in one if claim.stream in skus]
        assert sorted(got) == sorted(skus), "each stream by exactly one"


# --- the surroundings fail ---------------------------------------------------


def test_a_relay_whose_connections_are_cut_goes_on(
    service: Service, engine: Engine, publisher: Publisher, cut_connections: Callable[[], int]
) -> None:
    with at_work(relay_on(engine, publisher, lease=1.0).run):
        for number in range(3):
            orderid = f"o{number}"
            allocated(service, "LAMP", orderid)
            assert wait_for(lambda: orderid in publisher.orders, within=PATIENCE), f"{orderid} was never told"  # noqa: B023 - called at once
            assert cut_connections() > 0

    assert list(dict.fromkeys(publisher.orders)) == ["o0", "o1", "o2"], "in order, and some perhaps twice"


@dataclass
class ManyAtOnce:
    """Publishes as Redis does: away, it raises for all. `tries` are the streams of each call."""

    is_away: bool = True
    tries: list[list[str]] = field(default_factory=list)
    told: list[tuple[str, int]] = field(default_factory=list)

    def deliver(self, given: Sequence[Delivery[DomainEvent]]) -> Mapping[str, Exception]:
        self.tries.append(list(dict.fromkeys(delivery.recorded.stream for delivery in given)))
        if self.is_away:
            raise Unavailable("no redis")
        self.told += [(delivery.recorded.stream, delivery.recorded.version) for delivery in given]
        return {}


def test_an_outage_floods_neither_the_outbox_nor_the_log_and_all_is_published_in_order_when_it_is_over(
    service: Service, engine: Engine, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    skus = [f"LAMP-{number}" for number in range(8)]
    for sku in skus:
        allocated(service, sku, "o1", "o2")
    publish = ManyAtOnce()
    relay = relay_on(engine, Publisher())
    table: Routes[object] = Routes()
    for kind in get_args(DomainEvent):
        table.effect(kind, Effect(PUBLISH, publish.deliver, batch=1_000))
    relay = replace(relay, routes=table)

    for _ in range(5):
        assert relay.deliver(PUBLISH) == 0

    assert publish.tries == [skus, *([sku] for sku in skus[1:5])], "one after another, since one may fail for itself"
    [(tried, most, reasons)] = sql("SELECT sum(attempts), max(attempts), count(reason) FROM outbox")
    assert (tried, most, reasons) == (5, 1, 5), "each try is noted with one stream"
    assert sql("SELECT count(*) FROM deliveries WHERE claimed_until IS NOT NULL") == [(0,)], "the rest were let go"
    assert caplog.messages == ["an effect is away, and tried until it is back"]

    publish.is_away = False
    deliver_all(relay, PUBLISH)
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    deliver_all(relay, PUBLISH)

    assert waiting(sql) == []
    assert sorted(publish.told) == [(sku, version) for sku in skus for version in (2, 3)]
    assert [version for sku, version in publish.told if sku == "LAMP-0"] == [2, 3]


def test_a_relay_that_meets_a_fault_goes_on_when_it_is_mended(
    service: Service, engine: Engine, publisher: Publisher, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    allocated(service, "LAMP", "o1")
    sql("ALTER TABLE outbox RENAME COLUMN attempts TO tries")

    with at_work(relay_on(engine, publisher, lease=0.1).run):
        assert wait_for(lambda: "the relay must wait" in caplog.messages, within=PATIENCE), caplog.text
        sql("ALTER TABLE outbox RENAME COLUMN tries TO attempts")
        assert wait_for(lambda: publisher.orders == ["o1"], within=PATIENCE), "never told"


def test_a_relay_that_comes_before_the_migration_waits_for_it(
    unmigrated_url: str, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    engine = database_engine(unmigrated_url)
    relay = relay_on(engine, publisher)
    with pytest.raises(Unavailable, match="migrate it first"):
        relay.deliver(PUBLISH)

    with at_work(relay.run):
        assert wait_for(lambda: caplog.messages.count("the relay must wait") == 2, within=PATIENCE), caplog.text
        migrations.upgrade(unmigrated_url)
        with engine.begin() as connection:
            connection.exec_driver_sql(
                """INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects)
                   VALUES ('LAMP', 1, gen_random_uuid(), 'allocated.v1', '{"orderid": "o1", "sku": "LAMP", "qty": 1,
                           "batchref": "b1", "lineid": "LAMP"}', 'c', 'test', now(), '[]')"""
            )
            connection.exec_driver_sql("INSERT INTO outbox VALUES ('publish_event', 'LAMP', 1)")
        assert wait_for(lambda: publisher.orders == ["o1"], within=PATIENCE), "never told"
    engine.dispose()
