"""What every HTTP route reads of a request in the same way: paths, a body, the id that makes it safe to repeat."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TypeVar

from flask import g, request
from werkzeug.exceptions import NotFound, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.routing import BaseConverter

from allocation.validation import BadInput, Schema, name_looked_for
from messaging.envelope import LONGEST_TEXT, MessageId, Metadata, usable_id

C = TypeVar("C")

TWO_KEYS = "allocation.two_keys"
"""In the environ: whether there is more than one header Idempotency-Key."""

_QUOTED = re.compile(r'"([^"\\]+)"')


class AnyText(BaseConverter):
    """The rest of the path, whatever it holds: an order id may have slashes, even in front."""

    regex = r"[\s\S]+"
    part_isolating = False


def name_in_path(given: str) -> str:
    """Raises NotFound for what nothing may be called."""
    try:
        return name_looked_for(given)
    except BadInput:
        raise NotFound(f"nothing may be called {given!r}") from None


def body(schema: Schema[C], largest: int, known: Mapping[str, object], *, may_add: bool) -> C:
    """The command in the body of at most `largest` bytes, with what is known from elsewhere. Whether the sender
    `may_add` keys that we do not know."""
    if (encoding := request.headers.get("Content-Encoding", "identity").strip().lower()) != "identity":
        raise UnsupportedMediaType(f"the body must not be compressed or encoded; its Content-Encoding is {encoding!r}")
    if request.mimetype != "application/json":
        found = f"not {request.mimetype!r}" if request.mimetype else "and is missing"
        raise UnsupportedMediaType(f"the content type must be application/json, {found}")
    given = request.get_data(cache=False)
    if len(given) > largest:
        raise RequestEntityTooLarge
    return schema.read_json(given, known, may_add=may_add)


def message_id() -> str | None:
    """The Idempotency-Key: with it the same request again gives the first answer again. `k` and `"k"`, as a structured
    field has it, are the same key.

    It belongs to whoever sends it. As JSON, so that no choice of keys or names makes it another's.
    """
    given = request.headers.get("Idempotency-Key")
    if given is None:
        return None
    if request.environ.get(TWO_KEYS):  # in one line they would be another key than either
        raise BadInput("Idempotency-Key: must be given once, and is given more than once")
    key = quoted[1] if (quoted := _QUOTED.fullmatch(given)) else given
    if not usable_id(key) or key == '""':
        raise BadInput(f"Idempotency-Key: must be 1 to {LONGEST_TEXT} printable ASCII characters")
    found = MessageId(_kept_as(key))
    found.other = (_kept_as(f'"{key}"'),)  # by releases that told the two apart
    return found


def _kept_as(key: str) -> str:
    metadata: Metadata = g.metadata
    return f"http:{key}" if metadata.principal is None else json.dumps(["http", metadata.principal, key])
