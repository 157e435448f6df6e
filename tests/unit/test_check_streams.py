"""Streams are walked side by side, by key, without being held."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

from hypothesis import given
from hypothesis import strategies as st

from allocation.check.streams import pairs, side_by_side

keys = st.lists(st.sampled_from("abcdé𝄞"), max_size=6).map(sorted)


@given(st.lists(keys, min_size=1, max_size=4))
def test_every_row_comes_once_under_its_key_in_its_stream(streams: list[list[str]]) -> None:
    rows = [[(key, number) for number, key in enumerate(stream)] for stream in streams]

    walked = [(key, [list(group) for group in groups]) for key, groups in side_by_side(*rows)]

    assert [key for key, _ in walked] == sorted({key for stream in streams for key in stream})
    for key, groups in walked:
        assert groups == [[row for row in stream if row[0] == key] for stream in rows]


def test_rows_that_nobody_looked_at_are_passed_over() -> None:
    left, right = [("a", 1), ("a", 2), ("b", 3)], [("b", 4)]

    assert [key for key, _ in side_by_side(left, right)] == ["a", "b"]


def test_pairs_what_stands_under_the_same_key() -> None:
    assert list(pairs([(1, "a"), (2, "b")], [(2, "B"), (3, "C")])) == [(1, "a", None), (2, "b", "B"), (3, None, "C")]


def test_takes_no_more_rows_than_it_was_asked_for() -> None:
    taken = 0

    def endless() -> Iterator[tuple[int, None]]:
        nonlocal taken
        for taken in count(1):
            yield taken, None

    for _, (group, _) in islice(side_by_side(endless(), endless()), 10):
        list(group)

    assert taken <= 11
