"""One PostgreSQL and one Valkey, with a proxy before each, and all that can befall them."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random

import psycopg
import redis
from tests.chaos import meddling
from tests.chaos.clocks import DAY, HOUR, Clocks
from tests.chaos.proxy import Proxy
from tests.chaos.worlds import Fault, World

from embedded.binaries import redis_server
from embedded.postgres import Postgres
from embedded.valkey import Redis

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"
ROLE, USER, PASSWORD = "allocation_api", "allocation", "ordinary"
SLOTS = "postgres: all slots used up for 2 s"
OUR_GROUP = "redis: our group lost, moved and read in by others"


class Single(World):
    """One PostgreSQL and one Valkey, durable, each behind a proxy. The service has no rights but those of which the
    documentation says that they are enough."""

    name = "single servers"
    goes_on = (SLOTS,)

    def __init__(self, folder: Path) -> None:
        self._postgres, self._redis = Postgres(folder / "postgres"), Redis(folder / "redis")
        self._clocks = Clocks(folder, "postgres", redis_server().name)
        self._postgres.start()
        self._redis.start()
        self._database_way = Proxy(_port(self._postgres.url))
        self._redis_way = Proxy(_port(self._redis.url))
        self.owner_url = _by_way_of(self._postgres.url, self._database_way)
        self.database_url = _as(self.owner_url, ROLE)
        self.redis_url = _as(_by_way_of(self._redis.url, self._redis_way), USER)
        with self.database() as database:
            database.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
            self._rights = _documented(rf"^GRANT (.*) ON ALL TABLES IN SCHEMA public TO {ROLE};$")
            database.execute(f"ALTER DEFAULT PRIVILEGES GRANT {self._rights} ON TABLES TO {ROLE}")
        self._let_in()
        self._clocks.require("postgres", self._time_of_postgres)
        self._clocks.require(redis_server().name, self._time_of_redis)
        if self._clocks.missing:
            self.without = f"No clock was made to jump: {self._clocks.missing}."

    @property
    def versions(self) -> str:
        return f"{self._postgres.version}, {self._redis.version}"

    def faults(self) -> Mapping[str, Fault]:
        return {
            "postgres: kill -9, restart": self._restart_postgres,
            "postgres: all backends terminated": self._terminate_backends,
            "postgres: connections reset": _held(self._database_way.reset_all),
            "postgres: connections refused for 1 s": _held(self._database_way.refuse, 1.0, self._database_way.pass_on),
            "postgres: silent for 2 s, then reset": _held(self._database_way.swallow, 2.0, self._end_database_silence),
            "postgres: replies to COMMIT lost": lose_replies([self._database_way], b"COMMIT"),
            "redis: kill -9, restart": self._restart_redis,
            "redis: events forgotten": self._forget_events,
            "redis: kill -9, restart without its events": self._restart_without_events,
            "redis: connections reset": _held(self._redis_way.reset_all),
            "redis: connections refused for 1 s": _held(self._redis_way.refuse, 1.0, self._redis_way.pass_on),
            "redis: silent for 2 s, then reset": _held(self._redis_way.swallow, 2.0, self._end_redis_silence),
            "redis: replies to the publisher lost": lose_replies([self._redis_way], b"EVALSHA"),
            "redis: replies to acknowledgements lost": lose_replies([self._redis_way], b"XACK"),
            SLOTS: meddling.use_up_slots(_as(self._postgres.url, ROLE), lambda: self.api, 2.0),
            "postgres: schema older than the code for 2 s": meddling.have_an_older_schema(self.database, 2.0),
            "postgres: rights withdrawn for 2 s": meddling.withdraw_rights_to_a_table(
                self.database, ROLE, self._rights, 2.0
            ),
            "redis: rights withdrawn for 1 s": meddling.withdraw_rights(self.redis, self._let_in, 1.0),
            "redis: events deleted by another client": meddling.delete_entries(self.redis),
            "redis: stream recreated by another client": meddling.make_stream_anew(self.redis),
            "redis: events lead elsewhere for 3 s, and back": meddling.lead_elsewhere(self.redis, 3.0),
            "redis: full for 2 s": meddling.fill_up(self.redis, 2.0),
            "redis: events evicted": meddling.evict_events(self.redis),
            "redis: other clients in groups of their own": meddling.have_groups_of_their_own(self.redis),
            OUR_GROUP: meddling.meddle_in_the_group(self.redis),
            **({} if self._clocks.missing else self._jumps()),
        }

    def _jumps(self) -> Mapping[str, Fault]:
        jump, far = self._clocks.jump, (40 * DAY, -40 * DAY)
        return {
            "clock of the API jumps": jump("serve", *far, meanwhile=self._forget_events),
            "clock of the relay jumps": jump("relay", *far, meanwhile=self._forget_events),
            "clock of the consumer jumps": jump("consume", *far, meanwhile=self._forget_events),
            "clock of Redis jumps": jump(redis_server().name, 8 * DAY, -8 * DAY, HOUR, -HOUR),
            "clock of the database jumps": jump("postgres", HOUR, -HOUR, *far, meanwhile=self._forget_events),
        }

    def database(self) -> psycopg.Connection:
        return psycopg.connect(self._postgres.url, autocommit=True, connect_timeout=2)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._redis.url, socket_timeout=5.0, socket_connect_timeout=2.0)

    def close(self) -> None:
        self._clocks.close()
        self._database_way.close()
        self._redis_way.close()
        self._redis.stop()
        self._postgres.stop()

    def _time_of_postgres(self) -> float:
        with self.database() as database:
            found = database.execute("SELECT extract(epoch FROM clock_timestamp())::float8").fetchone()
        return float(found[0]) if found else 0.0

    def _time_of_redis(self) -> float:
        with self.redis() as client:
            return float(client.time()[0])

    def _restart_postgres(self, random: Random) -> float:
        return restart(self._postgres, random)

    def _restart_redis(self, random: Random) -> float:
        begun = restart(self._redis, random)
        self._let_in()
        return begun

    def _let_in(self) -> None:
        """The user of the service; Redis forgets about it when it is started anew."""
        rights = shlex.split(_documented(rf"ACL SETUSER {USER} (.*)$").replace("password", PASSWORD))
        with self.redis() as client:
            client.execute_command("ACL", "SETUSER", USER, "reset", *rights)

    def _terminate_backends(self, random: Random) -> float:
        begun = time.time()
        query = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'allocation'"
        with self.database() as database:
            database.execute(query)
        return begun

    def _forget_events(self, random: Random) -> float:
        with self.redis() as client:
            forget_events(client)
        return time.time()

    def _restart_without_events(self, random: Random) -> float:
        begun = self._restart_redis(random)
        self._forget_events(random)
        return begun

    def _end_database_silence(self) -> None:
        self._database_way.reset_all()
        self._database_way.pass_on()

    def _end_redis_silence(self) -> None:
        self._redis_way.reset_all()
        self._redis_way.pass_on()


class Twins(Single):
    name = "single servers, with two relays and two consumers"
    copies = 2

    def faults(self) -> Mapping[str, Fault]:
        """Longer than anybody waits between two tries."""
        away = _held(self._database_way.refuse, 10.0, self._database_way.pass_on)
        return {"postgres: connections refused for 10 s": away, **super().faults()}


def _held(begin: Callable[[], None], seconds: float = 0.0, end: Callable[[], None] = lambda: None) -> Fault:
    """Recovery counts from the end."""

    def hold(random: Random) -> float:
        begin()
        time.sleep(seconds)
        end()
        return time.time()

    return hold


def restart(server: Postgres | Redis, random: Random) -> float:
    server.kill()
    begun = time.time()
    time.sleep(random.uniform(0, 0.5))
    server.start()
    return begun


def forget_events(client: redis.Redis) -> None:
    client.delete("allocation.events", "{allocation.events}.told")


def lose_replies(ways: Sequence[Proxy], request: bytes) -> Fault:
    """Of whichever way is used; the others forget it."""

    def lose(random: Random) -> float:
        begun = time.time()
        for _ in range(random.randint(1, 4)):
            swallowed = sum(way.replies_swallowed for way in ways)
            for way in ways:
                way.swallow_next_reply_to(request)
            deadline = time.monotonic() + 5
            while sum(way.replies_swallowed for way in ways) == swallowed and time.monotonic() < deadline:
                time.sleep(0.01)
            for way in ways:
                way.swallow_next_reply_to(b"")
        return begun

    return lose


def _as(url: str, user: str) -> str:
    """The same server for another user."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{user}:{PASSWORD}@{rest.rpartition('@')[2]}"


def _documented(pattern: str) -> str:
    found = re.search(pattern, OPERATIONS.read_text("utf-8"), re.MULTILINE)
    assert found, f"{OPERATIONS} says nothing of {pattern}"
    return found[1]


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _by_way_of(url: str, proxy: Proxy) -> str:
    return url.replace(f":{_port(url)}/", f":{proxy.port}/")
