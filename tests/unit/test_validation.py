"""Limits at the edges: what is let in is what the contract says, to the last character."""

from __future__ import annotations

import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allocation.domain import commands
from allocation.validation import ALLOCATE, CHANGE_BATCH_QUANTITY, CREATE_BATCH, BadInput


def allowed(text: str) -> bool:
    """The contract's sentence about text, written a second time."""
    return (
        1 <= len(text) <= 255
        and not text[0].isspace()
        and not text[-1].isspace()
        and not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
    )


@given(st.text(st.characters(codec=None), max_size=260))
def test_text_is_taken_exactly_when_the_contract_allows_it(text: str) -> None:
    try:
        command = ALLOCATE.read_fields({"orderid": text, "sku": "TABLE", "qty": 1})
    except BadInput:
        assert not allowed(text)
    else:
        assert allowed(text)
        assert command.orderid == text


@given(st.integers())
def test_a_line_s_quantity_is_taken_exactly_within_its_bounds(qty: int) -> None:
    try:
        ALLOCATE.read_fields({"orderid": "o1", "sku": "TABLE", "qty": qty})
    except BadInput:
        assert not 1 <= qty <= 1_000_000
    else:
        assert 1 <= qty <= 1_000_000


@given(st.dates())
def test_every_date_is_taken(day: date) -> None:
    assert CREATE_BATCH.read_json(f'{{"ref": "b", "sku": "s", "qty": 0, "eta": "{day.isoformat()}"}}').eta == day


def test_a_quantity_change_names_its_batch_by_the_channel_s_word() -> None:
    assert CHANGE_BATCH_QUANTITY.read_json(b'{"batchref": "b1", "qty": 5, "why": "?"}') == commands.ChangeBatchQuantity(
        "b1", 5
    )
    with pytest.raises(BadInput, match="batchref: is missing"):
        CHANGE_BATCH_QUANTITY.read_json(b'{"ref": "b1", "qty": 5}')


def test_every_problem_is_named_with_its_value() -> None:
    with pytest.raises(BadInput) as refused:
        ALLOCATE.read_fields({"orderid": " o1", "sku": "x" * 300, "qty": 0})

    problems = str(refused.value).split("; ")
    assert problems[0] == "orderid: must not begin or end with a space, not ' o1'"
    assert problems[1].startswith("sku: string should have at most 255 characters, not 'xxx")
    assert len(problems[1]) < 150
    assert problems[2] == "qty: input should be greater than or equal to 1, not 0"


@pytest.mark.parametrize(("given", "shown"), [("true", "true"), ("null", "null"), ('"5"', "'5'"), ("1.5", "1.5")])
def test_a_value_is_shown_as_it_was_sent(given: str, shown: str) -> None:
    with pytest.raises(BadInput, match=rf"qty: .*, not {shown}$"):
        ALLOCATE.read_json(f'{{"orderid": "o", "sku": "s", "qty": {given}}}')
