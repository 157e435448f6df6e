"""What settings say of mails: the server that takes them, and the addresses on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

_PORTS = {"smtp": 25, "smtps": 465}
_UNREADABLE = (
    "can't be read; expected smtp://host:port or smtps://host:port, with user:password@ before the host if it wants "
    "a login, and %2F for / and the like in both"
)

_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=.{{1,64}}@.{{1,189}}\Z){_WORD}(\.{_WORD})*@{_LABEL}(\.{_LABEL})*")


@dataclass(frozen=True, slots=True)
class MailServer:
    """`tls_at_once`: not only when the server offers it. Without a `user` nobody logs in."""

    host: str
    port: int
    tls_at_once: bool = False
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def at(cls, url: str) -> MailServer:
        """From `smtp://` or `smtps://`. Raises ValueError, which never repeats the password."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ValueError(_UNREADABLE) from None
        beyond = parts.path.strip("/") or parts.query or parts.fragment or " " in url or not url.isprintable()
        if parts.scheme not in _PORTS or not host or port == 0 or beyond:
            raise ValueError(_UNREADABLE)
        user, password = unquote(parts.username or ""), unquote(parts.password or "")
        if bool(user) != bool(password) or ("@" in parts.netloc and not user):
            raise ValueError("has half a login; expected user:password@, or neither of them")
        if not f"{user}{password}".isascii() or not f"{user}{password}".isprintable():
            raise ValueError("has a user or a password with other than printable ASCII characters")
        return cls(host, port or _PORTS[parts.scheme], parts.scheme == "smtps", user, password)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def mail_address(text: str) -> str:
    """The one address that the text is, without a name beside it. Raises ValueError."""
    if not _ADDRESS.fullmatch(text):
        raise ValueError("expected one mail address, such as stock@made.com")
    return text
