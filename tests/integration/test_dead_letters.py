"""What was given up is listed, tried again or dropped, and the data is consistent either way."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import text

from allocation.bootstrap import Service, bootstrap
from allocation.check import Difference, check_consistency
from allocation.config import Settings
from allocation.domain import commands
from allocation.entrypoints.cli import main
from allocation.entrypoints.command_line import dead_letters as dead_letters_command
from allocation.entrypoints.redis_eventconsumer import handle
from allocation.service_layer.ports import Mail
from messaging.outbox.delivery import RetryPolicy

Sql = Callable[..., list[tuple[Any, ...]]]
MAIL = "send_out_of_stock_notification"


class Refusing:
    """A mail server that takes nothing, until it does."""

    def __init__(self) -> None:
        self.broken = True
        self.sent: list[str] = []

    def send(self, mail: Mail) -> None:
        if self.broken:
            raise ValueError("no such mailbox")
        self.sent.append(mail.body.splitlines()[2])


@pytest.fixture
def command(settings: Settings) -> Callable[..., Result]:
    """Runs `allocation dead-letters …` on the database of this test."""

    def run(*arguments: str) -> Result:
        return CliRunner(env=settings.as_environment({})).invoke(main, ["dead-letters", *arguments])

    return run


Command = Callable[..., Result]


def test_there_may_be_none(service: Service, command: Command) -> None:
    assert command("list").output == "There are no dead letters.\n"


def test_a_refused_message_is_listed_and_shown_whole(service: Service, command: Command) -> None:
    handle(service, b'{"batchref": "b1", "qty": 5, "note": "\xff"}')
    handle(service, b'{"batchref": "b1", "qty": 5}')

    first, second = (json.loads(line) for line in command("list", "--json").output.splitlines())
    assert (first["id"], first["body"]) == ("message:1", '{"batchref": "b1", "qty": 5, "note": "\\xff"}')
    assert (second["reason"], second["attempts"]) == ("Unknown batch b1", 1)
    assert "Unknown batch b1" in command("list").output
    assert json.loads(command("show", "message:2", "--json").output) == second
    assert "body             {" in command("show", "message:2").output


def test_what_a_stranger_has_sent_can_not_clear_the_screen(service: Service, command: Command) -> None:
    handle(service, b'\x1b[2J\xc2\x9b{"batchref": "b1"}')

    for shown in (command("list"), command("show", "message:1"), command("retry", "message:1")):
        assert "\x1b" not in shown.output
    in_json = command("show", "message:1", "--json").output
    assert in_json.rstrip("\n").isprintable()
    assert json.loads(in_json)["body"].startswith("\x1b[2J\x9b{")
    assert "\\x1b[2J" in command("show", "message:1").output


def test_a_message_that_is_refused_again_stays_and_one_that_is_not_has_its_effect_once(
    service: Service, command: Command, sql: Sql
) -> None:
    handle(service, b'{"batchref": "b1", "qty": 5}')

    again = command("retry", "message:1")

    assert (again.exit_code, again.output) == (1, "message:1: Unknown batch b1\n")
    assert sql("SELECT attempts FROM dead_letters") == [(2,)]

    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    assert command("retry", "--all").output == "message:1: handled\n"

    assert sql("SELECT purchased_quantity FROM batches") == [(5,)]
    assert command("list").output == "There are no dead letters.\n"


def test_one_whose_first_try_is_still_at_work_keeps_no_other_from_being_tried(
    service: Service, command: Command, sql: Sql
) -> None:
    handle(service, b'{"batchref": "b1", "qty": 5}')
    handle(service, b'{"batchref": "b2", "qty": 6}')
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    service.bus.handle(commands.CreateBatch("b2", "TABLE", 10))

    with service.engine.connect() as first_try:
        first_try.execute(text("SELECT pg_advisory_lock(hashtextextended('dead-letter:1:1', 0))"))
        retried = command("retry", "--all")
        first_try.execute(text("SELECT pg_advisory_unlock_all()"))

    still_at_work = "message:1: its first try is still at work; retry it in a moment"
    assert (retried.exit_code, retried.output) == (1, f"{still_at_work}\nmessage:2: handled\n")
    assert sql("SELECT attempts FROM dead_letters") == [(1,)], "the next try has the same id, and so one effect"
    assert command("retry", "--all").output == "message:1: handled\n"


def test_what_became_of_a_letter_is_said_in_json_too(service: Service, command: Command) -> None:
    handle(service, b'{"batchref": "b1", "qty": 5}')

    again = json.loads(command("retry", "--all", "--json").output)
    dropped = json.loads(command("drop", "message:1", "--json").output)

    assert again == {"id": "message:1", "outcome": "Unknown batch b1"}
    assert dropped == {"id": "message:1", "outcome": "dropped"}


def test_a_retry_that_was_cut_before_it_was_written_down_is_safe_to_repeat(
    service: Service, command: Command, sql: Sql
) -> None:
    handle(service, b'{"batchref": "b1", "qty": 5}')
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 10))
    sql("CREATE TABLE kept AS SELECT * FROM dead_letters")
    command("retry", "message:1")
    service.bus.handle(commands.ChangeBatchQuantity("b1", 8))
    sql("INSERT INTO dead_letters OVERRIDING SYSTEM VALUE SELECT * FROM kept")

    assert command("retry", "message:1").output == "message:1: handled\n"

    assert sql("SELECT purchased_quantity FROM batches") == [(8,)], "it had its effect already"


@pytest.fixture
def mails() -> Refusing:
    return Refusing()


@pytest.fixture
def relaying(settings: Settings, mails: Refusing) -> Iterator[Callable[[], None]]:
    service = bootstrap(settings, notifications=mails)
    object.__setattr__(service.relay, "retry_policy", RetryPolicy(first_wait=0, longest_wait=0, most_faults=2))

    def deliver() -> None:
        for _ in range(5):
            service.relay.deliver(MAIL)

    yield deliver
    service.close()


def out_of_stock(service: Service, *orders: str) -> None:
    service.bus.handle(commands.CreateBatch("b1", "LAMP", 0))
    for order in orders:
        service.bus.handle(commands.Allocate(order, "LAMP", 1))


def test_a_dead_effect_is_tried_again_and_those_behind_it_follow_in_order(
    service: Service, command: Command, relaying: Callable[[], None], mails: Refusing
) -> None:
    out_of_stock(service, "o1", "o2", "o3")
    relaying()
    [letter] = [json.loads(line) for line in command("list", "--json").output.splitlines()]
    assert letter["id"] == f"effect:{MAIL}:2:LAMP"
    assert (letter["attempts"], letter["reason"], letter["waiting_behind"]) == (2, "ValueError('no such mailbox')", 2)
    assert letter["event"]["type"] == "out_of_stock.v1"
    assert letter["event"]["data"] == {"orderid": "o1", "sku": "LAMP", "qty": 1, "lineid": "LAMP"}
    assert "'orderid': 'o1'" in command("show", letter["id"]).output, "the whole message"

    mails.broken = False
    assert command("retry", letter["id"]).output == f"{letter['id']}: the relay will try again\n"
    relaying()

    assert [line[:8] for line in mails.sent] == ["Order o1", "Order o2", "Order o3"]


def test_a_dropped_effect_never_happens_those_behind_it_go_on_and_the_books_balance(
    service: Service, command: Command, relaying: Callable[[], None], mails: Refusing, sql: Sql
) -> None:
    out_of_stock(service, "o1", "o2")
    relaying()
    mails.broken = False

    assert command("drop", "--all", "--yes").output == f"effect:{MAIL}:2:LAMP: dropped\n"
    assert sql("SELECT delivered_version, delivered_count FROM deliveries WHERE effect = :mail", mail=MAIL) == [(2, 1)]
    relaying()

    assert [line[:8] for line in mails.sent] == ["Order o2"]
    [(version, reason, by)] = sql("SELECT version, reason, dropped_by FROM dropped_effects")
    assert (version, reason, bool(by)) == (2, "ValueError('no such mailbox')", True)
    found: list[Difference] = []
    assert check_consistency(service.engine, found.append).is_consistent, found


def test_what_is_tried_again_may_fail_as_often_as_before(
    service: Service, command: Command, relaying: Callable[[], None], sql: Sql
) -> None:
    out_of_stock(service, "o1")
    relaying()
    command("retry", "--all")

    relaying()

    assert sql("SELECT attempts, dead_at IS NOT NULL FROM outbox WHERE effect = :mail", mail=MAIL) == [(4, True)]


def test_what_is_alive_again_can_not_be_dropped(service: Service, relaying: Callable[[], None], sql: Sql) -> None:
    out_of_stock(service, "o1")
    relaying()
    [dead] = service.dead_letters.effects()
    service.dead_letters.retry_effect(dead)

    service.dead_letters.drop_effect(dead, by="someone who has not looked again")

    assert sql("SELECT version FROM outbox WHERE effect = :mail", mail=MAIL) == [(2,)]
    assert sql("SELECT * FROM dropped_effects") == []


def test_an_unknown_letter_is_said_to_be_unknown(service: Service, command: Command) -> None:
    answer = command("show", "message:99")

    assert answer.exit_code == 1
    assert "there is no dead letter message:99" in answer.output


def test_all_are_dropped_only_by_who_says_so(
    service: Service, command: Command, relaying: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("drop", "--all").exit_code == 0, "there is nothing to ask about"
    out_of_stock(service, "o1")
    relaying()

    refused = command("drop", "--all")
    assert (refused.exit_code, "--all drops 1 for good; say --yes" in refused.output) == (2, True)
    asked: list[str] = []
    monkeypatch.setattr(dead_letters_command, "sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text))
    assert len(service.dead_letters.effects()) == 1

    assert command("drop", "--all").exit_code == 0
    assert asked == ["Drop 1 dead letters for good?"]
    assert service.dead_letters.effects() == []


def test_one_or_all_must_be_named(service: Service, command: Command) -> None:
    assert command("retry").exit_code == 2
    assert command("drop", "message:1", "--all").exit_code == 2
