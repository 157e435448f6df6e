"""Which request is being worked on right now, for whoever writes a log line about it.

A thread says so while it is at a message. Of commands that share a transaction each is named while its own handler and
policies run; what concerns all of them is done in the name of the request whose thread carries them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

WORKING_ON: ContextVar[str] = ContextVar("correlation_id", default="")
"""The correlation id, empty when this thread is at nobody's request."""


@contextmanager
def working_on(correlation_id: str) -> Iterator[None]:
    token = WORKING_ON.set(correlation_id)
    try:
        yield
    finally:
        WORKING_ON.reset(token)
