"""Whoever sits at the command line, as the operating system knows them."""

from __future__ import annotations

import getpass
import os


def login_name() -> str:
    """A login name; a number in a container where nobody has one."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid {os.getuid()}"


def user_principal() -> str:
    """As it is kept in the metadata of events."""
    return f"user:{login_name()}"
