"""The composition root: the only module that knows every adapter. Nothing is built at import."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from zoneinfo import ZoneInfo

import redis
from sqlalchemy import Engine

from allocation.access.console_sessions import SqlConsoleSessions
from allocation.access.key_cache import ApiKeyCache
from allocation.access.sql_keys import SqlKeys
from allocation.adapters.notifications import FileNotifications, SmtpNotifications
from allocation.adapters.redis_channels import (
    BRIDGE_LOCK,
    COMMAND_STREAM_LOCK,
    REPLIES_STAY,
    command_group,
    event_stream,
)
from allocation.adapters.redis_eventpublisher import RedisEventPublisher
from allocation.adapters.unit_of_work import unit_of_work
from allocation.adapters.wire_names import CLOUD_EVENTS, CODEC
from allocation.config import Settings
from allocation.database.engine import database_engine
from allocation.database.schema import require_current_schema, require_writes
from allocation.database.tables import ORDER_OF_EVENT
from allocation.domain import explaining
from allocation.domain.errors import DomainError
from allocation.domain.explaining import Explanation
from allocation.domain.lines import LineTerms
from allocation.domain.names import forms
from allocation.service_layer import messages
from allocation.service_layer.ports import Notifications, Publisher, UnitOfWork
from allocation.service_layer.routing import PUBLISH_EVENT, routes
from allocation.views import Views
from messaging.apart import Apart
from messaging.bus import MessageBus
from messaging.errors import Unavailable
from messaging.observation import Observer
from messaging.outbox.relay import Relay
from messaging.redis.backfill import Backfill
from messaging.redis.client import redis_client, redis_probe, run_of
from messaging.redis.group import ConsumerGroup
from messaging.redis.replies import Replies
from messaging.retry import Retry
from messaging.routes import Routes
from messaging.sql.backlog import Waiting, waiting
from messaging.sql.connections import Database
from messaging.sql.dead_letters import SqlDeadLetters
from messaging.sql.deliveries import SqlDeliveries
from messaging.sql.exclusive import ExclusiveBus, make_exclusive
from messaging.sql.housekeeping import Housekeeping
from messaging.sql.limits import FOR_CALLERS, FOR_WORK
from messaging.sql.log_reader import SqlLogReader
from messaging.sql.redelivery import SqlDelivered
from messaging.sql.watchdog import Timeouts, Watchdog

MANY_EVENTS = 500
"""A command that leads to more of them at once runs apart."""

CALLERS_WAIT = 30.0
"""Seconds, for a command that moves many lines."""


@dataclass(frozen=True)
class Service:
    """All that entrypoints need, wired."""

    engine: Engine
    long_engine: Engine | None
    redis_probe: redis.Redis
    redis: redis.Redis
    bus: MessageBus[UnitOfWork]
    pubsub_bus: ExclusiveBus[UnitOfWork]
    command_bus: ExclusiveBus[UnitOfWork]
    command_group: ConsumerGroup
    replies: Replies
    relay: Relay
    backfill: Backfill
    views: Views
    log: SqlLogReader
    dead_letters: SqlDeadLetters
    housekeeping: Housekeeping
    waiting: Callable[[], Waiting]
    unlimited: Callable[[], AbstractContextManager[UnitOfWork]]
    """Without the limit on events that callers have; what is decided there is never committed."""
    console_sessions: SqlConsoleSessions
    keys: ApiKeyCache

    def readiness(self) -> dict[str, str]:
        """`status` is ready, degraded (Redis is away: orders are taken, events wait) or not ready; the rest says why.

        `redis_run` is for others to see whether they speak to the same Redis, if it tells.
        """
        database, (broker, run) = self._database(), self._broker()
        status = "not ready" if database != "ok" else "ready" if broker == "ok" else "degraded"
        return {"status": status, "database": database, "redis": broker} | ({"redis_run": run} if run else {})

    def explain(self, sku: str, qty: int, terms: LineTerms) -> Explanation:
        """Which batch a line would get now, and why. Raises InvalidSku, Unavailable."""

        def ask() -> Explanation:
            with self.unlimited() as uow:
                products = [uow.products.get(form) for form in forms(sku)]
                known = next((product for product in products if product.is_known), products[0])
                return explaining.explain(known, qty, terms)

        return self.bus.retry(ask)

    def close(self) -> None:
        self.engine.dispose()
        if self.long_engine:
            self.long_engine.dispose()
        self.pubsub_bus.close()
        self.command_bus.close()
        self.redis.close()
        self.redis_probe.close()

    def _database(self) -> str:
        try:
            require_current_schema(self.engine)
            require_writes(self.engine, self.views.time_zone)
        except Unavailable as error:
            return str(error)
        return "ok"

    def _broker(self) -> tuple[str, str | None]:
        try:
            self.redis_probe.ping()
            return "ok", run_of(self.redis_probe)
        except redis.RedisError:
            return "unreachable", None


def bootstrap(
    settings: Settings,
    *,
    notifications: Notifications | None = None,
    publisher: Publisher | None = None,
    connections: int = 10,
    callers_wait: bool = False,
    observer: Observer | None = None,
) -> Service:
    """Wire the service as the settings say, with other parts where given. `connections`: at most, to the database.

    When `callers_wait`, whatever the database can't do within a second and a half raises Unavailable; commands that
    move many lines have longer, one at a time.
    """
    engine, long_engine = engines(settings, connections, callers_wait=callers_wait)
    client = redis_client(settings.redis_url)
    observer = observer or Observer()
    retry = Retry(again=observer.again)
    database = Database(engine, retry)
    cloud_events = replace(CLOUD_EVENTS, traced=observer.keeps_traces)
    events = event_stream(client, settings.events_stay)
    table = routes(
        notifications or notifications_for(settings),
        publisher or RedisEventPublisher(events, cloud_events),
        settings.mail_to,
    )
    deliveries = SqlDeliveries(engine, CODEC)
    zone = ZoneInfo(settings.time_zone)

    short = unit_of_work(engine, zone, most_events=MANY_EVENTS if callers_wait else None)
    bus: MessageBus[UnitOfWork] = MessageBus(table, short, DomainError, retry, observer)
    if long_engine:
        long_bus = replace(bus, unit_of_work=unit_of_work(long_engine, zone))
        bus.apart = Apart(messages.moves_many_lines, long_bus, seconds=CALLERS_WAIT)

    return Service(
        engine=engine,
        long_engine=long_engine,
        redis_probe=redis_probe(settings.redis_url),
        redis=client,
        bus=bus,
        pubsub_bus=exclusive_bus(settings, BRIDGE_LOCK, table, retry, observer),
        command_bus=exclusive_bus(settings, COMMAND_STREAM_LOCK, table, retry, observer),
        command_group=command_group(client),
        replies=Replies(client, settings.reply_streams, REPLIES_STAY, observer.reply_given_up),
        relay=Relay(table, deliveries, observer=observer),
        backfill=Backfill(PUBLISH_EVENT, events, deliveries, SqlDelivered(engine, CODEC), cloud_events.encode),
        views=Views(database, settings.time_zone),
        log=SqlLogReader(database, subject=ORDER_OF_EVENT),
        dead_letters=SqlDeadLetters(database),
        housekeeping=Housekeeping(engine),
        waiting=partial(retry, partial(waiting, engine, list(table.all_effect_names()))),
        unlimited=unit_of_work(engine, zone),
        console_sessions=SqlConsoleSessions(database),
        keys=ApiKeyCache(SqlKeys(database).all),
    )


def exclusive_bus(
    settings: Settings, lock: str, table: Routes[UnitOfWork], retry: Retry, observer: Observer
) -> ExclusiveBus[UnitOfWork]:
    """For a way in that keeps an order."""
    alone = database_engine(settings.database_url, connections=1, limits=FOR_WORK)
    engine = make_exclusive(alone, lock)
    eager = replace(retry, conflict_deadline=0.5, first_wait=0.001, longest_wait=0.002)  # it gives way to nobody
    return ExclusiveBus(
        table,
        unit_of_work(engine, ZoneInfo(settings.time_zone)),
        DomainError,
        eager,
        observer,
        engine=engine,
    )


def engines(settings: Settings, connections: int, *, callers_wait: bool) -> tuple[Engine, Engine | None]:
    """And where callers wait, one for commands that move many lines."""
    if not callers_wait:
        return database_engine(settings.database_url, connections, limits=FOR_WORK), None
    alone = database_engine(settings.database_url, connections=1, limits=FOR_WORK)
    long_engine = Watchdog(Timeouts(longest=CALLERS_WAIT)).over(alone)
    return Watchdog().over(engine_for_callers(settings, connections)), long_engine


def engine_for_callers(settings: Settings, connections: int) -> Engine:
    """Through the pooler, if there is one: then no limit is set for a session, which is shared, but for the role."""
    if not settings.database_pooler_url:
        return database_engine(settings.database_url, connections, limits=FOR_CALLERS)
    return database_engine(settings.database_pooler_url, connections, prepares=settings.pooler_prepares)


def notifications_for(settings: Settings) -> Notifications:
    if settings.smtp_url:
        return SmtpNotifications(settings.smtp_url, settings.mail_from)
    return FileNotifications(settings.home / "mail", settings.mail_from)
