"""Where a message stands in a trace is computed, so that everybody says the same of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messaging.envelope import Metadata
from messaging.trace_context import (
    SpanRef,
    read_traceparent,
    sent_in,
    span_id,
    span_of,
    span_of_cause,
    trace_id,
    traceparent,
)

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SENT_IN = f"00-{TRACE}-{SPAN}-01"


@given(st.text(max_size=255), st.text(max_size=255))
def test_whatever_the_ids_are_the_place_is_one_that_others_can_read(correlation_id: str, message_id: str) -> None:
    metadata = replace(Metadata.first("test", correlation_id), id=message_id)

    assert read_traceparent(traceparent(metadata)) == span_of(metadata)


def test_an_id_that_is_a_trace_s_stands_for_itself() -> None:
    assert trace_id(TRACE) == TRACE
    assert trace_id("till-5/4711") != trace_id("till-5/4712")
    assert trace_id("0" * 32) != "0" * 32, "which is no trace"


def test_what_follows_is_in_the_same_trace_below_what_it_follows_from() -> None:
    request = Metadata.first("http", "till-5/4711")
    event = request.next()

    assert span_of_cause(request) is None
    assert span_of_cause(event) == span_of(request)
    assert span_of(event).trace_id == span_of(request).trace_id
    assert span_of_cause(event.next()) == span_of(event) != span_of(request)


def test_a_caller_s_span_is_the_cause_and_its_trace_the_correlation() -> None:
    metadata = sent_in(Metadata.first("http"), SENT_IN)

    assert metadata.correlation_id == TRACE
    assert span_of(metadata) == SpanRef(TRACE, span_id(metadata.id))
    assert span_of_cause(metadata) == SpanRef(TRACE, SPAN)


def test_a_correlation_that_was_given_is_kept_and_the_caller_s_span_still_is_the_cause() -> None:
    metadata = sent_in(Metadata.first("http", "till-5/4711"), SENT_IN)

    assert metadata.correlation_id == "till-5/4711"
    assert span_of_cause(metadata) == SpanRef(TRACE, SPAN)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "nonsense",
        SENT_IN.upper(),
        SENT_IN + "-more",
        SENT_IN.replace("00-", "ff-"),
        SENT_IN.replace(TRACE, "0" * 32),
        SENT_IN.replace(SPAN, "0" * 16),
        "01" + SENT_IN[2:] + "-" + "x" * 255,
    ],
)
def test_what_cannot_be_read_is_as_good_as_not_said(said: str) -> None:
    metadata = Metadata.first("http")

    assert sent_in(metadata, said) is metadata


def test_later_versions_may_say_more() -> None:
    assert read_traceparent("01" + SENT_IN[2:] + "-more") == SpanRef(TRACE, SPAN)
