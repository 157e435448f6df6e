"""What breaks others, and what does not: each kind of change of a schema, on what we send and on what we accept."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.compatibility import breaks

from allocation.catalogue import ACCEPTED, SENT, messages
from messaging.codec import JsonObject

BASE: JsonObject = {
    "type": "object",
    "properties": {
        "sku": {"type": "string", "minLength": 1, "maxLength": 255, "not": {"pattern": "^ "}},
        "qty": {"type": "integer", "minimum": 1, "maximum": 100},
        "eta": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "kind": {"enum": ["sale", "gift"]},
        "type": {"const": "sold.v1"},
        "sequence": {"type": "string", "pattern": "^[0-9]+$"},
        "buyer": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "lines": {
            "type": "array",
            "items": {"type": "object", "properties": {"lot": {"type": "integer", "maximum": 5}}, "required": ["lot"]},
        },
    },
    "required": ["sku", "qty", "eta", "kind", "type", "buyer"],
}
GONE = object()


def changed(path: str, value: object) -> JsonObject:
    """The base with another value at that path, which begins among the fields; a leading slash begins at the top."""
    schema = deepcopy(BASE)
    *steps, last = path[1:].split("/") if path.startswith("/") else ["properties", *path.split("/")]
    place: Any = schema
    for step in steps:
        place = place[step]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return schema


def without(field: str) -> JsonObject:
    schema = changed(field, GONE)
    schema["required"] = [name for name in schema["required"] if name != field]
    return schema


def optional(field: str) -> JsonObject:
    return changed("/required", [name for name in BASE["required"] if name != field])


RENAMED = without("sku") | {"required": [*without("sku")["required"], "article"]}
RENAMED["properties"]["article"] = BASE["properties"]["sku"]

BREAK_BOTH = [
    (without("sku"), "sku: is gone"),
    (without("sequence"), "sequence: is gone"),
    (RENAMED, "sku: is gone"),
    (changed("buyer/properties/name", GONE), "buyer.name: is gone"),
    (changed("lines/items/properties/lot", GONE), "lines[].lot: is gone"),
    (changed("lines/items/properties/lot/type", "string"), "lines[].lot: "),
    (changed("qty", {"type": "string"}), "qty: "),
    (changed("buyer", {"type": "string"}), "buyer: "),
    (changed("eta/anyOf", [{"type": "integer"}, {"type": "null"}]), "eta: "),
    (changed("type/const", "sold.v2"), "type: 'sold.v"),
    (changed("sequence/pattern", "^[1-9]+$"), "sequence: pattern is not what it was"),
    (changed("sku/not", {"pattern": "^x"}), "sku: not is not what it was"),
    (changed("eta/anyOf", [{"type": "string", "format": "date-time"}, {"type": "null"}]), "eta: string is"),
    (changed("kind/enum", ["sale", "loan"]), "kind: 'gift'|kind: 'loan'"),
]
WIDER = [
    (changed("sku/maxLength", 256), "sku: maxLength 256 is sent now"),
    (changed("sku/maxLength", GONE), "sku: maxLength none is sent now"),
    (changed("sku/minLength", 0), "sku: minLength 0 is sent now"),
    (changed("sku/not", GONE), "sku: not is not what it was"),
    (changed("qty/minimum", 0), "qty: minimum 0 is sent now"),
    (changed("qty/maximum", 101), "qty: maximum 101 is sent now"),
    (changed("lines/items/properties/lot/maximum", 6), "lines[].lot: maximum 6 is sent now"),
    (changed("qty/type", "number"), "qty: number is sent now"),
    (changed("qty/type", ["integer", "null"]), "qty: null is sent now"),
    (changed("kind/enum", ["sale", "gift", "loan"]), "kind: 'loan' is sent now"),
    (changed("kind", {"type": "string"}), "kind: 'any other value' is sent now"),
    (changed("sequence/pattern", GONE), "sequence: pattern"),
    (changed("buyer/properties/name", {"type": ["string", "null"]}), "buyer.name: null is sent now"),
    (optional("sku"), "sku: may be missing now"),
    (changed("buyer/required", []), "buyer.name: may be missing now"),
]
TIGHTER = [
    (changed("sku/maxLength", 254), "sku: maxLength 255 is no longer accepted"),
    (changed("sku/minLength", 2), "sku: minLength 1 is no longer accepted"),
    (changed("sku/pattern", "^[A-Z]+$"), "sku: pattern is not what it was"),
    (changed("qty/minimum", 2), "qty: minimum 1 is no longer accepted"),
    (changed("qty/maximum", 99), "qty: maximum 100 is no longer accepted"),
    (changed("qty/multipleOf", 2), "qty: multipleOf is not what it was"),
    (changed("eta", {"type": "string", "format": "date"}), "eta: null is no longer accepted"),
    (changed("eta/anyOf", [{"type": "null"}]), "eta: string is no longer accepted"),
    (changed("kind/enum", ["sale"]), "kind: 'gift' is no longer accepted"),
    (changed("/additionalProperties", False), "the message: additionalProperties is not what it was"),
    (changed("/required", [*BASE["required"], "sequence"]), "sequence: is required now"),
    (changed("/required", [*BASE["required"], "price"]), "price: is required now"),
    (changed("buyer/required", ["name", "street"]), "buyer.street: is required now"),
]
HARMLESS = [
    BASE,
    changed("price", {"type": "integer"}),
    changed("sku/description", "What is sold."),
    changed("buyer/properties/street", {"type": "string"}),
    changed("/title", "Sold"),
    changed("qty/examples", [3]),
]


@pytest.mark.parametrize(("today", "why"), BREAK_BOTH)
@pytest.mark.parametrize("direction", [SENT, ACCEPTED])
def test_what_is_taken_away_renamed_or_made_another_breaks_both_sides(
    today: JsonObject, why: str, direction: Any
) -> None:
    found = list(breaks(BASE, today, direction))

    assert any(one.startswith(tuple(why.split("|"))) for one in found), found


@pytest.mark.parametrize(("today", "why"), WIDER)
def test_what_is_wider_breaks_those_who_read_it_and_not_those_who_send_it(today: JsonObject, why: str) -> None:
    found = list(breaks(BASE, today, SENT))

    assert len(found) == 1, found
    assert found[0].startswith(why)
    assert not list(breaks(BASE, today, ACCEPTED))


@pytest.mark.parametrize(("today", "why"), TIGHTER)
def test_what_is_tighter_breaks_those_who_send_it_and_not_those_who_read_it(today: JsonObject, why: str) -> None:
    found = list(breaks(BASE, today, ACCEPTED))

    assert len(found) == 1, found
    assert found[0].startswith(why)
    assert not list(breaks(BASE, today, SENT))


@pytest.mark.parametrize("today", HARMLESS)
@pytest.mark.parametrize("direction", [SENT, ACCEPTED])
def test_what_is_added_or_said_in_other_words_breaks_nobody(today: JsonObject, direction: Any) -> None:
    assert not list(breaks(BASE, today, direction))


def test_a_required_field_may_be_added_to_what_is_sent() -> None:
    today = changed("/required", [*BASE["required"], "price"])
    today["properties"]["price"] = {"type": "integer"}

    assert not list(breaks(BASE, today, SENT))
    assert list(breaks(BASE, today, ACCEPTED)) == ["price: is required now"]


@pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)
def test_no_message_breaks_itself(message: Any) -> None:
    assert not list(breaks(message.schema, message.schema, message.channel.direction))


bounds = st.integers(0, 4)
numbers = st.fixed_dictionaries(
    {"type": st.sampled_from(["integer", "string", ["integer", "null"]])},
    optional={"minimum": bounds, "maximum": bounds, "minLength": bounds, "maxLength": bounds},
)
plain = st.one_of(
    numbers, st.fixed_dictionaries({"enum": st.lists(st.sampled_from([0, 3, "", "abc", None]), min_size=1)})
)
schemas = st.one_of(plain, st.fixed_dictionaries({"anyOf": st.lists(plain, min_size=1, max_size=2)}))


@given(schemas, schemas, st.one_of(st.none(), st.integers(-1, 5), st.text("a", max_size=5)))
def test_what_breaks_nobody_lets_nothing_new_out_and_everything_old_in(
    published: JsonObject, today: JsonObject, value: object
) -> None:
    before, after = (Draft202012Validator(one).is_valid(value) for one in (published, today))

    if not list(breaks(published, today, SENT)):
        assert before or not after, "it is sent, and was never published"
    if not list(breaks(published, today, ACCEPTED)):
        assert after or not before, "it was accepted, and is no longer"
