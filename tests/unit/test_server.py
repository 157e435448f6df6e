"""How the server is set up."""

from __future__ import annotations

import pickle
from functools import partial
from resource import RLIM_INFINITY
from unittest.mock import Mock

import pytest

from allocation.config import Settings
from allocation.entrypoints import api_server
from allocation.entrypoints.http import server


def test_what_each_process_loads_can_be_sent_to_one_that_was_not_forked() -> None:
    loader = partial(api_server.load, Settings.from_env({}), 8)

    assert pickle.loads(pickle.dumps(loader)).args == loader.args


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
