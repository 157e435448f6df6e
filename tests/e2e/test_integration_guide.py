"""The programs in the integration guide, run as they stand there, against a running service."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from pathlib import Path

import pytest
from tests.e2e.client import random_batchref, random_orderid, random_sku
from tests.e2e.service import Service
from tests.e2e.waiting import eventually

GUIDE = Path(__file__).parents[2] / "docs/integration.md"
_PROGRAM = re.compile(r"^`(\w+\.py)`.*?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Programs:
    """Those of the guide, saved in a folder, with names that no other test has."""

    def __init__(self, folder: Path, service: Service, names: dict[str, str]) -> None:
        self._folder = folder
        self._environment = os.environ | {"ALLOCATION_URL": service.client.url, "REDIS_URL": service.client.redis_url}
        for name, text in _PROGRAM.findall(GUIDE.read_text("utf-8")):
            ours = reduce(lambda text, pair: text.replace(*pair), names.items(), text)
            (folder / name).write_text(ours, "utf-8")

    def run(self, name: str, *arguments: str) -> list[str]:
        """The lines that it prints."""
        command = [sys.executable, name, *arguments]
        done = subprocess.run(
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    @contextmanager
    def running(self, name: str) -> Iterator[Callable[[], list[str]]]:
        """The lines that it has printed so far."""
        said = self._folder / "said"
        with (
            said.open("w") as output,
            subprocess.Popen([sys.executable, name], cwd=self._folder, env=self._environment, stdout=output) as process,
        ):
            try:
                yield lambda: said.read_text("utf-8").splitlines()
            finally:
                process.kill()


@pytest.fixture
def names() -> dict[str, str]:
    """What the guide calls them, and what we do."""
    return {
        "BLUE-LAMP": random_sku("lamp"),
        "shelf-7": random_batchref("shelf"),
        "ship-41": random_batchref("ship"),
        '"/warehouse"': json.dumps(random_sku("warehouse")),
        '"follower"': json.dumps(random_sku("group")),
    }


@pytest.fixture
def programs(tmp_path: Path, service: Service, names: dict[str, str]) -> Programs:
    return Programs(tmp_path, service, names)


def test_what_the_guide_shows_is_what_happens(programs: Programs, service: Service, names: dict[str, str]) -> None:
    lamp, shelf, ship = names["BLUE-LAMP"], names["shelf-7"], names["ship-41"]
    anna, ben, cleo = (random_orderid(name) for name in ("anna", "ben", "cleo"))
    api = service.client

    programs.run("warehouse.py")
    eventually(lambda: len(api.events(lamp)) == 2, "both batches are there")
    assert programs.run("shop.py", f"{anna}:{lamp}:4", f"{ben}:{lamp}:6", f"{cleo}:{lamp}:50") == [
        f"{anna}: {shelf}",
        f"{ben}: {shelf}",
        f"{cleo}: out of stock",
    ]
    programs.run("warehouse.py", "--broken")  # it sends its batches again, too
    eventually(lambda: api.allocations(ben) == [{"sku": lamp, "batchref": ship}], "Ben's line has moved")
    assert programs.run("shop.py", f"{ben}:{lamp}:6") == [f"{ben}: {ship}"], "sold once, and told where it is now"

    expected = [
        f"{anna} gets 4 {lamp} from {shelf}",
        f"{ben} gets 6 {lamp} from {shelf}",
        f"{lamp}: nothing left for {cleo}",
        f"{ben} loses its 6 from {shelf}",
        f"{ben} gets 6 {lamp} from {ship}",
    ]
    with programs.running("follow.py") as heard:
        eventually(
            lambda: [line for line in heard() if lamp in line or ben in line] == expected, "all events, in order"
        )
        eventually(lambda: api.pending(json.loads(names['"follower"'])) == 0, "all are acknowledged")
    more = random_batchref("more")
    api.add_batch(more, lamp, 50)
    assert programs.run("shop.py", f"{cleo}:{lamp}:50") == [f"{cleo}: {more}"], "out of stock is not for ever"
    with programs.running("follow.py") as heard:
        eventually(lambda: f"{cleo} gets 50 {lamp} from {more}" in heard(), "it goes on where it was")
        assert not set(expected) & set(heard())
        api.forget_group(json.loads(names['"follower"']))
        eventually(lambda: set(expected) <= set(heard()), "a group that Redis has lost is made again")
