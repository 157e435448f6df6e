"""How often a command goes to the database and back, and with how many statements: counted on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from tests.integration.fault_proxy import FaultProxy

from allocation.adapters.product_queries import AT_HAND
from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain.commands import Allocate, ChangeBatchQuantity, Command, CreateBatch
from messaging.envelope import Request
from messaging.sql.round_trip import RoundTrips, Rows, Sent

Send = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def proxy(database_url: str) -> Iterator[FaultProxy]:
    proxy = FaultProxy(database_url)
    yield proxy
    proxy.close()


@pytest.fixture
def far_service(settings: Settings, proxy: FaultProxy) -> Iterator[Service]:
    service = bootstrap(replace(settings, database_url=proxy.url), connections=1)
    given(service, CreateBatch("of another product", "DESK", 1))  # its connection is open, and all is prepared
    given(service, Allocate("o0", "DESK", 1))
    yield service
    service.close()


@pytest.fixture
def sent(far_service: Service, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> Send:
    """What these commands, handled together, send: round trips, and how each statement begins."""
    texts: list[str] = []
    go = RoundTrips.go

    def note(self: RoundTrips, *statements: Sent) -> list[Rows]:
        texts.extend(text for text, parameters in statements if parameters)
        return go(self, *statements)

    monkeypatch.setattr(RoundTrips, "go", note)

    def sent(*asked: Command) -> tuple[int, list[str]]:
        texts.clear()
        before = proxy.round_trips
        given(far_service, *asked)
        return proxy.round_trips - before, list(texts)

    return sent


def given(service: Service, *asked: Command) -> None:
    for outcome in service.bus.handle_together([Request(command) for command in asked]):
        outcome.unwrap()


def test_an_allocation_asks_once_and_writes_once(far_service: Service, sent: Send) -> None:
    """BEGIN with what must be known, the product with its open batches and the line; and all writes with COMMIT."""
    given(far_service, CreateBatch("b1", "LAMP", 100))

    round_trips, [product, line, written] = sent(Allocate("o1", "LAMP", 7))

    assert round_trips == 2
    assert "LEFT OUTER JOIN products" in product
    assert "FROM batches" in product
    assert "JOIN order_lines" in line
    for table in ("order_lines", "allocations", "allocations_view", "event_log", "outbox"):
        assert written.count(f"INSERT INTO {table} (") == 1
    assert written.count("UPDATE products SET") == written.count("UPDATE batches SET") == 1


def test_a_line_that_finds_no_room_costs_no_more(far_service: Service, sent: Send) -> None:
    given(far_service, *(CreateBatch(f"b{number}", "LAMP", 1) for number in range(AT_HAND - 1)))

    round_trips, _ = sent(Allocate("o1", "LAMP", 7))

    assert round_trips == 2


def test_of_many_open_batches_the_others_are_read_at_once_when_the_best_have_no_room(
    far_service: Service, sent: Send
) -> None:
    given(far_service, *(CreateBatch(f"b{number}", "LAMP", 1) for number in range(5 * AT_HAND)))

    round_trips, _ = sent(Allocate("o1", "LAMP", 7))

    assert round_trips == 3


def test_a_hundred_allocations_together_cost_no_more(far_service: Service, sent: Send) -> None:
    given(far_service, CreateBatch("b1", "LAMP", 1000), CreateBatch("b2", "CHAIR", 1000))

    lines = [Allocate(f"o{number}", sku, 7) for number in range(50) for sku in ("LAMP", "CHAIR")]

    round_trips, texts = sent(*lines)

    assert (len(lines), round_trips, len(texts)) == (100, 2, 3)


def test_a_message_id_costs_a_statement_and_no_round_trip(far_service: Service, proxy: FaultProxy) -> None:
    given(far_service, CreateBatch("b1", "LAMP", 100))
    far_service.bus.handle(Allocate("o1", "LAMP", 1), message_id="m1")  # prepares
    before = proxy.round_trips

    far_service.bus.handle(Allocate("o2", "LAMP", 1), message_id="m2")

    assert proxy.round_trips - before == 2


def test_a_repeated_allocation_writes_nothing(far_service: Service, sent: Send) -> None:
    given(far_service, CreateBatch("b1", "LAMP", 100), Allocate("o1", "LAMP", 7))

    round_trips, texts = sent(Allocate("o1", "LAMP", 7))

    assert (round_trips, len(texts)) == (2, 2)


def test_a_batch_cut_reads_no_more_lines_than_it_breaks(far_service: Service, sent: Send) -> None:
    given(far_service, CreateBatch("b1", "LAMP", 600), CreateBatch("b2", "LAMP", 600))
    given(far_service, *(Allocate(f"o{number}", "LAMP", 1) for number in range(600)))

    round_trips, _ = sent(ChangeBatchQuantity("b1", 599))

    assert round_trips == 5, "the batch, its product, one chunk of promises, their lines, and what is written"
