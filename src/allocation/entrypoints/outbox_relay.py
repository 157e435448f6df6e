"""Tells the outside what happened, from the outbox; tells Redis again what it has forgotten; and tidies up."""

from __future__ import annotations

from threading import Event, Thread

from allocation.bootstrap import Service
from allocation.entrypoints.memory import settle_memory


def run(service: Service, stop: Event) -> None:
    """Carry out effects until told to stop."""
    settle_memory()
    beside = [
        Thread(target=service.housekeeping.run, args=(stop,), name="housekeeping"),
        Thread(target=service.refill.run, args=(stop,), name="refill"),
    ]
    for thread in beside:
        thread.start()
    service.relay.run(stop)
    for thread in beside:
        thread.join()
