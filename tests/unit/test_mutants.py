"""The list of mutants keeps up with the code: `make mutants` is run seldom, and would say so only then."""

from __future__ import annotations

import pytest
from tests.mutants.__main__ import PARTS
from tests.mutants.part import Part


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.path)
def test_each_mutant_breaks_a_line_that_is_there_and_names_a_test_that_is_there(part: Part) -> None:
    assert [one.loses for one in part.mutants if part.text().count(one.old) != 1] == []
    assert [one.seen_by for one in part.mutants if one.seen_by and not part.files_with(one.seen_by)] == []
