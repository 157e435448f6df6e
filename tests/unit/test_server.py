"""How the server is set up, and what it says of those who do not speak HTTP."""

from __future__ import annotations

import json
from resource import RLIM_INFINITY
from unittest.mock import Mock

import pytest
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser

from allocation.config import Settings
from allocation.entrypoints.http import server

KEY = "alk_3f9c2b71a04e_" + "8c" * 32


def test_what_strangers_send_is_cut_in_the_log_and_said_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    logger = server.Logger(Config())
    for _ in range(100):
        logger.warning("Invalid request from ip=127.0.0.1: Invalid HTTP request line: " + r"\x01" * 8000)

    said = [record.getMessage() for record in caplog.records]
    assert len(said) in (1, 2)
    assert said[0].startswith("Invalid request from ip=127.0.0.1: ")
    assert len(said[0]) < 320


def test_whatever_else_is_said_is_said(caplog: pytest.LogCaptureFixture) -> None:
    logger = server.Logger(Config())
    for _ in range(3):
        logger.warning("Worker %s was sent %s", 5, "SIGKILL! " * 100)

    assert caplog.messages == [f"Worker 5 was sent {'SIGKILL! ' * 100}"] * 3


@pytest.mark.parametrize("before", range(280, 301, 4))
def test_a_secret_is_left_out_before_what_was_said_is_cut(before: int, caplog: pytest.LogCaptureFixture) -> None:
    about = "Invalid request from ip=127.0.0.1: "
    url = "redis://:planted-secret@host"
    server.Logger(Config()).warning(about + "x" * (before - len(about) - 20) + url)

    assert "planted" not in caplog.text


def test_a_refusal_is_json_and_does_not_repeat_all_that_was_sent() -> None:
    client = Mock()

    server._write_json_error(client, 501, "Bad Request", f"Unsupported transfer coding {KEY} {'x' * 40_000}")

    [sent] = client.sendall.call_args[0]
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: application/json\r\n")
    message = json.loads(body)["message"]
    assert message.startswith("Bad Request: Unsupported transfer coding alk_3f9c2b71a04e_*** xxx")
    assert len(message) < 320


def test_no_client_says_where_the_service_is_mounted() -> None:
    """From this machine gunicorn would believe it, and answer 500."""
    cfg = server.ApiServer(Settings.from_env({}), threads=8).cfg
    request = b"GET /healthz HTTP/1.1\r\nSCRIPT_NAME: /x\r\nPATH_INFO: /y\r\n\r\n"
    message = next(RequestParser(cfg, iter([request]), ("127.0.0.1", 1)))

    _, environ = wsgi.create(message, Mock(), ("127.0.0.1", 1), ("127.0.0.1", 2), cfg)

    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/healthz")


def test_files_are_sent_in_the_way_that_waits_for_nobody() -> None:
    cfg = server.ApiServer(Settings.from_env({}), threads=8).cfg

    assert not wsgi.Response(Mock(), Mock(), cfg).can_sendfile()


@pytest.mark.parametrize(
    ("soft", "hard", "fits", "raised"),
    [
        (1024, 4096, 1000, 1108),
        (20_000, 20_000, 1000, None),
        (1024, 1024, 916, None),
        (256, 512, 404, 512),
        (256, RLIM_INFINITY, 1000, 1108),
        (RLIM_INFINITY, RLIM_INFINITY, 1000, None),
        (64, 64, 16, None),
    ],
)
def test_there_are_file_descriptors_for_all_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fits: int, raised: int | None
) -> None:
    limits = Mock()
    monkeypatch.setattr(server, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(server, "setrlimit", limits)

    assert server.make_room_for_connections(threads=8) == fits
    assert [call.args[1] for call in limits.call_args_list] == ([(raised, hard)] if raised else [])
