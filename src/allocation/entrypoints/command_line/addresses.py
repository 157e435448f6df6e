"""Where things are, as a person may be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import parse_qsl, urlencode, urlsplit

from allocation.config import Settings
from embedded.files import try_lock, write_locked

_WRITTEN_DOWN = "api.json"
_ADDRESSES = ("http://", "https://", "unix:")
_SECRETS = {"password", "sslpassword"}


def api_url(settings: Settings) -> str:
    """Where the API is for somebody on this machine."""
    if settings.socket:
        return f"unix:{settings.socket}"
    scheme = "https" if settings.tls_certificate else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


@contextmanager
def written_down(settings: Settings) -> Iterator[None]:
    """Where the API is, under ALLOCATION_HOME, for as long as this lasts and for whoever may read there."""
    with ExitStack() as stack:
        with suppress(OSError):  # such as a home that can't be written to: then PORT has to be set for the others too
            settings.home.mkdir(parents=True, exist_ok=True)
            stack.enter_context(write_locked(settings.home / _WRITTEN_DOWN, json.dumps({"api": api_url(settings)})))
        yield


def running_api_url(settings: Settings) -> str:
    """Where the API of `allocation run` is, if one runs in this home; else where the settings have it."""
    try:
        with (settings.home / _WRITTEN_DOWN).open(encoding="utf-8") as file:
            if not try_lock(file, shared=True):  # so its writer lives
                address = json.load(file)["api"]
                if isinstance(address, str) and address.startswith(_ADDRESSES):
                    return address
    except (OSError, ValueError, LookupError, TypeError):  # not there, or somebody else has written in it
        pass
    return api_url(settings)


def without_password(url: str) -> str:
    """The URL as it may be shown, wherever in it the password was."""
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    harmless = [(name, value) for name, value in parse_qsl(parts.query) if name.lower() not in _SECRETS]
    return parts._replace(
        scheme=parts.scheme.partition("+psycopg")[0],
        netloc=f"{user}@{hosts}" if user else hosts,
        query=urlencode(harmless, safe=":/,"),
    ).geturl()
