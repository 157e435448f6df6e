"""ETags: whoever has an answer already need not get it again, and whoever changes a batch says what they have seen.

An ETag of a batch is its revision: all that is ever changed in it. So a batch can be compared with it where it is
changed, inside the transaction. What has come about by the day alone is written behind it, and is nothing to compare.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flask import request
from werkzeug.exceptions import BadRequest, PreconditionFailed, PreconditionRequired

from allocation.domain.values import Revision
from allocation.entrypoints.http import problems
from allocation.views import Batch
from allocation.views.batches import State

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"[ \t,]*{_TAG}(?:[ \t]*,[ \t,]*{_TAG})*[ \t,]*")  # RFC 9110, 8.8.3 and 13.1.1
_OURS = re.compile(r'(?<!W/)"([0-9]{1,18}(?:-[0-9]{1,18})+)"')
_CHANGED = re.compile(r'(?:W/)?"([0-9]{1,18}(?:-[0-9]{1,18})+)(?:[-+;:.]+[A-Za-z]+)?"')
_NUMBERS = 7  # of a revision
_BY_THE_DAY: Mapping[State, int] = {"overdue": 1, "expired": 2}


def etag_of(batch: Batch) -> str:
    parts = batch.held, batch.dispatched, batch.quarantined
    days = [day.toordinal() if day else 0 for day in (batch.eta, batch.expires)]
    state = [_BY_THE_DAY[batch.state]] if batch.state in _BY_THE_DAY else []
    return "-".join(map(str, (batch.qty, batch.qty - batch.available, *parts, *days, *state)))


def seen() -> tuple[Revision, ...] | None:
    """The revisions of a batch that If-Match names, any of which will do; None: whatever it is.

    Raises PreconditionRequired; BadRequest for what is no list of ETags; and PreconditionFailed for what a proxy that
    compresses answers has made of one: such a one never matches (RFC 9110), however often the batch is read again.
    """
    given = request.headers.get("If-Match", "").strip()
    if not given:
        raise PreconditionRequired(problems.NO_IF_MATCH)
    if given == "*":
        return None
    if not _TAGS.fullmatch(given):
        raise BadRequest(f'If-Match: must be ETags as GET gives them, "…", with commas between, or *; not {given!r}')
    ours = tuple(sorted({_revision_in(tag) for tag in _OURS.findall(given)}))
    if not ours and (found := _CHANGED.search(given)):
        raise PreconditionFailed(
            f'{found[0]} is not the ETag that this service gave: a proxy has changed it on its way. Send "{found[1]}", '
            "or have the proxy leave ETags as they are"
        )
    return ours


def _revision_in(tag: str) -> Revision:
    *revision, last = map(int, tag.split("-"))
    return tuple(revision) if len(revision) == _NUMBERS else (*revision, last)


def refuse_where_nothing_is_compared() -> None:
    """Who says what they have seen relies on being refused when it is not so. Raises BadRequest."""
    given = request.headers.get("If-Match", "").strip()
    if given not in {"", "*"}:
        raise BadRequest(f"If-Match: nothing is compared here, so leave it out, or send *; not {given!r}")
