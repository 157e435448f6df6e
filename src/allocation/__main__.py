"""The `allocation` command, and `python -m allocation`."""

from __future__ import annotations

import os
import signal

_INTERRUPTED = 130


def main() -> None:
    """Ctrl-C while all that is needed is imported ends it without a word: nothing has been begun."""
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if is_heard:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from allocation.entrypoints.cli import main as allocation

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    allocation()


if __name__ == "__main__":
    main()
