"""Tells the outside what happened, from the outbox; and tidies up behind."""

from __future__ import annotations

from threading import Event, Thread

from allocation.bootstrap import Service


def run(service: Service, stop: Event) -> None:
    """Carry out effects until told to stop."""
    housekeeping = Thread(target=service.housekeeping.run, args=(stop,), name="housekeeping")
    housekeeping.start()
    service.relay.run(stop)
    housekeeping.join()
