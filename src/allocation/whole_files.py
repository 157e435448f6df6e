"""Files that are there as a whole or not at all, also in folders into which others may write."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import IO


def is_link_of_another(path: Path) -> bool:
    """Whether it is a symbolic link that somebody else has put there: who follows it writes where they want."""
    return path.is_symlink() and path.lstat().st_uid != os.geteuid()


@contextmanager
def replacing(path: Path, mode: int = 0o666) -> Iterator[IO[bytes]]:
    """A new file beside the path, which takes its place, with its permissions, when all is written and on the disk.
    Where none is there, it has those of the `mode`, as far as the umask lets it.

    Where others may write into the folder it has a name that they can't know, and is none that they have put there. A
    link of another is replaced; one of our own leads to what is.
    """
    path = path if is_link_of_another(path) else path.resolve()
    beside = path.with_name(f".{path.name}.{token_hex(8)}.part")
    with open(beside, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
        try:
            if path.exists() and not path.is_symlink():
                os.fchmod(stream.fileno(), stat.S_IMODE(path.stat().st_mode))
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
