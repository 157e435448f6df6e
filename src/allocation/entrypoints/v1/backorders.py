"""Backorders: the lines that wait, in their turn."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from flask import Blueprint
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer
from allocation.entrypoints.v1.queries import OfBackorders, end_of_sku, link_to
from allocation.views import Backorder, BackorderCursor


@dataclass(frozen=True, slots=True)
class Backorders:
    """A page of lines that wait, by SKU and in their turn; `next` is the cursor of the next page, null on the last."""

    items: list[Backorder]
    next: str | None


_MOMENT = datetime(2030, 12, 1, 12, tzinfo=UTC)
_BACKORDER = Backorder("order-1", "line-2", "TABLE", 8, 1, 8, 3, _MOMENT, 5, date(2031, 1, 15), None)
_QUEUE = Answer("A page.", Backorders([_BACKORDER], cursor_at(BackorderCursor("TABLE", -5, 7))))


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/backorders", Scope.READ, {200: _QUEUE}, query=OfBackorders)
    def backorders() -> ResponseReturnValue:
        """List the lines that wait. By SKU, in the turn in which they are served, each with what it needs of one batch
        and the largest room there is."""
        query = queries.read(OfBackorders)
        items, end = service.views.backorders(query.sku, end_of_sku(query, cursors.BACKORDER), query.limit)
        following = cursor_at(end)
        return answer(Backorders(items, following), headers=link_to(following))
