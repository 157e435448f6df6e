"""What an error of the database means: run it again, ask whether it was committed, or tell a programmer."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import errors
from psycopg.pq import DiagnosticField

from messaging.errors import Disconnected, OutcomeUnknown
from messaging.sql.errors import translated


def answer(kind: type[psycopg.Error], severity: str = "ERROR") -> psycopg.Error:
    """As the driver makes it of what the server says."""
    return kind("no", info={DiagnosticField.SEVERITY_NONLOCALIZED: severity.encode()})


WITHOUT_MEANS = [errors.DiskFull, errors.OutOfMemory, errors.ConfigurationLimitExceeded, errors.IoError]
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
