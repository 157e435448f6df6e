"""A real PostgreSQL and a real Valkey, or Redis, from wheels: for `make run`, the command line and the tests.

Other programs than the wheels': EMBEDDED_POSTGRES_BIN, a folder, and EMBEDDED_REDIS_SERVER, a file.
"""

from embedded.connection_file import Servers
from embedded.errors import EmbeddedServersError
from embedded.sharing import already_running, ensure_running, keeps_data, servers

__all__ = ["EmbeddedServersError", "Servers", "already_running", "ensure_running", "keeps_data", "servers"]
