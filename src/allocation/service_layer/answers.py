"""What is answered to orders and holds: plain JSON, since it is kept for whoever asks the same again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from allocation.domain import ordering
from allocation.domain.commands import PlaceOrder, PullForward
from allocation.domain.holds import Hold
from allocation.domain.lines import Allocation, PlacedLine, is_at_risk
from allocation.domain.placing import Planned
from allocation.domain.product import Product

JsonObject: TypeAlias = dict[str, Any]


def out_of_stock(cmd: PlaceOrder, short: Sequence[Planned]) -> JsonObject:
    """Each line that there is not enough for, and what others of the same order would take of its SKU."""
    shortages = [
        {
            "lineid": planned.line.lineid,
            "sku": planned.line.sku,
            "requested": planned.line.qty,
            "taken_by_this_order": planned.taken,
        }
        for planned in short
    ]
    return {"orderid": cmd.orderid, "outcome": "out_of_stock", "shortages": shortages}


def placed(cmd: PlaceOrder, lines: Sequence[PlacedLine], product: Product) -> JsonObject:
    """The whole order, and what became of the lines that were asked for. `product`: any of them."""
    product.batches.prefetch(one.batchref for line in lines for one in line.allocations)
    asked_for = {line.lineid for line in cmd.lines}
    waiting = [line.waiting for line in lines if line.lineid in asked_for]
    has = [line.promised + line.dispatched for line in lines if line.lineid in asked_for]
    outcome = "allocated" if not any(waiting) else "partly_allocated" if any(has) else "waiting"
    return {
        "orderid": cmd.orderid,
        "status": ordering.status_of_lines(lines),
        "outcome": outcome,
        "lines": [_line(line, product) for line in lines],
    }


def held(hold: Hold) -> JsonObject:
    until = hold.until.isoformat().replace("+00:00", "Z")
    return {"hold_id": hold.hold_id, "sku": hold.sku, "qty": hold.qty, "batchref": hold.batchref, "until": until}


def pulled_forward(cmd: PullForward, promises: Sequence[Allocation]) -> JsonObject:
    """Where they went: promises as they were before."""
    moved = [
        {
            "orderid": one.orderid,
            "lineid": one.lineid,
            "sku": cmd.sku,
            "qty": one.promised,
            "from": one.batchref,
            "to": cmd.ref,
            "outcome": "moved",
        }
        for one in promises
    ]
    return {"moved": moved}


def _line(line: PlacedLine, product: Product) -> JsonObject:
    etas = [product.batches[one.batchref].eta for one in line.promises]
    promises = [
        {
            "batchref": one.batchref,
            "qty": one.promised,
            "eta": eta.isoformat() if (eta := product.batches[one.batchref].eta) else None,
            "dispatched": one.dispatched,
        }
        for one in line.allocations
    ]
    return {
        "lineid": line.lineid,
        "sku": line.sku,
        "qty": line.qty,
        "promises": promises,
        "waiting": line.waiting,
        "priority": line.terms.priority,
        "needed_by": needed_by.isoformat() if (needed_by := line.terms.needed_by) else None,
        "returned": line.returned,
        "at_risk": is_at_risk(etas, line.waiting > 0, line.terms.needed_by, product.today()),
    }
