"""The numbers: counted once for each process and added up, whoever is asked; and asked of the surroundings rarely."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event, Thread

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from sqlalchemy import create_engine, text
from tests import fakes

from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.domain.errors import DomainError
from allocation.observability.metrics import Metrics
from allocation.observability.metrics_folder import FOLDER, metrics_folder
from allocation.observability.server_metrics import BackingServicesCollector, CachedProbe, Probe, Snapshot
from allocation.views import due_dates
from messaging.errors import ConflictRetriesExhausted, Unavailable
from messaging.redis.lag import Lag
from messaging.sql.backlog import Backlog, Waiting


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_commands_are_counted_by_kind_and_by_how_they_ended(metrics: Metrics) -> None:
    service = fakes.Service()
    bus = replace(service.bus, observer=metrics)

    bus.handle(CreateBatch("b1", "LAMP", 1))
    for _ in range(2):
        bus.handle(Allocate("o1", "LAMP", 1))
    with pytest.raises(DomainError):
        bus.handle(ChangeBatchQuantity("b2", 1))

    counted = {
        (command, outcome): value(metrics, "allocation_commands_total", command=command, outcome=outcome)
        for command, outcome in (
            ("CreateBatch", "done"),
            ("Allocate", "done"),
            ("Allocate", "unchanged"),
            ("ChangeBatchQuantity", "refused"),
        )
    }
    assert set(counted.values()) == {1.0}
    assert value(metrics, "allocation_transaction_commands_count") == 4
    assert value(metrics, "allocation_events_total", event="Allocated") == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ConflictRetriesExhausted("x"), "overtaken"), (Unavailable("x"), "unavailable"), (KeyError("x"), "fault")],
)
def test_a_command_that_could_not_be_handled_says_why(metrics: Metrics, error: Exception, outcome: str) -> None:
    service = fakes.Service()

    def fail(*_: object) -> None:
        raise error

    bus = replace(service.bus, observer=metrics, unit_of_work=fail)  # type: ignore[arg-type]  # it raises
    with pytest.raises((type(error), Unavailable)):
        bus.handle(Allocate("o1", "LAMP", 1))

    assert value(metrics, "allocation_commands_total", command="Allocate", outcome=outcome) == 1


def test_effects_are_counted_with_those_that_failed(metrics: Metrics) -> None:
    service = fakes.Service()
    service.relay = replace(service.relay, observer=metrics)
    service.given(CreateBatch("b1", "LAMP", 1), CreateBatch("b2", "DESK", 1))
    service.publisher.failures["LAMP"] = Unavailable("redis is away")

    service.relay.deliver("publish_event")

    assert value(metrics, "allocation_effects_total", effect="publish_event", outcome="done") == 1
    assert value(metrics, "allocation_effects_total", effect="publish_event", outcome="failed") == 1


def test_connections_are_in_use_until_they_are_given_back(metrics: Metrics) -> None:
    engine = create_engine("sqlite://")
    metrics.watch_pool(engine, 8)

    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        assert value(metrics, "allocation_db_connections_in_use") == 1

    assert value(metrics, "allocation_db_connections_in_use") == 0
    assert value(metrics, "allocation_db_connections_limit") == 8
    engine.dispose()


def test_the_folder_is_a_parent_s_or_one_that_is_gone_afterwards(tmp_path: Path) -> None:
    env: dict[str, str] = {}
    with metrics_folder(env) as made:
        assert env == {FOLDER: str(made)}
        with metrics_folder(env) as same:
            assert same == made
        assert made.is_dir(), "it is the parent's to remove"
    assert env == {}
    assert not made.exists()
    with metrics_folder({FOLDER: str(tmp_path / "new")}) as given:
        assert given.is_dir()
    assert given.is_dir()


# --- the surroundings ------------------------------------------------------------


@dataclass
class Outbox:
    away: Exception | None = None
    asked: int = 0

    def __call__(self) -> Waiting:
        self.asked += 1
        if self.away:
            raise self.away
        return Waiting([Backlog("mail", waiting=7, dead=1, oldest=12.5), Backlog("publish")], dead_messages=2)


@dataclass
class Clock:
    now: float = 1_000_000.0
    seconds: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now


def redis_is_away() -> Lag:
    raise Unavailable("redis is away")


def no_lines() -> int:
    return 0


def nothing_due() -> due_dates.Backlog:
    return due_dates.Backlog(0.0, 0)


def exposed(look: Probe) -> str:
    registry = CollectorRegistry()
    registry.register(BackingServicesCollector(look, "1.2.3"))
    return generate_latest(registry).decode()


def test_says_what_waits_by_effect_and_what_was_given_up() -> None:
    said = exposed(
        Probe(Outbox(), lambda: Lag(unread=3, pending=4, oldest=5.0), lambda: 2, lambda: due_dates.Backlog(7.5, 3))
    )

    for line in (
        'allocation_up{part="database"} 1.0',
        "allocation_waiting_lines 2.0",
        "allocation_due_dates_lag_seconds 7.5",
        "allocation_overdue_batches 3.0",
        'allocation_up{part="redis"} 1.0',
        'allocation_outbox_waiting{effect="mail"} 7.0',
        'allocation_outbox_oldest_seconds{effect="mail"} 12.5',
        'allocation_dead_effects{effect="mail"} 1.0',
        'allocation_outbox_waiting{effect="publish"} 0.0',
        'allocation_outbox_oldest_seconds{effect="publish"} 0.0',
        'allocation_dead_effects{effect="publish"} 0.0',
        "allocation_dead_messages 2.0",
        "allocation_commands_unread 3.0",
        "allocation_commands_pending 4.0",
        "allocation_commands_oldest_seconds 5.0",
        'allocation_build_info{version="1.2.3"} 1.0',
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a fault in the program")])
def test_what_cannot_be_reached_is_down_and_the_rest_is_told(error: Exception) -> None:
    no_database = exposed(Probe(Outbox(away=error), lambda: Lag(3, 0, None), no_lines, nothing_due))
    no_redis = exposed(Probe(Outbox(), redis_is_away, no_lines, nothing_due))

    assert 'allocation_up{part="database"} 0.0' in no_database
    assert "allocation_commands_unread 3.0" in no_database
    assert "allocation_outbox_waiting" not in no_database
    assert 'allocation_up{part="redis"} 0.0' in no_redis
    assert 'allocation_outbox_waiting{effect="mail"} 7.0' in no_redis
    assert "allocation_commands_unread" not in no_redis


def test_database_and_redis_are_looked_at_once_a_second() -> None:
    outbox, clock = Outbox(), Clock()
    look = CachedProbe(Probe(outbox, redis_is_away, no_lines, nothing_due), clock)

    assert look() == look() == Snapshot(Outbox()(), None, 0, nothing_due())
    assert outbox.asked == 1
    clock.now += 0.99
    look()
    assert outbox.asked == 1
    clock.now += 0.01
    look()
    look()
    assert outbox.asked == 2


def test_who_comes_while_another_looks_waits_for_what_that_finds() -> None:
    outbox, looking, go_on = Outbox(), Event(), Event()

    def slowly() -> Lag:
        looking.set()
        assert go_on.wait(10)
        return Lag(0, 0, None)

    look = CachedProbe(Probe(outbox, slowly, no_lines, nothing_due), Clock())
    threads = [Thread(target=look, daemon=True) for _ in range(2)]
    threads[0].start()
    assert looking.wait(10)
    threads[1].start()
    threads[1].join(0.1)
    go_on.set()
    for thread in threads:
        thread.join(10)

    assert outbox.asked == 1
