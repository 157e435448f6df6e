"""Behind a pooler in transaction mode, whose clients share a few sessions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from tests.integration.pgbouncer import CONNECTIONS, PgBouncer

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings, postgres_url
from allocation.domain import commands
from messaging.sql.connections import connection
from messaging.sql.exclusive import NoSession
from messaging.sql.limits import BY_KEY, FOR_CALLERS

AtOnce = Callable[..., list[Any]]
Differences = Callable[[], list[str]]
Sql = Callable[..., list[tuple[Any, ...]]]

OPERATIONS = Path(__file__).parents[2] / "docs/operations.md"
USER, PASSWORD = "allocation_api", "secret"


@pytest.fixture
def role(sql: Sql) -> Iterator[None]:
    """The API's role, made as the docs say."""
    for statement in documented_sql().split(";\n"):
        if statement.strip():
            sql(statement)
    yield
    sql(f"DROP ROLE {USER}")


def documented_sql() -> str:
    _, _, section = OPERATIONS.read_text("utf-8").partition("\n## Behind a pooler\n")
    _, _, after = section.partition("```sql\n")
    return after.partition("```")[0]


@pytest.fixture
def bouncer(tmp_path: Path) -> Iterator[PgBouncer]:
    bouncer = PgBouncer(tmp_path / "pgbouncer")
    yield bouncer
    bouncer.stop()


@pytest.fixture
def pooled(settings: Settings, bouncer: PgBouncer, role: None) -> Settings:
    url = bouncer.start(settings.database_url, USER, PASSWORD)
    return replace(settings, database_pooler_url=postgres_url(url))


@pytest.fixture
def processes(pooled: Settings, bouncer: PgBouncer) -> Iterator[list[Service]]:
    """As many API processes, with more connections than there are sessions; one prepares statements if that can be."""
    able = replace(pooled, pooler_prepares=bouncer.knows_prepared_statements)
    services = [bootstrap(each, connections=8, callers_wait=True) for each in (pooled, pooled, able)]
    yield services
    for service in services:
        service.close()


def test_many_connections_share_few_sessions_and_nothing_goes_wrong(
    processes: list[Service], at_once: AtOnce, differences: Differences, sql: Sql
) -> None:
    for sku in ("HOT", "LAMP", "DESK"):
        processes[0].bus.handle(commands.CreateBatch(f"b-{sku}", sku, 100))

    def client(number: int) -> list[object]:
        bus, sku = processes[number % 3].bus, ("HOT", "HOT", "LAMP", "DESK")[number % 4]
        return [bus.handle(commands.Allocate(f"o{number}-{line}", sku, 1)) for line in range(20)]

    answers = at_once(*(partial(client, number) for number in range(24)))

    assert Counter(chain.from_iterable(answers)) == {"b-HOT": 100, "b-LAMP": 100, "b-DESK": 100, None: 180}
    assert sql("SELECT count(*) FROM pg_stat_activity WHERE usename = :user", user=USER) == [(CONNECTIONS,)]
    assert differences() == []


def test_what_the_docs_set_for_the_role_is_what_we_would_set_for_a_session(processes: list[Service]) -> None:
    wanted = asdict(FOR_CALLERS) | BY_KEY

    with connection(processes[0].engine) as through:
        rows = through.execute(
            text("SELECT name, setting, source FROM pg_settings WHERE name = ANY(:names)"), {"names": list(wanted)}
        ).all()

    assert {row.name: row.setting for row in rows} == {name: str(value) for name, value in wanted.items()}
    assert {row.source for row in rows} == {"user"}, "none of them by ourselves"


def test_what_must_hold_in_each_session_holds_in_all_that_are_shared_whatever_the_role_has(
    processes: list[Service], at_once: AtOnce, sql: Sql
) -> None:
    sql(f"ALTER ROLE {USER} SET TimeZone = 'Pacific/Kiritimati'")
    sql(f"ALTER ROLE {USER} SET DateStyle = 'German'")

    def in_a_transaction(number: int) -> set[tuple[str, ...]]:
        with connection(processes[number % 3].engine, "READ COMMITTED") as through:
            ask = text("SELECT current_setting('TimeZone'), current_setting('DateStyle'), pg_sleep(0.01)")
            return {tuple(through.execute(ask).one())[:2] for _ in range(10)}

    found = at_once(*(partial(in_a_transaction, number) for number in range(12)))

    assert set().union(*found) == {("UTC", "ISO, DMY")}


def test_a_lost_session_is_noticed_by_nobody(
    processes: list[Service], cut_connections: Callable[[], int], sql: Sql
) -> None:
    bus = processes[0].bus
    bus.handle(commands.CreateBatch("b1", "LAMP", 100))

    for number in range(5):
        assert cut_connections() >= 1
        assert bus.handle(commands.Allocate(f"o{number}", "LAMP", 1)) == "b1"


def test_who_must_be_alone_is_not_let_through_a_pooler(pooled: Settings) -> None:
    """Both would be given the same session, and the lock of it."""
    through = bootstrap(replace(pooled, database_url=pooled.database_pooler_url))

    with pytest.raises(NoSession, match="there is a pooler before the database; go past it"):
        through.pubsub_bus.is_ours()

    through.close()
