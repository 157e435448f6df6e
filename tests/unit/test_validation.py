"""Limits at the edges: what is let in is what the contract says, to the last character."""

from __future__ import annotations

import re
import unicodedata
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from allocation.domain import commands
from allocation.validation import ALLOCATE, CHANGE_BATCH_QUANTITY, CREATE_BATCH, SCHEMAS, BadInput, bad_input

NOTHING_TO_SEE = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"


def hides(before: str, character: str, after: str) -> bool:
    if character in "\u200c\u200d":
        return not (before > "\x7f" and after > "\x7f")
    return unicodedata.category(character) == "Cf" or character in NOTHING_TO_SEE


def allowed(text: str) -> bool:
    """The contract's sentences about text, written a second time."""
    return (
        1 <= len(text) <= 255
        and not text[0].isspace()
        and not text[-1].isspace()
        and not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)
        and not any(hides(*three) for three in zip(f"a{text}", text, f"{text[1:]}a", strict=False))
    )


@given(
    st.text(st.characters(codec=None), max_size=260)
    | st.text(st.sampled_from(f"aé\u0301가\u1100\u1161\u200b\u200c\u200d\ufeff{NOTHING_TO_SEE}"), max_size=6)
)
def test_text_is_taken_exactly_when_the_contract_allows_it(text: str) -> None:
    try:
        command = ALLOCATE.read_fields({"orderid": text, "sku": "TABLE", "qty": 1})
    except BadInput:
        assert not allowed(unicodedata.normalize("NFC", text))
    else:
        assert command.orderid == unicodedata.normalize("NFC", text)
        assert allowed(command.orderid)


def test_the_length_of_text_counts_as_it_is_kept() -> None:
    assert ALLOCATE.read_fields({"orderid": "e\u0301" * 255, "sku": "S", "qty": 1}).orderid == "é" * 255
    with pytest.raises(BadInput, match="at most 255"):
        ALLOCATE.read_fields({"orderid": "e\u0301" * 256, "sku": "S", "qty": 1})
    with pytest.raises(BadInput, match="at most 255"):  # this one is longer in NFC
        ALLOCATE.read_fields({"orderid": "\u0344" * 255, "sku": "S", "qty": 1})


@pytest.mark.parametrize(
    ("text", "code_point"),
    [("BED\u200b", "U+200B"), ("\ufeffe2", "U+FEFF"), ("a\u200db", "U+200D"), ("a\U000e0041", "U+E0041")],
)
def test_what_can_t_be_seen_is_named_by_its_code_point(text: str, code_point: str) -> None:
    with pytest.raises(
        BadInput, match=rf"sku: must not have invisible or direction characters \({re.escape(code_point)}\)"
    ):
        ALLOCATE.read_fields({"orderid": "o1", "sku": text, "qty": 1})


@pytest.mark.parametrize("text", ["می\u200cخواهم", "क्\u200dष", "👩\u200d👩\u200d👧", "❤\ufe0f", "☕\ufe0e"])
def test_joiners_within_a_script_that_needs_them_and_variations_are_taken(text: str) -> None:
    assert ALLOCATE.read_fields({"orderid": text, "sku": "S", "qty": 1}).orderid == text


@given(st.integers())
def test_a_line_s_quantity_is_taken_exactly_within_its_bounds(qty: int) -> None:
    try:
        ALLOCATE.read_fields({"orderid": "o1", "sku": "TABLE", "qty": qty})
    except BadInput:
        assert not 1 <= qty <= 1_000_000
    else:
        assert 1 <= qty <= 1_000_000


@given(st.dates(), st.sampled_from(["", "T00:00:00", " 23:59", "T00:00:00Z"]))
def test_every_date_is_taken_but_those_that_stand_for_none(day: date, time: str) -> None:
    body = f'{{"ref": "b", "sku": "s", "qty": 0, "eta": "{day.isoformat()}{time}"}}'
    if date(1980, 1, 1) <= day <= date(2199, 12, 31):
        assert CREATE_BATCH.read_json(body).eta == day
    else:
        with pytest.raises(BadInput, match="eta: must be from 1980-01-01 to 2199-12-31"):
            CREATE_BATCH.read_json(body)


@pytest.mark.parametrize("day", ["1979-12-31", "1980-01-01", "2199-12-31", "2200-01-01", "0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_date_are_those_of_the_contract(day: str) -> None:
    values = {"ref": "b", "sku": "s", "qty": 0, "eta": day}
    if day in {"1980-01-01", "2199-12-31"}:
        assert CREATE_BATCH.read_fields(values).eta == date.fromisoformat(day)
    else:
        with pytest.raises(BadInput):
            CREATE_BATCH.read_fields(values)


def test_a_quantity_change_names_its_batch_by_the_channel_s_word() -> None:
    read = CHANGE_BATCH_QUANTITY.read_json(b'{"batchref": "b1", "qty": 5, "why": "?"}', may_add=True)
    assert read == commands.ChangeBatchQuantity("b1", 5)
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


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    sku: str
    qty: int


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    parts: list[Part]
    first: Part | None = None
    either: Part | int = 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"parts": [{"sku": "a", "qty": 1}, {"sku": "b", "qty": 1, "SKU ": "c"}]},
            "parts.1.SKU : is no known key; did you mean sku?",
        ),
        ({"parts": [], "first": {"sku": "a", "qty": 1, "qtty": 2}}, "first.qtty: is no known key; did you mean qty?"),
        (
            {"parts": [], "either": {"sku": "a", "qty": 1, "qtty": 2}},
            "either.Part.qtty: is no known key; did you mean qty?",
        ),
        ({"parts": [], "firsts": None}, "firsts: is no known key; did you mean first?"),
    ],
)
def test_an_unknown_key_is_named_with_those_of_its_own_object_however_deep_it_stands(
    given: dict[str, object], said: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        Whole.model_validate(given)

    assert str(bad_input(refused.value, Whole)).startswith(said)


def test_lines_of_an_order_differ_in_their_ids_for_which_the_sku_stands_where_none_is_given() -> None:
    schema = SCHEMAS["allocation.place_order.v1"]

    def order(*lines: dict[str, object]) -> dict[str, object]:
        return {"orderid": "o", "mode": "partial", "lines": [{"qty": 1} | line for line in lines]}

    assert [line.lineid for line in schema.read_fields(order({"sku": "A"}, {"sku": "B"})).lines] == ["A", "B"]
    twice: list[list[dict[str, object]]] = [[{"sku": "A"}, {"sku": "A"}], [{"sku": "A", "lineid": "B"}, {"sku": "B"}]]
    for lines in twice:
        with pytest.raises(BadInput, match=r"is there twice: give each line a lineid of its own$"):
            schema.read_fields(order(*lines))
