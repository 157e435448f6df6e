"""Lines at risk: those whose day will be missed, by how much and by which batch."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from flask import Blueprint
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer
from allocation.entrypoints.v1.queries import OfAtRisk, end_of, link_to
from allocation.views import AtRisk, AtRiskCursor


@dataclass(frozen=True, slots=True)
class LinesAtRisk:
    """A page of lines at risk, in the order of the days missed; `next` is the cursor of the next page, null on the
    last."""

    items: list[AtRisk]
    next: str | None


_LATE = AtRisk("order-1", "line-2", "TABLE", 8, "by-ship", date(2031, 2, 1), date(2031, 1, 15), 17)
_PAGE = Answer("A page.", LinesAtRisk([_LATE], cursor_at(AtRiskCursor(date(2031, 1, 15), "TABLE", 17))))


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/at-risk", Scope.READ, {200: _PAGE}, query=OfAtRisk)
    def at_risk() -> ResponseReturnValue:
        """List the lines at risk. Those whose day will be missed by a batch that is expected, or is past while they
        wait, in the order of the days missed, then of the SKUs."""
        query = queries.read(OfAtRisk)
        items, end = service.views.at_risk(query.sku, end_of(query, cursors.AT_RISK), query.limit)
        following = cursor_at(end)
        return answer(LinesAtRisk(items, following), headers=link_to(following))
