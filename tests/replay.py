"""A product, made of its history."""

from __future__ import annotations

from collections.abc import Iterable

from allocation.domain.events import Event
from allocation.domain.product import Product


def replay(sku: str, history: Iterable[Event]) -> Product:
    """As its whole history left it."""
    product = Product(sku)
    for event in history:
        product.apply(event)
    product.freed_batches.clear()
    return product


def state_of(product: Product) -> tuple[object, ...]:
    """All that two products in memory have in common if they are in the same state."""
    counts = product.version_number, product.waiting, product.hold_count
    return product.sku, counts, product.batches.of(product.sku), product.lines, product.documents, product.holds
