"""Where a page ends, as text to ask for the next one with: it looks like nothing, so that nobody relies on it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import date
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter

from allocation.validation import Stored
from allocation.views import AtRiskCursor, BackorderCursor, BatchCursor, HoldCursor, OrderCursor, ProductCursor

C = TypeVar("C", bound=tuple[Any, ...])

AT_RISK = TypeAdapter(AtRiskCursor)
BACKORDER = TypeAdapter(BackorderCursor)
BATCH = TypeAdapter(BatchCursor)
HOLD = TypeAdapter(HoldCursor)
ORDER = TypeAdapter(OrderCursor)
PRODUCT = TypeAdapter(ProductCursor)

_Version = Annotated[int, Field(ge=1)]
_Id = Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
EVENT: TypeAdapter[tuple[str, int, str] | tuple[str, int]] = TypeAdapter(
    tuple[str, _Version, _Id] | tuple[str, _Version]  # as cursors were before they had an id
)

_Number = Annotated[int, Field(ge=-(2**63), lt=2**63)]
_PARTS: TypeAdapter[tuple[object, ...]] = TypeAdapter(tuple[Stored | _Number | date | bool | None, ...])
"""What can be in the database."""


def cursor_at(end: tuple[object, ...] | None) -> str | None:
    """None on the last page."""
    if end is None:
        return None
    return urlsafe_b64encode(json.dumps(end, ensure_ascii=False, default=str).encode()).decode().rstrip("=")


def end_of(cursor: str, kind: TypeAdapter[C]) -> C:
    """Raises ValueError for a cursor that we did not give."""
    end = kind.validate_json(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)), strict=True)
    _PARTS.validate_python(tuple(end), strict=True)
    if cursor_at(end) != cursor:
        raise ValueError("it is written in another way")
    return end
