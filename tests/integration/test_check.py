"""`allocation check` sees every kind of difference, names it, and sees none where there is none."""

from __future__ import annotations

import json
import os
import pty
import random
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from itertools import count
from threading import Event

import hypothesis
import pytest
from click.testing import CliRunner, Result
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from tests import anything
from tests.integration.threads import at_work

from allocation.bootstrap import Service
from allocation.check import check_consistency, histories, open_snapshot
from allocation.config import Settings
from allocation.database import tables
from allocation.domain.commands import (
    Allocate,
    CancelOrder,
    ChangeBatchQuantity,
    Command,
    CreateBatch,
    Dispatch,
    OrderedLine,
    ParcelLine,
    PlaceOrder,
    Quarantine,
    ReturnLine,
)
from allocation.domain.errors import DomainError
from allocation.entrypoints.command_line.check import check, verdict_in_words
from messaging.sql import tables as messaging_tables

PUBLISH, MAIL = "publish_event", "send_out_of_stock_notification"


@dataclass(frozen=True)
class Ledger:
    """A service with a history, and a way to falsify it."""

    service: Service
    settings: Settings

    def falsify(self, *statements: str) -> None:
        with self.service.engine.begin() as connection:
            for statement in statements:
                assert connection.execute(text(statement)).rowcount != 0, f"nothing falsified by {statement}"

    def check(self, *options: str) -> Result:
        return CliRunner().invoke(check, options, obj=self.settings, catch_exceptions=False)

    def differences(self) -> list[str]:
        """What `allocation check` lists, once it has failed as it should."""
        checked = self.check("--all")
        *differences, verdict = checked.output.splitlines()
        many = "1 difference" if len(differences) == 1 else f"{len(differences)} differences"
        assert (checked.exit_code, verdict.partition(",")[0].rstrip(".")) == (1, f"The data is not consistent: {many}")
        return differences


@pytest.fixture
def ledger(service: Service, settings: Settings) -> Ledger:
    """Two tables' worth of history: b1 keeps o1's line, o2's moved to b2; CHAIR ran out, and nobody was told yet."""
    for command in (
        CreateBatch("b1", "TABLE", 50),
        CreateBatch("b2", "TABLE", 50, eta=date(2030, 1, 1)),
        Allocate("o1", "TABLE", 20),
        Allocate("o2", "TABLE", 20),
        ChangeBatchQuantity("b1", 25),  # versions 5 to 7: changed, o2 out of b1, into b2
        CreateBatch("c1", "CHAIR", 5),
        Allocate("o1", "CHAIR", 5),
        Allocate("o3", "CHAIR", 1),
    ):
        service.bus.handle(command)
    assert service.relay.deliver(PUBLISH) == 10
    return Ledger(service, settings)


def test_an_empty_database_balances(settings: Settings) -> None:
    checked = CliRunner().invoke(check, obj=settings)

    assert checked.exit_code == 0
    assert checked.output == (
        "All data is consistent: 0 products, 0 batches, 0 allocations, 0 events; 0 effects waiting, 0 dead.\n"
    )


def test_says_that_the_books_balance_and_how_much_was_checked(ledger: Ledger) -> None:
    checked = ledger.check()

    assert checked.exit_code == 0
    assert checked.output == (
        "All data is consistent: 2 products, 3 batches, 3 allocations, 10 events; 1 effects waiting, 0 dead.\n"
    )


def test_a_dead_effect_is_not_missing(ledger: Ledger) -> None:
    ledger.falsify("UPDATE outbox SET dead_at = now()")

    assert "0 effects waiting, 1 dead" in ledger.check().output


def test_says_the_same_as_json(ledger: Ledger) -> None:
    [verdict] = ledger.check("--json").stdout.splitlines()
    assert json.loads(verdict)["balanced"]
    assert json.loads(verdict)["checked"]["events"] == 10

    ledger.falsify("UPDATE batches SET allocated_quantity = 19 WHERE reference = 'b1'")
    checked = ledger.check("--json")

    first, second, verdict = checked.stdout.splitlines()
    assert checked.exit_code == 1
    assert json.loads(second) == {
        "what": "batch 'b1' of 'TABLE', promised quantity by its lines",
        "expected": 20,
        "found": 19,
    }
    assert json.loads(first)["found"] == 19
    assert json.loads(verdict) == {
        "balanced": False,
        "differences": 2,
        "unknown_events": 0,
        "checked": {"products": 2, "batches": 3, "allocations": 3, "events": 10, "waiting": 1, "dead": 0},
    }


@pytest.mark.parametrize("part", ["histories", "batches", "order lines", "effects"])
def test_says_how_far_it_is(ledger: Ledger, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "_PROGRESS_EVERY", 4)
    told: list[tuple[int, str]] = []

    checked = check_consistency(ledger.service.engine, on_progress=lambda events, what: told.append((events, what)))

    assert checked.is_consistent
    assert part in {what for _, what in told}
    assert [events for events, what in told if what == "histories"] == [4, 8]


def test_shows_how_far_it_is_on_a_terminal_and_nothing_in_a_pipe(ledger: Ledger) -> None:
    command = [sys.executable, "-m", "allocation", "check"]
    env = ledger.settings.as_environment({"TERM": "xterm", "PATH": ""})
    leader, follower = pty.openpty()
    shown = b""
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=follower) as on_terminal:
        os.close(follower)
        with suppress(OSError):  # at its end
            while some := os.read(leader, 10_000):
                shown += some
        os.close(leader)
        said, _ = on_terminal.communicate()
    piped = subprocess.run(command, env=env, capture_output=True, check=True)

    assert b"effects" in shown
    assert piped.stderr == b""
    assert piped.stdout == said


def test_sees_a_wrong_allocated_quantity(ledger: Ledger) -> None:
    ledger.falsify("UPDATE batches SET allocated_quantity = 19 WHERE reference = 'b1'")

    assert ledger.differences() == [
        "batch 'b1' of 'TABLE', taken quantity by its history: expected 20, found 19",
        "batch 'b1' of 'TABLE', promised quantity by its lines: expected 20, found 19",
    ]


def test_sees_a_batch_promised_more_than_it_holds(ledger: Ledger) -> None:
    ledger.falsify(
        "ALTER TABLE batches DROP CONSTRAINT batches_never_oversold",
        "UPDATE batches SET purchased_quantity = 10 WHERE reference = 'b1'",
    )

    assert ledger.differences() == [
        "batch 'b1' of 'TABLE', purchased quantity by its history: expected 25, found 10",
        "batch 'b1' of 'TABLE', allocated quantity: expected from 0 to the purchased 10, found 20",
    ]


def test_sees_a_batch_promised_less_than_nothing(ledger: Ledger) -> None:
    ledger.falsify(
        "ALTER TABLE batches DROP CONSTRAINT batches_never_oversold, DROP CONSTRAINT batches_parts",
        "UPDATE batches SET allocated_quantity = -1 WHERE reference = 'b1'",
    )

    assert ledger.differences() == [
        "batch 'b1' of 'TABLE', taken quantity by its history: expected 20, found -1",
        "batch 'b1' of 'TABLE', promised quantity by its lines: expected 20, found -1",
        "batch 'b1' of 'TABLE', allocated quantity: expected from 0 to the purchased 25, found -1",
        "batch 'b1' of 'TABLE', promised, held, dispatched and quarantined quantity: expected none below 0, "
        "found -1, 0, 0 and 0",
    ]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("purchased_quantity = 60", "purchased quantity by its history: expected 50, found 60"),
        ("initial_quantity = 60", "initial quantity by its history: expected 50, found 60"),
        ("eta = '2030-01-02'", "eta by its history: expected 2030-01-01, found 2030-01-02"),
        ("eta = NULL", "eta by its history: expected 2030-01-01, found none"),
        ("initial_eta = '2030-01-02'", "initial eta by its history: expected 2030-01-01, found 2030-01-02"),
        ("expires = '2030-01-02'", "expires by its history: expected none, found 2030-01-02"),
        ("added = 3", "added by its history: expected 2, found 3"),
    ],
)
def test_sees_a_field_not_as_its_events_left_it(ledger: Ledger, change: str, named: str) -> None:
    ledger.falsify(f"UPDATE batches SET {change} WHERE reference = 'b2'")

    assert ledger.differences() == [f"batch 'b2' of 'TABLE', {named}"]


def test_sees_a_batch_that_no_event_created(ledger: Ledger) -> None:
    ledger.falsify(
        "INSERT INTO batches (sku, reference, initial_quantity, purchased_quantity, allocated_quantity, added)"
        " VALUES ('TABLE', 'b9', 1, 1, 0, 9)",
        "INSERT INTO batch_references (sku, reference) VALUES ('TABLE', 'b9')",
    )

    assert ledger.differences() == ["batch 'b9' of 'TABLE', rows by its history: expected 0, found 1"]


def test_sees_a_batch_that_is_gone(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM batches WHERE reference = 'b2'")

    assert ledger.differences() == [
        "batch 'b2' of 'TABLE', rows by its history: expected 1, found 0",
        "batch 'b2' of 'TABLE', promised quantity by its lines: expected 20, found none",
        "batch reference 'b2', SKU by its batch: expected none, found 'TABLE'",
    ]


def test_sees_a_reference_of_no_batch(ledger: Ledger) -> None:
    ledger.falsify("INSERT INTO batch_references (sku, reference) VALUES ('TABLE', 'b9')")

    assert ledger.differences() == ["batch reference 'b9', SKU by its batch: expected none, found 'TABLE'"]


def test_sees_a_batch_without_reference(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM batch_references WHERE reference = 'b1'")

    assert ledger.differences() == ["batch reference 'b1', SKU by its batch: expected 'TABLE', found none"]


def test_sees_a_reference_under_another_sku(ledger: Ledger) -> None:
    ledger.falsify("UPDATE batch_references SET sku = 'CHAIR' WHERE reference = 'b1'")

    assert ledger.differences() == ["batch reference 'b1', SKU by its batch: expected 'TABLE', found 'CHAIR'"]


def test_sees_a_wrong_product_version(ledger: Ledger) -> None:
    ledger.falsify("UPDATE products SET version_number = 8 WHERE sku = 'TABLE'")

    assert ledger.differences() == ["product 'TABLE', version by its history: expected 7, found 8"]


@pytest.mark.parametrize("version", [0, 1])
def test_sees_a_product_without_events(ledger: Ledger, version: int) -> None:
    ledger.falsify(f"INSERT INTO products (sku, version_number) VALUES ('LAMP', {version})")

    assert ledger.differences() == [f"product 'LAMP', version by its history: expected none, found {version}"]


def test_sees_events_without_product(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM products WHERE sku = 'CHAIR'")

    assert ledger.differences() == ["product 'CHAIR', version by its history: expected 3, found none"]


def test_sees_the_gap_that_a_deleted_event_leaves(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM event_log WHERE stream = 'TABLE' AND version = 2")

    assert ledger.differences() == [
        "history of 'TABLE', version after 1: expected 2, found 3",
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 6, found 7",
    ]


def test_sees_that_the_first_event_is_gone(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM event_log WHERE stream = 'TABLE' AND version = 1")

    assert ledger.differences() == [
        "history of 'TABLE', version after 0: expected 1, found 2",
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 6, found 7",
    ]


def test_sees_that_the_last_event_is_gone(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM event_log WHERE stream = 'TABLE' AND version = 7")

    assert ledger.differences() == [
        "product 'TABLE', version by its history: expected 6, found 7",
        "batch 'b2' of 'TABLE', taken quantity by its history: expected 0, found 20",
        "allocation 7 of 'TABLE' by its history: "
        "expected none, found 20 of 'TABLE' for line 'TABLE' of order 'o2' from batch 'b2'",
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 6, found 7",
        f"effect '{PUBLISH}' of 'TABLE', delivered version: expected at most 6, the last event's, found 7",
    ]


def test_sees_that_a_whole_history_is_gone(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM event_log WHERE stream = 'CHAIR'")

    assert ledger.differences() == [
        "product 'CHAIR', version by its history: expected none, found 3",
        "batch 'c1' of 'CHAIR', rows by its history: expected 0, found 1",
        "allocation 2 of 'CHAIR' by its history: "
        "expected none, found 5 of 'CHAIR' for line 'CHAIR' of order 'o1' from batch 'c1'",
        f"effect '{MAIL}' of event 3 of 'CHAIR': expected none, since no such event names it, found waiting",
        f"effect '{PUBLISH}' of 'CHAIR', delivered count up to version 3: expected 0, found 3",
        f"effect '{PUBLISH}' of 'CHAIR', delivered version: expected at most 0, the last event's, found 3",
    ]


def test_sees_an_altered_event(ledger: Ledger) -> None:
    ledger.falsify(alter(3, "qty", "21"))

    assert ledger.differences() == [
        "batch 'b1' of 'TABLE', taken quantity by its history: expected 21, found 20",
        "allocation 3 of 'TABLE' by its history: "
        "expected 21 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1', "
        "found 20 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1'",
    ]


def test_sees_an_altered_event_about_another_line(ledger: Ledger) -> None:
    ledger.falsify(alter(3, "lineid", '""'), alter(4, "orderid", '"o9"'))

    assert ledger.differences() == [
        "event 6 of 'TABLE', batch or line: expected one that is known, found ('o2', 'TABLE')"
    ]


def test_sees_an_event_of_another_product(ledger: Ledger) -> None:
    ledger.falsify(alter(5, "sku", '"CHAIR"'))

    assert ledger.differences() == ["event 5 of 'TABLE', SKU: expected 'TABLE', found 'CHAIR'"]


def test_sees_an_event_about_a_batch_that_never_was(ledger: Ledger) -> None:
    ledger.falsify(alter(3, "batchref", '"b9"'))

    assert ledger.differences() == ["event 3 of 'TABLE', batch or line: expected one that is known, found 'b9'"]


def test_sees_past_an_event_of_unknown_type(ledger: Ledger) -> None:
    ledger.falsify(
        "UPDATE event_log SET type = 'painted.v1' WHERE stream = 'CHAIR' AND version IN (2, 3)",
        alter(3, "qty", "21"),
    )

    assert ledger.differences() == [
        "event 2 of 'CHAIR': expected one that this release knows, found painted.v1",
        "event 3 of 'CHAIR': expected one that this release knows, found painted.v1",
        "batch 'b1' of 'TABLE', taken quantity by its history: expected 21, found 20",
        "allocation 3 of 'TABLE' by its history: "
        "expected 21 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1', "
        "found 20 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1'",
    ]


def test_what_only_a_newer_release_can_check_is_not_called_wrong_and_not_called_right(ledger: Ledger) -> None:
    ledger.falsify("UPDATE event_log SET type = 'allocated.v99' WHERE stream = 'CHAIR' AND version = 2")

    checked = ledger.check()

    assert checked.exit_code == 1
    assert checked.output.splitlines() == [
        "event 2 of 'CHAIR': expected one that this release knows, found allocated.v99",
        "All data is consistent, as far as this release can tell: it does not know 1 event.",
    ]
    assert counted(ledger) == (1, 1)


def test_what_only_a_newer_release_can_check_is_told_from_what_is_wrong(ledger: Ledger) -> None:
    ledger.falsify("UPDATE event_log SET type = 'allocated.v99' WHERE stream = 'CHAIR' AND version = 2")
    ledger.falsify("INSERT INTO batch_references (sku, reference) VALUES ('X', 'x1')")

    verdict = ledger.check().output.splitlines()[-1]

    assert verdict == "The data is not consistent: 2 differences, 1 of them for a newer release to check."
    assert counted(ledger) == (2, 1)


def counted(ledger: Ledger) -> tuple[int, int]:
    """As a program reads it."""
    checked = ledger.check("--json")
    verdict = json.loads(checked.stdout.splitlines()[-1])
    assert (checked.exit_code, verdict["balanced"]) == (1, False)
    return verdict["differences"], verdict["unknown_events"]


@pytest.mark.parametrize("data", ['{"ref": "b1"}', "[]", "null", "7"])
def test_sees_an_event_not_of_its_shape(ledger: Ledger, data: str) -> None:
    ledger.falsify(f"UPDATE event_log SET data = '{data}' WHERE stream = 'TABLE' AND version = 1")

    (difference,) = ledger.differences()
    assert difference.startswith("event 1 of 'TABLE': expected one that can be read, found not a batch_created.v1")


THE_VIEW = "line 'TABLE' of order 'o1' in allocations_view: expected"


def test_sees_a_missing_allocation(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM allocations WHERE sku = 'TABLE' AND orderid = 'o1'")

    assert ledger.differences() == [
        "allocation 3 of 'TABLE' by its history: "
        "expected 20 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1', found none",
        "batch 'b1' of 'TABLE', promised quantity by its lines: expected 0, found 20",
        "allocation 3 of 'TABLE', of line 'TABLE' of order 'o1', named in order_lines: expected 0, found 1",
        f"{THE_VIEW} none, found 20 of 'TABLE' from batch 'b1'",
    ]


def test_sees_a_line_allocated_twice(ledger: Ledger) -> None:
    ledger.falsify(
        "INSERT INTO allocations (sku, version, orderid, lineid, qty, batchref)"
        " VALUES ('TABLE', 4, 'o2', 'TABLE', 20, 'b2')"
    )

    found = ledger.differences()

    assert found[:3] == [
        "allocation 4 of 'TABLE' by its history: "
        "expected none, found 20 of 'TABLE' for line 'TABLE' of order 'o2' from batch 'b2'",
        "batch 'b2' of 'TABLE', promised quantity by its lines: expected 40, found 20",
        "allocation 4 of 'TABLE', of line 'TABLE' of order 'o2', named in order_lines: expected 1, found 0",
    ]


def test_sees_an_allocation_from_another_batch(ledger: Ledger) -> None:
    ledger.falsify("UPDATE allocations SET batchref = 'b2' WHERE sku = 'TABLE' AND orderid = 'o1'")

    assert ledger.differences() == [
        "allocation 3 of 'TABLE' by its history: "
        "expected 20 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b1', "
        "found 20 of 'TABLE' for line 'TABLE' of order 'o1' from batch 'b2'",
        "batch 'b1' of 'TABLE', promised quantity by its lines: expected 0, found 20",
        "batch 'b2' of 'TABLE', promised quantity by its lines: expected 40, found 20",
        f"{THE_VIEW} none, found 20 of 'TABLE' from batch 'b1'",
        f"{THE_VIEW} 20 of 'TABLE' from batch 'b2', found none",
    ]


def test_sees_a_missing_row(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM allocations_view WHERE sku = 'TABLE' AND orderid = 'o1'")
    ledger.falsify("DELETE FROM order_lines WHERE sku = 'TABLE' AND orderid = 'o1'")

    assert ledger.differences() == [
        "allocation 3 of 'TABLE', of line 'TABLE' of order 'o1', named in order_lines: expected 1, found 0",
        f"{THE_VIEW} 20 of 'TABLE' from batch 'b1', found none",
    ]


def test_sees_a_row_of_a_line_that_is_not_allocated(ledger: Ledger) -> None:
    ledger.falsify("UPDATE allocations_view SET orderid = 'o9' WHERE orderid = 'o2'")
    ledger.falsify("UPDATE order_lines SET orderid = 'o9' WHERE orderid = 'o2'")

    assert ledger.differences() == [
        "allocation 7 of 'TABLE', of line 'TABLE' of order 'o9', named in order_lines: "
        "expected by its own line, found by another",
        "line 'TABLE' of order 'o2' in allocations_view: expected 20 of 'TABLE' from batch 'b2', found none",
        "line 'TABLE' of order 'o9' in allocations_view: expected none, found 20 of 'TABLE' from batch 'b2'",
    ]


def test_sees_a_row_that_is_there_twice(ledger: Ledger) -> None:
    for table in ("order_lines", "allocations_view"):
        ledger.falsify(
            f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey",
            f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM {table} WHERE orderid = 'o2'",
        )

    assert ledger.differences() == [
        "line 'TABLE' of order 'o2', rows in order_lines: expected 1, found 2",
        "line 'TABLE' of order 'o2' in allocations_view, rows for batch 'b2': expected 1, found 2",
    ]


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("sku = 'CHAIR'", "20 of 'CHAIR' from batch 'b1'"),
        ("qty = 19", "19 of 'TABLE' from batch 'b1'"),
        ("batchref = 'b2'", "20 of 'TABLE' from batch 'b2'"),
    ],
)
def test_sees_a_wrong_row_in_the_read_model(ledger: Ledger, change: str, found: str) -> None:
    ledger.falsify(f"UPDATE allocations_view SET {change} WHERE orderid = 'o1' AND lineid = 'TABLE'")

    assert ledger.differences()[0].startswith(f"{THE_VIEW} 20 of 'TABLE' from batch 'b1', found")
    assert any(difference.endswith(f", found {found}") for difference in ledger.differences())


@pytest.mark.parametrize(("change", "named"), [("version = 4", "4 of 'TABLE'"), ("sku = 'CHAIR'", "3 of 'CHAIR'")])
def test_sees_an_order_line_that_names_another_allocation(ledger: Ledger, change: str, named: str) -> None:
    ledger.falsify(f"UPDATE order_lines SET {change} WHERE orderid = 'o1' AND lineid = 'TABLE'")

    assert sorted(ledger.differences()) == sorted(
        [
            "allocation 3 of 'TABLE', of line 'TABLE' of order 'o1', named in order_lines: expected 1, found 0",
            f"allocation {named}, of line 'TABLE' of order 'o1', named in order_lines: expected 0, found 1",
        ]
    )


@pytest.fixture
def warehouse(ledger: Ledger) -> Ledger:
    """Of b1 20 have left for o1, 3 came back and 1 is in quarantine; o3 is cancelled."""
    for command in (
        Dispatch("o1", "d-1", (ParcelLine("TABLE", 20),)),
        ReturnLine("o1", "TABLE", 3, "r-1", "good"),
        Quarantine("b1", 1, "damaged", "q-1"),
        Allocate("o3", "TABLE", 2),
        CancelOrder("o3"),
    ):
        ledger.service.bus.handle(command)
    assert ledger.service.relay.deliver(PUBLISH)
    assert ledger.check().exit_code == 0
    return ledger


@pytest.mark.parametrize(
    ("falsified", "named"),
    [
        (
            ["UPDATE batches SET dispatched_quantity = 16 WHERE reference = 'b1'"],
            [
                "batch 'b1' of 'TABLE', dispatched quantity by its history: expected 17, found 16",
                "batch 'b1' of 'TABLE', promised quantity by its lines: expected 0, found 1",
                "batch 'b1' of 'TABLE', dispatched quantity by its lines: expected 17, found 16",
            ],
        ),
        (
            [
                "ALTER TABLE batches DROP CONSTRAINT batches_parts",
                "UPDATE batches SET quarantined_quantity = -1 WHERE reference = 'b1'",
            ],
            [
                "batch 'b1' of 'TABLE', quarantined quantity by its history: expected 1, found -1",
                "batch 'b1' of 'TABLE', promised quantity by its lines: expected 0, found 2",
                "batch 'b1' of 'TABLE', promised, held, dispatched and quarantined quantity: "
                "expected none below 0, found 2, 0, 17 and -1",
            ],
        ),
        (
            ["UPDATE batches SET held_quantity = 1, allocated_quantity = 19 WHERE reference = 'b1'"],
            [
                "batch 'b1' of 'TABLE', taken quantity by its history: expected 18, found 19",
                "batch 'b1' of 'TABLE', held quantity by its history: expected 0, found 1",
                "batch 'b1' of 'TABLE', held quantity by holds: expected 0, found 1",
            ],
        ),
        (
            [
                "ALTER TABLE batches DROP CONSTRAINT batches_dispatched_are_here",
                "UPDATE batches SET eta = '2030-01-01' WHERE reference = 'b1'",
            ],
            [
                "batch 'b1' of 'TABLE', eta by its history: expected none, found 2030-01-01",
                "batch 'b1' of 'TABLE', initial eta by its history: expected none, found 2030-01-01",
                "batch 'b1' of 'TABLE', dispatched quantity while it is expected on 2030-01-01: expected 0, found 17",
            ],
        ),
        (
            ["UPDATE order_lines SET returned = 4 WHERE orderid = 'o1' AND lineid = 'TABLE'"],
            ["line 'TABLE' of order 'o1', returned by its history: expected 3, found 4"],
        ),
        (
            ["DELETE FROM documents WHERE number = 'q-1'"],
            [
                "document of event 10 of 'TABLE': expected ('b1', '', 'quarantine', 'q-1'), found none",
            ],
        ),
        (
            ["UPDATE orders SET cancelled = false WHERE orderid = 'o3'"],
            ["order 'o3', cancelled by its events: expected yes, found no"],
        ),
        (
            ["UPDATE orders SET cancelled = true WHERE orderid = 'o2'"],
            [
                "line 'TABLE' of order 'o2', promised although the order is cancelled: "
                "expected none, found 20 of 'TABLE'",
                "order 'o2', cancelled by its events: expected no, found yes",
            ],
        ),
    ],
)
def test_sees_what_a_warehouse_never_did(warehouse: Ledger, falsified: list[str], named: list[str]) -> None:
    warehouse.falsify(*falsified)

    assert warehouse.differences() == named


@pytest.fixture
def queue(service: Service, settings: Settings) -> Ledger:
    """Orders wait for 8 tables, for 5 of those in hamburg and for 6 before all others; 3 are left."""
    for command in (
        CreateBatch("b1", "TABLE", 5, location="hamburg"),
        PlaceOrder("o1", (OrderedLine("TABLE", 8),), "backorder"),
        PlaceOrder("o2", (OrderedLine("TABLE", 5),), "backorder", locations=("hamburg",)),
        PlaceOrder("o3", (OrderedLine("TABLE", 6),), "backorder", priority=9),
        ChangeBatchQuantity("b1", 4),
        Allocate("o4", "TABLE", 1),
    ):
        service.bus.handle(command)
    ledger = Ledger(service, settings)
    assert ledger.check().exit_code == 0
    return ledger


_TERMS = "LineTerms(priority=5, needed_by=None, may_split=False, waits=True, locations=())"


@pytest.mark.parametrize(
    ("falsified", "named"),
    [
        (
            ["UPDATE products SET waiting = 1"],
            [
                "product 'TABLE', lines that wait by its history: expected 3, found 1",
                "product 'TABLE', lines that wait: expected 3, found 1",
            ],
        ),
        (
            ["UPDATE order_lines SET terms = terms || '{\"priority\": 6}' WHERE orderid = 'o1'"],
            [
                f"line 'TABLE' of order 'o1', since and terms by its history: expected (2, {_TERMS}), "
                f"found (2, {_TERMS.replace('=5', '=6')})"
            ],
        ),
        (
            [
                "INSERT INTO orders (orderid, cancelled) VALUES ('o9', true)",
                "UPDATE backorders SET orderid = 'o9' WHERE since = 2",
            ],
            ["backorder 2 of 'TABLE'", "order 'o9'", "backorder 2 of 'TABLE'", "line 'TABLE' of order 'o9', waiting"],
        ),
        (
            ["UPDATE backorders SET needs = 3 WHERE since = 2"],
            ["backorder 2 of 'TABLE'", "line 'TABLE' of order 'o1', which waits for 3, room for it: expected none"],
        ),
        (
            ["DELETE FROM backorders WHERE since = 2"],
            ["backorder 2 of 'TABLE'", "product 'TABLE', lines that wait: expected 2"],
        ),
        (
            ["UPDATE allocations SET priority = 4"],
            [
                "allocation 8 of 'TABLE' by its history: "
                "expected 1 of 'TABLE' for line 'TABLE' of order 'o4' from batch 'b1', "
                "found 1 of 'TABLE' for line 'TABLE' of order 'o4' from batch 'b1', of priority 4",
            ],
        ),
        (
            ["UPDATE batches SET location = 'berlin'"],
            ["batch 'b1' of 'TABLE', location by its history: expected hamburg, found berlin"],
        ),
    ],
)
def test_sees_what_is_wrong_with_a_queue(queue: Ledger, falsified: list[str], named: list[str]) -> None:
    queue.falsify(*falsified)

    found = queue.differences()
    assert len(found) == len(named), found
    assert not [text for text in named if not any(one.startswith(text) for one in found)], found


def test_sees_an_effect_that_was_never_delivered_and_does_not_wait(ledger: Ledger) -> None:
    ledger.falsify("DELETE FROM outbox")

    assert ledger.differences() == [
        f"effect '{MAIL}' of event 3 of 'CHAIR': expected waiting, since only version 0 is delivered, found none"
    ]


def test_sees_an_effect_that_was_delivered_and_still_waits(ledger: Ledger) -> None:
    ledger.falsify(f"INSERT INTO outbox (effect, stream, version) VALUES ('{PUBLISH}', 'TABLE', 4)")

    assert ledger.differences() == [
        f"effect '{PUBLISH}' of event 4 of 'TABLE': "
        "expected nothing waiting up to the delivered version 7, found waiting"
    ]


@pytest.mark.parametrize("stream", ["CHAIR", "LAMP"])
def test_sees_an_effect_that_no_event_names(ledger: Ledger, stream: str) -> None:
    ledger.falsify(f"INSERT INTO outbox (effect, stream, version) VALUES ('{MAIL}', '{stream}', 1)")

    assert ledger.differences() == [
        f"effect '{MAIL}' of event 1 of '{stream}': expected none, since no such event names it, found waiting"
    ]


@pytest.mark.parametrize("effects", ["[]", "{}", "null", '"mail"'])
def test_sees_an_event_that_no_longer_names_its_effect(ledger: Ledger, effects: str) -> None:
    ledger.falsify(f"UPDATE event_log SET effects = '{effects}' WHERE stream = 'TABLE' AND version = 4")

    assert ledger.differences() == [
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 6, found 7"
    ]


def test_sees_an_event_that_names_one_effect_more(ledger: Ledger) -> None:
    ledger.falsify("""UPDATE event_log SET effects = '["wave"]' WHERE stream = 'TABLE' AND version = 1""")

    assert ledger.differences() == [
        "effect 'wave' of event 1 of 'TABLE': expected waiting, since only version 0 is delivered, found none",
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 6, found 7",
    ]


def test_sees_a_wrong_delivered_count(ledger: Ledger) -> None:
    ledger.falsify("UPDATE deliveries SET delivered_count = 4 WHERE stream = 'TABLE'")

    assert ledger.differences() == [
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 7: expected 7, found 4"
    ]


def test_sees_effects_delivered_beyond_the_history(ledger: Ledger) -> None:
    ledger.falsify("UPDATE deliveries SET delivered_version = 8 WHERE stream = 'TABLE'")

    assert ledger.differences() == [
        f"effect '{PUBLISH}' of 'TABLE', delivered version: expected at most 7, the last event's, found 8"
    ]


def test_sees_effects_neither_delivered_nor_waiting(ledger: Ledger) -> None:
    ledger.falsify("UPDATE deliveries SET delivered_version = 3 WHERE stream = 'TABLE'")

    assert ledger.differences() == [
        *(
            f"effect '{PUBLISH}' of event {version} of 'TABLE': "
            "expected waiting, since only version 3 is delivered, found none"
            for version in (4, 5, 6, 7)
        ),
        f"effect '{PUBLISH}' of 'TABLE', delivered count up to version 3: expected 3, found 7",
    ]


def test_sees_effects_delivered_for_a_product_without_history(ledger: Ledger) -> None:
    ledger.falsify(
        f"INSERT INTO deliveries (effect, stream, delivered_version, delivered_count) VALUES ('{MAIL}', 'LAMP', 1, 1)"
    )

    assert ledger.differences() == [
        f"effect '{MAIL}' of 'LAMP', delivered count up to version 1: expected 0, found 1",
        f"effect '{MAIL}' of 'LAMP', delivered version: expected at most 0, the last event's, found 1",
    ]


def test_sees_a_token_that_no_clock_has_given(ledger: Ledger) -> None:
    """One that is years ahead is from a clock that was, or damaged."""
    token = 9_223_372_036_854_775_807
    ledger.falsify(f"UPDATE deliveries SET token = {token} WHERE effect = '{PUBLISH}' AND stream = 'TABLE'")

    assert ledger.differences() == [
        f"effect '{PUBLISH}' of 'TABLE', token: expected a moment in microseconds, found {token}"
    ]


def test_lists_a_hundred_and_says_how_many_more(ledger: Ledger) -> None:
    ledger.falsify("INSERT INTO batch_references (sku, reference) SELECT 'X', 'x' || i FROM generate_series(1, 150) i")

    *differences, verdict = ledger.check().output.splitlines()

    assert len(differences) == 100
    assert verdict == "The data is not consistent: 150 differences, 50 of them not listed."
    assert len(ledger.differences()) == 150


def test_a_name_can_not_fake_a_line(ledger: Ledger) -> None:
    ledger.falsify(r"INSERT INTO batch_references (sku, reference) VALUES ('X', E'b9\nAll data is consistent')")

    assert ledger.differences() == [
        r"batch reference 'b9\nAll data is consistent', SKU by its batch: expected none, found 'X'"
    ]


def test_sees_one_moment_of_the_books_and_can_not_write(ledger: Ledger) -> None:
    with open_snapshot(ledger.service.engine) as snapshot:
        before = snapshot.figures()
        ledger.service.bus.handle(Allocate("o4", "TABLE", 1))
        ledger.service.relay.deliver(MAIL)

        assert snapshot.figures() == before
        assert list(snapshot.differences()) == []
        with pytest.raises(DBAPIError, match="read-only transaction"):
            snapshot.connection.execute(text("DELETE FROM outbox"))


happenings = st.one_of(anything.commands(["TABLE", "CHAIR"]), st.sampled_from([PUBLISH, MAIL]))


@hypothesis.settings(
    max_examples=25, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(st.lists(happenings, max_size=30))
def test_whatever_is_asked_the_data_is_consistent(service: Service, happenings: list[Command | str]) -> None:
    empty(service.engine)
    for happening in happenings:
        if isinstance(happening, str):
            service.relay.deliver(happening)
        else:
            ask(service, happening)

    assert verdict(service).startswith("All data is consistent")


def test_the_data_is_consistent_while_the_service_works(service: Service) -> None:
    stop = Event()
    verdicts = set[str]()
    with at_work(service.relay.run), ThreadPoolExecutor(3) as pool:
        writers = [pool.submit(ask_at_random, service, seed, stop) for seed in range(3)]

        def checked_while_much_was_written() -> bool:
            verdicts.add(verdict(service))
            return len(verdicts) > 10 or any(not each.startswith("All data is consistent") for each in verdicts)

        try:
            eventually(checked_while_much_was_written, "hardly anything is written between two checks", seconds=60)
        finally:
            stop.set()
        assert sum(writer.result() for writer in writers) > 50
        eventually(lambda: "0 effects waiting" in verdict(service), "effects still wait")

    assert [each for each in verdicts if not each.startswith("All data is consistent")] == []


def test_a_database_out_of_reach_is_said_plainly() -> None:
    checked = run_check(DATABASE_URL="postgresql://allocation@127.0.0.1:1/allocation")

    assert (checked.returncode, checked.stdout) == (1, "")
    assert checked.stderr.startswith("Error: ")
    assert '"127.0.0.1", port 1' in checked.stderr
    assert "Traceback" not in checked.stderr


def run_check(**environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    command = [sys.executable, "-m", "allocation", "check"]
    return subprocess.run(command, env=inherited | environment, capture_output=True, text=True, timeout=60, check=False)


def alter(version: int, field: str, value: str) -> str:
    """SQL that changes one field in an event of TABLE; the value is JSON."""
    changed = f"jsonb_set(data, '{{{field}}}', '{value}')"
    return f"UPDATE event_log SET data = {changed} WHERE stream = 'TABLE' AND version = {version}"


def empty(engine: Engine) -> None:
    names = [table.name for table in (*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables)]
    with engine.begin() as connection:
        connection.execute(text(f"TRUNCATE {', '.join(names)}"))


def ask(service: Service, command: Command) -> None:
    with suppress(DomainError):
        service.bus.handle(command)


def ask_at_random(service: Service, seed: int, stop: Event) -> int:
    """Returns how many commands were tried."""
    choose = random.Random(seed)
    for asked in count():
        if stop.is_set():
            return asked
        sku, reference = choose.choice("ABCD"), f"{choose.choice('ABCD')}{choose.randrange(5)}"
        commands: list[Command] = [
            CreateBatch(f"{sku}{reference[1]}", sku, choose.randrange(200)),
            Allocate(f"o{seed}-{asked}", sku, choose.randint(1, 10)),
            Allocate(f"o{choose.randrange(50)}", sku, choose.randint(1, 10)),
            ChangeBatchQuantity(reference, choose.randrange(200)),
        ]
        ask(service, choose.choice(commands))
    raise AssertionError("unreachable")


def verdict(service: Service) -> str:
    """All that the check has to say, in one text."""
    said: list[str] = []
    checked = check_consistency(service.engine, lambda difference: said.append(str(difference)))
    return "\n".join([*said, verdict_in_words(checked, len(said))])


def eventually(true: Callable[[], bool], otherwise: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
