"""ETags: whoever has an answer already need not get it again, and whoever changes a batch says what they have seen.

An ETag of a batch is its revision: all that ever changes in it. So a batch can be compared with it where it is changed,
inside the transaction.
"""

from __future__ import annotations

import re

from flask import request
from werkzeug.exceptions import PreconditionFailed, PreconditionRequired

from allocation.domain.commands import Revision
from allocation.entrypoints.http import problems
from allocation.views import Batch

_ETAG = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})+")
_CHANGED = re.compile(r'(?:W/)?"([0-9]{1,18}(?:-[0-9]{1,18})+)(?:[-+;:.]+[A-Za-z]+)?"')


def etag_of(batch: Batch) -> str:
    parts = batch.held, batch.dispatched, batch.quarantined
    days = [day.toordinal() if day else 0 for day in (batch.eta, batch.expires)]
    return "-".join(map(str, (batch.qty, batch.qty - batch.available, *parts, *days)))


def seen() -> tuple[Revision, ...] | None:
    """The revisions of a batch that If-Match names, any of which will do; None: whatever it is.

    Raises PreconditionRequired, and PreconditionFailed for what a proxy that compresses answers has made of an ETag:
    such a one never matches (RFC 9110), however often the batch is read again.
    """
    if not request.if_match:
        raise PreconditionRequired(problems.NO_IF_MATCH)
    if request.if_match.star_tag:
        return None
    named = (_ETAG.fullmatch(etag) for etag in request.if_match.as_set())
    ours = tuple(sorted(tuple(map(int, found[0].split("-"))) for found in named if found))
    given = str(request.if_match)
    if not ours and (found := _CHANGED.search(given)):
        raise PreconditionFailed(
            f'{found[0]} is not the ETag that this service gave: a proxy has changed it on its way. Send "{found[1]}", '
            "or have the proxy leave ETags as they are"
        )
    return ours
