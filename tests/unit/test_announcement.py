"""Where everything is, told once it is ready, whatever answers until then."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import pytest

from allocation.config import Settings
from allocation.entrypoints.command_line.announcement import Announcement


@pytest.mark.parametrize("said", [b"{}", b"[]", b"null", b'"ready"', b'{"state": "ready"}', b"<html>", b"\xff", b""])
def test_another_program_that_answers_on_the_port_is_not_ready_and_ends_nothing(
    said: bytes, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    announcement = Announcement(replace(Settings(), redis_url="redis://127.0.0.1:1/0"), "")
    monkeypatch.setattr(announcement, "_open", lambda _url, timeout: BytesIO(said))

    announcement.make_when_ready()

    assert capsys.readouterr().out == ""
