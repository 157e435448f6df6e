"""How the server is set up."""

from __future__ import annotations

import pickle
from functools import partial
from resource import RLIM_INFINITY
from threading import Event
from unittest.mock import Mock

import pytest
from granian.server import MPServer

from allocation.config import Settings
from allocation.entrypoints import api_server
from allocation.entrypoints.http import server


def test_what_each_process_loads_can_be_sent_to_one_that_was_not_forked() -> None:
    loader = partial(api_server.load, Settings.from_env({}), 8)

    assert pickle.loads(pickle.dumps(loader)).args == loader.args


def test_a_process_that_is_reported_once_more_is_not_replaced_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its new one would count as one that fails soon, and the server would end."""
    replaced: list[int] = []
    monkeypatch.setattr(MPServer, "_respawn_workers", lambda _, workers, **more: replaced.extend(workers))
    granian = object.__new__(server.Server)
    granian.wrks = [Mock(inner=Mock(exitcode=code)) for code in (None, -9, None)]
    granian.interrupt_children, granian.respawned_wrks, granian.main_loop_interrupt = [], {}, Event()

    granian._respawn_workers([1, 0, 1])
    assert replaced == [1]
    granian._respawn_workers([0, 2], delay=3.5)
    assert replaced == [1, 0, 2], "as on HUP"


@pytest.mark.parametrize(
    ("soft", "hard", "fits", "raised"),
    [
        (1024, 4096, 1000, 1108),
        (20_000, 20_000, 1000, None),
        (1024, 1024, 916, None),
        (256, 512, 404, 512),
        (256, RLIM_INFINITY, 1000, 1108),
        (RLIM_INFINITY, RLIM_INFINITY, 1000, None),
        (64, 64, 16, None),
    ],
)
def test_there_are_file_descriptors_for_all_connections(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, fits: int, raised: int | None
) -> None:
    limits = Mock()
    monkeypatch.setattr(server, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(server, "setrlimit", limits)

    assert server.make_room_for_connections(threads=8) == fits
    assert [call.args[1] for call in limits.call_args_list] == ([(raised, hard)] if raised else [])
