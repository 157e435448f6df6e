"""What may come in from outside: limits for each command's fields. Edges validate, the domain trusts."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar, assert_never

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError, from_json

from allocation.service_layer import messages
from allocation.service_layer.messages import ordering, stock
from allocation.service_layer.messages.table import CommandRow, Day, EventRow, Limit, Whole
from allocation.service_layer.messages.table import Text as TextLimit
from messaging.envelope import LONGEST_TEXT
from messaging.errors import UnreadableMessage

C = TypeVar("C")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_SHOWN = 60


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


def _date_of(given: object) -> object:
    if not isinstance(given, str):
        return given
    try:
        if _DATE.fullmatch(given):
            return date.fromisoformat(given)
        if _DATE.match(given) and given[10:11] in ("T", "t", " "):
            return datetime.fromisoformat(given).date()
    except ValueError:
        pass
    raise PydanticCustomError("date", "must be a date as YYYY-MM-DD, or null")


# What `_clean` refuses, as a JSON Schema says it, but for lone surrogates: they have no place in UTF-8 anyway.
_SPACE = r" \u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_UNCLEAN = rf"[\u0000-\u001f\u007f-\u009f]|^[{_SPACE}]|[{_SPACE}]$"

Text = Annotated[
    str,
    Field(min_length=1, max_length=LONGEST_TEXT, json_schema_extra={"not": {"pattern": _UNCLEAN}}),
    AfterValidator(_clean),
]
_Eta = Annotated[date | None, BeforeValidator(_date_of)]


def type_of(limit: Limit) -> Any:
    """The type by which pydantic validates and describes a value of this limit."""
    match limit:
        case TextLimit(longest):
            return Text if longest == LONGEST_TEXT else Annotated[Text, Field(max_length=longest)]
        case Whole(least, most):
            return Annotated[int, Field(ge=least, le=most)]
        case Day():
            return _Eta
        case _:
            assert_never(limit)


class Schema(Generic[C]):
    """A message as it may arrive: its fields' limits, strictly typed; unknown keys are ignored."""

    def __init__(self, row: CommandRow[C] | EventRow[C]) -> None:
        self.row = row
        self.kind = row.kind
        columns: dict[str, Any] = {}
        for field in fields(row.kind):  # type: ignore[arg-type]  # messages are dataclasses
            if described := row.fields.get(field.name):
                default = ... if field.default is MISSING else field.default
                columns[field.name] = (type_of(described.limit), Field(default, alias=described.wire or field.name))
        config = ConfigDict(strict=True, extra="ignore")
        self._model: type[BaseModel] = create_model(row.kind.__name__, __config__=config, **columns)

    def read_json(self, body: bytes | str, **known: object) -> C:
        """The command in a JSON object, with what is known from elsewhere. Raises BadInput."""
        try:
            values = from_json(body, allow_inf_nan=False)  # RFC 8259 knows no NaN, not even under a key that we ignore
        except ValueError as error:
            raise BadInput(f"invalid JSON: {error}") from error
        if not isinstance(values, dict):
            rule = f"input should be an object, not {_shown(values)}"
            raise BadInput(f"body: {rule}", [FieldProblem((), rule)])
        return self.read_fields(values | known)

    def read_fields(self, values: Mapping[str, object]) -> C:
        """The command from Python values. Raises BadInput."""
        try:
            return self._command(self._model.model_validate(values))
        except ValidationError as error:
            raise bad_input(error) from error

    def json_schema(self, known: Collection[str] = ()) -> dict[str, Any]:
        """The same limits as a JSON Schema, without what is known from elsewhere. A default that means another value,
        and would break them, is not said."""
        schema = self._model.model_json_schema()
        for name in known:
            del schema["properties"][name]
            schema["required"].remove(name)
        for limits in schema["properties"].values():
            if limits.get("default") == "":
                del limits["default"]
        return schema

    def _command(self, model: BaseModel) -> C:
        return self.kind(**{name: getattr(model, name) for name in type(model).model_fields})


def bad_input(error: ValidationError) -> BadInput:
    """What pydantic found, in our words."""
    problems = [FieldProblem(one["loc"], _rule(one)) for one in error.errors(include_url=False)]
    return BadInput("; ".join(f"{'.'.join(map(str, one.where))}: {one.rule}" for one in problems), problems)


def _rule(problem: Any) -> str:
    if problem["type"] == "missing":
        return "is missing"
    rule: str = problem["msg"][:1].lower() + problem["msg"][1:]
    return f"{rule}, not {_shown(problem['input'])}"


def _shown(value: object) -> str:
    """As it was sent, where JSON and Python differ; text in Python's way, in which nothing is unprintable."""
    text = json.dumps(value) if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


CREATE_BATCH = Schema(stock.CREATE_BATCH)
ALLOCATE = Schema(ordering.ALLOCATE)
CHANGE_BATCH_QUANTITY = Schema(stock.CHANGE_BATCH_QUANTITY)

SCHEMAS: dict[str, Schema[Any]] = {row.name: Schema(row) for row in messages.COMMANDS}
"""Of the command stream, by the names there."""
