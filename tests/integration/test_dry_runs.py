"""Dry runs on PostgreSQL: of each command, taken or refused, and not a row of any table is another after it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.dry_runs import STATES, Seen, agreed, every_command

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED

Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def every_row(sql: Sql) -> Callable[[], list[tuple[Any, ...]]]:
    """All that the database holds, as text."""
    tables = sql("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
    of_each = [f"SELECT '{name}', CAST(one AS text) FROM {name} AS one" for (name,) in tables]
    numbers = "SELECT sequencename, CAST(last_value AS text) FROM pg_sequences"
    return lambda: sorted(sql(" UNION ALL ".join([*of_each, numbers])), key=str)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
def api(settings: Settings, seen: Seen) -> Iterator[Service]:
    """As it serves callers, with a lane for commands that move many lines."""
    service = bootstrap(settings, callers_wait=True, observer=seen)
    yield service
    service.close()


@pytest.mark.parametrize("state", STATES)
def test_each_command_does_what_its_dry_run_has_said_which_leaves_nothing(
    api: Service, seen: Seen, every_row: Callable[[], object], state: str
) -> None:
    for command in STATES[state]:
        api.bus.handle(command)
    seen.take()
    client = create_app(api, UNRESTRICTED).test_client()
    before = every_row()
    for asked in every_command(client):
        answer = asked.dry_run(**{"Idempotency-Key": str(asked)})
        assert answer.status_code == 200, answer.text
        assert every_row() == before, f"{asked} has left something"
    for asked in every_command(client):  # each after what the others have done
        agreed(asked, seen)
