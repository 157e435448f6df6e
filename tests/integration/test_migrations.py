"""The schema that migrations build is the schema that the program declares, up, down and up again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, text

from allocation.bootstrap import bootstrap
from allocation.check import check_consistency
from allocation.config import Settings
from allocation.database import migrations, tables
from allocation.database.schema import REVISION, require_current_schema
from allocation.domain import commands
from embedded.waiting import wait_for
from messaging.errors import Unavailable
from messaging.sql import tables as messaging_tables

METADATA = [messaging_tables.metadata, tables.metadata]

# What Alembic's comparison does not look at, and all else that can be said of a table.
_CATALOGUE = """
    SELECT 'table', relname::text, concat_ws(' ', relpersistence::text, array_to_string(reloptions, ' '))
    FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'comment', relname::text, obj_description(oid) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'column', format('%s.%s', attrelid::regclass, attname),
           concat_ws(' ', format_type(atttypid, atttypmod), CASE WHEN attnotnull THEN 'not null' END,
                     'identity:' || attidentity::text, 'generated:' || attgenerated::text,
                     pg_get_expr(adbin, adrelid), collname)
    FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
    LEFT JOIN pg_collation ON pg_collation.oid = attcollation
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    UNION ALL
    SELECT 'constraint', format('%s.%s', conrelid::regclass, conname), pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    ORDER BY 1, 2
"""


@pytest.fixture
def empty(unmigrated_url: str) -> Iterator[Engine]:
    engine = create_engine(unmigrated_url, poolclass=NullPool)
    yield engine
    engine.dispose()


def catalogue(engine: Engine) -> dict[tuple[str, str], str]:
    """Everything that PostgreSQL knows of our tables, but for Alembic's own."""
    with engine.connect() as connection:
        rows = connection.execute(text(_CATALOGUE)).all()
    return {(kind, name): definition for kind, name, definition in rows if "alembic_version" not in name}


def url_of(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=False)


def test_the_migrated_schema_is_the_declared_one(engine: Engine, empty: Engine) -> None:
    """`engine` is on a migrated database; the other one is made from the declarations."""
    for metadata in METADATA:
        metadata.create_all(empty)

    migrated, declared = catalogue(engine), catalogue(empty)

    assert migrated == declared
    assert {name for kind, name in migrated if kind == "table"} == {
        name for metadata in METADATA for name in metadata.tables
    }


def test_alembic_finds_no_difference_either(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, METADATA) == []  # type: ignore[arg-type]  # several are allowed


def test_what_the_guarantees_rest_on_is_in_the_database(engine: Engine) -> None:
    """So that declarations and migrations can't lose it together."""
    found = catalogue(engine)

    assert found["constraint", "event_log.event_log_pkey"] == "PRIMARY KEY (stream, version)"
    assert found["constraint", "batch_references.batch_references_pkey"] == "PRIMARY KEY (reference)"
    assert found["constraint", "order_lines.order_lines_pkey"] == "PRIMARY KEY (orderid, lineid)"
    assert found["constraint", "inbox.inbox_pkey"] == "PRIMARY KEY (message_id)"
    assert found["constraint", "batches.batches_never_oversold"] == (
        "CHECK (((0 <= allocated_quantity) AND (allocated_quantity <= purchased_quantity)))"
    )
    assert found["column", "batches.is_open"] == (
        "boolean not null identity: generated:s (allocated_quantity < purchased_quantity)"
    )
    assert found["index", "batches_open"].endswith("(sku, eta NULLS FIRST, added) WHERE is_open")
    assert found["column", "products.sku"].endswith(" C"), "compared byte by byte"


def test_the_revision_that_the_program_needs_is_the_last_one() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))

    assert ScriptDirectory.from_config(config).get_heads() == [REVISION]


def test_up_down_and_up_again(empty: Engine) -> None:
    assert migrations.upgrade(url_of(empty)) == REVISION
    migrated = catalogue(empty)
    require_current_schema(empty)

    migrations.downgrade(url_of(empty), "base")
    assert catalogue(empty) == {}
    with pytest.raises(Unavailable, match="at revision None, not"):
        require_current_schema(empty)

    migrations.upgrade(url_of(empty))
    assert catalogue(empty) == migrated
    require_current_schema(empty)


def test_what_waited_for_the_first_release_is_published_by_the_second(empty: Engine) -> None:
    migrations.upgrade(url_of(empty), "0001")
    with empty.begin() as connection:
        connection.execute(text("INSERT INTO outbox VALUES ('publish_line_allocated', 'LAMP', 2)"))
        connection.execute(text("INSERT INTO deliveries VALUES ('publish_line_allocated', 'LAMP', 1, 1)"))
        logged = """
            INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects) VALUES
            ('LAMP', 1, gen_random_uuid(), 'allocated.v1', '{}', 'c', 's', now(), '["publish_line_allocated", "x"]')
        """
        connection.exec_driver_sql(logged)

    migrations.upgrade(url_of(empty))

    with empty.connect() as connection:
        for table in ("outbox", "deliveries"):
            effects = connection.execute(text(f"SELECT effect FROM {table}")).scalars().all()
            assert effects == ["publish_event"]
        assert connection.execute(text("SELECT effects FROM event_log")).scalar() == ["x", "publish_event"]


OF_THE_RELEASE_BEFORE = """
    INSERT INTO products (sku, version_number) VALUES ('SOFA', 2);
    INSERT INTO batch_references (reference, sku) VALUES ('b9', 'SOFA');
    INSERT INTO batches (sku, reference, eta, initial_quantity, purchased_quantity, allocated_quantity, added)
    VALUES ('SOFA', 'b9', '2031-01-01', 10, 10, 3, 1);
    INSERT INTO order_lines (orderid, lineid, sku, version) VALUES ('o9', 'SOFA', 'SOFA', 2);
    INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref) VALUES ('SOFA', 2, 'o9', 'SOFA', 3, 'b9');
    INSERT INTO allocations_view (orderid, lineid, sku, qty, batchref) VALUES ('o9', 'SOFA', 'SOFA', 3, 'b9');
    INSERT INTO event_log (stream, version, id, type, data, correlation_id, source, time, effects) VALUES
        ('SOFA', 1, gen_random_uuid(), 'batch_created.v1',
         '{"ref": "b9", "sku": "SOFA", "qty": 10, "eta": "2031-01-01"}', 'c', 's', now(), '[]'),
        ('SOFA', 2, gen_random_uuid(), 'allocated.v1',
         '{"orderid": "o9", "sku": "SOFA", "qty": 3, "batchref": "b9", "lineid": "SOFA"}', 'c', 's', now(), '[]');
"""
"""What it writes, by its own statements' columns."""


@pytest.mark.parametrize("writes", ["before", "after"])
def test_what_the_release_before_has_written_and_goes_on_to_write_is_understood(
    empty: Engine, settings: Settings, writes: str
) -> None:
    migrations.upgrade(url_of(empty), "0008" if writes == "before" else REVISION)
    with empty.begin() as connection:
        connection.exec_driver_sql(OF_THE_RELEASE_BEFORE)

    migrations.upgrade(url_of(empty))

    service = bootstrap(replace(settings, database_url=url_of(empty)))
    try:
        for command in (
            commands.CreateBatch("b9", "SOFA", 10, date(2031, 1, 1)),
            commands.Allocate("o9", "SOFA", 3),
            commands.ReceiveBatch("b9", "r-1", 5, 1),
            commands.Dispatch("o9", "d-1", (commands.ParcelLine("SOFA", 2),)),
            commands.CreateBatch("b9", "SOFA", 10, date(2031, 1, 1)),
            commands.CancelOrder("o9"),
        ):
            service.bus.handle(command)
        found: list[object] = []
        assert check_consistency(service.engine, found.append).is_consistent, found
        with empty.connect() as connection:
            types = connection.execute(text("SELECT type FROM event_log ORDER BY version")).scalars().all()
        assert types[2:] == [
            "batch_received.v1",
            "quarantined.v1",
            "dispatched.v1",
            "order_cancelled.v1",
            "line_released.v1",
        ]
    finally:
        service.close()


def test_migrating_again_keeps_what_is_there(empty: Engine) -> None:
    migrations.upgrade(url_of(empty))
    with empty.begin() as connection:
        connection.execute(text("INSERT INTO products VALUES ('LAMP', 1)"))

    migrations.upgrade(url_of(empty))

    with empty.connect() as connection:
        assert connection.execute(text("SELECT sku FROM products")).scalars().all() == ["LAMP"]


def test_a_migration_that_fails_leaves_nothing_behind(empty: Engine) -> None:
    with empty.begin() as connection:
        connection.execute(text("CREATE TABLE products (in_the_way text)"))

    with pytest.raises(Exception, match='"products" already exists'):
        migrations.upgrade(url_of(empty))

    assert {name for kind, name in catalogue(empty) if kind == "table"} == {"products"}
    with empty.connect() as connection:
        assert connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None


def test_another_revision_is_not_taken_for_the_needed_one(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))

    with pytest.raises(Unavailable, match=f"at revision 0000, not {REVISION}; migrate it first"):
        require_current_schema(engine)


def test_a_newer_revision_than_ours_will_do_so_that_releases_can_overlap(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))

    require_current_schema(engine)


def test_a_schema_of_a_later_release_is_left_as_it_is(empty: Engine) -> None:
    """An older release is started again, and migrates first."""
    migrations.upgrade(url_of(empty))
    stamp(empty, "UPDATE alembic_version SET version_num = '0999'")

    assert migrations.upgrade(url_of(empty)) == "0999"


@pytest.mark.parametrize(
    "odd",
    [
        "UPDATE alembic_version SET version_num = 'abc'",
        "UPDATE alembic_version SET version_num = '20'",
        "INSERT INTO alembic_version VALUES ('0001')",
    ],
)
def test_what_is_no_revision_is_said_in_a_sentence(empty: Engine, odd: str) -> None:
    migrations.upgrade(url_of(empty))
    stamp(empty, odd)

    with pytest.raises(Unavailable, match=r"the table alembic_version has .*, not one number of a revision such as"):
        migrations.upgrade(url_of(empty))


def stamp(engine: Engine, statement: str) -> None:
    with engine.begin() as connection:
        connection.execute(text(statement))


def test_a_database_out_of_reach_is_said_in_a_sentence() -> None:
    with pytest.raises(Unavailable, match="connection failed"):
        migrations.upgrade("postgresql+psycopg://nobody@127.0.0.1:1/nothing")


def test_processes_that_migrate_an_empty_database_at_the_same_time_all_succeed(empty: Engine) -> None:
    command = [sys.executable, "-m", "allocation", "migrate"]
    environment = {**os.environ, "DATABASE_URL": url_of(empty), "REDIS_URL": "redis://127.0.0.1:1/0"}

    with empty.connect() as gate, empty.connect() as watch:
        gate.execute(text("LOCK TABLE pg_class IN SHARE MODE"))  # nobody can create a table, so all meet there
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        assert wait_for(lambda: number_of_others(watch) == 3 + 1, within=60), f"only {number_of_others(watch)} came"
        gate.rollback()
    outcomes = [(*process.communicate(timeout=60), process.returncode) for process in processes]

    assert outcomes == [(f"The schema is at revision {REVISION}.\n", "", 0)] * 3
    require_current_schema(empty)


def number_of_others(connection: Connection) -> int:
    others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    found = connection.execute(text(others)).scalar_one()
    connection.rollback()
    return int(found)


def test_whoever_writes_goes_on_while_a_migration_waits_for_a_reader(empty: Engine) -> None:
    """All others would queue up behind a lock that is waited for; a backup reads for hours."""
    migrations.upgrade(url_of(empty), "0005")
    with empty.connect() as backup, ThreadPoolExecutor(1) as pool:
        backup.execute(text("LOCK TABLE event_log IN ACCESS SHARE MODE"))
        migration = pool.submit(migrations.upgrade, url_of(empty))
        for _ in range(3):
            assert wait_for(lambda: is_locked_out(empty), within=30), "the migration does not come to its lock"
            with empty.begin() as writer:
                writer.execute(text("SET LOCAL lock_timeout = '5s'"))
                writer.execute(text("LOCK TABLE event_log IN ROW EXCLUSIVE MODE"))
        assert not migration.done()
        backup.rollback()
        assert migration.result(60) == REVISION

    require_current_schema(empty)


def is_locked_out(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one())


def test_a_migration_that_never_gets_its_lock_gives_up_and_goes_on_next_time(empty: Engine) -> None:
    migrations.upgrade(url_of(empty), "0005")
    with empty.connect() as backup:
        backup.execute(text("LOCK TABLE event_log IN ACCESS SHARE MODE"))
        with pytest.raises(Unavailable, match=r"given up after \d (try|tries): canceling statement due to lock"):
            migrations.upgrade(url_of(empty), patience=1)

    assert migrations.upgrade(url_of(empty)) == REVISION


def test_an_index_that_was_left_half_made_is_made_anew(empty: Engine) -> None:
    migrations.upgrade(url_of(empty))
    whole = catalogue(empty)
    migrations.downgrade(url_of(empty), "0006")
    with empty.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CREATE INDEX event_log_in_order ON event_log (stream)"))

    migrations.upgrade(url_of(empty))

    assert catalogue(empty) == whole
