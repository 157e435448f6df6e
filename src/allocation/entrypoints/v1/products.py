"""Products: what there is of each SKU, and what is to come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from flask import Blueprint
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.entrypoints.v1.queries import AT_SKU, Page, cursor_at, link_to, place_of
from allocation.views import Incoming, Stock


@dataclass(frozen=True, slots=True)
class Products:
    """A page of SKUs, in their order; `next` is the cursor of the next page, null on the last."""

    items: list[Stock]
    next: str | None


_STOCK = Stock("RED-CHAIR", 20, 12, 8, [Incoming(date(2031, 1, 1), 100, 0, 100)])

_PAGE = Answer("A page.", Products([_STOCK], cursor_at("RED-CHAIR")))
_FOUND = Answer("The product.", _STOCK)


def add_routes(v1: Blueprint, service: Service) -> None:
    @Route(v1, "GET", "/products", Scope.READ, {200: _PAGE}, query=Page)
    def products() -> ResponseReturnValue:
        """List products. SKUs in their order, each with what is in the warehouse and what is to come."""
        page = queries.read(Page)
        after = place_of(page.cursor, AT_SKU)[0] if page.cursor else ""
        found = service.views.products(after, page.limit + 1)
        items = found[: page.limit]
        following = cursor_at(items[-1].sku) if len(found) > page.limit else None
        return answer(Products(items, following), headers=link_to(following))

    @Route(v1, "GET", "/products/<any_text:sku>", Scope.READ, {200: _FOUND})
    def product(sku: str) -> ResponseReturnValue:
        """Get a product. What is on hand, promised and available now, and what is to come by day."""
        return answer(found_or_404(service.views.product(name_in_path(sku)), f"no batch of {sku} was ever added"))
