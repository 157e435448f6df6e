"""One app for many tests, since to make one takes as long as ten of them: it asks the service of whoever calls."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, cast

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.local import LocalProxy
from werkzeug.test import TestResponse

from allocation.bootstrap import Service
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED, AccessPolicy


@dataclass(frozen=True)
class _Wiring:
    service: object
    policy: AccessPolicy


_WIRING: ContextVar[_Wiring] = ContextVar("_WIRING")


def client_of(service: object, policy: AccessPolicy = UNRESTRICTED) -> FlaskClient:
    """As `create_app(service, policy).test_client()`, for tests that neither change the app nor count what it logs."""
    wiring = _Wiring(service, policy)
    _WIRING.set(wiring)  # what is looked up while the app is made
    app = _app(asks_for_keys=policy.keys is not None)
    client = _Client(app, app.response_class)
    client.wiring = wiring
    return client


class _Client(FlaskClient):
    wiring: _Wiring

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        _WIRING.set(self.wiring)
        return super().open(*args, **kwargs)


class _Later:
    """A part of the service that is found when it is called."""

    def __init__(self, *path: str) -> None:
        self._path = path

    def __getattr__(self, name: str) -> _Later:
        return _Later(*self._path, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return reduce(getattr, self._path, cast(Any, _WIRING.get().service))(*args, **kwargs)


@cache
def _app(*, asks_for_keys: bool) -> Flask:
    """An app asks at its making whether there are keys."""
    return create_app(cast(Service, _Later()), cast(AccessPolicy, LocalProxy(lambda: _WIRING.get().policy)))
