"""Somebody who listens to the news in a process of its own, and notes when each piece arrived."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from multiprocessing.connection import Connection

import redis

from allocation.adapters.redis_channels import LINE_ALLOCATED

Ages = dict[str, tuple[float, float]]
"""By order: the moment of arrival, and the seconds since the event was recorded, which is before the commit."""


@contextmanager
def subscriber(redis_url: str) -> Iterator[Callable[[], Ages]]:
    """A function that ends the listening and says what was heard."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_listen, args=(theirs, redis_url), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(20) or ours.recv() != "listening":
            raise TimeoutError("the subscriber does not listen")

        def heard() -> Ages:
            ours.send("enough")
            ages: Ages = ours.recv()
            return ages

        yield heard
    finally:
        process.kill()
        process.join()


def _listen(pipe: Connection, redis_url: str) -> None:
    arrived: list[tuple[float, bytes]] = []
    with redis.Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as channel:
        channel.subscribe(LINE_ALLOCATED)
        channel.get_message(timeout=5)
        pipe.send("listening")
        while not pipe.poll():
            if message := channel.get_message(timeout=0.1):
                arrived.append((time.time(), message["data"]))
    ages: Ages = {}
    for moment, body in arrived:
        event = json.loads(body)
        ages[event["orderid"]] = moment, moment - datetime.fromisoformat(event["metadata"]["time"]).timestamp()
    pipe.send(ages)
