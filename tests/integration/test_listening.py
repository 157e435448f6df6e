"""Who listens to a channel knows until when what is said there is its own."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from embedded.waiting import wait_for
from messaging.redis.client import redis_client
from messaging.redis.listening import Listening, Superseded, beginnings_of

CHANNEL = "said"


def test_hears_what_is_said_before_another_begins_and_nothing_after(redis_server: redis.Redis) -> None:
    with Listening(redis_server, CHANNEL) as first:
        first.begin()
        redis_server.publish(CHANNEL, b"1")
        redis_server.publish(CHANNEL, b"")
        with Listening(redis_server, CHANNEL) as second:
            second.begin()
            redis_server.publish(CHANNEL, b"2")

            assert heard(first) == [b"1", b""]
            with pytest.raises(Superseded):
                first.next(5.0)
            assert heard(second) == [b"2"]


def test_what_is_said_while_one_begins_is_for_who_listened_before_if_there_is_one(redis_server: redis.Redis) -> None:
    with Listening(redis_server, CHANNEL) as first:
        redis_server.publish(CHANNEL, b"1")
        first.begin()
        with Listening(redis_server, CHANNEL) as second:
            redis_server.publish(CHANNEL, b"2")
            second.begin()

            assert heard(first) == [b"1", b"2"]
            assert heard(second) == []


def test_knows_that_nobody_else_has_begun_and_keeps_what_was_said_meanwhile(redis_server: redis.Redis) -> None:
    with Listening(redis_server, CHANNEL) as listening:
        listening.begin()
        redis_server.publish(CHANNEL, b"1")
        redis_server.publish(CHANNEL, b"2")

        assert not listening.has_been_superseded()
        assert listening.has_kept_some
        redis_server.publish(CHANNEL, b"3")

        assert heard(listening) == [b"1", b"2", b"3"]
        assert not listening.has_kept_some


def test_knows_that_another_has_begun_though_it_is_gone_again(redis_server: redis.Redis) -> None:
    with Listening(redis_server, CHANNEL) as first:
        first.begin()
        redis_server.publish(CHANNEL, b"1")
        with Listening(redis_server, CHANNEL) as second:
            second.begin()
        redis_server.publish(CHANNEL, b"2")

        assert first.has_been_superseded()
        assert first.has_been_superseded(), "for good"
        assert heard(first) == [b"1"]
        with pytest.raises(Superseded):
            first.next(0)


def test_who_listens_for_another_database_of_the_same_redis_succeeds_nobody(
    redis_server: redis.Redis, redis_url: str
) -> None:
    with redis_client(f"{redis_url.rpartition('/')[0]}/1") as other, Listening(redis_server, CHANNEL) as first:
        first.begin()
        with Listening(other, CHANNEL) as second:
            second.begin()
            redis_server.publish(CHANNEL, b"1")

            assert not first.has_been_superseded()
            assert heard(first) == heard(second) == [b"1"]


def test_whose_subscription_was_broken_can_not_know(redis_server: redis.Redis) -> None:
    with Listening(redis_server, CHANNEL) as listening:
        listening.begin()
        redis_server.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]

        assert listening.has_been_superseded()


def test_whose_subscription_was_broken_and_mended_is_told(redis_server: redis.Redis) -> None:
    """The client does that by itself. What was said meanwhile is lost, and may have been another's beginning."""
    with Listening(redis_server, CHANNEL) as listening:
        listening.begin()
        redis_server.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]

        with pytest.raises(Superseded):
            wait_for(lambda: hears_something(listening), within=5)


def test_who_is_not_brought_its_own_word_can_not_know(
    redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("messaging.redis.listening._ANSWER", 0.05)
    with Listening(redis_server, CHANNEL) as listening:
        listening.begin()
        monkeypatch.setattr(redis_server, "publish", lambda *_: 0)

        assert listening.has_been_superseded()


def test_what_is_said_while_redis_confirms_is_heard(redis_server: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """It confirms one channel after the other, and may bring a message between."""
    listening = Listening(redis_server, CHANNEL)
    get_message = listening._pubsub.get_message

    def after_a_message(timeout: float) -> Any:
        monkeypatch.setattr(listening._pubsub, "get_message", get_message)
        return {"type": "message", "channel": CHANNEL.encode(), "data": b"1"}

    monkeypatch.setattr(listening._pubsub, "get_message", after_a_message)
    with listening:
        assert heard(listening) == [b"1"]


def test_says_where_it_is_said_who_listens() -> None:
    assert beginnings_of("change_batch_quantity", 0) == "change_batch_quantity.listener.0", "operators allow it by name"


def hears_something(listening: Listening) -> bool:
    try:
        return listening.next(0.1) is not None
    except redis.ConnectionError:
        return False


def heard(listening: Listening) -> list[bytes]:
    """Up to a pause, or another's beginning."""
    found = []
    try:
        while (one := listening.next(0.3)) is not None:
            found.append(one)
    except Superseded:
        listening._kept.appendleft(("another", b""))
    return found
