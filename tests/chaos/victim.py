"""`python -m tests.chaos.victim PART ORDERS` is `allocation PART`, and dies where the file ORDERS says.

Without that file it just lives, and may be of another release."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from tests.chaos.steps import Orders, instrument

from allocation.entrypoints import cli
from embedded.launch import end_with


def main(part: str, orders: str = "") -> None:
    end_with(os.getppid(), signal.SIGKILL)
    if orders:
        instrument(part, Orders(Path(orders)))
    cli.main([part])


if __name__ == "__main__":
    main(*sys.argv[1:])
