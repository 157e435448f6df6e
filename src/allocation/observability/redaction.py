"""Keeps passwords and keys out of what people read: log lines, and the one line with which a command fails."""

from __future__ import annotations

import logging
import re

_SECRETS = re.compile(
    r"(?P<key>alk_[0-9a-f]{12})_[0-9a-f]+"  # an API key; its id may be known
    r"|(?P<url>://[^\s:/\"]*:)[^\s/\"]+(?=@)"  # user:password in a URL; the last @ ends it
    r"|(?P<parameter>[?&](?:ssl)?password=)[^\s&#'\"]+"  # or in its query
)


def without_secrets(text: str) -> str:
    """The text with `***` where a secret was."""
    return _SECRETS.sub(_hidden, text)


def _hidden(found: re.Match[str]) -> str:
    return f"{found['key']}_***" if found["key"] else f"{found['url'] or found['parameter']}***"


class RedactingHandler(logging.StreamHandler):  # type: ignore[type-arg]  # as logging.StreamHandler is used elsewhere
    """Writes records as they were formatted, tracebacks and all, but for what is secret."""

    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))
