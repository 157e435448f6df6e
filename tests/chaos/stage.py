"""The service running in a world, with a subscriber who hears all of it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from tests.chaos.findings import Findings
from tests.chaos.harvest import Subscriber, in_the_stream, logged, mails_in, read_rows, unfinished
from tests.chaos.history import History, Rows, Violation
from tests.chaos.load import Load
from tests.chaos.processes import Processes, of_release, processes
from tests.chaos.worlds import World
from tests.e2e.client import Client
from tests.e2e.service import allocation, environment, free_port
from tests.e2e.waiting import eventually

from allocation.check import Difference, check_consistency
from allocation.config import Settings
from allocation.database.engine import database_engine
from allocation.entrypoints.command_line.check import verdict_in_words


@dataclass(slots=True)
class Stage:
    world: World
    folder: Path
    parts: Processes
    subscriber: Subscriber
    api: str
    settings: Mapping[str, str]
    findings: Findings
    rounds: int = 0

    def new_load(self, seed: int) -> Load:
        """With names of its own, so that what earlier rounds left is not in the way."""
        self.rounds += 1
        self.subscriber.begin(f"r{self.rounds}")
        return Load(self.world, self.api, f"r{self.rounds}", seed)

    def unfinished(self, load: Load) -> str:
        return unfinished(self.world, load.shared.name, self.subscriber)

    def logged(self, load: Load) -> set[tuple[str, int]]:
        """The events of the round so far; none if the database does not say."""
        try:
            return logged(self.world, load.shared.name)
        except psycopg.Error:
            return set()

    def events_so_far(self) -> int:
        """Of all rounds in this world."""
        with self.world.database() as database:
            [(found,)] = database.execute("SELECT count(*) FROM event_log").fetchall()
        return int(found)

    def migrate(self, release: Path | None = None) -> None:
        """With another release than this one, if one is given: where its modules are."""
        owner = {"DATABASE_URL": self.world.owner_url or self.world.database_url}
        environment = {**self.settings, **owner, **of_release(release)}
        subprocess.run(allocation("migrate"), env=environment, check=True, stdout=subprocess.DEVNULL)

    def wait_until_ready(self) -> None:
        eventually(Client(self.api, self.world.redis_url).is_ready, "the API is ready")

    def history(self, load: Load, moments: list[Rows] | None = None) -> History:
        shared = load.shared
        rows = read_rows(self.world, shared.name)
        logged = {str(row[2]) for row in rows.event_log}
        told = self.subscriber.heard()
        mails = {one: moment for one, moment in mails_in(self.folder).items() if one in logged}
        history = History(told, shared.asked[:], shared.sent[:], rows, mails=mails)
        history.moments, history.misused, history.copies = moments or [], shared.misused, shared.copies
        history.stream = in_the_stream(self.world, shared.name)
        return history

    def books(self) -> Iterator[Violation]:
        """What `allocation check` has to say."""
        found: list[Difference] = []
        engine = database_engine(Settings.from_env(self.settings).database_url, connections=1)
        try:
            verdict = check_consistency(engine, found.append)
            if not verdict.is_consistent:
                listed = [str(difference) for difference in found[:20]]
                yield Violation("books", " ".join([*listed, verdict_in_words(verdict, len(listed))]))
        finally:
            engine.dispose()


@contextmanager
def stage(world: World, folder: Path, findings: Findings) -> Iterator[Stage]:
    """Migrate, start all parts, and wait until the API is ready."""
    port = free_port()
    settings = environment(
        DATABASE_URL=world.database_url,
        REDIS_URL=world.redis_url,
        ALLOCATION_HOME=str(folder),
        PORT=str(port),
        WEB_CONCURRENCY="1",
        LOG_FORMAT="json",
    )
    world.api = f"http://127.0.0.1:{port}"
    parts = processes(folder, settings, world.copies)
    subscriber = Subscriber(world)
    ready = Stage(world, folder, parts, subscriber, world.api, settings, findings)
    try:
        parts.start()
        ready.migrate()
        ready.wait_until_ready()
        yield ready
    finally:
        parts.stop()
        subscriber.stop()
