"""Who looks at the console: a cookie with a random token, what forms must prove with it, and whose key opened it.

The cookie is no key. It leads, by its hash, to a session in the database, which ends with the key, after half a day, or
when its owner signs out. Without keys it serves only to tell our own forms from those of other sites.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Protocol

from flask import Request, Response

from allocation.access.keys import Principal, Scope
from allocation.entrypoints.http.access import AccessPolicy

COOKIE = "allocation_console"

_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Sessions(Protocol):
    """Raises Unavailable."""

    def open(self, token: str, principal: str) -> None: ...
    def principal(self, token: str) -> str | None: ...
    def close(self, token: str) -> None: ...


class KeepsSessions(Protocol):
    @property
    def console_sessions(self) -> Sessions: ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """`principal` None: nobody has to sign in, or this one has not."""

    token: str
    is_new: bool
    principal: Principal | None
    is_open: bool

    def may(self, scope: Scope) -> bool:
        return self.is_open or (self.principal is not None and self.principal.may(scope))

    @property
    def name(self) -> str | None:
        return self.principal.name if self.principal else None

    @property
    def csrf_token(self) -> str:
        """For forms; nobody can make it who can't read the cookie."""
        return hmac.new(self.token.encode(), b"form", "sha256").hexdigest()

    def has_sent(self, request: Request) -> bool:
        """Whether a form came from one of our own pages."""
        site = request.headers.get("Sec-Fetch-Site", "same-origin")
        given = request.form.get("csrf_token", "")
        return site == "same-origin" and hmac.compare_digest(given.encode(), self.csrf_token.encode())


@dataclass(frozen=True, slots=True)
class Visitors:
    policy: AccessPolicy
    service: KeepsSessions

    def who_asks(self, request: Request) -> Visitor:
        """Raises Unavailable."""
        token = request.cookies.get(COOKIE, "")
        is_new = not _TOKEN.fullmatch(token)
        if is_new:
            return Visitor(_new_token(), True, None, self.policy.keys is None)
        return Visitor(token, False, self._principal(token), self.policy.keys is None)

    def sign_in(self, visitor: Visitor, principal: Principal) -> Visitor:
        """Under a new token, so that nobody else knows it. Raises Unavailable."""
        self.service.console_sessions.close(visitor.token)
        token = _new_token()
        self.service.console_sessions.open(token, principal.name)
        return Visitor(token, True, principal, False)

    def sign_out(self, visitor: Visitor) -> Visitor:
        """Raises Unavailable."""
        self.service.console_sessions.close(visitor.token)
        return Visitor(_new_token(), True, None, self.policy.keys is None)

    def _principal(self, token: str) -> Principal | None:
        if not self.policy.keys:
            return None
        name = self.service.console_sessions.principal(token)
        return self.policy.keys.principal_named(name) if name else None


def keep_cookie(response: Response, visitor: Visitor, *, is_secure: bool) -> None:
    response.set_cookie(COOKIE, visitor.token, path="/console", httponly=True, samesite="Strict", secure=is_secure)


def _new_token() -> str:
    return secrets.token_urlsafe(32)
