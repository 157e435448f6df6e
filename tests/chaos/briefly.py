"""A world for the short form: one start, and some of all that can befall the servers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from random import Random

from tests.chaos.proxy import Proxy
from tests.chaos.single import forget_events, lose_replies, restart
from tests.chaos.worlds import Fault, ReplicatedPostgres


class Briefly(ReplicatedPostgres):
    """Each PostgreSQL of the pair has a proxy before it. The primary can be lost once, so that comes last."""

    name = "PostgreSQL with a synchronous standby, for a moment"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._ways = {port: Proxy(int(port)) for port in re.findall(r":(\d+)(?=[,/])", self.database_url)}
        for port, way in self._ways.items():
            self.database_url = self.database_url.replace(f":{port}", f":{way.port}")

    def faults(self) -> Mapping[str, Fault]:
        return {
            "postgres: replies to COMMIT lost": lose_replies(list(self._ways.values()), b"COMMIT"),
            "redis: kill -9, restart without its events": self._restart_redis_without_events,
            **super().faults(),
        }

    def heal(self) -> None:
        """Nothing comes after."""

    def close(self) -> None:
        for way in self._ways.values():
            way.close()
        super().close()

    def _restart_redis_without_events(self, random: Random) -> float:
        begun = restart(self._redis, random)
        with self.redis() as client:
            forget_events(client)
        return begun
