"""Questions answered from read models, around the domain model, each in one statement."""

from __future__ import annotations

from sqlalchemy import Engine, select

from allocation.adapters.tables import allocations_view
from messaging.retry import Retry
from messaging.sql.connections import connection


class Views:
    def __init__(self, engine: Engine, retry: Retry) -> None:
        self._engine = engine
        self._retry = retry

    def allocations(self, orderid: str) -> list[dict[str, str]]:
        """The allocated lines of an order, in the order in which they were allocated. Raises Unavailable."""
        query = (
            select(allocations_view.c.sku, allocations_view.c.batchref)
            .where(allocations_view.c.orderid == orderid)
            .order_by(allocations_view.c.position)
        )

        def ask() -> list[dict[str, str]]:
            with connection(self._engine) as open_connection:
                return [{"sku": row.sku, "batchref": row.batchref} for row in open_connection.execute(query)]

        return self._retry(ask)
