"""Events into a Redis stream: per subject in order and without gaps, even when relays come late or Redis forgets.

Beside the stream a hash remembers, for each subject, the highest token that has told of it and the last version told.
One script looks there and tells, or refuses: a lower token belongs to a relay that was replaced meanwhile, and a
version that does not follow means that Redis has lost what came before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha1
from uuid import uuid4

import redis

from messaging.errors import ClaimLost, MessagingError, Unavailable
from messaging.redis.client import redis_faults

# KEYS: the stream, the hash. ARGV: subject, token, after, version, seconds to keep, the relay's time; then version,
# body, channel and message of each entry. Field '': run_id:replid of the Redis last verified complete; 'checking' and a
# mark during a refill; absent after a gap. A field that is no token:version counts as unknown.
#
# Any step may be refused, for want of memory or permission, and what was done before is true then: whether the hash may
# be written is tried before anything is appended, and what was appended is noted at once. What is too old by both
# clocks goes first, by itself, since a full Redis still trims. Whoever may not publish has appended all the same.
_APPEND = """
local stream, hash = KEYS[1], KEYS[2]
if redis.call('EXISTS', stream) == 0 then
    redis.call('DEL', hash)
    redis.call('XDEL', stream, redis.call('XADD', stream, '*', 'event', ''))
end
local known = redis.call('HGET', hash, ARGV[1]) or '0:0'
local token, version = string.match(known, '^(%d+):(%d+)$')
if not token then token, version = '0', '0' end
if tonumber(ARGV[2]) < tonumber(token) then return 'late' end
if tonumber(ARGV[3]) > tonumber(version) then
    redis.call('HDEL', hash, '')
    return 'gap'
end
redis.call('HSET', hash, ARGV[1], token .. ':' .. version)
local now = math.min(tonumber(redis.call('TIME')[1]), tonumber(ARGV[6]))
redis.call('XTRIM', stream, 'MINID', '~', (now - ARGV[5]) .. '000')
local result = 'told'
for entry = 7, #ARGV, 4 do
    redis.call('XADD', stream, '*', 'event', ARGV[entry + 1])
    redis.call('HSET', hash, ARGV[1], ARGV[2] .. ':' .. ARGV[entry])
    if ARGV[entry + 2] ~= '' and type(redis.pcall('PUBLISH', ARGV[entry + 2], ARGV[entry + 3])) == 'table' then
        result = 'told, not published'
    end
end
redis.call('HSET', hash, ARGV[1], ARGV[2] .. ':' .. ARGV[4])
return result
"""

_APPEND_SHA = sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()

# ARGV: a new mark. A check that goes on is joined: whoever ends first has seen that nothing is missing, and those who
# always begin before another has ended do not undo each other's.
_BEGIN_CHECK = """
if redis.call('EXISTS', KEYS[1]) == 0 then return ARGV[1] end
local mark = redis.call('HGET', KEYS[2], '')
if mark and string.sub(mark, 1, 9) == 'checking:' then return mark end
redis.call('HSET', KEYS[2], '', ARGV[1])
return ARGV[1]
"""

# ARGV: the mark, the home.
_END_CHECK = """
if redis.call('HGET', KEYS[2], '') == ARGV[1] then redis.call('HSET', KEYS[2], '', ARGV[2]) end
"""


log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """The `version`-th of its subject. `channel` and `message`: also published, to whoever listens at that moment."""

    version: int
    body: bytes
    channel: str = ""
    message: bytes = b""


@dataclass(frozen=True, slots=True)
class Append:
    """The entries that bring a subject from the version `after` to this `version`, all told in one step.

    Without entries it only says how far the subject has got.
    """

    subject: str
    token: int
    after: int
    version: int
    entries: Sequence[Entry] = ()


class EventStream:
    """Entries stay for `keep`, by the clock of Redis and by ours. All of it raises Unavailable."""

    def __init__(self, client: redis.Redis, name: str, keep: timedelta, clock: Callable[[], float] = time.time) -> None:
        self.keep = keep
        self._clock = clock
        self._client = client
        self._told = told_key(name)
        self._keys = [name, self._told]
        self._begin_check = client.register_script(_BEGIN_CHECK)
        self._end_check = client.register_script(_END_CHECK)

    def append(self, appends: Sequence[Append]) -> Mapping[str, MessagingError]:
        """Append and publish, in one round trip. Returns which subjects were refused, and why; the others were told.

        ClaimLost: a higher token has told of the subject. Unavailable: what comes before is missing. When Redis fails
        for all of them, as while it is full, that is raised.
        """
        with redis_faults(), self._client.pipeline(transaction=False) as pipeline:
            pipeline.script_load(_APPEND)  # redis-py's own way asks first whether it is there: another round trip
            for one in appends:
                pipeline.evalsha(_APPEND_SHA, len(self._keys), *self._keys, *self._arguments(one))
            _, *answers = pipeline.execute(raise_on_error=False)
            if answers and all(isinstance(answer, redis.RedisError) for answer in answers):
                raise answers[0]
        if b"told, not published" in answers:
            log.warning("redis does not let us publish on a channel; the stream has all of it")
        refusals = ((one.subject, _refusal(answer, one)) for one, answer in zip(appends, answers, strict=True))
        return {subject: refusal for subject, refusal in refusals if refusal}

    def append_all(self, appends: Sequence[Append]) -> None:
        """Append all of them, or raise why one of them was refused."""
        for refusal in self.append(appends).values():
            raise refusal

    def versions(self, subjects: Sequence[str]) -> list[int]:
        """The last version told of each, 0 for none."""
        with redis_faults():
            if not self._client.exists(self._keys[0]):
                return [0] * len(subjects)
            found: Iterable[bytes | None] = self._client.hmget(self._told, list(subjects))  # type: ignore[assignment]
        return [_version(known) for known in found]

    def home(self) -> str:
        """Names the Redis we speak to: another after a restart, a failover, or when the address leads elsewhere."""
        with redis_faults():
            try:
                server, replication = self._client.info("server"), self._client.info("replication")
            except redis.ResponseError:  # some hosts do not tell
                return "unknown"
        return f"{server.get('run_id')}:{replication.get('master_replid')}"

    def is_complete(self, home: str) -> bool:
        """Whether it is known that nothing is missing here."""
        with redis_faults():
            there = self._client.exists(self._keys[0])
            return bool(there) and self._client.hget(self._told, "") == home.encode()

    def begin_check(self) -> bytes:
        """Someone looks whether anything is missing. Returns a mark, which goes with what is lost while they look."""
        with redis_faults():
            mark: bytes = self._begin_check(keys=self._keys, args=[f"checking:{uuid4().hex}"])
        return mark

    def end_check(self, mark: bytes, home: str) -> None:
        """They found it complete. Changes nothing when their mark has gone."""
        with redis_faults():
            self._end_check(keys=self._keys, args=[mark, home])

    def _arguments(self, append: Append) -> list[bytes | str | int]:
        kept = int(self.keep.total_seconds())
        now = int(self._clock())
        arguments: list[bytes | str | int] = [append.subject, append.token, append.after, append.version, kept, now]
        for entry in append.entries:
            arguments += entry.version, entry.body, entry.channel, entry.message
        return arguments


def told_key(stream: str) -> str:
    """The hash beside a stream: the braces keep both keys on one node of a cluster."""
    return f"{{{stream}}}.told"


def _version(known: bytes | None) -> int:
    """0 for what is not known, or is not ours."""
    _, _, version = (known or b"").rpartition(b":")
    return int(version) if version.isdigit() else 0


def _refusal(answer: object, append: Append) -> MessagingError | None:
    if isinstance(answer, bytes) and answer.startswith(b"told"):
        return None
    if answer == b"late":
        return ClaimLost(f"another relay has told of {append.subject} meanwhile")
    if answer == b"gap":
        return Unavailable(f"redis has lost what came before version {append.after + 1} of {append.subject}")
    return Unavailable(f"redis: {answer}")
