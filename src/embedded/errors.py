"""The one error of this package, in a module that imports nothing."""


class EmbeddedServersError(Exception):
    """The servers cannot be had. The message is one line: what is wrong, with which file, and what to do."""
