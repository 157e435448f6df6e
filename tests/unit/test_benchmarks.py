"""What measures must measure right: the load client, the figures made of what it saw, and the rules once more."""

from __future__ import annotations

import gzip
import socket
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path
from threading import Thread

import pytest
from benchmarks import load, report, retail, wire
from benchmarks.bench import in_turn
from benchmarks.results import Results, Row, at_least, at_most, number, ratio
from benchmarks.simulation import batches_in, expected_counts, lines_in

GOOD = b"HTTP/1.1 202 ACCEPTED\r\nContent-Length: 2\r\n\r\nOK"
BUSY = b"HTTP/1.1 503 UNAVAILABLE\r\nServer: x\r\ncontent-length: 5\r\nRetry-After: 1\r\n\r\nlater"
CLOSING = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nOK"


@contextmanager
def server(*answers: bytes) -> Iterator[load.Address]:
    """Gives these answers one after the other, and then the last one for good; an empty one closes the connection."""
    waiting = iter([*answers, *repeat(answers[-1], 100)])

    def serve(client: socket.socket) -> None:
        with client:
            while client.recv(65536) and (answer := next(waiting, b"")):
                client.sendall(answer[:9])  # in two pieces, as networks have it
                client.sendall(answer[9:])
                if b"Connection: close" in answer:
                    return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("missing", [1, 2, 3, 20, len(GOOD)])
def test_an_answer_has_a_status_once_it_is_all_there(missing: int) -> None:
    assert load.status_of(GOOD[:-missing]) is None
    assert load.status_of(GOOD) == 202
    assert load.status_of(BUSY) == 503
    assert load.status_of(b"HTTP/1.1 204 NO CONTENT\r\nServer: x\r\n\r\n") == 204


def test_asks_so_often_and_counts_what_came_back() -> None:
    with server(GOOD, BUSY, CLOSING, GOOD) as address:
        done = load.run(address, wire.always(wire.get("/")), 1, seconds=5, most=5)

    assert done.statuses == {202: 3, 503: 1, 200: 1}
    assert (done.requests, done.errors, len(done.latencies), done.in_time) == (5, 1, 4, 4)
    assert 0 < done.percentile(50) <= done.slowest < 5


def test_a_connection_that_is_cut_is_an_error_and_a_new_one_is_made() -> None:
    with server(b"", GOOD) as address:
        done = load.run(address, wire.always(wire.get("/")), 1, seconds=5, most=2)

    assert done.statuses == {load.LOST: 1, 202: 1}


def test_an_open_loop_asks_at_its_own_pace() -> None:
    with server(GOOD) as address:
        done = load.run(address, wire.always(wire.get("/")), 4, seconds=10, most=30, rate=300)

    assert (done.requests, done.errors) == (30, 0)
    assert done.seconds >= 29 / 300, "the last one is due then"


def test_percentiles_are_numbers_that_were_measured() -> None:
    hundred = array("d", reversed([float(each) for each in range(1, 101)]))

    assert [load.percentile(hundred, percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert load.percentile([7.0], 99) == 7
    assert load.percentile([1.0, 2.0], 50) == 1
    assert str(load.percentile([], 50)) == "nan"


def test_rounds_add_up() -> None:
    whole = load.merged([load.Load(seconds=1, in_time=5, slowest=2), load.Load(seconds=3, in_time=7, slowest=1)])

    assert (whole.seconds, whole.rate, whole.slowest) == (4, 3, 2)


def test_contestants_have_their_turns() -> None:
    said: list[str] = []

    in_turn(2, lambda: said.append("a"), lambda: said.append("b"))

    assert said == ["a", "b", "a", "b"]
    assert ratio([1, 4, 9], [1, 2, 3]) == 2


def test_a_goal_is_met_or_missed() -> None:
    rows = [Row("a", "", 0.95, goal=at_least(0.95)), Row("b", "", 1.11, goal=at_most(1.1)), Row("c", "", 5)]

    assert [row.verdict for row in rows] == ["met", "MISSED", ""]
    assert [row.key for row in Results(rows=rows).missed] == ["b"]
    assert not Row("nothing was measured", "", float("nan"), goal=at_most(1)).met
    assert [str(at_least(6000)), str(at_most(1.1)), number(0), number(12345.6), number(0.951)] == [
        *("≥ 6,000", "≤ 1.1", "0", "12,346", "0.95")
    ]


def test_the_page_says_what_the_results_say(tmp_path: Path) -> None:
    about = {"date": "2030-01-01", "machine": "2 cores", "versions": "Python 3"}
    rows = [Row("http", "HTTP", 0.5, goal=at_least(0.95), behind="1/s"), Row("limit", "the limit", 3, "/s")]
    Results(about, rows, {"line": [(1, 2)]}).save(tmp_path / "results.json")
    results = Results.load(tmp_path / "results.json")

    assert results == Results(about, rows, {"line": [(1, 2)]})
    page = report.page(results)
    assert "| HTTP | ≥ 0.95 | **0.50**: 1/s | MISSED |" in page
    assert "| the limit | **3.00 /s** |" in page
    assert "Of 1 goals 0 are met" in page


def test_the_page_is_that_of_the_last_results() -> None:
    assert report.PAGE.read_text("utf-8") == report.page(Results.load(report.RESULTS)), "python -m benchmarks --redraw"


def test_lines_are_promised_from_the_warehouse_first_and_then_by_day() -> None:
    batches = [("A", 5, "2030-02-01"), ("A", 4, ""), ("A", 2, "2030-01-01"), ("B", 1, "")]
    lines = [("A", 3), ("A", 2), ("A", 5), ("A", 1), ("A", 1), ("B", 2), ("B", 1), ("never purchased", 1)]

    assert expected_counts(batches, lines) == {"allocated": 5, "out of stock": 3}


def test_a_year_made_up_is_the_same_every_time_and_not_quite_served(tmp_path: Path) -> None:
    years = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        years.append(retail.made_up(tmp_path / name, lines=2_000))
    one, two = ([gzip.decompress(file.read_bytes()) for file in (year.lines, year.batches)] for year in years)

    assert one == two
    lines = list(lines_in(years[0].lines, 1_000))
    counts = expected_counts(batches_in(years[0].batches), lines_in(years[0].lines))
    assert len(lines) == 1_000
    assert counts["out of stock"] > 100 < counts["allocated"]
