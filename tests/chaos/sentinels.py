"""A Valkey primary, two replicas, and three sentinels that promote one of them when the primary is gone."""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import Any

import redis
from redis.sentinel import Sentinel
from tests.e2e.service import free_port
from tests.e2e.waiting import eventually

from embedded.binaries import redis_server
from embedded.endpoint import HOST
from embedded.process import Launcher, Process
from embedded.valkey import Redis

NAME = "allocation"

NODE = """\
bind {host}
port {port}
requirepass {password}
masterauth {password}
dir {folder}
save ""
appendonly yes
appendfsync everysec
repl-diskless-sync-delay 0
repl-timeout 5
{role}
"""
SENTINEL = """\
bind {host}
port {port}
dir {folder}
sentinel monitor {name} {host} {primary} 2
sentinel auth-pass {name} {password}
sentinel down-after-milliseconds {name} 500
sentinel failover-timeout {name} 3000
sentinel parallel-syncs {name} 1
"""


class Sentinels:
    def __init__(self, folder: Path) -> None:
        self.version = Redis(folder).version
        self._folder = folder
        self._password = secrets.token_hex(20)
        self._nodes = {free_port(): Process(folder / f"valkey-{number}.log") for number in (1, 2, 3)}
        primary, *replicas = self._nodes
        self._start_node(primary, "")
        for replica in replicas:
            self._start_node(replica, f"replicaof {HOST} {primary}")
        self._sentinels = [self._start_sentinel(number, primary) for number in (1, 2, 3)]
        eventually(self._is_complete, "the sentinels know each other and the replicas")

    @property
    def url(self) -> str:
        hosts = ",".join(f"{HOST}:{port}" for port, _ in self._sentinels)
        return f"redis+sentinel://:{self._password}@{hosts}/{NAME}/0"

    def client(self) -> redis.Redis:
        primary: redis.Redis = self._ask.master_for(  # type: ignore[no-untyped-call]
            NAME, password=self._password, socket_timeout=5.0
        )
        return primary

    def kill_primary(self) -> float:
        """And see a replica promoted; returns the moment of the kill."""
        port = eventually(self._primary, "there is a primary") or 0
        self._nodes[port].end()
        moment = time.time()
        eventually(lambda: self._primary() not in (None, port), "another is the primary")
        return moment

    def restart_dead(self) -> None:
        primary = eventually(self._primary, "there is a primary")
        for port, node in self._nodes.items():
            if not node.alive:
                self._start_node(port, f"replicaof {HOST} {primary}")
        eventually(self._is_complete, "there are two replicas again")

    def stop(self) -> None:
        for process in (*(process for _, process in self._sentinels), *self._nodes.values()):
            process.end()

    def _primary(self) -> int | None:
        try:
            return int(self._ask.discover_master(NAME)[1])  # type: ignore[no-untyped-call]
        except redis.RedisError:
            return None

    @property
    def _ask(self) -> Sentinel:
        return Sentinel(  # type: ignore[no-untyped-call]
            [(HOST, port) for port, _ in self._sentinels], sentinel_kwargs={"socket_timeout": 0.5}
        )

    def _start_node(self, port: int, role: str) -> None:
        folder = self._folder / f"valkey-{port}"
        folder.mkdir(exist_ok=True)
        text = NODE.format(host=HOST, port=port, password=self._password, folder=folder, role=role)
        self._nodes[port].start(
            Launcher(folder), redis_server(), "-", stdin=text, ready=lambda: _answers(port, self._password)
        )

    def _start_sentinel(self, number: int, primary: int) -> tuple[int, Process]:
        port, folder = free_port(), self._folder / f"sentinel-{number}"
        folder.mkdir()
        file = folder / "sentinel.conf"  # which it rewrites
        file.write_text(
            SENTINEL.format(host=HOST, port=port, folder=folder, name=NAME, primary=primary, password=self._password)
        )
        process = Process(self._folder / f"sentinel-{number}.log")
        process.start(Launcher(folder), redis_server(), str(file), "--sentinel", ready=lambda: _answers(port, None))
        return port, process

    def _is_complete(self) -> bool:
        for port, _ in self._sentinels:
            with redis.Redis(host=HOST, port=port) as sentinel:
                known: Any = sentinel.sentinel_master(NAME)
                replicas: Any = sentinel.sentinel_slaves(NAME)
            if known["num-other-sentinels"] != 2 or sum(map(_in_sync, replicas)) != 2:
                return False
        return True


def _in_sync(replica: dict[str, Any]) -> bool:
    return replica.get("master-link-status") == "ok" and not replica["is_sdown"]


def _answers(port: int, password: str | None) -> bool:
    try:
        with redis.Redis(host=HOST, port=port, password=password, socket_timeout=1) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False
