"""Clients that never give up: what they ask for or send is asked or sent again until it is acknowledged.

What they do follows from a seed; how much of it, from how long they are let.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from random import Random
from threading import Event, Lock, Thread
from typing import Any

import redis
import requests
from tests.chaos.harvest import waiting_commands
from tests.chaos.history import FAR_AHEAD, LONG_PAST, NAMES_A_HOLD, PREFIX, Asked, Sent, Thing
from tests.chaos.meddling import COMMANDS
from tests.chaos.worlds import World

CHANNEL = "change_batch_quantity"
MOST_WAITING = 50
"""Messages. The sender sends no more than is handled: a backlog would hide how soon a fault is over."""
PATIENCE = 120.0
"""Seconds. A request is asked again for so long."""
MORE_THAN_THERE_IS = 500_000
SCARCE = 8
"""The most that a batch holds of the first SKU, for which some have to wait."""
ETAS = (None, None, "2031-01-01", "2031-01-02", "2032-05-05")
DAYS = (
    (LONG_PAST, None),
    (LONG_PAST, FAR_AHEAD),
    (None, LONG_PAST),
    (None, FAR_AHEAD),
    ("2031-01-01", LONG_PAST),
    ("2031-01-01", FAR_AHEAD),
)
"""On which batches are expected, and on which they can be sold at last."""
AN_HOUR = 3600
SECONDS = (1, 1, 1, 2, 3, 5, 20, AN_HOUR)
"""For which is held."""


@dataclass(slots=True)
class Shared:
    """What the clients of one round share; every name begins with the round's."""

    name: str
    skus: list[str]
    asked: list[Asked] = field(default_factory=list)
    misused: list[Asked] = field(default_factory=list)
    """With the key of another request."""
    sent: list[Sent] = field(default_factory=list)
    copies: Counter[bytes] = field(default_factory=Counter)
    """How often each message was sent over the stream, or may have been."""
    lines: list[tuple[str, str]] = field(default_factory=list)
    """Orders and their lines, once somebody has asked for them."""
    dispatched: list[tuple[str, str]] = field(default_factory=list)
    """Those of which something has left."""
    expected: list[str] = field(default_factory=list)
    """Batches that are received and counted; no other way is their quantity changed."""
    skus_of_batches: dict[str, str] = field(default_factory=dict)
    holds: list[dict[str, Any]] = field(default_factory=list)
    """As somebody has asked for them."""
    extensible: list[dict[str, Any]] = field(default_factory=list)
    """Those that nobody has extended. Whoever does so takes them."""
    held_in: list[str] = field(default_factory=list)
    """Batches of which something was held."""
    _quantities: dict[str, set[int]] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def note_batch(self, ref: str, sku: str, qty: int) -> None:
        with self._lock:
            self._quantities[ref] = {qty}
            self.skus_of_batches[ref] = sku

    def note_expected(self, ref: str, sku: str) -> None:
        with self._lock:
            self.expected.append(ref)
            self.skus_of_batches[ref] = sku

    def batch(self, random: Random) -> str | None:
        with self._lock:
            return random.choice([*self._quantities]) if self._quantities else None

    def line(self, random: Random, *, dispatched: bool = False) -> tuple[str, str] | None:
        """One of the newer ones."""
        lines = self.dispatched[-20:] if dispatched else self.lines[-40:]
        return random.choice(lines) if lines else None

    def hold(self, random: Random, sku: str | None = None) -> dict[str, Any] | None:
        """One of the newer ones, which may have run out."""
        holds = [hold for hold in self.holds[-10:] if sku in {None, hold["sku"]}]
        return random.choice(holds) if holds else None

    def new_hold(self, random: Random, hold_id: str) -> dict[str, Any]:
        sku = random.choice((self.skus[0], random.choice(self.skus)))
        hold = {"hold_id": hold_id, "sku": sku, "qty": random.randint(1, 6), "seconds": random.choice(SECONDS)}
        self.holds.append(hold)
        return hold

    def is_scarce(self, sku: str) -> bool:
        return sku == self.skus[0]

    def qty_of_batch(self, random: Random, sku: str) -> int:
        return random.randint(1, SCARCE) if self.is_scarce(sku) else random.randint(5, 60)

    def new_quantity(self, random: Random) -> tuple[str, int] | None:
        """A batch that is there, and a quantity that it was never said to have: so that each change shows once."""
        with self._lock:
            if not self._quantities:
                return None
            held = [ref for ref in self.held_in[-4:] if ref in self._quantities]
            ref = random.choice(held if held and random.random() < 0.4 else list(self._quantities))
            most = SCARCE if self.is_scarce(self.skus_of_batches[ref]) else 200
            left = [qty for qty in range(most) if qty not in self._quantities[ref]][:60]
            if not left:
                return None
            qty = random.choice(left)
            self._quantities[ref].add(qty)
            return ref, qty


class Load:
    """Threads that ask and send until stopped."""

    def __init__(self, world: World, api: str, name: str, seed: int, clients: int = 2) -> None:
        random = Random(seed)
        self.shared = Shared(name, [f"{name}-sku{number}" for number in range(random.randint(3, 5))])
        self._stop = Event()
        self._http = [HttpClient(self.shared, f"h{number}", random.random(), api) for number in range(clients)]
        runs = [*(client.run for client in self._http), Sender(self.shared, "s", random.random(), world).run]
        self._threads = [Thread(target=run, args=(self._stop,), daemon=True) for run in runs]

    def start(self) -> None:
        """Purchase some of each product first, so that it is known to whoever asks for it."""
        self._http[0].purchase_some()
        for thread in self._threads:
            thread.start()

    def repeat(self, most: int = 2) -> None:
        """Some requests once more, by their keys, and others with these keys: so many of each kind and answer."""
        self._http[0].repeat(most)

    def give_up_holds(self) -> None:
        """Nothing runs out any more, so that all has come to rest; some holds are there for an hour."""
        self._http[0].give_up_holds()

    def stop(self, within: float) -> bool:
        """Let each finish what it is at; whether all did."""
        self._stop.set()
        deadline = time.monotonic() + within
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)


@dataclass
class HttpClient:
    shared: Shared
    name: str
    seed: float
    url: str

    def run(self, stop: Event) -> None:
        random = Random(self.seed)
        while not stop.is_set():
            sku = random.choice([*self.shared.skus, self.shared.skus[0]])
            match random.random():
                case chance if chance < 0.12:
                    self._add_batch(random, sku)
                case chance if chance < 0.17:
                    self._add_dated_batch(random, sku)
                case chance if chance < 0.19:
                    self._allocate(random, f"{self.shared.name}-never-purchased")
                case chance if chance < 0.24:
                    self._expect_batch(random, sku)
                case chance if chance < 0.36:
                    self._work_on_batch(random)
                case chance if chance < 0.52:
                    self._work_on_line(random)
                case chance if chance < 0.62:
                    self._hold(random)
                case chance if chance < 0.66:
                    self._work_on_hold(random)
                case chance if chance < 0.70:
                    self._pull_forward(random)
                case chance if chance < 0.82:
                    self._place_order(random)
                case _:
                    self._allocate(random, sku)
            stop.wait(random.uniform(0, 0.06))

    def purchase_some(self) -> None:
        random = Random(self.seed)
        for sku in self.shared.skus:
            while sku not in self.shared.skus_of_batches.values():
                self._add_batch(random, sku)

    def repeat(self, most: int) -> None:
        random = Random(self.seed)
        asked = {one.key: one for one in self.shared.asked}
        of_a_kind: dict[object, list[Asked]] = defaultdict(list)
        for one in asked.values():
            of_a_kind[one.thing[0] if one.thing else one.path, one.status].append(one)
        for one in [one for same in of_a_kind.values() for one in random.sample(same, min(most, len(same)))]:
            self._ask(one.path, one.key, one.body, one.thing, one.method)
            number = next((name for name, value in one.body.items() if isinstance(value, int)), None)
            if number:
                body = {**one.body, number: one.body[number] + 1}
                self.shared.misused.append(self._answer(one.path, one.key, body, one.thing, one.method))

    def _add_batch(self, random: Random, sku: str) -> None:
        if self.shared.is_scarce(sku) and random.random() < 0.5:
            return
        ref, qty = self._new_name("b"), self.shared.qty_of_batch(random, sku)
        self._ask("/add_batch", ref, {"ref": ref, "sku": sku, "qty": qty, "eta": random.choice(ETAS)})
        self.shared.note_batch(ref, sku, qty)

    def _add_dated_batch(self, random: Random, sku: str) -> None:
        ref, qty, (eta, expires) = self._new_name("e"), self.shared.qty_of_batch(random, sku), random.choice(DAYS)
        self._ask("/v1/batches", ref, {"ref": ref, "sku": sku, "qty": qty, "eta": eta, "expires": expires})
        if eta and random.random() < 0.5:
            self.shared.note_expected(ref, sku)
        else:
            self.shared.note_batch(ref, sku, qty)

    def _hold(self, random: Random) -> None:
        hold = self.shared.new_hold(random, self._new_name("hold"))
        thing = ("hold", hold["sku"], hold["hold_id"])
        answer = self._ask("/v1/holds", hold["hold_id"], hold, thing)
        if answer.status == HTTPStatus.CREATED:
            self.shared.extensible.append(hold)
            self.shared.held_in.append(json.loads(answer.answer)["batchref"])
            if random.random() < 0.3:
                self._ask("/v1/holds", hold["hold_id"], hold, thing)

    def _work_on_hold(self, random: Random) -> None:
        hold = self.shared.hold(random)
        if not hold:
            return
        match random.choice(("confirm", "confirm", "extend", "void")):
            case "confirm":
                body = _confirmation(random, hold, self._new_name("c"))
                self.shared.lines.append((body["orderid"], body["lineid"]))
                path = f"/v1/holds/{body.pop('hold_id')}/confirmation"
                for _ in range(random.choice((1, 1, 2))):
                    self._ask(path, body["orderid"], body, ("place", body["orderid"]))
            case "extend":
                with suppress(IndexError):
                    hold = self.shared.extensible.pop()
                    body = {"sku": hold["sku"], "seconds": random.choice(SECONDS)}
                    path = f"/v1/holds/{hold['hold_id']}/extension"
                    self._ask(path, self._new_name("x"), body, ("extend", hold["sku"], hold["hold_id"]))
            case _:
                self._void(hold, self._new_name("v"))

    def _void(self, hold: Mapping[str, Any], key: str) -> None:
        path = f"/v1/holds/{hold['hold_id']}?sku={hold['sku']}"
        self._ask(path, key, {}, ("void", hold["sku"], hold["hold_id"]), "DELETE")

    def give_up_holds(self) -> None:
        for hold in self.shared.holds:
            if hold["seconds"] != AN_HOUR:
                self._void(hold, f"{hold['hold_id']}-given-up")

    def _pull_forward(self, random: Random) -> None:
        with suppress(IndexError):
            ref, sku = random.choice([*self.shared.skus_of_batches.items()][-30:])
            key, thing = self._new_name("d"), ("pull", sku, ref)
            for _ in range(random.choice((1, 1, 2))):
                self._ask(f"/v1/products/{sku}/pull-forward", key, {"ref": ref}, thing)

    def _allocate(self, random: Random, sku: str) -> None:
        orderid = self._new_name("o")
        qty = random.randint(1, 9) if random.random() < 0.95 else MORE_THAN_THERE_IS
        body = {"orderid": orderid, "sku": sku, "qty": qty}
        if random.random() < 0.3:
            body["lineid"] = "line-1"
        self.shared.lines.append((orderid, str(body.get("lineid", sku))))
        for _ in range(random.choice((1, 1, 1, 2, 3))):
            self._ask("/allocate", orderid, body)
        other = random.choice(self.shared.skus)
        if other != sku and random.random() < 0.2:  # the order has two products, and may be cancelled meanwhile
            self._ask("/allocate", f"{orderid}-2", {"orderid": orderid, "sku": other, "qty": random.randint(1, 9)})

    def _place_order(self, random: Random) -> None:
        """Of which each line waits that does not fit."""
        orderid = self._new_name("p")
        skus = random.sample(self.shared.skus, random.randint(1, 3))
        skus = sorted({*skus, self.shared.skus[0]}) if random.random() < 0.4 else skus
        most = {self.shared.skus[0]: SCARCE}
        skus += random.choices(skus, k=random.choice((0, 0, 1)))
        lines: list[dict[str, Any]] = []
        for number, sku in enumerate(skus):
            hold = self.shared.hold(random, sku) if random.random() < 0.25 else None
            lineid = f"{number}{NAMES_A_HOLD}{hold['hold_id']}" if hold else f"{number}-{sku}"
            line = {"sku": sku, "qty": random.randint(1, most.get(sku, 15)), "lineid": lineid}
            lines.append(line | ({"hold": hold["hold_id"]} if hold else {}))
        self.shared.lines += [(orderid, line["lineid"]) for line in lines]
        body: dict[str, Any] = {"orderid": orderid, "mode": "backorder", "lines": lines}
        if random.random() < 0.3:
            body["needed_by"] = FAR_AHEAD  # which every batch is in time for
        self._ask("/v1/orders", orderid, body, ("place", orderid))

    def _expect_batch(self, random: Random, sku: str) -> None:
        ref = self._new_name("w")
        qty = self.shared.qty_of_batch(random, sku)
        self._ask("/add_batch", ref, {"ref": ref, "sku": sku, "qty": qty, "eta": "2031-01-01"})
        self.shared.note_expected(ref, sku)

    def _work_on_batch(self, random: Random) -> None:
        expected, any_batch = self.shared.expected[-10:], self.shared.batch(random)
        number = self._new_name("d")
        match random.choice(("receive", "count", "quarantine")):
            case "receive" if expected:
                ref = random.choice(expected)
                received = random.randint(0, SCARCE if self.shared.is_scarce(self.shared.skus_of_batches[ref]) else 40)
                body: dict[str, Any] = {"receipt_id": number, "received": received}
                body |= {"damaged": random.randint(0, min(received, 4))} if random.random() < 0.4 else {}
                body |= {"rest": {"ref": f"{number}-rest", "eta": "2031-02-01"}} if random.random() < 0.4 else {}
                body |= {"expires": random.choice((LONG_PAST, FAR_AHEAD))} if random.random() < 0.2 else {}
                self._do(random, ("receipt", ref, number), f"/v1/batches/{ref}/receipts", body)
            case "count" if expected:
                self._count(random, random.choice(expected), number)
            case "quarantine" if any_batch:
                body = {"qty": random.randint(1, 5), "reason": "suspect", "document": number}
                self._do(random, ("quarantine", any_batch, number), f"/v1/batches/{any_batch}/quarantine", body)
                body = {"qty": random.randint(1, 5), "document": number}
                path = f"/v1/batches/{any_batch}/quarantine-releases"
                self._do(random, ("for sale", any_batch, number), path, body)

    def _count(self, random: Random, ref: str, number: str) -> None:
        with suppress(requests.RequestException, KeyError, ValueError), requests.Session() as session:
            session.trust_env = False
            seen = session.get(f"{self.url}/v1/batches/{ref}", timeout=5).json()
            on_shelf = seen["qty"] - seen["dispatched"] - seen["quarantined"]
            body = {"counted": max(0, on_shelf + random.randint(-3, 1)), "expected": on_shelf, "reason": "correction"}
            self._do(random, ("count", ref, number), f"/v1/batches/{ref}/counts", body | {"count_id": number})

    def _work_on_line(self, random: Random) -> None:
        work = random.choice(("dispatch", "dispatch", "dispatch", "return", "return", "release", "cancel"))
        line = self.shared.line(random, dispatched=work == "return")
        if not line:
            return
        (orderid, lineid), number = line, self._new_name("d")
        match work:
            case "dispatch":
                body: dict[str, Any] = {
                    "dispatch_id": number,
                    "lines": [{"lineid": lineid, "qty": random.randint(1, 4)}],
                }
                path = f"/v1/orders/{orderid}/dispatches"
                if self._do(random, ("dispatch", orderid, lineid, number), path, body) == HTTPStatus.CREATED:
                    self.shared.dispatched.append(line)
            case "return":
                body = {"return_id": number, "lineid": lineid, "qty": random.randint(1, 3)}
                body |= {"condition": random.choice(("good", "check"))}
                self._do(random, ("return", orderid, lineid, number), f"/v1/orders/{orderid}/returns", body)
            case "release":
                path = f"/v1/orders/{orderid}/lines/{lineid}"
                self._ask(path, number, {}, ("release", orderid, lineid), "DELETE")
            case _:
                self._ask(f"/v1/orders/{orderid}/cancellation", number, {}, ("cancel", orderid))

    def _do(self, random: Random, thing: Thing, path: str, body: Mapping[str, Any]) -> int:
        """A document counts once, though another request says it again."""
        key = "-".join(thing)
        status = self._ask(path, key, body, thing).status
        if status == HTTPStatus.CREATED and random.random() < 0.3:
            self._ask(path, random.choice((key, f"{key}-again")), body, thing)
        return status

    def _new_name(self, kind: str) -> str:
        return f"{self.shared.name}-{self.name}-{kind}{len(self.shared.asked)}"

    def _ask(
        self, path: str, key: str, body: Mapping[str, Any], thing: Thing | None = None, method: str = "POST"
    ) -> Asked:
        answer = self._answer(path, key, body, thing, method)
        self.shared.asked.append(answer)
        return answer

    def _answer(self, path: str, key: str, body: Mapping[str, Any], thing: Thing | None, method: str) -> Asked:
        begun = time.time()
        headers = {"Idempotency-Key": key, "Accept": "application/json"}
        status, said = 0, "none"
        while time.time() < begun + PATIENCE:
            with suppress(requests.RequestException), requests.Session() as session:
                session.trust_env = False
                answer = session.request(method, self.url + path, json=body or None, headers=headers, timeout=5)
                status, said = answer.status_code, answer.text
                if "Retry-After" not in answer.headers:
                    break
            time.sleep(0.05)
        return Asked(key, path, body, begun, time.time(), status, said, thing, method)


@dataclass
class Sender:
    """Another system: messages over the stream, some sent up to five times, and a few over pub/sub."""

    shared: Shared
    name: str
    seed: float
    world: World

    def run(self, stop: Event) -> None:
        random = Random(self.seed)
        again: list[bytes] = []
        while not stop.is_set():
            if self._far_ahead():
                stop.wait(0.05)
                continue
            message = self._new_message(random)
            if message.way == "channel":
                with suppress(redis.RedisError), self.world.redis() as client:
                    message = replace(message, listeners=client.publish(CHANNEL, message.body))
                self.shared.sent.append(message)
            else:
                self._send(message.body)
                self.shared.sent.append(message)
                again += [message.body] * random.choice((0, 0, 0, 1, 4))
                if again and random.random() < 0.5:
                    self._send(again.pop(random.randrange(len(again))))
            stop.wait(random.uniform(0, 0.06))
        for body in again:
            self._send(body)

    def _far_ahead(self) -> bool:
        try:
            with self.world.redis() as client:
                return waiting_commands(client) > MOST_WAITING
        except (redis.RedisError, ValueError):
            return False

    def _new_message(self, random: Random) -> Sent:
        number = f"{self.shared.name}-{self.name}{len(self.shared.sent)}"
        sku, chance = random.choice(self.shared.skus), random.random()
        change = self.shared.new_quantity(random) if chance < 0.35 else None
        if change:
            data: dict[str, Any] = {"batchref": change[0], "qty": change[1]}
            if chance < 0.05:
                return Sent("channel", number, "change_batch_quantity.v1", _json(data), data, time.time())
            return self._command(number, "change_batch_quantity", data, good=None)
        if chance < 0.40:
            return self._command(number, "change_batch_quantity", {"batchref": number, "qty": 1}, good=False)
        if chance < 0.43:
            return self._command(number, "drink_tea", {}, good=False)
        if chance < 0.55:
            data = {"ref": number, "sku": sku, "qty": self.shared.qty_of_batch(random, sku), "eta": random.choice(ETAS)}
            return self._command(number, "create_batch", data)
        done = self._of_the_warehouse(random, number) if chance < 0.75 else None
        return done or self._command(number, "allocate", {"orderid": number, "sku": sku, "qty": random.randint(1, 9)})

    def _of_the_warehouse(self, random: Random, number: str) -> Sent | None:
        """Nobody knows whether it can be done by then."""
        work = random.choice(("dispatch", "dispatch", "return", "quarantine", "hold", "confirm"))
        line, ref = self.shared.line(random, dispatched=work == "return"), self.shared.batch(random)
        match work:
            case "dispatch" if line:
                lines = [{"lineid": line[1], "qty": random.randint(1, 4)}]
                data: dict[str, Any] = {"orderid": line[0], "dispatch_id": number, "lines": lines}
                return self._command(number, "dispatch", data, good=None)
            case "return" if line:
                data = {"orderid": line[0], "lineid": line[1], "qty": 1, "return_id": number, "condition": "good"}
                return self._command(number, "return_line", data, good=None)
            case "quarantine" if ref:
                data = {"ref": ref, "qty": random.randint(1, 4), "reason": "suspect", "document": number}
                return self._command(number, "quarantine", data, good=None)
            case "hold":
                data = self.shared.new_hold(random, number)
                return self._command(number, "place_hold", data, good=None)
            case "confirm" if hold := self.shared.hold(random):
                return self._command(number, "confirm_hold", _confirmation(random, hold, number), good=None)
        return None

    def _command(self, number: str, kind: str, data: dict[str, Any], *, good: bool | None = True) -> Sent:
        event = {"specversion": "1.0", "id": number, "source": "/chaos", "type": f"{PREFIX}{kind}.v1", "data": data}
        return Sent("stream", number, f"{kind}.v1", _json(event), data, time.time(), good)

    def _send(self, body: bytes) -> None:
        while True:
            self.shared.copies[body] += 1
            with suppress(redis.RedisError), self.world.redis() as client:
                client.xadd(COMMANDS, {"command": body})
                if client.wait(self.world.replicas, 200) >= self.world.replicas:
                    return
            time.sleep(0.05)


def _confirmation(random: Random, hold: Mapping[str, Any], orderid: str) -> dict[str, Any]:
    """Of some of it, all, or too much."""
    qty = max(1, hold["qty"] + random.randint(-2, 1))
    line = {"orderid": orderid, "lineid": f"1{NAMES_A_HOLD}{hold['hold_id']}", "qty": qty}
    return {"hold_id": hold["hold_id"], "sku": hold["sku"], **line}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
