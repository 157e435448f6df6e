"""What may come in from outside: limits for each command's fields. Edges validate, the domain trusts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date, datetime
from difflib import get_close_matches
from functools import partial
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, Optional, TypeAlias, TypeVar, assert_never

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    WrapValidator,
    create_model,
)
from pydantic_core import PydanticCustomError

from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch, PlaceOrder
from allocation.domain.names import Renamed, normal
from allocation.service_layer import messages
from allocation.service_layer.messages import ordering, stock
from allocation.service_layer.messages.table import (
    Choice,
    CommandRow,
    EventRow,
    Flag,
    Instant,
    Limit,
    Names,
    Record,
    Several,
    Texts,
    Whole,
)
from allocation.service_layer.messages.table import Day as DayLimit
from allocation.service_layer.messages.table import Field as MessageField
from allocation.service_layer.messages.table import Text as TextLimit
from allocation.spelling import folded
from messaging.envelope import LONGEST_TEXT
from messaging.errors import UnreadableMessage
from messaging.json_input import read_json

C = TypeVar("C")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_SHOWN = 60
MOST_PROBLEMS = 20
"""That are listed of one message."""
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """What is wrong with one value, and where it stands: the keys that lead to it."""

    where: tuple[str | int, ...]
    rule: str


class BadInput(UnreadableMessage):
    """Says which field, which rule, and which value; `problems` say it field by field, if it could be read at all."""

    def __init__(self, message: str, problems: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.problems = problems


def _clean(text: str) -> str:
    if text != text.strip():
        raise PydanticCustomError("space", "must not begin or end with a space")
    if not text.isprintable() and any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise PydanticCustomError("control", "must not have control characters or lone surrogates")
    return text


def _visible(text: str) -> str:
    if not text.isascii() and (hidden := _HIDDEN_PATTERN.search(text)):
        [which] = [character for character in hidden[0] if not character.isascii()]
        code_point = f"U+{ord(which):04X}"
        raise PydanticCustomError(
            "hidden", "must not have invisible or direction characters ({code_point})", {"code_point": code_point}
        )
    return _clean(text)


def _as_kept(given: object, validated: Callable[[object], str]) -> str:
    """All limits are those of the text as it is kept."""
    if not isinstance(given, str):
        return validated(given)
    kept = given if isinstance(given, Renamed) else normal(given)
    validated(str(kept))
    return kept


def _date_of(given: object, or_null: str = "", or_unknown: str = "") -> object:
    if not isinstance(given, str):
        return given
    day = _date_in(given)
    if day is None:
        raise PydanticCustomError("date", f"must be a date as YYYY-MM-DD{or_null}")
    if not 1980 <= day.year < 2200:
        raise PydanticCustomError("unset", f"must be from 1980-01-01 to 2199-12-31{or_unknown}")
    return day


def _date_or_none(given: object) -> object:
    return _date_of(given, ", or null", ", or null where it is not known")


def _date_in(given: str) -> date | None:
    try:
        if _DATE.fullmatch(given):
            return date.fromisoformat(given)
        if _DATE.match(given) and given[10:11] in ("T", "t", " "):
            return datetime.fromisoformat(given).date()
    except ValueError:
        pass
    return None


# What `_clean` refuses, as a JSON Schema says it, but for lone surrogates: they have no place in UTF-8 anyway.
_SPACE = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_UNCLEAN = rf"[\u0000-\u001f\u007f-\u009f]|^[{_SPACE}]|[{_SPACE}]$"

# The general category Cf, of Unicode 16, and what looks like nothing. Outside of the BMP they stand for themselves: no
# escape is the same in all dialects.
_INVISIBLE = (
    r"\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f"
    r"\u202a-\u202e\u2060-\u2064\u2066-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb"
    "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
# Persian, Indic scripts and emoji join letters by these.
_JOINER = r"(?:^|[\u0000-\u007f])[\u200c\u200d]|[\u200c\u200d](?:[\u0000-\u007f]|$)"
_HIDDEN = rf"[{_INVISIBLE}]|{_JOINER}"
_HIDDEN_PATTERN = re.compile(_HIDDEN)


@dataclass(frozen=True, slots=True)
class _AsJsonSchema:
    """What a text that comes in must not hold. What we send may be older than our rule for what is hidden."""

    refused: str

    def __get_pydantic_json_schema__(self, schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | {"not": {"pattern": self.refused if handler.mode == "validation" else _UNCLEAN}}


_LIMITS = Field(min_length=1, max_length=LONGEST_TEXT)


def _new_text(longest: int) -> Any:
    limits, described = Field(min_length=1, max_length=longest), _AsJsonSchema(f"{_UNCLEAN}|{_HIDDEN}")
    return Annotated[str, limits, AfterValidator(_visible), WrapValidator(_as_kept), described]


Text = _new_text(LONGEST_TEXT)
"""New text: kept in NFC, in which its characters are counted."""

Stored = Annotated[str, _LIMITS, AfterValidator(_clean), _AsJsonSchema(_UNCLEAN)]
"""As it may be kept: older than the rules for what is hidden, and for the form."""

Name = Annotated[Stored, WrapValidator(_as_kept)]
"""What is looked for, whatever is kept."""
_NAME: TypeAdapter[str] = TypeAdapter(Name)

_POSSIBLE = "^(19[89]|2[01][0-9])"
_Date = Annotated[date, WithJsonSchema({"type": "string", "format": "date", "pattern": _POSSIBLE}, mode="validation")]
Day = Annotated[_Date, BeforeValidator(_date_of)]
_DayOrNone = Annotated[_Date | None, BeforeValidator(_date_or_none)]

Extra: TypeAlias = Literal["forbid", "ignore"]


def type_of(limit: Limit, extra: Extra = "forbid") -> Any:  # noqa: PLR0911 - one a kind
    """The type by which pydantic validates and describes a value of this limit. `extra`: unknown keys of objects."""
    match limit:
        case TextLimit(longest, required):
            text = _new_text(longest)
            return text if required else text | None
        case Whole(least, most):
            return Annotated[int, Field(ge=least, le=most)]
        case DayLimit(required):
            return Day if required else _DayOrNone
        case Choice(words):
            return Literal[tuple(words)]
        case Record(kind, described):
            return _model(kind, described, extra)
        case Several(of, most, by, otherwise):
            item: Any = type_of(of, extra)
            different = AfterValidator(partial(_different, partial(_field_of, of, by), f"{by} ", otherwise))
            return Annotated[list[item], Field(min_length=1, max_length=most), different]
        case Names(most, longest):
            name: Any = type_of(TextLimit(longest))
            different = AfterValidator(partial(_different, str, "", ""))
            limits = Field(min_length=1, max_length=most, json_schema_extra={"uniqueItems": True})
            return Annotated[list[name], limits, different]
        case Instant():
            return AwareDatetime
        case Flag():
            return bool
        case Texts(most, longest):
            return Annotated[
                tuple[Annotated[str, Field(min_length=1, max_length=longest)], ...], Field(max_length=most)
            ]
        case _:
            assert_never(limit)


def _field_of(record: Record, name: str, item: Any) -> object:
    """As it is when nobody says, too: a line without an id is known by its SKU."""
    return getattr(_value(item, record), name)


def _different(key: Callable[[Any], object], named: str, otherwise: str, items: list[Any]) -> list[Any]:
    seen: set[object] = set()
    for item in items:
        value = key(item)
        if value in seen:
            advice = f": {otherwise}" if otherwise else ""
            what = {"named": named, "value": repr(value), "advice": advice}
            raise PydanticCustomError("different", "{named}{value} is there twice{advice}", what)
        seen.add(value)
    return items


def _model(kind: type, described: Mapping[str, MessageField], extra: Extra) -> type[BaseModel]:
    """Strictly typed, with the limits of the table of messages."""
    columns: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in described:
            limit, wire = described[field.name].limit, described[field.name].wire
            default = ... if field.default is MISSING else field.default
            one = type_of(limit, extra)
            allowed = Optional[one] if field.default is None else one  # noqa: UP045 - made here
            columns[field.name] = (allowed, Field(default, alias=wire or field.name))
    return create_model(kind.__name__, __config__=ConfigDict(strict=True, extra=extra), **columns)


class Schema(Generic[C]):
    """A message as it may arrive: its fields' limits, strictly typed. Unknown keys of a command are refused, unless its
    sender `may_add` some."""

    def __init__(self, row: CommandRow[C] | EventRow[C]) -> None:
        self.row = row
        self.kind = row.kind
        self._impossible = row.impossible if isinstance(row, CommandRow) else None
        self._model = _model(row.kind, row.fields, "forbid" if isinstance(row, CommandRow) else "ignore")

    def read_json(self, body: bytes | str, known: Mapping[str, object] = _NOTHING, *, may_add: bool = False) -> C:
        """The command in a JSON object, with what is known from elsewhere. Raises BadInput."""
        try:
            values = read_json(body)
        except ValueError as error:
            raise BadInput(f"invalid JSON: {error}") from error
        if not isinstance(values, dict):
            rule = f"input should be an object, not {_shown(values)}"
            raise BadInput(f"body: {rule}", [FieldProblem((), rule)])
        return self.read_fields(values, known, may_add=may_add)

    def read_fields(
        self, values: Mapping[str, object], known: Mapping[str, object] = _NOTHING, *, may_add: bool = False
    ) -> C:
        """The command from Python values. Raises BadInput."""
        if not may_add and (twice := values.keys() & known.keys()):
            raise _said([FieldProblem((name,), "is in the address already") for name in twice])
        try:
            return self._command(self._model.model_validate({**values, **known}, extra="ignore" if may_add else None))
        except ValidationError as error:
            raise bad_input(error, self._model, known) from error

    def json_schema(self, known: Collection[str] = (), *, may_add: bool = False) -> dict[str, Any]:
        """The same limits as a JSON Schema, without what is known from elsewhere. A default that means another value,
        and would break them, is not said."""
        schema: dict[str, Any] = self._model.model_json_schema(
            mode="validation" if isinstance(self.row, CommandRow) else "serialization"
        )
        schema = _inlined(schema, schema.pop("$defs", {}))
        for name in known:
            del schema["properties"][name]
            schema["required"].remove(name)
        for limits in schema["properties"].values():
            if limits.get("default") == "":
                del limits["default"]
        if may_add:
            del schema["additionalProperties"]
        if self._impossible:
            values = {name: {"const": value} for name, value in self._impossible.values.items()}
            schema["not"] = {"properties": values, "required": list(values)}
        return schema

    def _command(self, model: BaseModel) -> C:
        command = self.kind(**_values(model, self.row.fields))
        impossible = self._impossible
        if impossible and all(getattr(command, name) == value for name, value in impossible.values.items()):
            raise _said([FieldProblem((list(impossible.values)[-1],), impossible.rule)])
        return command


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """With objects within objects where they stand, so that each part can be read by itself."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        found = definitions[schema["$ref"].rpartition("/")[2]]
        return _inlined({name: value for name, value in found.items() if name != "title"}, definitions)
    return {name: _inlined(value, definitions) for name, value in schema.items()}


def _values(model: BaseModel, described: Mapping[str, MessageField]) -> dict[str, Any]:
    return {name: _value(getattr(model, name), described[name].limit) for name in type(model).model_fields}


def _value(value: Any, limit: Limit) -> Any:
    if value is None:
        return None
    match limit:
        case Record(kind, described):
            return kind(**_values(value, described))
        case Several(of):
            return tuple(_value(one, of) for one in value)
        case Names():
            return tuple(value)
        case _:
            return value


def bad_input(error: ValidationError, model: type[BaseModel], known: Collection[str] = ()) -> BadInput:
    """What pydantic found, in our words: the first of it, and how much more there is."""
    found = error.errors(include_url=False)
    listed = [FieldProblem(one["loc"], _rule(one, model, known)) for one in found[:MOST_PROBLEMS]]
    return _said(listed, more=len(found) - len(listed))


def name_looked_for(given: object) -> str:
    """In the form in which it is kept. Raises BadInput for what nothing can be called."""
    try:
        return _NAME.validate_python(given)
    except ValidationError as error:
        raise BadInput("; ".join(_rule(one) for one in error.errors(include_url=False))) from error


def _said(problems: Sequence[FieldProblem], more: int = 0) -> BadInput:
    texts = [f"{'.'.join(map(_cut, one.where))}: {one.rule}" for one in problems]
    return BadInput("; ".join(texts + [f"and {more:,} more"] * bool(more)), problems)


def _rule(problem: Any, model: type[BaseModel] | None = None, known: Collection[str] = ()) -> str:
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] == "extra_forbidden" and model:
        keys = _keys_at(model.model_json_schema(), problem["loc"])
        of_address = known if len(problem["loc"]) == 1 else ()
        return f"is no known key; {suggestion(problem['loc'][-1], [key for key in keys if key not in of_address])}"
    rule: str = problem["msg"][:1].lower() + problem["msg"][1:]
    if problem["type"] in {"dataclass_type", "model_type", "dict_type"}:
        return f"should be an object, not {_shown(problem['input'])}"
    if problem["type"] in {"too_short", "too_long", "different"}:  # of a list, and it says what is wrong with it
        return rule.replace(" after validation", "")
    return f"{rule}, not {_shown(problem['input'])}"


def suggestion(name: str, known: Iterable[str]) -> str:
    """What may have been meant by an unknown name."""
    by_folded = {folded(one): one for one in known}
    [near] = get_close_matches(folded(name), by_folded, n=1) or [""]
    meant = f"did you mean {by_folded[near]}? " if near else ""
    return f"{meant}{'known: ' + ', '.join(by_folded.values()) if by_folded else 'none is'}"


def is_spelled_like(name: str, known: str) -> bool:
    """Whether it is the same but for its case, width, blanks, `_`, `-` and what can't be seen."""
    return folded(name) == folded(known)


def is_near(name: str, known: str) -> bool:
    """Whether it is the same but for its case, width, blanks, `_`, `-` and what is not seen, and for one letter or two
    that are swapped."""
    one, other = sorted((folded(name), folded(known)), key=len)
    if len(one) == len(other):
        differ = [place for place, (here, there) in enumerate(zip(one, other, strict=True)) if here != there]
        are_swapped = len(differ) == 2 and differ[1] - differ[0] == 1 and sorted(one) == sorted(other)
        return len(differ) <= 1 or are_swapped
    return any(other[:place] + other[place + 1 :] == one for place in range(len(other)))


def _keys_at(schema: dict[str, Any], where: Sequence[str | int]) -> list[str]:
    """The keys of the object in which the last of these stands, by the JSON Schema of the whole."""

    def below(node: dict[str, Any], step: str | int) -> dict[str, Any]:
        """The node itself for a step that only says which of several types was meant."""
        found: dict[str, Any] = node.get("items", node) if isinstance(step, int) else node["properties"].get(step, node)
        found = next((one for one in found.get("anyOf", [found]) if one.get("type") != "null"), found)
        return schema["$defs"][found["$ref"].rpartition("/")[2]] if "$ref" in found else found

    node = schema
    for step in where[:-1]:
        node = below(node, step)
    return list(node["properties"])


def _shown(value: object) -> str:
    """As it was sent, where JSON and Python differ; text in Python's way, in which nothing is unprintable."""
    return _cut(json.dumps(value) if value is None or isinstance(value, bool) else repr(value))


def _cut(text: object) -> str:
    shown = str(text)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[:_LONGEST_SHOWN] + "…"


SCHEMAS: dict[str, Schema[Any]] = {row.name: Schema(row) for row in messages.COMMANDS}
"""Of the command stream, by the names there."""

CREATE_BATCH: Schema[CreateBatch] = SCHEMAS[stock.CREATE_BATCH.name]
ALLOCATE: Schema[Allocate] = SCHEMAS[ordering.ALLOCATE.name]
CHANGE_BATCH_QUANTITY: Schema[ChangeBatchQuantity] = SCHEMAS[stock.CHANGE_BATCH_QUANTITY.name]
PLACE_ORDER: Schema[PlaceOrder] = SCHEMAS[ordering.PLACE_ORDER.name]
