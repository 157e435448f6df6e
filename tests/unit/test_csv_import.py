"""What becomes of the rows of a file, on the service in memory."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from itertools import islice
from typing import TypeAlias

import pytest
from tests.fakes import Service

from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.values import Mode
from allocation.entrypoints.bulk import importing as csv_import
from allocation.entrypoints.bulk.csv_files import BadCsv, Row
from allocation.entrypoints.bulk.importing import (
    BATCHES,
    MOST_ROWS_TOGETHER,
    ORDERS,
    Import,
    RowResult,
    handling,
    whole_orders,
)
from allocation.entrypoints.bulk.kinds import FileKind, Result
from messaging.envelope import Outcome, Request
from messaging.errors import ConcurrencyConflict, Unavailable

HandleTogether: TypeAlias = Callable[[Sequence[Request]], list[Outcome]]


@pytest.fixture
def service() -> Service:
    return Service()


def file(*rows: dict[str, str]) -> list[Row]:
    return [Row(number, values) for number, values in enumerate(rows, start=2)]


def batch(ref: str, sku: str = "CHAIR", qty: str = "10", eta: str = "") -> dict[str, str]:
    return {"ref": ref, "sku": sku, "qty": qty, "eta": eta, "expires": "", "location": ""}


def line(orderid: str, sku: str = "CHAIR", qty: str = "1", lineid: str = "") -> dict[str, str]:
    return {"orderid": orderid, "lineid": lineid, "sku": sku, "qty": qty}


def results_of(handle_together: HandleTogether, kind: FileKind, rows: Iterable[Row]) -> Iterator[RowResult]:
    run = Import(handle_together, kind, columns={field: field for field in kind.fields})
    return (result for results in run(rows) for result in results)


def importing(service: Service, kind: FileKind, rows: Iterable[Row]) -> list[tuple[int, Result]]:
    with handling(service.bus, dry_run=False) as handle_together:
        return [(row.number, row.result) for row in results_of(handle_together, kind, rows)]


def test_adds_batches_and_finds_them_there_the_second_time(service: Service) -> None:
    rows = file(batch("b1"), batch("b2", eta="2011-01-02"))
    assert importing(service, BATCHES, rows) == [(2, Result.ADDED), (3, Result.ADDED)]
    before = list(service.memory.log["CHAIR"])
    assert importing(service, BATCHES, rows) == [(2, Result.ALREADY_THERE), (3, Result.ALREADY_THERE)]
    assert service.memory.log["CHAIR"] == before


def test_allocates_lines_in_the_order_of_the_file(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="10")))
    rows = file(line("o1", qty="6"), line("o2", qty="5"), line("o3", qty="4"))
    assert importing(service, ORDERS, rows) == [(2, Result.ALLOCATED), (3, Result.OUT_OF_STOCK), (4, Result.ALLOCATED)]
    assert service.allocations == {"o1": "b1", "o3": "b1"}
    again = [(2, Result.ALREADY_THERE), (3, Result.OUT_OF_STOCK), (4, Result.ALREADY_THERE)]
    assert importing(service, ORDERS, rows) == again


@pytest.mark.parametrize(
    ("kind", "rows", "refused"),
    [
        (BATCHES, [batch("b9"), batch("b8"), batch("b9")], "batch b9 is in this file already: give each batch a ref"),
        (ORDERS, [line("o1"), line("o2"), line("o1")], "line CHAIR of order o1 is in this file already: give each"),
        (ORDERS, [line("o1"), line("o2"), line("o1", lineid="CHAIR")], "line CHAIR of order o1 is in this file"),
        (ORDERS, [line("o1"), line("o2"), line("o1", qty="2")], "line CHAIR of order o1 is in this file already"),
        (
            whole_orders("all_or_nothing"),
            [line("o1", lineid="1"), line("o2"), line("o1", lineid="2")],
            "order o1 is in this file already: let the rows of an order stand together",
        ),
    ],
)
def test_what_a_file_names_twice_is_refused_in_every_run(
    service: Service, kind: FileKind, rows: list[dict[str, str]], refused: str
) -> None:
    """It may be the same once more, or as much again."""
    importing(service, BATCHES, file(batch("b1")))
    for done in (kind.results[0], Result.ALREADY_THERE):
        found = list(results_of(service.bus.handle_together, kind, file(*rows)))
        assert [one.result for one in found] == [done, done, Result.REFUSED]
        assert refused in found[-1].detail


def test_a_whole_order_of_which_a_row_was_refused_does_not_come_back_further_down(service: Service) -> None:
    rows = file(line("o1", lineid="1"), line("o1", qty="two"), line("o2"), line("o1", lineid="3"))
    importing(service, BATCHES, file(batch("b1")))
    done = importing(service, whole_orders("all_or_nothing"), rows)

    assert [result for _, result in done] == [Result.REFUSED, Result.REFUSED, Result.ALLOCATED, Result.REFUSED]
    assert service.allocations == {"o2": "b1"}


def test_a_refused_row_keeps_nobody_else_out(service: Service) -> None:
    rows = file(
        batch("b1"),
        batch("b1", qty="11"),
        batch("b2", qty="many"),
        batch("b3", qty="1.5"),
        batch("b4", qty="-1"),
        batch("b5", qty="9" * 30),
        batch("b6", sku=" CHAIR"),
        batch("b7", eta="tomorrow"),
        batch("", qty="1"),
        batch("b8"),
    )
    results = importing(service, BATCHES, rows)
    assert results[0] == (2, Result.ADDED)
    assert results[-1] == (11, Result.ADDED)
    assert {result for _, result in results[1:-1]} == {Result.REFUSED}


def test_says_why_a_row_is_refused_and_what_was_done_about_others(service: Service) -> None:
    service.given(CreateBatch("b0", "CHAIR", 1), Allocate("o0", "CHAIR", 1))
    run = Import(service.bus.handle_together, BATCHES, {field: field for field in BATCHES.fields})
    rows = file(
        batch("b1", qty="1200"), batch("b0", eta="2011-01-02"), batch("b2", eta="2011-01-02"), batch("b3", qty="")
    )
    assert [str(row) for results in run(rows) for row in results] == [
        "row 2: added: batch b1, 1,200 of CHAIR, in the warehouse",
        "row 3: refused: Batch b0 exists already, created with 1 of CHAIR, eta none (in the warehouse); "
        "asked for: qty 10, eta 2011-01-02",
        "row 4: added: batch b2, 10 of CHAIR, eta 2011-01-02",
        "row 5: refused: qty: input should be a valid integer, not ''",
    ]
    assert importing(service, ORDERS, file(line("o4"))) == [(2, Result.ALLOCATED)]
    rows = file(line("o1"), line("o0"), line("o4", qty="2"), line("o2", sku="SOFA"), line("o3", qty="1500", lineid="7"))
    assert [str(row) for row in results_of(service.bus.handle_together, ORDERS, rows)] == [
        "row 2: allocated: order o1, line CHAIR, 1 of CHAIR from batch b1",
        "row 3: already there: order o0, line CHAIR, 1 of CHAIR from batch b0",
        "row 4: refused: Line CHAIR of order o4 is allocated already with 1 of CHAIR",
        "row 5: out of stock: Invalid sku SOFA",
        "row 6: out of stock: order o3, line 7, 1,500 of CHAIR",
    ]


def test_takes_fields_from_the_columns_they_are_mapped_to() -> None:
    row = Row(2, {"order_id": "o1", "line_no": "3", "sku": "CHAIR", "qty": "2"})
    columns = ORDERS.columns({"orderid": "order_id", "lineid": "line_no"}, row.values)
    assert ORDERS.command(row, columns) == Allocate("o1", "CHAIR", 2, "3")


def test_an_optional_field_may_be_empty_or_have_no_column() -> None:
    columns = BATCHES.columns({}, ["ref", "sku", "qty"])
    assert BATCHES.command(Row(2, {"ref": "b", "sku": "s", "qty": "1"}), columns) == CreateBatch("b", "s", 1, None)
    columns = BATCHES.columns({}, ["ref", "sku", "qty", "eta"])
    assert BATCHES.command(Row(2, batch("b", "s", "1")), columns) == CreateBatch("b", "s", 1, None)
    assert BATCHES.command(Row(2, batch("b", "s", "1", "2011-01-02T10:30")), columns) == CreateBatch(
        "b", "s", 1, date(2011, 1, 2)
    )


def test_an_optional_field_that_is_mapped_must_have_its_column() -> None:
    assert BATCHES.columns({"eta": "due"}, ["ref", "sku", "qty"])["eta"] == "due"


def test_what_follows_from_one_import_can_be_found_together(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1"), batch("b2", sku="TABLE")))
    importing(service, BATCHES, file(batch("b3", sku="LAMP")))
    first, second, third = (service.memory.log[sku][0].metadata for sku in ("CHAIR", "TABLE", "LAMP"))
    assert first.correlation_id == second.correlation_id != third.correlation_id
    assert first.source == "import"


@pytest.mark.parametrize("before", [0, 1, MOST_ROWS_TOGETHER - 1, MOST_ROWS_TOGETHER, MOST_ROWS_TOGETHER + 1])
def test_rows_before_a_fault_in_the_file_are_done(service: Service, before: int) -> None:
    def broken_file() -> Iterator[Row]:
        yield from file(*(batch(f"b{number}") for number in range(before)))
        raise BadCsv(before + 2, "is broken")

    results = results_of(service.bus.handle_together, BATCHES, broken_file())
    assert [row.result for row in islice(results, before)] == [Result.ADDED] * before
    assert len(service.memory.log.get("CHAIR", [])) == before
    with pytest.raises(BadCsv):
        next(results)


class BusyBus:
    """A bus that loses to others with more than `most` requests at once."""

    def __init__(self, service: Service, most: int) -> None:
        self._service = service
        self.most = most
        self.tried: list[int] = []

    def handle_together(self, requests: Sequence[Request]) -> list[Outcome]:
        self.tried.append(len(requests))
        if len(requests) > self.most:
            raise Unavailable("given up") from ConcurrencyConflict("someone was faster")
        return self._service.bus.handle_together(requests)


def test_gives_way_to_others_with_fewer_rows_in_a_transaction_and_then_grows_again(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 50
    monkeypatch.setattr(csv_import, "MOST_ROWS_TOGETHER", most)
    rows = file(*(batch(f"b{number}") for number in range(10 * most)))
    bus = BusyBus(service, most=1)
    results = results_of(bus.handle_together, BATCHES, rows)
    first = next(results)
    assert bus.tried[0] == most
    assert bus.tried[-1] == 1
    bus.most = most
    assert [row.number for row in (first, *results)] == [row.number for row in rows], "every row once, in order"
    assert bus.tried.count(most) > 1


def test_ends_when_even_a_single_row_loses_every_time(service: Service) -> None:
    with pytest.raises(Unavailable):
        next(results_of(BusyBus(service, most=0).handle_together, BATCHES, file(batch("b1"))))


def test_does_not_take_an_outage_for_a_conflict() -> None:
    asked: list[Sequence[Request]] = []

    def away(requests: Sequence[Request]) -> list[Outcome]:
        asked.append(requests)
        raise Unavailable("the database is away")

    with pytest.raises(Unavailable):
        next(results_of(away, BATCHES, file(batch("b1"), batch("b2"))))
    assert len(asked) == 1


def test_a_batch_has_a_last_day_and_a_location_where_the_file_says_so() -> None:
    columns = BATCHES.columns({}, ["ref", "sku", "qty", "location", "expires"])
    row = Row(2, {"ref": "b", "sku": "s", "qty": "1", "location": "hamburg", "expires": "2031-02-01"})
    assert BATCHES.command(row, columns) == CreateBatch("b", "s", 1, None, date(2031, 2, 1), "hamburg")


def test_a_batch_that_has_expired_is_printed_though_it_is_taken(service: Service) -> None:
    rows = file(*(batch(f"b{year}") | {"expires": f"{year}-01-01"} for year in (2020, 2190)))
    found = list(results_of(service.bus.handle_together, BATCHES, rows))
    assert [(one.result, one.needs_attention) for one in found] == [(Result.ADDED, True), (Result.ADDED, False)]
    assert found[0].detail == "batch b2020, 10 of CHAIR, in the warehouse, expired 2020-01-01"


def in_words(service: Service, mode: Mode, *rows: dict[str, str]) -> list[str]:
    return [str(row) for row in results_of(service.bus.handle_together, whole_orders(mode), file(*rows))]


THREE_AND_THREE = line("o1", qty="3", lineid="1"), line("o1", qty="3", lineid="2")


@pytest.mark.parametrize(
    ("mode", "first", "second"),
    [
        (
            "all_or_nothing",
            "out of stock: {1}: not placed, since there is not enough for line 2",
            "out of stock: {2}",
        ),
        ("partial", "allocated: {1} from batch b1", "partly allocated: {2} from batch b1, 1 waiting"),
        ("backorder", "allocated: {1} from batch b1", "waiting: {2}, 3 waiting"),
    ],
)
def test_rows_of_an_order_are_placed_together(service: Service, mode: Mode, first: str, second: str) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))
    lines = {number: f"order o1, line {number}, 3 of CHAIR" for number in (1, 2)}
    expected = ["row 2: " + first.format("", lines[1], lines[2]), "row 3: " + second.format("", lines[1], lines[2])]

    assert in_words(service, mode, *THREE_AND_THREE) == expected


def test_an_order_that_is_imported_again_is_left_alone(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))
    importing(service, whole_orders("backorder"), file(*THREE_AND_THREE))
    before = list(service.memory.log["CHAIR"])

    again = importing(service, whole_orders("backorder"), file(*THREE_AND_THREE))

    assert again == [(2, Result.ALREADY_THERE), (3, Result.ALREADY_THERE)]
    assert service.memory.log["CHAIR"] == before


def test_a_row_that_can_not_be_taken_keeps_out_all_of_its_order_and_no_other(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))
    rows = line("o1", lineid="1"), line("o1", qty="x", lineid="2"), line("o2"), line("o3", sku="SOFA"), line("o3")

    assert in_words(service, "backorder", *rows) == [
        "row 2: refused: row 3, of the same order, is refused",
        "row 3: refused: qty: input should be a valid integer, not 'x'",
        "row 4: allocated: order o2, line CHAIR, 1 of CHAIR from batch b1",
        "row 5: refused: Invalid sku SOFA",
        "row 6: refused: Invalid sku SOFA",
    ]


@pytest.mark.parametrize(
    ("second", "fault", "number_known"),
    [
        (Row(3, line("o1 ", lineid="2")), "orderid: must not begin or end with a space, not 'o1 '", True),
        (
            Row(3, line("o1", lineid="2"), "has 5 fields, but the header has 4"),
            "has 5 fields, but the header has 4",
            True,
        ),
        (Row(3, line("", lineid="2")), "orderid: string should have at least 1 character, not ''", False),
        (Row(3, {}, "is not text"), "is not text", False),
        (Row(3, line("o\ufffd"), "is not text"), "is not text", False),
    ],
)
def test_a_row_of_an_order_that_can_not_be_read_keeps_out_those_around_it(
    service: Service, second: Row, fault: str, number_known: bool
) -> None:
    importing(service, BATCHES, file(batch("b1", qty="9")))
    rows = [Row(2, line("o1", lineid="1")), second, Row(4, line("o1", lineid="3")), Row(5, line("o2"))]
    run = Import(service.bus.handle_together, whole_orders("all_or_nothing"), {name: name for name in ORDERS.fields})

    found = [str(result) for results in run(rows) for result in results]

    which = "of the same order" if number_known else "which may be of the same order"
    assert found[:3] == [
        f"row 2: refused: row 3, {which}, is refused",
        f"row 3: refused: {fault}",
        f"row 4: refused: row 3, {which}, is refused",
    ]
    assert found[3].startswith("row 5: allocated")


def test_an_order_id_with_a_replacement_character_is_one_like_any_other(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="9")))
    rows = [line("o1"), line("o\ufffd"), line("o\ufffd", lineid="2"), line("o3")]

    assert in_words(service, "partial", *rows) == [
        "row 2: allocated: order o1, line CHAIR, 1 of CHAIR from batch b1",
        "row 3: allocated: order o\ufffd, line CHAIR, 1 of CHAIR from batch b1",
        "row 4: allocated: order o\ufffd, line 2, 1 of CHAIR from batch b1",
        "row 5: allocated: order o3, line CHAIR, 1 of CHAIR from batch b1",
    ]


def test_order_ids_that_differ_in_a_joiner_only_are_two(service: Service) -> None:
    """As names in Persian may."""
    importing(service, BATCHES, file(batch("b1", qty="9")))
    ids = "\u0645\u06cc\u200c\u062e", "\u0645\u06cc\u062e"

    found = in_words(service, "partial", *map(line, ids))

    assert found == [
        f"row {n}: allocated: order {one}, line CHAIR, 1 of CHAIR from batch b1" for n, one in enumerate(ids, 2)
    ]


def test_a_row_that_may_be_of_either_of_two_orders_keeps_out_both(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="9")))
    rows = [Row(2, line("o1")), Row(3, {}, "is not text"), Row(4, line("o2")), Row(5, line("o3"))]
    run = Import(service.bus.handle_together, whole_orders("partial"), {name: name for name in ORDERS.fields})

    found = [result.result for results in run(rows) for result in results]

    assert found == [Result.REFUSED] * 3 + [Result.ALLOCATED]


@pytest.mark.parametrize(("limit", "taken"), [(1, 1), (2, 4), (3, 4), (4, 4), (5, 5), (9, 5), (None, 5)])
def test_a_limit_cuts_no_order_in_two(limit: int | None, taken: int) -> None:
    rows = file(line("o1"), *(line("o2", lineid=number) for number in "123"), line("o3"))
    columns = {name: name for name in ORDERS.fields}

    assert len(list(whole_orders("partial").first(rows, limit, columns))) == taken
    assert len(list(ORDERS.first(rows, limit, columns))) == min(limit or 5, 5)


@pytest.mark.parametrize("accented", ["caf\u00e9", "cafe\u0301"])
def test_rows_of_an_order_in_either_form_of_unicode_are_one_order(service: Service, accented: str) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))

    rows = line("caf\u00e9", qty="3", lineid="1"), line(accented, qty="3", lineid="2")

    assert [words.split(": ")[1] for words in in_words(service, "all_or_nothing", *rows)] == ["out of stock"] * 2


def test_more_rows_than_an_order_may_have_are_refused_all(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))
    rows = [line("o1", lineid=str(number)) for number in range(201)]

    found = in_words(service, "partial", *rows, line("o2"))

    assert found[0] == "row 2: refused: 201 rows of one order; at most 200 are placed"
    assert [words.split(": ")[1] for words in found] == ["refused"] * 201 + ["allocated"]


def test_of_an_order_that_is_short_only_the_lines_that_are_short_are_mailed(service: Service) -> None:
    importing(service, BATCHES, file(batch("b1", qty="5")))
    run = Import(service.bus.handle_together, whole_orders("all_or_nothing"), {name: name for name in ORDERS.fields})
    list(run(file(*THREE_AND_THREE)))

    assert run.shortages.listed == ["CHAIR: order o1, line 2, asked for 3"]
