"""Answers to those who send commands over a stream and say to which stream they listen."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase

import redis

from messaging.redis.client import redis_faults
from messaging.redis.entry_ids import oldest_kept
from messaging.redis.event_stream import FIELD

log = logging.getLogger(__name__)

PATTERN = r"[a-z0-9_.-]{1,80}\.replies"
"""What a stream of replies may be called: never what has another use."""

_FITS = re.compile(PATTERN)

_OF_THE_STREAM = ("ERR", "WRONGTYPE", "NOPERM")
"""Codes with which an error begins that is about this stream. Others are about the server, which may be full, a replica
or without one, for a while."""


class Replies:
    """`allowed` are the names that may be asked for, or patterns with `*`. An answer stays for `keep`."""

    def __init__(
        self,
        client: redis.Redis,
        allowed: Sequence[str],
        keep: timedelta,
        given_up: Callable[[], object] = lambda: None,
    ) -> None:
        self._client = client
        self._allowed = allowed
        self._keep = keep
        self.given_up = given_up

    def send(self, stream: bytes, body: bytes) -> None:
        """One that can't be sent, since Redis or we don't allow it, is logged and given up. Raises Unavailable."""
        name = stream.decode(errors="backslashreplace")
        if not _FITS.fullmatch(name) or not any(fnmatchcase(name, one) for one in self._allowed):
            self._give_up(name, "nobody may be answered there; see REPLY_STREAMS")
            return
        with redis_faults():
            try:
                oldest = oldest_kept(self._client, self._keep)
                with self._client.pipeline(transaction=False) as pipeline:
                    pipeline.xtrim(name, minid=str(oldest), approximate=True)  # else there may be no room
                    pipeline.xadd(name, {FIELD: body})
                    pipeline.expire(name, self._keep)  # of a stream that nobody is answered on any more nothing stays
                    _, added, _ = pipeline.execute(raise_on_error=False)
                if isinstance(added, redis.RedisError):
                    raise added
            except redis.ResponseError as error:
                if (error.status_code or str(error).partition(" ")[0]) not in _OF_THE_STREAM:
                    raise
                self._give_up(name, str(error))

    def _give_up(self, name: str, reason: str) -> None:
        log.warning("no reply was sent", extra={"stream": name[:100], "error": reason})
        self.given_up()
