"""Tasks of one process at work side by side: all of them, or none, so that who watches the process sees a task die."""

from __future__ import annotations

import logging
from _thread import start_new_thread
from collections.abc import Callable
from threading import Event, Thread

log = logging.getLogger(__name__)


def run_until_one_ends(stop: Event, **tasks: Callable[[Event], object]) -> None:
    """Run each task in a thread of its name until one ends, for whatever reason; the others are then stopped.

    Raises what the first died of, once all have ended.
    """
    died_of: list[BaseException] = []

    def run(name: str, task: Callable[[Event], object]) -> None:
        try:
            task(stop)
        except BaseException as death:  # noqa: BLE001 - raised below
            log.critical("a task has died, and takes the others along", extra={"task": name, "error": repr(death)})
            died_of.append(death)
        finally:
            stop.set()

    threads = [Thread(target=run, args=task, name=task[0], daemon=True) for task in tasks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if died_of:
        raise died_of[0]


def set_by_signal(event: Event) -> None:
    """For the handler of a signal. `Event.set` takes a lock, which whoever was interrupted may have, as when it waits
    for the event or handles another signal; so a thread sets it that nobody waits for, begun without any lock."""
    start_new_thread(event.set, ())
