"""Whether a person is needed, and what they should do first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from allocation.database.schema import REVISION
from allocation.overview.api import Api
from allocation.overview.glance import Overview, Unreachable, why
from allocation.overview.servers import BrokerStatus, DatabaseStatus, Tables

LATE = 30.0
"""Seconds. A relay that is there publishes within one, and a consumer reads at once; after an outage both catch up."""

FULL = 0.95
"""Of `maxmemory`."""

_SEE_LETTERS = "allocation dead-letters list"


@dataclass(frozen=True, slots=True)
class Problem:
    """`what` is wrong, and what `helps`: a command, or what to bring back."""

    what: str
    helps: str

    def __str__(self) -> str:
        return f"{self.what}: {self.helps}"


def problems(overview: Overview) -> list[Problem]:
    """The worst comes first; when all is fine there are none."""
    if overview.database is None and overview.broker is None:
        return [Problem("nothing runs here", "start all with `allocation run`, or say where it is with DATABASE_URL")]
    return [*_of_database(overview.database), *_of_api(overview), *_of_broker(overview)]


def _of_database(database: DatabaseStatus | Unreachable | None) -> Iterator[Problem]:
    if not isinstance(database, DatabaseStatus):
        yield Problem(f"PostgreSQL: {why(database)}", "bring it back, or start all with `allocation run`")
        return
    if not database.is_current:
        found = database.revision or "none"
        yield Problem(f"the schema is at revision {found}, and {REVISION} is needed", "allocation migrate")
    if not database.writes:
        yield Problem("PostgreSQL only reads", "promote it, point DATABASE_URL at the primary, or let it write again")
    if database.tables:
        yield from _of_tables(database.tables, writes=database.writes)


def _of_tables(tables: Tables, *, writes: bool) -> Iterator[Problem]:
    for backlog in tables.backlogs:
        if backlog.dead:
            effects = _many(backlog.dead, "dead effect", "dead effects")
            yield Problem(f"{effects} of {backlog.effect}, with what waits behind", _SEE_LETTERS)
    if tables.dead_messages:
        yield Problem(_many(tables.dead_messages, "dead message", "dead messages"), _SEE_LETTERS)
    for backlog in tables.backlogs:
        if backlog.oldest is not None and backlog.oldest > LATE:
            late = f"{backlog.effect} is late by {duration_in_words(backlog.oldest)}"
            if backlog.failing:
                yield Problem(f"{late}, and fails", "bring Redis or the mail server back; the relay's log says more")
            else:
                yield Problem(late, "is a relay running? `allocation relay`")
    if tables.due_dates.lag > LATE:
        late = f"what came due {duration_in_words(tables.due_dates.lag)} ago is not recorded"
        yield Problem(late, "is a relay running? `allocation relay`")
    if not writes:  # where nobody can be at work
        return
    if not tables.bridge:
        yield Problem("nobody listens to quantity changes", "start a consumer: `allocation consume`")
    if not tables.command_stream:
        yield Problem("nobody reads the command stream", "start a consumer: `allocation consume`")


def _of_api(overview: Overview) -> Iterator[Problem]:
    api, url, broker = overview.api, overview.api_url, overview.broker
    if not isinstance(api, Api):
        elsewhere = "or say where it is with HOST and PORT"
        yield Problem(f"no API at {url} ({api.reason})", f"start it: `allocation serve`, {elsewhere}")
    elif isinstance(broker, BrokerStatus) and api.speaks_to_another(broker.run):
        yield Problem(f"the API at {url} is that of another service", "say where ours is with HOST and PORT")
    elif api.status != "ready":
        yield Problem(f"the API at {url} is {api.status}", f"see {url}/readyz")


def _of_broker(overview: Overview) -> Iterator[Problem]:
    broker = overview.broker
    if not isinstance(broker, BrokerStatus):
        reason = why(broker).removeprefix("redis: ")
        yield Problem(f"Redis: {reason}", "bring it back; orders are taken meanwhile, and events wait")
    else:
        if broker.memory_used is not None and (broker.policy or "").startswith("allkeys"):
            yield Problem(f"Redis evicts events and commands ({broker.policy})", "set maxmemory-policy noeviction")
        elif broker.memory_used is not None and broker.memory_used > FULL:
            used = f"Redis is full: {broker.memory_used:.0%} of its maxmemory"
            yield Problem(used, "raise maxmemory, or lower EVENTS_STAY")
        behind = broker.commands.oldest
        if behind is not None and behind > LATE:
            yield Problem(f"commands wait for {duration_in_words(behind)}", "look into the log of `allocation consume`")


def duration_in_words(seconds: float) -> str:
    """As short as a person would say it: 8 s, 5 min, 3 h, 2 days."""
    for most, unit, name in ((120, 1, "s"), (7_200, 60, "min"), (172_800, 3_600, "h")):
        if seconds < most:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86_400:.0f} days"


def _many(number: int, one: str, several: str) -> str:
    return f"1 {one}" if number == 1 else f"{number:,} {several}"
