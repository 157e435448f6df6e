"""Commands that are long at work have one place in a process, and nobody waits for them without end."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import pytest
from tests.fakes import Service

from allocation.domain.commands import Allocate, ChangeBatchQuantity, CreateBatch
from allocation.service_layer import messages
from embedded.waiting import wait_for
from messaging.apart import Apart
from messaging.errors import Unavailable

PATIENCE = 10.0


class World:
    """A service whose long commands begin when they may."""

    def __init__(self, *, seconds: float = PATIENCE) -> None:
        self.service = Service()
        self.may_go_on = Event()
        self.at_work = 0
        self.most_at_work = 0
        handler = self.service.bus.routes._commands[ChangeBatchQuantity]

        def slow(command: ChangeBatchQuantity, uow: Any) -> object:
            self.at_work += 1
            self.most_at_work = max(self.most_at_work, self.at_work)
            assert self.may_go_on.wait(PATIENCE)
            self.at_work -= 1
            return handler(command, uow)

        self.service.given(CreateBatch("b", "LAMP", 10), CreateBatch("other", "SOFA", 10))
        self.service.bus.routes._commands[ChangeBatchQuantity] = slow
        bus = self.service.bus
        bus.apart = Apart(messages.moves_many_lines, Service().bus, seconds=seconds, most=2)
        bus.apart._bus = type(bus)(bus.routes, bus.unit_of_work, bus.refusals)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def test_one_is_at_work_at_a_time_and_others_go_on_beside_it(pool: ThreadPoolExecutor) -> None:
    world = World()
    bus = world.service.bus

    long = [pool.submit(bus.handle, ChangeBatchQuantity("b", qty)) for qty in (8, 9)]
    assert wait_for(lambda: world.at_work == 1, within=PATIENCE)
    assert bus.handle(Allocate("o1", "SOFA", 1)) == "other"
    world.may_go_on.set()

    assert [one.result(PATIENCE) for one in long]
    assert world.most_at_work == 1


def test_who_comes_on_top_of_those_who_wait_is_told_to_come_again(pool: ThreadPoolExecutor) -> None:
    world = World()
    bus = world.service.bus
    long = [pool.submit(bus.handle, ChangeBatchQuantity("b", qty)) for qty in (8, 9)]
    assert wait_for(lambda: bus.apart is not None and bus.apart._places._value == 0, within=PATIENCE)

    for ask in (bus.handle, bus.dry_run):
        with pytest.raises(Unavailable, match="too many commands wait"):
            ask(ChangeBatchQuantity("b", 7))
    assert bus.dry_run(Allocate("o1", "SOFA", 1)).result == "other"

    world.may_go_on.set()
    assert [one.result(PATIENCE) for one in long]
    bus.handle(ChangeBatchQuantity("b", 7))
    assert bus.dry_run(ChangeBatchQuantity("b", 6)).changed


def test_nobody_waits_without_end(pool: ThreadPoolExecutor) -> None:
    world = World(seconds=0.01)
    bus = world.service.bus
    long = pool.submit(bus.handle, ChangeBatchQuantity("b", 8))
    assert wait_for(lambda: world.at_work == 1, within=PATIENCE)

    with pytest.raises(Unavailable, match="were at work for 0 s"):
        bus.handle(ChangeBatchQuantity("b", 7))

    world.may_go_on.set()
    assert long.result(PATIENCE)
