"""Tasks of one process at work side by side: all of them, or none, so that who watches the process sees a task die."""

from __future__ import annotations

import logging
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
            stop.set()  # not by the main thread: while it has the event's lock a signal's handler could wait for that

    threads = [Thread(target=run, args=task, name=task[0], daemon=True) for task in tasks.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if died_of:
        raise died_of[0]
