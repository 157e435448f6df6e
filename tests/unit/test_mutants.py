"""The list of mutants keeps up with the code: `make mutants` is run seldom, and would say so only then."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from tests.mutants.__main__ import PARTS
from tests.mutants.part import Part

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.path)
def test_each_mutant_breaks_a_line_that_is_there_and_names_a_test_that_is_there(part: Part) -> None:
    assert [one.loses for one in part.mutants if part.text().count(one.old) != 1] == []
    assert [one.seen_by for one in part.mutants if one.seen_by and not part.files_with(one.seen_by)] == []


def test_the_tests_that_mutmut_runs_are_there() -> None:
    mutmut = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mutmut"]

    assert [name for name in mutmut["pytest_add_cli_args_test_selection"] if not (ROOT / name).is_file()] == []
