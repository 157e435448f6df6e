"""A second service, written against docs/events.md alone: what is out of stock it buys, and asks for the line again.

It reads the stream `allocation.events` and answers on `allocation.commands`. All that it sends is made of the event, so
an event that comes twice leads to the same two commands under the same ids, which have no second effect. It needs no
memory of its own but its place in the stream, and that Redis keeps.

Run it beside `make run`, with REDIS_URL as in docs/integration.md: `.venv/bin/python examples/buying.py`. It begins
with all that was out of stock as far as the stream goes back. Then ask for more of a SKU than there is.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

import redis

EVENTS, COMMANDS, PARKED = "allocation.events", "allocation.commands", "buying.parked"
GROUP = "buying"
OUT_OF_STOCK = "allocation.out_of_stock"
DELIVERY = timedelta(days=7)

log = logging.getLogger("buying")

Message = dict[str, Any]


class Buying:
    """One reader of the group; when it dies, whoever comes next under its name begins with what it had not finished."""

    def __init__(self, client: redis.Redis, name: str = "reader") -> None:
        self._client = client
        self._name = name
        try:
            client.xgroup_create(EVENTS, GROUP, id="0", mkstream=True)
        except redis.ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise

    def handle_what_is_there(self) -> int:
        """Until there is nothing new; returns how many events were read."""
        read = self._handle("0")  # what was read before, and not finished
        while count := self._handle(">"):
            read += count
        return read

    def _handle(self, position: str) -> int:
        found: Any = self._client.xreadgroup(GROUP, self._name, {EVENTS: position}, count=100)
        entries = found[0][1] if found else []
        for entry, fields in entries:
            with self._client.pipeline(transaction=True) as pipeline:
                self._answer(fields[b"event"] if fields else b"", pipeline)
                pipeline.xack(EVENTS, GROUP, entry)
                pipeline.execute()
        return len(entries)

    def _answer(self, body: bytes, pipeline: redis.Redis) -> None:
        if not body:  # trimmed before we came to it
            return
        event = json.loads(body)
        kind, _, version = event["type"].rpartition(".")
        if kind != OUT_OF_STOCK:
            return
        if version != "v1":  # of a release that we do not know yet: never taken for what it is not, and not lost
            pipeline.xadd(PARKED, {"event": body})
            return
        for command in commands_for(event):
            pipeline.xadd(COMMANDS, {"command": json.dumps(command)})
        log.info("buys %(qty)s of %(sku)s for order %(orderid)s", event["data"])


def commands_for(event: Message) -> Iterator[Message]:
    """Buy what the line lacks, then ask for the line again; in this order, which the stream keeps."""
    line = event["data"]
    batch = {
        "ref": f"bought-{event['id']}",
        "sku": line["sku"],
        "qty": line["qty"],
        "eta": _delivery(event).isoformat(),
    }
    yield _command("create_batch", event, batch)
    yield _command("allocate", event, line)


def _delivery(event: Message) -> date:
    return (datetime.fromisoformat(event["time"]) + DELIVERY).date()


def _command(name: str, event: Message, data: Message) -> Message:
    return {
        "specversion": "1.0",
        "id": f"{name}-{event['id']}",
        "source": "/buying",
        "type": f"allocation.{name}.v1",
        "correlationid": event["correlationid"],
        "data": data,
    }


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        log.info("reads %s, until Ctrl-C", EVENTS)
        while True:
            with suppress(redis.ConnectionError):
                Buying(client).handle_what_is_there()  # a new one: Redis may have lost the group with its data
            time.sleep(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
