"""Access control: which scope a request needs, by the declaration of its route, and who is refused."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from flask import Flask, g, request
from werkzeug.exceptions import Forbidden, HTTPException, TooManyRequests, Unauthorized

from allocation.access.key_cache import ApiKeyCache
from allocation.access.keys import Principal, Scope, beginning, id_of
from allocation.access.rates import Rates
from allocation.config import Settings
from allocation.entrypoints.http.routes import PUBLIC, Declarations, NotDeclared, declarations

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Without keys everybody may do everything. `rate` is the limit of keys that have none of their own."""

    keys: ApiKeyCache | None = None
    rate: int | None = None
    rates: Rates = field(default_factory=Rates)

    def authorize(
        self, declared: Declarations, endpoint: str | None, method: str, authorization: str | None
    ) -> Principal | None:
        """Who sends the request, None on a public route. `endpoint` None: there is no such route, which only those who
        have a key are told.

        Raises an HTTPException for those who may not, and Unavailable.
        """
        scope = None
        if endpoint:
            try:
                scope = declared.scope(endpoint, method)
            except NotDeclared:
                raise Forbidden("this route is closed: it does not declare which scope it needs") from None
            if scope is PUBLIC:
                return None
        principal = self._principal(authorization)
        rate = self.rate_of(principal)
        if rate and (seconds := self.rates.wait(principal.name, rate)):
            what = f"the key {principal.name!r} may send {rate} requests a second; wait, and send more slowly"
            raise TooManyRequests(what, retry_after=math.ceil(seconds))
        if scope and not principal.may(scope):
            raise _InsufficientScope(principal, scope)
        return principal

    def rate_of(self, principal: Principal) -> int | None:
        """Requests a second; None: unlimited."""
        return principal.rate or self.rate

    def public_view(self, readiness: dict[str, str]) -> dict[str, str]:
        """Where keys are required, without which servers, users and revisions there are."""
        return {"status": readiness["status"]} if self.keys else readiness

    def _principal(self, authorization: str | None) -> Principal:
        kind, _, key = (authorization or "").partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise _InvalidKey("an API key is required; send it as `Authorization: Bearer KEY`")
        assert self.keys, "authorizes only where keys are required"
        principal = self.keys.principal_of(key.strip())
        if principal is None:
            which = f" {beginning(key_id)}" if (key_id := id_of(key.strip())) else ""
            raise _InvalidKey(f"unknown or revoked API key{which}", error="invalid_token")
        return principal


UNRESTRICTED = AccessPolicy()


def access_policy(settings: Settings, keys: ApiKeyCache) -> AccessPolicy:
    return AccessPolicy(keys, settings.rate_of_keys) if settings.asks_for_keys else UNRESTRICTED


def add_access_control(app: Flask, policy: AccessPolicy) -> None:
    """After what makes `g.metadata`. From then on `g.metadata.principal` says who sends the request."""
    if not policy.keys:
        return
    logged = Rates()  # once a second, however many are refused
    declared = declarations(app)

    @app.before_request
    def authorize() -> None:
        endpoint = request.url_rule.endpoint if request.url_rule else None
        try:
            g.principal = policy.authorize(declared, endpoint, request.method, request.headers.get("Authorization"))
        except HTTPException as refusal:
            if not logged.wait("refused", per_second=1):
                why = {"path": request.path, "address": request.remote_addr, "error": refusal.description}
                log.warning("request rejected", extra=why)
            raise
        if g.principal:
            g.metadata = replace(g.metadata, principal=str(g.principal))


class _Challenge(HTTPException):
    """With the header by which RFC 6750 says what is wrong with a key."""

    challenge = ""

    def get_headers(self, *arguments: Any, **further: Any) -> list[tuple[str, str]]:
        return [*super().get_headers(*arguments, **further), ("WWW-Authenticate", f"Bearer {self.challenge}")]


class _InvalidKey(_Challenge, Unauthorized):
    def __init__(self, description: str, error: Literal["", "invalid_token"] = "") -> None:
        super().__init__(description)
        self.challenge = _parameters(("realm", "allocation"), ("error", error))


class _InsufficientScope(_Challenge, Forbidden):
    def __init__(self, principal: Principal, scope: Scope) -> None:
        has = ", ".join(sorted(principal.scopes))
        super().__init__(f"the key {principal.name!r} lacks the scope {scope.value!r}, which this needs; it has {has}")
        self.challenge = _parameters(("realm", "allocation"), ("error", "insufficient_scope"), ("scope", scope))


def _parameters(*pairs: Iterable[str]) -> str:
    return ", ".join(f'{name}="{value}"' for name, value in pairs if value)
