"""One running service for all end-to-end tests, since starting it takes seconds; those that end it start it again.

The tests share it and never clash: each uses products, batches and orders with names of its own.
"""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from tests.e2e.browser import find_browser
from tests.e2e.client import Client
from tests.e2e.service import Service, free_port

collect_ignore = [] if find_browser() else ["test_console.py"]


def pytest_report_header() -> str:
    return f"browser: {find_browser() or 'none'}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not find_browser():
        terminalreporter.section("no browser", yellow=True)
        terminalreporter.line("There is no browser and none could be installed: the tests of the console did NOT run.")


class Mailbox:
    """A mail server that keeps what it is given."""

    def __init__(self) -> None:
        self._mails: list[EmailMessage] = []

    def about(self, text: str) -> list[EmailMessage]:
        return [mail for mail in self._mails if text in mail["Subject"]]

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - its name
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self._mails.append(mail)
        return "250 OK"


@pytest.fixture(scope="session")
def mail_server() -> Iterator[tuple[str, Mailbox]]:
    mailbox = Mailbox()
    controller = Controller(mailbox, hostname="127.0.0.1", port=free_port())
    controller.start()
    yield f"smtp://127.0.0.1:{controller.port}", mailbox
    controller.stop()


@pytest.fixture
def mails(mail_server: tuple[str, Mailbox]) -> Mailbox:
    return mail_server[1]


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory, mail_server: tuple[str, Mailbox]) -> Iterator[Service]:
    service = Service(tmp_path_factory.mktemp("service"), smtp_url=mail_server[0])
    yield service
    try:
        if service.is_running:
            service.signal(signal.SIGTERM)
            assert service.until_ended() == 0
    finally:
        service.kill_all()  # what a failed test may have left


@pytest.fixture
def service(shared_service: Service) -> Service:
    """Running and ready, whatever the test before did to it."""
    if not shared_service.is_running:
        shared_service.start()
    shared_service.until_ready()
    return shared_service


@pytest.fixture
def api(service: Service) -> Client:
    return service.client


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    service = item.funcargs.get("shared_service")
    if report.failed and isinstance(service, Service):
        report.sections.append(("what the service said last", service.said()[-5_000:]))
    return report
