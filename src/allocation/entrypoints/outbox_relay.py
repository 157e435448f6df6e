"""Tells the outside what happened, from the outbox; tells Redis again what it has forgotten; and tidies up."""

from __future__ import annotations

from threading import Event

from allocation.bootstrap import Service
from allocation.entrypoints.memory import settle_memory
from allocation.entrypoints.tasks import run_until_one_ends


def run(service: Service, stop: Event) -> None:
    """Carry out effects until told to stop, or until a task of it dies; raises what of."""
    settle_memory()
    run_until_one_ends(stop, relay=service.relay.run, housekeeping=service.housekeeping.run, refill=service.refill.run)
