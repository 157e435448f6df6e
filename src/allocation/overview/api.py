"""What the API says of itself."""

from __future__ import annotations

import json
import socket
import ssl
import time
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from urllib.error import HTTPError, URLError

from messaging.errors import Unavailable

_PATIENCE = 3.0
_STATES = ("ready", "degraded", "not ready")


@dataclass(frozen=True, slots=True)
class Api:
    """`status` is ready, degraded or not ready; `redis_run` names the Redis that it speaks to, where that is told."""

    status: str
    milliseconds: float
    redis_run: str | None = None

    def speaks_to_another(self, run: str | None) -> bool:
        """Than the Redis of this `run`. Where one of the two is not known, nobody can say so."""
        return bool(run and self.redis_run and run != self.redis_run)


class AnotherProgram(Unavailable):
    """What answers is no allocation service."""


def api(url: str, patience: float = _PATIENCE) -> Api:
    """Raises Unavailable when nothing answers there, or another program does."""
    begun = time.perf_counter()
    try:
        body = _ask(f"{url}/readyz", patience)
    except (OSError, HTTPException, UnicodeError) as error:  # the last one of a host that has no such name
        raise Unavailable(_why(error)) from error
    milliseconds = round((time.perf_counter() - begun) * 1000, 1)
    try:
        found = json.loads(body)
        status, redis_run = found["status"], found.get("redis_run")
    except (ValueError, LookupError, TypeError, AttributeError):
        status, redis_run = None, None
    if status not in _STATES:
        raise AnotherProgram("another program answers")
    return Api(status, milliseconds, redis_run if isinstance(redis_run, str) else None)


def _ask(url: str, patience: float) -> bytes:
    if url.startswith("unix:"):
        return _ask_by_socket(url.removeprefix("unix:").removesuffix("/readyz"), patience)
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it is sent nothing that others may not know
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    not_by_proxy, tls = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=anybody)
    open_url = urllib.request.build_opener(not_by_proxy, tls).open
    try:
        answer = open_url(url, timeout=patience)
    except HTTPError as error:  # 503 when it is not ready
        answer = error
    with answer:
        return bytes(answer.read())


def _ask_by_socket(path: str, patience: float) -> bytes:
    connection = HTTPConnection("localhost", timeout=patience)
    with closing(connection), socket.socket(socket.AF_UNIX) as connection.sock:
        connection.sock.settimeout(patience)
        connection.sock.connect(path)
        connection.request("GET", "/readyz")
        return connection.getresponse().read()


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) else error
    if isinstance(reason, TimeoutError):
        return "does not answer in time"
    text = reason.strerror if isinstance(reason, OSError) else None
    return (text or str(reason) or type(reason).__name__).lower()
