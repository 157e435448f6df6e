"""Lengths of time are read as people write them, and written so that they are read again."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.durations import duration, in_short


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("30s", timedelta(seconds=30)),
        ("90m", timedelta(minutes=90)),
        ("36h", timedelta(hours=36)),
        ("7d", timedelta(days=7)),
        ("007d", timedelta(days=7)),
    ],
)
def test_is_a_number_and_a_unit(text: str, length: timedelta) -> None:
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "1.5h", "7 d", "7D", "7d\n", "1h30m", "٧d", "1234567s"])
def test_whatever_else_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as 30s, 10m, 2h or 7d") as error:
        duration(text)

    assert str(error.value).startswith(repr(text))


@given(st.integers(0, 999_999), st.sampled_from("smhd"))
def test_what_was_read_is_written_so_that_it_is_read_again(number: int, unit: str) -> None:
    length = duration(f"{number}{unit}")

    assert duration(in_short(length)) == length


@pytest.mark.parametrize("text", ["90s", "90m", "36h", "7d"])
def test_is_written_in_the_largest_unit_that_fits(text: str) -> None:
    assert in_short(duration(text)) == text
    assert in_short(timedelta(hours=24)) == "1d"
