"""A message with an id takes effect once, and is answered the same whenever it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest

from allocation.bootstrap import Service, bootstrap
from allocation.config import Settings
from allocation.domain import commands
from allocation.domain.commands import Command
from allocation.domain.errors import BatchConflict, DomainError, InvalidSku, LineConflict, UnknownBatch
from allocation.service_layer.ports import UnitOfWork
from messaging.bus import MessageBus
from messaging.envelope import Outcome, Request
from messaging.errors import Disconnected, MessageIdReused, OutcomeUnknown, RequestInProgress, Unavailable
from messaging.retry import Retry

AtOnce = Callable[..., list[Any]]
Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def other_process(settings: Settings) -> Iterator[Service]:
    service = bootstrap(settings, connections=8)
    yield service
    service.close()


def given(service: Service, *asked: Command) -> None:
    for command in asked:
        service.bus.handle(command)


def out_of_stock_events(sql: Sql) -> int:
    [(number,)] = sql("SELECT count(*) FROM event_log WHERE type = 'out_of_stock.v1'")
    return int(number)


# --- once --------------------------------------------------------------------


def test_the_same_message_by_many_at_once_takes_effect_once(
    service: Service, other_process: Service, at_once: AtOnce, sql: Sql
) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    ask = commands.Allocate("o1", "LAMP", 6)

    answers = at_once(
        *(partial(one.bus.handle, ask, message_id="m1") for one in (service, other_process) for _ in range(6))
    )

    assert answers == [None] * 12
    assert out_of_stock_events(sql) == 1


def test_many_messages_at_once_do_not_disturb_each_other(service: Service, at_once: AtOnce, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 100))

    answers = at_once(
        *(
            partial(service.bus.handle, commands.Allocate(f"o{number}", "LAMP", 1), message_id=f"m{number}")
            for number in (0, 1, 2, 3, 0, 1, 2, 3)
        )
    )

    assert answers == ["b1"] * 8
    assert sql("SELECT allocated_quantity FROM batches") == [(4,)]


def test_without_an_id_every_message_counts(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))

    given(service, commands.Allocate("o1", "LAMP", 6), commands.Allocate("o1", "LAMP", 6))

    assert out_of_stock_events(sql) == 2


# --- the first answer stands -------------------------------------------------


def test_the_first_answer_stands_though_the_world_has_changed(service: Service, other_process: Service) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    assert service.bus.handle(commands.Allocate("o1", "LAMP", 6), message_id="m1") is None
    assert service.bus.handle(commands.Allocate("o2", "LAMP", 5), message_id="m2") == "b1"

    given(service, commands.CreateBatch("b2", "LAMP", 50), commands.ChangeBatchQuantity("b1", 0))

    for one in (service, other_process):
        assert one.bus.handle(commands.Allocate("o1", "LAMP", 6), message_id="m1") is None
        assert one.bus.handle(commands.Allocate("o2", "LAMP", 5), message_id="m2") == "b1"
    for ask in (commands.Allocate("o1", "LAMP", 6), commands.Allocate("o2", "LAMP", 5)):
        assert service.bus.handle(ask) == "b2", "without an id it is asked anew"


@pytest.mark.parametrize(
    ("refused", "kind", "text", "remedy"),
    [
        (
            commands.Allocate("o9", "CHAIR", 1),
            InvalidSku,
            "Invalid sku CHAIR",
            [commands.CreateBatch("b9", "CHAIR", 5)],
        ),
        (
            commands.ChangeBatchQuantity("b9", 1),
            UnknownBatch,
            "Unknown batch b9",
            [commands.CreateBatch("b9", "LAMP", 5)],
        ),
        (
            commands.CreateBatch("b1", "LAMP", 7),
            BatchConflict,
            "Batch b1 exists already, created with 5 of LAMP, eta none (in the warehouse); asked for: qty 7",
            [],
        ),
        (
            commands.Allocate("o1", "LAMP", 2, "line-1"),
            LineConflict,
            "Line line-1 of order o1 is allocated already with 1 of LAMP",
            [commands.ChangeBatchQuantity("b1", 0), commands.ChangeBatchQuantity("b1", 9)],
        ),
    ],
)
def test_a_refusal_stands_too_with_its_type_and_text(
    service: Service, refused: Command, kind: type[DomainError], text: str, remedy: list[Command]
) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5), commands.Allocate("o1", "LAMP", 1, "line-1"))
    with pytest.raises(kind):
        service.bus.handle(refused, message_id="m1")

    given(service, *remedy)

    with pytest.raises(kind) as repeated:
        service.bus.handle(refused, message_id="m1")
    assert type(repeated.value) is kind
    assert str(repeated.value) == text


def test_a_refusal_is_replayed_to_all_who_ask_at_once(service: Service, at_once: AtOnce, sql: Sql) -> None:
    ask = partial(service.bus.handle, commands.Allocate("o1", "CHAIR", 1), message_id="m1")

    answers = at_once(*[ask] * 8)

    assert [(type(answer), str(answer)) for answer in answers] == [(InvalidSku, "Invalid sku CHAIR")] * 8
    assert sql("SELECT message_id FROM inbox") == [("m1",)]


def test_the_same_id_with_another_body_is_refused_and_changes_nothing(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1")

    with pytest.raises(MessageIdReused, match="m1"):
        service.bus.handle(commands.Allocate("o1", "LAMP", 2), message_id="m1")

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1") == "b1"
    assert sql("SELECT count(*) FROM event_log") == [(2,)]


def test_ids_are_told_apart_by_every_byte(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 0))

    for message_id in ("é", "e\u0301", "É", " é"):
        service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id=message_id)

    assert out_of_stock_events(sql) == 4


# --- interrupted -------------------------------------------------------------

CUT_THE_CONNECTION_AT_COMMIT = """
    CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END';
    CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON inbox DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW EXECUTE FUNCTION cut();
"""


def test_what_was_cut_before_it_was_committed_runs_again_when_it_is_sent_again(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    sql(CUT_THE_CONNECTION_AT_COMMIT)
    with pytest.raises(Unavailable):
        service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1")
    assert sql("SELECT * FROM inbox") == []
    sql("DROP TRIGGER cut ON inbox")

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1") == "b1"

    assert sql("SELECT allocated_quantity FROM batches") == [(1,)]


def test_a_connection_that_breaks_at_the_commit_leaves_it_open_whether_it_was_one(service: Service, sql: Sql) -> None:
    sql(CUT_THE_CONNECTION_AT_COMMIT)

    with service.bus.unit_of_work() as uow:
        uow.inbox.remember("m1", "fingerprint", Outcome("done"))
        with pytest.raises(OutcomeUnknown):
            uow.commit()


def test_one_that_breaks_before_can_have_committed_nothing(service: Service, sql: Sql) -> None:
    def ask_on_a_broken_connection() -> None:
        with service.bus.unit_of_work() as uow:
            assert uow.inbox.recall("m1") is None
            sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
            uow.inbox.recall("m2")

    with pytest.raises(Disconnected):
        ask_on_a_broken_connection()


def losing_the_first_answer(service: Service, retry: Retry) -> MessageBus[UnitOfWork]:
    commits = count()

    @contextmanager
    def unit_of_work() -> Iterator[UnitOfWork]:
        with service.bus.unit_of_work() as uow:
            commit = uow.commit

            def commit_and_hear_nothing() -> None:
                commit()
                if not next(commits):
                    raise OutcomeUnknown("the connection is gone, and so is the answer to COMMIT")

            uow.commit = commit_and_hear_nothing  # type: ignore[method-assign]
            yield uow

    return replace(service.bus, unit_of_work=unit_of_work, retry=retry)


def test_what_was_cut_after_it_was_committed_is_answered_when_it_is_sent_again(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 0))
    hasty = losing_the_first_answer(service, Retry(outage_deadline=0))
    with pytest.raises(Unavailable):
        hasty.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1")
    assert out_of_stock_events(sql) == 1

    assert service.bus.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1") is None

    assert out_of_stock_events(sql) == 1


def test_the_log_tells_what_was_committed_when_nobody_else_did(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 0))
    bus = losing_the_first_answer(service, Retry())

    assert bus.handle(commands.Allocate("o1", "LAMP", 1)) is None, "without a message id"

    assert out_of_stock_events(sql) == 1


def test_what_is_still_at_work_is_not_begun_again(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    impatient = replace(service.bus, retry=Retry(conflict_deadline=0.05, outage_deadline=0.05))

    with service.bus.unit_of_work() as at_work:
        assert at_work.inbox.recall("m1") is None
        with pytest.raises(RequestInProgress, match="m1"):
            impatient.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1")
        assert impatient.handle(commands.Allocate("o2", "LAMP", 1), message_id="m2") == "b1", "another does not wait"

    assert impatient.handle(commands.Allocate("o1", "LAMP", 1), message_id="m1") == "b1"


def test_the_lock_on_a_message_goes_with_its_transaction(service: Service, sql: Sql) -> None:
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"

    with service.bus.unit_of_work() as uow:
        uow.inbox.recall("m1")
        assert sql(locks) == [(1,)]

    assert sql(locks) == [(0,)], "though the connection is kept for others"


def test_one_of_a_group_is_answered_from_the_inbox_and_the_others_run(service: Service, sql: Sql) -> None:
    given(service, commands.CreateBatch("b1", "LAMP", 5))
    first = Request(commands.Allocate("o1", "LAMP", 6), message_id="m1")
    service.bus.handle_together([first])

    outcomes = service.bus.handle_together([first, Request(commands.Allocate("o2", "LAMP", 2), message_id="m2"), first])

    assert [outcome.result for outcome in outcomes] == [None, "b1", None]
    assert out_of_stock_events(sql) == 1
