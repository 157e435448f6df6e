"""The shape of the table of messages: what describes a command or an event, from which all else is derived."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Literal, TypeAlias, TypeVar

from allocation.domain.errors import DomainError
from allocation.service_layer.ports import Lookups

M = TypeVar("M")

Tone: TypeAlias = Literal["stock", "change", "success", "setback", "failure"]
"""What an event means to people who watch: it has a colour on the terminal and a mark in the console."""


@dataclass(frozen=True, slots=True)
class Text:
    """From one character to so many; or null, where it is not `required`."""

    longest: int = 255
    required: bool = True


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, both ends included."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Day:
    """A date; or none, where that is not `required`."""

    required: bool = False


@dataclass(frozen=True, slots=True)
class Instant:
    """A moment, with its time zone."""


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""


@dataclass(frozen=True, slots=True)
class Names:
    """From one to so many, each once, none of which is longer; where they are in order, the first comes first."""

    most: int
    longest: int


@dataclass(frozen=True, slots=True)
class Texts:
    """Several, none of which is longer."""

    most: int
    longest: int


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these words."""

    words: Sequence[str]


@dataclass(frozen=True, slots=True)
class Record:
    """An object with fields of its own."""

    kind: type
    fields: Fields

    def __post_init__(self) -> None:
        _require_all_fields(self.kind, self.fields, ())


@dataclass(frozen=True, slots=True)
class Several:
    """A list of objects, from one to so many, which differ in the field `by`; where they do not, `otherwise` is the
    advice."""

    of: Record
    most: int
    by: str
    otherwise: str = ""


Limit: TypeAlias = Text | Texts | Names | Flag | Whole | Day | Instant | Choice | Record | Several


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a message: its limit, and what it means; one whose default is None may be null. `wire` is its name
    outside, where that differs."""

    limit: Limit
    meaning: str
    wire: str | None = None


Fields: TypeAlias = Mapping[str, Field]


@dataclass(frozen=True, slots=True)
class StockChange:
    """What an event changes of the batch that its field `batch` names, by its `qty`: of what was purchased, and of what
    is taken of that. With `arrives` an expected batch is in the warehouse from then on."""

    batch: str
    purchased: Literal["adds", "sets", "loses", "keeps"] = "keeps"
    taken: Literal[-1, 0, 1] = 0
    arrives: bool = False


@dataclass(frozen=True, slots=True)
class EventRow(Generic[M]):
    """An event. `name` is stored with it for good, and has a version.

    `sentence` says what happened, with fields of the event in braces, `{line}` for its order line, `{of_sku}` for
    " of " and its SKU, and `{quantity}` for `qty` with that; or gives that for an event. `label` and `tone` are for
    lists of events.
    """

    kind: type[M]
    name: str
    when: str
    fields: Fields
    example: M
    label: str
    tone: Tone
    sentence: str | Callable[[M], str]
    stock: StockChange | None = None

    def __post_init__(self) -> None:
        _require_all_fields(self.kind, self.fields, ())

    def sentence_of(self, event: M) -> str:
        return self.sentence if isinstance(self.sentence, str) else self.sentence(event)


@dataclass(frozen=True, slots=True)
class Impossible:
    """Values of fields that contradict each other. The rule names the last of them."""

    values: Mapping[str, object]
    rule: str


@dataclass(frozen=True, slots=True)
class CommandRow(Generic[M]):
    """A command. `name` is what it is called on the command stream, and has a version.

    `asks` says what it is for, `gives` what follows from it. `lookups` is what its rules need of the database, read at
    once; a command that names its SKUs shares a transaction with others, but for one that `moves_many_lines`.
    `refuses`: the errors that its rules raise. Some values of fields may be `impossible` together. `fingerprint_name`
    stands for the command in the fingerprint of a stored message, where that is not its `name`. `internal` are fields
    that have no place in a message; a command that is not `accepted` is given by ourselves only.
    """

    kind: type[M]
    name: str
    asks: str
    gives: str
    fields: Fields
    example: Mapping[str, Any]
    lookups: Callable[[M], Lookups]
    refuses: Sequence[type[DomainError]]
    internal: Sequence[str] = ()
    accepted: bool = True
    moves_many_lines: Callable[[M], bool] = lambda _: False
    impossible: Impossible | None = None
    fingerprint_name: str = ""

    def __post_init__(self) -> None:
        _require_all_fields(self.kind, self.fields, self.internal)


def _require_all_fields(kind: type, described: Fields, internal: Sequence[str]) -> None:
    names = {one.name for one in fields(kind)} - set(internal)
    assert described.keys() == names, f"the table of messages describes other fields of {kind.__name__} than it has"
