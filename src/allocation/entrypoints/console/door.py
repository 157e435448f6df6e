"""The console's own door: who is let in, and how people sign in and out."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

from flask import Blueprint, g, jsonify, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from werkzeug.exceptions import Forbidden

from allocation.adapters.keys import Scope
from allocation.entrypoints.console.visitors import Visitor, Visitors

_WITHOUT_SIGNING_IN = ("console.static", "console.sign_in", "console.sign_in_form", "console.sign_out")


def add_door(console: Blueprint, visitors: Visitors) -> None:
    @console.before_request
    def let_in() -> ResponseReturnValue | None:
        if request.endpoint == "console.static":
            return None
        g.visitor = visitors.who_asks(request)
        if request.method == "POST" and not visitor().has_sent(request):
            raise Forbidden("The form is out of date, or did not come from this console. Go back, reload, try again.")
        if request.endpoint in _WITHOUT_SIGNING_IN or visitor().may(Scope.READ):
            return None
        if visitor().principal:
            raise _lacks(Scope.READ)
        if request.endpoint in ("console.events", "console.events_as_they_come"):
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
        keys = visitors.doors.keys
        if keys is None:
            return redirect(url_for("console.stock"), HTTPStatus.SEE_OTHER)
        principal = keys.principal_of(request.form.get("key", "").strip())
        if principal is None or not principal.may(Scope.READ):
            wrong = "This key lacks the scope read." if principal else "Nobody knows this key, or it was revoked."
            page = render_template("console/sign_in.html", next=_next(request.form), wrong=wrong)
            return page, HTTPStatus.FORBIDDEN if principal else HTTPStatus.UNAUTHORIZED
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


def _lacks(scope: Scope) -> Forbidden:
    return Forbidden(f"Your key lacks the scope {scope.value}, which this page needs.")


def _next(given: Any) -> str:
    """Where to go after signing in: a page of the console, and of no other site."""
    wanted: str = given.get("next", "")
    return wanted if re.fullmatch(r"/console([/?][!-~]*)?", wanted) else url_for("console.stock")
