"""A small trading day with a made-up catalogue, in scenes: what is going to happen, then what did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import uuid4

from allocation.adapters.redis_channels import CHANGE_BATCH_QUANTITY
from allocation.domain.events import Allocated, Deallocated, Event
from allocation.entrypoints.command_line.event_lines import event_in, in_a_line
from allocation.entrypoints.demo.client import DemoClient
from messaging.redis.tail import Tail

_PATIENCE = 15.0


class NotAsTold(Exception):
    """The story did not come true; says what was expected, and what was found."""


@dataclass(frozen=True, slots=True)
class Scene:
    """`what` is told before it is played; `play` gives the lines to tell afterwards. Raises NotAsTold."""

    what: str
    play: Callable[[], Iterator[str]]


class TradingDay:
    """The same day each time, with names of its own, so that no other day is in its way."""

    def __init__(self, client: DemoClient, news: Tail) -> None:
        day = uuid4().hex[:4]
        self._client = client
        self._news = news
        self.lamp, self.table = f"BRASS-LAMP-{day}", f"OAK-TABLE-{day}"
        self.shelf, self.ship, self.pair = f"shelf-{day}", f"ship-{day}", f"pair-{day}"
        self.anna, self.ben, self.cleo, self.dora = (f"{name}-{day}" for name in ("anna", "ben", "cleo", "dora"))
        self._heard: dict[str, list[Event]] = {self.lamp: [], self.table: []}
        self.eta = date.today() + timedelta(days=14)  # noqa: DTZ011 - the day on the wall of the shop

    def scenes(self) -> list[Scene]:
        return [
            Scene(
                f"The shop opens. 20 lamps ({self.lamp}) stand on the shelf, 50 more come by ship on {self.eta}. "
                "Of the oak table there are two.",
                self._open,
            ),
            Scene("Anna orders 12 lamps. The shelf has them, and what is in the warehouse goes first.", self._anna),
            Scene("Ben orders 6 lamps. The shelf has 8 left.", self._ben),
            Scene(
                "Cleo orders 10 lamps. The shelf has 2 left, and an order line is never split: hers must wait for the "
                "ship.",
                self._cleo,
            ),
            Scene("Anna's browser hangs, and she presses the button again: the very same order.", self._anna_again),
            Scene(
                "At noon a crate falls from the shelf: it holds 15 now, and 18 are promised. The warehouse says so "
                "over Redis. The newest promise gives way: Ben's moves to the ship, Anna keeps hers.",
                self._crate,
            ),
            Scene("Dora orders 4 oak tables. There are two, and no ship brings more.", self._dora),
            Scene("The shop closes. Who has what?", self._close),
        ]

    def _open(self) -> Iterator[str]:
        self._client.add_batch(self.shelf, self.lamp, 20)
        self._client.add_batch(self.ship, self.lamp, 50, self.eta.isoformat())
        self._client.add_batch(self.pair, self.table, 2)
        yield from map(in_a_line, self._hear(self.lamp, 2))
        yield from map(in_a_line, self._hear(self.table, 1))

    def _anna(self) -> Iterator[str]:
        yield self._order(self.anna, 12, self.shelf)

    def _ben(self) -> Iterator[str]:
        yield self._order(self.ben, 6, self.shelf)

    def _cleo(self) -> Iterator[str]:
        yield f"{self._order(self.cleo, 10, self.ship)}, which comes on {self.eta}"

    def _anna_again(self) -> Iterator[str]:
        self._order(self.anna, 12, self.shelf)
        yield f"the answer is the same, {self.shelf}, and nothing was taken twice"

    def _crate(self) -> Iterator[str]:
        self._hear(self.lamp, 3)
        self._client.say(CHANGE_BATCH_QUANTITY, {"batchref": self.shelf, "qty": 15})
        told = self._hear(self.lamp, 3)
        yield from map(in_a_line, told)
        expected = [
            Deallocated(self.ben, self.lamp, 6, self.shelf, self.lamp),
            Allocated(self.ben, self.lamp, 6, self.ship, self.lamp),
        ]
        _require("what was told of the lamp", expected, told[1:])

    def _dora(self) -> Iterator[str]:
        _require(f"the batch for {self.dora}", None, self._client.allocate(self.dora, self.table, 4))
        yield from map(in_a_line, self._hear(self.table, 1))
        yield f"a mail to the people who buy is on its way: Out of stock for {self.table}"

    def _close(self) -> Iterator[str]:
        for orderid, expected in (
            (self.anna, [self.shelf]),
            (self.ben, [self.ship]),
            (self.cleo, [self.ship]),
            (self.dora, []),
        ):
            found = self._client.batches_of(orderid)
            _require(f"the batches of {orderid}", expected, found)
            yield f"{orderid:10} {', '.join(found) or 'nothing yet'}"

    def _order(self, orderid: str, qty: int, expected: str) -> str:
        found = self._client.allocate(orderid, self.lamp, qty)
        _require(f"the batch for {orderid}", expected, found)
        return f"{orderid} was promised {qty} from {found}"

    def _hear(self, sku: str, number: int) -> list[Event]:
        """The next so many events of a SKU, from the stream that tells them to everybody."""
        heard = self._heard[sku]
        give_up = time.monotonic() + _PATIENCE
        while len(heard) < number:
            if time.monotonic() > give_up:
                raise NotAsTold(f"{len(heard)} of {number} events of {sku} were told: is `allocation relay` running?")
            for entry in self._news.read(wait=0.5):
                event = event_in(entry.event or {})
                if event and event.sku in self._heard:
                    self._heard[event.sku].append(event)
        told, self._heard[sku] = heard[:number], heard[number:]
        return told


def _require(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise NotAsTold(f"{what}: expected {expected}, found {found}")
