"""`allocation import` and `allocation export`, as they are typed, on a real database."""

from __future__ import annotations

import csv
import email
import gzip
import json
import os
import pty
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from itertools import islice
from pathlib import Path
from threading import Event, Thread

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, text

import embedded
from allocation import whole_files
from allocation.bootstrap import Service
from allocation.config import Settings
from allocation.database import tables
from allocation.domain.commands import Allocate, CreateBatch
from allocation.domain.errors import BatchConflict, LineConflict
from allocation.entrypoints.bulk.commands import export, import_
from allocation.entrypoints.bulk.importing import MOST_ROWS_TOGETHER, handling
from allocation.entrypoints.cli import main
from allocation.entrypoints.command_line.check import check
from messaging.envelope import Outcome, Request
from messaging.errors import Unavailable
from messaging.sql import tables as messaging_tables

SHARED = Path(__file__).parents[3] / "shared" / "data"
NORTHWIND_BATCHES = SHARED / "northwind_batches.csv"
NORTHWIND_LINES = SHARED / "northwind_order_lines.csv"
RETAIL_BATCHES = SHARED / "online_retail_batches_made_up.csv.gz"
RETAIL_LINES = SHARED / "online_retail_lines.csv.gz"


@dataclass(frozen=True)
class Shell:
    """Types commands, and looks at what is in the database afterwards."""

    settings: Settings
    engine: Engine
    folder: Path

    def write(self, name: str, *lines: str) -> Path:
        path = self.folder / name
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return path

    def imports(self, *arguments: str | Path) -> Result:
        return self._run(import_, *arguments)

    def exports(self, file: str | Path, *options: str) -> Result:
        return self._run(export, "allocations", file, *options)

    def _run(self, command: click.Command, *arguments: str | Path) -> Result:
        typed = [str(argument) for argument in arguments]
        return CliRunner().invoke(command, typed, obj=self.settings)

    def mails(self) -> list[EmailMessage]:
        files = sorted((self.settings.home / "mail").glob("*.eml"))
        return [email.message_from_bytes(file.read_bytes(), _class=EmailMessage, policy=SMTP) for file in files]

    def books_balance(self) -> bool:
        return CliRunner().invoke(check, obj=self.settings).exit_code == 0

    def ask(self, query: str) -> object:
        with self.engine.connect() as connection:
            return connection.execute(text(query)).scalar_one()

    def contents(self) -> dict[str, object]:
        """A fingerprint of every table: two are the same only when every row is."""
        every = [*tables.metadata.sorted_tables, *messaging_tables.metadata.sorted_tables]
        return {
            table.name: self.ask(f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table.name} t")
            for table in every
        }


def deliver_all(service: Service) -> None:
    for effect in service.relay.routes.all_effect_names():
        while service.relay.deliver(effect):
            pass


@pytest.fixture
def shell(settings: Settings, engine: Engine, tmp_path: Path) -> Shell:
    return Shell(settings, engine, tmp_path)


# --- what is imported --------------------------------------------------------


def test_adds_batches_and_allocates_lines_and_counts_them(shell: Shell) -> None:
    batches = shell.write("batches.csv", "ref,sku,qty,eta", "b1,CHAIR,10,", "b2,CHAIR,10,2011-01-02", "b3,LAMPE-Ü,5,")
    added = shell.imports("batches", batches)
    assert added.stdout == "3 added, 0 already there, 0 refused\n"
    assert added.stderr == "In all, 1 batch is overdue: receive it, or state another ETA.\n"
    lines = shell.write("lines.csv", "orderid,lineid,sku,qty", "o1,1,CHAIR,8", "o1,2,CHAIR,8", "o2,,LAMPE-Ü,6")
    result = shell.imports("orders", lines)
    assert result.output == "2 allocated, 1 out of stock, 0 already there, 0 refused\n"
    assert result.exit_code == 0
    assert shell.books_balance()


def test_changes_nothing_the_second_time(shell: Shell) -> None:
    batches = shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10")
    lines = shell.write("lines.csv", "orderid,sku,qty", "o1,CHAIR,8", "o2,CHAIR,2")
    shell.imports("batches", batches)
    shell.imports("orders", lines)
    before = shell.contents()
    assert shell.imports("batches", batches).output == "0 added, 1 already there, 0 refused\n"
    assert shell.imports("orders", lines).output == "0 allocated, 0 out of stock, 2 already there, 0 refused\n"
    assert shell.contents() == before


def test_tells_what_is_out_of_stock_in_one_mail_at_its_end(shell: Shell, service: Service) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10", "b2,LAMP,1"))
    lines = ["o1,CHAIR,8", "o2,CHAIR,8", "o3,LAMP,5", "o4,NEVER-SOLD,1"]
    file = shell.write("lines.csv", "orderid,sku,qty", *lines)
    shell.imports("orders", file)
    deliver_all(service)

    [mail] = shell.mails()
    assert mail["Subject"] == "Out of stock for CHAIR and 1 more line"
    assert mail.get_content().splitlines()[2:] == [
        "Out of stock for CHAIR: order o2, line CHAIR, asked for 8",
        "Out of stock for LAMP: order o3, line LAMP, asked for 5",
    ]

    assert "1 already there" in shell.imports("orders", file).stdout
    deliver_all(service)
    assert len(shell.mails()) == 1, "the same lines are short, and that was told today"

    shell.imports("orders", shell.write("more.csv", "orderid,sku,qty", *lines, "o5,CHAIR,9"))
    service.bus.handle(Allocate("o6", "CHAIR", 9))
    deliver_all(service)
    subjects = sorted(mail["Subject"] for mail in shell.mails())
    assert subjects == [
        "Out of stock for CHAIR",
        "Out of stock for CHAIR and 1 more line",
        "Out of stock for CHAIR and 2 more lines",
    ]
    assert shell.books_balance()


def test_a_dry_run_tells_nobody_of_what_is_out_of_stock(shell: Shell, service: Service) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,1"))
    shell.imports("orders", "--dry-run", shell.write("lines.csv", "orderid,sku,qty", "o1,CHAIR,8"))
    deliver_all(service)

    assert shell.mails() == []


def test_what_was_short_before_a_row_that_can_not_be_read_is_told(shell: Shell, service: Service) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,1"))
    rows = [f"o{number},CHAIR,8" for number in range(101)]
    result = shell.imports("orders", shell.write("lines.csv", "orderid,sku,qty", *rows, "o9,CH\rAIR,8"))
    assert result.exit_code == 1
    deliver_all(service)

    [mail] = shell.mails()
    assert mail["Subject"] == "Out of stock for CHAIR and 100 more lines"
    assert mail.get_content().splitlines()[-1] == "and 1 more"


def test_tries_a_line_that_was_out_of_stock_again(shell: Shell) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10"))
    lines = shell.write("lines.csv", "orderid,sku,qty", "o1,CHAIR,11")
    assert shell.imports("orders", lines).output == "0 allocated, 1 out of stock, 0 already there, 0 refused\n"
    assert shell.imports("orders", lines).output == "0 allocated, 1 out of stock, 0 already there, 0 refused\n"
    shell.imports("batches", shell.write("more.csv", "ref,sku,qty", "b2,CHAIR,20"))
    assert shell.imports("orders", lines).output == "1 allocated, 0 out of stock, 0 already there, 0 refused\n"


def test_names_refused_rows_and_takes_the_others(shell: Shell) -> None:
    result = shell.imports(
        "batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10", "b1,CHAIR,11", "b2,CHAIR,x", "b3,CHAIR,1")
    )
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "row 3: refused: batch b1 is in this file already: give each batch a ref of its own, or one row with all of it",
        "row 4: refused: qty: input should be a valid integer, not 'x'",
        "2 added, 0 already there, 2 refused",
    ]


def test_names_the_columns_that_it_passed_over(shell: Shell) -> None:
    file = shell.write("batches.csv", "ref,sku,qty,note,,price,kind", "b1,CHAIR,10,,,,", ",,,,,,", "b2,CHAIR,5")
    result = shell.imports("batches", file, "--where", "kind=")
    assert result.stdout == "2 added, 0 already there, 0 refused\n"
    assert result.stderr == "Columns passed over: 'note', 'price'.\n"


def test_a_near_miss_of_an_optional_column_can_be_mapped_or_mapped_away(shell: Shell) -> None:
    file = shell.write("batches.csv", "ref;sku;qty;ETA", "b1;CHAIR;10;2031-01-01")
    assert shell.imports("batches", file).exit_code == 2
    assert shell.ask("SELECT count(*) FROM batches") == 0

    assert shell.imports("batches", file, "--map", "eta=ETA").exit_code == 0
    assert str(shell.ask("SELECT eta FROM batches")) == "2031-01-01"

    other = shell.write("others.csv", "ref,sku,qty,eta of the ship", "b2,LAMP,10,2031-01-01")
    assert shell.imports("batches", other).exit_code == 2
    assert shell.imports("batches", other, "--map", "eta=").exit_code == 0
    assert shell.ask("SELECT eta FROM batches WHERE reference = 'b2'") is None


def test_prints_every_row_when_asked(shell: Shell) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10"))
    result = shell.imports("orders", "-v", shell.write("lines.csv", "orderid,sku,qty", "o1,CHAIR,8", "o2,CHAIR,8"))
    assert result.stdout.splitlines() == [
        "row 2: allocated: order o1, line CHAIR, 8 of CHAIR from batch b1",
        "row 3: out of stock: order o2, line CHAIR, 8 of CHAIR",
        "1 allocated, 1 out of stock, 0 already there, 0 refused",
    ]


def test_takes_the_rows_that_are_asked_for(shell: Shell) -> None:
    header = "id,item,n,kind,shipped"
    rows = ["b1,CHAIR,1,sale,", "b2,CHAIR,1,sale,x", "b3,CHAIR,1,free,x", "b4,CHAIR,1,other,x", "b5,CHAIR,1,free,x"]
    mapped = ["--map", "ref=id", "--map", "sku=item", "--map", "qty=n"]
    wanted = ["--where", "kind=sale,free", "--where", "shipped!=", "--limit", "2"]
    file = shell.write("batches.csv", header, *rows)
    assert shell.imports("batches", file, *mapped, *wanted).output == "2 added, 0 already there, 0 refused\n"
    assert shell.ask("SELECT string_agg(reference, ' ' ORDER BY reference) FROM batches") == "b2 b3"
    assert shell.imports("batches", file, *mapped, "--where", "kind=sail").output.splitlines() == [
        "Columns passed over: 'shipped'.",
        "0 added, 0 already there, 0 refused",
        "None of 5 rows is one that --where asks for.",
    ]


def test_keeps_what_came_before_a_row_that_cannot_be_read(shell: Shell) -> None:
    result = shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10", "b2,CHAIR\r,3"))
    assert result.exit_code == 1
    assert result.stdout == "1 added, 0 already there, 0 refused\n"
    assert result.stderr == (
        "Error: row 3 has a carriage return alone; lines must end with LF or CRLF. Rows up to 2 are done; "
        "mend that row, and import the file again for the rest.\n"
    )
    assert shell.ask("SELECT reference FROM batches") == "b1"


def test_ends_where_a_file_with_other_columns_was_put_behind(shell: Shell) -> None:
    first, second = ["ref,sku,qty,expires", "b1,CHAIR,10,2031-06-01"], ["ref,sku,qty,eta", "b2,CHAIR,7,2031-01-01"]
    result = shell.imports("batches", shell.write("batches.csv", *first, *second))
    assert (result.exit_code, result.stdout) == (1, "1 added, 0 already there, 0 refused\n")
    assert result.stderr == (
        "Error: row 3 names the columns anew, and not as row 1 does; was one file put behind another? "
        "Rows up to 2 are done; part them, and import each by itself.\n"
    )
    assert shell.ask("SELECT string_agg(reference, ' ') FROM batches") == "b1"


def test_an_order_is_not_placed_when_another_header_follows_on_its_rows(shell: Shell) -> None:
    shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10"))
    first = ["orderid,sku,qty", "o1,CHAIR,1", "o2,CHAIR,1"]
    result = shell.imports("orders", "--mode", "partial", shell.write("o.csv", *first, "orderid,lineid,sku,qty"))
    assert result.exit_code == 1
    assert "Rows up to 2 are done" in result.stderr
    assert shell.ask("SELECT string_agg(orderid, ' ') FROM order_lines") == "o1"


def test_refuses_a_row_that_is_too_short_and_takes_the_others(shell: Shell) -> None:
    result = shell.imports("batches", shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,10", "b2,CHAIR", "b3,LAMP,5"))
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "row 3: refused: has 2 fields, but the header has 3",
        "2 added, 0 already there, 1 refused",
    ]
    assert shell.ask("SELECT string_agg(reference, ' ' ORDER BY reference) FROM batches") == "b1 b3"


def test_reads_standard_input(shell: Shell) -> None:
    command = [sys.executable, "-m", "allocation", "import", "batches", "-"]
    environment = shell.settings.as_environment(os.environ)
    packed = gzip.compress(b"ref,sku,qty\nb1,CHAIR,10\n")
    done = subprocess.run(command, input=packed, env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"1 added, 0 already there, 0 refused\n", b"")


def test_shows_a_bar_on_a_terminal_and_still_sends_results_where_they_are_wanted(shell: Shell) -> None:
    terminal, end = pty.openpty()
    file = shell.write("batches.csv", "ref,sku,qty", "b1,CHAIR,x")
    done = subprocess.run(
        [sys.executable, "-m", "allocation", "import", "batches", str(file)],
        env=shell.settings.as_environment({**os.environ, "TERM": "xterm", "COLUMNS": "100"}),
        stdout=subprocess.PIPE,
        stderr=end,
        check=False,
    )
    os.close(end)
    drawn = os.read(terminal, 1_000_000).decode()
    os.close(terminal)
    assert "━" in drawn
    assert "refused:" not in drawn
    assert done.stdout.decode().splitlines() == [
        "row 2: refused: qty: input should be a valid integer, not 'x'",
        "0 added, 0 already there, 1 refused",
    ]


# --- beside others, and in bad weather ---------------------------------------


def test_gets_on_beside_a_busy_service_and_nothing_is_lost(shell: Shell, service: Service) -> None:
    skus = [f"SKU-{number}" for number in range(50)]
    shell.imports("batches", shell.write("b.csv", "ref,sku,qty", *(f"b-{sku},{sku},100000" for sku in skus)))
    file = shell.write("lines.csv", "orderid,sku,qty", *(f"o{number},{skus[number % 50]},1" for number in range(200)))
    over = Event()
    sold = dict.fromkeys(("shop", "market"), 0)

    def sell(name: str) -> None:
        while not over.is_set():
            service.bus.handle(Allocate(f"{name}-{sold[name]}", skus[sold[name] % 50], 1))
            sold[name] += 1

    others = [Thread(target=sell, args=(name,)) for name in sold]
    for other in others:
        other.start()
    try:
        result = shell.imports("orders", file)
    finally:
        over.set()
        for other in others:
            other.join()
    assert result.stdout == "200 allocated, 0 out of stock, 0 already there, 0 refused\n"
    assert all(sold.values()), "the others were not shut out"
    assert shell.ask("SELECT count(*) FROM allocations_view") == 200 + sum(sold.values())
    assert shell.books_balance()


@contextmanager
def feeding(pipe: Path, rows: list[str], pause_after: int, meanwhile: Callable[[], None]) -> Iterator[None]:
    """Write a file into a pipe while it is read, and in the middle of it do something."""

    def feed() -> None:
        with pipe.open("w") as file:
            file.write("\n".join(["ref,sku,qty", *rows[:pause_after], ""]))
            file.flush()
            meanwhile()
            file.write("\n".join([*rows[pause_after:], ""]))

    os.mkfifo(pipe)
    feeder = Thread(target=feed)
    feeder.start()
    yield
    feeder.join()


@dataclass(frozen=True)
class Weather:
    """What may happen to a database."""

    admin: Engine
    shell: Shell

    def wait_for_batches(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while self.shell.ask("SELECT count(*) FROM batches") != count:
            assert time.monotonic() < deadline, f"never saw {count} batches"
            time.sleep(0.02)

    def cut_connections(self) -> None:
        self.shell.engine.dispose()
        database = self.shell.engine.url.database
        with self.admin.connect() as connection:
            connection.execute(
                text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")
            )

    def set_reachable(self, reachable: bool) -> None:
        with self.admin.connect() as connection:
            connection.execute(text(f"ALTER DATABASE {self.shell.engine.url.database} ALLOW_CONNECTIONS {reachable}"))


@pytest.fixture
def weather(shell: Shell, template: tuple[Engine, str]) -> Weather:
    return Weather(template[0], shell)


TOGETHER = MOST_ROWS_TOGETHER
THREE_TRANSACTIONS = [f"b{number},SKU-{number},1" for number in range(3 * TOGETHER)]


def test_survives_a_cut_connection(shell: Shell, weather: Weather) -> None:
    def meanwhile() -> None:
        weather.wait_for_batches(TOGETHER)
        weather.cut_connections()

    pipe = shell.folder / "pipe"
    with feeding(pipe, THREE_TRANSACTIONS, pause_after=3 * TOGETHER // 2, meanwhile=meanwhile):
        result = shell.imports("batches", pipe)
    assert result.output == f"{3 * TOGETHER} added, 0 already there, 0 refused\n"
    assert shell.books_balance()


def test_says_how_far_it_came_when_the_database_goes_away_and_goes_on_from_there(
    shell: Shell, weather: Weather
) -> None:
    def meanwhile() -> None:
        weather.wait_for_batches(TOGETHER)
        weather.set_reachable(False)
        weather.cut_connections()

    pipe = shell.folder / "pipe"
    with feeding(pipe, THREE_TRANSACTIONS, pause_after=3 * TOGETHER // 2, meanwhile=meanwhile):
        result = shell.imports("batches", pipe)
    weather.set_reachable(True)
    assert result.exit_code == 1
    assert result.stdout == f"{TOGETHER} added, 0 already there, 0 refused\n"
    (said,) = result.stderr.splitlines()
    assert said.endswith(f"Rows up to {TOGETHER + 1} are done; import the file again for the rest.")

    file = shell.write("batches.csv", "ref,sku,qty", *THREE_TRANSACTIONS)
    assert shell.imports("batches", file).output == f"{2 * TOGETHER} added, {TOGETHER} already there, 0 refused\n"
    assert shell.books_balance()


def test_starts_the_embedded_database_that_is_there_where_none_is_given(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home")
    with embedded.servers(settings.home):
        pass
    file = tmp_path / "batches.csv"
    file.write_text("ref,sku,qty\nb1,CHAIR,10\n")
    first = CliRunner().invoke(import_, ["batches", str(file)], obj=settings)
    assert first.output == "1 added, 0 already there, 0 refused\n"
    exported = CliRunner().invoke(export, ["allocations", "-"], obj=settings)
    assert exported.stdout == "orderid,lineid,sku,qty,batchref,expires,location\n"


# --- dry runs ----------------------------------------------------------------


Preview = Callable[[list[Request]], list[Outcome]]


@pytest.fixture
def preview(service: Service) -> Iterator[Preview]:
    with handling(service.bus, dry_run=True) as preview:
        yield preview


def test_a_dry_run_says_what_the_import_then_does_and_changes_nothing(shell: Shell) -> None:
    shell.imports(
        "batches", shell.write("b.csv", "ref,sku,qty,eta", "b1,CHAIR,10,", "b2,LAMP,5,", "b3,CHAIR,5,2011-01-02")
    )
    shell.imports("orders", shell.write("o.csv", "orderid,lineid,sku,qty", "o1,1,CHAIR,2"))
    batches = shell.write(
        "batches.csv", "ref,sku,qty", "b1,CHAIR,10", "b1,LAMP,10", "b9,SOFA,1", "b9,SOFA,1", "b9,SOFA,2", "b10,CHAIR,-1"
    )
    lines = shell.write(
        "lines.csv",
        "orderid,lineid,sku,qty",
        *("o1,1,CHAIR,2", "o1,1,CHAIR,3", "o1,1,LAMP,2", "o1,2,CHAIR,9", "o2,1,CHAIR,8", "o2,1,CHAIR,8", "o2,1,LAMP,8"),
        *("o3,1,CHAIR,5", "o4,1,CHAIR,1", "o4,2,LAMP,5", "o5,1,LAMP,1", "o6,1,NOTHING,1", "o7,1,LAMP,0"),
    )
    for kind, file in (("batches", batches), ("orders", lines)):
        before = shell.contents()
        rehearsed = shell.imports(kind, file, "--verbose", "--dry-run")
        assert shell.contents() == before
        done = shell.imports(kind, file, "--verbose")
        *rows, counts = done.output.splitlines()
        assert rehearsed.output.splitlines() == [*rows, f"{counts} (dry run: nothing was changed)"]
        assert rehearsed.exit_code == done.exit_code


def test_a_dry_run_waits_for_nobody_and_nobody_for_it(service: Service, preview: Preview) -> None:
    service.bus.handle(CreateBatch("b1", "CHAIR", 10))
    with service.engine.begin() as connection:
        connection.execute(text("UPDATE products SET version_number = version_number"))
        connection.execute(text("UPDATE batches SET allocated_quantity = allocated_quantity"))
        assert preview([Request(Allocate("o1", "CHAIR", 10))])[0].result == "b1"
    assert service.bus.handle(Allocate("o2", "CHAIR", 10)) == "b1"


def test_a_dry_run_sees_one_moment_and_what_it_decided_before(service: Service, preview: Preview) -> None:
    service.bus.handle(CreateBatch("b1", "CHAIR", 10))
    assert preview([Request(Allocate("o1", "CHAIR", 6))])[0].changed
    service.bus.handle(Allocate("o2", "CHAIR", 3))
    again, other = preview([Request(Allocate("o1", "CHAIR", 6)), Request(Allocate("o2", "CHAIR", 4))])
    assert (again.result, again.changed) == ("b1", False)
    assert (other.result, other.changed) == ("b1", True)


def test_a_dry_run_knows_lines_and_batches_of_other_products(service: Service, preview: Preview) -> None:
    service.bus.handle(CreateBatch("b1", "CHAIR", 10))
    service.bus.handle(CreateBatch("b2", "LAMP", 10))
    service.bus.handle(Allocate("o1", "CHAIR", 1, "1"))
    (line,) = preview([Request(Allocate("o1", "LAMP", 1, "1"))])
    (batch,) = preview([Request(CreateBatch("b1", "LAMP", 10))])
    assert isinstance(line.refusal, LineConflict)
    assert isinstance(batch.refusal, BatchConflict)


def test_a_dry_run_that_loses_its_session_ends_and_changes_nothing(
    shell: Shell, service: Service, weather: Weather
) -> None:
    service.bus.handle(CreateBatch("b1", "CHAIR", 10))
    before = shell.contents()

    def lose_the_session() -> None:
        with handling(service.bus, dry_run=True) as preview:
            preview([Request(Allocate("o1", "CHAIR", 6))])
            weather.cut_connections()
            preview([Request(Allocate("o2", "LAMP", 6))])

    with pytest.raises(Unavailable):
        lose_the_session()
    assert shell.contents() == before


# --- as JSON -----------------------------------------------------------------


def test_says_all_of_it_as_json(shell: Shell) -> None:
    batches = shell.write("batches.csv", "ref,sku,qty,note", "b1,CHAIR,10,", "b2,CHAIR,x,")
    lines = shell.write("lines.csv", "orderid,sku,qty", "o1,CHAIR,8", "o2,CHAIR,8")

    refused, counts = (json.loads(line) for line in shell.imports("batches", batches, "--json").stdout.splitlines())
    assert refused == {"row": 3, "result": "refused", "detail": "qty: input should be a valid integer, not 'x'"}
    assert counts == {
        "added": 1,
        "already_there": 0,
        "refused": 1,
        "dry_run": False,
        "columns_passed_over": ["note"],
        "overdue_batches": 0,
    }
    first, _, counts = (json.loads(line) for line in shell.imports("orders", lines, "-v", "--json").stdout.splitlines())
    assert (first["row"], first["result"]) == (2, "allocated")
    assert (counts["allocated"], counts["out_of_stock"], counts["columns_passed_over"]) == (1, 1, [])

    file = shell.folder / "out.csv"
    assert json.loads(shell.exports(file, "--json").stdout) == {"file": str(file), "lines": 1}
    to_stdout = shell.exports("-", "--json")
    assert (json.loads(to_stdout.stderr), len(to_stdout.stdout.splitlines())) == ({"file": "-", "lines": 1}, 2)


# --- what is exported --------------------------------------------------------


@pytest.fixture
def allocated(shell: Shell) -> list[str]:
    """What an export must write."""
    shell.imports(
        "batches",
        shell.write("b.csv", "ref,sku,qty,expires,location", 'b1,"CHAIR, RED",100,2199-12-31,hamburg', "b2,Größe,100"),
    )
    rows = [f'o{9 - number},{number},"CHAIR, RED",{number}' for number in range(1, 5)] + ["o1,,Größe,7"]
    shell.imports("orders", shell.write("o.csv", "orderid,lineid,sku,qty", *rows))
    with shell.engine.begin() as connection:  # so that the rows do not lie on the disk in their order
        connection.execute(text("UPDATE allocations_view SET qty = qty WHERE lineid = '1'"))
    batches = {"b1": "2199-12-31,hamburg", "b2": ","}
    header = "orderid,lineid,sku,qty,batchref,expires,location"
    return [header, *(f"{row},b1,{batches['b1']}" for row in rows[:4]), f"o1,Größe,Größe,7,b2,{batches['b2']}"]


def test_exports_allocated_lines_in_the_order_of_allocation(shell: Shell, allocated: list[str]) -> None:
    file = shell.folder / "out.csv"
    result = shell.exports(file)
    assert result.output == "5 allocated lines written\n"
    assert file.read_text(encoding="utf-8").splitlines() == allocated


def test_what_is_exported_can_be_imported(shell: Shell, allocated: list[str]) -> None:
    file = shell.folder / "out.csv.gz"
    shell.exports(file)
    assert gzip.decompress(file.read_bytes()).decode().splitlines() == allocated
    assert shell.imports("orders", file).stdout == "0 allocated, 0 out of stock, 5 already there, 0 refused\n"


def test_what_a_spreadsheet_would_run_is_exported_as_text_and_can_be_imported(shell: Shell) -> None:
    names = ["=1+1", "+1", "-1", "@SUM(A1)", "'=a", "'a"]
    batches = [f"b{name},{name},10" for name in names]
    shell.imports("batches", shell.write("b.csv", "ref,sku,qty", *(row.replace(",'=", ",''=") for row in batches)))
    shell.imports(
        "orders", shell.write("o.csv", "orderid,sku,qty", *(f"o1,{name},1".replace(",'=", ",''=") for name in names))
    )

    file = shell.folder / "out.csv"
    shell.exports(file)
    cells = [cell for line in file.read_text().splitlines() for cell in line.split(",")]
    assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in cells)
    assert shell.ask("SELECT string_agg(sku, ' ' ORDER BY position) FROM allocations_view") == " ".join(names)
    assert shell.imports("orders", file).stdout == "0 allocated, 0 out of stock, 6 already there, 0 refused\n"


def test_exports_to_standard_output(shell: Shell, allocated: list[str]) -> None:
    result = shell.exports("-")
    assert result.stdout.splitlines() == allocated
    assert result.stderr == "5 allocated lines written\n"


def test_an_export_that_fails_leaves_the_older_file_as_it_was(shell: Shell, allocated: list[str]) -> None:
    file = shell.write("out.csv", "what was there before")
    before = set(shell.folder.iterdir())
    with shell.engine.begin() as connection:
        connection.execute(text("ALTER TABLE allocations_view RENAME TO gone"))
    result = shell.exports(file)
    assert isinstance(result.exception, Unavailable)
    assert file.read_text() == "what was there before\n"
    assert set(shell.folder.iterdir()) == before


def test_an_export_keeps_the_permissions_of_the_file_it_replaces(shell: Shell, allocated: list[str]) -> None:
    file = shell.write("out.csv", "what was there before")
    file.chmod(0o600)
    shell.exports(file)
    assert file.read_text(encoding="utf-8").splitlines() == allocated
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_export_writes_through_no_link_that_somebody_has_put_into_its_folder(
    shell: Shell, allocated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = shell.write("victim", "not for us")
    monkeypatch.setattr(whole_files, "token_hex", lambda _: str(os.getpid()))
    (shell.folder / f".out.csv.{os.getpid()}.part").symlink_to(victim)

    result = shell.exports(shell.folder / "out.csv")

    assert isinstance(result.exception, FileExistsError | SystemExit)
    assert victim.read_text() == "not for us\n"
    assert not (shell.folder / "out.csv").exists()

    monkeypatch.undo()
    shell.exports(shell.folder / "out.csv")
    assert (shell.folder / "out.csv").read_text(encoding="utf-8").splitlines() == allocated
    assert not (shell.folder / "out.csv").is_symlink()
    assert victim.read_text() == "not for us\n"


def test_an_export_and_the_catalogue_follow_no_link_of_another_and_follow_our_own(
    shell: Shell, allocated: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)  # so what is ours is another's
    victim = shell.write("victim", "not for us")
    folder = shell.folder / "catalogue"
    (folder / "schemas").mkdir(parents=True)
    planted = (shell.folder / "out.csv", folder / "asyncapi.json", folder / "schemas" / "line_allocated.json")
    for link in planted:
        link.symlink_to(victim)

    shell.exports(shell.folder / "out.csv")
    written = CliRunner().invoke(main, ["catalogue", str(folder)])

    assert written.exit_code == 0, written.output
    assert victim.read_text() == "not for us\n"
    assert not any(link.is_symlink() for link in planted)
    assert planted[0].read_text(encoding="utf-8").splitlines() == allocated

    (folder / "schemas").rename(folder / "old")
    (folder / "schemas").symlink_to(shell.folder)
    refused = CliRunner().invoke(main, ["catalogue", str(folder)])
    assert refused.output.endswith("schemas: it is a link that somebody else has made\n")

    monkeypatch.undo()
    (shell.folder / "ours.csv").symlink_to(shell.folder / "real.csv")
    shell.exports(shell.folder / "ours.csv")
    assert (shell.folder / "ours.csv").is_symlink()
    assert (shell.folder / "real.csv").read_text(encoding="utf-8").splitlines() == allocated


def test_an_export_never_replaces_a_pipe_or_a_device(shell: Shell, allocated: list[str]) -> None:
    pipe = shell.folder / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = Thread(target=lambda: read.extend(pipe.read_text(encoding="utf-8").splitlines()))
    reader.start()
    shell.exports(pipe)
    reader.join()
    assert read == allocated
    assert pipe.is_fifo()


def test_says_why_a_file_cannot_be_written(shell: Shell) -> None:
    result = shell.exports(shell.folder / "nowhere" / "out.csv")
    assert result.exit_code == 1
    assert result.stderr == f"Error: can't write {shell.folder}/nowhere/out.csv: No such file or directory\n"


# --- real data, where it is there --------------------------------------------

if NORTHWIND_BATCHES.exists() and NORTHWIND_LINES.exists():
    NORTHWIND_COLUMNS = ("--map", "orderid=order_id", "--map", "lineid=line_no")

    def test_leaves_what_northwind_had_in_stock_when_all_that_it_shipped_is_allocated(shell: Shell) -> None:
        shell.imports("batches", NORTHWIND_BATCHES, "--map", "ref=batch_ref", "--where", "scenario=replay")
        shipped: list[str | Path] = ["orders", NORTHWIND_LINES, *NORTHWIND_COLUMNS, "--where", "shipped_date!="]
        counts = "2,082 allocated, 0 out of stock, 0 already there, 0 refused"
        assert shell.imports(*shipped, "--dry-run").stdout == f"{counts} (dry run: nothing was changed)\n"
        assert shell.imports(*shipped).stdout == f"{counts}\n"
        assert shell.ask("SELECT sum(purchased_quantity - allocated_quantity) FROM batches") == 3_119
        assert shell.books_balance()

        before = shell.contents()
        assert shell.imports(*shipped).stdout == "0 allocated, 0 out of stock, 2,082 already there, 0 refused\n"
        assert shell.contents() == before

    def test_has_no_stock_for_sixteen_of_the_lines_that_northwind_had_open(shell: Shell) -> None:
        shell.imports("batches", NORTHWIND_BATCHES, "--map", "ref=batch_ref", "--where", "scenario=snapshot")
        still_open: list[str | Path] = ["orders", NORTHWIND_LINES, *NORTHWIND_COLUMNS, "--where", "shipped_date="]
        sold_out_and_not_on_order = [
            "row 2088: out of stock: Invalid sku NW-17",
            "row 2093: out of stock: Invalid sku NW-53",
        ]
        assert shell.imports(*still_open).stdout.splitlines() == [
            *sold_out_and_not_on_order,
            "57 allocated, 16 out of stock, 0 already there, 0 refused",
        ]
        assert shell.books_balance()


if RETAIL_BATCHES.exists() and RETAIL_LINES.exists():

    def test_allocates_a_retail_stream_line_by_line_by_the_rule(shell: Shell) -> None:
        with gzip.open(RETAIL_LINES, "rt", encoding="utf-8") as file:
            sales = (row for row in csv.DictReader(file) if row["kind"] == "sale")
            lines = list(islice(sales, 3_000))
        asked_for = {row["sku"] for row in lines}
        with gzip.open(RETAIL_BATCHES, "rt", encoding="utf-8") as file:
            early = islice(csv.DictReader(file), 6_000)
            batches = [row for row in early if row["sku"] in asked_for]
        file_of_batches = shell.folder / "batches.csv"
        with file_of_batches.open("w", newline="") as file:
            writer = csv.DictWriter(file, batches[0])
            writer.writeheader()
            writer.writerows(batches)

        shell.imports("batches", file_of_batches, "--map", "ref=batch_ref")
        mapped = ["--map", "orderid=order_id", "--map", "lineid=seq", "--where", "kind=sale"]
        result = shell.imports("orders", RETAIL_LINES, *mapped, "--limit", "3000")

        by_the_rule = allocated_by_the_rule(batches, lines)
        out_of_stock = len(lines) - len(by_the_rule)
        assert result.stdout == (
            f"{len(by_the_rule):,} allocated, {out_of_stock} out of stock, 0 already there, 0 refused\n"
        )
        assert [row[:5] for row in csv.reader(shell.exports("-").stdout.splitlines()[1:])] == by_the_rule
        assert shell.books_balance()


def allocated_by_the_rule(batches: list[dict[str, str]], lines: list[dict[str, str]]) -> list[list[str]]:
    """What an export should hold: each line from the first batch with room, the warehouse first, then by eta."""
    preferred: dict[str, list[str]] = defaultdict(list)
    for batch in sorted(batches, key=lambda batch: batch["eta"]):
        preferred[batch["sku"]].append(batch["batch_ref"])
    room = {batch["batch_ref"]: int(batch["qty"]) for batch in batches}
    allocated = []
    for line in lines:
        qty = int(line["qty"])
        if ref := next((ref for ref in preferred[line["sku"]] if room[ref] >= qty), None):
            room[ref] -= qty
            allocated.append([line["order_id"], line["seq"], line["sku"], line["qty"], ref])
    return allocated
