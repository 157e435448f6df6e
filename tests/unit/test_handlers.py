"""The whole service in memory, told as given, when, then."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest
from tests.fakes import Service

from allocation.domain import commands, events
from allocation.domain.errors import BatchConflict, InvalidSku, LineConflict, UnknownBatch
from messaging.envelope import Metadata

tomorrow = date(2026, 1, 2)


@pytest.fixture
def service() -> Service:
    return Service()


def test_a_new_batch_brings_stock(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "CRUNCHY-ARMCHAIR", 100))

    assert service.history("CRUNCHY-ARMCHAIR") == [events.BatchCreated("b1", "CRUNCHY-ARMCHAIR", 100, None)]


def test_allocating_answers_with_the_batch(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "LAMP", 100))

    assert service.when(commands.Allocate("o1", "LAMP", 10)) == "b1"
    assert service.allocations == {"o1": "b1"}


def test_an_unknown_sku_is_refused(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "AREALSKU", 100))

    with pytest.raises(InvalidSku, match="Invalid sku NONEXISTENTSKU"):
        service.when(commands.Allocate("o1", "NONEXISTENTSKU", 10))


def test_events_are_published_in_their_order(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "LAMP", 5), commands.Allocate("o1", "LAMP", 5))

    service.when(commands.ChangeBatchQuantity("b1", 4))

    assert [one.event for one in service.publisher.published] == service.history("LAMP")


def test_an_allocation_is_published_with_its_metadata(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "LAMP", 100))

    service.when(commands.Allocate("o1", "LAMP", 10, "line-1"))

    _, published = service.publisher.published
    assert published.event == events.Allocated("o1", "LAMP", 10, "b1", "line-1")
    assert (published.stream, published.version) == ("LAMP", 2)


def test_a_report_of_shortages_does_not_make_a_sku_known(service: Service) -> None:
    for command in (commands.ReportShortages("LAMP", 1, ("LAMP: order o1",)), commands.Allocate("o1", "LAMP", 1)):
        with pytest.raises(InvalidSku):
            service.bus.handle(command)


def test_what_an_import_found_out_of_stock_has_no_mail_of_its_own(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "LAMP", 1))

    for source, principal in (("import", "user:ada"), ("import", None), ("http", "user:ada")):
        metadata = Metadata.first(source, f"{source} of {principal}", principal)
        service.bus.handle(commands.Allocate("o1", "LAMP", 9), metadata)
    service.bus.handle(commands.ReportShortages("LAMP", 3, ("LAMP: order o1", "LAMP: order o2")))
    service.when(commands.CreateBatch("b2", "SOFA", 1))

    *single, together = service.notifications.sent
    assert [mail.correlation_id for mail in single] == ["import of None", "http of user:ada"], "but for who is no file"
    assert together.subject == "Out of stock for LAMP and 2 more lines"
    assert together.body.splitlines()[-3:] == [
        "Out of stock for LAMP: order o1",
        "Out of stock for LAMP: order o2",
        "and 1 more",
    ]


def test_sends_a_mail_on_every_attempt_that_is_out_of_stock(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "POPULAR-CURTAINS", 9))

    assert service.when(commands.Allocate("o1", "POPULAR-CURTAINS", 10)) is None
    assert service.when(commands.Allocate("o1", "POPULAR-CURTAINS", 10)) is None

    first, second = service.notifications.sent
    assert first.to == "stock@made.com"
    assert "Out of stock for POPULAR-CURTAINS" in first.body
    assert first.message_id != second.message_id


def test_a_line_that_was_out_of_stock_is_allocated_when_stock_has_come(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "LAMP", 1), commands.Allocate("o1", "LAMP", 5), commands.CreateBatch("b2", "LAMP", 9)
    )

    assert service.when(commands.Allocate("o1", "LAMP", 5)) == "b2"


def test_moves_the_newest_line_when_its_batch_shrinks(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "TABLE", 50),
        commands.CreateBatch("b2", "TABLE", 50, eta=tomorrow),
        commands.Allocate("o1", "TABLE", 20),
        commands.Allocate("o2", "TABLE", 20),
    )

    service.when(commands.ChangeBatchQuantity("b1", 25))

    assert service.allocations == {"o1": "b1", "o2": "b2"}
    assert service.publisher.published[-1].event == events.Allocated("o2", "TABLE", 20, "b2", "TABLE")


def test_a_moved_line_is_placed_by_the_same_rule_and_may_come_back_to_its_batch(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "TABLE", 35),
        commands.Allocate("old", "TABLE", 10),
        commands.Allocate("big", "TABLE", 20),
        commands.Allocate("small", "TABLE", 5),
    )

    service.when(commands.ChangeBatchQuantity("b1", 16))

    assert service.allocations == {"old": "b1", "small": "b1"}
    assert [mail.subject for mail in service.notifications.sent] == ["Out of stock for TABLE"]


def test_a_line_that_fits_nowhere_is_not_lost_silently(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "TABLE", 50), commands.Allocate("o1", "TABLE", 20))

    service.when(commands.ChangeBatchQuantity("b1", 0))

    assert service.allocations == {}
    assert service.history("TABLE")[-1] == events.OutOfStock("o1", "TABLE", 20, "TABLE")
    assert "Order o1" in service.notifications.sent[0].body


def test_a_reallocation_is_one_transaction(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "TABLE", 50),
        commands.CreateBatch("b2", "TABLE", 50, eta=tomorrow),
        commands.Allocate("o1", "TABLE", 20),
    )
    before = len(service.memory.log["TABLE"])

    service.when(commands.ChangeBatchQuantity("b1", 5))

    changed, broken, placed = service.memory.log["TABLE"][before:]
    assert {one.metadata.correlation_id for one in (changed, broken, placed)} == {changed.metadata.correlation_id}
    assert changed.metadata.causation_id == broken.metadata.causation_id, "both follow from the command"
    assert placed.metadata.causation_id == broken.metadata.id, "the placing follows from the breaking"


def test_versions_have_no_gaps(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "TABLE", 50),
        commands.Allocate("o1", "TABLE", 20),
        commands.Allocate("o2", "TABLE", 20),
        commands.ChangeBatchQuantity("b1", 5),
    )

    versions = [recorded.version for recorded in service.memory.log["TABLE"]]
    assert all(later == earlier + 1 for earlier, later in pairwise([0, *versions]))


def test_a_batch_reference_belongs_to_one_sku(service: Service) -> None:
    service.given(commands.CreateBatch("b1", "TABLE", 50))

    with pytest.raises(BatchConflict):
        service.when(commands.CreateBatch("b1", "CHAIR", 50))

    assert "CHAIR" not in service.memory.log


def test_a_line_is_allocated_for_one_sku_only(service: Service) -> None:
    service.given(
        commands.CreateBatch("b1", "TABLE", 50),
        commands.CreateBatch("b2", "CHAIR", 50),
        commands.Allocate("o1", "TABLE", 1, "line-1"),
    )

    with pytest.raises(LineConflict):
        service.when(commands.Allocate("o1", "CHAIR", 1, "line-1"))


def test_the_quantity_of_an_unknown_batch_is_refused(service: Service) -> None:
    with pytest.raises(UnknownBatch):
        service.when(commands.ChangeBatchQuantity("b1", 5))
