"""Batches of purchased stock: created, changed, and listed in the order of allocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from urllib.parse import quote

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import ChangeBatchQuantity, CreateBatch
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.entrypoints.v1.queries import AT_BATCH, OfBatches, cursor_at, link_to, place_of
from allocation.service_layer.messages import stock
from allocation.views import Batch


@dataclass(frozen=True, slots=True)
class Batches:
    """A page of the batches of a SKU, in the order of allocation; `next` is the cursor of the next page, null on the
    last."""

    items: list[Batch]
    next: str | None


_BATCH = Batch("batch-1", "RED-CHAIR", 20, 0, 20, date(2031, 1, 1))
_PAGE = Answer("A page.", Batches([_BATCH], cursor_at("RED-CHAIR", "batch-1")))
_FOUND = Answer("The batch.", _BATCH)
_CREATED = Answer("Created.", _BATCH, has_location=True)
_EXISTED = Answer("The identical batch was created before; as it is now.", _BATCH, has_location=True)
_CHANGED = Answer("The batch as it is now.", Batch("batch-1", "RED-CHAIR", 10, 0, 10, date(2031, 1, 1)))


def add_routes(v1: Blueprint, service: Service) -> None:
    def stored(ref: str) -> Batch:
        return found_or_404(service.views.batch(ref), f"no batch has the reference {ref}")

    @Route(v1, "GET", "/batches", Scope.READ, {200: _PAGE}, query=OfBatches)
    def batches() -> ResponseReturnValue:
        """List the batches of a product. In the order of allocation: warehouse first, then the earliest delivery.
        Exhausted batches are among them."""
        asked = queries.read(OfBatches)
        sku, after = place_of(asked.cursor, AT_BATCH) if asked.cursor else (asked.sku, None)
        if sku != asked.sku:
            raise queries.unknown_cursor()
        found = service.views.batches(asked.sku, after, asked.limit + 1)
        items = found[: asked.limit]
        following = cursor_at(sku, items[-1].ref) if len(found) > asked.limit else None
        return answer(Batches(items, following), headers=link_to(following))

    @Route(v1, "GET", "/batches/<any_text:ref>", Scope.READ, {200: _FOUND})
    def batch(ref: str) -> ResponseReturnValue:
        """Get a batch. What it holds, and how much of it is promised."""
        return answer(stored(name_in_path(ref)))

    @Route(v1, "POST", "/batches", Scope.OPERATE, {201: _CREATED, 200: _EXISTED}, takes=stock.CREATE_BATCH)
    def create_batch(command: CreateBatch, message_id: str | None) -> ResponseReturnValue:
        """Create a batch. Purchased stock; without an `eta` it is in the warehouse already."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        outcome.unwrap()
        location = {"Location": f"/v1/batches/{quote(command.ref, safe='')}"}
        if outcome.changed:  # so it is as it was ordered, and need not be read
            return answer(Batch(command.ref, command.sku, command.qty, 0, command.qty, command.eta), 201, location)
        return answer(stored(command.ref), 200, location)

    @Route(
        v1,
        "PATCH",
        "/batches/<any_text:ref>",
        Scope.OPERATE,
        {200: _CHANGED},
        takes=stock.CHANGE_BATCH_QUANTITY,
        if_match=True,
    )
    def change_batch(command: ChangeBatchQuantity, message_id: str | None) -> ResponseReturnValue:
        """Change the quantity of a batch. If that is less than is promised from it, its newest promises are broken and
        placed again from other batches, in the same transaction."""
        service.bus.handle(command, g.metadata, message_id)
        return answer(stored(command.ref))
