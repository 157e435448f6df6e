"""Tells the outside what happened, from the outbox."""

from __future__ import annotations

from threading import Event

from allocation.bootstrap import Service


def run(service: Service, stop: Event) -> None:
    """Carry out effects until told to stop."""
    service.relay.run(stop)
