"""Those who write a hot stream know of each other, for a moment."""

from __future__ import annotations

from messaging import contention
from messaging.contention import Contention


def test_a_loss_is_remembered_for_a_moment() -> None:
    now = [100.0]
    streams = Contention(fresh=1.0, clock=lambda: now[0])
    assert not streams.is_fresh(["LAMP"])

    streams.note(["LAMP", "DESK"])

    assert streams.is_fresh(["LAMP"])
    assert streams.is_fresh(["CHAIR", "DESK"])
    assert not streams.is_fresh(["CHAIR"])
    now[0] += 0.99
    assert streams.is_fresh(["LAMP"])
    now[0] += 0.01
    assert not streams.is_fresh(["LAMP"])


def test_another_loss_begins_the_moment_anew() -> None:
    now = [100.0]
    streams = Contention(fresh=1.0, clock=lambda: now[0])
    streams.note(["LAMP"])
    now[0] += 0.9

    streams.note(["LAMP"])

    now[0] += 0.9
    assert streams.is_fresh(["LAMP"])


def test_it_does_not_grow_for_ever() -> None:
    streams = Contention()
    for number in range(3 * contention._MOST):
        streams.note([f"SKU-{number}"])

    assert len(streams._until) <= contention._MOST + 1
    assert streams.is_fresh([f"SKU-{3 * contention._MOST - 1}"])
