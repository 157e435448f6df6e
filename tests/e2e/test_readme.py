"""What the README and the API's page have one paste is typed into a shell, and must print what they show."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from tests.e2e.service import Service
from tests.e2e.waiting import eventually
from tests.unit.test_docs import DOCS, session

DONE = "-- done --"

CURL = f"""#!{sys.executable}
'''As much of curl as the README needs, for machines that have none.'''
import argparse, sys, urllib.request
parser = argparse.ArgumentParser()
parser.add_argument("-s", action="store_true")
parser.add_argument("-S", action="store_true")
parser.add_argument("-I", action="store_true")
parser.add_argument("-X")
parser.add_argument("-H", action="append", default=[])
parser.add_argument("-d")
parser.add_argument("url")
asked = parser.parse_args()
headers = dict(header.split(": ") for header in asked.H)
method = "HEAD" if asked.I else asked.X
request = urllib.request.Request("http://" + asked.url, asked.d and asked.d.encode(), headers, method=method)
try:
    answer = urllib.request.urlopen(request)
except urllib.error.HTTPError as error:
    answer = error
sys.stdout.write(str(answer.headers) if asked.I else answer.read().decode())
"""


class Shell:
    def __init__(self, folder: Path) -> None:
        path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        self._bash = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env={"PATH": path, "NO_PROXY": "*", "no_proxy": "*"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def type(self, command: str) -> str:
        """What is printed then."""
        assert self._bash.stdin
        assert self._bash.stdout
        self._bash.stdin.write(f"{command}\necho '{DONE}'\n")
        self._bash.stdin.flush()
        return "".join(iter(self._bash.stdout.readline, f"{DONE}\n"))

    def exit(self) -> None:
        self._bash.communicate("exit\n")


@pytest.fixture
def shell(tmp_path: Path, service: Service) -> Iterator[Shell]:
    """In a folder that looks like the project's after `make run`."""
    (tmp_path / "var").symlink_to(service.home)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "bin").mkdir()
    if not shutil.which("curl"):
        curl = tmp_path / "bin/curl"
        curl.write_text(CURL)
        curl.chmod(0o755)
    shell = Shell(tmp_path)
    yield shell
    shell.exit()


@pytest.mark.parametrize("page", ["", (DOCS / "api.md").read_text("utf-8")], ids=["README.md", "api.md"])
def test_the_session_of_a_page_prints_what_the_page_shows(shell: Shell, service: Service, page: str) -> None:
    def prints(command: str, shown: str) -> bool:
        return shell.type(command.replace("localhost:5005", f"127.0.0.1:{service.port}")) == shown

    for command, shown in session(page):
        hope = f"{command}\nprints\n{shown}"
        if "/allocations/" in command or "/events" in command:  # what Redis is told, and the log, come a moment later
            eventually(partial(prints, command, shown), hope)
        else:
            assert prints(command, shown), hope
