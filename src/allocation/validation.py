"""What may come in from outside: limits for each command's fields. Edges validate, the domain trusts."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import MISSING, fields
from datetime import date, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model
from pydantic_core import PydanticCustomError, from_json

from allocation.domain import commands
from messaging.errors import UnreadableMessage

C = TypeVar("C")

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_LONGEST_SHOWN = 60


class BadInput(UnreadableMessage):
    """Says which field, which rule, and which value."""


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
    Field(min_length=1, max_length=255, json_schema_extra={"not": {"pattern": _UNCLEAN}}),
    AfterValidator(_clean),
]
LineQuantity = Annotated[int, Field(ge=1, le=1_000_000)]
BatchQuantity = Annotated[int, Field(ge=0, le=1_000_000_000)]
Eta = Annotated[date | None, BeforeValidator(_date_of)]


class Schema(Generic[C]):
    """A command as it may arrive: its fields' limits, strictly typed; unknown keys are ignored.

    `aliases` are the names of fields on the wire where they differ from the command's.
    """

    def __init__(self, kind: type[C], limits: Mapping[str, Any], aliases: Mapping[str, str] | None = None) -> None:
        assert limits.keys() == {field.name for field in fields(kind)}, f"one limit for each field of {kind.__name__}"  # type: ignore[arg-type]  # commands are dataclasses
        self.kind = kind
        columns: dict[str, Any] = {}
        for field in fields(kind):  # type: ignore[arg-type]  # commands are dataclasses
            default = ... if field.default is MISSING else field.default
            alias = (aliases or {}).get(field.name, field.name)
            columns[field.name] = (limits[field.name], Field(default, alias=alias))
        config = ConfigDict(strict=True, extra="ignore")
        self._model: type[BaseModel] = create_model(kind.__name__, __config__=config, **columns)

    def read_json(self, body: bytes | str) -> C:
        """The command in a JSON object. Raises BadInput."""
        try:
            values = from_json(body, allow_inf_nan=False)  # RFC 8259 knows no NaN, not even under a key that we ignore
        except ValueError as error:
            raise BadInput(f"invalid JSON: {error}") from error
        if not isinstance(values, dict):
            raise BadInput(f"body: input should be an object, not {_shown(values)}")
        return self.read_fields(values)

    def read_fields(self, values: Mapping[str, object]) -> C:
        """The command from Python values. Raises BadInput."""
        try:
            return self._command(self._model.model_validate(values))
        except ValidationError as error:
            raise BadInput(_in_words(error)) from error

    def json_schema(self) -> dict[str, Any]:
        """The same limits as a JSON Schema. A default that means another value, and would break them, is not said."""
        schema = self._model.model_json_schema()
        for field in schema["properties"].values():
            if field.get("default") == "":
                del field["default"]
        return schema

    def _command(self, model: BaseModel) -> C:
        return self.kind(**{name: getattr(model, name) for name in type(model).model_fields})


def _in_words(error: ValidationError) -> str:
    return "; ".join(_problem(problem) for problem in error.errors(include_url=False))


def _problem(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    rule: str = problem["msg"][:1].lower() + problem["msg"][1:]
    if problem["type"] == "missing":
        return f"{where}: is missing"
    return f"{where}: {rule}, not {_shown(problem['input'])}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…"


CREATE_BATCH = Schema(commands.CreateBatch, {"ref": Text, "sku": Text, "qty": BatchQuantity, "eta": Eta})
ALLOCATE = Schema(commands.Allocate, {"orderid": Text, "sku": Text, "qty": LineQuantity, "lineid": Text})
CHANGE_BATCH_QUANTITY = Schema(
    commands.ChangeBatchQuantity, {"ref": Text, "qty": BatchQuantity}, aliases={"ref": "batchref"}
)

# As other systems name them. A name stays for good: a new version gets another, and both are read into today's command.
SCHEMAS: dict[str, Schema[Any]] = {
    "allocation.create_batch.v1": CREATE_BATCH,
    "allocation.allocate.v1": ALLOCATE,
    "allocation.change_batch_quantity.v1": CHANGE_BATCH_QUANTITY,
}
