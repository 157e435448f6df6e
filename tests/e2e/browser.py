"""A real Chromium to look at the console with: the machine's own, or else the one that Playwright brings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, WebError, sync_playwright

_FOUND = "TESTS_BROWSER"
"""Names the browser to take; empty: there is none."""

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_LONGEST_INSTALLATION = 180
_ARGUMENTS = ["--no-sandbox", "--disable-dev-shm-usage", "--no-proxy-server", "--disable-gpu"]


def find_browser() -> Path | None:
    """On the PATH; or Playwright's, which is installed if it can be, once. Workers are told what was found."""
    if _FOUND not in os.environ:
        os.environ[_FOUND] = str(_look_for_one() or "")
    return Path(os.environ[_FOUND]) if os.environ[_FOUND] else None


def _look_for_one() -> Path | None:
    for name in _NAMES:
        if found := which(name):
            return Path(found)
    with sync_playwright() as playwright:
        brought = Path(playwright.chromium.executable_path)
    if not brought.exists():
        try:
            command = [sys.executable, "-m", "playwright", "install", "chromium"]
            subprocess.run(command, capture_output=True, timeout=_LONGEST_INSTALLATION, check=False)
        except subprocess.TimeoutExpired:
            return None
    return brought if brought.exists() else None


@contextmanager
def running_browser() -> Iterator[Browser]:
    found = find_browser()  # which may ask Playwright itself
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=_ARGUMENTS)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A context of the browser, and all that a page in it complained of, or asked another host for."""

    context: BrowserContext
    url: str
    complaints: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.on("request", self._see_request)
        self.context.on("console", self._see_message)
        self.context.on("weberror", self._see_error)

    def open(self, path: str = "") -> Page:
        page = self.context.new_page()
        page.goto(f"{self.url}/console{path}")
        return page

    def _see_request(self, request: Request) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.complaints.append(f"asked for {request.url}")

    def _see_message(self, message: ConsoleMessage) -> None:
        others_were_faster = "503" in message.text and "/console/events/stream" in message.location["url"]
        if message.type in ("error", "warning") and not others_were_faster:
            self.complaints.append(message.text)

    def _see_error(self, error: WebError) -> None:
        self.complaints.append(str(error.error))
