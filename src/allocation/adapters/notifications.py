"""Mails: over SMTP, or into files where no mail server is set."""

from __future__ import annotations

import logging
import os
import smtplib
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import urlsplit

from messaging.errors import Unavailable

log = logging.getLogger(__name__)

SENDER = "allocations@example.com"

# Eight bits where the way allows it, so that a name reads as it is written; a line may be as long as RFC 5322 says.
_POLICY = SMTP.clone(cte_type="8bit", max_line_length=998)


def compose(*, message_id: str, correlation_id: str, to: str, subject: str, body: str) -> EmailMessage:
    """The mail; the same `message_id` gives the same Message-ID, by which a repeat is known."""
    mail = EmailMessage(policy=_POLICY)
    mail["From"] = SENDER
    mail["To"] = to
    mail["Subject"] = " ".join(subject.splitlines())  # Unicode has line breaks that a header can't bear
    mail["Message-ID"] = f"<{message_id}@allocation.example.com>"
    mail["X-Correlation-ID"] = " ".join(correlation_id.splitlines())
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail.set_content(body)
    return mail


class SmtpNotifications:
    """One connection a mail: none is left to go stale between two of them."""

    def __init__(self, url: str, timeout: float = 3.0) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "localhost", parts.port or 25
        self._timeout = timeout

    def send(self, *, message_id: str, correlation_id: str, to: str, subject: str, body: str) -> None:
        mail = compose(message_id=message_id, correlation_id=correlation_id, to=to, subject=subject, body=body)
        try:
            with smtplib.SMTP(self._host, self._port, timeout=self._timeout) as server:
                server.ehlo_or_helo_if_needed()
                if server.has_extn("8bitmime"):
                    server.sendmail(SENDER, [to], mail.as_bytes(), mail_options=["BODY=8BITMIME"])
                else:
                    server.send_message(_seven_bits(mail))
        except smtplib.SMTPResponseException as error:
            if error.smtp_code >= 500:  # refused for good: trying for ever would not help
                raise
            raise Unavailable(f"mail server: {error}") from error
        except smtplib.SMTPRecipientsRefused as error:
            if all(code >= 500 for code, _ in error.recipients.values()):
                raise
            raise Unavailable(f"mail server: {error}") from error
        except (OSError, smtplib.SMTPException) as error:
            raise Unavailable(f"mail server {self._host}:{self._port}: {error}") from error
        log.info("mailed", extra={"to": to, "subject": subject})


class FileNotifications:
    """Each mail a file `<message id>.eml`; a repeat replaces it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, *, message_id: str, correlation_id: str, to: str, subject: str, body: str) -> None:
        mail = compose(message_id=message_id, correlation_id=correlation_id, to=to, subject=subject, body=body)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished = self._folder / f".{message_id}.{os.getpid()}"
            unfinished.write_bytes(mail.as_bytes())
            unfinished.replace(self._folder / f"{message_id}.eml")
        except OSError as error:
            raise Unavailable(f"mail folder: {error}") from error
        log.info("mailed", extra={"to": to, "subject": subject})


def _seven_bits(mail: EmailMessage) -> EmailMessage:
    """The same mail for a server that takes no eight-bit text."""
    body = mail.get_content()
    mail.set_content(body, cte="base64")
    return mail
