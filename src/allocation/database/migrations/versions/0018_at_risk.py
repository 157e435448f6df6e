"""Promises know the day by which they are needed, so that those at risk are found. Those that were made before get it
from their lines, a thousand lines at a time; a process of the release before that runs beside this one leaves it
empty."""

from __future__ import annotations

from alembic import op
from sqlalchemy import text

from allocation.database.migrations.online import create_index, drop_index, fill

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_ALLOCATIONS = (
    "What a line has of a batch: promised (qty), and dispatched. Each under the version of its product that made the "
    "promise: the higher the newer."
)
_OF_LINES = text("""
    WITH lines AS MATERIALIZED (
        SELECT orderid, lineid, sku, version || others AS versions, CAST(terms ->> 'needed_by' AS date) AS day
        FROM order_lines WHERE (orderid, lineid) > (:orderid, :lineid) ORDER BY orderid, lineid LIMIT :most
    ), filled AS (
        UPDATE allocations SET needed_by = day
        FROM (SELECT sku, unnest(versions) AS version, day FROM lines WHERE day IS NOT NULL) AS promise
        WHERE allocations.sku = promise.sku AND allocations.version = promise.version AND needed_by IS NULL
    )
    SELECT orderid, lineid FROM lines ORDER BY orderid DESC, lineid DESC LIMIT 1
""")


def upgrade() -> None:
    op.execute("ALTER TABLE allocations ADD COLUMN IF NOT EXISTS needed_by date")
    op.create_table_comment("allocations", f"{_ALLOCATIONS} priority and needed_by are the line's.")
    fill(_OF_LINES, {"orderid": "", "lineid": ""})
    of_promise = ["batchref", "needed_by", "version"]
    create_index("allocations_by_day", "allocations", of_promise, where="qty > 0 AND needed_by IS NOT NULL")
    has_a_day = "needed_by IS NOT NULL"
    create_index("backorders_by_day", "backorders", ["needed_by", "sku", "since"], where=has_a_day)
    create_index("backorders_of_sku_by_day", "backorders", ["sku", "needed_by", "since"], where=has_a_day)
    create_index("batches_expected", "batches", ["sku", "eta"], where="eta IS NOT NULL")


def downgrade() -> None:
    drop_index("batches_expected", "batches")
    drop_index("backorders_of_sku_by_day", "backorders")
    drop_index("backorders_by_day", "backorders")
    drop_index("allocations_by_day", "allocations")
    op.create_table_comment("allocations", _ALLOCATIONS)
    op.drop_column("allocations", "needed_by")
