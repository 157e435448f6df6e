"""What makes the unit tests quick, and none of them depend on another: work that is the same for all is done once."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from jinja2 import FileSystemBytecodeCache
from werkzeug.routing import Rule

Builder = Callable[..., tuple[str, str]]


def pytest_configure() -> None:
    """Garbage is collected seldom: to look through all that was imported, again and again, is a fifth of the work."""
    gc.set_threshold(50_000)


def pytest_collection_finish() -> None:
    """And no more among what was imported."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def our_source_is_compiled_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each test that needs an app makes its own; they share what Flask compiles, which is the same for all of them.

    Else werkzeug would take 10 ms for the routes of each of 300 apps, and Jinja 60 ms for the templates of the console.
    """
    compile_builder = Rule._compile_builder
    compiled: dict[tuple[str, bool], Builder] = {}

    def builder(rule: Rule, append_unknown: bool = True) -> Builder:
        """What makes a URL of the rule and its values; it knows nothing of the app."""
        key = rule.rule, append_unknown
        if key not in compiled:
            compiled[key] = compile_builder(rule, append_unknown)
        return compiled[key]

    templates = FileSystemBytecodeCache(str(tmp_path_factory.mktemp("templates")))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Rule, "_compile_builder", builder)
        patch.setitem(Flask.jinja_options, "bytecode_cache", templates)
        yield
