"""The docs say what is so: links, paths, names, commands and settings in them are looked up where they should be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from inspect import isclass
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, get_args

import pytest

from allocation.adapters import outcome_messages, redis_channels
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.config import LOG_LEVELS
from allocation.database.schema import REVISION
from allocation.domain import batches, commands, errors, events, lines, product, values
from allocation.entrypoints.cli import main
from allocation.validation import ALLOCATE, CHANGE_BATCH_QUANTITY, CREATE_BATCH, SCHEMAS, Schema

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

# What looks like a name of the code, and is one of a stream or of a kind of message.
SAID = {
    redis_channels.EVENTS,
    redis_channels.COMMANDS,
    outcome_messages.TYPE,
    *SCHEMAS,
    *(CLOUD_EVENTS.type_of(kind) for kind in get_args(events.Event)),
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def assert_none(faults: Iterable[str]) -> None:
    """All of them are named at once, each with its page."""
    found = [*faults]
    assert not found, "\n".join(["", *found])


@cache
def text_of(file: Path) -> str:
    return file.read_text("utf-8")


@cache
def prose(text: str) -> str:
    return _FENCE.sub("", text)


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == language]


def codes(text: str) -> list[str]:
    """What stands between backticks."""
    return [" ".join(code.split()) for code in _CODE.findall(prose(text))]


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Text, file and anchor of each link that stays in the project."""
    for text, target in _LINK.findall(prose(text_of(page))):
        if not target.startswith(("http:", "https:")):
            file, _, anchor = target.partition("#")
            yield text, (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = _HEADING.findall(prose(text_of(page)))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(page: Path, title: str) -> str:
    _, _, after = text_of(page).partition(f"\n## {title}\n")
    assert after, f"{page.name} has no section {title}"
    return after.partition("\n## ")[0]


def session(text: str = "") -> list[tuple[str, str]]:
    """What a page, else the README, has a newcomer paste, line by line, with what is printed then."""
    typed: list[tuple[str, str]] = []
    for block in blocks(text or section(README, "Ask it something"), "sh"):
        for line in block.splitlines():
            if line.startswith("# "):
                command, answer = typed.pop()
                typed.append((command, f"{answer}{line[2:]}\n"))
            else:
                typed.append((line, ""))
    return typed


def test_links_lead_somewhere() -> None:
    assert_none(
        f"{page}: [{text}] leads to {file}#{anchor}"
        for page in PAGES
        for text, file, anchor in links(page)
        if not file.exists() or (anchor and anchor not in anchors(file))
    )


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [README]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead += {file for _, file, _ in links(page) if file.suffix == ".md"} - reached

    assert reached == set(PAGES)


def test_files_that_are_named_are_there() -> None:
    assert_none(
        f"{page}: {code}"
        for page in PAGES
        for code in codes(text_of(page))
        if re.fullmatch(r"(src|tests|docs|examples)/[\w./-]*", code) and not (ROOT / code).exists()
    )


def test_names_of_the_code_are_there() -> None:
    assert_none(
        f"{page}: {code}"
        for page in PAGES
        for code in codes(text_of(page))
        if re.fullmatch(r"(allocation|messaging|embedded)(\.\w+)+", code) and code not in SAID and not is_name(code)
    )


@cache
def is_name(code: str) -> bool:
    try:
        resolve_name(code)
    except (ImportError, AttributeError):
        return False
    return True


def test_every_promise_says_what_it_rests_on_and_which_test_shows_it() -> None:
    promised, _, not_promised = text_of(DOCS / "guarantees.md").partition("\n## What is not promised\n")
    promises = re.split(r"^(?=\*\*)", promised, flags=re.MULTILINE)[1:]

    assert len(promises) > 30
    for promise in promises:
        assert re.match(r"\*\*[^*]+\.\*\*\nRests on ", promise) or "For example:**" in promise, promise
        assert re.search(r"^\* \[`test_\w+`\]", promise, re.MULTILINE), promise
    assert not_promised.strip()


def test_every_protection_says_what_it_rests_on_and_which_test_shows_it() -> None:
    protected, _, not_protected = text_of(DOCS / "threat-model.md").partition("\n## What is not protected\n")
    protections = re.split(r"^(?=\*\*)", protected, flags=re.MULTILINE)[1:]

    assert len(protections) > 12
    for protection in protections:
        assert re.match(r"\*\*[^*]+\.\*\*\nRests on ", protection), protection
        assert re.search(r"^\* \[`test_\w+`\]", protection, re.MULTILINE), protection
    assert not_protected.strip()


def test_tests_that_are_named_are_there() -> None:
    assert_none(
        f"{page}: {file} has no {name}"
        for page in PAGES
        for text, file, _ in links(page)
        for name in re.findall(r"^`(test_\w+)`$", text)
        if name not in names_of_tests_in(file)
    )


@cache
def names_of_tests_in(file: Path) -> set[str]:
    return set(re.findall(r"^ *def (test_\w+)\(", text_of(file), re.MULTILINE))


def test_make_knows_its_words() -> None:
    words = set(re.findall(r"^([a-z0-9-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    assert_none(
        f"{page}: make {word}"
        for page in PAGES
        for place in [*codes(text_of(page)), *blocks(text_of(page), "console"), *blocks(text_of(page), "sh")]
        for word in re.findall(r"\bmake ([a-z][a-z0-9-]*)", place)
        if word not in words
    )


def test_the_command_line_knows_its_words() -> None:
    assert_none(
        f"{page}: allocation {word}"
        for page in PAGES
        for place in [*codes(text_of(page)), *blocks(text_of(page), "console")]
        for word in re.findall(r"(?:^|bin/|\"? )allocation ([a-z]+)$", place, re.MULTILINE)
        if word not in main.commands
    )


def test_every_setting_is_in_the_table_and_no_other() -> None:
    config = text_of(ROOT / "src/allocation/config.py")
    embedded = "".join(text_of(file) for file in (ROOT / "src/embedded").glob("*.py"))
    read = set(re.findall(r'"([A-Z_]{4,})"', config)) - set(LOG_LEVELS) | set(re.findall(r'"(EMBEDDED_\w+)"', embedded))

    rows = re.findall(r"^\| (`[^|]+) \|", section(DOCS / "operations.md", "Settings"), re.MULTILINE)

    assert {name for row in rows for name in codes(row)} == read


def test_names_in_capitals_are_there() -> None:
    places = [
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / name for name in ("Makefile", "docker-compose.yml", "tests/conftest.py")),
    ]
    known = "".join(text_of(file) for file in places)
    assert_none(
        f"{page}: {name}"
        for page in PAGES
        for code in codes(text_of(page))
        for name in re.findall(r"^[A-Z]+(?:_[A-Z]+)+\b", code)
        if name not in known
    )


def public_names(module: ModuleType) -> set[str]:
    return {name for name, kind in vars(module).items() if isclass(kind) and kind.__module__ == module.__name__}


@pytest.mark.parametrize(
    "module", [errors, lines, batches, product, commands, events, values], ids=lambda module: module.__name__
)
def test_the_glossary_has_every_class_of_the_domain(module: ModuleType) -> None:
    explained = set(codes(text_of(DOCS / "glossary.md")))

    assert {f"{module.__name__}.{name}" for name in public_names(module)} <= explained


def test_the_glossary_has_the_unions_too() -> None:
    explained = codes(text_of(DOCS / "glossary.md"))

    assert "allocation.domain.commands.Command" in explained
    assert "allocation.domain.events.Event" in explained
    assert {kind.__name__ for kind in get_args(events.Event)} <= public_names(events)


@pytest.mark.parametrize("part", text_of(DOCS / "tour.md").split("\n## ")[1:], ids=lambda part: part[:20])
def test_the_tour_names_what_is_in_the_files_that_it_links(part: str) -> None:
    files = [text_of(DOCS / target) for _, target in _LINK.findall(part)]
    members = {name for text in files for name in members_of_classes(ast.parse(text))}
    for code in codes(part):
        if re.fullmatch(r"[A-Z]\w+\.\w+", code):
            assert code in members
        elif re.fullmatch(r"\w+", code):
            assert any(re.search(rf"\b{code}\b", text) for text in files), f"{code} is in none of these files"


def members_of_classes(tree: ast.Module) -> Iterator[str]:
    for kind in ast.walk(tree):
        if isinstance(kind, ast.ClassDef):
            for member in kind.body:
                if isinstance(member, ast.FunctionDef):
                    yield f"{kind.name}.{member.name}"
                elif isinstance(member, ast.AnnAssign) and isinstance(member.target, ast.Name):
                    yield f"{kind.name}.{member.target.id}"


def test_the_map_of_the_house_shows_what_is_there() -> None:
    (house,) = blocks(section(README, "The house"), "text")
    above: list[str] = []
    for line in house.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        above[depth:] = [line.split()[0]]
        assert (ROOT / "".join(above)).exists(), "".join(above)
    modules = {file.name for file in (ROOT / "src/allocation/domain").glob("*.py")} - {"__init__.py"}
    assert modules <= set(house.split()), "of the rules, all are there"


def test_the_list_of_decisions_is_complete() -> None:
    listed = {file.name for _, file, _ in links(DOCS / "adr/README.md")}

    assert listed == {file.name for file in (DOCS / "adr").glob("0*.md")}


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("0*.md")), ids=lambda page: page.stem)
def test_a_decision_says_what_was_rejected(page: Path) -> None:
    text = text_of(page)

    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Rejected", "Consequences"]


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads(text_of(ROOT / "pyproject.toml"))["project"]["version"]

    assert f"\n## [{version}] - " in text_of(ROOT / "CHANGELOG.md")


def test_what_is_typed_is_a_shell_s_language() -> None:
    assert_none(f"{page}: {lines}" for page in PAGES for lines in typed_on(page) if not is_shell(lines))


def typed_on(page: Path) -> Iterator[str]:
    yield from blocks(text_of(page), "sh")
    for block in blocks(text_of(page), "console"):
        assert block.startswith("$ "), f"{page}: {block}"
        yield "\n".join(re.findall(r"^\$ (.+)$", block, re.MULTILINE))


def is_shell(lines: str) -> bool:
    return subprocess.run(["bash", "-n"], input=lines, text=True, check=False).returncode == 0


def test_the_readme_s_session_says_what_the_service_understands() -> None:
    schemas: dict[str, Schema[Any]] = {
        "add_batch": CREATE_BATCH,
        "allocate": ALLOCATE,
        "change_batch_quantity": CHANGE_BATCH_QUANTITY,
    }
    said = [(word, body) for command, _ in session() for word, body in re.findall(r"(\w+) '(\{.+?\})'", command)]

    assert {word for word, _ in said} == schemas.keys()
    for word, body in said:
        schemas[word].read_json(body)


def test_the_readme_s_session_shows_every_answer() -> None:
    for command, answer in session():
        if command.startswith(("post ", "sleep ", "curl ")):
            assert answer == "OK\n" or json.loads(answer), command
        else:
            assert answer == "", f"{command} prints nothing"


def test_the_page_of_the_command_line_has_every_command_and_today_s_schema() -> None:
    page = text_of(DOCS / "command-line.md")
    shown = set(re.findall(r"^\$ allocation ([a-z-]+)", "\n".join(blocks(page, "console")), re.MULTILINE))

    assert not [name for name in main.commands if not re.search(rf"`(allocation )?{name}`", page)]
    assert not main.commands.keys() - shown, "what it prints is nowhere"
    assert {*re.findall(r"(?:schema|revision|\"revision\":) \"?(\d{4})", page)} == {REVISION}
