"""Whether a history can be true. Knows the rules by `model`, and nothing of the service's own code."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.chaos.history import PREFIX, Asked, History, Row, Rows, Told, Violation
from tests.chaos.model import Model

ACCEPTED = {"/add_batch": 201, "/allocate": 202}


def judge(history: History) -> list[Violation]:
    """All that is wrong, the first of each kind that a person should look at first."""
    wrong, firsts = _first_deliveries(history.told)
    wrong += _against_the_log(firsts, history.rows.event_log)
    models: dict[str, Model] = {}
    for event in firsts:
        model = models.setdefault(event.sku, Model(event.sku))
        if event.version != model.version + 1:
            wrong.append(Violation("gap", f"{event.sku} goes from version {model.version} to {event.version}"))
        wrong += model.take(event)
    for model in models.values():
        wrong += model.end()
    wrong += _mails(firsts, history.mails)
    wrong += _answers(history.asked, models)
    wrong += _applied_once(history, models, firsts)
    wrong += _dead_letters(history)
    wrong += _kept_for_nothing(history)
    wrong += disappeared(history)
    wrong += _rows(history.rows, models)
    return wrong


def _first_deliveries(told: Iterable[Told]) -> tuple[list[Violation], list[Told]]:
    """In the order told. A repeat has the id and the content of the first."""
    wrong: list[Violation] = []
    firsts: dict[tuple[str, int], Told] = {}
    ids: dict[str, Told] = {}
    latest: dict[str, int] = defaultdict(int)
    for event in told:
        place = event.sku, event.version
        first = firsts.setdefault(place, event)
        if (event.id, event.kind, event.data) != (first.id, first.kind, first.data):
            wrong.append(Violation("repeat differs", f"{place} was told as {first.id} and as {event.id}"))
        if ids.setdefault(event.id, event).version != event.version:
            wrong.append(Violation("repeat differs", f"{event.id} is the id of two events"))
        if first is event:
            if event.version < latest[event.sku]:
                wrong.append(Violation("order", f"{place} was told first after version {latest[event.sku]}"))
            latest[event.sku] = max(latest[event.sku], event.version)
    return wrong, sorted(firsts.values(), key=lambda event: (event.sku, event.version))


def _against_the_log(firsts: Iterable[Told], log: Iterable[Row]) -> Iterator[Violation]:
    told = {(event.sku, event.version): (event.id, f"{event.kind}.v1", dict(event.data)) for event in firsts}
    logged = {(stream, version): (str(one), kind, data) for stream, version, one, kind, data in log}
    for place in logged.keys() - told.keys():
        yield Violation("not told", f"{place}: {logged[place]}")
    for place in told.keys() - logged.keys():
        yield Violation("told, not logged", f"{place}: {told[place]}")
    for place in told.keys() & logged.keys():
        if told[place] != logged[place]:
            yield Violation("told, not logged", f"{place}: {told[place]} was logged as {logged[place]}")


def _mails(firsts: Iterable[Told], mails: Mapping[str, float]) -> Iterator[Violation]:
    due = {event.id for event in firsts if event.kind == "out_of_stock"}
    for one in due - mails.keys():
        yield Violation("no mail", one)
    for one in mails.keys() - due:
        yield Violation("mail of nothing", one)


def _answers(asked: Iterable[Asked], models: Mapping[str, Model]) -> Iterator[Violation]:
    """What was acknowledged is there; what was refused is not; the same question has the same answer."""
    firsts: dict[str, Asked] = {}
    outcomes = _outcomes_by_line(models)
    for one in asked:
        first = firsts.setdefault(one.key, one)
        if (one.status, one.answer) != (first.status, first.answer):
            yield Violation(
                "answers differ", f"{one.key}: {first.status} {first.answer}, then {one.status} {one.answer}"
            )
        if one.status >= 500 or one.status == 0:
            yield Violation("no answer", f"{one.path} {one.body}: {one.status} {one.answer}")
        model = models.get(one.body["sku"])
        if one.path == "/add_batch":
            stock = model and model.stock.get(one.body["ref"])
            there = bool(stock and (stock.initial, stock.eta) == (one.body["qty"], one.body["eta"]))
        else:
            found = [event.data.get("batchref") for event in outcomes.get(_line(one.body), ())]
            there = json.loads(one.answer).get("batchref") in found if one.status == 202 else bool(found)
        if there != (one.status == ACCEPTED[one.path]):
            found_or_not = "is there" if there else "is not there"
            yield Violation(
                "answer untrue", f"{one.path} {one.body} {found_or_not}, answered {one.status} {one.answer}"
            )


def _applied_once(history: History, models: Mapping[str, Model], firsts: Iterable[Told]) -> Iterator[Violation]:
    """As often as there were different requests and messages, not as often as they were repeated."""
    least: Counter[object] = Counter()
    most: Counter[object] = Counter()
    for key, path, body in {one.key: (one.key, one.path, one.body) for one in history.asked}.values():
        most[_line(body) if path == "/allocate" else ("batch", body["ref"])] += 1
        assert key, "every request has a key"
    for one in {sent.id: sent for sent in history.sent if sent.good}.values():
        thing = _thing(one.kind, one.data)
        most[thing] += 1
        least[thing] += one.way == "stream"
    happened: Counter[object] = Counter()
    for event in firsts:
        if event.kind == "batch_created":
            happened["batch", event.data["ref"]] += 1
        elif event.kind == "batch_quantity_changed":
            happened["change", event.data["ref"], event.data["qty"]] += 1
    for line, events in _outcomes_by_line(models).items():
        happened[line] += len(events)
    for thing in happened.keys() | least.keys():
        if happened[thing] > most[thing]:
            yield Violation("applied twice", f"{thing}: {happened[thing]} times, asked for {most[thing]} times")
        if happened[thing] < least[thing]:
            yield Violation("not applied", f"{thing}: sent over the stream, and nothing happened")


def _dead_letters(history: History) -> Iterator[Violation]:
    buried = Counter(bytes(body) for (body,) in history.rows.dead_letters)
    due = {sent.body for sent in history.sent if not sent.good}
    may_be = {sent.body for sent in history.sent if sent.way == "channel"}
    for body in due - buried.keys():
        yield Violation("not buried", repr(body))
    for body, times in buried.items():
        if body not in due | may_be:
            yield Violation("buried for nothing", repr(body))
        elif times > 1:
            yield Violation("buried twice", f"{times} times: {body!r}")


def _kept_for_nothing(history: History) -> Iterator[Violation]:
    """Over pub/sub a message takes effect, or is kept by one who has lost the bridge; never both."""
    happened, buried = _changes(history), _buried(history)
    for sent in history.sent:
        if sent.way == "channel" and sent.good and _thing(sent.kind, sent.data) in happened and sent.body in buried:
            yield Violation("buried for nothing", f"it took effect: {sent.body!r}")


def disappeared(history: History) -> Iterator[Violation]:
    """Over pub/sub a message may come to nothing when nobody listens, or whoever does is killed."""
    happened, buried = _changes(history), _buried(history)
    for sent in history.sent if history.nobody_died else ():
        if sent.listeners and _thing(sent.kind, sent.data) not in happened and sent.body not in buried:
            yield Violation("disappeared", f"{sent.body!r} had {sent.listeners} listeners")


def _changes(history: History) -> set[object]:
    logged = [data for _, _, _, kind, data in history.rows.event_log if kind == "batch_quantity_changed.v1"]
    return {("change", data["ref"], data["qty"]) for data in logged}


def _buried(history: History) -> set[bytes]:
    return {bytes(body) for (body,) in history.rows.dead_letters}


def _rows(rows: Rows, models: Mapping[str, Model]) -> Iterator[Violation]:
    promises = [(sku, promise) for sku, model in models.items() for promise in model.promises.values()]
    yield from _differ("products", {(sku, model.version) for sku, model in models.items()}, rows.products)
    batches = {
        (sku, ref, one.eta, one.initial, one.holds, model.allocated(ref), one.added)
        for sku, model in models.items()
        for ref, one in model.stock.items()
    }
    yield from _differ("batches", batches, rows.batches)
    lines = {(sku, one.version, *one.key, one.qty, one.batch) for sku, one in promises}
    yield from _differ("allocations", lines, rows.allocations)
    yield from _differ("order_lines", {(*one.key, sku, one.version) for sku, one in promises}, rows.order_lines)
    view = {(*one.key, sku, one.qty, one.batch) for sku, one in promises}
    yield from _differ("allocations_view", view, rows.allocations_view)


def _differ(table: str, expected: set[Row], found: list[Row]) -> Iterator[Violation]:
    for row in sorted(expected - set(found), key=repr):
        yield Violation("rows differ", f"{table} has no {row}")
    for row in sorted(set(found) - expected, key=repr):
        yield Violation("rows differ", f"{table} has {row}")
    if len(set(found)) != len(found):
        yield Violation("rows differ", f"{table} has rows twice")


def _outcomes_by_line(models: Mapping[str, Model]) -> dict[object, list[Told]]:
    found: dict[object, list[Told]] = defaultdict(list)
    for model in models.values():
        for event in model.outcomes:
            found[_line(event.data)].append(event)
    return found


def _line(body: Mapping[str, Any]) -> tuple[str, str, str]:
    return "line", body["orderid"], body.get("lineid") or body["sku"]


def _thing(kind: str, data: Mapping[str, Any]) -> object:
    match kind.removeprefix(PREFIX):
        case "create_batch.v1":
            return "batch", data["ref"]
        case "allocate.v1":
            return _line(data)
        case _:
            return "change", data["batchref"], data["qty"]
