"""The judge of the chaos runs sees what is wrong: each kind of violation is put into a history that was right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
from tests.chaos.history import FAR_AHEAD, LONG_PAST, Asked, History, Rows, Sent, Told, Violation
from tests.chaos.model import Model
from tests.chaos.verdict import judge

SKU = "r1-sku0"
KEEPS = None, None, False, False
"""The last columns of a batch of which no day has passed."""


def told(version: int, kind: str, sku: str = SKU, **data: Any) -> Told:
    return Told(f"{1000 + version}-0", f"id-{sku}-{version}", kind, sku, version, 1.0, {"sku": sku, **data})


def created(version: int, ref: str, qty: int, eta: str | None = None, expires: str | None = None) -> Told:
    return told(version, "batch_created", ref=ref, qty=qty, eta=eta, expires=expires)


def changed(version: int, ref: str, qty: int) -> Told:
    return told(version, "batch_quantity_changed", ref=ref, qty=qty)


def placed(version: int, orderid: str, qty: int, batch: str, lineid: str = SKU) -> Told:
    return told(version, "allocated", orderid=orderid, lineid=lineid, qty=qty, batchref=batch)


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
        products=[(SKU, 11, 0, 0)],
        batches=[
            (SKU, "now", None, 10, 4, 4, 1, 0, 0, 0, *KEEPS),
            (SKU, "later", "2031-01-01", 5, 5, 5, 2, 0, 0, 0, *KEEPS),
        ],
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


def done(kind: str, *about: str, status: int = 201, answer: str = "{}", **body: Any) -> Asked:
    return Asked(" ".join([kind, *about]), "/v1", body, 1.0, 2.0, status, answer, (kind, *about))


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
            products=[(SKU, 17, 0, 0)],
            batches=[
                (SKU, "ship", None, 10, 7, 3, 6, 0, 0, 3, *KEEPS),
                (SKU, "here", None, 5, 4, 2, 2, 0, 1, 1, *KEEPS),
                (SKU, "rest", "2031-02-01", 3, 3, 0, 5, 0, 0, 0, *KEEPS),
            ],
            allocations=[(SKU, 3, "o1", SKU, 0, "here", 1)],
            order_lines=[("o1", SKU, SKU, 1, [3]), ("o2", SKU, SKU, 0, [])],
            allocations_view=[("o1", SKU, SKU, 1, "here")],
            orders=[("o1",)],
            dead_letters=[(one,) for one in (_body("dispatch", "o2"), _body("return_line", "o1"))],
        ),
        mails={f"id-{SKU}-14": 2.0},
    )


def waits(version: int, orderid: str, qty: int, since: int | None = None, lineid: str = SKU) -> Told:
    return told(version, "backordered", orderid=orderid, lineid=lineid, qty=qty, since=since or version)


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
            replace(done("release", "o2", SKU, status=404), key="too early"),
            done("release", "o2", SKU, status=200),
        ],
        sent=[sent("change_batch_quantity", batchref="now", qty=qty) for qty in (7, 3)],
        rows=Rows(
            event_log=log_of(events, range(5, 7), range(7, 12)),
            products=[(SKU, 12, 1, 0)],
            batches=[(SKU, "now", None, 5, 3, 2, 1, 0, 0, 0, *KEEPS)],
            allocations=[(SKU, 11, "o3", SKU, 2, "now", 0)],
            order_lines=[("o1", SKU, SKU, 0, []), ("o2", SKU, SKU, 0, []), ("o3", SKU, SKU, 0, [11])],
            allocations_view=[("o3", SKU, SKU, 2, "now")],
            backorders=[(SKU, 2, "o1", SKU, 4)],
        ),
    )


def held(version: int, hold_id: str, qty: int, batch: str = "now", until: str = "") -> Told:
    return told(version, "hold_placed", hold_id=hold_id, qty=qty, batchref=batch, until=until or at(version))


def at(second: int) -> str:
    return f"2026-01-01T10:00:{second:02}+00:00"


def ended(version: int, hold_id: str, qty: int, why: str, batch: str = "now") -> Told:
    return told(version, "hold_ended", hold_id=hold_id, qty=qty, batchref=batch, why=why)


def said_of(hold: Told) -> str:
    return json.dumps({name: hold.data[name] for name in ("hold_id", "qty", "batchref", "until")})


OF_H1, OF_H2 = "1-held-h1", "2-held-h2"


def right_with_holds() -> History:
    """One becomes a promise; one has run out, and who waits is served before a newcomer; one is broken before the
    promises are; one is given up; and one is there at the end."""
    events = [
        created(1, "now", 10),
        held(2, "h1", 4),
        held(3, "h2", 3),
        placed(4, "o1", 3, "now"),
        waits(5, "o2", 2),
        ended(6, "h1", 4, "confirmed"),
        placed(7, "p1", 3, "now", OF_H1),
        ended(8, "h2", 3, "expired"),
        served(9, "o2", 2, "now"),
        placed(10, "o3", 1, "now"),
        held(11, "h3", 1),
        told(12, "hold_extended", hold_id="h3", until=at(50)),
        changed(13, "now", 6),
        ended(14, "h3", 1, "broken"),
        broken(15, "o2", 2, "now"),
        broken(16, "o3", 1, "now"),
        waits(17, "o2", 2, since=5),
        out_of_stock(18, "o3", 1),
        changed(19, "now", 10),
        served(20, "o2", 2, "now"),
        held(21, "h4", 2),
        ended(22, "h4", 2, "voided"),
        held(23, "h5", 1),
    ]
    events[6] = replace(events[6], data={**events[6].data, "waits": True})
    holds = [event for event in events if event.kind == "hold_placed"]
    until_50 = replace(events[10], data={**events[10].data, "until": "2026-01-01T10:00:50Z"})
    return History(
        told=events,
        asked=[
            asked("/add_batch", 201, "OK", ref="now", qty=10, eta=None),
            *(done("hold", SKU, one.data["hold_id"], answer=said_of(one)) for one in holds if one.version != 23),
            done("hold", SKU, "too much", status=409),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o1", qty=3),
            done("place", "o2", orderid="o2", lines=[{"sku": SKU, "qty": 2}]),
            done("place", "p1", orderid="p1", sku=SKU, lineid=OF_H1, qty=3),
            done("place", "too late", status=409, orderid="too late", sku=SKU, qty=3),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o3", qty=1),
            done("extend", SKU, "h3", status=200, answer=said_of(until_50)),
            done("extend", SKU, "h4", status=200, answer=said_of(events[20])),  # it was held for so long anyway
            done("void", SKU, "h4", status=204),
            done("void", SKU, "h1", status=204),  # it had ended
        ],
        sent=[
            *(sent("change_batch_quantity", batchref="now", qty=qty) for qty in (6, 10)),
            sent("place_hold", good=None, sku=SKU, hold_id="h5", qty=1),
            sent("confirm_hold", good=None, sku=SKU, hold_id="h2", qty=1, orderid="late"),
        ],
        rows=Rows(
            event_log=log_of(events, range(6, 8), range(8, 11), range(13, 19), range(19, 21)),
            products=[(SKU, 23, 0, 1)],
            batches=[(SKU, "now", None, 10, 10, 9, 1, 1, 0, 0, *KEEPS)],
            allocations=[
                (SKU, 4, "o1", SKU, 3, "now", 0),
                (SKU, 7, "p1", OF_H1, 3, "now", 0),
                (SKU, 20, "o2", SKU, 2, "now", 0),
            ],
            order_lines=[
                ("o1", SKU, SKU, 0, [4]),
                ("p1", OF_H1, SKU, 0, [7]),
                ("o2", SKU, SKU, 0, [20]),
                ("o3", SKU, SKU, 0, []),
            ],
            allocations_view=[
                ("o1", SKU, SKU, 3, "now"),
                ("p1", OF_H1, SKU, 3, "now"),
                ("o2", SKU, SKU, 2, "now"),
            ],
            holds=[(SKU, "h5", 1, "now", datetime(2026, 1, 1, 10, 0, 23, tzinfo=UTC), 23)],
            dead_letters=[(sent("confirm_hold", sku=SKU, hold_id="h2", qty=1, orderid="late").body,)],
        ),
        mails={f"id-{SKU}-18": 2.0},
    )


def test_a_hold_may_be_given_up_before_the_command_that_places_it_is_read() -> None:
    history = right_with_holds()
    history.told[-1] = replace(history.told[-1], heard=1.5)

    history.asked.append(done("void", SKU, "h5", status=204))

    assert list(judge(history)) == []


def moved(version: int, orderid: str, qty: int, batch: str) -> Told:
    return told(version, "line_released", orderid=orderid, lineid=SKU, qty=qty, batchref=batch, why="moved")


def received(version: int, ref: str, number: str, qty: int, expires: str | None = None) -> Told:
    of_receipt: dict[str, Any] = {"received": qty, "damaged": 0, "rest": None, "qty": qty}
    return told(version, "batch_received", ref=ref, receipt_id=number, expires=expires, **of_receipt)


REST = {"rest": "rest"}


def right_by_the_clock() -> History:
    """Days are over: of goods that should have come, of some that nobody is promised, and of some that come in like
    that, with a promise and a hold. A promise is pulled forward. And something is found of what has expired."""
    pulled = {"orderid": "o2", "lineid": SKU, "sku": SKU, "qty": 3, "from": "late", "to": "big", "outcome": "moved"}
    batches = {"late": (5, LONG_PAST, None), "sour": (4, None, LONG_PAST), "milk": (6, "2031-01-01", FAR_AHEAD)}
    events = [
        *(created(version, ref, *of) for version, (ref, of) in enumerate(batches.items(), 1)),
        created(4, "now", 5),
        placed(5, "o1", 4, "now"),
        placed(6, "o2", 3, "late"),
        placed(7, "o3", 3, "milk"),
        held(8, "h1", 3, "milk"),
        told(9, "batch_overdue", ref="late", eta=LONG_PAST),
        told(10, "batch_expired", ref="sour", qty=4),
        received(11, "milk", "r1", 6, LONG_PAST),
        told(12, "batch_expired", ref="milk", qty=6),
        ended(13, "h1", 3, "broken", "milk"),
        broken(14, "o3", 3, "milk"),
        out_of_stock(15, "o3", 3),
        created(16, "big", 9),
        moved(17, "o2", 3, "late"),
        placed(18, "o2", 3, "big"),
        received(19, "late", "r2", 5),
        told(20, "batch_counted", ref="sour", count_id="c", counted=1, qty=5, reason="found"),
        told(21, "batch_expired", ref="sour", qty=1),
    ]
    return History(
        told=events,
        asked=[
            *(
                asked("/v1/batches", 201, ref=ref, qty=qty, eta=eta, expires=expires)
                for ref, (qty, eta, expires) in batches.items()
            ),
            asked("/add_batch", 201, "OK", ref="now", qty=5, eta=None),
            asked("/add_batch", 201, "OK", ref="big", qty=9, eta=None),
            asked("/allocate", 202, '{"batchref": "now"}', orderid="o1", qty=4),
            asked("/allocate", 202, '{"batchref": "late"}', orderid="o2", qty=3),
            asked("/allocate", 202, '{"batchref": "milk"}', orderid="o3", qty=3),
            done("hold", SKU, "h1", answer=said_of(events[7])),
            done("receipt", "milk", "r1"),
            done("pull", SKU, "big", status=200, answer=json.dumps({"moved": [pulled]})),
            done("pull", SKU, "never", status=404),
            done("receipt", "late", "r2"),
            done("count", "sour", "c"),
        ],
        rows=Rows(
            event_log=log_of(events, range(9, 11), range(11, 16), range(17, 19), range(20, 22)),
            products=[(SKU, 21, 0, 0)],
            batches=[
                (SKU, "late", None, 5, 5, 0, 19, 0, 0, 0, *KEEPS),
                (SKU, "sour", None, 4, 5, 5, 2, 0, 0, 5, LONG_PAST, LONG_PAST, False, True),
                (SKU, "milk", None, 6, 6, 6, 11, 0, 0, 6, FAR_AHEAD, LONG_PAST, False, True),
                (SKU, "now", None, 5, 5, 4, 4, 0, 0, 0, *KEEPS),
                (SKU, "big", None, 9, 9, 3, 16, 0, 0, 0, *KEEPS),
            ],
            allocations=[(SKU, 5, "o1", SKU, 4, "now", 0), (SKU, 18, "o2", SKU, 3, "big", 0)],
            order_lines=[("o1", SKU, SKU, 0, [5]), ("o2", SKU, SKU, 0, [18]), ("o3", SKU, SKU, 0, [])],
            allocations_view=[("o1", SKU, SKU, 4, "now"), ("o2", SKU, SKU, 3, "big")],
        ),
        mails={f"id-{SKU}-15": 2.0},
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
    assert [*judge(right_with_holds())] == []
    assert [*judge(right_by_the_clock())] == []


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
        products=[(SKU, 3, 0, 0)],
        batches=[
            (SKU, "now", None, 10, 10, 4, 1, 0, 0, 0, *KEEPS),
            (SKU, "later", "2031-01-01", 5, 5, 0, 2, 0, 0, 0, *KEEPS),
        ],
        allocations=[(SKU, 3, "o1", SKU, 4, "now", 0)],
        order_lines=[("o1", SKU, SKU, 0, [3])],
        allocations_view=[("o1", SKU, SKU, 4, "now")],
    )
    history.moments = [Rows(), seen, history.rows]
    assert [*judge(history)] == []

    seen.batches[0] = (SKU, "now", None, 10, 10, 0, 1, 0, 0, 0, *KEEPS)
    assert {violation.kind for violation in judge(history)} == {"rows differ"}


def test_each_event_is_replayed_once_for_all_moments() -> None:
    history = right()
    with patch.object(Model, "take", autospec=True, side_effect=Model.take) as take:
        [*judge(history)]
        without_moments, size = take.call_count, len(history.rows.event_log)

        history.moments = [Rows(history.rows.event_log[:last]) for last in range(size + 1) for _ in range(100)]
        [*judge(history)]

    assert take.call_count == without_moments * 2 + size


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
    ("rows differ", lambda it: it.rows.products.__setitem__(0, (SKU, 10, 0, 0))),
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
    ("rows differ", lambda it: it.rows.products.__setitem__(0, (SKU, 12, 2, 0))),
]


@pytest.mark.parametrize(("kind", "tamper"), IN_THE_QUEUE, ids=[kind for kind, _ in IN_THE_QUEUE])
def test_names_what_is_wrong_in_the_queue(kind: str, tamper: Callable[[History], object]) -> None:
    history = right_in_the_queue()
    tamper(history)

    assert kind in {violation.kind for violation in judge(history)}


def together(history: History, first: int, last: int) -> None:
    """What was several transactions was one."""
    for number, row in enumerate(history.rows.event_log):
        if first <= row[1] <= last:
            history.rows.event_log[number] = (*row[:5], first)


def instead(history: History, *events: Told) -> None:
    for event in events:
        tell(history, event.version, event)


def hear(history: History, version: int, moment: str) -> None:
    index = next(number for number, one in enumerate(history.told) if one.version == version)
    history.told[index] = replace(history.told[index], heard=datetime.fromisoformat(moment).timestamp())


def ask_late(history: History, key: str, moment: str) -> None:
    index = next(number for number, one in enumerate(history.asked) if one.key == key)
    history.asked[index] = replace(history.asked[index], begun=datetime.fromisoformat(moment).timestamp())


def answer_otherwise(history: History, key: str, **data: Any) -> None:
    index = next(number for number, one in enumerate(history.asked) if one.key == key)
    one = history.asked[index]
    history.asked[index] = replace(one, answer=json.dumps(json.loads(one.answer) | data))


H1, PULL = f"hold {SKU} h1", f"pull {SKU} big"
WITH_HOLDS: list[tuple[str, Callable[[History], object]]] = [
    ("wrong batch", lambda it: otherwise(it, 2, qty=11)),
    ("applied twice", lambda it: otherwise(it, 3, hold_id="h1")),
    ("applied twice", lambda it: more(it, held(24, "h1", 1))),
    ("oversold", lambda it: otherwise(it, 4, qty=4)),
    ("hold", lambda it: otherwise(it, 6, qty=3)),
    ("hold", lambda it: otherwise(it, 6, hold_id="h9")),
    ("hold", lambda it: otherwise(it, 12, hold_id="h9")),
    ("hold", lambda it: otherwise(it, 12, until=at(2))),
    ("hold", lambda it: otherwise(it, 14, why="voided")),
    ("hold", lambda it: otherwise(it, 22, why="broken")),
    ("wrong batch", lambda it: otherwise(it, 7, qty=5)),
    ("hold", lambda it: instead(it, out_of_stock(7, "p1", 5))),  # who has a hold gets what was held, or waits
    ("hold", lambda it: commit(it, before=7)),
    ("hold", lambda it: together(it, 6, 10)),  # what has run out comes first
    ("reallocation", lambda it: instead(it, broken(14, "o2", 2, "now"), ended(15, "h3", 1, "broken"))),
    ("queue", lambda it: instead(it, placed(9, "o3", 1, "now"), served(10, "o2", 2, "now"))),
    ("hold", lambda it: hear(it, 8, at(2))),
    ("hold", lambda it: ask_late(it, "o1", at(3))),  # h1 had run out by then
    ("answer untrue", lambda it: answer_otherwise(it, H1, until=at(3))),
    ("answer untrue", lambda it: answer_otherwise(it, H1, batchref="later")),
    ("answer untrue", lambda it: it.asked.append(done("hold", SKU, "h2", status=409))),
    ("answer untrue", lambda it: it.asked.append(done("hold", SKU, "h9", answer=said_of(held(24, "h9", 1))))),
    ("answer untrue", lambda it: it.asked.append(done("extend", SKU, "h3", status=409))),
    ("answer untrue", lambda it: it.asked.append(done("void", SKU, "h4", status=409))),
    ("answer untrue", lambda it: it.asked.append(done("void", SKU, "h5", status=204))),
    ("answer untrue", lambda it: it.asked.append(done("place", "late", orderid="late", sku=SKU))),
    ("answer untrue", lambda it: it.asked.append(done("place", "p1", status=409, orderid="p1", sku=SKU))),
    ("not applied", lambda it: it.rows.dead_letters.append((it.sent[2].body,))),
    ("not applied", lambda it: it.rows.dead_letters.clear()),
    ("rows differ", lambda it: it.rows.holds.clear()),
    (
        "rows differ",
        lambda it: it.rows.holds.__setitem__(0, (*it.rows.holds[0][:4], datetime(2026, 1, 1, tzinfo=UTC), 23)),
    ),
    ("rows differ", lambda it: it.rows.products.__setitem__(0, (SKU, 23, 0, 2))),
    ("rows differ", lambda it: it.rows.batches.__setitem__(0, (SKU, "now", None, 10, 10, 9, 1, 0, 0, 0, *KEEPS))),
]


@pytest.mark.parametrize(("kind", "tamper"), WITH_HOLDS, ids=[kind for kind, _ in WITH_HOLDS])
def test_names_what_is_wrong_with_holds(kind: str, tamper: Callable[[History], object]) -> None:
    history = right_with_holds()
    tamper(history)

    assert kind in {violation.kind for violation in judge(history)}


def test_where_the_clock_of_the_database_is_another_nobody_knows_when_a_hold_had_run_out() -> None:
    history = right_with_holds()
    hear(history, 8, at(2))
    ask_late(history, "o1", at(3))
    history.clocks_agree = False

    assert [*judge(history)] == []


BY_THE_CLOCK: list[tuple[str, Callable[[History], object]]] = [
    ("overdue", lambda it: otherwise(it, 9, eta="2031-01-01")),
    ("overdue", lambda it: otherwise(it, 9, ref="milk", eta="2031-01-01")),
    ("applied twice", lambda it: instead(it, replace(it.told[8], version=10))),
    ("overdue", lambda it: more(it, created(22, "later", 1, LONG_PAST))),
    ("expired", lambda it: more(it, created(22, "more", 1, None, LONG_PAST))),
    ("wrong batch", lambda it: otherwise(it, 5, batchref="sour")),
    ("wrong batch", lambda it: otherwise(it, 8, batchref="late")),
    ("wrong quantity", lambda it: otherwise(it, 10, qty=3)),
    ("wrong quantity", lambda it: otherwise(it, 12, qty=0)),
    ("expired", lambda it: otherwise(it, 10, ref="now", qty=1)),
    ("reallocation", lambda it: commit(it, before=12)),
    ("reallocation", lambda it: commit(it, before=13)),
    ("reallocation", lambda it: instead(it, broken(13, "o3", 3, "milk"), ended(14, "h1", 3, "broken", "milk"))),
    ("expired", lambda it: commit(it, before=21)),
    ("wrong quantity", lambda it: otherwise(it, 21, qty=2)),
    ("applied twice", lambda it: more(it, told(22, "batch_expired", ref="sour", qty=0))),
    ("expired", lambda it: more(it, told(22, "quarantine_released", ref="sour", qty=1, document="s"))),
    ("wrong batch", lambda it: otherwise(it, 18, batchref="milk")),
    ("wrong batch", lambda it: instead(it, moved(17, "o1", 4, "now"), placed(18, "o1", 4, "big"))),
    ("pull", lambda it: otherwise(it, 18, qty=2)),
    ("reallocation", lambda it: commit(it, before=18)),
    ("reallocation", lambda it: otherwise(it, 17, orderid="o3")),
    ("pull", lambda it: answer_otherwise(it, PULL, moved=[])),
    ("pull", lambda it: it.asked.append(replace(it.asked[10], key="another"))),
    ("pull", lambda it: it.asked.pop(10)),  # nobody has asked for it
    ("answer untrue", lambda it: it.asked.append(asked("/v1/batches", 201, ref="x", qty=1, eta=None))),
    ("rows differ", lambda it: it.rows.batches.__setitem__(0, (*it.rows.batches[0][:12], True, False))),
    ("rows differ", lambda it: it.rows.batches.__setitem__(1, (*it.rows.batches[1][:12], False, False))),
    ("rows differ", lambda it: it.rows.batches.__setitem__(2, (*it.rows.batches[2][:11], FAR_AHEAD, False, True))),
]


@pytest.mark.parametrize(("kind", "tamper"), BY_THE_CLOCK, ids=[kind for kind, _ in BY_THE_CLOCK])
def test_names_what_is_wrong_when_days_are_over_or_promises_move(
    kind: str, tamper: Callable[[History], object]
) -> None:
    history = right_by_the_clock()
    tamper(history)

    assert kind in {violation.kind for violation in judge(history)}


def replayed(events: list[Told], *commits: int) -> set[str]:
    """What is wrong when these are committed behind these versions, and at the end."""
    model = Model(SKU)
    found: list[Violation] = []
    for event in events:
        found += model.take(event)
        if event.version in commits or event is events[-1]:
            found += model.committed()
    return {violation.kind for violation in found}


def test_what_ran_out_first_ends_first_and_serves_those_who_wait_before_the_next_one_ends() -> None:
    before = [created(1, "now", 4), held(2, "h1", 2, until=at(7)), held(3, "h2", 2, until=at(6)), waits(4, "o1", 2)]
    first, second = ended(5, "h2", 2, "expired"), ended(7, "h1", 2, "expired")
    waiting = served(6, "o1", 2, "now")

    assert replayed([*before, first, waiting, second], 1, 2, 3, 4) == set()
    assert replayed([*before, first, replace(second, version=6), replace(waiting, version=7)], 1, 2, 3, 4) == {"queue"}
    wrong_way = [ended(5, "h1", 2, "expired"), waiting, ended(7, "h2", 2, "expired")]
    assert replayed([*before, *wrong_way], 1, 2, 3, 4) == {"hold"}
    assert replayed([*before, *wrong_way], 1, 2, 3, 4, 6) == set()  # one was extended by a clock that was set back


def test_what_was_held_for_an_order_goes_to_its_line_before_it_goes_to_those_who_wait() -> None:
    before = [created(1, "now", 4), created(2, "later", 3, "2031-01-01"), held(3, "h1", 4), waits(4, "o1", 4)]
    end = ended(5, "h1", 4, "confirmed")

    assert replayed([*before, end, placed(6, "p1", 1, "now", OF_H1)], 1, 2, 3, 4) == set()
    assert "wrong batch" in replayed([*before, end, placed(6, "p1", 1, "later", OF_H1)], 1, 2, 3, 4)
    assert "wrong batch" in replayed([*before, end, waits(6, "p1", 4, lineid=OF_H1)], 1, 2, 3, 4)
    assert "hold" in replayed([*before, end, served(6, "o1", 4, "now")], 1, 2, 3, 4)
    too_many = [*before, end, waits(6, "p1", 5, lineid=OF_H1)]
    assert "queue" in replayed(too_many, 1, 2, 3, 4)  # then who waits for four is served
    assert replayed([*too_many, served(7, "o1", 4, "now")], 1, 2, 3, 4) == set()


def test_each_line_of_an_order_has_what_was_held_for_it_and_not_what_was_held_for_another() -> None:
    before = [created(1, "now", 5), created(2, "later", 9, "2031-01-01"), held(3, "h1", 2), held(4, "h2", 3)]
    ends = [ended(5, "h1", 2, "confirmed"), ended(6, "h2", 3, "confirmed")]
    first, second = placed(7, "p1", 1, "now", OF_H1), placed(8, "p1", 3, "now", OF_H2)
    greedy = placed(7, "p1", 3, "now", OF_H1)

    assert replayed([*before, *ends, first, second, placed(9, "p1", 2, "later", "3")], *range(1, 5)) == set()
    assert "wrong batch" in replayed([*before, *ends, greedy, second], *range(1, 5))
    assert "wrong batch" in replayed([*before, *ends, placed(7, "p1", 1, "now", "3")], *range(1, 5))
    assert replayed([*before, *ends, first, second, placed(9, "o1", 1, "now")], *range(1, 5)) == set()


def test_what_arrives_and_has_expired_is_recorded_before_those_who_wait_are_served_from_the_rest() -> None:
    arrived = replace(
        received(4, "sour", "r1", 1, LONG_PAST), data={**received(4, "sour", "r1", 1, LONG_PAST).data} | REST
    )
    events = [
        created(1, "sour", 3, "2031-01-01", LONG_PAST),
        waits(2, "o1", 2),
        created(3, "rest", 2, "2031-02-01"),
        arrived,
        told(5, "batch_expired", ref="sour", qty=1),
        served(6, "o1", 2, "rest"),
    ]

    assert replayed(events, 1, 2) == set()
    assert replayed(events, 1, 2, 4) == {"queue", "reallocation"}, "others can see it half done"
    assert "queue" in replayed([*events[:3], told(4, "batch_expired", ref="sour", qty=0)], 1, 2)


def test_all_that_fits_is_pulled_forward_the_oldest_first_and_then_those_who_wait_are_served() -> None:
    before = [
        created(1, "ship", 5, "2031-01-01"),
        placed(2, "o1", 2, "ship"),
        placed(3, "o2", 3, "ship"),
        created(4, "now", 5),
        waits(5, "o3", 6),
        changed(6, "ship", 6),
    ]
    commits = range(1, 7)
    both = [moved(7, "o1", 2, "ship"), placed(8, "o1", 2, "now"), moved(9, "o2", 3, "ship"), placed(10, "o2", 3, "now")]
    turned = [
        moved(7, "o2", 3, "ship"),
        placed(8, "o2", 3, "now"),
        moved(9, "o1", 2, "ship"),
        placed(10, "o1", 2, "now"),
    ]

    assert replayed([*before, *both, served(11, "o3", 6, "ship")], *commits) == set()
    assert "pull" in replayed([*before, *turned, served(11, "o3", 6, "ship")], *commits)
    assert "pull" in replayed([*before, *both[:2]], *commits)  # o2 fits as well
    assert "queue" in replayed([*before, *both], *commits)
    small = [*before[:4], waits(5, "o3", 6), *before[5:], both[0], served(8, "o3", 2, "ship")]
    assert "reallocation" in replayed(small, *commits)  # nobody is served between the two
