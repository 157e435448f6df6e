"""Mails that reach a real SMTP server, whatever it can do; and what is said of one that fails."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email import message_from_bytes, message_from_string
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from smtplib import SMTPDataError, SMTPRecipientsRefused, SMTPSenderRefused
from threading import Thread
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from allocation.adapters.notifications import FileNotifications, SmtpNotifications
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.service_layer.ports import Mail
from allocation.service_layer.routing import SEND_OUT_OF_STOCK_NOTIFICATION
from embedded.endpoint import PORTS, is_free
from messaging.errors import Unavailable

Sql = Callable[..., list[tuple[Any, ...]]]

SENDER = "shop@example.com"
MAIL = Mail("m-1", "till-5/4711", "stock@made.com", "Out of stock for LAMP", "Out of stock for LAMP\n")
_chance = random.Random(1)
LONGEST = "".join(chr(_chance.randrange(0x1F300, 0x1FAF0)) for _ in range(255))


@dataclass
class Inbox:
    """A mail server's side: what was delivered, and what it answers."""

    to_sender: str = "250 OK"
    to_recipient: str = "250 OK"
    to_data: str = "250 OK"
    to_quit: str = "221 Bye"
    envelopes: list[Envelope] = field(default_factory=list)

    async def handle_MAIL(self, server: SMTP, session: Session, envelope: Envelope, sender: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        envelope.mail_from = sender
        return self.to_sender

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, to: str, options: Any) -> str:  # noqa: N802 - aiosmtpd's name
        if self.to_recipient.startswith("250"):
            envelope.rcpt_tos.append(to)
        return self.to_recipient

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        if self.to_data.startswith("250"):
            self.envelopes.append(envelope)
        return self.to_data

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        return self.to_quit

    @property
    def mails(self) -> list[EmailMessage]:
        """As a mail program reads them."""
        read = []
        for envelope in self.envelopes:
            content = envelope.content
            mail = (
                message_from_string(content, policy=default)
                if isinstance(content, str)
                else message_from_bytes(content or b"", policy=default)
            )
            assert isinstance(mail, EmailMessage)
            read.append(mail)
        return read


@contextmanager
def mail_server(inbox: Inbox, **abilities: Any) -> Iterator[str]:
    """Its URL."""
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port, **abilities)
    controller.start()
    try:
        yield f"smtp://127.0.0.1:{port}"
    finally:
        controller.stop()


def free_port() -> int:
    return next(port for port in random.sample(PORTS, 1000) if is_free(port))


SERVERS = {
    "a server that takes anything": {"enable_SMTPUTF8": True},
    "a server without SMTPUTF8": {"enable_SMTPUTF8": False},
    "a server of seven bits": {"enable_SMTPUTF8": False, "decode_data": True},
}


@pytest.mark.parametrize("answer", ["221 Bye", "421 too busy", "500 what?"])
def test_a_mail_that_was_taken_is_sent_whatever_the_server_says_at_the_end(answer: str) -> None:
    inbox = Inbox(to_quit=answer)

    with mail_server(inbox) as url:
        SmtpNotifications(url, SENDER).send(MAIL)

    assert len(inbox.mails) == 1


@pytest.mark.parametrize("abilities", SERVERS.values(), ids=SERVERS.keys())
@pytest.mark.parametrize("sku", ["LAMP", "LÄMP „groß” 🛋", LONGEST], ids=["plain", "Unicode", "longest"])
def test_any_sku_arrives_at_any_server(abilities: dict[str, bool], sku: str) -> None:
    inbox = Inbox()

    with mail_server(inbox, **abilities) as url:
        about = f"Out of stock for {sku}"
        SmtpNotifications(url, SENDER).send(Mail("m-1", "c-1", "team@example.com", about, f"{about}\n\nOrder o1\n"))

    [envelope], [mail] = inbox.envelopes, inbox.mails
    assert (envelope.mail_from, envelope.rcpt_tos) == (SENDER, ["team@example.com"])
    assert (mail["From"], mail["To"]) == (SENDER, "team@example.com")
    assert mail["Subject"] == f"Out of stock for {sku}"
    assert mail.get_content().splitlines() == [f"Out of stock for {sku}", "", "Order o1"]


def test_a_repeat_has_the_same_message_id_and_another_mail_another() -> None:
    inbox = Inbox()

    with mail_server(inbox) as url:
        for message_id in ("m-1", "m-1", "m-2"):
            SmtpNotifications(url, SENDER).send(replace(MAIL, message_id=message_id))

    first, second, third = (mail["Message-ID"] for mail in inbox.mails)
    assert first == second == "<m-1@allocation.example.com>"
    assert third != first


# --- failures ----------------------------------------------------------------


def test_a_server_that_is_down_is_worth_another_try() -> None:
    with pytest.raises(Unavailable, match=r"mail server 127\.0\.0\.1"):
        SmtpNotifications(f"smtp://127.0.0.1:{free_port()}", SENDER).send(MAIL)


def test_a_server_that_takes_nobody_in_is_worth_another_try() -> None:
    """What it says before it has heard of the mail is no refusal of the mail, whatever the code."""
    with socket.create_server(("127.0.0.1", 0)) as unkind:

        def refuse() -> None:
            connection, _ = unkind.accept()
            with connection:
                connection.sendall(b"554 no service here\r\n")

        refusing = Thread(target=refuse)
        refusing.start()
        with pytest.raises(Unavailable, match=r"mail server 127\.0\.0\.1:\d+: .*no service here"):
            SmtpNotifications(f"smtp://127.0.0.1:{unkind.getsockname()[1]}", SENDER).send(MAIL)
        refusing.join()


def test_a_server_that_hangs_is_given_up_within_the_timeout() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        notifications = SmtpNotifications(f"smtp://127.0.0.1:{silent.getsockname()[1]}", SENDER, timeout=0.2)
        begun = time.monotonic()

        with pytest.raises(Unavailable, match="mail server"):
            notifications.send(MAIL)

        assert time.monotonic() - begun < 3


@pytest.mark.parametrize(
    "answers",
    [
        {"to_sender": "451 later"},
        {"to_recipient": "450 mailbox busy"},
        {"to_recipient": "421 going down"},
        {"to_data": "452 disk full"},
    ],
    ids=str,
)
def test_a_refusal_for_now_is_worth_another_try(answers: dict[str, Any]) -> None:
    with mail_server(Inbox(**answers)) as url, pytest.raises(Unavailable, match="mail server"):
        SmtpNotifications(url, SENDER).send(MAIL)


@pytest.mark.parametrize(
    ("answers", "error"),
    [
        ({"to_sender": "550 not you"}, SMTPSenderRefused),
        ({"to_recipient": "550 no such user"}, SMTPRecipientsRefused),
        ({"to_data": "554 no thanks"}, SMTPDataError),
    ],
    ids=str,
)
def test_a_refusal_for_good_is_no_fault_of_the_surroundings(answers: dict[str, Any], error: type[Exception]) -> None:
    with mail_server(Inbox(**answers)) as url, pytest.raises(error) as refused:
        SmtpNotifications(url, SENDER).send(MAIL)

    assert not isinstance(refused.value, Unavailable)


# --- as part of the service --------------------------------------------------


def test_out_of_stock_is_mailed_once_the_mail_server_is_back(settings: Settings, sql: Sql) -> None:
    inbox, sku = Inbox(), "LÄMP-🛋"
    port = free_port()
    service = bootstrap(
        replace(settings, smtp_url=f"smtp://127.0.0.1:{port}", mail_from=SENDER, mail_to="team@example.com")
    )
    service.bus.handle(commands.CreateBatch("b1", sku, 1))
    service.bus.handle(commands.Allocate("o1", sku, 2, "line-1"))

    assert service.relay.deliver(SEND_OUT_OF_STOCK_NOTIFICATION) == 0
    [(attempts, dead_at)] = sql("SELECT attempts, dead_at FROM outbox WHERE effect = 'send_out_of_stock_notification'")
    assert (attempts, dead_at) == (1, None)
    sql("UPDATE outbox SET retry_at = clock_timestamp()")
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        assert service.relay.deliver(SEND_OUT_OF_STOCK_NOTIFICATION) == 1
    finally:
        controller.stop()
        service.close()

    [mail], [(event_id,)] = inbox.mails, sql("SELECT id::text FROM event_log WHERE version = 2")
    assert mail["Message-ID"] == f"<{event_id}@allocation.example.com>"
    assert (mail["From"], mail["To"]) == (SENDER, "team@example.com")
    assert f"Out of stock for {sku}" in mail.get_content()
    assert "Order o1, line line-1, asked for 2" in mail.get_content()


def test_without_a_mail_server_mails_are_files(settings: Settings) -> None:
    service = bootstrap(replace(settings, mail_from=SENDER, mail_to="team@example.com"))
    service.bus.handle(commands.CreateBatch("b1", "LÄMP", 1))
    service.bus.handle(commands.Allocate("o1", "LÄMP", 2))

    assert service.relay.deliver(SEND_OUT_OF_STOCK_NOTIFICATION) == 1
    service.close()

    [file] = (settings.home / "mail").iterdir()
    mail = message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    assert file.name == mail["Message-ID"].strip("<>").split("@")[0] + ".eml"
    assert (mail["From"], mail["To"]) == (SENDER, "team@example.com")
    assert "Out of stock for LÄMP" in mail.get_content()


@pytest.mark.parametrize("sku", ["LAMP", LONGEST], ids=["plain", "longest"])
def test_a_mail_in_a_file_can_be_read_back_and_a_repeat_replaces_it(tmp_path: Path, sku: str) -> None:
    notifications = FileNotifications(tmp_path / "not" / "there" / "yet", SENDER)

    for qty in (1, 2):
        notifications.send(replace(MAIL, body=f"Out of stock for {sku}\n{qty}\n"))

    [file] = (tmp_path / "not" / "there" / "yet").iterdir()
    mail = message_from_bytes(file.read_bytes(), policy=default)
    assert isinstance(mail, EmailMessage)
    assert mail.get_content().splitlines() == [f"Out of stock for {sku}", "2"]
