"""granian with our settings: several processes, each with an event loop and threads that answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from typing import Any

from granian import loops
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer

from allocation.config import Settings
from allocation.entrypoints.http.bridge import Bridge, Loop
from allocation.entrypoints.tasks import set_by_signal

MOST_CONNECTIONS = 1000
"""Of clients to one process."""

OTHER_FILES = 100
"""Descriptors that a process needs beside those, and one for each thread."""

LONGEST_HEAD = 5.0
"""Seconds for the head of a request, and for a connection on which nothing is asked."""

LARGEST_HEAD = 32 * 1024

_DRAIN = 3
_LOOP = "allocation"


@loops.register(_LOOP)
def _new_loop() -> Loop:
    loop = Loop()
    asyncio.set_event_loop(loop)
    return loop


class Server(MPServer):
    """Replaces processes that were killed, however often. Of those that fail by themselves granian does so once in five
    seconds, and then gives up. Ends also when it is asked to many times at once."""

    def signal_handler_interrupt(self, *_: Any, **__: Any) -> None:
        self.interrupt_signal = True
        set_by_signal(self.main_loop_interrupt)

    def _respawn_workers(self, workers: Sequence[int], *arguments: Any, **further: Any) -> None:
        if "delay" not in further:  # else they are to be replaced while they are alive
            workers = sorted(self._ended().intersection(workers))  # one that was seen below is reported once more
        killed = {number for number in workers if (self.wrks[number].inner.exitcode or 0) < 0}
        super()._respawn_workers(workers, *arguments, **further)
        for number in killed:
            self.respawned_wrks.pop(number, None)
        self.interrupt_children.extend(self._ended().difference(self.interrupt_children))  # granian may forget some
        if self.interrupt_children:
            self.main_loop_interrupt.set()

    def _ended(self) -> set[int]:
        return {number for number, worker in enumerate(self.wrks) if worker.inner.exitcode is not None}


def serve(settings: Settings, threads: int, load: Callable[[], Bridge]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests in flight. `load` is called in each process; where they
    are not forked it is pickled."""
    Server(
        "allocation",
        address=settings.host,
        port=settings.port,
        uds=settings.socket,
        interface=Interfaces.RSGI,
        workers=settings.workers,
        runtime_mode=RuntimeModes.st,
        loop=_LOOP,  # type: ignore[arg-type]  # it knows its own by an enumeration, and others by name
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=int(LONGEST_HEAD * 1000), max_buffer_size=LARGEST_HEAD),
        websockets=False,
        backpressure=make_room_for_connections(threads),
        log_level=LogLevels(settings.log_level.lower()),
        log_dictconfig={"loggers": {}},  # our own handler has all of it
        ssl_cert=settings.tls_certificate,
        ssl_key=settings.tls_key,
        respawn_failed_workers=True,
        workers_kill_timeout=_DRAIN,
    ).serve(target_loader=load, wrap_loader=False)  # type: ignore[arg-type]  # a Bridge is no function


def make_room_for_connections(threads: int) -> int:
    """Raise the soft limit of open files as far as we need; how many connections there are descriptors for then."""
    others = OTHER_FILES + threads
    soft, hard = (sys.maxsize if limit == RLIM_INFINITY else limit for limit in getrlimit(RLIMIT_NOFILE))
    enough = min(MOST_CONNECTIONS + others, hard)
    if soft < enough:
        setrlimit(RLIMIT_NOFILE, (enough, getrlimit(RLIMIT_NOFILE)[1]))
    return max(min(MOST_CONNECTIONS, max(soft, enough) - others), 2 * threads)
