"""Whether a history can be true. Knows the rules by `model`, and nothing of the service's own code."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from http import HTTPStatus
from itertools import groupby
from typing import Any

from tests.chaos.history import PREFIX, SUFFIX, Asked, History, Row, Rows, Thing, Told, Violation, is_past
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
    "hold": ("hold_placed", "sku", "hold_id"),
    "extend": ("hold_extended", "sku", "hold_id"),
    "void": ("hold_ended", "sku", "hold_id"),
}
"""Which event tells of what, and the fields by which it is known."""

MAY_CHANGE_NOTHING = "release", "extend", "void", "pull"
"""These are acknowledged also when there is nothing to do."""

DOCUMENTS = {
    "quarantine.v1": ("quarantine", "ref", "document"),
    "dispatch.v1": ("dispatch", "orderid", "lineid", "dispatch_id"),
    "return_line.v1": ("return", "orderid", "lineid", "return_id"),
    "place_hold.v1": ("hold", "sku", "hold_id"),
    "confirm_hold.v1": ("place", "orderid"),
}
"""The same of commands that are sent over the stream."""

ACCEPTED = {"/add_batch": (201,), "/allocate": (202,), "/v1/batches": (201, 200)}
DONE = HTTPStatus.OK, HTTPStatus.CREATED, HTTPStatus.NO_CONTENT


def judge(history: History) -> Iterator[Violation]:
    """All that is wrong, the first of each kind that a person should look at first."""
    logged = _logged(history.rows)
    events = [event for event, _ in logged]
    models: dict[str, Model] = {}
    yield from _told_in_order(history.told)
    yield from _told_as_logged(history.told, events)
    if history.stream is not None:
        yield from _told_in_order(history.stream)
        yield from _told_as_logged(history.stream, events, " to who comes late")
    yield from _replayed(logged, models)
    yield from _mails(events, history.mails)
    yield from _answers(history.asked, models)
    yield from _keys_of_others(history)
    yield from _applied_once(history, models, events)
    yield from _warehouse(history, _things(events))
    yield from _cancelled(models)
    yield from _held(history, models)
    yield from _pulled(history, models)
    yield from _days_that_are_over(models)
    yield from _dead_letters(history)
    yield from _kept_for_nothing(history)
    yield from disappeared(history)
    yield from _rows(history.rows, models)
    yield from _moments(history, logged)


def _logged(rows: Rows) -> list[tuple[Told, int]]:
    """The events of each product in their order, and the transaction that has written them."""
    log = sorted(rows.event_log, key=lambda row: row[:2])
    return [
        (Told("", str(one), kind.removesuffix(SUFFIX), sku, version, 0.0, data), transaction)
        for sku, version, one, kind, data, transaction in log
    ]


def _told_in_order(told: Iterable[Told]) -> Iterator[Violation]:
    """A repeat has the id and the content of the first."""
    firsts: dict[tuple[str, int], Told] = {}
    ids: dict[str, Told] = {}
    latest: dict[str, int] = defaultdict(int)
    for event in told:
        place = event.sku, event.version
        first = firsts.setdefault(place, event)
        if (event.id, event.kind, event.data) != (first.id, first.kind, first.data):
            yield Violation("repeat differs", f"{place} was told as {first.id} and as {event.id}")
        if ids.setdefault(event.id, event).version != event.version:
            yield Violation("repeat differs", f"{event.id} is the id of two events")
        if first is event:
            if event.version < latest[event.sku]:
                yield Violation("order", f"{place} was told first after version {latest[event.sku]}")
            latest[event.sku] = max(latest[event.sku], event.version)


def _told_as_logged(told: Iterable[Told], events: Iterable[Told], whom: str = "") -> Iterator[Violation]:
    heard = {(event.sku, event.version): (event.id, event.kind, event.data) for event in told}
    logged = {(event.sku, event.version): (event.id, event.kind, event.data) for event in events}
    for place in logged.keys() - heard.keys():
        yield Violation(f"not told{whom}", f"{place}: {logged[place]}")
    for place in heard.keys() - logged.keys():
        yield Violation("told, not logged", f"{place}: {heard[place]}")
    for place in heard.keys() & logged.keys():
        if heard[place] != logged[place]:
            yield Violation("told, not logged", f"{place}: {heard[place]} was logged as {logged[place]}")


def _replayed(logged: Iterable[tuple[Told, int]], models: dict[str, Model]) -> Iterator[Violation]:
    """Event by event; and what only holds at its end, after each transaction. Takes `models` on from where they are."""
    for sku, history in groupby(logged, key=lambda one: one[0].sku):
        model = models.setdefault(sku, Model(sku))
        before = 0
        for event, transaction in history:
            if event.version != model.version + 1:
                yield Violation("gap", f"{sku} goes from version {model.version} to {event.version}")
            if transaction != before:
                yield from model.committed()
            if transaction < before:
                yield Violation("order", f"{sku} {event.version} is of an older transaction than what comes before it")
            yield from model.take(event)
            before = transaction
        yield from model.committed()


def _moments(history: History, logged: Sequence[tuple[Told, int]]) -> Iterator[Violation]:
    """Who read in the middle of it found the rows as the events said by then; and all of these are there at the end."""
    there = {(event.sku, event.version): (event, transaction) for event, transaction in logged}
    known = set(_replayed(logged, {}))
    models: dict[str, Model] = {}
    before = Rows()
    for number, rows in enumerate(history.moments, 1):
        if rows == before:
            continue
        before, seen = rows, _logged(rows)
        reached = {sku: model.version for sku, model in models.items()}
        newer = [(event, by) for event, by in seen if event.version > reached.get(event.sku, 0)]
        for violation in (*_replayed(newer, models), *_rows(rows, models)):
            if violation not in known:
                yield Violation(violation.kind, f"at moment {number} of {len(history.moments)}: {violation.what}")
        for event, transaction in seen:
            if there.get((event.sku, event.version)) != (event, transaction):
                yield Violation("undone", f"it was committed at moment {number}, and is not there now: {event}")


def _mails(events: Iterable[Told], mails: Mapping[str, float]) -> Iterator[Violation]:
    due = {event.id for event in events if event.kind == "out_of_stock"}
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
        if _outcome(one) != _outcome(first):
            yield Violation(
                "answers differ", f"{one.key}: {first.status} {first.answer}, then {one.status} {one.answer}"
            )
        if one.status >= 500 or one.status == 0:
            yield Violation("no answer", f"{one.path} {one.body}: {one.status} {one.answer}")
        if one.thing:
            continue
        model = models.get(one.body["sku"])
        if one.path != "/allocate":
            stock = model and model.stock.get(one.body["ref"])
            wanted = one.body["qty"], one.body["eta"], one.body.get("expires")
            there = bool(stock and (stock.initial, stock.initial_eta, stock.initial_expires) == wanted)
        else:
            found = [event.data.get("batchref") for event in outcomes.get(_line(one.body), ())]
            there = json.loads(one.answer).get("batchref") in found if one.status == 202 else bool(found)
        if there != (one.status in ACCEPTED[one.path]):
            found_or_not = "is there" if there else "is not there"
            yield Violation(
                "answer untrue", f"{one.path} {one.body} {found_or_not}, answered {one.status} {one.answer}"
            )


def _outcome(asked: Asked) -> object:
    """What a repeat says as well. Beside it the API under /v1 says how things are now, and whether it was just done."""
    if not asked.path.startswith("/v1"):
        return asked.status, asked.answer
    return "done" if asked.status in DONE else (asked.status, _problem(asked))


def _problem(asked: Asked) -> object:
    with suppress(ValueError):
        return json.loads(asked.answer).get("type")
    return asked.answer


def _keys_of_others(history: History) -> Iterator[Violation]:
    """A key that came with another body before gets nothing done. (Had it, `_applied_once` would say so.)"""
    for one in history.misused:
        if one.status != HTTPStatus.UNPROCESSABLE_ENTITY:
            yield Violation("key of another", f"{one.key} {one.path} {one.body}: {one.status} {one.answer}")


def _applied_once(history: History, models: Mapping[str, Model], events: Iterable[Told]) -> Iterator[Violation]:
    """As often as there were different requests and messages, not as often as they were repeated."""
    least: Counter[object] = Counter()
    most: Counter[object] = Counter()
    for asked in {one.key: one for one in history.asked}.values():
        if not asked.thing:
            most[_line(asked.body) if asked.path == "/allocate" else ("batch", asked.body["ref"])] += 1
        elif asked.thing[0] == "place":
            most.update(_lines(asked.body))
    for one in {sent.id: sent for sent in history.sent if sent.good is not False}.values():
        thing = _thing(one.kind, one.data)
        most[thing] += 1
        most.update(_lines(one.data) if one.kind == "confirm_hold.v1" else ())
        least[thing] += one.way == "stream" and one.good is True
    happened: Counter[object] = Counter()
    for event in events:
        if event.kind == "batch_created":
            happened["batch", event.data["ref"]] += 1
        elif event.kind == "batch_quantity_changed":
            happened["change", event.data["ref"], event.data["qty"]] += 1
    for line, outcomes in _outcomes_by_line(models).items():
        happened[line] += len(outcomes)
    happened += _things(events)
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
        elif times > (copies := history.copies.get(body, 1)):
            yield Violation("buried twice", f"{times} times, and was sent {copies} times: {body!r}")


def _things(events: Iterable[Told]) -> Counter[object]:
    """What was done in the warehouse, and to orders. A document may lead to several events: it was done once."""
    done: dict[Thing, set[tuple[str, int]]] = defaultdict(set)
    for event in events:
        why = event.data.get("why")
        came_by_itself = event.data.get("came_with") or why in BY_ITSELF
        for kind, (of, *names) in THINGS.items():
            if event.kind == of and not came_by_itself:
                done[kind, *(event.data[name] for name in names)].add((event.sku, event.version))
    things: Counter[object] = Counter({thing: 1 if thing[0] == "cancel" else _times(done[thing]) for thing in done})
    things.update({("place", event.data["orderid"]) for event in events if _was_placed(event)})
    return things


BY_ITSELF = "cancelled", "moved", "confirmed", "expired", "broken"


def _was_placed(event: Told) -> bool:
    """As a line of a whole order, or from a hold."""
    return event.kind == "backordered" or (event.kind == "allocated" and bool(event.data.get("waits")))


def _times(places: set[tuple[str, int]]) -> int:
    """Events that stand together, with others about the same goods between them at most, are of one time."""
    return sum(not {(sku, version - 1), (sku, version - 2)} & places for sku, version in places)


def _warehouse(history: History, happened: Mapping[object, int]) -> Iterator[Violation]:
    """What was acknowledged has happened, what was refused has not; over the stream it is kept, if it has not."""
    of_order = [one for one in history.asked if one.thing and one.thing[0] in ("cancel", "release")]
    done_later = {one.thing for one in of_order if one.status == HTTPStatus.OK}
    for one in history.asked:
        if one.thing and one.thing[0] in MAY_CHANGE_NOTHING and one.status in DONE:
            continue
        if one.thing in done_later and one.status == 404:
            continue  # it was asked before the order was, and again later
        if one.thing and (one.thing in happened) != (one.status in DONE):
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


def _held(history: History, models: Mapping[str, Model]) -> Iterator[Violation]:
    """What is said of a hold is so. It lasts until its instant, and not a moment longer, whoever looks; one that was
    given up, once its placing was heard of, is not there."""
    heard = {(one.sku, one.data["hold_id"]): one.heard for one in history.told if one.kind == "hold_placed"}
    for one in _first_answers(history):
        kind, *about = one.thing or ("",)
        if kind in ("hold", "extend") and one.status in DONE:
            (sku, hold_id), answer = about, json.loads(one.answer)
            wanted = hold_id, answer["qty"], answer["batchref"], datetime.fromisoformat(answer["until"])
            said = models[sku].said if sku in models else []
            if wanted not in [(hold.hold_id, hold.qty, hold.batch, hold.until) for hold in said]:
                yield Violation("answer untrue", f"{one.thing}: {one.answer}")
        if kind == "void" and one.status in DONE:
            sku, hold_id = about
            if sku in models and hold_id in models[sku].held and heard[sku, hold_id] < one.begun:
                yield Violation("answer untrue", f"{one.thing}: {one.status}, and it is there")
    if history.clocks_agree:
        yield from _in_time(history, models)


def _first_answers(history: History) -> Iterable[Asked]:
    """By each key."""
    return {asked.key: asked for asked in reversed(history.asked)}.values()


def _in_time(history: History, models: Mapping[str, Model]) -> Iterator[Violation]:
    heard: dict[str, float] = {}
    for event in history.told:
        heard.setdefault(event.id, event.heard)
    for model in models.values():
        for event_id, hold in model.ran_out:
            if 0 < heard.get(event_id, 0) < hold.until.timestamp():
                yield Violation("hold", f"{hold} of {model.sku} ended before its time")
    begun: dict[object, float] = {}
    for one in history.asked:
        if one.path == "/allocate" or (one.thing and one.thing[0] == "place"):
            for line in _lines(one.body):
                begun.setdefault(line, one.begun)
    for sent in history.sent:
        if sent.kind in ("allocate.v1", "confirm_hold.v1"):
            begun.setdefault(_line(sent.data), sent.sent_at)
    for model in models.values():
        for (version, key), hold in model.first_to_run_out.items():
            if hold.until.timestamp() < begun.get(("line", *key), 0):
                what = f"{model.sku} version {version}: {key} came after {hold} had run out, and it was held still"
                yield Violation("hold", what)


def _pulled(history: History, models: Mapping[str, Model]) -> Iterator[Violation]:
    """Whoever asks for it is told what has moved; nothing else moves."""
    said: Counter[object] = Counter()
    for one in _first_answers(history):
        if one.thing and one.thing[0] == "pull" and one.status in DONE:
            moved = json.loads(one.answer)["moved"]
            said.update(((it["orderid"], it["lineid"]), it["qty"], it["from"], it["to"]) for it in moved)
    happened: Counter[object] = Counter(move for model in models.values() for move in model.moves)
    for move in (said - happened) + (happened - said):
        yield Violation("pull", f"{move}: {happened[move]} times, answered {said[move]} times")


def _days_that_are_over(models: Mapping[str, Model]) -> Iterator[Violation]:
    """At the end it is recorded."""
    for model in models.values():
        for ref, stock in model.stock.items():
            if is_past(stock.eta) and not stock.overdue:
                yield Violation("overdue", f"it is not recorded that {ref} was expected {stock.eta}")
            if is_past(stock.expires) and not stock.expired:
                yield Violation("expired", f"it is not recorded that {ref} could be sold until {stock.expires}")


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
    logged = [data for _, _, _, kind, data, _ in history.rows.event_log if kind == "batch_quantity_changed.v1"]
    return {("change", data["ref"], data["qty"]) for data in logged}


def _buried(history: History) -> set[bytes]:
    return {bytes(body) for (body,) in history.rows.dead_letters}


def _rows(rows: Rows, models: Mapping[str, Model]) -> Iterator[Violation]:
    promises = [(sku, promise) for sku, model in models.items() for promise in model.promises.values()]
    products = {(sku, model.version, len(model.waiting), len(model.held)) for sku, model in models.items()}
    yield from _differ("products", products, rows.products)
    batches = {
        (
            *(sku, ref, one.eta, one.initial, one.holds, model.allocated(ref), one.added),
            *(model.held_of(ref), one.dispatched, one.quarantined),
            *(one.initial_expires, one.expires, one.overdue, one.expired),
        )
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
    holds = {
        (sku, one.hold_id, one.qty, one.batch, one.until, one.version)
        for sku, model in models.items()
        for one in model.held.values()
    }
    yield from _differ("holds", holds, rows.holds)
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


def _lines(body: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of an order, or the one that is asked for."""
    return [_line({"orderid": body["orderid"], **line}) for line in body.get("lines", [body])]


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
