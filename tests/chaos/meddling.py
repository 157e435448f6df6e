"""What others can do to the servers while the service is at work: administrators and strangers, but no networks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from random import Random
from typing import Any

import psycopg
import redis
import requests
from tests.chaos.worlds import Fault
from tests.e2e.waiting import eventually

EVENTS, COMMANDS, GROUP = "allocation.events", "allocation.commands", "allocation"
TOLD, INCARNATION = "{allocation.events}.told", "{allocation.events}.incarnation"

Database = Callable[[], psycopg.Connection]
Redis = Callable[[], redis.Redis]

OLDER = [
    "ALTER TABLE batches RENAME COLUMN quarantined_quantity TO not_yet",
    "ALTER TABLE products RENAME COLUMN waiting TO not_yet",
    "ALTER TABLE event_log RENAME COLUMN principal TO not_yet",
    "ALTER TABLE order_lines RENAME COLUMN returned TO not_yet",
    "ALTER TABLE backorders RENAME TO not_yet",
    "ALTER TABLE stream_positions RENAME TO not_yet",
    "ALTER TABLE inbox RENAME TO not_yet",
]
"""What the code then finds is what it finds where nobody has migrated yet."""

ANEW = """
local entry = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local many = tonumber(ARGV[2])
if many < 0 then many = redis.call('XLEN', KEYS[1]) - many end
local id = entry and ARGV[1] == 'same' and entry[1] or '*'
redis.call('DEL', KEYS[1])
for _ = 1, many do redis.call('XADD', KEYS[1], id, 'stranger', 'was here'); id = '*' end
"""
"""In one step: nobody can look in between."""
ASIDE = """
for _, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 1 then redis.call('RENAME', key, 'aside ' .. key) end
end
"""
BACK = """
for _, key in ipairs(KEYS) do
    redis.call('DEL', key)
    if redis.call('EXISTS', 'aside ' .. key) == 1 then redis.call('RENAME', 'aside ' .. key, key) end
end
"""
MORE = -1
"""Than there were."""


def use_up_slots(as_ordinary_role: str, api: Callable[[], str], seconds: float) -> Fault:
    """All that are left to roles that are no superusers, while more callers come than the API has connections. Those
    that it has are good: so recovery counts from the beginning."""

    def use_up(random: Random) -> float:
        with ExitStack() as slots:
            with suppress(psycopg.OperationalError):
                while True:
                    slots.enter_context(psycopg.connect(as_ordinary_role, application_name="a stranger"))
            moment = time.time()
            with ThreadPoolExecutor(12) as crowd:
                for _ in range(12):
                    crowd.submit(_ask, api(), until=moment + seconds)
        return moment

    return use_up


def _ask(api: str, until: float) -> None:
    """Questions: commands that wait at the same time would share a connection."""
    while time.time() < until:
        with suppress(requests.RequestException), requests.Session() as session:
            session.trust_env = False
            session.get(f"{api}/v1/products", timeout=5)


def have_an_older_schema(database: Database, seconds: float) -> Fault:
    def have(random: Random) -> float:
        change = random.choice(OLDER)
        _alter(database, change, "UPDATE alembic_version SET version_num = 'before ' || version_num")
        time.sleep(seconds)
        _alter(database, _undone(change), "UPDATE alembic_version SET version_num = right(version_num, 4)")
        return time.time()

    return have


def withdraw_rights_to_a_table(database: Database, role: str, rights: str, seconds: float) -> Fault:
    """As with a table that a migration has made, until somebody grants them."""

    def withdraw(random: Random) -> float:
        table = random.choice(["batches", "products", "event_log", "inbox", "outbox", "stream_positions", "deliveries"])
        which = random.choice([rights, *rights.split(", ")])
        _alter(database, f"REVOKE {which} ON {table} FROM {role}")
        time.sleep(seconds)
        _alter(database, f"GRANT {rights} ON {table} TO {role}")
        return time.time()

    return withdraw


def _undone(change: str) -> str:
    before, _, new = change.rpartition(" TO ")
    start, _, old = before.rpartition(" COLUMN ")
    if start:
        return f"{start} COLUMN {new} TO {old}"
    table = before.removeprefix("ALTER TABLE ").removesuffix(" RENAME")
    return f"ALTER TABLE {new} RENAME TO {table}"


def _alter(database: Database, *statements: str) -> None:
    """Nobody is to wait long behind us."""

    def alter() -> bool:
        with suppress(psycopg.Error), database() as connection, connection.transaction():
            connection.execute("SET LOCAL lock_timeout = '300ms'")
            for statement in statements:
                connection.execute(statement)
            return True
        return False

    eventually(alter, "the schema is changed")


def withdraw_rights(client: Redis, let_in: Callable[[], None], seconds: float) -> Fault:
    """Of the user that the service is, and some of those who are connected."""

    def withdraw(random: Random) -> float:
        less = random.choice(["off", "resetkeys", "-@write", "-@scripting", "resetchannels", "-@read", "-@stream"])
        with client() as connection:
            connection.execute_command("ACL", "SETUSER", "allocation", less)
            if random.random() < 0.5:
                connection.execute_command("CLIENT", "KILL", "USER", "allocation")
        time.sleep(seconds)
        let_in()
        return time.time()

    return withdraw


def delete_entries(client: Redis) -> Fault:
    """Of the events: the newest, the oldest, some or all, and the stream stays."""

    def delete(random: Random) -> float:
        with client() as connection:
            found: Any = connection.xrange(EVENTS)
            ids = [entry for entry, _ in found]
            most = random.randint(1, max(1, len(ids) // 2))
            which = random.choice(["oldest", "newest", "some", "all"])
            if which in ("oldest", "all"):
                connection.xtrim(EVENTS, maxlen=len(ids) - most if which == "oldest" else 0, approximate=False)
            elif ids:
                connection.xdel(EVENTS, *(ids[-most:] if which == "newest" else random.sample(ids, most)))
        return time.time()

    return delete


def make_stream_anew(client: Redis) -> Fault:
    """The events are gone, and the stream is there again at once, with entries of somebody's or none."""

    def make(random: Random) -> float:
        with client() as connection:
            which, entries = random.choice(["same", "new"]), random.choice([0, 1, 50, MORE])
            connection.eval(ANEW, 1, EVENTS, which, entries)
        return time.time()

    return make


def lead_elsewhere(client: Redis, seconds: float) -> Fault:
    """As if the address led to another Redis for a while, and then back, as far as events are concerned."""

    def lead(random: Random) -> float:
        with client() as connection:
            connection.eval(ASIDE, 3, EVENTS, TOLD, INCARNATION)
            time.sleep(seconds)
            connection.eval(BACK, 3, EVENTS, TOLD, INCARNATION)
        return time.time()

    return lead


@contextmanager
def _policy(connection: redis.Redis, policy: str) -> Iterator[None]:
    """A Redis that has more than it may have."""
    connection.config_set("maxmemory-policy", policy)
    connection.config_set("maxmemory", 1)
    try:
        yield
    finally:
        connection.config_set("maxmemory", 0)
        connection.config_set("maxmemory-policy", "noeviction")


def fill_up(client: Redis, seconds: float) -> Fault:
    def fill(random: Random) -> float:
        with client() as connection, _policy(connection, "noeviction"):
            time.sleep(seconds)
        return time.time()

    return fill


def evict_events(client: Redis) -> Fault:
    """The stream, what is kept beside it, or both. What may be evicted is what has a time to live."""

    def evict(random: Random) -> float:
        keys = random.choice([[EVENTS], [TOLD], [INCARNATION], [TOLD, INCARNATION], [EVENTS, TOLD, INCARNATION]])
        with client() as connection:
            for key in keys:
                connection.expire(key, 100_000)
            with _policy(connection, random.choice(["volatile-random", "volatile-lru", "volatile-ttl"])):
                eventually(lambda: not connection.exists(*keys), f"{keys} are evicted")
        return time.time()

    return evict


def have_groups_of_their_own(client: Redis) -> Fault:
    """That nobody reads in, or acknowledges in."""

    def have(random: Random) -> float:
        with client() as connection:
            for stream in (EVENTS, COMMANDS):
                with suppress(redis.ResponseError):  # it is there
                    connection.xgroup_create(stream, "strangers", id="0", mkstream=True)
                connection.xreadgroup("strangers", "one", {stream: ">"}, count=random.randint(1, 20))
        return time.time()

    return have


def meddle_in_the_group(client: Redis) -> Fault:
    """All that another client can do to the group in which commands are read, several times in a row."""
    ways = (_move, _destroy, _replace, _read, _read_and_forget, _acknowledge, _claim, _delete_consumers)

    def meddle(random: Random) -> float:
        with client() as connection:
            for way in random.choices(ways, k=random.randint(4, 12)):
                with suppress(redis.ResponseError):  # there is no group at the moment
                    way(connection, random)
                time.sleep(random.uniform(0, 0.1))
        return time.time()

    return meddle


def _move(connection: redis.Redis, random: Random) -> None:
    connection.xgroup_setid(COMMANDS, GROUP, random.choice(["0", "$"]))


def _destroy(connection: redis.Redis, _: Random) -> None:
    connection.xgroup_destroy(COMMANDS, GROUP)


def _replace(connection: redis.Redis, random: Random) -> None:
    with connection.pipeline(transaction=True) as at_once:
        at_once.xgroup_destroy(COMMANDS, GROUP)
        at_once.xgroup_create(COMMANDS, GROUP, id=random.choice(["0", "$"]))
        at_once.execute()


def _read(connection: redis.Redis, random: Random) -> None:
    connection.xreadgroup(GROUP, "stranger", {COMMANDS: ">"}, count=random.randint(1, 5), block=200)


def _read_and_forget(connection: redis.Redis, random: Random) -> None:
    connection.xreadgroup(GROUP, "stranger", {COMMANDS: ">"}, count=random.randint(1, 5), block=200, noack=True)


def _acknowledge(connection: redis.Redis, random: Random) -> None:
    if pending := _some_pending(connection, random):
        connection.xack(COMMANDS, GROUP, *pending)


def _claim(connection: redis.Redis, random: Random) -> None:
    if pending := _some_pending(connection, random):
        connection.xclaim(COMMANDS, GROUP, "stranger", 0, pending)


def _delete_consumers(connection: redis.Redis, _: Random) -> None:
    """And with them what they have read and not acknowledged."""
    consumers: Any = connection.xinfo_consumers(COMMANDS, GROUP)
    for consumer in consumers:
        connection.xgroup_delconsumer(COMMANDS, GROUP, consumer["name"])


def _some_pending(connection: redis.Redis, random: Random) -> list[Any]:
    """Nothing is pending for long."""
    deadline = time.monotonic() + 0.2
    while not (found := connection.xpending_range(COMMANDS, GROUP, "-", "+", 50)) and time.monotonic() < deadline:
        pass
    return [one["message_id"] for one in found if random.random() < 0.5]
