"""What an error of the database means: run it again, ask whether it was committed, or tell a programmer."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from messaging.errors import AlreadyThere, Disconnected, NotAllowed, OutcomeUnknown, Unavailable
from messaging.sql.errors import translated


def answer(kind: type[psycopg.Error], severity: str = "ERROR") -> psycopg.Error:
    """As the driver makes it of what the server says."""
    return kind("no", info={DiagnosticField.SEVERITY_NONLOCALIZED: severity.encode()})


WITHOUT_MEANS = [errors.DiskFull, errors.OutOfMemory, errors.ConfigurationLimitExceeded, errors.IoError]


def violated(constraint: str) -> psycopg.Error:
    return errors.UniqueViolation("no", info={DiagnosticField.CONSTRAINT_NAME: constraint.encode()})


@pytest.mark.parametrize("constraint", ["event_log_pkey", "order_lines_p3_pkey", "dead_letters_message"])
def test_a_key_that_another_writer_has_made_means_that_somebody_was_faster(constraint: str) -> None:
    assert type(translated(violated(constraint))) is AlreadyThere


@pytest.mark.parametrize("constraint", ["receipts_number_key", ""])
def test_any_other_unique_key_is_a_rule_that_was_broken(constraint: str) -> None:
    assert translated(violated(constraint)) is None


@pytest.mark.parametrize(
    "kind",
    [
        *(errors.UndefinedTable, errors.UndefinedColumn, errors.UndefinedFunction, errors.DatatypeMismatch),
        errors.InvalidColumnReference,  # a key is not there yet, as in the midst of a pg_restore
        *(
            errors.WrongObjectType,
            errors.ObjectNotInPrerequisiteState,
            errors.FeatureNotSupported,
            errors.NotNullViolation,
        ),
    ],
)
def test_another_schema_is_waited_for(kind: type[psycopg.Error]) -> None:
    meaning = translated(answer(kind))

    assert type(meaning) is Unavailable
    assert "migrate it first" in str(meaning)


def test_rights_that_were_not_granted_are_waited_for() -> None:
    meaning = translated(answer(errors.InsufficientPrivilege))

    assert type(meaning) is NotAllowed
    assert "grant it" in str(meaning)


BROKEN = [errors.InternalError_, errors.DataCorrupted, errors.CheckViolation]


@pytest.mark.parametrize("committing", [False, True])
@pytest.mark.parametrize("kind", WITHOUT_MEANS)
def test_a_server_without_means_has_rolled_back_and_may_do_it_later(
    kind: type[psycopg.Error], committing: bool
) -> None:
    assert type(translated(answer(kind), committing=committing)) is Disconnected


@pytest.mark.parametrize("severity", ["PANIC", "FATAL"])
@pytest.mark.parametrize("kind", [*WITHOUT_MEANS, errors.InternalError_])
def test_who_falls_over_while_committing_may_have_committed(kind: type[psycopg.Error], severity: str) -> None:
    assert type(translated(answer(kind, severity), committing=True)) is OutcomeUnknown
    assert type(translated(answer(kind, severity))) is Disconnected


@pytest.mark.parametrize("kind", BROKEN)
def test_what_will_not_get_better_by_itself_is_not_hidden(kind: type[psycopg.Error]) -> None:
    assert translated(answer(kind)) is None
    assert translated(answer(kind), committing=True) is None
