"""Where the API is, for whoever looks for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from allocation.config import Settings
from allocation.entrypoints.command_line.addresses import running_api_url, written_down


def test_the_port_that_run_really_has_is_known_for_as_long_as_it_runs(tmp_path: Path) -> None:
    ours = Settings(home=tmp_path / "var")
    assert running_api_url(ours) == "http://127.0.0.1:5005"

    with written_down(Settings(home=tmp_path / "var", port=5099)):
        assert running_api_url(ours) == "http://127.0.0.1:5099"
        assert running_api_url(Settings(home=tmp_path / "elsewhere")) == "http://127.0.0.1:5005"

    assert running_api_url(ours) == "http://127.0.0.1:5005", "whatever one that was killed has left behind"


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b"5", b"\xff", b'{"api": 5}', b'{"api": "junk"}'])
def test_what_somebody_else_has_written_in_the_file_is_no_address(tmp_path: Path, said: bytes) -> None:
    with written_down(Settings(home=tmp_path, port=5099)):
        (tmp_path / "api.json").write_bytes(said)

        assert running_api_url(Settings(home=tmp_path)) == "http://127.0.0.1:5005"


def test_a_home_that_can_not_be_written_to_keeps_nothing_from_running(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with written_down(Settings(home=tmp_path / "file", port=5099)):
        assert running_api_url(Settings(home=tmp_path / "file")) == "http://127.0.0.1:5005"


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_it_is_told_as_somebody_on_this_machine_may_reach_it(tmp_path: Path, host: str) -> None:
    with written_down(Settings(home=tmp_path, host=host, port=5099)):
        assert running_api_url(Settings(home=tmp_path)) == "http://127.0.0.1:5099"
