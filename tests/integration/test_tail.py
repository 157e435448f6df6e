"""Events read as they happen: each once, none passed over, whatever becomes of Redis."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from click.testing import CliRunner, Result
from tests.chaos.harvest import Subscriber

from allocation.adapters.redis_channels import EVENTS, event_stream
from allocation.bootstrap import Service
from allocation.config import EVENTS_STAY, Settings
from allocation.domain.commands import Allocate, CreateBatch
from allocation.entrypoints.cli import main
from embedded.valkey import Redis
from embedded.waiting import wait_for
from messaging.errors import Unavailable
from messaging.redis.client import redis_client
from messaging.redis.event_stream import Append, StreamEvent
from messaging.redis.tail import Tail

SOON = 0.01


def tell(client: redis.Redis, subject: str, *versions: int, again: bool = False) -> None:
    """As a relay tells it."""
    for version in versions:
        body: dict[str, Any] = {"id": f"{subject}:{version}", "subject": subject, "sequence": str(version)}
        body |= {"type": "allocation.x.v1", "time": "2031-01-01T00:00:00+00:00", "data": {}}
        after = 0 if again else version - 1
        event_stream(client, EVENTS_STAY).append_all(
            [Append(subject, 1, after, version, [StreamEvent(version, json.dumps(body).encode())])]
        )


def read(tail: Tail) -> list[str]:
    return [str((entry.event or {})["id"]) for entry in tail.read(SOON)]


@pytest.fixture
def tail(every_redis_url: str, client: redis.Redis) -> Tail:
    return Tail(client, EVENTS)


@pytest.fixture
def client(every_redis_url: str) -> Iterator[redis.Redis]:
    with redis_client(every_redis_url) as client:
        yield client


def test_begins_at_the_end(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1)
    tail.start()
    tell(client, "LAMP", 2)

    assert read(tail) == ["LAMP:2"]
    assert read(tail) == []


def test_begins_before_there_is_a_stream(client: redis.Redis, tail: Tail) -> None:
    tail.start()
    assert read(tail) == []
    tell(client, "LAMP", 1)

    assert read(tail) == ["LAMP:1"]


def test_begins_with_what_was_published_lately_and_goes_on(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1, 2)
    tail.start(timedelta(minutes=5))
    tell(client, "LAMP", 3)

    assert read(tail) == ["LAMP:1", "LAMP:2", "LAMP:3"]


def test_lately_has_an_end(client: redis.Redis, tail: Tail) -> None:
    client.xadd(EVENTS, {"event": b'{"id": "old"}'}, id=f"{(int(client.time()[0]) - 600) * 1000}-0")
    tell(client, "LAMP", 1)
    tail.start(timedelta(minutes=5))

    assert read(tail) == ["LAMP:1"]


def test_what_is_published_again_is_read_once(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1)
    tail.start()
    tell(client, "LAMP", 2)
    tell(client, "LAMP", 1, 2, again=True)
    tell(client, "LAMP", 3)

    assert read(tail) == ["LAMP:2", "LAMP:3"]


def test_a_stream_that_was_lost_and_is_published_again_brings_only_what_is_new(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1, 2)
    tell(client, "SPOON", 1)
    tail.start()
    tell(client, "LAMP", 3)
    assert read(tail) == ["LAMP:3"]

    client.flushall()
    assert read(tail) == []
    tell(client, "LAMP", 1, 2, 3, 4)
    tell(client, "SPOON", 1, 2)

    assert read(tail) == ["LAMP:4", "SPOON:2"]


def test_what_was_published_lately_is_read_to_its_end_though_the_stream_is_lost_meanwhile(
    client: redis.Redis,
) -> None:
    """Each once, and nothing from before."""
    tail = Tail(client, EVENTS, most=2)
    long_ago = datetime(2001, 1, 1, tzinfo=UTC).isoformat()
    old = {"id": "SPOON:1", "subject": "SPOON", "sequence": "1", "time": long_ago}
    of_spoon = [Append("SPOON", 1, 0, 1, [StreamEvent(1, json.dumps(old).encode())])]
    client.xadd(EVENTS, {"event": json.dumps(old)}, id="1-1")
    client.hset("{allocation.events}.told", "SPOON", "1:1")
    tell(client, "LAMP", 1, 2, 3, 4, 5)
    tell(client, "SPOON", 2)
    tail.start(timedelta(minutes=5))
    assert read(tail) == ["LAMP:1", "LAMP:2"]
    assert not tail.is_past_what_was_there

    client.flushall()
    event_stream(client, EVENTS_STAY).append_all(of_spoon)
    tell(client, "SPOON", 2)
    tell(client, "LAMP", 1, 2, 3, 4, 5, 6)

    found: list[str] = []
    while not tail.is_past_what_was_there:
        found += read(tail)
    assert found == ["SPOON:2", "LAMP:3", "LAMP:4", "LAMP:5", "LAMP:6"]


def test_who_reads_what_was_there_comes_to_an_end_though_the_stream_is_another_and_grows(client: redis.Redis) -> None:
    tail = Tail(client, EVENTS, most=2)
    tell(client, "LAMP", 1, 2, 3, 4)
    tail.start(timedelta(minutes=5))
    assert read(tail) == ["LAMP:1", "LAMP:2"]

    stream = event_stream(client, EVENTS_STAY)
    stream.end_check(stream.begin_check("another home"), "another home")
    client.set("{allocation.events}.incarnation", "another")
    found: list[str] = []
    for version in range(5, 15):
        tell(client, "LAMP", version)
        if not tail.is_past_what_was_there:
            found += read(tail)

    assert found[:2] == ["LAMP:3", "LAMP:4"]
    assert tail.is_past_what_was_there


def test_a_redis_whose_clock_is_behind_is_read_from_its_beginning(client: redis.Redis, tail: Tail) -> None:
    tail.start()
    tell(client, "LAMP", 1)
    assert read(tail) == ["LAMP:1"]

    client.flushall()
    client.xadd(EVENTS, {"event": b'{"id": "LAMP:2", "subject": "LAMP", "sequence": "2"}'}, id="1-1")

    assert read(tail) == ["LAMP:2"]


def test_a_stream_that_is_made_anew_at_the_same_moment_is_read_from_its_beginning(
    client: redis.Redis, tail: Tail
) -> None:
    """What is told then has lower ids, and the stream has moved on beyond them before anybody looks."""
    tail.start()
    tell(client, "LAMP", 1, 2, 3, 4, 5)
    assert len(read(tail)) == 5
    before: Any = client.xrange(EVENTS)

    client.delete(EVENTS)
    tell(client, "SPOON", 1)
    tell(client, "LAMP", *range(1, 8))
    again: Any = client.xrange(EVENTS)
    client.delete(EVENTS)
    moment = before[-1][0].partition(b"-")[0].decode()
    for number, (_, fields) in enumerate(again):
        client.xadd(EVENTS, fields, id=f"{moment}-{number}")

    assert read(tail) == ["SPOON:1", "LAMP:6", "LAMP:7"]


def test_so_does_the_subscriber_of_the_chaos_rounds(every_redis_url: str, client: redis.Redis) -> None:
    def heard(subscriber: Subscriber, number: int) -> bool:
        return wait_for(lambda: len(subscriber.heard()) == number, within=10)

    world: Any = SimpleNamespace(redis=lambda: redis_client(every_redis_url))
    tell(client, "LAMP", 1, 2, 3)
    subscriber = Subscriber(world)
    try:
        assert heard(subscriber, 3)
        entries: Any = client.xrange(EVENTS)

        with client.pipeline() as at_once:
            at_once.delete(EVENTS)
            at_once.xadd(EVENTS, entries[0][1], id="1-1")
            at_once.set("{allocation.events}.incarnation", "another")
            at_once.execute()

        assert heard(subscriber, 4)
    finally:
        subscriber.stop()


def test_what_is_beside_the_stream_and_not_ours_is_no_obstacle(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1)
    client.hset("{allocation.events}.told", mapping={"SPOON": "junk", b"\xff": "1:x", "LAMP": "1:2:3"})
    tail.start()
    tell(client, "SPOON", 1)

    assert read(tail) == ["SPOON:1"]


def test_a_stream_that_is_trimmed_behind_us_goes_on(client: redis.Redis, tail: Tail) -> None:
    tail.start()
    tell(client, "LAMP", 1, 2)
    assert read(tail) == ["LAMP:1", "LAMP:2"]
    client.xtrim(EVENTS, maxlen=0, approximate=False)
    assert read(tail) == []
    with pytest.raises(Unavailable, match="has lost what came before"):
        tell(client, "LAMP", 3)
    tell(client, "LAMP", 1, 2, 3)

    assert read(tail) == ["LAMP:3"]


def test_reads_more_than_comes_at_once(client: redis.Redis) -> None:
    tail = Tail(client, EVENTS, most=2)
    tail.start()
    tell(client, "LAMP", 1, 2, 3)

    assert read(tail) + read(tail) == ["LAMP:1", "LAMP:2", "LAMP:3"]


def test_of_one_subject_alone(client: redis.Redis) -> None:
    tell(client, "LAMP", 1)
    tail = Tail(client, EVENTS, subject="LAMP")
    tail.start()
    tell(client, "SPOON", 1)
    tell(client, "LAMP", 2)
    tell(client, "LAMP", 1, again=True)

    assert read(tail) == ["LAMP:2"]


def test_what_is_no_event_is_read_too(client: redis.Redis, tail: Tail) -> None:
    tail.start()
    client.xadd(EVENTS, {"event": b"\xff"})
    client.xadd(EVENTS, {"event": b'["a", "list"]'})

    assert [(entry.body, entry.event) for entry in tail.read(SOON)] == [(b"\xff", None), (b'["a", "list"]', None)]


def test_reads_on_after_a_restart(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis", durable=True)
    server.start()
    try:
        with redis_client(server.url) as client:
            tail = Tail(client, EVENTS)
            tail.start()
            tell(client, "LAMP", 1)
            server.stop()
            with pytest.raises(Unavailable):
                tail.read(SOON)
            server.start()
            tell(client, "LAMP", 2)

            assert read(tail) == ["LAMP:1", "LAMP:2"]
    finally:
        server.stop()


# --- the command -----------------------------------------------------------------


@pytest.fixture
def events(service: Service, settings: Settings) -> Settings:
    """Five events, told."""
    service.bus.handle(CreateBatch("b1", "LAMP", 10))
    service.bus.handle(Allocate("o1", "LAMP", 3))
    service.bus.handle(Allocate("o2", "LAMP", 30))
    service.bus.handle(CreateBatch("b2", "SPOON", 10))
    service.bus.handle(Allocate("o1", "SPOON", 1))
    while service.relay.deliver("publish_event"):
        pass
    return settings


def watch(settings: Settings, *options: str) -> Result:
    return CliRunner(env=settings.as_environment({})).invoke(main, ["watch", "--since", "5m", *options])


def test_a_line_for_each_event(events: Settings) -> None:
    lines = watch(events, "--sku", "LAMP", "--limit", "3").stdout.splitlines()

    assert [line[9:] for line in lines] == [
        "batch b1 brought 10 of LAMP, in the warehouse",
        "order o1 was promised 3 of LAMP from batch b1",
        "order o2 asked for 30 of LAMP: out of stock",
    ]
    for line in lines:
        datetime.strptime(line[:8], "%H:%M:%S").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("options", "count"),
    [([], 5), (["--sku", "SPOON"], 2), (["--order", "nix"], 0), (["--limit", "9"], 5), (["--since", "0s"], 0)],
)
def test_ends_with_what_has_happened_where_nobody_wants_to_wait(
    events: Settings, options: list[str], count: int
) -> None:
    result = CliRunner(env=events.as_environment({})).invoke(main, ["watch", "--no-follow", *options])

    assert (result.exit_code, len(result.stdout.splitlines())) == (0, count)


def test_there_is_nothing_to_wait_for_where_nothing_has_happened(service: Service, settings: Settings) -> None:
    assert watch(settings, "--no-follow").stdout == ""


def test_what_was_there_ends_behind_entries_that_were_removed(client: redis.Redis, tail: Tail) -> None:
    tell(client, "LAMP", 1, 2)
    found: Any = client.xrevrange(EVENTS, count=1)
    tail.start(timedelta(minutes=1))
    client.xdel(EVENTS, found[0][0])

    assert not tail.is_past_what_was_there
    assert read(tail) == ["LAMP:1"]
    assert not tail.is_past_what_was_there
    assert read(tail) == []
    assert tail.is_past_what_was_there


def test_an_order_alone_and_as_json(events: Settings) -> None:
    lines = watch(events, "--order", "o1", "--no-follow", "--json").stdout.splitlines()

    assert {(json.loads(line)["subject"], json.loads(line)["specversion"]) for line in lines} == {
        ("LAMP", "1.0"),
        ("SPOON", "1.0"),
    }


@contextmanager
def started(settings: Settings, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-m", "allocation", "watch", "--since", "5m", *options],
        env=settings.as_environment({"PATH": "", "PYTHONWARNINGS": "error"}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_ctrl_c_ends_it_quietly(events: Settings) -> None:
    with started(events) as process:
        assert process.stdout
        for _ in range(5):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=10)

    assert (process.returncode, said) == (0, ("", ""))


def test_who_closes_the_pipe_after_the_first_lines_ends_it_quietly(events: Settings) -> None:
    with started(events) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()

        assert (process.wait(timeout=10), process.stderr.read()) == (0, "")


def test_who_closes_the_pipe_ends_it_quietly_though_nothing_more_happens(events: Settings) -> None:
    with started(events) as process:
        assert process.stdout
        assert process.stderr
        for _ in range(5):
            assert process.stdout.readline()
        process.stdout.close()
        begun = time.monotonic()
        code = process.wait(timeout=10)

        assert (code, process.stderr.read()) == (0, "")
    assert time.monotonic() - begun < 5
