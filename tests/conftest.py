"""Real servers for the layers that need them: embedded ones, named in the header, started when a test first asks.

Garbage is collected seldom: to look through all that was imported, again and again, is a fifth of the work.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from shutil import which

import psycopg
import pytest
import structlog
from hypothesis import settings
from psycopg import sql

import embedded
from embedded.postgres import Postgres
from embedded.valkey import Redis

# `make test` looks at some examples of each law, every time at others, in CI too; HYPOTHESIS_PROFILE=thorough at many.
settings.register_profile("quick", max_examples=25, deadline=None, derandomize=False)
settings.register_profile("thorough", max_examples=2_000, deadline=None, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

MEMORY = Path("/dev/shm")
ROOM = 4 * 2**30

# A database is three hundred files, a new server a thousand: a disk's file system takes ten times as long to make them.
if "TMPDIR" not in os.environ and MEMORY.is_dir():
    there = os.statvfs(MEMORY)
    if there.f_bavail * there.f_frsize > ROOM and not there.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY)

# Who starts the tests in the background has them ignore Ctrl-C, and so would all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.set_threshold(50_000)

SERVERS = pytest.StashKey[embedded.Servers]()
CLEAN_UP = pytest.StashKey[ExitStack]()


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say on which servers the tests will run, unless only unit tests are asked for, which need none."""
    if all(Path(argument).is_relative_to("tests/unit") for argument in config.args):
        return None
    nowhere = Path(os.devnull)
    real = f"real servers: {Postgres(nowhere).version}, {Redis(nowhere).version}"
    return real if which("pgbouncer") else f"{real}; no pgbouncer on the PATH, so none of its tests"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Hypothesis may look for the shortest counterexample for five minutes, and without it nobody knows what failed."""
    if config.getoption("timeout") is None:
        for item in items:
            if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
                item.add_marker(pytest.mark.timeout(400))


def pytest_collection_finish() -> None:
    """What was imported is no garbage."""
    gc.freeze()


def pytest_sessionstart(session: pytest.Session) -> None:
    """The log of a test that failed has the extra fields, too: they say why."""
    if plugin := session.config.pluginmanager.get_plugin("logging-plugin"):
        plugin.report_handler.setFormatter(
            structlog.stdlib.ProcessorFormatter(
                structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
                foreign_pre_chain=[structlog.stdlib.add_log_level, structlog.stdlib.ExtraAdder()],
            )
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    if clean_up := config.stash.get(CLEAN_UP, None):
        clean_up.close()


@pytest.fixture(autouse=True)
def logging_stays_as_it_was() -> Iterator[None]:
    """A command that a test runs sets logging up for its process, which here is ours."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> embedded.Servers:
    """A PostgreSQL and a Valkey of this session's own, fast because nothing in them has to survive.

    With TESTS_HOME those of that folder, which one session after another may use: never two at a time.
    """
    return running_servers(pytestconfig)


def running_servers(config: pytest.Config) -> embedded.Servers:
    if SERVERS not in config.stash:
        clean_up = config.stash.setdefault(CLEAN_UP, ExitStack())
        home = os.environ.get("TESTS_HOME") or clean_up.enter_context(
            tempfile.TemporaryDirectory(prefix="allocation-tests-")
        )
        config.stash[SERVERS] = clean_up.enter_context(embedded.servers(Path(home), durable=False))
        make_password_cheap(config.stash[SERVERS].database_url)
    return config.stash[SERVERS]


def make_password_cheap(database_url: str) -> None:
    """It is hashed 4,096 times each time that somebody connects; once will do, for thousands of connections."""
    with psycopg.connect(database_url) as connection:
        if connection.info.server_version >= 16_00_00:
            connection.execute("SET scram_iterations = 1")
            connection.execute(sql.SQL("ALTER ROLE CURRENT_USER PASSWORD {}").format(connection.info.password))
