"""Every log line about a request has its correlation id, whichever thread writes it, and no other line has."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import StringIO
from typing import Any

import pytest
from tests import fakes

from allocation.domain.commands import Allocate, CreateBatch
from allocation.observability.logs import configure_logging
from messaging.bus import MessageBus
from messaging.correlation import WORKING_ON, working_on
from messaging.envelope import Metadata, Recorded, Request
from messaging.errors import Unavailable
from messaging.outbox.effects import Effect, one_by_one
from messaging.outbox.relay import Relay
from messaging.routes import Routes
from messaging.testing import Memory, MemoryDeliveries, MemoryTransaction, Waiting

Lines = Callable[[], list[dict[str, Any]]]

log = logging.getLogger("test")


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """What has been logged, as JSON."""
    output = StringIO()
    monkeypatch.setattr("sys.stderr", output)
    configure_logging("INFO", "json")
    return lambda: [json.loads(line) for line in output.getvalue().splitlines()]


def ids(lines: Lines) -> list[str | None]:
    return [line.get("correlation_id") for line in lines()]


def test_a_line_has_the_id_of_what_its_thread_works_on(lines: Lines) -> None:
    def work(number: int) -> None:
        with working_on(f"request-{number}"):
            log.info("at work")

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(20)))
    log.info("idle")

    assert sorted(ids(lines)[:-1], key=str) == sorted(f"request-{number}" for number in range(20))
    assert ids(lines)[-1] is None


class Spy(MemoryTransaction):
    def collect_new_events(self) -> Iterator[Any]:
        return iter(())

    def discard_new_events(self) -> None:
        pass

    def commit(self) -> None:
        log.info("committing")


def test_commands_that_share_a_transaction_are_each_named_and_the_first_for_what_concerns_all(lines: Lines) -> None:
    @contextmanager
    def unit_of_work() -> Iterator[Spy]:
        yield Spy(Memory())

    def handler(command: Allocate, _: Spy) -> None:
        log.info("handling", extra={"orderid": command.orderid})

    table: Routes[Spy] = Routes()
    table.command(Allocate, handler)
    bus = MessageBus(table, unit_of_work, ZeroDivisionError)

    bus.handle_together(
        [Request(Allocate(name, "LAMP", 1), Metadata.first("http", name)) for name in ("one", "two", "three")]
    )

    assert ids(lines) == ["one", "two", "three", "one"]
    assert WORKING_ON.get() == ""


def test_who_failed_leaves_no_id_behind() -> None:
    service = fakes.Service()

    with pytest.raises(Exception, match="Invalid sku"):
        service.bus.handle(Allocate("o1", "NIX", 1), Metadata.first("http", "request"))

    assert WORKING_ON.get() == ""


def test_an_effect_is_carried_out_and_its_failure_told_of_under_the_id_of_its_event(lines: Lines) -> None:
    def send_mail(_: object) -> None:
        log.info("mailing")
        raise Unavailable("the mail server is away")

    memory = Memory()
    event = CreateBatch("b1", "LAMP", 1)
    memory.outbox.append(Waiting(Recorded("LAMP", 1, event, Metadata.first("http", "request")), "mail"))
    table: Routes[object] = Routes()
    table.effect(CreateBatch, Effect("mail", one_by_one(send_mail)))

    Relay(table, MemoryDeliveries(memory)).deliver("mail")

    assert [(line["event"], line["correlation_id"]) for line in lines()] == [
        ("mailing", "request"),
        ("an effect failed", "request"),
    ]


def test_a_mail_carries_the_id_of_the_order_that_found_nothing() -> None:
    service = fakes.Service()
    service.given(CreateBatch("b1", "LAMP", 1))

    service.bus.handle(Allocate("o1", "LAMP", 2), Metadata.first("http", "till-5/4711"))
    service.relay.deliver("send_out_of_stock_notification")

    assert [mail.correlation_id for mail in service.notifications.sent] == ["till-5/4711"]
