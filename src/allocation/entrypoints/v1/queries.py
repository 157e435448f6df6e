"""What may stand after the question mark: filters and pages, read as strictly as a body."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, TypeVar, get_origin
from urllib.parse import urlencode

from flask import request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from allocation.domain.lines import LineTerms
from allocation.domain.names import forms
from allocation.domain.ordering import Status
from allocation.entrypoints.http import cursors
from allocation.entrypoints.http.errors import BadParameter
from allocation.entrypoints.http.routes import Route
from allocation.service_layer.messages.ordering import LOCATIONS, QUANTITY
from allocation.validation import Day, FieldProblem, Name, Text, bad_input, suggestion
from allocation.views import BackorderCursor, BatchCursor, HoldCursor

USUAL_LIMIT = 50
HIGHEST_LIMIT = 200
MOST_SKUS = 200

Q = TypeVar("Q", bound=BaseModel)
C = TypeVar("C", bound=tuple[Any, ...])
S = TypeVar("S", BatchCursor, BackorderCursor, HoldCursor)

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _number(given: object) -> object:
    return int(given) if isinstance(given, str) and re.fullmatch(r"-?[0-9]{1,100}", given) else given


def _moment(given: object) -> object:
    if isinstance(given, str) and _MOMENT.fullmatch(given):
        try:
            return datetime.fromisoformat(given.upper())
        except ValueError:
            pass
    raise PydanticCustomError("moment", "must be a time with its zone as 2031-01-31T12:00:00Z (a + is written as %2B)")


def _truth(given: object) -> object:
    if given not in ("true", "false"):
        raise PydanticCustomError("truth", "must be true or false")
    return given == "true"


def _different(given: list[str]) -> list[str]:
    for place, one in enumerate(given):
        if one in given[:place]:
            raise PydanticCustomError("different", "must have each once, and {one} is there twice", {"one": repr(one)})
    return given


Qty = Annotated[
    int, Field(ge=QUANTITY.least, le=QUANTITY.most, description="how much is asked for"), BeforeValidator(_number)
]
NeededBy = Annotated[Day, Field(description="the last day on which it is any use")]
Truth = Annotated[bool, BeforeValidator(_truth)]
Limit = Annotated[int, Field(ge=1, le=HIGHEST_LIMIT, description="at most so many items"), BeforeValidator(_number)]
Cursor = Annotated[str, Field(min_length=1, description="the `next` of the page before")]
MaySplit = Annotated[Truth, Field(description="whether it takes parts of several batches")]
Locations = Annotated[
    list[Annotated[Name, Field(max_length=LOCATIONS.longest)]],
    Field(
        max_length=LOCATIONS.most,
        description="where it may lie, the first preferred; once for each",
        json_schema_extra={"uniqueItems": True},
    ),
    AfterValidator(_different),
]
Moment = Annotated[datetime, BeforeValidator(_moment)]


class Query(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class OfCommands(Query):
    dry_run: Annotated[Truth, Field(description="answer what would happen, and change nothing")] = False


class Page(Query):
    limit: Limit = USUAL_LIMIT
    cursor: Cursor | None = None


class OfBatches(Page):
    sku: Annotated[Name, Field(description="batches of this SKU")] | None = None
    overdue: Annotated[Truth, Field(description="batches that should have come")] = False
    quarantined: Annotated[Truth, Field(description="batches of which something is in quarantine")] = False


class OfOrders(Page):
    state: Annotated[Status, Field(description="orders in this state")] | None = None
    sku: Annotated[Name, Field(description="orders with a line of this SKU")] | None = None
    since: Annotated[Moment, Field(description="placed then or later")] | None = None


class OfBackorders(Page):
    sku: Annotated[Name, Field(description="lines that wait for this SKU")] | None = None


class OfAtRisk(Page):
    sku: Annotated[Name, Field(description="lines of this SKU")] | None = None


class OfHold(OfCommands):
    sku: Annotated[Text, Field(description="what is held")]


class OneHold(Query):
    sku: Annotated[Name, Field(description="what is held")]


class OfHolds(Page):
    sku: Annotated[Name, Field(description="what is held of this SKU")] | None = None


class OfLine(Query):
    """What a line would want; without a quantity there is none."""

    qty: Qty | None = None
    needed_by: NeededBy | None = None
    may_split: MaySplit = False
    locations: Locations = []

    @property
    def terms(self) -> LineTerms:
        return LineTerms(needed_by=self.needed_by, may_split=self.may_split, locations=tuple(self.locations))


class OfExplanation(OfLine):
    qty: Qty


class OfAvailability(OfLine):
    sku: Annotated[
        list[Name],
        Field(
            min_length=1,
            max_length=MOST_SKUS,
            description="once for each SKU",
            json_schema_extra={"uniqueItems": True},
        ),
        AfterValidator(_different),
    ]


class OfEvents(Page):
    sku: Annotated[Name, Field(description="events of this SKU, in the order of their versions")] | None = None
    orderid: Annotated[Name, Field(description="events about lines of this order")] | None = None
    since: Annotated[Moment, Field(description="recorded then or later")] | None = None
    until: Annotated[Moment, Field(description="recorded before")] | None = None


def kind_of(route: Route) -> type[BaseModel] | None:
    """What may stand in the query of a route."""
    return route.query or (OfCommands if route.takes and not route.may_add else None)


def refuse_unknown(kind: type[BaseModel] | None) -> None:
    """Raises BadParameter: a filter that is not heeded is a wrong answer."""
    known = kind.model_fields if kind else {}
    for name, values in request.args.lists():
        if name not in known:
            raise _bad(name, f"unknown query parameter; {suggestion(name, known)}")
        if len(values) > 1 and not (kind and _is_list(kind, name)):
            raise _bad(name, "is given more than once")


def read(kind: type[Q]) -> Q:
    """Raises BadParameter."""
    try:
        lists = {name: values for name, values in request.args.lists() if _is_list(kind, name)}
        return kind.model_validate(request.args.to_dict() | lists)
    except ValidationError as error:
        found = bad_input(error, kind)
        raise BadParameter(str(found), found.problems) from error


def _is_list(kind: type[BaseModel], name: str) -> bool:
    return get_origin(kind.model_fields[name].annotation) is list


def end_of(page: Page, kind: TypeAdapter[C]) -> C | None:
    """Of the page before, if one is named. Raises BadParameter."""
    if page.cursor is None:
        return None
    try:
        return cursors.end_of(page.cursor, kind)
    except ValueError as error:  # neither base64 nor JSON, or not of this kind
        raise unknown_cursor() from error


def end_of_sku(page: OfBatches | OfBackorders | OfHolds, kind: TypeAdapter[S]) -> S | None:
    """As `end_of`, in a list that may be of one SKU: a page of another's is none of it. Raises BadParameter."""
    end = end_of(page, kind)
    if end and page.sku and end.sku not in forms(page.sku):
        raise unknown_cursor()
    return end


def unknown_cursor() -> BadParameter:
    return _bad("cursor", "is none that this question was answered with")


def link_to(cursor: str | None) -> dict[str, str]:
    """The header that names the next page (RFC 8288)."""
    if cursor is None:
        return {}
    return {"Link": f'<{request.path}?{urlencode(request.args.to_dict() | {"cursor": cursor})}>; rel="next"'}


def _bad(name: str, rule: str) -> BadParameter:
    return BadParameter(f"{name}: {rule}", [FieldProblem((name,), rule)])
