"""What an import would do: decided by the real bus on the real tables' twins, temporary tables that nobody else sees.

Before each transaction the rows that it may touch are copied into them. So a dry run costs what its file asks for,
whatever else is in the database; each line sees what those before it took; memory does not grow with the file; nobody
waits for it, as they would for a long transaction that is rolled back; and the end of the session leaves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, Connection, Engine, MetaData, Table, and_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from allocation.adapters import tables
from allocation.adapters.engine import short_lived_engine
from allocation.adapters.unit_of_work import unit_of_work
from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.lines import LineKey, OrderLine
from allocation.service_layer.ports import UnitOfWork
from messaging.bus import MessageBus, Request
from messaging.retry import Retry
from messaging.sql import tables as messaging_tables
from messaging.sql.connections import connection
from messaging.unit_of_work import Outcome

_SCHEMA_OF_PRODUCTS = text(
    "SELECT nspname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE pg_class.oid = 'products'::regclass"
)
_TEMPORARY = "pg_temp"
_ONLY_TEMPORARY = f"-c search_path={_TEMPORARY}"
"""On such a session a table's bare name never means a real one, even when there is no temporary one."""

_TWINS = MetaData()
for _table in (*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables):
    _table.to_metadata(_TWINS, schema=_TEMPORARY)

_APART = 1 << 40
"""Added to a copied product's version: what the dry run promises never has the version of a promise copied later."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """A bus whose changes end with its session."""

    bus: MessageBus[UnitOfWork]
    stock: _StockCopies

    def handle_together(self, requests: Sequence[Request]) -> list[Outcome]:
        """As the bus, seen from outside. Raises Unavailable."""
        asked = [request.command for request in requests]
        self.stock.copy_for(
            skus={cmd.sku for cmd in asked if isinstance(cmd, (Allocate, CreateBatch))},
            lines={OrderLine.of(cmd).key for cmd in asked if isinstance(cmd, Allocate)},
            references={cmd.ref for cmd in asked if isinstance(cmd, CreateBatch)},
        )
        return self.bus.handle_together(requests)


@contextmanager
def dry_runs(bus: MessageBus[UnitOfWork], engine: Engine) -> Iterator[DryRun]:
    """Raises Unavailable."""
    schema = _schema_of(engine)
    url = engine.url.render_as_string(hide_password=False)
    with short_lived_engine(url, _ONLY_TEMPORARY) as private:
        with connection(private, "READ COMMITTED") as session, session.begin():
            _TWINS.create_all(session, checkfirst=False)
        once = Retry(outage_deadline=0.0)  # a session after this one would know nothing of what was decided
        yield DryRun(replace(bus, unit_of_work=unit_of_work(private), retry=once), _StockCopies(private, schema))


def _schema_of(engine: Engine) -> str:
    with connection(engine) as open_connection:
        return str(open_connection.execute(_SCHEMA_OF_PRODUCTS).scalar_one())


class _StockCopies:
    """Rows of the real tables, copied into their temporary twins."""

    def __init__(self, engine: Engine, schema: str) -> None:
        self._engine = engine
        real = MetaData()
        self._products = tables.products.to_metadata(real, schema=schema)
        self._batches = tables.batches.to_metadata(real, schema=schema)
        self._references = tables.batch_references.to_metadata(real, schema=schema)
        self._lines = tables.order_lines.to_metadata(real, schema=schema)
        self._allocations = tables.allocations.to_metadata(real, schema=schema)

    def copy_for(self, skus: set[str], lines: set[LineKey], references: set[str]) -> None:
        """What is copied already stays as it is, so a SKU's stock is that of the moment when it is first named."""
        products, batches, allocations = self._products, self._batches, self._allocations
        with connection(self._engine, "REPEATABLE READ") as session, session.begin():
            new = _copy(session, products, products.c.sku.in_(skus), version_number=products.c.version_number + _APART)
            _copy(session, batches, and_(batches.c.sku.in_(new), batches.c.is_open))
            if references:
                named = self._references.c.reference.in_(references)
                theirs = select(self._references.c.sku, self._references.c.reference).where(named)
                _copy(session, self._references, named)
                _copy(session, batches, tuple_(batches.c.sku, batches.c.reference).in_(theirs))
            if lines:
                asked = tuple_(self._lines.c.orderid, self._lines.c.lineid).in_(lines)
                theirs = select(self._lines.c.sku, self._lines.c.version).where(asked)
                _copy(session, self._lines, asked)
                _copy(session, allocations, tuple_(allocations.c.sku, allocations.c.version).in_(theirs))


def _copy(session: Connection, real: Table, which: ColumnElement[bool], **instead: ColumnElement[int]) -> Sequence[str]:
    """The SKUs of the rows that were not there yet."""
    twin = _TWINS.tables[f"{_TEMPORARY}.{real.name}"]
    columns = {column.name: instead.get(column.name, column) for column in real.c if not column.computed}
    rows = insert(twin).from_select(list(columns), select(*columns.values()).where(which))
    return session.execute(rows.on_conflict_do_nothing().returning(twin.c.sku)).scalars().all()
