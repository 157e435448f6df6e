"""Logs: to stderr, one event a line, for people on a terminal and as JSON elsewhere."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from allocation.observability.redaction import RedactingHandler
from messaging.correlation import WORKING_ON


def configure_logging(level: str, log_format: str) -> None:
    """Send all that the program and its libraries log through one renderer. An empty format: by terminal."""
    console = log_format == "console" or (not log_format and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        add_correlation_id,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if not console:
        shared.append(structlog.processors.format_exc_info)
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(),
            exception_formatter=structlog.dev.plain_traceback,  # local variables may hold secrets
        )
        if console
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    handler = RedactingHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("alembic").setLevel(logging.WARNING)


def add_correlation_id(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Of the request that this thread is working on."""
    if correlation_id := WORKING_ON.get():
        event["correlation_id"] = correlation_id
    return event
