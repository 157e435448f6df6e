"""Access to the console: who may see it, and how people sign in and out."""

from __future__ import annotations

import math
import re
from http import HTTPStatus
from typing import Any

from flask import Blueprint, g, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden, TooManyRequests

from allocation.access.keys import Principal, Scope
from allocation.entrypoints.console.visitors import Visitor, Visitors
from allocation.entrypoints.http.access import AccessPolicy
from allocation.entrypoints.http.routes import declare_public

_WITHOUT_A_VISITOR = ("console.static", "console.stock_by_another_name")
_WITHOUT_SIGNING_IN = ("console.sign_in", "console.sign_in_form", "console.sign_out")
_ASKED_BY_PAGES = ("console.events", "console.events_as_they_come")

_FEED_RATE = 2
"""Requests a second for the live events of a key, beside its own rate. A page asks for them by itself: for what it
missed and then at once for a stream, or else every three seconds."""


def add_sign_in(console: Blueprint, visitors: Visitors) -> None:
    declare_public(console)  # as far as API keys go

    @console.before_request
    def authorize() -> ResponseReturnValue | None:
        if request.endpoint in _WITHOUT_A_VISITOR:
            return None
        g.visitor = visitors.who_asks(request)
        if principal := visitor().principal:
            _count(principal, visitors.policy)
        if request.method == "POST" and not visitor().has_sent(request):
            raise Forbidden("The form is out of date, or did not come from this console. Go back, reload, try again.")
        if request.endpoint in _WITHOUT_SIGNING_IN or visitor().may(Scope.READ):
            return None
        if visitor().principal:
            raise _lacks(Scope.READ)
        if request.endpoint in _ASKED_BY_PAGES:
            return jsonify(message="sign in first"), HTTPStatus.UNAUTHORIZED
        wanted = request.full_path.rstrip("?") if request.method == "GET" else None
        return redirect(url_for("console.sign_in_form", next=wanted), HTTPStatus.SEE_OTHER)

    @console.get("/sign-in")
    def sign_in_form() -> ResponseReturnValue:
        if visitor().may(Scope.READ):
            return redirect(_next(request.args), HTTPStatus.SEE_OTHER)
        return render_template("console/sign_in.html", next=_next(request.args))

    @console.post("/sign-in")
    def sign_in() -> ResponseReturnValue:
        keys = visitors.policy.keys
        if keys is None:
            return redirect(url_for("console.stock"), HTTPStatus.SEE_OTHER)
        principal = keys.principal_of(request.form.get("key", "").strip())
        if principal is None or not principal.may(Scope.READ):
            wrong = "This key lacks the scope read." if principal else "Unknown or revoked API key."
            page = render_template("console/sign_in.html", next=_next(request.form), wrong=wrong)
            return page, HTTPStatus.FORBIDDEN if principal else HTTPStatus.UNAUTHORIZED
        _count(principal, visitors.policy)
        g.visitor = visitors.sign_in(visitor(), principal)
        return redirect(_next(request.form), HTTPStatus.SEE_OTHER)

    @console.post("/sign-out")
    def sign_out() -> ResponseReturnValue:
        g.visitor = visitors.sign_out(visitor())
        return redirect(url_for("console.stock"), HTTPStatus.SEE_OTHER)


def visitor() -> Visitor:
    visitor: Visitor = g.visitor
    return visitor


def require(scope: Scope) -> None:
    if not visitor().may(scope):
        raise _lacks(scope)


def _count(principal: Principal, policy: AccessPolicy) -> None:
    """With what the key asks of the API. Raises TooManyRequests."""
    rate, name = policy.rate_of(principal), principal.name
    if rate is None:
        return
    if request.endpoint in _ASKED_BY_PAGES:
        rate, name = _FEED_RATE, f"{name}: live events"  # a name that no key has
    if seconds := policy.rates.wait(name, rate):
        what = f"Your key may send {rate} requests a second. Wait a moment, then try again."
        raise TooManyRequests(what, retry_after=math.ceil(seconds))


def _lacks(scope: Scope) -> Forbidden:
    return Forbidden(f"Your key lacks the scope {scope.value}, which this page needs.")


def _next(given: Any) -> str:
    """Where to go after signing in: a page of the console, and of no other site."""
    wanted: str = given.get("next", "")
    return wanted if re.fullmatch(r"/console([/?][!-~]*)?", wanted) else url_for("console.stock")
