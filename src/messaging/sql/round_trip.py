"""Statements that go to the server in one packet, and come back with all their answers.

The driver's own pipeline sends each statement as it comes, and holds Python's global lock while the system takes it:
with eight threads that was two fifths of the time in which any of them ran. So this speaks to libpq, through the
driver's documented `psycopg.pq`, and leaves to the driver what it is best at: connections, errors, and reading rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import count
from select import POLLIN, POLLOUT, poll
from typing import Any, TypeAlias

import psycopg
from psycopg.adapt import Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ConnStatus, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult

from messaging.sql.errors import is_not_prepared

Driver: TypeAlias = psycopg.Connection[Any]
Rows: TypeAlias = list[tuple[Any, ...]]
Sent: TypeAlias = tuple[str, Sequence[bytes]]
"""A statement, and its parameters as encoded texts for `$1` and so on."""

_ROLLBACK: Sent = ("ROLLBACK", ())

MOST_PREPARED = 100
"""Statements on one connection, each of which the server keeps with its plan. What is written to other combinations of
tables, seldom, is not prepared."""


class RoundTrips:
    """Over one connection, for as long as that lives: remembers which statements are prepared there."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._prepared: dict[str, bytes] = {}
        self._names = (b"together_%d" % number for number in count())

    @property
    def in_transaction(self) -> bool:
        return self._driver.pgconn.transaction_status != TransactionStatus.IDLE

    def roll_back(self) -> None:
        """If a transaction is open. The driver would also have the server forget all that is prepared."""
        if self._driver.pgconn.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            with suppress(psycopg.Error):  # then the connection is lost, and the transaction with it
                self.go(_ROLLBACK)

    def go(self, *statements: Sent) -> list[Rows]:
        """The rows of each. Raises psycopg.Error for the first that fails; those after it were not carried out."""
        pgconn = self._driver.pgconn
        try:
            pgconn.enter_pipeline_mode()
            new_names = [self._send(pgconn, *statement) for statement in statements]
            pgconn.pipeline_sync()
            results = iter(_results(pgconn))
            pgconn.exit_pipeline_mode()
        except BaseException:  # left in the middle, so nobody can use it any more
            self._driver.close()
            raise
        return [self._judge(text, name, results) for (text, _), name in zip(statements, new_names, strict=True)]

    def _send(self, pgconn: PGconn, text: str, values: Sequence[bytes]) -> bytes:
        """The name under which it is being prepared, if it is. Nothing leaves before the sync, unless it is much."""
        if known := self._prepared.get(text):
            pgconn.send_query_prepared(known, values)
            return b""
        if not values or self._driver.prepare_threshold is None or len(self._prepared) >= MOST_PREPARED:
            pgconn.send_query_params(text.encode(), values or None)
            return b""
        name = next(self._names)
        pgconn.send_prepare(name, text.encode())
        pgconn.send_query_prepared(name, values)
        return name

    def _judge(self, text: str, new_name: bytes, results: Iterator[PGresult]) -> Rows:
        if new_name:
            self._require_success(next(results))
            self._prepared[text] = new_name
        result = next(results)
        self._require_success(result)
        if result.status != ExecStatus.TUPLES_OK:
            return []
        transformer = Transformer(self._driver)
        transformer.set_pgresult(result)
        return transformer.load_rows(0, result.ntuples, tuple)

    def _require_success(self, result: PGresult) -> None:
        if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK):
            error = error_from_result(result, encoding=self._driver.info.encoding)
            if is_not_prepared(error):
                self._prepared.clear()
            raise error


def _results(pgconn: PGconn) -> list[PGresult]:
    """All up to the sync; of those after a failed one the status says so."""
    results: list[PGresult] = []
    readiness = poll()
    readiness.register(pgconn.socket, POLLIN | POLLOUT)
    sending = True
    while True:
        if sending and not (sending := bool(pgconn.flush())):
            readiness.modify(pgconn.socket, POLLIN)
        readiness.poll()
        pgconn.consume_input()
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:  # it stands between the results of two statements; where no other comes, all is lost
                if pgconn.status != ConnStatus.OK:
                    break
            elif result.status == ExecStatus.PIPELINE_SYNC:
                return results
            else:
                results.append(result)
