"""What the catalogue says is what is sent and accepted, limits included, and nothing published is broken."""

from __future__ import annotations

import json
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, FormatChecker
from tests import anything
from tests.catalogue import broken_promises, document, expected
from tests.fakes import Service
from tests.unit import asyncapi_3_0

from allocation.adapters.outcome_messages import outcome_message
from allocation.adapters.redis_eventpublisher import line_allocated_message
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue import SENT, Message, asyncapi, history, messages
from allocation.domain import commands, events
from allocation.domain.errors import DomainError, OrderIsCancelled
from allocation.entrypoints import inbound
from allocation.entrypoints.cli import main
from allocation.service_layer.messages import ALL_COMMANDS, COMMANDS, EVENTS
from allocation.service_layer.messages.table import EventRow
from allocation.validation import SCHEMAS, Schema
from messaging.cloud_events import CloudEvents
from messaging.codec import Codec, JsonObject
from messaging.envelope import Metadata, Outcome
from messaging.errors import UnreadableMessage

BY_NAME = {message.name: message for message in messages()}
each_message = pytest.mark.parametrize("message", messages(), ids=lambda message: message.name)
each_accepted = pytest.mark.parametrize(
    "message", [one for one in messages() if one.channel.direction != SENT], ids=lambda message: message.name
)


def problems(message: Message, said: object) -> list[str]:
    found = Draft202012Validator(message.schema, format_checker=FormatChecker()).iter_errors(said)
    return [f"{one.json_path}: {one.message}" for one in found]


def is_accepted(message: Message, said: object) -> bool:
    try:
        inbound.read(message.channel.address, json.dumps(said).encode())
    except UnreadableMessage:
        return False
    return True


# --- the schemas say what is so ------------------------------------------------


@each_message
@pytest.mark.parametrize("dialect", [Draft202012Validator, Draft7Validator], ids=lambda dialect: dialect.__name__)
def test_each_schema_is_one_in_the_dialect_of_today_and_in_asyncapi_s(message: Message, dialect: Any) -> None:
    dialect.check_schema(message.schema)


@each_message
def test_each_example_is_of_its_schema_and_shows_every_field(message: Message) -> None:
    assert problems(message, message.example) == []

    data = message.schema["properties"].get("data", message.schema)
    shown = message.example.get("data", message.example).keys()
    assert shown == data["properties"].keys() or (message.name == "allocation.outcome.v1" and "refused" in shown)


@each_accepted
def test_each_example_of_a_command_is_read(message: Message) -> None:
    assert is_accepted(message, message.example)


def said_about(asked: list[Any], *refusals: type[DomainError]) -> list[tuple[Message, JsonObject]]:
    """All that the outside hears when these commands are given, as it goes over the wire."""
    service = Service()
    for command in asked:
        with suppress(*refusals):
            service.when(command)
    heard = [(recorded, CLOUD_EVENTS.encode(recorded)) for recorded in service.publisher.published]
    streamed = [(BY_NAME[CLOUD_EVENTS.type_of(type(one.event))], json.loads(body)) for one, body in heard]
    published = [
        (BY_NAME["line_allocated"], json.loads(line_allocated_message(one)))
        for one, _ in heard
        if isinstance(one.event, events.Allocated)
    ]
    return [*streamed, *published, *told_on_request()]


def told_on_request() -> list[tuple[Message, JsonObject]]:
    outcomes = [Outcome({"LAMP": 3}), Outcome(None), Outcome(refusal=OrderIsCancelled(LONGEST))]
    metadata = Metadata(LONGEST, LONGEST, None, "/shop", datetime.now(UTC))
    bodies = [outcome_message("1-1", known, outcome) for known in (metadata, None) for outcome in outcomes]
    return [(BY_NAME["allocation.outcome.v1"], json.loads(body)) for body in bodies]


LONGEST = "Ä" * 255
DOCUMENT = "Ö" * 64
EXTREMES: list[Any] = [
    commands.CreateBatch(LONGEST, "S" * 255, 1_000_000_000, None),
    commands.CreateBatch("b2", "S" * 255, 0, date(9999, 12, 31)),
    commands.Allocate("o1", "S" * 255, 1_000_000),
    commands.ReportShortages("S" * 255, 1_000, ("x" * 900,) * 100),
    commands.Allocate("o2", "S" * 255, 1, LONGEST),
    commands.ChangeBatchQuantity(LONGEST, 0),
    commands.CreateBatch("b3", "S" * 255, 1_000_000_000, date(2031, 1, 1), date(2031, 2, 1)),
    commands.ChangeEta("b3", date(2199, 12, 31)),
    commands.ReceiveBatch("b3", DOCUMENT, 20, 10, date(2031, 3, 1), commands.Rest("R" * 255, date(2031, 2, 1))),
    commands.Allocate("o3", "S" * 255, 5, LONGEST),
    commands.Dispatch("o3", DOCUMENT, (commands.ParcelLine(LONGEST, 5, "b3"),)),
    commands.ReturnLine("o3", LONGEST, 3, DOCUMENT, "good"),
    commands.ReturnLine("o3", LONGEST, 2, "other", "check"),
    commands.Quarantine("b3", 1, "suspect", DOCUMENT),
    commands.ReleaseQuarantine("b3", 1, DOCUMENT),
    commands.WriteOff("b3", 2, "theft", DOCUMENT),
    commands.CountBatch("b3", 1_000_000_000, 8, DOCUMENT, "found"),
    commands.Allocate("o4", "S" * 255, 1_000_000, LONGEST),
    commands.ReleaseLine("o4", LONGEST),
    commands.CancelOrder("o4"),
    commands.CreateBatch("b5", "S" * 255, 5, location="L" * 64),
    commands.PlaceOrder(
        "o5",
        (commands.OrderedLine("S" * 255, 1_000_000, LONGEST), commands.OrderedLine("S" * 255, 1, "2")),
        "partial",
        9,
        date(2199, 12, 31),
        True,
        (*(f"{place:02}" + "L" * 62 for place in range(19)), "L" * 64),
    ),
    commands.ChangeLine("o5", LONGEST, 7, 1_000_000),
    commands.CreateBatch("b6", "H" * 255, 1_000_000, date(2026, 3, 1)),
    commands.CreateBatch("b7", "H" * 255, 1, None, date(2026, 3, 1)),
    commands.PlaceHold(LONGEST, "H" * 255, 1_000_000, 600),
    commands.ExtendHold(LONGEST, "H" * 255, 14_400),
    commands.ConfirmHold(LONGEST, "H" * 255, 1_000_000, "o6", LONGEST, 9, date(2199, 12, 31)),
    commands.ApplyDueDates("H" * 255, ("b6", "b7")),
    commands.CreateBatch("b8", "H" * 255, 1_000_000),
    commands.PullForward("H" * 255, "b8", 100),
]


def test_what_is_sent_is_of_its_schema_and_has_no_field_that_is_not_in_it() -> None:
    heard = said_about(EXTREMES)

    assert {message.name for message, _ in heard} == {one.name for one in messages() if one.channel.direction == SENT}
    for message, said in heard:
        assert problems(message, said) == []
        assert said.keys() <= message.schema["properties"].keys()
        for name in ("data", "metadata") if message.name != "allocation.outcome.v1" else ():
            described = message.schema["properties"].get(name, {})
            assert (
                set(described.get("required", ()))
                <= said.get(name, {}).keys()
                <= described.get("properties", {}).keys()
            )


words_of_text = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=255).filter(
    lambda text: text == text.strip()
)
lines = st.builds(commands.Allocate, words_of_text, st.just("S"), st.integers(1, 1_000_000), words_of_text)


@given(st.lists(lines, max_size=4), st.integers(0, 1_000_000_000))
@settings(max_examples=20)
def test_whatever_may_come_in_what_goes_out_is_of_its_schema(asked: list[Any], rest: int) -> None:
    created = commands.CreateBatch("b", "S", 1_000_000_000)
    unique = {(line.orderid, line.lineid): line for line in asked}.values()

    for message, said in said_about([created, *unique, commands.ChangeBatchQuantity("b", rest)]):
        assert problems(message, said) == []


@given(st.lists(anything.commands(["LAMP"]), max_size=20))
def test_whatever_happens_what_goes_out_is_of_its_schema(asked: list[Any]) -> None:
    for message, said in said_about([commands.CreateBatch("b1", "LAMP", 20), *asked], DomainError):
        assert problems(message, said) == []


@pytest.mark.parametrize("row", EVENTS, ids=lambda row: row.kind.__name__)
def test_what_an_event_may_leave_open_is_null_in_its_schema(row: EventRow[Any]) -> None:
    types = get_type_hints(row.kind)
    may_be_none = [name for name in row.fields if type(None) in get_args(types[name])]

    properties = Schema(row).json_schema()["properties"]
    of_schema = [row.fields[name].wire or name for name in may_be_none]
    assert [name for name in of_schema if {"type": "null"} not in properties[name].get("anyOf", [])] == []


BAD_TEXT = [
    "",
    "x" * 256,
    " x",
    "x ",
    "x\u00a0",
    "\u2003x",
    "a\nb",
    "a\n",
    "\x00",
    "a\x7f",
    "a\x85b",
    "a\u200bb",
    "\ufeffa",
    "a\u200dé",
    "\u3164",
    "a\U000e0041",
    5,
    None,
    ["x"],
    True,
]
BAD: dict[str, list[Any]] = {
    "qty": [-1, 1_000_000_001, 1.5, "5", None, True],
    "eta": ["", "0001-01-01", "1979-12-31", "2200-01-01", "9999-12-31", "tomorrow", "2031-13-01", "2031-1-1", 5, True],
    "expires": [
        "",
        "0001-01-01",
        "1979-12-31",
        "2200-01-01",
        "9999-12-31",
        "tomorrow",
        "2031-13-01",
        "2031-1-1",
        5,
        True,
    ],
    "received": [-1, 1_000_000_001, 1.5, "5", None, True],
    "damaged": [-1, 1_000_000_001, 1.5, "5", None, True],
    "counted": [-1, 1_000_000_001, 1.5, "5", None, True],
    "expected": [-1, 1_000_000_001, 1.5, "5", True],
    "reason": ["", "because", 5, None, True],
    "condition": ["", "because", 5, None, True],
    "document": ["", "x" * 65, " x", 5, None],
    "receipt_id": ["", "x" * 65, " x", 5, None],
    "count_id": ["", "x" * 65, " x", 5, None],
    "dispatch_id": ["", "x" * 65, " x", 5, None],
    "return_id": ["", "x" * 65, " x", 5, None],
    "batchref": ["", "x" * 256, " x", 5, True],
    "rest": [{}, [], "x", {"ref": "b"}, {"ref": "b", "eta": None}, {"ref": " b", "eta": "2031-01-01"}],
    "lines": [None, [], {}, "x", [{}], [{"lineid": "1", "qty": 0}], [{"lineid": " ", "qty": 1}]],
    "mode": ["", "all", None, 5],
    "priority": [-1, 10, 1.5, "5", None, True],
    "needed_by": ["", "0001-01-01", "9999-12-31", "tomorrow", 5, True],
    "may_split": ["", "true", 1, None],
    "locations": [[], "x", [""], [" x"], ["x" * 65], [None], [f"{place}" for place in range(21)]],
    "seconds": [0, -1, 14_401, 1.5, "5", None, True],
    "most": [0, 101, 1.5, "5", None, True],
    "location": ["", "x" * 65, " x", 5, None],
    "specversion": ["0.3", "", 1.0, None],
    "id": ["", "x" * 256, "a\nb", "\x00", 5, None],
    "source": ["", "x" * 256, "a\x85b", 5, None],
    "type": ["", "allocation.allocate.v99", 5, None],
    "correlationid": ["", "x" * 256, "a\nb", 5],
    "data": [None, [], "x", {}],
}
"""Of all others, which are text, BAD_TEXT."""


@each_accepted
def test_what_breaks_a_limit_is_neither_of_the_schema_nor_read(message: Message) -> None:
    def look(at: JsonObject, whole: JsonObject) -> None:
        for name in at:
            good = at[name]
            is_optional = name == "batchref" and good is None
            for bad in BAD_TEXT if name == "batchref" and not is_optional else BAD.get(name, BAD_TEXT):
                at[name] = bad
                assert problems(message, whole), (name, bad)
                assert not is_accepted(message, whole), (name, bad)
            at[name] = good

    whole = deepcopy(message.example)
    look(whole, whole)
    look(whole.get("data", {}), whole)


@each_accepted
def test_what_is_missing_is_missed_by_both_and_what_is_added_by_neither(message: Message) -> None:
    def look(at: JsonObject, whole: JsonObject) -> None:
        for name in list(at):
            good = at.pop(name)
            assert is_accepted(message, whole) == (not problems(message, whole)), name
            at[name] = good
        at["something else"] = [{}]
        assert is_accepted(message, whole) == (not problems(message, whole)) == (at is not whole.get("data"))

    whole = deepcopy(message.example)
    look(whole, whole)
    look(whole.get("data", {}), whole)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=4), qty=st.integers(-2, 2_000_000))
def test_the_schema_and_the_reader_agree_about_any_text_and_number(text: str, qty: int) -> None:
    message = BY_NAME["change_batch_quantity"]
    said = {"batchref": text, "qty": qty * 1000}

    assert is_accepted(message, said) == (not problems(message, said))


def test_limits_of_what_is_sent_are_those_of_what_comes_in() -> None:
    def limits(schema: JsonObject) -> dict[str, JsonObject]:
        """But for hidden characters: what was stored before they were refused is sent all the same."""
        return {name: one | {"description": "", "not": {}} for name, one in schema["properties"].items()}

    asked = limits(BY_NAME["allocation.allocate.v1"].schema["properties"]["data"])
    told = limits(BY_NAME["allocation.out_of_stock.v1"].schema["properties"]["data"])

    assert asked == told


# --- nothing is left out -------------------------------------------------------


def test_every_event_and_command_is_in_it() -> None:
    assert {row.kind for row in EVENTS} == set(get_args(events.Event))
    assert {row.kind for row in ALL_COMMANDS} == set(get_args(commands.Command))
    assert {schema.kind for schema in SCHEMAS.values()} == {row.kind for row in COMMANDS}


def test_every_name_stands_for_one_shape() -> None:
    assert len(BY_NAME) == len(messages())


# --- the asyncapi document -----------------------------------------------------


def test_the_asyncapi_document_has_the_form_of_the_specification() -> None:
    Draft202012Validator(asyncapi_3_0.SCHEMA).validate(asyncapi.document())


def test_the_form_is_looked_at() -> None:
    for path, bad in [
        (("operations", "send.allocation.events", "action"), "publish"),
        (("channels", "allocation.events", "subscribe"), {}),
        (("components", "messages", "line_allocated", "contentType"), "json"),
        (("asyncapi",), "2.6.0"),
        (("servers", "redis", "url"), "redis://localhost"),
    ]:
        document: Any = deepcopy(asyncapi.document())
        place = document
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = bad
        assert not Draft202012Validator(asyncapi_3_0.SCHEMA).is_valid(document), path


def test_every_reference_leads_somewhere_and_every_message_is_on_a_channel() -> None:
    document = asyncapi.document()

    def find(reference: str) -> Any:
        place: Any = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
        return place

    def follow(value: Any) -> None:
        if isinstance(value, dict):
            if "$ref" in value:
                assert find(value["$ref"])
            for one in value.values():
                follow(one)
        elif isinstance(value, list):
            for one in value:
                follow(one)

    follow(document)
    used = [name for channel in document["channels"].values() for name in channel["messages"]]
    assert sorted(used) == sorted(document["components"]["messages"]) == sorted(BY_NAME)
    for channel, operation in zip(document["channels"].values(), document["operations"].values(), strict=True):
        assert find(operation["channel"]["$ref"]) == channel
        named = [one["$ref"].rsplit("/", 1)[1] for one in operation["messages"]]
        assert named == list(channel["messages"])


# --- what was published --------------------------------------------------------


@pytest.mark.parametrize("path", expected(), ids=lambda path: path.name)
def test_what_is_generated_is_what_the_code_says(path: Path) -> None:
    assert path.read_text("utf-8") == expected()[path], "the code says otherwise: run `make catalogue`"


def test_nothing_that_was_published_is_broken() -> None:
    assert list(broken_promises(history.published(), messages())) == []


def test_every_published_version_is_a_schema_with_examples_of_it() -> None:
    assert history.published().keys() >= BY_NAME.keys()
    for name, schema in history.published().items():
        Draft202012Validator.check_schema(schema)
        assert schema["title"] == name
        assert schema["examples"]
        for example in schema["examples"]:
            Draft202012Validator(schema).validate(example)


@dataclass(frozen=True)
class Sold:
    sku: str
    buyer: str = "somebody"


OLD: JsonObject = {
    "x-channel": "allocation.events",
    "x-direction": "sent",
    "type": "object",
    "properties": {
        "type": {"const": "allocation.sold.v1"},
        "data": {"type": "object", "properties": {"article": {"type": "string"}}, "required": ["article"]},
    },
    "required": ["type", "data"],
    "examples": [{"type": "allocation.sold.v1", "data": {"article": "LAMP"}}],
}


def broken(published: dict[str, JsonObject], *today: Message, codec: Codec | None = None) -> list[str]:
    return list(broken_promises(published, today, CloudEvents(codec or Codec({}), "/shop", "allocation")))


def test_an_old_version_of_an_event_needs_an_upcaster() -> None:
    without_one = Codec({"sold.v2": Sold})
    with_one = Codec({"sold.v2": Sold}, {"sold.v1": lambda data: ("sold.v2", {"sku": data["article"]})})
    with_a_bad_one = Codec({"sold.v2": Sold}, {"sold.v1": lambda data: ("sold.v2", {"sku": data["sku"]})})

    assert "no message is known as sold.v1" in broken({"allocation.sold.v1": OLD}, codec=without_one)[0]
    assert (
        "the log holds such events, and they can't be read"
        in broken({"allocation.sold.v1": OLD}, codec=with_a_bad_one)[0]
    )
    assert broken({"allocation.sold.v1": OLD}, codec=with_one) == []


def test_a_version_that_was_changed_though_it_was_published_is_named() -> None:
    allocated = BY_NAME["allocation.allocated.v1"]
    other = deepcopy(allocated.schema)
    del other["properties"]["data"]["properties"]["batchref"]
    today = Message(allocated.name, allocated.channel, "", "", other, allocated.example)

    [reason] = broken_promises({allocated.name: history.published()[allocated.name]}, [today])

    assert reason.startswith("allocation.allocated.v1: data.batchref: is gone; give what changes a new version")


def test_an_event_that_can_be_read_no_more_is_named_though_nobody_outside_would_notice() -> None:
    @dataclass(frozen=True)
    class Dear:
        article: str
        price: int

    published = {"allocation.sold.v1": OLD}
    today = Message("allocation.sold.v1", BY_NAME["allocation.allocated.v1"].channel, "", "", OLD, {})

    assert broken(published, today, codec=Codec({"sold.v1": Dear}))[0].startswith(
        "allocation.sold.v1: the log holds such events, and they can't be read"
    )


@pytest.mark.parametrize(
    ("name", "reason"),
    [("allocation.allocate.v1", "is no longer accepted"), ("line_allocated", "is no longer sent")],
)
def test_what_has_no_upcaster_never_goes_away(name: str, reason: str) -> None:
    [said] = broken({name: history.published()[name]})

    assert said.startswith(f"{name}: {reason}")


def test_an_example_that_was_ever_given_is_kept() -> None:
    message = BY_NAME["change_batch_quantity"]
    earlier = {"batchref": "b", "qty": 1}

    now = document(message, {"examples": [earlier, message.example]})

    assert now["examples"] == [message.example, earlier]


# --- the command ---------------------------------------------------------------


def run(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["catalogue", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_command_lists_every_message_for_people_and_for_programs() -> None:
    assert [line.split()[0] for line in run().splitlines()] == list(BY_NAME)
    assert [json.loads(line)["name"] for line in run("--json").splitlines()] == list(BY_NAME)


def test_the_command_prints_each_form() -> None:
    assert json.loads(run("--format", "asyncapi")) == asyncapi.document()
    assert json.loads(run("--format", "schemas")) == history.published()
    assert run("--format", "markdown").startswith("# Messages\n")


def test_the_command_writes_all_of_it_into_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "catalogue"

    assert run(str(folder)) == f"Written to {folder}: asyncapi.json, events.md and schemas/.\n"

    assert json.loads((folder / "asyncapi.json").read_text("utf-8"))["asyncapi"] == "3.0.0"
    assert {path.stem for path in (folder / "schemas").glob("*.json")} == history.published().keys()
    assert (folder / "events.md").exists()


def test_the_command_says_in_a_line_what_it_can_not_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for arguments, reason in [
        ([str(tmp_path / "file" / "below")], "can't write to"),
        (["--json", "--format", "asyncapi"], "give one of --format, --json and DIR"),
    ]:
        result = CliRunner().invoke(main, ["catalogue", *arguments])
        assert result.exit_code
        assert reason in result.output
