"""Batches of purchased stock: created, changed, and listed."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import date
from typing import TypeAlias
from urllib.parse import quote

from flask import Blueprint, g
from flask.typing import ResponseReturnValue

from allocation.access.keys import Scope
from allocation.bootstrap import Service
from allocation.domain.commands import (
    ChangeBatchQuantity,
    ChangeEta,
    CountBatch,
    CreateBatch,
    Quarantine,
    ReceiveBatch,
    ReleaseQuarantine,
    WriteOff,
)
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.cursors import cursor_at
from allocation.entrypoints.http.input import name_in_path
from allocation.entrypoints.http.routes import Answer, Route
from allocation.entrypoints.v1 import queries
from allocation.entrypoints.v1.answers import answer, found_or_404
from allocation.entrypoints.v1.queries import OfBatches, end_of_sku, link_to
from allocation.service_layer.messages import quarantine, stock
from allocation.views import Batch, BatchCursor, Moved

CommandAboutBatch: TypeAlias = (
    ChangeBatchQuantity | ReceiveBatch | CountBatch | Quarantine | ReleaseQuarantine | WriteOff
)


@dataclass(frozen=True, slots=True)
class ChangedBatch(Batch):
    """The batch as it is now, and where the lines went that lost their place in it."""

    moved: list[Moved] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Batches:
    """A page of batches; `next` is the cursor of the next page, null on the last."""

    items: list[Batch]
    next: str | None


_BATCH = Batch("batch-1", "RED-CHAIR", 20, 0, 20, date(2031, 1, 1), state="expected")
_PAGE = Answer("A page.", Batches([_BATCH], cursor_at(BatchCursor("batch-1", sku="RED-CHAIR", added=1))))
_FOUND = Answer("The batch.", _BATCH)
_CREATED = Answer("Created.", _BATCH, has_location=True)
_EXISTED = Answer("The identical batch was created before; as it is now.", _BATCH, has_location=True)
_MOVED: Moved = {
    "orderid": "order-2",
    "lineid": "line-1",
    "sku": "RED-CHAIR",
    "qty": 12,
    "from": "batch-1",
    "to": "batch-2",
    "outcome": "moved",
}
_AFTER = ChangedBatch("batch-1", "RED-CHAIR", 60, 50, 5, None, quarantined=5, moved=[_MOVED])
_CHANGED = Answer("The batch as it is now, and the lines that lost their place in it.", _AFTER)
_RECORDED = Answer("Recorded: the batch as it is now, and the lines that lost their place in it.", _AFTER)
_KNOWN = Answer("It was recorded before: the batch as it is now, and the lines that lost their place then.", _AFTER)
_EXPECTED = Answer(
    "The batch as it is now.", Batch("batch-1", "RED-CHAIR", 20, 0, 20, date(2031, 2, 1), state="expected")
)


def _end_of_page_before(query: OfBatches) -> BatchCursor | None:
    """Raises BadParameter."""
    end = end_of_sku(query, cursors.BATCH)
    if end:
        by_place = query.sku is not None and not query.overdue
        has = end.sku is not None, end.added is not None, by_place or end.eta is not None
        if has != (query.sku is not None, by_place, by_place or query.overdue):
            raise queries.unknown_cursor()
    return end


def add_routes(v1: Blueprint, service: Service) -> None:
    def stored(ref: str) -> Batch:
        return found_or_404(service.views.batch(ref), f"no batch has the reference {ref}")

    def changed(command: CommandAboutBatch, message_id: str | None, when_new: int = 200) -> ResponseReturnValue:
        outcome = service.bus.outcome(command, g.metadata, message_id)
        moved = service.views.moved(outcome.unwrap())
        now = stored(command.ref)
        known = {one.name: getattr(now, one.name) for one in fields(now)}
        return answer(ChangedBatch(**known, moved=moved), when_new if outcome.changed else 200)

    @Route(v1, "GET", "/batches", Scope.READ, {200: _PAGE}, query=OfBatches)
    def batches() -> ResponseReturnValue:
        """List batches. Those of a SKU in the order of allocation: warehouse first, then the earliest delivery; those
        that are overdue by how long they are; others by their references. Exhausted batches are among them."""
        query = queries.read(OfBatches)
        only = {"overdue": query.overdue, "quarantined": query.quarantined}
        items, end = service.views.batches(query.sku, _end_of_page_before(query), query.limit, **only)
        following = cursor_at(end)
        return answer(Batches(items, following), headers=link_to(following))

    @Route(v1, "GET", "/batches/<any_text:ref>", Scope.READ, {200: _FOUND})
    def batch(ref: str) -> ResponseReturnValue:
        """Get a batch. What it holds, and how much of it is promised."""
        return answer(stored(name_in_path(ref)))

    @Route(v1, "POST", "/batches", Scope.OPERATE, {201: _CREATED, 200: _EXISTED}, takes=stock.CREATE_BATCH)
    def create_batch(command: CreateBatch, message_id: str | None) -> ResponseReturnValue:
        """Create a batch. Purchased stock; without an `eta` it is in the warehouse already. Lines that wait for the SKU
        are served from it, in their turn, in the same transaction."""
        outcome = service.bus.outcome(command, g.metadata, message_id)
        some_wait = outcome.unwrap()
        location = {"Location": f"/v1/batches/{quote(command.ref, safe='')}"}
        if outcome.changed and not (some_wait or command.eta or command.expires):  # so it need not be read
            created = Batch(command.ref, command.sku, command.qty, 0, command.qty, None, location=command.location)
            return answer(created, 201, location)
        return answer(stored(command.ref), 201 if outcome.changed else 200, location)

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
        """Change the quantity of a batch. If that is less than is promised from it, promises are broken and placed
        again from other batches, in the same transaction: those of the lowest priority first, of them the newest."""
        return changed(command, message_id)

    @Route(
        v1,
        "PUT",
        "/batches/<any_text:ref>/eta",
        Scope.OPERATE,
        {200: _EXPECTED},
        takes=stock.CHANGE_ETA,
        if_match=True,
    )
    def change_eta(command: ChangeEta, message_id: str | None) -> ResponseReturnValue:
        """Change the ETA of a batch. What it has promised stays so."""
        service.bus.handle(command, g.metadata, message_id)
        return answer(stored(command.ref))

    recorded = {201: _RECORDED, 200: _KNOWN}

    @Route(v1, "POST", "/batches/<any_text:ref>/receipts", Scope.OPERATE, recorded, takes=stock.RECEIVE_BATCH)
    def receive_batch(command: ReceiveBatch, message_id: str | None) -> ResponseReturnValue:
        """Receive a batch. What is damaged goes into quarantine, what is missing comes as the `rest` or never, and what
        can't be kept of its promises by that is placed again. Of a batch that is in the warehouse it is more."""
        return changed(command, message_id, when_new=201)

    @Route(v1, "POST", "/batches/<any_text:ref>/counts", Scope.OPERATE, recorded, takes=stock.COUNT_BATCH)
    def count_batch(command: CountBatch, message_id: str | None) -> ResponseReturnValue:
        """Count a batch. What was found on the shelf is believed, unless something left or came since it began."""
        return changed(command, message_id, when_new=201)

    @Route(v1, "POST", "/batches/<any_text:ref>/quarantine", Scope.OPERATE, recorded, takes=quarantine.QUARANTINE)
    def quarantine_goods(command: Quarantine, message_id: str | None) -> ResponseReturnValue:
        """Quarantine goods of a batch. They are here and not for sale; what can't be kept of its promises by that is
        placed again."""
        return changed(command, message_id, when_new=201)

    @Route(
        v1,
        "POST",
        "/batches/<any_text:ref>/quarantine-releases",
        Scope.OPERATE,
        recorded,
        takes=quarantine.RELEASE_QUARANTINE,
    )
    def release_quarantine(command: ReleaseQuarantine, message_id: str | None) -> ResponseReturnValue:
        """Release goods from quarantine. They are for sale again."""
        return changed(command, message_id, when_new=201)

    @Route(v1, "POST", "/batches/<any_text:ref>/write-offs", Scope.OPERATE, recorded, takes=quarantine.WRITE_OFF)
    def write_off(command: WriteOff, message_id: str | None) -> ResponseReturnValue:
        """Write goods off that are in quarantine. They are gone for good."""
        return changed(command, message_id, when_new=201)
