"""All that can be measured, in the order in which it is."""

from __future__ import annotations

from benchmarks.bench import Measure
from benchmarks.rows import growth, orders
from benchmarks.rows.bus import bus
from benchmarks.rows.cut import cut
from benchmarks.rows.fresh import fresh
from benchmarks.rows.http import hot, http
from benchmarks.rows.imports import imports
from benchmarks.rows.limits import limits
from benchmarks.rows.memory import memory_of_a_worker
from benchmarks.rows.overload import overload
from benchmarks.rows.relay import relay

CATALOGUE: dict[str, Measure] = {
    "http": http,
    "hot": hot,
    "bus": bus,
    "growth-lines": growth.lines,
    "growth-batches": growth.batches,
    "view": growth.view,
    "cut": cut,
    "orders": orders.orders,
    "queue": orders.queue,
    "holds": orders.holds,
    "passed-over": orders.passed_over,
    "filled": orders.filled,
    "import": imports,
    "relay": relay,
    "fresh": fresh,
    "memory": memory_of_a_worker,
    "overload": overload,
    "limits": limits,
}
