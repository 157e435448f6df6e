"""On what it was measured: figures mean nothing without it."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from embedded import Servers

_PACKAGES = ("psycopg", "SQLAlchemy", "Flask", "granian")


def about(servers: Servers) -> dict[str, str]:
    packages = (f"{name} {version(name)}" for name in _PACKAGES)
    programs = (f"Python {platform.python_version()}", servers.postgres, servers.redis, *packages)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores ({_processor()}), {_memory():.0f} GB of memory",
        "versions": ", ".join(programs),
    }


def _processor() -> str:
    found = re.search(r"^model name\s*: (.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return found[1] if found else platform.machine()


def _memory() -> float:
    found = re.search(r"^MemTotal: +(\d+) kB$", _text("/proc/meminfo"), re.MULTILINE)
    return int(found[1]) / 1024**2 if found else float("nan")


def _text(file: str) -> str:
    return Path(file).read_text("utf-8") if Path(file).exists() else ""
