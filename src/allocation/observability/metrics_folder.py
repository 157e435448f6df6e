"""The folder in which the processes of one machine write their numbers, made anew by whoever comes first."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

FOLDER = "PROMETHEUS_MULTIPROC_DIR"


@contextmanager
def metrics_folder(env: MutableMapping[str, str] = os.environ) -> Iterator[Path]:
    """Use the folder that a parent or an operator has named, or one of our own that is gone afterwards.

    The library looks for it when it is imported, so this must come before.
    """
    if given := env.get(FOLDER):
        folder = Path(given)
        folder.mkdir(parents=True, exist_ok=True)
        yield folder
        return
    made, maker = Path(mkdtemp(prefix="allocation-metrics-")), os.getpid()
    env[FOLDER] = str(made)
    try:
        yield made
    finally:
        if os.getpid() == maker:  # a worker that was forked ends by the same way
            del env[FOLDER]
            rmtree(made, ignore_errors=True)
