"""The catalogue as a page for people, in Markdown: `docs/events.md`."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.catalogue.messages import SENT, Channel, Message, by_channel
from allocation.service_layer.messages import EVENTS
from allocation.service_layer.messages.table import EventRow
from messaging.codec import JsonObject

_HEAD = """# Messages

What the service says over Redis and what it listens to, message by message. This page is generated from the code that
reads and writes them (`make catalogue`), and a test looks that it is what the code says.

For programs: `allocation catalogue --format asyncapi` prints the same as an AsyncAPI 3.0 document, and
`allocation catalogue --format schemas` the JSON Schemas. `allocation catalogue DIR` writes all of it into a folder. The
schema of every version that was ever published is in `src/allocation/catalogue/published/`.
[A small service](../examples/buying.py) that buys what is out of stock is written against this page alone.

## What holds for all of them

* JSON in UTF-8. Numbers are whole and are written so: `5`, neither `5.0` nor `"5"`.
* Case matters in text. Text of at most 255 characters has no control characters; in the fields of a command or event it
  does not begin or end with a space.
* **New fields may come** at any time, so leave aside those that you do not know. So do we.
* **Whatever would break you is a new version**, with a name of its own that ends in `.v2`. No field that is sent goes
  away, changes its type or gets wider limits under the same name. Nothing that is accepted stops being accepted.
* **A type that you do not know** may come on `allocation.events` after an upgrade of the service. Leave it aside, or
  stop there until you know it; never take it for one that you know.
* The version of a message is part of its type, which names its schema. So the attribute `dataschema` is not sent: see
  [ADR 23](adr/0023-the-catalogue-is-read-off-the-code.md).

## To read the events

* **With a group of your own**: `XGROUP CREATE allocation.events NAME 0 MKSTREAM`, then `XREADGROUP` and `XACK`. Each
  entry goes to one reader of a group, so never read with the group of another system.
  [A whole reader](integration.md#a-system-that-wants-to-know) has under fifty lines.
* **From the first event on**, where that is older than the stream keeps: make the group, page through
  [`GET /v1/events`](api.md#events) until `next` is null, then read the stream, and leave out of each `subject` what is
  not higher.
* **When Redis loses its data** your group is gone too, and `XREADGROUP` answers `NOGROUP`. Make it again, from 0. The
  relay fills the stream from the log, as far back as an entry stays, so events come again.
* **Without a group**, by `XREAD` and the last id: an id says how far you are only as long as the stream is the same. A
  stream that was lost and is filled again may have ids below yours, even within the same millisecond, and so may one
  whose Redis has restarted. So `GET {allocation.events}.incarnation` after each `XREAD`. Is it not what it was, read
  again from `0`; the `sequence` tells what you have. The same goes for ids that you keep.
* **After a restore** of the service's database forget what you have kept, and begin as at first. Whoever runs the
  service [has to tell you](operations.md#to-restore). You notice it yourself only where a `sequence` that you have
  comes with another `id`.

What an event changes, of the batch that it names. *Taken* is what is promised, has left, or is in quarantine:

| event | purchased | taken | available |
|---|---|---|---|
STOCK_CHANGES

So keep two numbers for each batch. After a receipt, a count, a change of its quantity, or what goes into quarantine
less than nothing may be available, until the `allocation.deallocated.v1` that follow are read.
`allocation.dispatched.v1` moves what is taken from promised to left, and changes neither number.

The same is called otherwise elsewhere:

| in the stream | in `GET /v1/events` | |
|---|---|---|
| `subject` | `sku` | also `sku` in `data` |
| `sequence`, text | `version`, a number | the same number |
| `correlationid`, `causationid` | `correlation_id`, `causation_id` | so in `line_allocated`, too |
| `authtype` and `authid` | `principal` | `api_key:shop`, or null |
| `ref`, `batchref` in `data` | the same | the batch at `/v1/batches/<ref>` |

`id`, `type`, `time` and `data` have the same name and mean the same.
"""


def page() -> str:
    changes = "\n".join(_stock_change(row) for row in EVENTS)
    parts = [_HEAD.replace("STOCK_CHANGES", changes)]
    for channel, messages in by_channel().items():
        parts += _channel(channel, messages)
    return "\n".join(parts)


def _stock_change(row: EventRow[Any]) -> str:
    """A row of the table of what an event changes of a batch."""
    columns = ["", "", ""]
    if row.stock and row.stock.purchased == "adds":
        columns = ["`qty`", "0", "`qty`"]
    elif row.stock and row.stock.purchased == "sets":
        columns = ["is `qty` now", "", "is `qty` − taken now"]
    elif row.stock and row.stock.purchased == "loses":
        columns = ["− `qty`", "− `qty`", ""]
    elif row.stock:
        columns = ["", *(f"{'+' if sign > 0 else '−'} `qty`" for sign in (row.stock.taken, -row.stock.taken))]
    return f"| `{CLOUD_EVENTS.type_of(row.kind)}` | " + " | ".join(columns).replace("  ", " ") + " |"


def _channel(channel: Channel, messages: list[Message]) -> Iterator[str]:
    kind = "stream" if channel.field else "channel"
    direction = "from the service" if channel.direction == SENT else "to the service"
    yield f"## The {kind} {channel.address}, {direction}\n"
    yield _paragraph(channel.promises)
    if channel.field:
        yield from _envelope(messages[0].schema)
    for message in messages:
        yield from _message(message, channel)


def _envelope(schema: JsonObject) -> Iterator[str]:
    """What the messages of a stream have in common."""
    attributes = {name: one for name, one in schema["properties"].items() if name not in ("type", "data")}
    yield "All have these attributes, a `type` and the `data`:\n"
    yield _table(schema | {"properties": attributes})


def _message(message: Message, channel: Channel) -> Iterator[str]:
    yield f"### {message.name}\n"
    yield _paragraph(f"{message.says} {message.when}")
    yield _table(message.schema["properties"]["data"] if channel.field else message.schema)
    yield f"```json\n{json.dumps(message.example, ensure_ascii=False)}\n```\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _table(schema: JsonObject) -> str:
    rows = "\n".join(_rows(schema))
    return f"| field | type | meaning |\n|---|---|---|\n{rows}\n"


def _rows(schema: JsonObject, prefix: str = "") -> Iterator[str]:
    for name, field in schema["properties"].items():
        optional = "" if name in schema["required"] else ", optional"
        yield f"| `{prefix}{name}` | {type_in_words(field)}{optional} | {field['description']} |"
        if "properties" in field:
            yield from _rows(field, f"{prefix}{name}.")


def type_in_words(field: JsonObject) -> str:
    """Type and limits of a field."""
    if "anyOf" in field:
        return " or ".join(type_in_words(branch) for branch in field["anyOf"])
    if "const" in field:
        const = field["const"]
        return f"always `{const if isinstance(const, str) else json.dumps(const)}`"
    if "type" not in field:
        return "anything"
    if field["type"] == "integer":
        return f"whole number, {field['minimum']:,} to {field['maximum']:,}"
    return _text(field) if field["type"] == "string" else str(field["type"])


def _text(field: JsonObject) -> str:
    if "format" in field:
        return _FORMATS[field["format"]]
    if "pattern" in field and field["pattern"] in _PATTERNS:
        return _PATTERNS[field["pattern"]]
    return f"text, 1 to {field['maxLength']} characters" if "maxLength" in field else "text"


_FORMATS = {"date": "date as `YYYY-MM-DD`", "date-time": "time as in RFC 3339"}
_PATTERNS = {r"^1\.0$": "`1.0`", "^[1-9][0-9]*$": "text, digits only"}
