"""The same statements run by pgbench, which has no Python in it: what the database alone can do."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from benchmarks.world import Database
from embedded.binaries import postgres_programs

SCRIPT = r"""
\set sku random(0, 999)
\set order random(1, 1000000000000)
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT products.version_number + 1 AS version, batches.reference AS batchref, products.sku AS name,
       'order-' || :order AS orderid, batches.eta, batches.purchased_quantity, batches.allocated_quantity, batches.added
FROM products LEFT JOIN batches ON batches.sku = products.sku AND batches.is_open
WHERE products.sku = 'SKU-' || lpad(:sku::text, 4, '0') \gset
SELECT allocations.batchref
FROM order_lines JOIN allocations ON allocations.sku = order_lines.sku AND allocations.version = order_lines.version
WHERE order_lines.orderid = :orderid AND order_lines.lineid = :name;
UPDATE products SET version_number = :version WHERE sku = :name;
UPDATE batches SET allocated_quantity = allocated_quantity + 1 WHERE sku = :name AND reference = :batchref;
INSERT INTO order_lines (orderid, lineid, sku, version) VALUES (:orderid, :name, :name, :version);
INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref)
VALUES (:name, :version, :orderid, :name, 1, :batchref);
INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) VALUES (:orderid, :name, :name, 1, :batchref);
INSERT INTO event_log (stream, version, id, type, data, correlation_id, causation_id, source, time, effects)
VALUES (:name, :version, gen_random_uuid(), 'allocated.v1',
        jsonb_build_object('orderid', :orderid::text, 'sku', :name::text, 'qty', 1, 'batchref', :batchref::text,
                           'lineid', :name::text),
        gen_random_uuid()::text, gen_random_uuid()::text, 'http', clock_timestamp(), '["publish_event"]');
INSERT INTO outbox (effect, stream, version) VALUES ('publish_event', :name, :version);
COMMIT;
"""


def program() -> Path | None:
    """Where pgbench is, if it came with the embedded PostgreSQL."""
    found = postgres_programs() / "pgbench"
    return found if found.exists() else None


def run(database: Database, clients: int, seconds: int) -> float:
    """Transactions a second."""
    script = database.home / "allocation.pgbench"
    script.write_text(SCRIPT)
    options = ["-n", "-M", "prepared", "--max-tries=1000", "-c", str(clients), "-j", "2", "-T", str(seconds)]
    said = subprocess.run(
        [str(program()), *options, "-f", str(script), database.url],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds + 60,
    )
    rate = re.search(r"^tps = ([\d.]+)", said.stdout, re.MULTILINE)
    if said.returncode or not rate:
        raise RuntimeError(f"pgbench failed: {said.stderr[-500:]}")
    return float(rate[1])
