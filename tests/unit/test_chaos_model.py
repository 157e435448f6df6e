"""The judge of the chaos runs sees what is wrong: each kind of violation is put into a history that was right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.chaos.history import Asked, History, Rows, Sent, Told
from tests.chaos.verdict import judge

SKU = "r1-sku0"


def told(version: int, kind: str, sku: str = SKU, **data: Any) -> Told:
    return Told(f"{1000 + version}-0", f"id-{sku}-{version}", kind, sku, version, 1.0, {"sku": sku, **data})


def created(version: int, ref: str, qty: int, eta: str | None = None) -> Told:
    return told(version, "batch_created", ref=ref, qty=qty, eta=eta)


def changed(version: int, ref: str, qty: int) -> Told:
    return told(version, "batch_quantity_changed", ref=ref, qty=qty)


def placed(version: int, orderid: str, qty: int, batch: str) -> Told:
    return told(version, "allocated", orderid=orderid, lineid=SKU, qty=qty, batchref=batch)


def broken(version: int, orderid: str, qty: int, batch: str) -> Told:
    return told(version, "deallocated", orderid=orderid, lineid=SKU, qty=qty, batchref=batch)


def out_of_stock(version: int, orderid: str, qty: int) -> Told:
    return told(version, "out_of_stock", orderid=orderid, lineid=SKU, qty=qty)


def asked(path: str, status: int, answer: str = "{}", **body: Any) -> Asked:
    return Asked(str(body.get("orderid") or body["ref"]), path, {"sku": SKU} | body, 1.0, 2.0, status, answer)


def sent(kind: str, way: str = "stream", *, good: bool | None = True, **data: Any) -> Sent:
    return Sent(way, f"{kind} {data}", f"{kind}.v1", f"{kind} {data}".encode(), data, 1.0, good)


def logged(event: Told, transaction: int) -> tuple[Any, ...]:
    return event.sku, event.version, event.id, f"{event.kind}.v1", dict(event.data), transaction


def log_of(events: list[Told], *together: range) -> list[tuple[Any, ...]]:
    """Each is committed by itself, unless it stands in a range of versions that are committed together."""
    first = {version: one[0] for one in together for version in one}
    return [logged(event, first.get(event.version, event.version)) for event in events]


def right() -> History:
    """A batch in the warehouse shrinks; of its three lines the newest two move, one of them nowhere."""
    events = [
        created(1, "now", 10),
        created(2, "later", 5, "2031-01-01"),
        placed(3, "o1", 4, "now"),
        placed(4, "o2", 5, "now"),
        placed(5, "o3", 1, "now"),
        changed(6, "now", 4),
        broken(7, "o2", 5, "now"),
        broken(8, "o3", 1, "now"),
        placed(9, "o2", 5, "later"),
        out_of_stock(10, "o3", 1),
        out_of_stock(11, "o4", 7),
    ]
    rows = Rows(
        event_log=log_of(events, range(6, 11)),
        products=[(SKU, 11, 0)],
        batches=[(SKU, "now", None, 10, 4, 4, 1, 0, 0, 0), (SKU, "later", "2031-01-01", 5, 5, 5, 2, 0, 0, 0)],
        allocations=[(SKU, 3, "o1", SKU, 4, "now", 0), (SKU, 9, "o2", SKU, 5, "later", 0)],
        order_lines=[("o1", SKU, SKU, 0, [3]), ("o2", SKU, SKU, 0, [9]), ("o3", SKU, SKU, 0, [])],
        allocations_view=[("o1", SKU, SKU, 4, "now"), ("o2", SKU, SKU, 5, "later")],
        dead_letters=[(b"drink_tea {}",)],
    )
    return History(
        told=[*events[:4], replace(events[2], entry="2000-0"), *events[4:]],  # a repeat is no fault
        asked=[
            asked("/add_batch", 201, "OK", ref="now", qty=10, eta=None),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o1", qty=4),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o1", qty=4),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o2", qty=5),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o3", qty=1),
            asked("/allocate", 400, '{"message": "Invalid sku r1-never"}', sku="r1-never", orderid="o5", qty=1),
        ],
        sent=[
            sent("create_batch", ref="later", sku=SKU, qty=5, eta="2031-01-01"),
            sent("change_batch_quantity", batchref="now", qty=4),
            sent("change_batch_quantity", "channel", batchref="now", qty=99),  # pub/sub may lose it
            sent("allocate", orderid="o4", sku=SKU, qty=7),
            sent("drink_tea", good=False),
        ],
        rows=rows,
        mails={f"id-{SKU}-10": 2.0, f"id-{SKU}-11": 2.0},
    )


def done(kind: str, *about: str, status: int = 201, **body: Any) -> Asked:
    return Asked(" ".join([kind, *about]), "/v1", body, 1.0, 2.0, status, "{}", (kind, *about))


def right_in_the_warehouse() -> History:
    """A ship comes in short and damaged, a parcel leaves and a part of it comes back, a count, and an order that is
    cancelled."""
    line, of_o1 = {"orderid": "o1", "lineid": SKU}, {"orderid": "o1", "lineid": SKU, "batchref": "here"}
    came_with: dict[str, Any] = {"reason": "damaged", "came_with": "receipt"}
    events = [
        created(1, "ship", 10, "2031-01-01"),
        created(2, "here", 5),
        placed(3, "o1", 3, "here"),
        placed(4, "o2", 4, "ship"),
        created(5, "rest", 3, "2031-02-01"),
        told(6, "batch_received", ref="ship", receipt_id="r", received=7, damaged=2, qty=7, expires=None, rest="rest"),
        told(7, "quarantined", ref="ship", qty=2, document="r", **came_with),
        told(8, "dispatched", **of_o1, qty=2, dispatch_id="p"),
        told(9, "returned", **of_o1, qty=1, return_id="t", condition="check"),
        told(10, "quarantined", ref="here", qty=1, document="t", **came_with | {"came_with": "return"}),
        told(11, "batch_counted", ref="here", count_id="c", counted=2, qty=4, reason="lost"),
        told(12, "quarantined", ref="ship", qty=2, document="q", **came_with | {"came_with": None}),
        broken(13, "o2", 4, "ship"),
        out_of_stock(14, "o2", 4),
        told(15, "quarantine_released", ref="ship", qty=1, document="s"),
        told(16, "order_cancelled", orderid="o1"),
        told(17, "line_released", **of_o1, qty=1, why="cancelled"),
    ]
    return History(
        told=events,
        asked=[
            asked("/add_batch", 201, "OK", ref="ship", qty=10, eta="2031-01-01"),
            asked("/add_batch", 201, "OK", ref="here", qty=5, eta=None),
            asked("/allocate", 202, '{"batchref": "here"}', orderid="o1", qty=3),
            asked("/allocate", 202, '{"batchref": "ship"}', orderid="o2", qty=4),
            done("receipt", "ship", "r", rest={"ref": "rest"}),
            done("dispatch", "o1", SKU, "p"),
            done("dispatch", "o1", SKU, "too much", status=409),
            done("return", "o1", SKU, "t"),
            done("count", "here", "c"),
            done("for sale", "ship", "s"),
            replace(done("cancel", "o1", status=404), key="too early"),
            done("cancel", "o1", status=200),
        ],
        sent=[
            sent("quarantine", good=None, ref="ship", document="q", qty=2),
            sent("dispatch", good=None, orderid="o2", dispatch_id="late", lines=[{"lineid": SKU}]),
            sent("return_line", good=None, **line, return_id="late"),
        ],
        rows=Rows(
            event_log=log_of(events, range(5, 8), range(9, 11), range(12, 15), range(16, 18)),
            products=[(SKU, 17, 0)],
            batches=[
                (SKU, "ship", None, 10, 7, 3, 6, 0, 0, 3),
                (SKU, "here", None, 5, 4, 2, 2, 0, 1, 1),
                (SKU, "rest", "2031-02-01", 3, 3, 0, 5, 0, 0, 0),
            ],
            allocations=[(SKU, 3, "o1", SKU, 0, "here", 1)],
            order_lines=[("o1", SKU, SKU, 1, [3]), ("o2", SKU, SKU, 0, [])],
            allocations_view=[("o1", SKU, SKU, 1, "here")],
            orders=[("o1",)],
            dead_letters=[(one,) for one in (_body("dispatch", "o2"), _body("return_line", "o1"))],
        ),
        mails={f"id-{SKU}-14": 2.0},
    )


def waits(version: int, orderid: str, qty: int, since: int | None = None) -> Told:
    return told(version, "backordered", orderid=orderid, lineid=SKU, qty=qty, since=since or version)


def served(version: int, orderid: str, qty: int, batch: str) -> Told:
    return replace(placed(version, orderid, qty, batch), data={**placed(version, orderid, qty, batch).data} | TERMS)


TERMS = {"waits": True, "waited": True}


def right_in_the_queue() -> History:
    """Two orders wait, who fits is served, a line that lost its promise goes back to its place, and one gives up."""
    first = placed(2, "o1", 4, "now")
    events = [
        created(1, "now", 5),
        replace(first, data={**first.data, "waits": True}),
        waits(3, "o2", 8),
        waits(4, "o3", 2),
        changed(5, "now", 7),
        served(6, "o3", 2, "now"),
        changed(7, "now", 3),
        broken(8, "o1", 4, "now"),
        broken(9, "o3", 2, "now"),
        waits(10, "o1", 4, since=2),
        served(11, "o3", 2, "now"),
        told(12, "line_released", orderid="o2", lineid=SKU, qty=8, batchref=None, why="released"),
    ]
    events[10] = replace(placed(11, "o3", 2, "now"), data={**placed(11, "o3", 2, "now").data, "waits": True})
    line = {"sku": SKU, "qty": 1, "lineid": SKU}
    return History(
        told=events,
        asked=[
            asked("/add_batch", 201, "OK", ref="now", qty=5, eta=None),
            *(done("place", orderid, orderid=orderid, lines=[line]) for orderid in ("o1", "o2", "o3")),
            done("release", "o2", SKU, status=200),
        ],
        sent=[sent("change_batch_quantity", batchref="now", qty=qty) for qty in (7, 3)],
        rows=Rows(
            event_log=log_of(events, range(5, 7), range(7, 12)),
            products=[(SKU, 12, 1)],
            batches=[(SKU, "now", None, 5, 3, 2, 1, 0, 0, 0)],
            allocations=[(SKU, 11, "o3", SKU, 2, "now", 0)],
            order_lines=[("o1", SKU, SKU, 0, []), ("o2", SKU, SKU, 0, []), ("o3", SKU, SKU, 0, [11])],
            allocations_view=[("o3", SKU, SKU, 2, "now")],
            backorders=[(SKU, 2, "o1", SKU, 4)],
        ),
    )


def _body(kind: str, orderid: str) -> bytes:
    """Of what was sent too late."""
    if kind == "dispatch":
        return sent(kind, orderid=orderid, dispatch_id="late", lines=[{"lineid": SKU}]).body
    return sent(kind, orderid=orderid, lineid=SKU, return_id="late").body


def test_finds_nothing_in_a_history_that_is_right() -> None:
    assert [*judge(right())] == []
    assert [*judge(right_in_the_warehouse())] == []
    assert [*judge(right_in_the_queue())] == []


def test_what_was_said_over_pub_sub_may_be_kept_or_lost_with_who_heard_it() -> None:
    kept, lost = right(), right()
    say_over_pub_sub(kept, 98, kept=True)
    say_over_pub_sub(lost, 98)
    lost.nobody_died = False

    assert [*judge(kept), *judge(lost)] == []


def test_a_repeat_says_the_outcome_and_how_things_are_now() -> None:
    history = right_in_the_warehouse()
    history.asked += [replace(one, status=200, answer="{}") for one in history.asked if one.status == 201 and one.thing]
    history.copies = {history.sent[1].body: 2}
    twice(history.rows.dead_letters)

    assert [*judge(history)] == []


def test_the_middle_of_it_is_judged_too() -> None:
    history = right()
    earlier = [created(1, "now", 10), created(2, "later", 5, "2031-01-01"), placed(3, "o1", 4, "now")]
    seen = Rows(
        event_log=log_of(earlier),
        products=[(SKU, 3, 0)],
        batches=[(SKU, "now", None, 10, 10, 4, 1, 0, 0, 0), (SKU, "later", "2031-01-01", 5, 5, 0, 2, 0, 0, 0)],
        allocations=[(SKU, 3, "o1", SKU, 4, "now", 0)],
        order_lines=[("o1", SKU, SKU, 0, [3])],
        allocations_view=[("o1", SKU, SKU, 4, "now")],
    )
    history.moments = [Rows(), seen, history.rows]
    assert [*judge(history)] == []

    seen.batches[0] = (SKU, "now", None, 10, 10, 0, 1, 0, 0, 0)
    assert {violation.kind for violation in judge(history)} == {"rows differ"}


def tell(history: History, version: int, event: Told | None) -> None:
    """Instead of the first telling of that version; the log says the same."""
    index = next(number for number, told in enumerate(history.told) if told.version == version)
    old = history.told[index]
    history.told[:] = [one for one in history.told if one.id != old.id]
    [transaction] = [row[5] for row in history.rows.event_log if row[1] == version]
    history.rows.event_log[:] = [row for row in history.rows.event_log if row[1] != version]
    if event:
        history.told.insert(index, event)
        history.rows.event_log.append(logged(event, transaction))


def commit(history: History, before: int, transaction: int = 0) -> None:
    """What was one transaction was two."""
    for number, row in enumerate(history.rows.event_log):
        if row[1] >= before:
            history.rows.event_log[number] = (*row[:5], transaction or max(before, row[5]))


def twice(rows: list[Any], number: int = 0) -> None:
    rows.append(rows[number])


def swap(told: list[Told], one: int, other: int) -> None:
    told[one], told[other] = told[other], told[one]


def say_over_pub_sub(history: History, qty: int, *, kept: bool = False) -> None:
    """To one who listens, and lives."""
    message = sent("change_batch_quantity", "channel", batchref="now", qty=qty)
    history.sent.append(replace(message, listeners=1))
    history.nobody_died = True
    if kept:
        history.rows.dead_letters.append((message.body,))


TAMPERINGS: list[tuple[str, *tuple[Callable[[History], object], ...]]] = [
    ("oversold", lambda it: tell(it, 5, placed(5, "o3", 3, "now"))),
    ("oversold", lambda it: tell(it, 6, changed(6, "later", 4)), lambda it: tell(it, 9, placed(9, "o2", 5, "later"))),
    ("gap", lambda it: tell(it, 10, None)),
    ("order", lambda it: swap(it.told, 0, 1)),
    ("repeat differs", lambda it: it.told.append(replace(it.told[0], id="another"))),
    ("repeat differs", lambda it: it.told.append(replace(it.told[0], data={**it.told[0].data, "qty": 11}))),
    ("repeat differs", lambda it: it.told.append(replace(out_of_stock(12, "o9", 1), id=it.told[0].id))),
    ("not told", lambda it: it.told.pop()),
    ("not told to who comes late", lambda it: setattr(it, "stream", it.told[1:])),
    ("order", lambda it: setattr(it, "stream", it.told[::-1])),
    ("told, not logged", lambda it: it.rows.event_log.pop()),
    (
        "told, not logged",
        lambda it: it.rows.event_log.__setitem__(
            0, logged(replace(it.told[0], data={"ref": "now", "qty": 10, "eta": None}), 1)
        ),
    ),
    ("wrong batch", lambda it: tell(it, 3, placed(3, "o1", 4, "later"))),
    ("wrong batch", lambda it: tell(it, 11, out_of_stock(11, "o4", 0))),
    ("unknown batch", lambda it: tell(it, 6, changed(6, "never", 4))),
    ("unknown event", lambda it: tell(it, 11, told(11, "eaten"))),
    ("applied twice", lambda it: tell(it, 5, placed(5, "o1", 1, "now"))),
    ("applied twice", lambda it: tell(it, 2, created(2, "now", 5))),
    ("applied twice", lambda it: tell(it, 11, out_of_stock(11, "o1", 7))),
    ("reallocation", lambda it: tell(it, 7, broken(7, "o1", 4, "now"))),
    ("reallocation", lambda it: tell(it, 9, out_of_stock(9, "o3", 1))),
    ("reallocation", lambda it: tell(it, 11, broken(11, "o1", 4, "now"))),
    ("reallocation", lambda it: tell(it, 11, None), lambda it: tell(it, 10, None)),
    ("not applied", lambda it: it.sent.append(sent("change_batch_quantity", batchref="now", qty=3))),
    ("not applied", lambda it: it.sent.append(sent("allocate", orderid="o6", sku=SKU, qty=3))),
    ("answer untrue", lambda it: it.asked.append(asked("/allocate", 202, '{"batchref": null}', orderid="o7", qty=1))),
    ("answer untrue", lambda it: it.asked.append(asked("/allocate", 202, '{"batchref": "now"}', orderid="o4", qty=7))),
    ("answer untrue", lambda it: it.asked.append(asked("/allocate", 400, "{}", orderid="o4", qty=7))),
    ("answer untrue", lambda it: it.asked.append(asked("/add_batch", 201, "OK", ref="none", qty=1, eta=None))),
    ("answers differ", lambda it: it.asked.append(asked("/allocate", 202, '{"batchref": null}', orderid="o1", qty=4))),
    ("no answer", lambda it: it.asked.append(asked("/allocate", 500, "{}", orderid="o8", qty=4))),
    ("no mail", lambda it: it.mails.popitem()),
    ("mail of nothing", lambda it: it.mails.update({"id-1": 2.0})),
    ("not buried", lambda it: it.rows.dead_letters.clear()),
    ("buried for nothing", lambda it: it.rows.dead_letters.append((b"good",))),
    ("buried twice", lambda it: twice(it.rows.dead_letters)),
    ("buried for nothing", lambda it: say_over_pub_sub(it, 4, kept=True)),  # it took effect
    ("disappeared", lambda it: say_over_pub_sub(it, 98)),
    ("oversold", lambda it: tell(it, 3, placed(3, "o1", -1, "now"))),  # less than nothing is taken
    ("oversold", lambda it: tell(it, 6, changed(6, "now", -1))),
    ("reallocation", lambda it: commit(it, before=7)),  # others saw the batch shrink, and its promises stand
    ("reallocation", lambda it: commit(it, before=9)),  # or saw them broken, and not placed again
    ("order", lambda it: commit(it, before=11, transaction=2)),
    ("gap", lambda it: it.rows.event_log.append(it.rows.event_log[3])),  # a version twice
    ("answers differ", lambda it: it.asked.append(asked("/add_batch", 409, "{}", ref="now", qty=10, eta=None))),
    ("key of another", lambda it: it.misused.append(it.asked[0])),
    ("applied twice", lambda it: more(it, changed(12, "now", 4))),
    ("rows differ", lambda it: it.moments.append(it.rows), lambda it: it.moments.append(Rows(it.rows.event_log))),
    ("undone", lambda it: it.moments.append(replace(it.rows, event_log=log_of([created(1, "ghost", 1)])))),
    ("undone", lambda it: it.moments.append(Rows([*it.rows.event_log, logged(created(1, "b", 1, None), 9)]))),
    ("rows differ", lambda it: it.rows.products.__setitem__(0, (SKU, 10, 0))),
    ("rows differ", lambda it: it.rows.batches.pop()),
    ("rows differ", lambda it: it.rows.allocations.pop()),
    ("rows differ", lambda it: it.rows.order_lines.pop()),
    ("rows differ", lambda it: it.rows.allocations_view.pop()),
    ("rows differ", lambda it: twice(it.rows.allocations_view)),
]


@pytest.mark.parametrize(
    ("kind", "tamperings"), [(kind, rest) for kind, *rest in TAMPERINGS], ids=[kind for kind, *_ in TAMPERINGS]
)
def test_names_what_is_wrong(kind: str, tamperings: list[Callable[[History], object]]) -> None:
    history = right()
    for tamper in tamperings:
        tamper(history)

    assert kind in {violation.kind for violation in judge(history)}


def more(history: History, event: Told) -> None:
    """At the end, rightly logged."""
    history.told.append(event)
    history.rows.event_log.append(logged(event, event.version))


def otherwise(history: History, version: int, **data: Any) -> None:
    event = next(one for one in history.told if one.version == version)
    tell(history, version, replace(event, data={**event.data, **data}))


def in_another_product(history: History) -> None:
    """A line of the order that was cancelled."""
    about = {"orderid": "o1", "lineid": "2", "qty": 1, "batchref": "other"}
    more(history, told(1, "batch_created", "r1-sku1", ref="other", qty=10, eta=None))
    more(history, told(2, "allocated", "r1-sku1", **about))


IN_THE_WAREHOUSE: list[tuple[str, Callable[[History], object]]] = [
    ("wrong quantity", lambda it: otherwise(it, 6, qty=17)),
    ("wrong quantity", lambda it: otherwise(it, 11, qty=5)),
    ("wrong quantity", lambda it: otherwise(it, 15, qty=9)),
    ("reallocation", lambda it: otherwise(it, 7, ref="here")),
    ("reallocation", lambda it: otherwise(it, 17, qty=2)),
    ("reallocation", lambda it: tell(it, 13, out_of_stock(13, "o2", 4))),
    ("dispatched", lambda it: otherwise(it, 8, qty=4)),
    ("dispatched", lambda it: otherwise(it, 8, orderid="o3")),
    ("returned", lambda it: otherwise(it, 9, qty=3)),
    ("cancelled", in_another_product),
    ("unknown batch", lambda it: otherwise(it, 12, ref="never")),
    ("cancelled", lambda it: more(it, placed(18, "o1", 1, "ship"))),
    ("applied twice", lambda it: more(it, told(18, "batch_counted", **it.told[10].data))),
    ("applied twice", lambda it: more(it, told(18, "order_cancelled", orderid="o1"))),
    ("answer untrue", lambda it: it.asked.append(done("dispatch", "o1", SKU, "none"))),
    ("answer untrue", lambda it: it.asked.append(done("dispatch", "o1", SKU, "p", status=409))),
    ("answer untrue", lambda it: it.asked.append(done("cancel", "o2", status=200))),
    ("not applied", lambda it: it.rows.dead_letters.pop()),
    ("not applied", lambda it: it.rows.dead_letters.append((it.sent[0].body,))),
    ("rows differ", lambda it: it.rows.orders.clear()),
    ("rows differ", lambda it: it.rows.order_lines.__setitem__(0, ("o1", SKU, SKU, 0, [3]))),
    ("rows differ", lambda it: it.rows.allocations.__setitem__(0, (SKU, 3, "o1", SKU, 0, "here", 2))),
]


@pytest.mark.parametrize(("kind", "tamper"), IN_THE_WAREHOUSE, ids=[kind for kind, _ in IN_THE_WAREHOUSE])
def test_names_what_is_wrong_in_the_warehouse(kind: str, tamper: Callable[[History], object]) -> None:
    history = right_in_the_warehouse()
    tamper(history)

    assert kind in {violation.kind for violation in judge(history)}


IN_THE_QUEUE: list[tuple[str, Callable[[History], object]]] = [
    ("wrong batch", lambda it: otherwise(it, 3, qty=1)),
    ("queue", lambda it: otherwise(it, 5, qty=12)),  # then o2 is before o3
    ("queue", lambda it: otherwise(it, 6, qty=1)),
    ("queue", lambda it: otherwise(it, 6, orderid="o9")),
    ("queue", lambda it: otherwise(it, 10, since=10)),
    ("queue", lambda it: otherwise(it, 12, qty=7)),
    ("queue", lambda it: more(it, changed(13, "now", 9))),
    ("applied twice", lambda it: otherwise(it, 4, orderid="o2")),
    ("answer untrue", lambda it: it.asked.append(done("place", "o9", orderid="o9", lines=[]))),
    ("rows differ", lambda it: it.rows.backorders.clear()),
    ("rows differ", lambda it: it.rows.products.__setitem__(0, (SKU, 12, 2))),
]


@pytest.mark.parametrize(("kind", "tamper"), IN_THE_QUEUE, ids=[kind for kind, _ in IN_THE_QUEUE])
def test_names_what_is_wrong_in_the_queue(kind: str, tamper: Callable[[History], object]) -> None:
    history = right_in_the_queue()
    tamper(history)

    assert kind in {violation.kind for violation in judge(history)}
