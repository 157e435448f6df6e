"""What other systems tell us: each message is handled or kept with the reason, and the next one has its turn."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from threading import Event, Thread
from typing import Any

import pytest
import redis

from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints.inbound import until_possible
from allocation.entrypoints.redis_eventconsumer import handle, run
from embedded.waiting import wait_for
from messaging.errors import ConcurrencyConflict
from messaging.sql.exclusive import ExclusiveBus

Sql = Callable[..., list[tuple[Any, ...]]]
DatabaseAway = Callable[[], AbstractContextManager[None]]

CHANNEL = "change_batch_quantity"
PATIENCE = 20.0


@pytest.fixture
def stop() -> Event:
    return Event()


@contextmanager
def listening(service: Service, redis_server: redis.Redis, stop: Event) -> Iterator[None]:
    """The consumer at work in a thread, as in its process."""
    thread = Thread(target=run, args=(service, stop))
    thread.start()
    try:
        wait_for_subscribers(redis_server)
        yield
    finally:
        stop.set()
        thread.join(PATIENCE)
    assert not thread.is_alive(), "the consumer did not stop when told to"


def wait_for_subscribers(redis_server: redis.Redis) -> None:
    assert wait_for(lambda: subscribers(redis_server), within=PATIENCE), "nobody listens"


def subscribers(redis_server: redis.Redis) -> set[str]:
    """Their client ids."""
    if not any(count for _, count in redis_server.pubsub_numsub(CHANNEL)):
        return set()
    return {client["id"] for client in redis_server.client_list(_type="pubsub")}


def quantity(sql: Sql) -> int:
    [(purchased,)] = sql("SELECT purchased_quantity FROM batches WHERE reference = 'b1'")
    return int(purchased)


def dead_letters(sql: Sql) -> list[tuple[bytes, str]]:
    return [(bytes(body), reason) for body, reason in sql("SELECT body, reason FROM dead_letters ORDER BY id")]


def changed_to(qty: int) -> bytes:
    return json.dumps({"batchref": "b1", "qty": qty}).encode()


def test_a_message_changes_the_batch_and_moves_its_lines(service: Service, sql: Sql) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.CreateBatch("b2", "LAMP", 10))
    service.bus.handle(commands.Allocate("o1", "LAMP", 6))

    handle(service, b'{"batchref": "b1", "qty": 5, "comment": "water damage"}')

    assert quantity(sql) == 5
    assert service.views.allocations("o1") == [{"sku": "LAMP", "batchref": "b2"}]
    assert dead_letters(sql) == []
    assert sql("SELECT DISTINCT source FROM event_log WHERE version > 3") == [("redis",)]


BAD = {
    b"not json": "invalid JSON",
    b"": "invalid JSON",
    b"\xff\xfe{\x00": "invalid JSON",
    b'{"batchref": "b\xe9", "qty": 1}': "invalid JSON",
    b"[]": "body: input should be an object",
    b"{}": "batchref: is missing",
    b'{"batchref": "b1"}': "qty: is missing",
    b'{"batchref": "b1", "qty": "5"}': "qty: input should be a valid integer, not '5'",
    b'{"batchref": "b1", "qty": -1}': "qty: input should be greater than or equal to 0, not -1",
    b'{"batchref": "b1", "qty": 1000000001}': "qty: input should be less than or equal to 1000000000",
    b'{"batchref": "b1\\u0000", "qty": 1}': "batchref: must not have control characters",
    b'{"batchref": "b1\\ud800", "qty": 1}': "invalid JSON",
    b'{"batchref": "nowhere", "qty": 1}': "Unknown batch nowhere",
}


def test_messages_that_cannot_be_read_or_are_refused_are_kept_as_they_came(service: Service, sql: Sql) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))

    for body in BAD:
        handle(service, body)

    kept = dead_letters(sql)
    assert [body for body, _ in kept] == list(BAD)
    for body, why in kept:
        assert BAD[body] in why
    assert sql("SELECT DISTINCT source, message_id, attempts FROM dead_letters") == [(CHANNEL, None, 1)]
    assert sql("SELECT count(*) FROM event_log") == [(1,)], "nothing has changed"


def test_a_message_that_meets_a_fault_in_the_program_is_kept_too(service: Service, sql: Sql) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    sql("ALTER TABLE batches ADD CONSTRAINT unexpected CHECK (purchased_quantity > 3)")

    handle(service, changed_to(2))

    [(kept, why)] = dead_letters(sql)
    assert kept == changed_to(2)
    assert "unexpected" in why


def test_after_bad_messages_the_good_ones_are_handled_in_the_order_sent(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))

    with listening(service, redis_server, stop):
        for body in (
            changed_to(9),
            b"not json",
            changed_to(8),
            b"\xff",
            b'{"batchref": "b9", "qty": 1}',
            changed_to(7),
        ):
            redis_server.publish(CHANNEL, body)
        assert wait_for(lambda: quantity(sql) == 7, within=PATIENCE), f"b1 has {quantity(sql)}"

    changes = sql("SELECT data -> 'qty' FROM event_log WHERE type = 'batch_quantity_changed.v1' ORDER BY version")
    assert changes == [(9,), (8,), (7,)]
    assert [body for body, _ in dead_letters(sql)] == [b"not json", b"\xff", b'{"batchref": "b9", "qty": 1}']


def test_listens_again_when_its_connection_was_killed(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))

    with listening(service, redis_server, stop):
        before = subscribers(redis_server)
        redis_server.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        assert wait_for(lambda: subscribers(redis_server) - before, within=PATIENCE), "nobody listens again"

        redis_server.publish(CHANNEL, changed_to(7))
        assert wait_for(lambda: quantity(sql) == 7, within=PATIENCE), f"b1 has {quantity(sql)}"


@pytest.mark.parametrize("body", [changed_to(7), b"not json"])
def test_a_message_that_comes_while_the_database_is_away_is_not_lost(
    service: Service, sql: Sql, database_away: DatabaseAway, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    consumer = Thread(target=until_possible, args=(partial(handle, service, body), Event()))

    with database_away():
        consumer.start()
        assert wait_for(lambda: "will try again" in caplog.messages, within=PATIENCE), "it was not even tried"
        assert consumer.is_alive()
    consumer.join(PATIENCE)

    assert not consumer.is_alive(), "never settled"
    kept = [kept for kept, _ in dead_letters(sql)]
    assert (quantity(sql), kept) == ((10, [body]) if body == b"not json" else (7, []))


NO_ROOM = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM nextval('tried');
        RAISE 'No space left on device' USING ERRCODE = 'disk_full';
    END $$;
    CREATE SEQUENCE tried;
    CREATE TRIGGER no_room BEFORE INSERT ON event_log FOR EACH ROW EXECUTE FUNCTION no_room();
    CREATE TRIGGER no_room BEFORE INSERT ON dead_letters FOR EACH ROW EXECUTE FUNCTION no_room();
"""


def test_messages_that_come_while_the_disk_is_full_have_their_effect_when_there_is_room(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    sql(NO_ROOM)

    with listening(service, redis_server, stop):
        redis_server.publish(CHANNEL, changed_to(9))
        redis_server.publish(CHANNEL, changed_to(8))
        assert wait_for(lambda: sql("SELECT is_called FROM tried") == [(True,)], within=PATIENCE), "it was not tried"
        sql("DROP TRIGGER no_room ON event_log")
        assert wait_for(lambda: quantity(sql) == 8, within=PATIENCE), f"b1 has {quantity(sql)}"

    assert dead_letters(sql) == []


def test_a_message_that_can_be_neither_handled_nor_kept_is_logged_and_the_next_one_has_its_turn(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    sql("ALTER TABLE dead_letters ADD CONSTRAINT unexpected CHECK (reason = '')")

    with listening(service, redis_server, stop):
        redis_server.publish(CHANNEL, b"not json")
        redis_server.publish(CHANNEL, changed_to(7))
        assert wait_for(lambda: quantity(sql) == 7, within=PATIENCE), f"b1 has {quantity(sql)}"

    [lost] = [record for record in caplog.records if record.message == "lost: neither handled nor kept"]
    assert getattr(lost, "body", None) == "b'not json'"


def test_a_message_whose_dead_letter_meets_a_lock_is_kept_when_that_is_gone(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    bury, faults = service.dead_letters.store, [ConcurrencyConflict("a lock is not to be had")]

    def when_possible(**letter: Any) -> None:
        if faults:
            raise faults.pop()
        bury(**letter)

    monkeypatch.setattr(service.dead_letters, "store", when_possible)

    with listening(service, redis_server, stop):
        redis_server.publish(CHANNEL, b"not json")
        assert wait_for(lambda: [body for body, _ in dead_letters(sql)] == [b"not json"], within=PATIENCE)


def test_what_the_data_itself_stands_in_the_way_of_is_kept_and_the_next_one_has_its_turn(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql
) -> None:
    """The log has a version that the product does not know of."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.CreateBatch("b2", "SOFA", 10))
    sql("UPDATE products SET version_number = 0 WHERE sku = 'LAMP'")

    with listening(service, redis_server, stop):
        redis_server.publish(CHANNEL, changed_to(7))
        redis_server.publish(CHANNEL, b'{"batchref": "b2", "qty": 3}')
        assert wait_for(lambda: sql("SELECT 1 FROM batches WHERE purchased_quantity = 3") == [(1,)], within=PATIENCE)

    [(body, reason)] = dead_letters(sql)
    assert body == changed_to(7)
    assert "stands in its way" in reason


def test_a_message_takes_effect_once_though_the_answer_to_its_commit_was_lost_for_long(
    service: Service, sql: Sql
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    handle(service, changed_to(7), "as received")
    service.bus.handle(commands.ChangeBatchQuantity("b1", 9))  # by others, before it is tried again

    handle(service, changed_to(7), "as received")

    assert quantity(sql) == 9


def test_a_fault_while_taking_over_ends_no_task_of_the_consumer(
    service: Service,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    caplog.set_level(logging.INFO)
    is_ours, failed = ExclusiveBus.is_ours, []

    def at_last(way_in: ExclusiveBus[Any]) -> bool:
        if way_in.engine not in failed:
            failed.append(way_in.engine)
            raise KeyError("a fault in the program")
        return is_ours(way_in)

    monkeypatch.setattr(ExclusiveBus, "is_ours", at_last)
    with listening(service, redis_server, Event()):
        redis_server.publish(CHANNEL, changed_to(7))
        assert wait_for(lambda: quantity(sql) == 7, within=PATIENCE), f"b1 has {quantity(sql)}"
        assert wait_for(lambda: "reading" in caplog.messages, within=PATIENCE), "the command stream was given up"

    in_the_log = {f"the work at {place} failed, and goes on" for place in ("the bridge", "the command stream")}
    assert in_the_log <= {*caplog.messages}


def test_the_next_message_waits_until_the_database_is_back(
    service: Service, redis_server: redis.Redis, stop: Event, sql: Sql, database_away: DatabaseAway
) -> None:
    """Handled out of step, an old quantity would win over a newer one."""
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))

    with listening(service, redis_server, stop):
        with database_away():
            redis_server.publish(CHANNEL, changed_to(9))
            redis_server.publish(CHANNEL, changed_to(8))
        assert wait_for(lambda: quantity(sql) == 8, within=PATIENCE), f"b1 has {quantity(sql)}"

    changes = sql("SELECT data -> 'qty' FROM event_log WHERE type = 'batch_quantity_changed.v1' ORDER BY version")
    assert changes == [(9,), (8,)]


def test_stops_when_told_to_though_the_database_is_away(
    service: Service, stop: Event, database_away: DatabaseAway, caplog: pytest.LogCaptureFixture
) -> None:
    consumer = Thread(target=until_possible, args=(partial(handle, service, changed_to(7)), stop))

    with database_away():
        consumer.start()
        assert wait_for(lambda: "will try again" in caplog.messages, within=PATIENCE), "it was not even tried"
        stop.set()
        consumer.join(PATIENCE)
        assert not consumer.is_alive()
