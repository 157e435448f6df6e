"""The composition root: the only module that knows every adapter. Nothing is built at import."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import redis
from sqlalchemy import Engine, create_engine

from allocation.adapters.console_sessions import SqlConsoleSessions
from allocation.adapters.key_ring import KeyRing
from allocation.adapters.keys import SqlKeys
from allocation.adapters.notifications import FileNotifications, SmtpNotifications
from allocation.adapters.redis_channels import BRIDGE, COMMAND_STREAM, command_group, event_stream
from allocation.adapters.redis_eventpublisher import RedisEventPublisher
from allocation.adapters.schema import require_current_schema
from allocation.adapters.unit_of_work import unit_of_work
from allocation.adapters.wire_names import CLOUD_EVENTS, CODEC
from allocation.config import Settings
from allocation.domain.model import DomainError
from allocation.service_layer.handlers import PublishEvent
from allocation.service_layer.ports import Notifications, Publisher, UnitOfWork
from allocation.service_layer.routing import routes
from allocation.stock_history import SqlStockHistory
from allocation.stock_list import SqlStockList
from allocation.views import Views
from messaging.bus import MessageBus
from messaging.errors import Unavailable
from messaging.observation import Observer
from messaging.redis.client import redis_client
from messaging.redis.group import ConsumerGroup
from messaging.redis.refill import Refill
from messaging.relay import Relay
from messaging.retry import Retry
from messaging.sql.backlog import Waiting, waiting
from messaging.sql.dead_letters import SqlDeadLetters
from messaging.sql.deliveries import SqlDeliveries
from messaging.sql.exclusive import KEEPALIVES, is_ours, make_exclusive
from messaging.sql.housekeeping import Housekeeping
from messaging.sql.limits import FOR_CALLERS, FOR_WORK, UNLIMITED, Limits
from messaging.sql.retelling import SqlTold
from messaging.sql.watch import Watch


@dataclass(frozen=True)
class OneAtATime:
    """A way in that keeps an order: only one process at a time can commit on its bus."""

    engine: Engine
    bus: MessageBus[UnitOfWork]

    def is_ours(self) -> bool:
        """Whether we are that process. Raises Unavailable."""
        return is_ours(self.engine)


@dataclass(frozen=True)
class Service:
    """All that entrypoints need, wired."""

    engine: Engine
    redis: redis.Redis
    bus: MessageBus[UnitOfWork]
    bridge: OneAtATime
    commands: OneAtATime
    command_group: ConsumerGroup
    relay: Relay
    refill: Refill
    views: Views
    dead_letters: SqlDeadLetters
    housekeeping: Housekeeping
    stock_list: SqlStockList
    stock_history: SqlStockHistory
    waiting: Callable[[], Waiting]
    console_sessions: SqlConsoleSessions
    keys: KeyRing

    def readiness(self) -> dict[str, str]:
        """`status` is ready, degraded (Redis is away: orders are taken, news waits) or not ready; the rest says why."""
        database, broker = self._database(), self._broker()
        status = "not ready" if database != "ok" else "ready" if broker == "ok" else "degraded"
        return {"status": status, "database": database, "redis": broker}

    def close(self) -> None:
        self.engine.dispose()
        self.bridge.engine.dispose()
        self.commands.engine.dispose()
        self.redis.close()

    def _database(self) -> str:
        try:
            require_current_schema(self.engine)
        except Unavailable as error:
            return str(error)
        return "ok"

    def _broker(self) -> str:
        try:
            self.redis.ping()
        except redis.RedisError:
            return "unreachable"
        return "ok"


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

    When `callers_wait`, whatever the database can't do within a second and a half raises Unavailable.
    """
    if callers_wait:
        engine = Watch().over(engine_for_callers(settings, connections))
    else:
        engine = database_engine(settings.database_url, connections, limits=FOR_WORK)
    client = redis_client(settings.redis_url)
    observer = observer or Observer()
    retry = Retry(again=observer.again)
    cloud_events = replace(CLOUD_EVENTS, traced=observer.keeps_traces)
    events = event_stream(client, settings.events_stay)
    table = routes(
        notifications or notifications_for(settings),
        publisher or RedisEventPublisher(events, cloud_events),
        settings.mail_to,
    )
    deliveries = SqlDeliveries(engine, CODEC)

    def one_at_a_time(name: str) -> OneAtATime:
        alone = database_engine(settings.database_url, connections=1, options=KEEPALIVES, limits=FOR_WORK)
        exclusive = make_exclusive(alone, name)
        eager = replace(retry, conflict_deadline=0.5, first_wait=0.001, longest_wait=0.002)  # it gives way to nobody
        return OneAtATime(exclusive, MessageBus(table, unit_of_work(exclusive), DomainError, eager, observer))

    return Service(
        engine=engine,
        redis=client,
        bus=MessageBus(table, unit_of_work(engine), DomainError, retry, observer),
        bridge=one_at_a_time(BRIDGE),
        commands=one_at_a_time(COMMAND_STREAM),
        command_group=command_group(client),
        relay=Relay(table, deliveries, observer=observer),
        refill=Refill(PublishEvent.name, events, deliveries, SqlTold(engine, CODEC), cloud_events.encode),
        views=Views(engine, retry),
        dead_letters=SqlDeadLetters(engine, retry),
        housekeeping=Housekeeping(engine),
        stock_list=SqlStockList(engine, retry),
        stock_history=SqlStockHistory(engine, retry),
        waiting=partial(retry, partial(waiting, engine)),
        console_sessions=SqlConsoleSessions(engine, retry),
        keys=KeyRing(SqlKeys(engine, retry).all),
    )


def engine_for_callers(settings: Settings, connections: int) -> Engine:
    """Through the pooler, if there is one: then nothing is set for a session, which is shared, but for the role."""
    if not settings.database_pooler_url:
        return database_engine(settings.database_url, connections, limits=FOR_CALLERS)
    return database_engine(settings.database_pooler_url, connections, prepares=settings.pooler_prepares)


def database_engine(
    url: str, connections: int = 10, options: str = "", limits: Limits = UNLIMITED, *, prepares: bool = True
) -> Engine:
    """A pool that neither grows nor waits long, and connections that notice when the other side is gone.

    `options` are the server's, as on its command line. Without `limits` a statement may take as long as it will.
    """
    of_the_session: dict[str, str | None] = {}
    if options:  # given empty, they would hide those in the URL
        of_the_session["options"] = options
    if not prepares:
        of_the_session["prepare_threshold"] = None  # the driver then prepares nothing, whoever asks for it
    engine = create_engine(
        url,
        isolation_level="AUTOCOMMIT",  # a transaction is begun on purpose
        pool_size=connections,
        max_overflow=0,
        pool_timeout=1.0,
        connect_args={
            "connect_timeout": 2,
            "application_name": "allocation",
            "keepalives_idle": 10,
            "keepalives_interval": 5,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            **of_the_session,
        },
    )
    return limits.on(engine)


def notifications_for(settings: Settings) -> Notifications:
    if settings.smtp_url:
        return SmtpNotifications(settings.smtp_url, settings.mail_from)
    return FileNotifications(settings.home / "mail", settings.mail_from)
