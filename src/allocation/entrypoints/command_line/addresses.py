"""Where things are, as a person may be told."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from allocation.config import Settings

_SECRETS = {"password", "sslpassword"}


def api_url(settings: Settings) -> str:
    """Where the API is for somebody on this machine."""
    if settings.socket:
        return f"unix:{settings.socket}"
    scheme = "https" if settings.tls_certificate else "http"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - compared, not bound
    return f"{scheme}://[{host}]:{settings.port}" if ":" in host else f"{scheme}://{host}:{settings.port}"


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
