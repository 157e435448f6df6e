"""A Redis stream read by one consumer group: nothing is passed over, whatever happens to those who read.

An entry is pending from when it is read until it is acknowledged. One consumer at a time is to be at work, or entries
are handled out of their order; who takes over takes what is pending too.

Redis may lose the group, or somebody moves it or reads in it. So the consumer keeps its own position, and the group is
made to go on there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any

import redis

from messaging.envelope import Position
from messaging.redis.client import redis_faults
from messaging.redis.entry_ids import oldest_kept, order_of
from messaging.redis.lag import Lag, lag_of

_PAGE = 1_000

# A full Redis refuses to make or move a group, and whoever would let go of what fills it needs one; it does not refuse
# to acknowledge, nor what a script writes after that.
_XGROUP = """
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
return redis.pcall('XGROUP', ARGV[2], KEYS[1], ARGV[1], unpack(ARGV, 3))
"""

# Forgets all other consumers that have nothing pending; in one step, since whoever is forgotten loses what it reads
# meanwhile.
_FORGET_IDLE = """
redis.call('XACK', KEYS[1], ARGV[1], '0-0')
for _, consumer in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], ARGV[1])) do
    local fields = {}
    for i = 1, #consumer, 2 do fields[consumer[i]] = consumer[i + 1] end
    if fields.name ~= ARGV[2] and fields.pending == 0 then
        redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], fields.name)
    end
end
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """`body` is what its field held; None when the entry was deleted, or has no such field, but `others`.

    `tries` counts how often it was read, by whomever.
    """

    id: str
    body: bytes | None
    tries: int = 1
    others: Mapping[bytes, bytes] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Of its content."""
        return sha256(repr((self.body, sorted(self.others.items()))).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """What stands in the stream where an entry was `handled`: it, as it is now, and the id of the next one."""

    handled: Position
    entry: Entry | None
    next_id: str | None

    @property
    def is_intact(self) -> bool:
        """Whether this is the stream that was handled so far, as far as that can be known: its entry may be gone."""
        return self.entry is not None and self.entry.fingerprint == self.handled.fingerprint

    @property
    def is_in_doubt(self) -> bool:
        """Whether the stream may be another, made anew with other ids, so that what follows may have been handled."""
        return self.handled.entry_id != "0-0" and not self.is_intact

    def has_skipped(self, read: Sequence[Entry]) -> bool:
        """Whether anything stands between what was handled and what was `read` next or, if nothing was, behind it:
        the group was moved ahead, or somebody else reads in it. Or it has just come."""
        return self.next_id is not None and (not read or order_of(self.next_id) < order_of(read[0].id))


class ConsumerGroup:
    """All of it raises Unavailable. What was acknowledged stays in the stream for `keep`, by the clock of Redis."""

    def __init__(
        self, client: redis.Redis, *, stream: str, field: str, group: str, consumer: str, keep: timedelta
    ) -> None:
        self.stream = stream
        self._client = client
        self._field = field.encode()
        self._group = group
        self._consumer = consumer
        self._keep = keep
        self._xgroup = client.register_script(_XGROUP)
        self._forget_idle = client.register_script(_FORGET_IDLE)
        self._was_made = False

    def take_over(self, handled: Position | None = None) -> list[Entry]:
        """Make the group if it is not there, have it go on after what was `handled`, and make ours what is pending with
        others.

        Returns entries that were deleted while they were pending: nobody can handle them any more.
        """
        with redis_faults():
            self._make_group()
            ours = self._consumer.encode()
            ids = [found["message_id"] for found in self._pending() if found["consumer"] != ours]
            if ids:  # without counting it as a try
                self._client.xclaim(self.stream, self._group, self._consumer, 0, ids, justid=True)
            still_there = {found["message_id"] for found in self._pending()}
            self._forget_idle(keys=[self.stream], args=[self._group, self._consumer])
            if handled and not self._goes_on_after(handled):
                self.go_back_to(handled)
        return [Entry(_text(one), None) for one in ids if one not in still_there]

    def look_at(self, handled: Position) -> Place:
        with redis_faults():
            found: Any = self._client.xrange(self.stream, handled.entry_id, "+", 2)
        entries = [self._entry(_text(one), fields) for one, fields in found]
        entry = entries.pop(0) if entries and order_of(entries[0].id) == order_of(handled.entry_id) else None
        return Place(handled, entry, entries[0].id if entries else None)

    def go_back_to(self, handled: Position) -> None:
        """Have all that comes after what is answered read in its order. What is pending keeps its tries, so what was
        skipped before that becomes pending too, with what was handled, and all of it ours."""
        with redis_faults():
            last = _answered(handled)
            pending = {
                later: one["consumer"]
                for one in self._pending()
                if (later := order_of(one["message_id"])) > order_of(last)
            }
            while found := self._after(last, max([*pending, order_of(handled.entry_id)])):
                last = found[-1]
                others: list[Any] = [one for one in found if pending.get(order_of(one)) != self._consumer.encode()]
                if others:
                    self._client.xclaim(self.stream, self._group, self._consumer, 0, others, force=True, justid=True)
            self._xgroup(keys=[self.stream], args=[self._group, "SETID", last])

    def is_unread(self) -> bool:
        """Whether nobody had ever read from it when it was taken over."""
        with redis_faults():
            return self._was_made or self._last_read() == (0, 0)

    def reached(self) -> Position | None:
        """What was read last, if all that was read is acknowledged."""
        with redis_faults():
            for group in self._client.xinfo_groups(self.stream):
                if group["name"] == self._group.encode() and not group["pending"]:
                    last = _text(group["last-delivered-id"])
                    found: Any = self._client.xrange(self.stream, last, last)
                    return next((self.position_of(self._entry(last, fields)) for _, fields in found), None)
        return None

    def position_of(self, entry: Entry) -> Position:
        return Position(self.stream, entry.id, entry.fingerprint)

    def is_old(self, entry: Entry) -> bool:
        """Whether it was sent so long ago that, once handled, it need not be here any more: by the clock of Redis, from
        which it has its id."""
        with redis_faults():
            return order_of(entry.id) < (oldest_kept(self._client, self._keep), 0)

    def has_others_pending(self, read: Sequence[Entry] = ()) -> bool:
        """Whether anything is pending beside what was `read`: who was replaced and does not know it yet may read on,
        and another client may have an entry be somebody's, ours too."""
        with redis_faults():
            return int(self._client.xpending(self.stream, self._group)["pending"]) > len(read)

    def first_pending(self) -> Entry | None:
        """The oldest entry that was read and not acknowledged; reading it again counts as a try."""
        with redis_faults():
            entries = self._read("0", 1, None)
            if not entries:
                return None
            [entry] = entries
            counted = self._client.xpending_range(self.stream, self._group, entry.id, entry.id, 1)
        return replace(entry, tries=int(counted[0]["times_delivered"]) if counted else 1)

    def new(self, most: int, wait: float) -> list[Entry]:
        """The next entries, in order; `wait` seconds for the first one."""
        with redis_faults():
            return self._read(">", most, max(1, int(wait * 1000)))

    def acknowledge(self, entries: Sequence[Entry]) -> None:
        with redis_faults():
            if entries:
                self._client.xack(self.stream, self._group, *(entry.id for entry in entries))

    def trim(self, handled: Position | None = None) -> int:
        """Delete what every group has acknowledged and is old enough, and comes before what was `handled` last; returns
        how many entries."""
        with redis_faults():
            oldest = [(oldest_kept(self._client, self._keep), 0)]
            if handled:
                oldest.append(order_of(handled.entry_id))
            for group in self._client.xinfo_groups(self.stream):
                oldest.append(order_of(group["last-delivered-id"]))
                if pending := self._client.xpending(self.stream, group["name"])["min"]:
                    oldest.append(order_of(pending))
            minid, deleted = "{}-{}".format(*min(oldest)), 0
            # Redis lets go of ten thousand at a time.
            while gone := int(self._client.xtrim(self.stream, minid=minid, approximate=True)):
                deleted += gone
            return deleted

    def lag(self) -> Lag:
        return lag_of(self._client, self.stream, self._group)

    def _make_group(self) -> None:
        """If it is not there."""
        self._was_made = False
        try:
            self._xgroup(keys=[self.stream], args=[self._group, "CREATE", "0", "MKSTREAM"])
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        else:
            self._was_made = True

    def _goes_on_after(self, handled: Position) -> bool:
        """Whether what it has given out is what was handled, and what is pending: all of that, and nothing else; and
        what may not be answered is pending. Where the entry that was handled is gone the stream may be another one,
        with lower ids: then it may be behind."""
        at, last = order_of(handled.entry_id), self._last_read()
        beyond = _answered(handled)
        pending = {later for one in self._pending() if (later := order_of(one["message_id"])) > order_of(beyond)}
        if last != max(at, *pending, (0, 0)) and self.look_at(handled).is_intact:
            return False
        while found := self._after(beyond, last):
            if not pending.issuperset(map(order_of, found)):
                return False
            beyond = found[-1]
        return True

    def _after(self, beyond: str, last: tuple[int, int]) -> list[str]:
        """The next entries up to that one."""
        found: Any = self._client.xrange(self.stream, f"({beyond}", "{}-{}".format(*last), _PAGE)
        return [_text(one) for one, _ in found]

    def _last_read(self) -> tuple[int, int]:
        groups = self._client.xinfo_groups(self.stream)
        return next(order_of(group["last-delivered-id"]) for group in groups if group["name"] == self._group.encode())

    def _pending(self) -> Iterator[dict[str, Any]]:
        beyond = "-"
        while found := self._client.xpending_range(self.stream, self._group, beyond, "+", _PAGE):
            yield from found
            beyond = f"({_text(found[-1]['message_id'])}"

    def _read(self, beyond: str, most: int, block: int | None) -> list[Entry]:
        answer: Any = self._client.xreadgroup(self._group, self._consumer, {self.stream: beyond}, most, block)
        found = answer[0][1] if answer else []
        return [self._entry(_text(one), dict(fields or {})) for one, fields in found]

    def _entry(self, entry_id: str, fields: dict[bytes, bytes]) -> Entry:
        others = {name: value for name, value in fields.items() if name != self._field}
        return Entry(entry_id, fields.get(self._field), others=others)


def is_at_or_before(entry: Entry, position: Position | None) -> bool:
    """By their ids, which say it only within one stream. Before no position there is nothing."""
    return position is not None and order_of(entry.id) <= order_of(position.entry_id)


def _answered(position: Position) -> str:
    """The one before may have been of another stream, with higher ids."""
    if position.answered is None or order_of(position.answered) > order_of(position.entry_id):
        return position.entry_id
    return position.answered


def _text(entry_id: object) -> str:
    return entry_id.decode() if isinstance(entry_id, bytes) else str(entry_id)
