"""The release before this one, and how this one takes its place while the service is at work.

The release before is what the history of this tree holds from before the newest migration.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from signal import SIGKILL, SIGTERM

import psycopg
import redis
from tests.chaos.rounds import Blow, Result, play
from tests.chaos.single import OPERATIONS
from tests.chaos.stage import Stage
from tests.chaos.steps import PARTS
from tests.chaos.worlds import Fault, World

from allocation.database import migrations
from allocation.database.schema import REVISION
from embedded.postgres import NAME, Postgres
from embedded.valkey import Redis

ROOT = Path(__file__).parents[2]
MIGRATED = "schema: migrated beside the release before"
REPLACED = {part: f"{part}: replaced by this release" for part in PARTS}


class Upgraded(World):
    """One PostgreSQL and one Valkey."""

    name = "an upgrade from the release before"

    def __init__(self, folder: Path) -> None:
        self._postgres, self._redis = Postgres(folder / "postgres"), Redis(folder / "redis")
        self._postgres.start()
        self._redis.start()
        self.database_url, self.redis_url = self._postgres.url, self._redis.url
        self.release_before = release_before(folder / "release-before")
        if not self.release_before:
            self.without = "Not tried: this tree has no history from which to take the release before."

    @property
    def versions(self) -> str:
        return f"{self._postgres.version}, {self._redis.version}"

    def faults(self) -> Mapping[str, Fault]:
        return {}

    def database(self, name: str = NAME) -> psycopg.Connection:
        return psycopg.connect(self.database_url, dbname=name, autocommit=True, connect_timeout=2)

    def redis(self) -> redis.Redis:
        return redis.Redis.from_url(self.redis_url, socket_timeout=5.0)

    def empty(self) -> None:
        with self.database("postgres") as database:
            database.execute(f"DROP DATABASE {NAME} WITH (FORCE)")
            database.execute(f"CREATE DATABASE {NAME}")
        with self.redis() as client:
            client.flushall()

    def close(self) -> None:
        self._redis.stop()
        self._postgres.stop()


def release_before(folder: Path) -> Path | None:
    """Where its modules are, or nothing where there is no history."""
    [newest] = Path(migrations.__file__).parent.glob(f"versions/{REVISION}_*.py")
    found = _git("log", "--follow", "--diff-filter=A", "--format=%H", "--", str(newest.relative_to(ROOT)))
    archive = folder.with_suffix(".tar")
    if not found or _git("archive", f"--output={archive}", f"{found.split()[-1]}^", "src") is None:
        return None
    shutil.unpack_archive(archive, folder)  # tarfile's own `filter` is none that every Python 3.11 has
    return folder / "src"


def upgrade(stage: Stage, world: Upgraded, seed: int) -> Result:
    """Migrate, and replace one process after the other, in any order."""

    def strike(random: Random) -> Iterator[Sequence[Blow]]:
        stage.migrate()
        yield [Blow(MIGRATED, time.time())]
        for part in random.sample([*PARTS], len(PARTS)):
            moment = time.time()
            stage.parts.replace(part, random.choice((SIGTERM, SIGKILL)))
            yield [Blow(REPLACED[part], moment, (part,))]
        with world.database() as database:
            database.execute(_last_step())

    _begin_with_release_before(stage, world)
    return play(stage, Result("fault", [MIGRATED, *REPLACED.values()], seed), strike)


def _begin_with_release_before(stage: Stage, world: Upgraded) -> None:
    """On nothing."""
    assert world.release_before, world.without
    stage.parts.stop()
    world.empty()
    stage.migrate(world.release_before)
    with world.database() as database:
        found = database.execute("SELECT version_num FROM alembic_version").fetchone()
    assert found, "the release before has not migrated"
    assert found[0] < REVISION, f"the release before has the same schema, {REVISION}"
    stage.parts.start(world.release_before)
    stage.wait_until_ready()


def _last_step() -> str:
    """Of an upgrade, as documented."""
    found = re.search(
        r"^## A new release\n.*?```sql\n(.*?)```", OPERATIONS.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found, f"{OPERATIONS} has no SQL for an upgrade"
    return found[1]


def _git(*arguments: str) -> str | None:
    """What git says, or nothing where it is not there or fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout
