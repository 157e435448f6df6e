"""Where a message stands in a trace, computed from its metadata: nothing has to be stored for it.

The trace is the correlation, and each message is a span in it whose parent is the message that caused it. Whoever has a
row of the log, in whatever process and however late, thus knows the trace, and says the same of it.

Source: the W3C's Trace Context, level 1.
"""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

from messaging.envelope import Metadata

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")
_TRACE_ID = re.compile(r"(?!0{32})[0-9a-f]{32}")


class SpanRef(NamedTuple):
    """In a trace: 32 and 16 hexadecimal digits."""

    trace_id: str
    span_id: str


def read_traceparent(text: str | None) -> SpanRef | None:
    """What another system says of its own span; None if it says nothing that can be read."""
    found = _TRACEPARENT.fullmatch(text) if text and len(text) <= 255 else None
    if not found or (found[1] == "00" and found[4]):  # more may follow in later versions only
        return None
    return SpanRef(found[2], found[3])


def sent_in(metadata: Metadata, traceparent: str) -> Metadata:
    """Of a message whose sender names its span: that is the cause, and the correlation is its trace unless another was
    given. What can't be read counts as not given."""
    place = read_traceparent(traceparent)
    if place is None:
        return metadata
    given = metadata.correlation_id != metadata.id
    return replace(
        metadata, correlation_id=metadata.correlation_id if given else place.trace_id, causation_id=traceparent
    )


def span_of(metadata: Metadata) -> SpanRef:
    return SpanRef(trace_id(metadata.correlation_id), span_id(metadata.id))


def span_of_cause(metadata: Metadata) -> SpanRef | None:
    """Of the message that caused this one; of another system's span, if its traceparent came along as the cause."""
    cause = metadata.causation_id
    if cause is None:
        return None
    return read_traceparent(cause) or SpanRef(trace_id(metadata.correlation_id), span_id(cause))


def trace_id(correlation_id: str) -> str:
    """One that is a trace's stands for itself. A UUID does not: not all of its bits are by chance, and samplers take
    them to be."""
    itself = _TRACE_ID.fullmatch(correlation_id)
    return correlation_id if itself else blake2b(correlation_id.encode(), digest_size=16).hexdigest()


def span_id(message_id: str) -> str:
    return blake2b(message_id.encode(), digest_size=8).hexdigest()


def traceparent(metadata: Metadata) -> str:
    """For whoever handles this message next."""
    return "00-{}-{}-01".format(*span_of(metadata))
