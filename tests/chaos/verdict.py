"""Whether a history can be true. Knows the rules by `model`, and nothing of the service's own code."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tests.chaos.history import PREFIX, Asked, History, Row, Rows, Thing, Told, Violation
from tests.chaos.model import Model

THINGS = {
    "receipt": ("batch_received", "ref", "receipt_id"),
    "count": ("batch_counted", "ref", "count_id"),
    "quarantine": ("quarantined", "ref", "document"),
    "for sale": ("quarantine_released", "ref", "document"),
    "dispatch": ("dispatched", "orderid", "lineid", "dispatch_id"),
    "return": ("returned", "orderid", "lineid", "return_id"),
    "release": ("line_released", "orderid", "lineid"),
    "cancel": ("order_cancelled", "orderid"),
}
"""Which event tells of what, and the fields by which it is known."""

DOCUMENTS = {
    "quarantine.v1": ("quarantine", "ref", "document"),
    "dispatch.v1": ("dispatch", "orderid", "lineid", "dispatch_id"),
    "return_line.v1": ("return", "orderid", "lineid", "return_id"),
}
"""The same of commands that are sent over the stream."""

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
    wrong += _warehouse(history, _things(firsts))
    wrong += _cancelled(models)
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
        if one.thing:
            continue
        model = models.get(one.body["sku"])
        if one.path == "/add_batch":
            stock = model and model.stock.get(one.body["ref"])
            there = bool(stock and (stock.initial, stock.initial_eta) == (one.body["qty"], one.body["eta"]))
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
    for key, path, body in {one.key: (one.key, one.path, one.body) for one in history.asked if not one.thing}.values():
        most[_line(body) if path == "/allocate" else ("batch", body["ref"])] += 1
        assert key, "every request has a key"
    for order in history.asked:
        if order.thing and order.thing[0] == "place":
            most.update(_line({"orderid": order.body["orderid"], **line}) for line in order.body["lines"])
    for one in {sent.id: sent for sent in history.sent if sent.good is not False}.values():
        thing = _thing(one.kind, one.data)
        most[thing] += 1
        least[thing] += one.way == "stream" and one.good is True
    happened: Counter[object] = Counter()
    for event in firsts:
        if event.kind == "batch_created":
            happened["batch", event.data["ref"]] += 1
        elif event.kind == "batch_quantity_changed":
            happened["change", event.data["ref"], event.data["qty"]] += 1
    for line, events in _outcomes_by_line(models).items():
        happened[line] += len(events)
    happened += _things(firsts)
    most += Counter({("batch", one.body["rest"]["ref"]) for one in history.asked if one.body.get("rest")})
    most += Counter({one.thing for one in history.asked if one.thing} - most.keys())
    for thing in happened.keys() | least.keys():
        if happened[thing] > most[thing]:
            yield Violation("applied twice", f"{thing}: {happened[thing]} times, asked for {most[thing]} times")
        if happened[thing] < least[thing]:
            yield Violation("not applied", f"{thing}: sent over the stream, and nothing happened")


def _dead_letters(history: History) -> Iterator[Violation]:
    buried = Counter(bytes(body) for (body,) in history.rows.dead_letters)
    due = {sent.body for sent in history.sent if sent.good is False}
    may_be = {sent.body for sent in history.sent if sent.way == "channel" or sent.good is None}
    for body in due - buried.keys():
        yield Violation("not buried", repr(body))
    for body, times in buried.items():
        if body not in due | may_be:
            yield Violation("buried for nothing", repr(body))
        elif times > 1:
            yield Violation("buried twice", f"{times} times: {body!r}")


def _things(firsts: Iterable[Told]) -> Counter[object]:
    """What was done in the warehouse, and to orders. A document may lead to several events: it was done once."""
    done: dict[Thing, set[tuple[str, int]]] = defaultdict(set)
    for event in firsts:
        came_by_itself = event.data.get("came_with") or event.data.get("why") in ("cancelled", "moved")
        for kind, (of, *names) in THINGS.items():
            if event.kind == of and not came_by_itself:
                done[kind, *(event.data[name] for name in names)].add((event.sku, event.version))
    things: Counter[object] = Counter({thing: 1 if thing[0] == "cancel" else _times(done[thing]) for thing in done})
    things.update({("place", event.data["orderid"]) for event in firsts if _was_placed(event)})
    return things


def _was_placed(event: Told) -> bool:
    """As a line of a whole order."""
    return event.kind == "backordered" or (event.kind == "allocated" and bool(event.data.get("waits")))


def _times(places: set[tuple[str, int]]) -> int:
    """Events that stand together, with others about the same goods between them at most, are of one time."""
    return sum(not {(sku, version - 1), (sku, version - 2)} & places for sku, version in places)


def _warehouse(history: History, happened: Mapping[object, int]) -> Iterator[Violation]:
    """What was acknowledged has happened, what was refused has not; over the stream it is kept, if it has not."""
    cancelled = {one.thing for one in history.asked if one.thing and one.thing[0] == "cancel" and one.status == 200}
    for one in history.asked:
        if one.thing and one.thing[0] == "release" and one.status == 200:
            continue  # there may have been nothing to give back
        if one.thing in cancelled and one.status == 404:
            continue  # it was asked before the order was, and again later
        if one.thing and (one.thing in happened) != (one.status in (200, 201)):
            yield Violation("answer untrue", f"{one.thing}: {happened.get(one.thing)}, {one.status} {one.answer}")
    buried, changes = _buried(history), _changes(history)
    for sent in history.sent:
        if sent.way == "stream" and sent.good is None:
            thing = _thing(sent.kind, sent.data)
            if (thing in happened or thing in changes) == (sent.body in buried):
                yield Violation("not applied", f"{thing}: it happened and is a dead letter, or neither: {sent.body!r}")


def _cancelled(models: Mapping[str, Model]) -> Iterator[Violation]:
    """An order of several SKUs is cancelled in all of them, whatever is asked at the same time."""
    cancelled = {orderid for model in models.values() for orderid in model.cancelled}
    for model in models.values():
        for promise in model.promises.values():
            if promise.qty and promise.key[0] in cancelled:
                yield Violation("cancelled", f"{promise} of {model.sku} is left of a cancelled order")


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
    products = {(sku, model.version, len(model.waiting)) for sku, model in models.items()}
    yield from _differ("products", products, rows.products)
    batches = {
        (sku, ref, one.eta, one.initial, one.holds, model.allocated(ref), one.added, 0, one.dispatched, one.quarantined)
        for sku, model in models.items()
        for ref, one in model.stock.items()
    }
    yield from _differ("batches", batches, rows.batches)
    lines = {(sku, one.version, *one.key, one.qty, one.batch, one.dispatched) for sku, one in promises}
    yield from _differ("allocations", lines, rows.allocations)
    known = {
        (*key, sku, returned, tuple(sorted(one.version for one in model.of(key))))
        for sku, model in models.items()
        for key, returned in model.returned.items()
    }
    found = [(*about, tuple(sorted(versions or ()))) for *about, versions in rows.order_lines]
    yield from _differ("order_lines", known, found)
    cancelled = {(orderid,) for model in models.values() for orderid in model.cancelled}
    yield from _differ("orders", cancelled, rows.orders)
    waiting = {
        (sku, model.since[key], *key, qty) for sku, model in models.items() for key, qty in model.waiting.items()
    }
    yield from _differ("backorders", waiting, rows.backorders)
    view = {(*one.key, sku, one.qty + one.dispatched, one.batch) for sku, one in promises}
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
        case document if document in DOCUMENTS:
            thing, *names = DOCUMENTS[document]
            about = {**data, **data.get("lines", [{}])[0]}
            return thing, *(about[name] for name in names)
        case _:
            return "change", data["batchref"], data["qty"]
