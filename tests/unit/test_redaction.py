"""What is secret is left out of what people read."""

from __future__ import annotations

import getpass
import io
import logging

import pytest

from allocation.entrypoints.command_line.os_user import login_name, user_principal
from allocation.observability.redaction import RedactingHandler, without_secrets

KEY = "alk_3f9c2b71a04e_" + "8c" * 32


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (
            f"Invalid HTTP Header: 'Authorization Bearer {KEY}'",
            "Invalid HTTP Header: 'Authorization Bearer alk_3f9c2b71a04e_***'",
        ),
        (f"{KEY[:40]} is cut", "alk_3f9c2b71a04e_*** is cut"),
        ("postgresql+psycopg://u:p%40ss@db:5432/stock", "postgresql+psycopg://u:***@db:5432/stock"),
        ("redis://:p@ss@host:6379 said a@b", "redis://:***@host:6379 said a@b"),
        ('{"url":"redis://:p@ss@host","mail":"a@b"}', '{"url":"redis://:***@host","mail":"a@b"}'),
        ("redis://:secret@a, rediss://u:other@b", "redis://:***@a, rediss://u:***@b"),
        ("smtp://joe@x.org:secret@m:25 of joe@x.org", "smtp://joe@x.org:***@m:25 of joe@x.org"),
        ("postgresql://db/x?user=u&password=secret&sslmode=a", "postgresql://db/x?user=u&password=***&sslmode=a"),
        ("'redis://a/0?password=secret' and", "'redis://a/0?password=***' and"),
        ("http://localhost:5005/x and SKU alk_no", "http://localhost:5005/x and SKU alk_no"),
    ],
)
def test_keys_and_passwords_in_urls_are_left_out_and_nothing_else(text: str, left: str) -> None:
    assert without_secrets(text) == left


def test_they_are_left_out_of_tracebacks_too() -> None:
    stream = io.StringIO()
    log = logging.Logger("a logger of its own")
    log.addHandler(RedactingHandler(stream))
    url = "://:".join(["redis", "secret@here"])
    try:
        int(f"{url} {KEY}")
    except ValueError:
        log.exception("went wrong with %s", KEY)

    assert "ValueError: invalid literal" in stream.getvalue()
    assert "redis://:***@here alk_3f9c2b71a04e_***" in stream.getvalue()
    assert KEY not in stream.getvalue()


def test_whoever_has_no_login_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 10001")

    monkeypatch.setattr(getpass, "getuser", unknown)
    monkeypatch.setattr("os.getuid", lambda: 10001)

    assert login_name() == "uid 10001"
    assert user_principal() == "user:uid 10001"
