"""What the command line says of itself, and of what it is not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias
from unittest.mock import Mock

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from psycopg import OperationalError
from psycopg.errors import DiskFull
from sqlalchemy.exc import DBAPIError, ProgrammingError

from allocation.config import Settings
from allocation.entrypoints.bulk import session
from allocation.entrypoints.bulk.importing import RowResult
from allocation.entrypoints.bulk.kinds import Result as RowOutcome
from allocation.entrypoints.cli import main
from allocation.entrypoints.command_line.addresses import api_url, without_password
from allocation.entrypoints.command_line.group import SECTIONS, CommandLine
from allocation.entrypoints.command_line.processes import Part, Processes
from allocation.entrypoints.command_line.watch import watch
from messaging.errors import BrokerUnavailable, Disconnected, Unavailable

ORDERS = "orders.csv"
WITHOUT_RESULT = {"serve", "relay", "consume", "completion"}


def ask(*arguments: str, **env: str) -> Result:
    return CliRunner(env={"LOG_LEVEL": "ERROR", **env}).invoke(main, arguments)


def commands(group: click.Group, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], click.Command]:
    found: dict[tuple[str, ...], click.Command] = {}
    for name, command in group.commands.items():
        found |= commands(command, (*path, name)) if isinstance(command, click.Group) else {(*path, name): command}
    return found


every_command = pytest.mark.parametrize(
    ("path", "command"), commands(main).items(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)


def test_what_a_subcommand_needs_is_not_imported_before_it_runs() -> None:
    script = "import sys; import allocation.entrypoints.cli; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlalchemy", "psycopg", "redis", "flask", "pydantic", "alembic", "granian"} & set(modules)


def test_help_lists_the_commands_by_what_they_are_for() -> None:
    help_text = ask("--help").output

    places = [help_text.index(f"\n{title}:\n") for title in SECTIONS]
    assert places == sorted(places)
    for names in SECTIONS.values():
        for name in names:
            assert f"\n  {name} " in help_text


def test_help_names_every_setting() -> None:
    said = ask("--help").output

    assert not [name for name in Settings().as_environment({}) if not re.search(rf"\b{name}\b", said)]


def test_a_command_in_no_section_is_listed_all_the_same() -> None:
    group = CommandLine("ours", commands={"run": click.Command("run"), "new": click.Command("new", help="Do.")})

    assert "More:\n  new  Do." in CliRunner().invoke(group, ["--help"]).output


@every_command
def test_every_command_and_option_is_explained(path: tuple[str, ...], command: click.Command) -> None:
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or (isinstance(parameter, click.Option) and parameter.help), path


@every_command
def test_every_command_that_prints_a_result_can_print_it_as_json(path: tuple[str, ...], command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}

    assert ("--json" in options) == (path[0] not in WITHOUT_RESULT)


def test_the_version_is_told() -> None:
    assert ask("--version").output.startswith("allocation, version ")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["statsu"], "status"), (["dead-letter", "list"], "dead-letters"), (["import", "order"], "orders")],
)
def test_what_is_not_a_command_is_answered_with_the_nearest(typed: list[str], meant: str) -> None:
    result = ask(*typed)

    assert result.exit_code == 2
    assert meant in result.output.splitlines()[-1]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (["nix"], "No such command 'nix'; see main --help"),
        (["import", "order"], "No such command 'order'. Did you mean 'orders'? Or see main import --help"),
        (["status", "--nix"], "No such option '--nix'; see main status --help"),
        (["watch", "--since"], "Option '--since' requires an argument; see main watch --help"),
        (
            ["completion"],
            "Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish; see main completion --help",
        ),
        (
            ["demo", "--url", "nonsense"],
            "Invalid value for '--url': 'nonsense' is no URL such as http://127.0.0.1:5005; see main demo --help",
        ),
    ],
)
def test_what_is_not_understood_is_one_line_that_leads_to_the_help(typed: list[str], said: str) -> None:
    result = ask(*typed)

    assert (result.exit_code, result.output) == (2, f"Error: {said}\n")


@pytest.mark.parametrize("url", ["127.0.0.1:5005", "ftp://x", "http://", "http://x:y", "http:///readyz", ""])
def test_what_is_no_url_is_not_asked(url: str) -> None:
    assert "is no URL such as" in ask("demo", "--url", url).output


def test_without_a_command_the_help_is_shown() -> None:
    result = ask()

    assert (result.exit_code, "Running:" in result.output) == (2, True)


def failing(error: BaseException, name: str = "look", settings: Settings | None = None) -> Result:
    @click.command(name)
    def fail() -> None:
        raise error

    return CliRunner().invoke(CommandLine("ours", commands={name: fail}), [name], obj=settings)


@pytest.mark.parametrize("name", ["look", "relay"])
def test_ctrl_c_ends_a_command_without_a_word(name: str) -> None:
    result = failing(KeyboardInterrupt(), name)

    assert (result.exit_code, result.output) == (130, "")


@pytest.mark.parametrize("name", ["look", "migrate"])
def test_ctrl_c_ends_a_command_without_a_word_also_where_cleaning_up_fails_by_it(name: str) -> None:
    error = RuntimeError("can't roll back what was interrupted")
    error.__context__ = ValueError()
    error.__context__.__context__ = KeyboardInterrupt()

    result = failing(error, name)

    assert (result.exit_code, result.output) == (130, "")


def test_whoever_has_read_enough_of_a_result_has_no_error() -> None:
    result = failing(BrokenPipeError())

    assert (result.exit_code, result.output) == (0, "")


def given_up(cause: Exception) -> Unavailable:
    """As the machinery says it."""
    error = Unavailable(f"given up after 3 tries: {cause}")
    error.__cause__ = Disconnected(str(cause))
    error.__cause__.__cause__ = cause
    return error


ELSEWHERE = Settings(database_url="postgresql://db/stock", redis_url="redis://cache/0")


UNREACHABLE = [
    (given_up(OperationalError("refused")), "given up after 3 tries: refused; see DATABASE_URL"),
    (given_up(DBAPIError("", {}, OperationalError("refused"))), "; see DATABASE_URL"),
    (BrokerUnavailable("redis: Connection refused."), "redis: Connection refused; see REDIS_URL"),
    (given_up(DiskFull("disk full")), "given up after 3 tries: disk full"),
    (Unavailable("the schema is old; migrate it first"), "the schema is old; migrate it first"),
]


@pytest.mark.parametrize(("error", "said"), UNREACHABLE)
def test_who_can_not_connect_by_the_book_s_setting_is_told_of_that(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_HOST", "db")
    monkeypatch.setenv("REDIS_HOST", "cache")
    said = said.replace("DATABASE_URL", "DB_HOST").replace("REDIS_URL", "REDIS_HOST")

    assert said in failing(error, settings=ELSEWHERE).output


@pytest.mark.parametrize(("error", "said"), UNREACHABLE)
def test_who_can_not_connect_is_told_which_setting_says_where(error: Exception, said: str) -> None:
    result = failing(error, settings=ELSEWHERE)

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.endswith(f"{said}\n")


def test_servers_that_nobody_has_named_are_not_looked_for_in_a_setting() -> None:
    assert "DATABASE_URL" not in failing(given_up(OperationalError("refused")), settings=Settings()).output


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no\nsuch thing"), "a fault in the program, ValueError: no such thing"),
        (PermissionError(13, "Permission denied", "var"), "[Errno 13] Permission denied: 'var'"),
        (ProgrammingError("SELECT", {}, Exception("permission denied\nfor x")), "database: permission denied for x"),
    ],
)
def test_a_failure_is_one_line_and_never_a_traceback(error: Exception, said: str) -> None:
    result = failing(error)

    assert (result.exit_code, result.output) == (1, f"Error: {said} (LOG_LEVEL=DEBUG shows where)\n")


def test_what_works_for_long_ends_with_its_traceback_in_the_log() -> None:
    assert isinstance(failing(ValueError("why"), "relay").exception, ValueError)


# --- completion ----------------------------------------------------------------


def completed(*words: str) -> set[str]:
    *before, unfinished = words
    return {item.value for item in ShellComplete(main, {}, "allocation", "_X").get_completions(before, unfinished)}


def test_commands_and_options_are_completed() -> None:
    assert completed("st") == {"status"}
    assert completed("watch", "--s") == {"--sku", "--since"}
    assert completed("completion", "") == {"bash", "zsh", "fish"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_each_shell_asks_us(shell: str) -> None:
    result = ask("completion", shell)

    assert result.exit_code == 0
    assert f"_ALLOCATION_COMPLETE={shell}_complete" in result.output


# --- addresses -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://u:secret@db:5432/stock", "postgresql://u@db:5432/stock"),
        (
            "postgresql://db/stock?user=u&password=secret&sslmode=require",
            "postgresql://db/stock?user=u&sslmode=require",
        ),
        ("postgresql://u:secret@/stock?host=one:1&host=two:2", "postgresql://u@/stock?host=one:1&host=two:2"),
        ("redis://:secret@here:6379/0", "redis://here:6379/0"),
        ("redis://here:6379/0?password=secret", "redis://here:6379/0"),
        ("smtps://joe@x.org:secret@mail:465", "smtps://joe@x.org@mail:465"),
        ("redis+sentinel://:secret@one:1,two:2/name/0", "redis+sentinel://one:1,two:2/name/0"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80")],
)
def test_the_api_is_where_somebody_on_this_machine_finds_it(host: str, url: str) -> None:
    assert api_url(Settings(host=host, port=80)) == url


# --- what needs a service, and finds none ------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["demo"], "Error: no service answers at http://127.0.0.1:9: start one with `make run`\n"),
        (["watch"], "Error: no servers run in {home}: start them with `allocation run`\n"),
    ],
)
def test_says_in_a_line_that_nothing_runs(tmp_path: Path, command: list[str], said: str) -> None:
    result = ask(*command, ALLOCATION_HOME=str(tmp_path), PORT="9")

    assert (result.exit_code, result.output) == (1, said.format(home=tmp_path))
    assert not list(tmp_path.iterdir()), "nothing was started"


def test_status_starts_nothing_and_says_that_nothing_runs(tmp_path: Path) -> None:
    result = ask("status", ALLOCATION_HOME=str(tmp_path))

    assert result.exit_code == 1
    assert result.output.splitlines()[-1].startswith("nothing runs here: start all with `allocation run`")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("since", ["10", "m", "-5m", "1.5h", "10 m", "9999999d"])
def test_a_time_that_can_not_be_read_is_named(since: str) -> None:
    result: Any = CliRunner().invoke(watch, ["--since", since], obj=Settings())

    assert result.exit_code == 2
    assert "is not a duration such as 30s, 10m, 2h or 7d" in result.output


@pytest.mark.parametrize("command", ["watch", "orders"])
@pytest.mark.parametrize("since", ["100001d", "999999d"])
def test_a_time_before_the_calendar_is_named(command: str, since: str) -> None:
    result = ask(command, "--since", since)

    assert result.exit_code == 2
    assert f"Error: Invalid value for '--since': {since!r} is longer than 100000d" in result.output


@pytest.mark.parametrize(("since", "warned"), [("7d", False), ("8d", True)])
def test_who_asks_for_more_than_is_kept_is_told_so(tmp_path: Path, since: str, warned: bool) -> None:
    result = ask("watch", "--since", since, ALLOCATION_HOME=str(tmp_path), EVENTS_STAY="7d")

    assert ("only the last 7d are kept (EVENTS_STAY)" in result.stderr) == warned
    assert result.stdout == ""


def test_of_a_run_that_says_where_all_is_in_json_the_migration_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[dict[str, Any]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda _, **how: started.append(how))
    parts = Processes([], {})

    for is_heard in (True, False):
        parts._start(Part(["migrate"], is_heard=is_heard))

    assert [how["stdout"] for how in started] == [None, subprocess.DEVNULL]


def test_an_import_that_is_interrupted_before_its_first_row_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ORDERS).write_text("orderid,sku,qty\no1,LAMP,1\n")
    monkeypatch.setattr(session, "service", Mock(side_effect=KeyboardInterrupt))

    result = ask("import", "orders", str(tmp_path / ORDERS))

    assert (result.exit_code, result.output) == (130, "Error: interrupted before the first row. Nothing is done.\n")


ImportOf: TypeAlias = Callable[[Iterator[list[RowResult]]], Result]


@pytest.fixture
def import_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImportOf:
    """Imports two orders, of which these are the results."""
    (tmp_path / ORDERS).write_text("orderid,sku,qty\no1,LAMP,1\no2,LAMP,1\n")
    monkeypatch.setattr(session, "service", lambda _: nullcontext(Mock()))
    monkeypatch.setattr(session, "handling", lambda *_, **__: nullcontext(Mock()))

    def run(results: Iterator[list[RowResult]]) -> Result:
        monkeypatch.setattr(session, "Import", lambda *_: lambda _: results)
        return ask("import", "orders", str(tmp_path / ORDERS))

    return run


FIRST, SECOND = ([RowResult(row, RowOutcome.ALLOCATED, f"o{row - 1}")] for row in (2, 3))
INTERRUPTED = "Error: interrupted. Rows up to 2 are done; import the file again for the rest.\n"


def test_an_import_that_is_interrupted_later_says_how_far_it_is(import_of: ImportOf) -> None:
    def results() -> Iterator[list[RowResult]]:
        yield FIRST
        raise KeyboardInterrupt

    result = import_of(results())

    assert (result.exit_code, result.stdout.split(",")[0]) == (130, "1 allocated")
    assert result.stderr.endswith(INTERRUPTED)


class PressesCtrlC:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_an_import_though_python_swallows_it_in_a_finalizer(import_of: ImportOf) -> None:
    def results() -> Iterator[list[RowResult]]:
        PressesCtrlC()
        yield FIRST
        yield SECOND

    result = import_of(results())

    assert (result.exit_code, result.stdout.split(",")[0]) == (130, "1 allocated")
    assert result.stderr.endswith(INTERRUPTED)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_import_whose_shell_has_ctrl_c_ignored_goes_on(import_of: ImportOf) -> None:
    def results() -> Iterator[list[RowResult]]:
        signal.raise_signal(signal.SIGINT)
        yield FIRST

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        result = import_of(results())
    finally:
        signal.signal(signal.SIGINT, before)

    assert (result.exit_code, result.stdout.split(",")[0]) == (0, "1 allocated")
