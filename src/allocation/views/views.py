"""Queries, in one place: each on a connection of its own, and tried again when that was lost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from allocation.domain.lines import SINGLE_LINE, LineTerms
from allocation.domain.names import forms
from allocation.domain.ordering import Status
from allocation.views import (
    at_risk,
    availability,
    backorders,
    batches,
    due_dates,
    holds,
    moves,
    orders,
    products,
    stock_history,
    stock_list,
)
from allocation.views.at_risk import AtRisk, AtRiskCursor
from allocation.views.availability import Availability
from allocation.views.backorders import Backorder, BackorderCursor
from allocation.views.batches import Batch, BatchCursor
from allocation.views.due_dates import Backlog, Due
from allocation.views.holds import Hold, HoldCursor
from allocation.views.moves import Moved
from allocation.views.orders import Order, OrderCursor, OrderSummary
from allocation.views.pages import Page
from allocation.views.products import ProductCursor, Room, Stock
from allocation.views.stock_history import History
from allocation.views.stock_list import StockPage
from messaging.sql.backlog import COUNTED
from messaging.sql.connections import Database, connection

A = TypeVar("A")
E = TypeVar("E")
P = ParamSpec("P")


class Views:
    """All of it raises Unavailable."""

    def __init__(self, database: Database, time_zone: str = "UTC") -> None:
        self._database = database
        self._ask = database.run
        self.time_zone = time_zone

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        """The allocated lines of an order, in the order in which they were allocated."""
        return self._ask_of(orders.allocations, orderid)

    def order(self, orderid: str) -> Order | None:
        return self._ask_of(orders.order, orderid, self.time_zone)

    def orders(
        self,
        after: OrderCursor | None,
        most: int,
        status: Status | None = None,
        sku: str | None = None,
        since: datetime | None = None,
    ) -> Page[OrderSummary, OrderCursor]:
        """The next in the order of their ids."""
        return self._ask(orders.listed, after, most, status, sku, since)

    def backorders(self, sku: str | None, after: BackorderCursor | None, most: int) -> Page[Backorder, BackorderCursor]:
        """Those who wait, by SKU and turn, behind that place."""
        return self._page_of(
            sku, after, lambda form: self._ask(backorders.backorders, form, after, most, self.time_zone)
        )

    def backorders_of(self, orderid: str) -> list[Backorder]:
        return self._ask_of(backorders.backorders_of, orderid, self.time_zone)

    def at_risk(self, sku: str | None, after: AtRiskCursor | None, most: int) -> Page[AtRisk, AtRiskCursor]:
        """Lines whose day will be missed, in the order of these days, behind that place."""
        return self._ask(at_risk.at_risk, sku, after, most, self.time_zone)

    def hold(self, hold_id: str, sku: str) -> Hold | None:
        return self._ask_of(lambda open_connection, name: holds.hold(open_connection, hold_id, name), sku)

    def holds(self, sku: str | None, after: HoldCursor | None, most: int) -> Page[Hold, HoldCursor]:
        """The next by SKU and id, of those that have not run out."""
        return self._page_of(sku, after, lambda form: self._ask(holds.holds, form, after, most))

    def due(self, most: int, others_than: Sequence[str] = ()) -> list[Due]:
        """What has come due by the clock and is not recorded, the first `most`, of `others_than` these SKUs."""
        return self._ask(due_dates.due, most, self.time_zone, others_than)

    def due_dates(self) -> Backlog:
        """How late that is recorded, and how many batches are overdue, of the first `COUNTED`."""
        return self._ask(due_dates.backlog, COUNTED, self.time_zone)

    def waiting_lines(self) -> int:
        """How many lines wait, of the first `COUNTED`."""
        return self._ask(backorders.waiting_lines, COUNTED)

    def rooms(self, skus: Collection[str]) -> dict[str, Room]:
        """By SKU, as it is stored."""
        return self._ask(products.rooms, list(skus), self.time_zone)

    def moved(self, places: Mapping[str, int] | None) -> list[Moved]:
        """Which lines lost a place by what is recorded there, and where they went."""
        return moves.moved(self._ask, places)

    def batch(self, reference: str) -> Batch | None:
        return self._ask_of(batches.batch, reference, self.time_zone)

    def batches(
        self, sku: str | None, after: BatchCursor | None, most: int, *, overdue: bool = False, quarantined: bool = False
    ) -> Page[Batch, BatchCursor]:
        """The next of a SKU in the order of allocation, or of all by their references. With `overdue` those that are,
        the longest overdue first; with `quarantined` those that have goods there."""
        only = {"overdue": overdue, "quarantined": quarantined}
        return self._page_of(
            sku, after, lambda form: self._ask(batches.batches, form, after, most, self.time_zone, **only)
        )

    def products(self, after: ProductCursor | None, most: int) -> Page[Stock, ProductCursor]:
        """The next SKUs in order."""
        return self._ask(products.products, after, most, self.time_zone)

    def product(self, sku: str) -> Stock | None:
        return self._ask_of(products.product, sku, self.time_zone)

    def availability(
        self, skus: Sequence[str], qty: int | None = None, terms: LineTerms = SINGLE_LINE
    ) -> list[Availability | None]:
        """Of each, in this order, all at one moment; None for one that was never purchased. `earliest` is that of a
        line of `qty` with these terms."""
        named = [forms(sku) for sku in skus]
        found = self._ask(
            availability.availability, [form for each in named for form in each], qty, terms, self.time_zone
        )
        return [next((found[form] for form in each if form in found), None) for each in named]

    def room(self, sku: str) -> Room:
        usual, *older = forms(sku)
        rooms = self.rooms([usual, *older])
        return next((rooms[name] for name in (usual, *older) if rooms[name].purchased), rooms[usual])

    def stock_list(self, part: str, after: str, most: int) -> StockPage:
        """The next SKUs that have this part in their name, in either case for ASCII letters."""
        pages = [self._ask(stock_list.page, form, after, most, self.time_zone) for form in forms(part)]
        return next((page for page in pages if page.shelves), pages[0])

    def stock_history(self, sku: str, before: int | None, most: int) -> History | None:
        """The events before the version `before`, or the newest; None for a SKU that was never purchased."""

        def ask() -> History | None:
            with connection(self._database.engine, "REPEATABLE READ") as open_connection, open_connection.begin():
                histories = (
                    stock_history.history(open_connection, name, before, most, self.time_zone) for name in forms(sku)
                )
                return next(filter(None, histories), None)

        return self._database.retry(ask)

    def _ask_of(
        self, question: Callable[Concatenate[Connection, str, P], A], name: str, *about: P.args, **further: P.kwargs
    ) -> A:
        """Of what has this name, in the form in which names are kept, or else in that in which it came."""
        usual, *older = forms(name)
        answer = self._ask(question, usual, *about, **further)
        for form in older:
            answer = answer or self._ask(question, form, *about, **further)
        return answer

    def _page_of(
        self,
        sku: str | None,
        after: BatchCursor | BackorderCursor | HoldCursor | None,
        ask: Callable[[str | None], Page[A, E]],
    ) -> Page[A, E]:
        """Of a SKU, or of all; it goes on in the form of its name in which it began."""
        in_forms = [None] if sku is None else [after.sku] if after else forms(sku)
        pages = [ask(form) for form in in_forms]
        return next((page for page in pages if page[0]), pages[0])
