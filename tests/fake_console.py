"""The service in memory as the console asks it, and a browser that keeps its cookies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from hashlib import sha256
from operator import itemgetter
from typing import Any, cast

from tests import fakes
from tests.one_app import client_of
from tests.replay import replay
from werkzeug.test import TestResponse

from allocation.access.key_cache import ApiKeyCache
from allocation.access.keys import Scope, StoredKey
from allocation.access.rates import Rates
from allocation.adapters.wire_names import CODEC
from allocation.bootstrap import Service
from allocation.domain.batches import Batch as DomainBatch
from allocation.domain.commands import Command
from allocation.domain.events import Event
from allocation.domain.lines import PlacedLine, is_too_late, there_on
from allocation.domain.product import Product
from allocation.entrypoints.console.feed import Streams
from allocation.entrypoints.console.visitors import COOKIE, Visitor
from allocation.entrypoints.flask_app import create_app
from allocation.entrypoints.http.access import UNRESTRICTED, AccessPolicy
from allocation.views import AtRisk, AtRiskCursor, Backorder, BackorderCursor, Batch, BatchCursor, Line, Order, Promise
from allocation.views.batches import State
from allocation.views.pages import Page, cut
from allocation.views.stock_history import Balance, History, Step, reckoned
from allocation.views.stock_list import Shelf, StockPage
from messaging.envelope import Recorded
from messaging.errors import Unavailable
from messaging.sql.backlog import Backlog, Waiting
from messaging.sql.dead_letters import Beginning, DeadEffect, DeadLetter, DeadMessage
from messaging.sql.log_reader import EventFilter, LoggedEvent
from messaging.testing import Waiting as WaitingEffect

A_MOMENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class FakeKeys:
    def __init__(self) -> None:
        self.stored: dict[str, StoredKey] = {}
        self.cache = ApiKeyCache(lambda: [*self.stored.values()], clock=self._later)
        self._now = 0.0

    def create(self, name: str, *scopes: Scope, rate: int | None = None) -> str:
        key_id = f"{len(self.stored):012x}"
        key = f"alk_{key_id}_{name.encode().hex():0<64}"
        self.stored[name] = StoredKey(name, key_id, sha256(key.encode()).digest(), scopes, rate, A_MOMENT, "anna")
        return key

    def revoke(self, name: str) -> None:
        self.stored[name] = replace(self.stored[name], revoked_at=A_MOMENT)

    def _later(self) -> float:
        """A minute each time, so that nothing is remembered."""
        self._now += 60
        return self._now


class FakeSessions:
    def __init__(self) -> None:
        self.opened: dict[str, str] = {}

    def open(self, token: str, principal: str) -> None:
        self.opened[token] = principal

    def principal(self, token: str) -> str | None:
        return self.opened.get(token)

    def close(self, token: str) -> None:
        self.opened.pop(token, None)


class FakeLog:
    def __init__(self, service: fakes.Service) -> None:
        self._service = service
        self.is_away = False

    def latest(self, most: int) -> list[LoggedEvent]:
        if self.is_away:
            raise Unavailable("no database")
        return self._entries()[-most:]

    def knows(self, subject: str) -> bool:
        return bool(self.read(EventFilter(subject=subject), None, 1))

    def read(self, wanted: EventFilter, after: object, most: int) -> list[LoggedEvent]:
        assert after is None
        return [entry for entry in self._entries() if entry.data.get("orderid") == wanted.subject][:most]

    def _entries(self) -> list[LoggedEvent]:
        recorded = sorted(self._all(), key=lambda one: one.metadata.time)
        return [_entry(one) for one in recorded]

    def _all(self) -> list[Recorded[object]]:
        return [one for stream in self._service.memory.log.values() for one in stream]


class FakeDeadLetters:
    def __init__(self) -> None:
        self.letters: list[DeadMessage] = []
        self.dead_effects: list[DeadEffect] = []
        self.retried: list[DeadEffect] = []

    def find(self, letter_id: str) -> DeadLetter | None:
        every: list[DeadLetter] = [*self.letters, *self.dead_effects]
        return next((letter for letter in every if letter.id == letter_id), None)

    def beginnings(self, most: int, longest: int) -> list[Beginning]:
        return [_beginning(letter, longest) for letter in self.letters[:most]]

    def effects(self, most: int | None = None) -> list[DeadEffect]:
        return self.dead_effects[:most]

    def retry_effect(self, letter: DeadEffect) -> None:
        self.retried.append(letter)

    def resolve(self, letter: DeadMessage) -> None:
        self.letters.remove(letter)

    def fail_again(self, letter: DeadMessage, reason: str) -> None:
        self.letters[self.letters.index(letter)] = replace(letter, reason=reason, attempts=letter.attempts + 1)


class FakeViews:
    def __init__(self, service: fakes.Service) -> None:
        self._service = service

    def order(self, orderid: str) -> Order | None:
        here = [(product, line) for product in products(self._service) for line in product.lines.of_order(orderid)]
        lines = [_line(product, line) for product, line in here]
        is_cancelled = any(product.lines.is_cancelled(orderid) for product, _ in here)
        return Order.of(orderid, lines, is_cancelled=is_cancelled) if lines else None

    def backorders(self, sku: str | None, after: BackorderCursor | None, most: int) -> Page[Backorder, BackorderCursor]:
        behind = after or BackorderCursor("", -100, 0)
        waiting = [one for one in self._waiting() if sku in {None, one[1].sku} and _place(one[1]) > behind]
        end = _place(waiting[most - 1][1]) if len(waiting) > most else None
        return [one for one, _ in waiting[:most]], end

    def at_risk(self, sku: str | None, after: AtRiskCursor | None, most: int) -> Page[AtRisk, AtRiskCursor]:
        late = sorted((one for product in products(self._service) for one in _at_risk(product)), key=itemgetter(0))
        found = [(end, one) for end, one in late if sku in {None, one.sku} and (after is None or end > after)]
        return [one for _, one in found[:most]], found[most - 1][0] if len(found) > most else None

    def batches(
        self, sku: None, after: BatchCursor | None, most: int, *, overdue: bool, quarantined: bool
    ) -> Page[Batch, BatchCursor]:
        every = [batch for product in products(self._service) for batch in held_by(product)]
        wanted = [one for one in every if (one.state == "overdue" if overdue else one.quarantined)]
        listed = sorted((one.eta if overdue and one.eta else date.min, one.ref, one) for one in wanted)
        last = (after.eta or date.min, after.ref) if after else (date.min, "")
        found = [one for day, ref, one in listed if (day, ref) > last]
        return cut(found, most, lambda one: BatchCursor(one.ref, one.eta if overdue else None))

    def waiting_lines(self) -> int:
        return len(self._waiting())

    def backorders_of(self, orderid: str) -> list[Backorder]:
        return [one for one, _ in self._waiting() if one.orderid == orderid]

    def _waiting(self) -> list[tuple[Backorder, PlacedLine]]:
        return [one for product in products(self._service) for one in _queue(product)]

    def batch(self, reference: str) -> Batch | None:
        for product in products(self._service):
            for held in held_by(product):
                if held.ref == reference:
                    return held
        return None

    def stock_list(self, part: str, after: str, most: int) -> StockPage:
        found = sorted(product.sku for product in products(self._service) if part.lower() in product.sku.lower())
        behind = [sku for sku in found if sku > after]
        shelves = [_shelf(product) for product in products(self._service) if product.sku in behind[:most]]
        return StockPage(shelves, behind[most - 1] if len(behind) > most else None)

    def stock_history(self, sku: str, before: int | None, most: int) -> History | None:
        log = self._service.memory.log.get(sku)
        return history(log, before, most) if log else None


class Console:
    """What the app is wired with, and a browser that looks at it."""

    def __init__(self, keys: FakeKeys | None = None, *, own_app: bool = False) -> None:
        self.now = 0.0
        self.service = fakes.Service()
        self.bus = self.service.bus
        self.relay = self.service.relay
        self.views = FakeViews(self.service)
        self.log = FakeLog(self.service)
        self.dead_letters = FakeDeadLetters()
        self.console_sessions = FakeSessions()
        policy = AccessPolicy(keys.cache, rates=Rates(lambda: self.now)) if keys else UNRESTRICTED
        self.browser = create_app(cast(Service, self), policy).test_client() if own_app else client_of(self, policy)
        self.app = self.browser.application

    @property
    def streams(self) -> Streams:
        streams: Streams = self.app.extensions["console.streams"]
        return streams

    def given(self, *commands: Command) -> None:
        self.service.given(*commands)

    def look(self, path: str = "", **asked: object) -> TestResponse:
        return self.browser.get(f"/console{path}", query_string=cast(Mapping[str, str], asked))

    def send(self, path: str, headers: Mapping[str, str] | None = None, **fields: str) -> TestResponse:
        """A form as a page of ours has it."""
        return self.browser.post(f"/console{path}", data={"csrf_token": self.csrf_token()} | fields, headers=headers)

    def csrf_token(self) -> str:
        """As a form would have it."""
        self.look("/sign-in")
        cookie = self.browser.get_cookie(COOKIE, path="/console")
        assert cookie
        return self.csrf_token_of(cookie.value)

    @staticmethod
    def csrf_token_of(token: str) -> str:
        return Visitor(token, is_new=False, principal=None, is_open=True).csrf_token

    def sign_in(self, key: str, **fields: str) -> TestResponse:
        return self.send("/sign-in", None, key=key, **fields)

    # --- what is asked of the service

    def waiting(self) -> Waiting:
        letters = self.service.memory.outbox
        effects = sorted(self.relay.routes.all_effect_names())
        backlogs = [self._backlog(effect, [one for one in letters if one.effect == effect]) for effect in effects]
        return Waiting(backlogs, len(self.dead_letters.letters))

    @staticmethod
    def _backlog(effect: str, letters: list[WaitingEffect]) -> Backlog:
        return Backlog(effect, waiting=len(letters), dead=sum(one.dead for one in letters), oldest=0.0)


def products(service: fakes.Service) -> list[Product]:
    return [
        replay(sku, [cast(Event, one.event) for one in recorded])
        for sku, recorded in sorted(service.memory.log.items())
        if recorded
    ]


def view_of(batch: DomainBatch) -> Batch:
    return Batch(
        batch.reference,
        batch.sku,
        batch.purchased_quantity,
        batch.promised_quantity,
        batch.available_quantity,
        batch.eta,
        batch.held_quantity,
        batch.dispatched_quantity,
        batch.quarantined_quantity,
        batch.expires,
        state_of(batch.eta, batch.expires, fakes.TODAY),
        batch.location,
    )


def state_of(eta: date | None, expires: date | None, today: date) -> State:
    if expires and expires < today:
        return "expired"
    if eta is None:
        return "received"
    return "overdue" if eta < today else "expected"


def held_by(product: Product) -> list[Batch]:
    return [view_of(batch) for batch in product.batches.of(product.sku)]


def balance_of(product: Product) -> Balance:
    now = sum(held.available for held in held_by(product) if held.eta is None)
    return Balance(now, sum(held.available for held in held_by(product)) - now)


def history(log: list[Recorded[object]], before: int | None, most: int) -> History:
    product = replay(log[0].stream, [cast(Event, one.event) for one in log])
    held = held_by(product)
    end = before or len(log) + 1
    first = max(1, end - most)
    arrivals = {one.added for one in product.batches.of(product.sku)}
    steps = reckoned([_step(one) for one in log], held, {}, arrivals)
    return History(
        sku=product.sku,
        batches=held,
        steps=steps[first - 1 : end - 1][::-1],
        older=first if first > 1 else None,
        unrecorded=sum(batch.available for batch in held if batch.state == "expired"),
    )


def dead_message(number: int, body: bytes, reason: str = "not a message") -> DeadMessage:
    return DeadMessage(number, "change_batch_quantity", body, reason, 1, A_MOMENT, A_MOMENT)


def dead_effect(stream: str, version: int = 1) -> DeadEffect:
    event: dict[str, Any] = {"type": "allocated.v1"}
    return DeadEffect("publish_event", stream, version, "refused", 5, A_MOMENT, A_MOMENT, 2, event)


def _beginning(letter: DeadMessage, longest: int) -> Beginning:
    body, size = letter.body[:longest], len(letter.body)
    return Beginning(letter.number, letter.source, body, size, letter.reason, letter.attempts, letter.last_failed_at)


def _line(product: Product, line: PlacedLine) -> Line:
    further = {"priority": line.terms.priority, "needed_by": line.terms.needed_by}
    return Line.of(line.lineid, line.sku, _promises(product, line), line.returned, line.waiting, **further)


def _queue(product: Product) -> list[tuple[Backorder, PlacedLine]]:
    waiting = [line for line in product.lines.of_sku(product.sku).values() if line.waiting]
    largest = max((batch.available for batch in held_by(product)), default=0)
    queue = []
    for position, line in enumerate(sorted(waiting, key=lambda line: line.turn), start=1):
        needs = 1 if line.terms.may_split else line.waiting
        of_line = line.orderid, line.lineid, line.sku, line.waiting
        terms = line.terms.priority, line.terms.needed_by, list(line.terms.locations) or None
        queue.append((Backorder(*of_line, position, needs, largest, A_MOMENT, *terms), line))
    return queue


def _at_risk(product: Product) -> Iterator[tuple[AtRiskCursor, AtRisk]]:
    today = fakes.TODAY
    for line in product.lines.of_sku(product.sku).values():
        day, of_line = line.terms.needed_by, (line.orderid, line.lineid, line.sku)
        if day is None:
            continue
        for one in line.allocations:
            eta = product.batches[one.batchref].eta
            if one.promised and is_too_late(eta, day, today):
                late = AtRisk(*of_line, one.promised, one.batchref, eta, day, (there_on(eta, today) - day).days)
                yield AtRiskCursor(day, line.sku, one.version), late
        if line.waiting and day < today:
            late = AtRisk(*of_line, line.waiting, None, None, day, (today - day).days)
            yield AtRiskCursor(day, line.sku, line.since, waits=True), late


def _place(line: PlacedLine) -> BackorderCursor:
    return BackorderCursor(line.sku, *line.turn)


def _promises(product: Product, line: PlacedLine) -> list[Promise]:
    has = line.allocations
    return [Promise(one.batchref, one.promised, product.batches[one.batchref].eta, one.dispatched) for one in has]


def _shelf(product: Product) -> Shelf:
    held = held_by(product)
    figures = History(product.sku, held, [], None).figures
    now, incoming = (figures.available, figures.allocated), (figures.incoming, figures.incoming_allocated)
    return Shelf(product.sku, *now, *incoming, len(held), held)


def _step(recorded: Recorded[object]) -> Step:
    name, _ = CODEC.encode(recorded.event)
    metadata = recorded.metadata
    return Step(recorded.version, name, metadata.time, metadata.principal, cast(Event, recorded.event))


def _entry(recorded: Recorded[object]) -> LoggedEvent:
    name, data = CODEC.encode(recorded.event)
    metadata = recorded.metadata
    return LoggedEvent(
        id=metadata.id,
        type=name,
        stream=recorded.stream,
        version=recorded.version,
        time=metadata.time,
        correlation_id=metadata.correlation_id,
        causation_id=metadata.causation_id,
        principal=metadata.principal,
        data=data,
    )
