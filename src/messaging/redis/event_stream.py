"""Events into a Redis stream: per subject in order and without gaps, even when relays come late or Redis forgets.

Beside the stream a hash remembers, for each subject, the highest token that has published it, and the last version.
One script looks there and publishes, or refuses: a lower token belongs to a relay that was replaced meanwhile, and a
version that does not follow means that Redis has lost what came before.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha1
from uuid import uuid4

import redis

from messaging.errors import BrokerUnavailable, ClaimLost, MessagingError, Unavailable
from messaging.redis.client import redis_faults

# All scripts have KEYS: the stream, the hash, the key of the incarnation. In the hash the field '' is run_id:replid of
# the Redis last verified complete; 'checking' and a mark during a refill; 'gap' after one. A field that is no
# token:version counts as unknown, and so does a token that is years ahead, unless ours is as well. ' kept'
# is how many entries the stream had after our last step, when we last let any go, and the id of our newest; ' removed'
# how many it had and has no more, where Redis counts what is added (from 7 on). ' lost' is what was noticed and is not
# logged yet.
#
# Any step may be refused, for want of memory or permission, and what was done before is true then: whether the hash may
# be written is tried before anything is let go or appended, and both are noted at once, by the same command. What is
# too old by both clocks goes first, by itself. Whoever may not publish has appended all the same.

# ARGV[1]: a new incarnation; [4] the field that is `known` then. Fewer entries than we left: somebody has deleted some.
# Our newest is not there: somebody has made the stream anew, with no matter how many entries. A moment that is still to
# come: we let go of some by a clock that was ahead. What is left goes too, so that whoever reads meets no gap; and is
# told again with the rest.
_NOTICE = """
local stream, hash, incarnation = KEYS[1], KEYS[2], KEYS[3]
local year, time = 31536000, tonumber(redis.call('TIME')[1])
local size, there = redis.call('XLEN', stream), redis.call('EXISTS', stream, incarnation)
local found = redis.call('HMGET', hash, ' kept', ARGV[4], ' removed')
local known, removed = found[2], found[3]
local length, let_go, newest = string.match(found[1] or '', '^(%d+) (%d+) ?([%d-]*)$')
local function is_ours(id)
    local moment, number = string.match(id or '', '^(%d+)-(%d+)$')
    if not moment or #moment > 19 or #number > 19 then return false end
    local entry = redis.call('XRANGE', stream, id, id)[1]
    return entry and entry[2][1] == 'event'
end
if not lost and length and size < tonumber(length) and redis.call('EXISTS', stream) == 1 then
    lost = 'somebody has deleted entries'
elseif not lost and newest and newest ~= '' and redis.call('EXISTS', stream) == 1 and not is_ours(newest) then
    lost = 'somebody has made the stream anew'
elseif not lost and length and tonumber(let_go) > time + 60 then
    lost = 'entries were let go by a clock that was ahead'
end
if lost then
    redis.call('XTRIM', stream, 'MAXLEN', 0)
    redis.call('SET', incarnation, ARGV[1])
    redis.call('DEL', hash)
    redis.call('HSET', hash, ' lost', lost)
    size, known, removed, let_go, newest = 0, nil, nil, nil, nil
end
"""

# ARGV[2]: seconds to keep; [3]: our time.
_LET_GO = """
local now = math.min(time, tonumber(ARGV[3]))
local gone = redis.call('XTRIM', stream, 'MINID', '~', (now - ARGV[2]) .. '000')
if gone > 0 then
    size, let_go, newest = size - gone, now, is_ours(newest) and newest
    redis.call('HSET', hash, ' kept', size .. ' ' .. now .. ' ' .. (newest or ''))
    if tonumber(removed or '') then redis.call('HSET', hash, ' removed', removed + gone) end
end
"""

# ARGV[4] and on: subject, token, after, version; then version, body, channel and message of each entry.
_APPEND = f"""
local lost
{_NOTICE}
if there < 2 and redis.call('EXISTS', stream) == 0 then
    redis.call('SET', incarnation, ARGV[1])
    redis.call('DEL', hash)
    redis.call('XDEL', stream, redis.call('XADD', stream, '*', 'event', ''))
    known, removed, let_go, newest = nil, nil, nil, nil
elseif there < 2 then
    redis.call('SET', incarnation, ARGV[1])
end
local token, version = string.match(known or '0:0', '^(%d+):(%d+)$')
if not token or tonumber(token) > math.max((time + 10 * year) * 1000000, tonumber(ARGV[5])) then
    redis.call('HDEL', hash, ARGV[4])
    token, version = '0', '0'
end
if tonumber(ARGV[5]) < tonumber(token) then return 'late:' .. token end
if tonumber(ARGV[6]) > tonumber(version) then
    redis.call('HSET', hash, '', 'gap')
    return 'gap'
end
redis.call('HSET', hash, ARGV[4], token .. ':' .. version)
{_LET_GO}
local result = 'told'
for entry = 8, #ARGV, 4 do
    newest = redis.call('XADD', stream, '*', 'event', ARGV[entry + 1])
    redis.call('HSET', hash, ARGV[4], ARGV[5] .. ':' .. ARGV[entry])
    if ARGV[entry + 2] ~= '' and type(redis.pcall('PUBLISH', ARGV[entry + 2], ARGV[entry + 3])) == 'table' then
        result = 'told, not published'
    end
end
local kept = size + (#ARGV - 7) / 4 .. ' ' .. (let_go or 0) .. ' ' .. (newest or '')
redis.call('HSET', hash, ARGV[4], ARGV[5] .. ':' .. ARGV[7], ' kept', kept)
return result
"""

_APPEND_SHA = sha1(_APPEND.encode(), usedforsecurity=False).hexdigest()

# An id years ahead: the entry will not be trimmed for years, or nothing can be appended after it. More are gone than we
# let go: somebody has deleted some, though they may have added as many. A full Redis refuses to write into the hash,
# but not to delete from it, nor what a script writes after that.
_LOOK = f"""
local lost, added
if redis.call('EXISTS', KEYS[1]) == 1 then
    local about, last = redis.call('XINFO', 'STREAM', KEYS[1]), '0-0'
    for i = 1, #about, 2 do
        if about[i] == 'last-generated-id' then last = about[i + 1] end
        if about[i] == 'entries-added' then added = about[i + 1] end
    end
    local removed = tonumber(redis.call('HGET', KEYS[2], ' removed') or '')
    if added and removed and added - redis.call('XLEN', KEYS[1]) ~= removed then
        lost = 'somebody has deleted entries'
    end
    if tonumber(string.match(last, '^%d+')) > (tonumber(redis.call('TIME')[1]) + 31536000) * 1000 then
        lost = 'an entry has the id ' .. last .. ', which is years ahead'
        redis.call('DEL', KEYS[1])
    end
end
{_NOTICE}
if redis.call('EXISTS', stream) == 1 then
    removed = added and added - redis.call('XLEN', stream) or ''
    redis.call('HDEL', hash, ' nothing')
    redis.call('HSET', hash, ' removed', removed)
    {_LET_GO}
end
lost = redis.call('HGET', hash, ' lost') or ''
redis.call('HDEL', hash, ' lost')
return {{redis.call('EXISTS', stream) == 1 and known or '', lost, redis.call('GET', incarnation) or ''}}
"""

# ARGV: how a home begins that is this Redis, how a mark begins there, a new mark, a new incarnation. A check that goes
# on here is joined: whoever ends first has seen that nothing is missing, and those who always begin before another has
# ended do not undo each other's. Another Redis than was compared before may be a replica, or have come back with less
# than readers have seen: then it may give their ids again, whether or not anything is missing by now.
_BEGIN_CHECK = """
if redis.call('EXISTS', KEYS[1]) == 0 then return ARGV[3] end
local mark = redis.call('HGET', KEYS[2], '') or ''
if string.sub(mark, 1, #ARGV[2]) == ARGV[2] then return mark end
redis.call('HSET', KEYS[2], '', ARGV[3])
if mark ~= '' and string.sub(mark, 1, #ARGV[1]) ~= ARGV[1] then redis.call('SET', KEYS[3], ARGV[4]) end
return ARGV[3]
"""

# ARGV: the mark, the home. Another may have ended the check with which this one was joined.
_END_CHECK = """
local mark = redis.call('HGET', KEYS[2], '')
if mark == ARGV[1] then redis.call('HSET', KEYS[2], '', ARGV[2]) end
return {mark == ARGV[1] or mark == ARGV[2], redis.call('GET', KEYS[3]) or ''}
"""


log = logging.getLogger(__name__)

FIELD = "event"
"""The one field of an entry; the scripts have its name too."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """The `version`-th of its subject. `channel` and `message`: also published, to whoever listens at that moment."""

    version: int
    body: bytes
    channel: str = ""
    message: bytes = b""


@dataclass(frozen=True, slots=True)
class Append:
    """The entries that bring a subject from the version `after` to this `version`, all published in one step.

    Without entries it only says how far the subject has got.
    """

    subject: str
    token: int
    after: int
    version: int
    entries: Sequence[StreamEvent] = ()


class EventStream:
    """Entries stay for `keep`, by the clock of Redis and by ours. All of it raises Unavailable."""

    def __init__(self, client: redis.Redis, name: str, keep: timedelta, clock: Callable[[], float] = time.time) -> None:
        self.keep = keep
        self._clock = clock
        self._client = client
        self._told = told_key(name)
        self._keys = [name, self._told, incarnation_key(name)]
        self._begin_check = client.register_script(_BEGIN_CHECK)
        self._end_check = client.register_script(_END_CHECK)
        self._look = client.register_script(_LOOK)
        self._compared: tuple[str, bytes] | None = None  # in which Redis and incarnation nothing was missing

    def append(self, appends: Sequence[Append]) -> Mapping[str, MessagingError]:
        """Append and publish, in one round trip. Returns which subjects were refused, and why; the others are done.

        ClaimLost: a higher token has published the subject. Unavailable: what comes before is missing. When Redis fails
        for all of them, as while it is full, that is raised.
        """
        with self._faults(), self._client.pipeline(transaction=False) as pipeline:
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
        """Append all of them, or raise why some were refused: ClaimLost has the highest token that was met."""
        if refusals := self.append(appends).values():
            raise max(refusals, key=lambda refusal: getattr(refusal, "token", 0))

    def versions(self, subjects: Sequence[str]) -> list[int]:
        """The last version published of each, 0 for none."""
        with self._faults():
            if not self._client.exists(self._keys[0]):
                return [0] * len(subjects)
            found: Iterable[bytes | None] = self._client.hmget(self._told, list(subjects))  # type: ignore[assignment]
        versions = [version_in(known) for known in found]
        if unknown := [subject for subject, version in zip(subjects, versions, strict=True) if version is None]:
            log.warning("what redis has beside the stream is not ours", extra={"subjects": unknown})
        return [version or 0 for version in versions]

    def home(self) -> str:
        """Names the Redis we speak to: another after a restart, a failover, or when the address leads elsewhere."""
        with self._faults():
            try:
                server, replication = self._client.info("server"), self._client.info("replication")
            except redis.ResponseError:  # some hosts do not tell
                return "unknown"
        return f"{server.get('run_id')}:{replication.get('master_replid')}"

    def is_complete(self, home: str) -> bool:
        """Whether it is known that nothing is missing here.

        What a Redis says of itself counts only for those who have compared it, and have met no other since: while the
        address led elsewhere, others may have published there.
        """
        with self._faults():
            mark, lost, incarnation = self._look(keys=self._keys, args=[*self._first_arguments(), ""])
        if lost:
            log.warning("the stream is emptied and filled again", extra={"reason": lost.decode()})
        if mark != home.encode() or self._compared != (home, incarnation):
            self._compared = None
        return self._compared is not None

    def begin_anew(self) -> None:
        """Have those who read by ids begin anew: some are lost, and given again."""
        with self._faults():
            self._client.set(self._keys[2], uuid4().hex)

    def begin_check(self, home: str) -> bytes:
        """Someone looks whether anything is missing. Returns a mark, which goes with what is lost while they look."""
        begins = f"checking:{home}:"
        with self._faults():
            run, colon, _ = home.partition(":")
            ours = home if self._was_promoted() else run + colon
            mark: bytes = self._begin_check(keys=self._keys, args=[ours, begins, begins + uuid4().hex, uuid4().hex])
        return mark

    def _was_promoted(self) -> bool:
        """Whether this Redis has been a replica: else it gives itself another replication id now and then, as when the
        first replica comes, and is what it was."""
        try:
            return bool(str(self._client.info("replication").get("master_replid2", "")).strip("0"))
        except redis.ResponseError:  # some hosts do not tell
            return False

    def is_checked(self, mark: bytes, home: str) -> bool:
        """Whether this is the Redis in which that check was begun, and nothing was seen to be missing since. Another
        may have ended the check."""
        with self._faults():
            return self._client.hget(self._told, "") in {mark, home.encode()}

    def end_check(self, mark: bytes, home: str) -> None:
        """They found it complete. Changes nothing when their mark has gone."""
        with self._faults():
            is_complete, incarnation = self._end_check(keys=self._keys, args=[mark, home])
        self._compared = (home, incarnation) if is_complete else None

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            with redis_faults():
                yield
        except BrokerUnavailable as error:
            if "WRONGTYPE" in str(error):  # of a script, Redis does not say of which key
                advice = f"one of these keys is not ours and must be deleted: {', '.join(self._keys)}"
                raise BrokerUnavailable(f"{error}; {advice}") from error
            raise

    def _arguments(self, append: Append) -> list[bytes | str | int]:
        arguments = [*self._first_arguments(), append.subject, append.token, append.after, append.version]
        for entry in append.entries:
            arguments += entry.version, entry.body, entry.channel, entry.message
        return arguments

    def _first_arguments(self) -> list[bytes | str | int]:
        """ARGV 1 to 3 of each script: a new incarnation, seconds to keep, our time."""
        return [uuid4().hex, int(self.keep.total_seconds()), int(self._clock())]


def told_key(stream: str) -> str:
    """The hash beside a stream: the braces keep both keys on one node of a cluster."""
    return f"{{{stream}}}.told"


def incarnation_key(stream: str) -> str:
    """Its value changes when the stream has lost something and is filled again: ids from before say nothing then."""
    return f"{{{stream}}}.incarnation"


def version_in(known: bytes | None) -> int | None:
    """The last version published, 0 for none; None for what is not ours."""
    found = re.fullmatch(rb"\d{1,19}:(\d{1,19})", known or b"0:0")
    return int(found[1]) if found else None


def _refusal(answer: object, append: Append) -> MessagingError | None:
    if isinstance(answer, bytes) and answer.startswith(b"told"):
        return None
    if isinstance(answer, bytes) and answer.startswith(b"late:"):
        token = int(answer.removeprefix(b"late:"))
        return ClaimLost(f"another relay has published {append.subject} meanwhile", token)
    if answer == b"gap":
        return Unavailable(f"redis has lost what came before version {append.after + 1} of {append.subject}")
    return BrokerUnavailable(f"redis: {answer}")
