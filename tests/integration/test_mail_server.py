"""Mail servers that want TLS or a login: reached as SMTP_URL says, never with a password that others could read."""

from __future__ import annotations

import logging
import ssl
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from tests.integration.conftest import Sql
from tests.integration.test_notifications import MAIL, SENDER, Inbox, mail_server

from allocation.adapters.notifications import SmtpNotifications
from allocation.bootstrap import bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.service_layer.routing import SEND_OUT_OF_STOCK_NOTIFICATION
from messaging.errors import Unavailable

USER, PASSWORD = "joe@shop.org", "p/ss:w@rd%"
LOGIN = "joe%40shop.org:p%2Fss%3Aw%40rd%25@"
"""As both stand in the URL."""

either_way = pytest.mark.parametrize("scheme", ["smtp", "smtps"])


@dataclass
class Accounts:
    """The mail server's one account. `refusal` may quote what it was given, as `{password}` or as `{blobs}`."""

    password: str = PASSWORD
    refusal: str = "535 5.7.8 no"
    logins: list[LoginPassword] = field(default_factory=list)

    def __call__(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, login: LoginPassword
    ) -> AuthResult:
        self.logins.append(login)
        right = login == (USER.encode(), self.password.encode())
        blobs = b64encode(login.password), b64encode(b"\0%s\0%s" % login)
        said = self.refusal.format(password=login.password.decode(), blobs=b" ".join(blobs).decode())
        return AuthResult(success=right, handled=False, message=None if right else said)


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One that is trusted, since the operator has said so."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    return authority


@contextmanager
def locked_server(
    scheme: str, authority: trustme.CA, inbox: Inbox, *, login: str = "", host: str = "127.0.0.1", **abilities: Any
) -> Iterator[str]:
    """The URL of a server with a certificate for this host, whose URL has this login."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    by_tls: dict[str, Any] = (
        {"tls_context": context, "require_starttls": True}
        if scheme == "smtp"
        else {"ssl_context": context, "auth_require_tls": False}  # it does not know that it has TLS from the start
    )
    with mail_server(inbox, **by_tls, **abilities) as url:
        yield url.replace("smtp://", f"{scheme}://{login}")


# --- TLS -----------------------------------------------------------------------


@either_way
def test_a_mail_goes_by_tls_where_there_is_tls(scheme: str, authority: trustme.CA) -> None:
    inbox = Inbox()

    with locked_server(scheme, authority, inbox) as url:
        SmtpNotifications(url, SENDER).send(MAIL)

    [mail] = inbox.mails
    assert mail["Subject"] == MAIL.subject


@either_way
@pytest.mark.usefixtures("authority")
def test_a_server_whose_certificate_nobody_vouches_for_hears_neither_mail_nor_password(scheme: str) -> None:
    inbox, accounts = Inbox(), Accounts()

    with (
        locked_server(scheme, trustme.CA(), inbox, login=LOGIN, authenticator=accounts) as url,
        pytest.raises(Unavailable, match=r"certificate verify failed: .* name it in SSL_CERT_FILE"),
    ):
        SmtpNotifications(url, SENDER).send(MAIL)

    assert not inbox.envelopes
    assert not accounts.logins


@either_way
def test_a_server_with_the_certificate_of_another_is_refused(scheme: str, authority: trustme.CA) -> None:
    inbox, accounts = Inbox(), Accounts()

    with (
        locked_server(scheme, authority, inbox, login=LOGIN, host="127.0.0.2", authenticator=accounts) as url,
        pytest.raises(Unavailable, match=r"certificate is not valid for '127\.0\.0\.1'"),
    ):
        SmtpNotifications(url, SENDER).send(MAIL)

    assert not inbox.envelopes
    assert not accounts.logins


def test_a_server_without_tls_where_the_url_wants_it_is_worth_another_try() -> None:
    with mail_server(Inbox()) as url, pytest.raises(Unavailable, match="mail server"):
        SmtpNotifications(url.replace("smtp://", "smtps://"), SENDER).send(MAIL)


# --- a login -------------------------------------------------------------------


@either_way
def test_logs_in_with_the_password_in_the_url(scheme: str, authority: trustme.CA) -> None:
    inbox, accounts = Inbox(), Accounts()

    with locked_server(scheme, authority, inbox, login=LOGIN, authenticator=accounts) as url:
        SmtpNotifications(url, SENDER).send(MAIL)

    assert len(inbox.mails) == 1
    assert accounts.logins == [(USER.encode(), PASSWORD.encode())]


def test_a_password_is_never_sent_in_the_clear() -> None:
    inbox, accounts = Inbox(), Accounts()

    with mail_server(inbox, authenticator=accounts, auth_require_tls=False) as url:
        notifications = SmtpNotifications(url.replace("smtp://", f"smtp://{LOGIN}"), SENDER)
        with pytest.raises(Unavailable, match=r"offers no STARTTLS, and a password is not sent without$"):
            notifications.send(MAIL)

    assert not inbox.envelopes
    assert not accounts.logins


@pytest.mark.parametrize(
    ("refusal", "answer"),
    [
        ("535 5.7.8 no", "535 5.7.8 no"),
        ("454 4.7.0 later", "454 4.7.0 later"),
        ("535 no such password as {password}", "535 no such password as ***"),
        ("500 what is {blobs}?", "500 what is *** ***?"),
    ],
)
def test_a_login_that_is_refused_is_worth_another_try_and_the_log_says_what_to_do(
    refusal: str, answer: str, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, accounts = Inbox(), Accounts(password="another", refusal=refusal)

    with locked_server("smtp", authority, inbox, login=LOGIN, authenticator=accounts) as url:
        where = url.rpartition("@")[2]
        with pytest.raises(Unavailable) as error:
            SmtpNotifications(url, SENDER).send(MAIL)

    assert str(error.value) == f"mail server {where} refuses the login of '{USER}': {answer}"
    [said] = [record for record in caplog.records if record.levelno == logging.ERROR and "allocation" in record.name]
    assert said.getMessage() == "mails wait, since the mail server refuses our login: see SMTP_URL"
    assert said.__dict__.items() >= {"server": where, "user": USER, "answer": answer}.items()
    for secret in (PASSWORD, LOGIN, b64encode(PASSWORD.encode()).decode()):
        assert secret not in f"{said.__dict__} {error.value!r} {error.value.__cause__!r}"
    assert not inbox.envelopes


def test_a_login_that_is_refused_is_tried_again_only_now_and_then(authority: trustme.CA) -> None:
    """Servers lock an account that fails too often, and a mail that waits comes again every two seconds."""
    inbox, accounts, now = Inbox(), Accounts(password="another"), [1000.0]

    with locked_server("smtp", authority, inbox, login=LOGIN, authenticator=accounts) as url:
        notifications = SmtpNotifications(url, SENDER, clock=lambda: now[0])

        def tries() -> int:
            before = len(accounts.logins)
            with pytest.raises(Unavailable, match="refuses the login"):
                notifications.send(MAIL)
            return len(accounts.logins) - before

        of_a_login = tries()  # by each mechanism that both sides know
        assert of_a_login > 0
        assert tries() == 0
        now[0] += 29
        assert tries() == 0
        now[0] += 2
        assert [tries(), tries()] == [of_a_login, 0]

        accounts.password = PASSWORD
        now[0] += 31
        notifications.send(MAIL)
        notifications.send(MAIL)

    assert len(inbox.mails) == 2


def test_a_server_that_wants_a_login_we_do_not_have_is_worth_another_try(authority: trustme.CA) -> None:
    inbox = Inbox()

    with (
        locked_server("smtp", authority, inbox, authenticator=Accounts(), auth_required=True) as url,
        pytest.raises(Unavailable, match=r"530.*Authentication required"),
    ):
        SmtpNotifications(url, SENDER).send(MAIL)


def test_a_server_that_knows_no_login_is_worth_another_try(authority: trustme.CA) -> None:
    with (
        locked_server("smtp", authority, Inbox(), login=LOGIN, auth_exclude_mechanism=["PLAIN", "LOGIN"]) as url,
        pytest.raises(Unavailable, match="mail server"),
    ):
        SmtpNotifications(url, SENDER).send(MAIL)


def test_mails_wait_for_the_right_password_and_are_not_given_up(
    settings: Settings, sql: Sql, authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, accounts = Inbox(), Accounts()

    def deliver(url: str) -> int:
        service = bootstrap(replace(settings, smtp_url=url))
        try:
            return service.relay.deliver(SEND_OUT_OF_STOCK_NOTIFICATION)
        finally:
            service.close()

    with locked_server("smtp", authority, inbox, login=LOGIN, authenticator=accounts) as url:
        service = bootstrap(settings)
        service.bus.handle(commands.CreateBatch("b1", "LAMP", 1))
        service.bus.handle(commands.Allocate("o1", "LAMP", 2))
        service.close()
        for _ in range(11):  # ten faults would be the end
            assert deliver(url.replace("rd%25@", "rong@")) == 0
            sql("UPDATE outbox SET retry_at = clock_timestamp()")
        [(reason, dead_at)] = sql("SELECT reason, dead_at FROM outbox WHERE effect = 'send_out_of_stock_notification'")
        assert deliver(url) == 1

    assert dead_at is None
    assert "refuses the login of" in reason
    assert "rong" not in f"{reason} {[record.__dict__ for record in caplog.records]}"
    assert len(inbox.mails) == 1
