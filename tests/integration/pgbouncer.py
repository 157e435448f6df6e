"""A PgBouncer of a test's own, in transaction mode, with few connections to the server behind it."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from embedded.endpoint import HOST, Endpoint
from embedded.identity import identity_for
from embedded.process import Launcher, Process, version_of

CONNECTIONS = 3
"""To the server, for each user and database."""

_SETTINGS = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = {ours}
listen_port = {our_port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 200
max_prepared_statements = 200
query_wait_timeout = 1
server_login_retry = 0.2
"""


class PgBouncer:
    """Knows one user. Everything it keeps is in `folder`."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("pgbouncer")
        assert found, "without it the tests that need it are skipped"
        self._program = Path(found)
        self._folder = folder
        self._endpoint = Endpoint(folder)
        self._process = Process(folder / "log")
        version = version_of(self._program, r"PgBouncer (\d[\w.]*)")
        self.knows_prepared_statements = tuple(map(int, version.split(".")[:2])) >= (1, 21)

    def start(self, database_url: str, user: str, password: str) -> str:
        """Returns the URL of the same database through it, for this user."""
        server = urlsplit(database_url)
        self._folder.mkdir()
        (self._folder / "users").write_text(f'"{user}" "{password}"\n')
        identity = identity_for(self._folder, self._program, refuses_root=True)

        def start_on(port: int) -> None:
            settings = _SETTINGS if self.knows_prepared_statements else _without("max_prepared_statements")
            (self._folder / "settings").write_text(
                settings.format(
                    host=server.hostname,
                    port=server.port,
                    ours=HOST,
                    our_port=port,
                    folder=self._folder,
                    connections=CONNECTIONS,
                )
            )
            launcher = Launcher(self._folder, identity, signal.SIGINT)
            self._process.start(launcher, self._program, "-q", "settings", ready=lambda: _listens(port))

        self._endpoint.start(start_on)
        return f"postgresql://{user}:{password}@{HOST}:{self._endpoint.port}{server.path}"

    def stop(self) -> None:
        self._process.end(signal.SIGINT, signal.SIGTERM)


def _without(setting: str) -> str:
    return "".join(line for line in _SETTINGS.splitlines(keepends=True) if not line.startswith(setting))


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0
