"""The second service says what the catalogue allows, and rests on nothing else."""

from __future__ import annotations

import ast
from pathlib import Path

from examples import buying
from jsonschema import Draft202012Validator

from allocation.catalogue import history

PUBLISHED = history.published()


def test_it_knows_nothing_of_our_code() -> None:
    tree = ast.parse(Path(buying.__file__).read_text("utf-8"))
    modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    modules |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}

    assert modules.isdisjoint({"allocation", "messaging", "embedded"})
    assert not any(module.startswith(("allocation.", "messaging.", "embedded.")) for module in modules)


def test_it_answers_each_published_example_with_commands_of_their_published_schemas() -> None:
    for example in PUBLISHED["allocation.out_of_stock.v1"]["examples"]:
        answers = list(buying.commands_for(example))

        assert [answer["type"] for answer in answers] == ["allocation.create_batch.v1", "allocation.allocate.v1"]
        for answer in answers:
            Draft202012Validator(PUBLISHED[answer["type"]]).validate(answer)
            assert answer["correlationid"] == example["correlationid"]


def test_an_event_that_comes_again_is_answered_with_the_very_same() -> None:
    [example] = PUBLISHED["allocation.out_of_stock.v1"]["examples"]

    assert list(buying.commands_for(example)) == list(buying.commands_for(example))
