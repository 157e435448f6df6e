"""What each route takes and answers: the part of the OpenAPI document that can't be read from the routes themselves.

Types stand here, not descriptions of them: what validates a request is what is told of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from pydantic import BaseModel

from allocation import validation
from allocation.entrypoints.v1 import problems
from allocation.entrypoints.v1.problems import Problem
from allocation.entrypoints.v1.queries import OfBatches, OfEvents, Page
from allocation.entrypoints.v1.shapes import Allocation, Batches, Event, Events, Products
from allocation.service_layer.messages import ordering, stock
from allocation.validation import Schema
from allocation.views import AllocatedLine, Batch, Incoming, Order, Stock


@dataclass(frozen=True, slots=True)
class Message:
    """How the book's routes say what is wrong."""

    message: str


@dataclass(frozen=True, slots=True)
class SkuAndBatch:
    sku: str
    batchref: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outcome` is allocated or out of stock, and then `batchref` is null."""

    outcome: str
    batchref: str | None
    orderid: str
    sku: str


@dataclass(frozen=True, slots=True)
class Health:
    status: str
    database: str | None = None
    redis: str | None = None


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where people and programs begin."""

    console: str
    docs: str
    openapi: str
    readyz: str


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent; `known` is what is not in it, since the path says it."""

    schema: Schema[Any]
    example: Mapping[str, Any]
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """An example, and by it the type; plain text is an example without one. `headers` are beside what all have."""

    says: str
    example: Any
    kind: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    or_text: str | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    summary: str
    description: str
    answers: Mapping[int, Answer]
    query: type[BaseModel] | None = None
    body: Body | None = None
    if_match: bool = False
    problems: Sequence[Problem] = ()
    tag: str = "v1"


_TAGGED = {"ETag": "What is here, in short: for If-None-Match, and of a batch for If-Match."}
_LOCATED = {"Location": "Where to find it again."}
_CREATED = {**_TAGGED, **_LOCATED}
_PAGED = {**_TAGGED, "Link": "The next page, as rel=next, if there is one."}

_STOCK = Stock("RED-CHAIR", 20, 12, 8, [Incoming(date(2031, 1, 1), 100, 0, 100)])
_BATCH = Batch("by-ship", "RED-CHAIR", 100, 0, 100, date(2031, 1, 1))
_CUT = Batch("by-ship", "RED-CHAIR", 80, 0, 80, date(2031, 1, 1))
_ORDER = Order("anna-1", [AllocatedLine("RED-CHAIR", "RED-CHAIR", 12, "in-stock", None)])
_ALLOCATION = Allocation("anna-1", "RED-CHAIR", "RED-CHAIR", 12, "in-stock", None)
_EVENT = Event(
    "8f0cbb3d-5f0a-4a53-9c1e-0d3a4a1a7b11",
    "allocation.allocated.v1",
    "RED-CHAIR",
    3,
    datetime(2030, 11, 20, 9, 30, 0, 250_000, UTC),
    "till-5/4711",
    "3f9f3c8e-7a64-4c0f-8a52-5b6ad9f2f5c0",
    "api_key:till-5",
    {"orderid": "anna-1", "sku": "RED-CHAIR", "qty": 12, "batchref": "in-stock", "lineid": "RED-CHAIR"},
)
_NEXT = "WyJSRUQtQ0hBSVIiXQ"
_NEXT_BATCH = "WyJSRUQtQ0hBSVIiLCAiYnktc2hpcCJd"

_NEW_BATCH = Body(validation.CREATE_BATCH, {"ref": "by-ship", "sku": "RED-CHAIR", "qty": 100, "eta": "2031-01-01"})
_LINE = Body(validation.ALLOCATE, {"orderid": "anna-1", "sku": "RED-CHAIR", "qty": 12})

ON_A_CHANGE = (
    problems.INVALID_REQUEST,
    problems.STILL_RUNNING,
    problems.TOO_LARGE,
    problems.UNSUPPORTED_MEDIA_TYPE,
    problems.INVALID_VALUES,
    problems.IDEMPOTENCY_KEY_REUSED,
)
ANYWHERE = (problems.INTERNAL_ERROR, problems.UNAVAILABLE)

OPERATIONS = {
    "v1.products": Operation(
        "All products",
        "SKUs in their order, each with what is there and what is to come.",
        {200: Answer("A page.", Products([_STOCK], _NEXT), headers=_PAGED)},
        query=Page,
        problems=[problems.INVALID_VALUES],
    ),
    "v1.product": Operation(
        "One product",
        "What is on hand, promised and available now, and what is to come by day.",
        {200: Answer("The product.", _STOCK, headers=_TAGGED)},
        problems=[problems.NOT_FOUND],
    ),
    "v1.batches": Operation(
        "The batches of a product",
        "In the order of allocation: warehouse first, then the earliest delivery. Exhausted batches are among them.",
        {200: Answer("A page.", Batches([_BATCH], _NEXT_BATCH), headers=_PAGED)},
        query=OfBatches,
        problems=[problems.INVALID_VALUES],
    ),
    "v1.batch": Operation(
        "One batch",
        "What it holds, and how much of it is promised.",
        {200: Answer("The batch.", _BATCH, headers=_TAGGED)},
        problems=[problems.NOT_FOUND],
    ),
    "v1.order": Operation(
        "One order",
        "Its allocated lines, each with its batch and the day on which that is expected. A line that is out of stock "
        "is not among them: look for its events.",
        {200: Answer("The order.", _ORDER, headers=_TAGGED)},
        problems=[problems.NOT_FOUND],
    ),
    "v1.events": Operation(
        "What has happened",
        "From the log, in the order of commits, so that whoever goes on from a cursor misses nothing. Filters combine.",
        {200: Answer("A page.", Events([_EVENT], None, "WyJSRUQtQ0hBSVIiLCAzXQ"), headers=_PAGED)},
        query=OfEvents,
        problems=[problems.INVALID_VALUES],
    ),
    "v1.create_batch": Operation(
        "Add a batch",
        "Purchased stock; without an `eta` it is in the warehouse already.",
        {
            201: Answer("Added.", _BATCH, headers=_CREATED),
            200: Answer("The identical batch was added before; as it is now.", _BATCH, headers=_CREATED),
        },
        body=_NEW_BATCH,
        problems=[*ON_A_CHANGE, *problems.of_command(stock.CREATE_BATCH)],
    ),
    "v1.change_batch": Operation(
        "State how much a batch holds",
        "If that is less than is promised from it, its newest promises are broken and placed again from other "
        "batches, in the same moment.",
        {200: Answer("The batch as it is now.", _CUT, headers=_TAGGED)},
        body=Body(validation.CHANGE_BATCH_QUANTITY, {"qty": 80}, known=("batchref",)),
        if_match=True,
        problems=[
            *ON_A_CHANGE,
            *problems.of_command(stock.CHANGE_BATCH_QUANTITY),
            problems.PRECONDITION_REQUIRED,
        ],
    ),
    "v1.allocate": Operation(
        "Allocate an order line",
        "From the best batch that has room: warehouse first, then the earliest delivery. The whole line or nothing.",
        {
            201: Answer("Allocated.", _ALLOCATION, headers=_LOCATED),
            200: Answer("It was allocated before.", _ALLOCATION, headers=_LOCATED),
        },
        body=_LINE,
        problems=[*ON_A_CHANGE, *problems.of_command(ordering.ALLOCATE), problems.OUT_OF_STOCK],
    ),
    "add_batch": Operation(
        "Add a batch, as in the book",
        "The identical batch again changes nothing.",
        {
            201: Answer("Added.", "OK"),
            **{status: Answer("Refused.", Message("ref: is missing")) for status in (400, 409, 413, 415, 422)},
        },
        body=_NEW_BATCH,
        tag="the book's",
    ),
    "allocate": Operation(
        "Allocate an order line, as in the book",
        "The outcome is told to those who accept application/json.",
        {
            202: Answer(
                "Allocated, or out of stock.", Outcome("allocated", "in-stock", "anna-1", "RED-CHAIR"), or_text="OK"
            ),
            **{status: Answer("Refused.", Message("Invalid sku RED-CHIAR")) for status in (400, 409, 413, 415, 422)},
        },
        body=_LINE,
        tag="the book's",
    ),
    "allocations": Operation(
        "The allocated lines of an order, as in the book",
        "In the order of allocation.",
        {
            200: Answer("The lines.", [SkuAndBatch("RED-CHAIR", "in-stock")], kind=list[SkuAndBatch]),
            404: Answer("None is allocated.", "not found"),
        },
        tag="the book's",
    ),
    "home": Operation(
        "Where is what?",
        "Browsers, which ask for text/html, are sent on to the console.",
        {200: Answer("Where to go on.", Addresses("/console", "/docs", "/openapi.json", "/readyz"))},
        tag="health",
    ),
    "metrics": Operation(
        "How is it?",
        "Numbers of all processes, in the text format of Prometheus.",
        {200: Answer("The numbers.", "# HELP ...")},
        tag="health",
    ),
    "healthz": Operation("Is it alive?", "Asks nobody else.", {200: Answer("It is.", Health("alive"))}, tag="health"),
    "readyz": Operation(
        "Can it work?",
        "Whether the database answers and has the schema that is needed. Without Redis it is degraded, and works.",
        {
            200: Answer("It can.", Health("ready", "ok", "ok")),
            503: Answer("It can't, and says why.", Health("not ready", "no answer within a second", "ok")),
        },
        tag="health",
    ),
}
"""By endpoint. A test fails for a route that is not here."""
