"""The `allocation` command, and `python -m allocation`."""

from __future__ import annotations

import os
import signal
import sys

_INTERRUPTED = 130


def main() -> None:
    """Ctrl-C while all that is needed is imported ends it without a word: nothing has been begun."""
    _open_what_is_closed()
    is_heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # a shell may have it ignored
    if is_heard:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
    from allocation.entrypoints.memory import collect_seldom

    collect_seldom()
    from allocation.entrypoints.cli import main as allocation

    if is_heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    allocation()


def _open_what_is_closed() -> None:
    """Standard streams that were closed by who started us lead nowhere. Else the first connection would be in their
    place, and whatever is printed would go to the database."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            os.set_inheritable(descriptor, True)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8"))


if __name__ == "__main__":
    main()
