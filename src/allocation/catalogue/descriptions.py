"""What channels promise and what the attributes of an envelope mean; of messages the table of messages says it."""

from __future__ import annotations

from datetime import timedelta

from allocation.adapters.redis_channels import REPLIES_STAY
from allocation.config import EVENTS_STAY

EVENT_STREAM = (
    "Every event, as a CloudEvent 1.0 in JSON, in the one field `event` of an entry. "
    f"An entry stays for {EVENTS_STAY.days} days, unless the setting EVENTS_STAY says otherwise. Each event comes at "
    "least once. The events of one SKU (`subject`) come in the order of their `sequence`, without gaps; across SKUs "
    "there is no order. A repeat has the same `id`, `subject` and `sequence`, so whoever keeps the highest `sequence` "
    "of each `subject` can leave out what is not higher. Only after the service's database was restored from a backup "
    "do other events, with other ids, get the numbers of those that were lost: then forget what you have kept, and "
    "read from the beginning."
)
COMMAND_STREAM = (
    "Commands, as CloudEvents 1.0 in JSON, in the one field `command` of an entry. They are handled in the order of "
    "the stream, each once: `source` and `id` together name a command, and sent again within a day it has no second "
    "effect. What follows is an event, with the command's `correlationid` (or else its `id`). What is refused, can't "
    "be read, has a key in `data` that is not known, or is of a type or version that the service does not know is a "
    "dead letter with the reason; the next one has its turn. A field `dry_run` of the entry, "
    "which must be `1` and beside `replyto`, has the command answered and not done: how it would end after all that "
    "stands before it."
)
REPLIES = (
    "How a command from the stream `allocation.commands` has ended, for whoever put the name of such a stream, which "
    "ends with `.replies`, into the field `replyto` of its entry. It is a CloudEvent 1.0 in JSON, in the one field "
    "`event`. The setting REPLY_STREAMS says which names are allowed. It comes after the commit, at least once, with "
    f"the same `id` on a repeat, and stays for {REPLIES_STAY // timedelta(hours=1)} hours. What can't be sent there is "
    "given up. The answer to a dry run says how the command would have ended at that moment."
)
LINE_ALLOCATED = (
    "The book's message about each allocation, over pub/sub: it reaches those who listen at that moment, and nobody "
    "else. Whoever must not miss any reads the stream `allocation.events`, where the same event has the same `id`."
)
CHANGE_BATCH_QUANTITY = (
    "The book's message, over pub/sub: it takes effect at most once, in the order sent, and is lost when no consumer "
    "listens. Whoever must be heard sends `allocation.change_batch_quantity.v1` to the stream `allocation.commands`."
)

SENT_ATTRIBUTES = {
    "specversion": "The version of CloudEvents.",
    "id": "Names the event, the same on every repeat.",
    "source": "This service.",
    "type": "What happened, and the version of its shape.",
    "subject": "The SKU.",
    "time": "When it happened.",
    "datacontenttype": "How `data` is written.",
    "sequence": "The number of the event in its SKU's history, from 1, without gaps; compare it as a number.",
    "correlationid": "Shared by all that follows from one request from outside.",
    "causationid": "The id of the command or event that directly led to this one, where there is one.",
    "authtype": "What kind of principal asked for it, where that was proved: `api_key` or `user`.",
    "authid": "The name of that principal.",
    "traceparent": "Its place in a trace, as W3C has it, where the service keeps traces.",
    "data": "What happened.",
}
OUTCOME_ATTRIBUTES = SENT_ATTRIBUTES | {
    "id": "Names the outcome: the id of the command, or its hash where that would be too long, and `:outcome`. That of "
    "a dry run is the id of its entry in the stream, and `:dry-run`.",
    "type": "That it is an outcome, and the version of its shape.",
    "time": "When it was published.",
    "correlationid": "As the command has it, or else the command's id.",
    "causationid": "The id of the command; of a message that could not be read, that of its entry in the stream.",
    "data": "How it ended: with a `result`, or `refused`.",
}
OUTCOME = {
    "command": "The id of the command; of a message that could not be read, that of its entry in the stream.",
    "result": "What the command gives: the batch of an allocation, null when it is out of stock; of an order its "
    "lines, or each that there is not enough for; of a new batch whether lines wait for its SKU; for what is recorded "
    "in the log, its first version by SKU.",
    "refused": "Why not, as the type of a problem under `/problems`. A dead letter has the message.",
    "because": "The same in words.",
    "dry_run": "That this is what would have happened. A dry run that is refused is no dead letter.",
    "events": "Of a dry run: the events that the command would have given, in their order.",
}
OUTCOME_EVENT = {
    "type": "As in the stream `allocation.events`.",
    "data": "As it would be there.",
}
ACCEPTED_ATTRIBUTES = {
    "specversion": "The version of CloudEvents.",
    "id": "Names the command, together with `source`.",
    "source": "Who sends it.",
    "type": "What is to be done, and the version of its shape.",
    "correlationid": "Is taken along to all that follows; when it is not given, the `id` is.",
    "traceparent": "Its place in a trace, as W3C has it; one that can't be read is as good as none.",
    "data": "What is to be done.",
}
ABOUT_METADATA = "Who the event is and what it belongs to."
METADATA = {
    "id": "Names the event, the same as in the stream.",
    "correlation_id": "Shared by all that follows from one request from outside.",
    "causation_id": "The id of the command or event that directly led to this one; null when there is none.",
    "source": "By which way the request came in; over the stream, the `source` that its sender names.",
    "time": "When it happened.",
    "principal": "Who asked for it, as kind and name, where that was proved; else null.",
}
