"""Mails: over SMTP, or into files where no mail server is set."""

from __future__ import annotations

import logging
import smtplib
import time
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from allocation.adapters.mail_sessions import MailSessions
from allocation.mail_settings import MailServer
from allocation.service_layer.ports import Mail
from allocation.whole_files import is_link_of_another, replacing
from messaging.errors import Unavailable

log = logging.getLogger(__name__)

# Eight bits where the way allows it, so that a name reads as it is written; a line may be as long as RFC 5322 says.
_POLICY = SMTP.clone(cte_type="8bit", max_line_length=998)


def compose(mail: Mail, sender: str) -> EmailMessage:
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = mail.to
    message["Subject"] = " ".join(mail.subject.splitlines())  # Unicode has line breaks that a header can't bear
    message["Message-ID"] = f"<{mail.message_id}@allocation.example.com>"
    message["X-Correlation-ID"] = " ".join(mail.correlation_id.splitlines())
    message["Date"] = format_datetime(datetime.now(UTC))
    message.set_content(mail.body)
    return message


class SmtpNotifications:
    """One session a mail: none is left to go stale between two of them. Raises Unavailable, also when the server does
    not take us; smtplib's own errors when it refuses this mail for good."""

    def __init__(
        self, url: str, sender: str, timeout: float = 3.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = MailServer.at(url)
        self._sessions = MailSessions(self._server, timeout, clock)
        self._sender = sender

    def send(self, mail: Mail) -> None:
        message = compose(mail, self._sender)
        try:
            with closing(self._sessions.open()) as session:
                if session.has_extn("8bitmime"):
                    session.sendmail(self._sender, [mail.to], message.as_bytes(), mail_options=["BODY=8BITMIME"])
                else:
                    session.send_message(_seven_bits(message))
                with suppress(OSError, smtplib.SMTPException):  # it has been taken, however the session ends
                    session.quit()
        except smtplib.SMTPResponseException as error:
            if _is_for_good(error.smtp_code):
                raise
            raise Unavailable(f"mail server {self._server}: {error}") from error
        except smtplib.SMTPRecipientsRefused as error:
            if all(_is_for_good(code) for code, _ in error.recipients.values()):
                raise
            raise Unavailable(f"mail server {self._server}: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"mail server {self._server}: {error}") from error
        log.info("mailed", extra={"to": mail.to, "subject": mail.subject})


class FileNotifications:
    """Each mail a file `<message id>.eml`; a repeat replaces it."""

    def __init__(self, folder: Path, sender: str) -> None:
        self._folder = folder
        self._sender = sender

    def send(self, mail: Mail) -> None:
        message = compose(mail, self._sender)
        if is_link_of_another(self._folder):
            raise Unavailable(f"mail folder {self._folder}: it is a link that somebody else has made; remove it")
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)  # an order is nobody else's to read, whoever has made the folder
            with replacing(self._folder / f"{mail.message_id}.eml", mode=0o600) as file:
                file.write(message.as_bytes())
        except OSError as error:
            raise Unavailable(f"mail folder: {error}") from error
        log.info("mailed", extra={"to": mail.to, "subject": mail.subject})


def _is_for_good(code: int) -> bool:
    """Trying for ever would not help. But that it wants a login or TLS first (530) is about us, not about the mail."""
    return code >= 500 and code != 530


def _seven_bits(message: EmailMessage) -> EmailMessage:
    """The same for a server that takes no eight-bit text."""
    body = message.get_content()
    message.set_content(body, cte="base64")
    return message
