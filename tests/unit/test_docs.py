"""The docs say what is so: links, paths, names, commands and settings in them are looked up where they should be."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import tomllib
from collections.abc import Iterator
from inspect import isclass
from pathlib import Path
from pkgutil import resolve_name
from types import ModuleType
from typing import Any, get_args

import pytest

from allocation.adapters import redis_channels
from allocation.adapters.schema import REVISION
from allocation.adapters.wire_names import CLOUD_EVENTS
from allocation.config import LOG_LEVELS
from allocation.domain import commands, events, model
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
    *SCHEMAS,
    *(CLOUD_EVENTS.type_of(kind) for kind in get_args(events.Event)),
}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)\s]+)\)")
_CODE = re.compile(r"`([^`]+)`")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(text: str) -> str:
    return _FENCE.sub("", text)


def blocks(text: str, language: str) -> list[str]:
    return [body for found, body in _FENCE.findall(text) if found == language]


def codes(text: str) -> list[str]:
    """What stands between backticks."""
    return [" ".join(code.split()) for code in _CODE.findall(prose(text))]


def links(page: Path) -> Iterator[tuple[str, Path, str]]:
    """Text, file and anchor of each link that stays in the project."""
    for text, target in _LINK.findall(prose(page.read_text("utf-8"))):
        if not target.startswith(("http:", "https:")):
            file, _, anchor = target.partition("#")
            yield text, (page.parent / file).resolve() if file else page, anchor


def anchors(page: Path) -> set[str]:
    """The headings of a page as links name them."""
    headings = _HEADING.findall(prose(page.read_text("utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(page: Path, title: str) -> str:
    _, _, after = page.read_text("utf-8").partition(f"\n## {title}\n")
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


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    for text, file, anchor in links(page):
        assert file.exists(), f"[{text}] leads to {file}"
        assert not anchor or anchor in anchors(file), f"[{text}] leads to #{anchor}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, ahead = set[Path](), [README]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead += {file for _, file, _ in links(page) if file.suffix == ".md"} - reached

    assert reached == set(PAGES)


@each_page
def test_files_that_are_named_are_there(page: Path) -> None:
    for code in codes(page.read_text("utf-8")):
        if re.fullmatch(r"(src|tests|docs|examples)/[\w./-]*", code):
            assert (ROOT / code).exists(), code


@each_page
def test_names_of_the_code_are_there(page: Path) -> None:
    for code in codes(page.read_text("utf-8")):
        if code not in SAID and re.fullmatch(r"(allocation|messaging|embedded)(\.\w+)+", code):
            resolve_name(code)


def test_every_promise_says_what_it_rests_on_and_which_test_shows_it() -> None:
    promised, _, not_promised = (DOCS / "guarantees.md").read_text("utf-8").partition("\n## What is not promised\n")
    promises = re.split(r"^(?=\*\*)", promised, flags=re.MULTILINE)[1:]

    assert len(promises) > 30
    for promise in promises:
        assert re.match(r"\*\*[^*]+\.\*\*\nRests on ", promise) or "For example:**" in promise, promise
        assert re.search(r"^\* \[`test_\w+`\]", promise, re.MULTILINE), promise
    assert not_promised.strip()


def test_every_protection_says_what_it_rests_on_and_which_test_shows_it() -> None:
    protected, _, not_protected = (
        (DOCS / "threat-model.md").read_text("utf-8").partition("\n## What is not protected\n")
    )
    protections = re.split(r"^(?=\*\*)", protected, flags=re.MULTILINE)[1:]

    assert len(protections) > 12
    for protection in protections:
        assert re.match(r"\*\*[^*]+\.\*\*\nRests on ", protection), protection
        assert re.search(r"^\* \[`test_\w+`\]", protection, re.MULTILINE), protection
    assert not_protected.strip()


@each_page
def test_tests_that_are_named_are_there(page: Path) -> None:
    for text, file, _ in links(page):
        for name in re.findall(r"^`(test_\w+)`$", text):
            there = re.findall(r"^ *def (test_\w+)\(", file.read_text("utf-8"), re.MULTILINE)
            assert name in there, f"{file} has no {name}"


@each_page
def test_make_knows_its_words(page: Path) -> None:
    text = page.read_text("utf-8")
    words = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    for place in [*codes(text), *blocks(text, "console"), *blocks(text, "sh")]:
        for word in re.findall(r"\bmake ([a-z][a-z0-9-]*)", place):
            assert word in words, f"make {word}"


@each_page
def test_the_command_line_knows_its_words(page: Path) -> None:
    text = page.read_text("utf-8")
    for place in [*codes(text), *blocks(text, "console")]:
        for word in re.findall(r"(?:^|bin/|\"? )allocation ([a-z]+)$", place, re.MULTILINE):
            assert word in main.commands, f"allocation {word}"


def test_every_setting_is_in_the_table_and_no_other() -> None:
    config = (ROOT / "src/allocation/config.py").read_text("utf-8")
    embedded = "".join(file.read_text("utf-8") for file in (ROOT / "src/embedded").glob("*.py"))
    read = set(re.findall(r'"([A-Z_]{4,})"', config)) - set(LOG_LEVELS) | set(re.findall(r'"(EMBEDDED_\w+)"', embedded))

    rows = re.findall(r"^\| (`[^|]+) \|", section(DOCS / "operations.md", "Settings"), re.MULTILINE)

    assert {name for row in rows for name in codes(row)} == read


@each_page
def test_names_in_capitals_are_there(page: Path) -> None:
    places = [*(ROOT / "src").rglob("*.py"), ROOT / "Makefile", ROOT / "tests/conftest.py"]
    known = "".join(file.read_text("utf-8") for file in places)
    for code in codes(page.read_text("utf-8")):
        for name in re.findall(r"^[A-Z]+(?:_[A-Z]+)+\b", code):
            assert name in known, name


def public_names(module: ModuleType) -> set[str]:
    return {name for name, kind in vars(module).items() if isclass(kind) and kind.__module__ == module.__name__}


@pytest.mark.parametrize("module", [model, commands, events], ids=lambda module: module.__name__)
def test_the_glossary_has_every_class_of_the_domain(module: ModuleType) -> None:
    explained = set(codes((DOCS / "glossary.md").read_text("utf-8")))

    assert {f"{module.__name__}.{name}" for name in public_names(module)} <= explained


def test_the_glossary_has_the_unions_too() -> None:
    explained = codes((DOCS / "glossary.md").read_text("utf-8"))

    assert "allocation.domain.commands.Command" in explained
    assert "allocation.domain.events.Event" in explained
    assert {kind.__name__ for kind in get_args(events.Event)} <= public_names(events)


@pytest.mark.parametrize("part", (DOCS / "tour.md").read_text("utf-8").split("\n## ")[1:], ids=lambda part: part[:20])
def test_the_tour_names_what_is_in_the_files_that_it_links(part: str) -> None:
    files = [(DOCS / target).read_text("utf-8") for _, target in _LINK.findall(part)]
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


def test_the_list_of_decisions_is_complete() -> None:
    listed = {file.name for _, file, _ in links(DOCS / "adr/README.md")}

    assert listed == {file.name for file in (DOCS / "adr").glob("0*.md")}


@pytest.mark.parametrize("page", sorted((DOCS / "adr").glob("0*.md")), ids=lambda page: page.stem)
def test_a_decision_says_what_was_rejected(page: Path) -> None:
    text = page.read_text("utf-8")

    assert text.startswith(f"# {int(page.name[:4])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Rejected", "Consequences"]


def test_the_changelog_knows_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]

    assert f"\n## [{version}] - " in (ROOT / "CHANGELOG.md").read_text("utf-8")


@each_page
def test_what_is_typed_is_a_shell_s_language(page: Path) -> None:
    text = page.read_text("utf-8")
    typed = blocks(text, "sh")
    for block in blocks(text, "console"):
        assert block.startswith("$ "), block
        typed.append("\n".join(re.findall(r"^\$ (.+)$", block, re.MULTILINE)))
    for lines in typed:
        subprocess.run(["bash", "-n"], input=lines, text=True, check=True)


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
    page = (DOCS / "command-line.md").read_text("utf-8")

    assert not [name for name in main.commands if not re.search(rf"`(allocation )?{name}`", page)]
    assert {*re.findall(r"schema (\d{4})|\"revision\": \"(\d{4})\"", page)} == {(REVISION, ""), ("", REVISION)}
