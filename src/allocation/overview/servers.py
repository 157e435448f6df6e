"""What the database and Redis say of themselves and of us."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import redis
from sqlalchemy import Connection, Engine, text

from allocation.adapters.redis_channels import BRIDGE_LOCK, CHANGE_BATCH_QUANTITY, COMMAND_STREAM_LOCK, COMMANDS, GROUP
from allocation.database.schema import REVISION, require_utf8
from allocation.views import due_dates
from allocation.views.backorders import waiting_lines
from allocation.views.due_dates import NOTHING_DUE
from allocation.views.stock_totals import MOST, StockTotals, stock_totals
from messaging.redis.client import redis_faults, run_of
from messaging.redis.lag import Lag, lag_of
from messaging.sql.backlog import Backlog, backlogs, dead_messages
from messaging.sql.connections import connection
from messaging.sql.exclusive import Holder, holder_of

_WHO = text("""
    SELECT split_part(current_setting('server_version'), ' ', 1) AS version,
           to_regclass('alembic_version') IS NOT NULL AS is_migrated,
           NOT current_setting('transaction_read_only')::boolean AS writes
""")
_REVISION = text("SELECT version_num FROM alembic_version")


@dataclass(frozen=True, slots=True)
class Tables:
    """What the tables say; only to be had when they are there."""

    backlogs: list[Backlog]
    dead_messages: int
    stock: StockTotals
    bridge: Holder | None
    command_stream: Holder | None
    waiting_lines: int = 0
    due_dates: due_dates.Backlog = NOTHING_DUE


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """`milliseconds` for one question, on a connection that is open; `tables` only at a revision that we can read.
    `writes`: not a standby, nor one that is set to read only."""

    version: str
    milliseconds: float
    revision: str | None
    tables: Tables | None
    writes: bool = True

    @property
    def is_current(self) -> bool:
        """A later revision is for the next release, beside which this one still works."""
        return bool(self.revision and self.revision.isdigit() and self.revision >= REVISION)


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """`product` is Redis or Valkey; `run` names this one; `commands`: how far the consumers are behind the command
    stream; `listeners` how many hear quantity changes over pub/sub. `memory_used` is the part of `maxmemory`, None
    where there is no limit, and `policy` what it does at the limit."""

    product: str
    version: str
    milliseconds: float
    commands: Lag
    listeners: int
    run: str | None = None
    memory_used: float | None = None
    policy: str | None = None


def database(engine: Engine, zone: str) -> DatabaseStatus:
    """`zone`: whose day it is by which a batch is overdue. Raises Unavailable."""
    with connection(engine, "REPEATABLE READ") as open_connection, open_connection.begin():
        require_utf8(open_connection)
        begun = time.perf_counter()
        who = open_connection.execute(_WHO).one()
        milliseconds = _milliseconds_since(begun)
        revision = open_connection.execute(_REVISION).scalar() if who.is_migrated else None
        found = DatabaseStatus(who.version, milliseconds, revision, None, who.writes)
        return replace(found, tables=_tables(open_connection, zone)) if found.is_current else found


def broker(client: redis.Redis) -> BrokerStatus:
    """Raises Unavailable."""
    with redis_faults():
        client.ping()
        begun = time.perf_counter()
        client.ping()
        milliseconds = _milliseconds_since(begun)
        server, memory = client.info("server"), client.info("memory")
        [(_, listeners)] = client.pubsub_numsub(CHANGE_BATCH_QUANTITY)
    valkey = server.get("valkey_version")
    return BrokerStatus(
        product="Valkey" if valkey else "Redis",
        version=str(valkey or server.get("redis_version", "")),
        milliseconds=milliseconds,
        commands=lag_of(client, COMMANDS, GROUP),
        listeners=int(listeners),
        run=run_of(client, server),
        memory_used=round(memory["used_memory"] / most, 3) if (most := memory.get("maxmemory")) else None,
        policy=memory.get("maxmemory_policy"),
    )


def _tables(open_connection: Connection, zone: str) -> Tables:
    return Tables(
        backlogs=backlogs(open_connection),
        dead_messages=dead_messages(open_connection),
        stock=stock_totals(open_connection, zone),
        bridge=holder_of(open_connection, BRIDGE_LOCK),
        command_stream=holder_of(open_connection, COMMAND_STREAM_LOCK),
        waiting_lines=waiting_lines(open_connection, MOST),
        due_dates=due_dates.backlog(open_connection, MOST, zone),
    )


def _milliseconds_since(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 1)
