"""How long after a fault everything is as it was: what was at work then is done, and something newer too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tests.chaos.history import History

Span = tuple[float, float]
"""When a piece of work came, and when it was done."""


KINDS = "serve", "relay", "consume"
"""Of work, by the part that does it."""


def recovery(history: History, moment: float, kinds: Iterable[str] = KINDS) -> dict[str, float]:
    """Seconds after the moment, for each kind of work of which something came after it."""
    found = {kind: _after(moment, list(_SPANS[kind](history))) for kind in kinds}
    return {kind: took for kind, took in found.items() if took is not None}


STANDS = 0.5, 2.0
"""Seconds after something happened."""


def stands_still(history: History, moment: float) -> list[str]:
    """The kinds of work of which nothing came, and was done, after all have noticed it and before it is over."""
    since, until = (moment + seconds for seconds in STANDS)
    return [kind for kind in KINDS if not any(since < came < done < until for came, done in _SPANS[kind](history))]


def _after(moment: float, spans: list[Span]) -> float | None:
    at_work = [done for came, done in spans if came <= moment < done]
    newer = [done for came, done in spans if came > moment and done > moment]  # clocks may have been ahead
    if not newer:
        return None
    return max([*at_work, min(newer)]) - moment


def _answers(history: History) -> Iterator[Span]:
    for one in history.asked:
        yield one.begun, one.answered


def _tellings(history: History) -> Iterator[Span]:
    """The first time each event is told, and the mails of those that need one."""
    seen = set()
    for event in history.told:
        if event.id not in seen:
            seen.add(event.id)
            yield event.time, max(event.heard, history.mails.get(event.id, 0))


def _messages(history: History) -> Iterator[Span]:
    """From a message to the event it led to; those that lead to none do not count."""
    done = {
        event.data.get("orderid") or event.data.get("ref"): min(event.time, event.heard)  # its clock may be ahead
        for event in reversed(history.told)
    }
    for one in history.sent:
        name = one.data.get("orderid") or one.data.get("ref")
        if name in done and one.kind in ("allocate.v1", "create_batch.v1"):
            yield one.sent_at, done[name]


_SPANS = {"serve": _answers, "relay": _tellings, "consume": _messages}
