"""A small trading day with a made-up catalogue, in scenes: what is going to happen, then what did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from uuid import uuid4

from allocation.adapters.redis_channels import CHANGE_BATCH_QUANTITY
from allocation.domain.events import (
    Allocated,
    Backordered,
    BatchCreated,
    BatchQuantityChanged,
    BatchReceived,
    Deallocated,
    Dispatched,
    Event,
    HoldEnded,
    LineReleased,
    OrderCancelled,
    Quarantined,
    Returned,
)
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

    def __init__(self, client: DemoClient, events: Tail) -> None:
        day = uuid4().hex[:4]
        self._client = client
        self._events = events
        self.lamp, self.table = f"BRASS-LAMP-{day}", f"OAK-TABLE-{day}"
        self.shelf, self.ship, self.rest, self.pair = f"shelf-{day}", f"ship-{day}", f"rest-{day}", f"pair-{day}"
        self.five = f"five-{day}"
        names = "anna", "ben", "cleo", "dora", "emil", "fay"
        self.anna, self.ben, self.cleo, self.dora, self.emil, self.fay = (f"{name}-{day}" for name in names)
        self._heard: dict[str, list[Event]] = {self.lamp: [], self.table: []}
        self.eta = date.today() + timedelta(days=14)  # noqa: DTZ011 - the day on the wall of the shop
        self.eta_of_rest = self.eta + timedelta(days=14)

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
                "Cleo orders 10 lamps. The shelf has 2 left, and she has not said that parts will do: all of hers "
                "comes by ship.",
                self._cleo,
            ),
            Scene("Anna's browser hangs, and she presses the button again: the very same order.", self._anna_again),
            Scene(
                "At noon a crate falls from the shelf: it holds 15 now, and 18 are promised. The warehouse says so "
                "over Redis. The newest promise gives way: Ben's moves to the ship, Anna keeps hers.",
                self._crate,
            ),
            Scene(
                "The ship is early, and short: 40 of the 50 lamps, 3 of them damaged. They go into quarantine; the "
                f"other 10 will come on {self.eta_of_rest}, as a batch of their own.",
                self._ship_comes_in,
            ),
            Scene("Ben cancels his order. What was promised to him is for others again.", self._ben_cancels),
            Scene("Anna's 12 lamps leave in a parcel. They were promised, so what is available stays.", self._parcel),
            Scene("Anna sends 2 of them back, as new: they stand on the shelf again, for sale.", self._return),
            Scene("Dora orders 4 oak tables. There are two, and no ship brings more.", self._dora),
            Scene(
                "Emil orders 3 lamps and 3 oak tables, in one order that may wait. The shelf has the lamps; he waits "
                "for the tables.",
                self._emil,
            ),
            Scene(
                "The joiner brings 5 tables. Emil's 3 are his in the same moment. Dora's order did not say that it "
                "waits, so nothing is kept for her.",
                self._tables_come,
            ),
            Scene(
                "Fay pays for 2 oak tables. While she does her cart holds them, for ten minutes at most; then they are "
                "hers.",
                self._fay,
            ),
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
        expected: list[Event] = [
            BatchQuantityChanged(self.shelf, self.lamp, 15),
            Deallocated(self.ben, self.lamp, 6, self.shelf, self.lamp),
            Allocated(self.ben, self.lamp, 6, self.ship, self.lamp),
        ]
        yield from self._hear_of(self.lamp, expected)

    def _ship_comes_in(self) -> Iterator[str]:
        rest = {"ref": self.rest, "eta": self.eta_of_rest.isoformat()}
        self._client.post("batches", self.ship, "receipts", receipt_id="receipt-1", received=40, damaged=3, rest=rest)
        expected: list[Event] = [
            BatchCreated(self.rest, self.lamp, 10, self.eta_of_rest),
            BatchReceived(self.ship, self.lamp, "receipt-1", 40, 3, 40, None, self.rest),
            Quarantined(self.ship, self.lamp, 3, "damaged", "receipt-1", "receipt"),
        ]
        yield from self._hear_of(self.lamp, expected)

    def _ben_cancels(self) -> Iterator[str]:
        self._client.post("orders", self.ben, "cancellation")
        given_back = LineReleased(self.ben, self.lamp, 6, self.ship, self.lamp, "cancelled")
        yield from self._hear_of(self.lamp, [OrderCancelled(self.ben, self.lamp), given_back])

    def _parcel(self) -> Iterator[str]:
        lines = [{"lineid": self.lamp, "qty": 12}]
        self._client.post("orders", self.anna, "dispatches", dispatch_id="parcel-1", lines=lines)
        yield from self._hear_of(self.lamp, [Dispatched(self.anna, self.lamp, 12, self.shelf, self.lamp, "parcel-1")])

    def _return(self) -> Iterator[str]:
        about = {"return_id": "return-1", "lineid": self.lamp, "qty": 2, "condition": "good"}
        self._client.post("orders", self.anna, "returns", **about)
        yield from self._hear_of(
            self.lamp, [Returned(self.anna, self.lamp, 2, self.shelf, self.lamp, "return-1", "good")]
        )

    def _dora(self) -> Iterator[str]:
        _require(f"the batch for {self.dora}", None, self._client.allocate(self.dora, self.table, 4))
        yield from map(in_a_line, self._hear(self.table, 1))
        yield f"a mail to the people who buy is on its way: Out of stock for {self.table}"

    def _emil(self) -> Iterator[str]:
        lines = [{"sku": self.lamp, "qty": 3}, {"sku": self.table, "qty": 3}]
        self._client.post("orders", orderid=self.emil, mode="backorder", lines=lines)
        lamps = Allocated(self.emil, self.lamp, 3, self.shelf, self.lamp, waits=True)
        yield from self._hear_of(self.lamp, [lamps])
        yield from self._hear_of(self.table, [Backordered(self.emil, self.table, 3, self.table, since=3)])

    def _tables_come(self) -> Iterator[str]:
        self._client.add_batch(self.five, self.table, 5)
        tables = Allocated(self.emil, self.table, 3, self.five, self.table, waits=True, waited=True)
        yield from self._hear_of(self.table, [BatchCreated(self.five, self.table, 5, None), tables])

    def _fay(self) -> Iterator[str]:
        cart = f"cart-of-{self.fay}"
        self._client.post("holds", hold_id=cart, sku=self.table, qty=2, seconds=600)
        yield from map(in_a_line, self._hear(self.table, 1))
        self._client.post("holds", cart, "confirmation", sku=self.table, qty=2, orderid=self.fay)
        expected: list[Event] = [
            HoldEnded(cart, self.table, 2, self.pair, "confirmed"),
            Allocated(self.fay, self.table, 2, self.pair, self.table, waits=True),
        ]
        yield from self._hear_of(self.table, expected)

    def _close(self) -> Iterator[str]:
        for orderid, expected in (
            (self.anna, [self.shelf]),
            (self.ben, []),
            (self.cleo, [self.ship]),
            (self.dora, []),
            (self.emil, [self.shelf, self.five]),
            (self.fay, [self.pair]),
        ):
            found = self._client.batches_of(orderid)
            _require(f"the batches of {orderid}", expected, found)
            yield f"{orderid:10} {', '.join(found) or 'nothing'}"

    def _order(self, orderid: str, qty: int, expected: str) -> str:
        found = self._client.allocate(orderid, self.lamp, qty)
        _require(f"the batch for {orderid}", expected, found)
        return f"{orderid} was promised {qty} from {found}"

    def _hear_of(self, sku: str, expected: list[Event]) -> Iterator[str]:
        published = self._hear(sku, len(expected))
        yield from map(in_a_line, published)
        _require(f"what was published of {sku}", expected, published)

    def _hear(self, sku: str, number: int) -> list[Event]:
        """The next so many events of a SKU, from the stream on which they are published."""
        heard = self._heard[sku]
        give_up = time.monotonic() + _PATIENCE
        while len(heard) < number:
            if time.monotonic() > give_up:
                raise NotAsTold(
                    f"{len(heard)} of {number} events of {sku} were published: is `allocation relay` running?"
                )
            for entry in self._events.read(wait=0.5):
                event = event_in(entry.event or {})
                if event and event.sku in self._heard:
                    self._heard[event.sku].append(event)
        told, self._heard[sku] = heard[:number], heard[number:]
        return told


def _require(what: str, expected: object, found: object) -> None:
    if found != expected:
        raise NotAsTold(f"{what}: expected {expected}, found {found}")
