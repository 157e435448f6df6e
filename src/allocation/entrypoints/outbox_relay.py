"""Delivers the outbox, fills the stream in Redis again from the log, records what comes due, and removes what is too
old."""

from __future__ import annotations

from threading import Event

from allocation.bootstrap import Service
from allocation.entrypoints.clock import Clock
from allocation.entrypoints.memory import settle_memory
from allocation.entrypoints.tasks import run_until_one_ends


def run(service: Service, stop: Event) -> None:
    """Deliver effects until stopped, or until a task of it dies; raises what of."""
    settle_memory()
    run_until_one_ends(
        stop,
        relay=service.relay.run,
        clock=Clock(service).run,
        housekeeping=service.housekeeping.run,
        backfill=service.backfill.run,
    )
