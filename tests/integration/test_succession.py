"""When the bridge goes from one consumer to another: each message is handled by one of them, in order, or kept."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from threading import Event, Thread
from typing import Any

import pytest
import redis
from tests.integration.conftest import Sql
from tests.integration.threads import at_work

from allocation.bootstrap import Service
from allocation.domain import commands
from allocation.entrypoints import inbound, leadership, redis_commands, redis_eventconsumer
from allocation.entrypoints.leadership import AWAY
from allocation.entrypoints.redis_eventconsumer import handle, listen
from embedded.waiting import wait_for
from messaging.errors import OutcomeUnknown
from messaging.redis.listening import Listening

CHANNEL = "change_batch_quantity"
PATIENCE = 20.0
TAKEN_OVER = "the bridge was taken over before this was handled"
HOLDERS = """
    SELECT count(*) FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def say(redis_server: redis.Redis, qty: int) -> int:
    return int(redis_server.publish(CHANNEL, json.dumps({"batchref": "b1", "qty": qty})))


def listeners(redis_server: redis.Redis) -> int:
    return sum(count for _, count in redis_server.pubsub_numsub(CHANNEL))


def quantities(sql: Sql) -> list[int]:
    return [qty for (qty,) in sql("SELECT (data->>'qty')::int FROM event_log WHERE version > 1 ORDER BY version")]


def kept(sql: Sql) -> list[tuple[int, str]]:
    letters = sql("SELECT body, reason FROM dead_letters WHERE source = :channel ORDER BY id", channel=CHANNEL)
    return [(json.loads(bytes(body))["qty"], reason) for body, reason in letters]


@pytest.mark.parametrize("soon_gone", [False, True], ids=["and stays", "and is gone before the first looks again"])
def test_what_was_heard_before_another_took_the_bridge_is_kept_and_what_that_one_hears_is_its_own(
    service: Service,
    another: Service,
    redis_server: redis.Redis,
    sql: Sql,
    *,
    database_away: Callable[[], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
    soon_gone: bool,
) -> None:
    """The first pauses while the database comes back, has heard 2 and 3, and may neither forget them nor let them
    take effect after the 4 of the other."""
    caplog.set_level(logging.INFO)
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    pausing, awake = Event(), Event()

    class Pausing(Event):
        def wait(self, timeout: float | None = None) -> bool:
            if timeout == inbound._SHORTEST_PAUSE:
                pausing.set()
                awake.wait(PATIENCE)
            return super().wait(timeout)

    stop = Pausing()
    first = Thread(target=listen, args=(service, stop))
    first.start()
    try:
        assert wait_for(lambda: listeners(redis_server) == 1, within=PATIENCE)
        say(redis_server, 1)
        assert wait_for(lambda: quantities(sql) == [1], within=PATIENCE)
        with database_away():
            say(redis_server, 2)
            say(redis_server, 3)
            assert pausing.wait(PATIENCE)
        with at_work(partial(listen, another)):
            assert wait_for(lambda: caplog.messages.count("listening") == 2, within=PATIENCE)
            say(redis_server, 4)
            assert wait_for(lambda: quantities(sql) == [1, 4], within=PATIENCE)
            if not soon_gone:
                awake.set()
                assert wait_for(lambda: len(kept(sql)) == 2, within=PATIENCE)
                assert wait_for(lambda: listeners(redis_server) == 1, within=PATIENCE), "the first stands by"
        awake.set()
        assert wait_for(lambda: len(kept(sql)) == 2, within=PATIENCE), kept(sql)
        assert wait_for(lambda: say(redis_server, 5) == 1 and quantities(sql)[-1:] == [5], within=PATIENCE)
    finally:
        awake.set()
        stop.set()
        first.join(PATIENCE)

    assert quantities(sql) == [1, 4, 5]
    assert kept(sql) == [(2, TAKEN_OVER), (3, TAKEN_OVER)]


def test_what_took_effect_is_no_dead_letter_though_the_answer_was_lost_and_another_has_the_bridge(
    service: Service,
    another: Service,
    redis_server: redis.Redis,
    sql: Sql,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))

    def lose_the_answer(*about: Any) -> None:
        handle(*about)
        if quantities(sql) == [1]:
            sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'")
            assert wait_for(another.pubsub_bus.is_ours, within=PATIENCE)
            raise OutcomeUnknown("server closed the connection unexpectedly")

    monkeypatch.setattr(redis_eventconsumer, "handle", lose_the_answer)
    with at_work(partial(listen, service)):
        assert wait_for(lambda: listeners(redis_server) == 1, within=PATIENCE)
        say(redis_server, 1)
        say(redis_server, 2)
        assert wait_for(lambda: kept(sql), within=PATIENCE)

    assert quantities(sql) == [1]
    assert kept(sql) == [(2, TAKEN_OVER)]


def test_who_loses_the_bridge_while_it_begins_to_listen_does_not_begin(
    service: Service, another: Service, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another may have listened and gone before, and who has not heard of it would handle what that one has handled."""
    began: list[int] = []
    begin, enter = Listening.begin, Listening.__enter__

    def cut_at_first(self: Listening) -> Listening:
        entered = enter(self)
        if not began:
            began.append(0)
            sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'")
            assert wait_for(another.pubsub_bus.is_ours, within=PATIENCE)
        return entered

    def and_note(self: Listening) -> None:
        began.append(1)
        begin(self)

    monkeypatch.setattr(Listening, "__enter__", cut_at_first)
    monkeypatch.setattr(Listening, "begin", and_note)
    with at_work(partial(listen, service)):
        assert wait_for(lambda: began == [0], within=PATIENCE)
        assert wait_for(lambda: listeners(redis_server) == 0, within=PATIENCE)
        assert began == [0]
        another.pubsub_bus.close()
        assert wait_for(lambda: began == [0, 1], within=PATIENCE), "and begins when it has it again"


def test_an_idle_consumer_has_its_locks_again_soon_after_its_connections_were_cut(
    service: Service, redis_server: redis.Redis, sql: Sql, cut_connections: Callable[[], int]
) -> None:
    with at_work(partial(redis_eventconsumer.run, service)):
        assert wait_for(lambda: listeners(redis_server) == 1 and sql(HOLDERS) == [(2,)], within=PATIENCE)
        ears = {client["id"] for client in redis_server.client_list(_type="pubsub")}

        cut_connections()

        assert wait_for(lambda: sql(HOLDERS) == [(2,)], within=3), "nobody listens, it seems, and nobody reads"
        assert {client["id"] for client in redis_server.client_list(_type="pubsub")} == ears, "it listened all the time"


def test_what_was_said_before_a_consumer_was_told_to_stop_takes_effect(
    service: Service, redis_server: redis.Redis, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 1_000))
    at_it, all_said = Event(), Event()

    def busy(*about: Any) -> None:
        at_it.set()
        assert all_said.wait(PATIENCE)
        handle(*about)

    monkeypatch.setattr(redis_eventconsumer, "handle", busy)
    stop = Event()
    consumer = Thread(target=listen, args=(service, stop))
    consumer.start()
    assert wait_for(lambda: say(redis_server, 1) == 1, within=PATIENCE)
    assert at_it.wait(PATIENCE)
    say(redis_server, 2)
    say(redis_server, 3)
    stop.set()
    all_said.set()
    consumer.join(PATIENCE)

    assert quantities(sql) == [1, 2, 3]


@pytest.mark.parametrize("task", [listen, redis_commands.run], ids=["bridge", "command stream"])
def test_who_is_told_to_stop_lets_another_go_on_though_its_process_is_still_there(
    service: Service, another: Service, sql: Sql, task: Callable[[Service, Event], None]
) -> None:
    with at_work(partial(task, service)):
        assert wait_for(lambda: sql(HOLDERS) == [(1,)], within=PATIENCE)

    assert another.pubsub_bus.is_ours()
    assert another.command_bus.is_ours()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        (listen, "standing by; another consumer has the bridge"),
        (redis_commands.run, "standing by; another consumer has the command stream"),
    ],
    ids=["bridge", "command stream"],
)
def test_who_stands_by_says_so_once(
    service: Service,
    another: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    *,
    task: Callable[[Service, Event], None],
    words: str,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(leadership, "_LOOK_AGAIN", 0.01)
    assert another.pubsub_bus.is_ours()
    assert another.command_bus.is_ours()
    looks = count_of_looks(service, monkeypatch)

    with at_work(partial(task, service)):
        assert wait_for(lambda: len(looks) > 3, within=PATIENCE)

    assert caplog.messages.count(words) == 1


def test_an_outage_is_said_once_and_that_it_is_over_too(
    service: Service,
    redis_server: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    database_away: Callable[[], AbstractContextManager[None]],
) -> None:
    caplog.set_level(logging.INFO)
    looks = count_of_looks(service, monkeypatch)
    with at_work(partial(redis_eventconsumer.run, service)):
        assert wait_for(lambda: {"listening", "reading"} <= {*caplog.messages}, within=PATIENCE)
        caplog.clear()
        with database_away():
            looks.clear()
            assert wait_for(lambda: len(looks) > 8, within=PATIENCE)
            away = caplog.messages[:]
            caplog.clear()
        assert wait_for(lambda: len(caplog.messages) > 1, within=PATIENCE)

    assert away == [AWAY, AWAY], "once by each of the two tasks"
    assert sorted(caplog.messages) == ["listening", "reading"]


def count_of_looks(service: Service, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    looks: list[object] = []
    kind = type(service.pubsub_bus)
    is_ours = kind.is_ours

    def and_note(self: object) -> bool:
        if self in (service.pubsub_bus, service.command_bus):
            looks.append(self)
        return is_ours(self)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "is_ours", and_note)
    return looks
