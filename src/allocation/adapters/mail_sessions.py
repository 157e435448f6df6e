"""Sessions with a mail server: encrypted and logged in as the settings say, before it hears of any mail."""

from __future__ import annotations

import logging
import smtplib
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextlib import ExitStack
from functools import cached_property

from allocation.mail_settings import MailServer
from messaging.errors import Unavailable

log = logging.getLogger(__name__)

_BETWEEN_LOGINS = 30.0
"""Seconds after a login was refused, in each process: servers lock an account that fails too often."""


class MailSessions:
    """Whatever fails before the server has heard of a mail is no fault of the mail. So all of it raises Unavailable."""

    def __init__(self, server: MailServer, timeout: float, clock: Callable[[], float]) -> None:
        self._server = server
        self._timeout = timeout
        self._clock = clock
        self._refusal = ""
        self._login_again_at = 0.0

    def open(self) -> smtplib.SMTP:
        """A new one, that has said EHLO; whoever gets it closes it. No password is sent unencrypted."""
        self._hold_back()
        try:
            with ExitStack() as unless_all_is_well:
                session = self._connect()
                unless_all_is_well.callback(session.close)
                self._encrypt(session)
                self._log_in(session)
                session.ehlo_or_helo_if_needed()
                unless_all_is_well.pop_all()
                return session
        except (OSError, smtplib.SMTPException) as error:
            raise self._unavailable(error) from error

    def _connect(self) -> smtplib.SMTP:
        host, port = self._server.host, self._server.port
        if self._server.tls_at_once:
            return smtplib.SMTP_SSL(host, port, timeout=self._timeout, context=self._trust)
        return smtplib.SMTP(host, port, timeout=self._timeout)

    def _encrypt(self, session: smtplib.SMTP) -> None:
        if self._server.tls_at_once:
            return
        session.ehlo_or_helo_if_needed()
        if session.has_extn("starttls"):
            session.starttls(context=self._trust)
        elif self._server.user:
            raise Unavailable(f"mail server {self._server}: it offers no STARTTLS, and a password is not sent without")

    def _log_in(self, session: smtplib.SMTP) -> None:
        if not self._server.user:
            return
        try:
            session.login(self._server.user, self._server.password)
        except smtplib.SMTPAuthenticationError as error:
            answer = f"{error.smtp_code} {self._without_password(error.smtp_error)}"
            self._refusal = f"mail server {self._server} refuses the login of {self._server.user!r}: {answer}"
            about = {"server": str(self._server), "user": self._server.user, "answer": answer}
            log.error("mails wait, since the mail server refuses our login: see SMTP_URL", extra=about)  # noqa: TRY400 - says all
            raise Unavailable(self._refusal) from None
        self._refusal = ""

    def _hold_back(self) -> None:
        """When our login was refused, one of all who come tries again, and only now and then."""
        if self._refusal and self._clock() < self._login_again_at:
            raise Unavailable(self._refusal)
        self._login_again_at = self._clock() + _BETWEEN_LOGINS

    def _without_password(self, answer: bytes | str) -> str:
        """Servers quote what they did not understand."""
        text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
        user, password = self._server.user.encode(), self._server.password.encode()
        for secret in (password, b64encode(password), b64encode(b"\0" + user + b"\0" + password)):
            text = text.replace(secret.decode(), "***")
        return " ".join(text.split())

    def _unavailable(self, error: Exception) -> Unavailable:
        unknown = isinstance(error, ssl.SSLCertVerificationError)
        advice = "; if its authority is your own, name it in SSL_CERT_FILE" if unknown else ""
        return Unavailable(f"mail server {self._server}: {error}{advice}")

    @cached_property
    def _trust(self) -> ssl.SSLContext:
        """The system's authorities, or those in SSL_CERT_FILE."""
        return ssl.create_default_context()
