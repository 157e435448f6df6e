"""A task of the service at work in a thread, as it is in its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread

_PATIENCE = 20.0


@contextmanager
def at_work(task: Callable[[Event], object]) -> Iterator[Event]:
    """Until the end, or until the event is set."""
    stop = Event()
    thread = Thread(target=task, args=(stop,))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join(_PATIENCE)
    assert not thread.is_alive(), "it did not stop when told to"
