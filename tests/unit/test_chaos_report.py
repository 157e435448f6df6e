"""What a run of chaos says of itself: how soon all was well, what was refused, and a page for readers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos import report
from tests.chaos.__main__ import chosen, judge_again, require_refusals
from tests.chaos.findings import Findings, kept
from tests.chaos.history import Asked, History, Told, Violation
from tests.chaos.recovery import recovery, stands_still
from tests.chaos.rounds import Blow, Result


def asked(begun: float, answered: float) -> Asked:
    return Asked(f"{begun}", "/allocate", {}, begun, answered, 202, "{}")


def told(at: float, time: float) -> Told:
    return Told(f"{at * 1000:.0f}-0", f"id-{at}", "allocated", "sku", 1, time, {}, heard=at)


def test_all_is_well_when_what_was_at_work_is_done_and_something_newer_too() -> None:
    history = History(asked=[asked(1.0, 2.0), asked(9.0, 14.0), asked(11.0, 12.0), asked(12.0, 30.0)])
    assert recovery(history, 10.0, ["serve"]) == {"serve": 4.0}


def test_each_kind_of_work_recovers_by_itself() -> None:
    history = History(told=[told(10.5, time=9.0), told(13.0, time=11.0)], asked=[asked(10.5, 11.0)])
    assert recovery(history, 10.0) == {"serve": 1.0, "relay": 3.0}


def test_a_mail_is_told_too() -> None:
    history = History(told=[told(11.0, time=10.5)], mails={"id-11.0": 15.0})
    assert recovery(history, 10.0, ["relay"]) == {"relay": 5.0}


def test_what_goes_on_is_seen_to_go_on() -> None:
    history = History(asked=[asked(10.1, 10.2), asked(10.3, 12.1), asked(10.4, 10.7)], told=[told(11.0, time=10.9)])
    assert stands_still(history, 10.0) == ["serve", "consume"]


def late(refused: int) -> Result:
    return Result("freeze", ["frozen at read-before-telling"], 1, must_be_refused=True, refused=refused)


@pytest.mark.parametrize(("refusals", "wrong"), [((0, 0), 1), ((0, 1), 0), ((), 0)])
def test_that_whoever_comes_late_is_refused_must_be_seen(refusals: tuple[int, ...], wrong: int, tmp_path: Path) -> None:
    results = [late(refused) for refused in refusals]
    require_refusals(results, Findings(tmp_path))
    assert sum(len(result.violations) for result in results) == wrong


def page(file: Path) -> str:
    killed = Result("kill", ["committed-before-answer", "told-before-mark"], 7, kills=2)
    killed.recoveries = [
        (Blow("committed-before-answer", 1.0, ["serve"]), {"serve": 2.0}),
        (Blow("told-before-mark", 1.0, ["relay"]), {"relay": 3.0}),
    ]
    broken = Result("fault", ["redis: connections reset"], 7, violations=[Violation("gap", "from 1 to 3")])
    broken.recoveries = [(Blow("redis: connections reset", 1.0), {"serve": 0.5, "relay": 0.7})]
    report.write(file, [report.Chapter("single servers", "PostgreSQL 18.4, Valkey 9.1.2", [killed, broken])], 60)
    return file.read_text()


def test_the_page_has_a_row_for_each_thing_that_broke(tmp_path: Path) -> None:
    lines = page(tmp_path / "chaos.md").splitlines()
    assert "| API: committed; the client has no answer | 1 | 1 | 0 | 2.00 s | 2.00 s | 2.00 s |" in lines
    assert "| relay: an event is published; nothing is recorded | 1 | 1 | 0 | 3.00 s | 3.00 s | 3.00 s |" in lines
    assert "| redis: connections reset | 1 | 1 | 1 | 0.70 s | 0.70 s | 0.70 s |" in lines
    assert "* redis: connections reset, seed 7: gap: from 1 to 3" in lines


def test_the_page_keeps_what_was_written_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "chaos.md"
    before = page(file)
    by_hand = "## What the judge sees when a safety line is removed\n\nAll of it.\n"
    file.write_text(f"{before}\n{by_hand}")
    assert page(file) == f"{before}\n{by_hand}"


@pytest.mark.parametrize(("share", "value"), [(50, 2.0), (95, 4.0), (100, 4.0)])
def test_so_many_of_a_hundred_are_not_above(share: int, value: float) -> None:
    assert report.percentile([4.0, 1.0, 3.0, 2.0], share) == value


def test_a_violation_is_in_a_file_as_soon_as_it_is_found_with_the_command_that_plays_its_round_again(
    tmp_path: Path,
) -> None:
    def violations() -> Iterator[Violation]:
        yield Violation("gap", "from 1 to 3")
        assert file.read_text().endswith("gap: from 1 to 3\n")
        raise KeyError("what the model has never heard of")

    findings = Findings(tmp_path / "var")
    file = findings.file
    found: list[Violation] = []
    findings.begin("single", "redis: events forgotten", 7)
    assert not file.parent.exists()

    with pytest.raises(KeyError):
        findings.add(found, violations())
    findings.add(found, [Violation("books", "\n".join(["difference"] * 100))])

    assert len(found) == 2
    assert file.read_text().count("single, redis: events forgotten, seed 7") == 1
    assert "python -m tests.chaos --world single --only 'redis: events forgotten' --first-seed 7 --seeds 1" in (
        file.read_text()
    )
    assert file.read_text().count("difference") == 100


def test_the_history_of_a_round_is_kept_and_judged_again(tmp_path: Path) -> None:
    findings = Findings(tmp_path)
    findings.begin("single", "redis: events forgotten", 7)
    history = History(asked=[replace(asked(1.0, 2.0), status=500, body={"orderid": "o1", "sku": "r1-sku0"})])

    file = findings.keep(history)

    assert kept(file) == history
    assert judge_again(file) == 1


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["kill"], ["kill"]),
        (["ki"], ["kill", "kill, again"]),
        (["x"], []),
        (["kill", "freeze"], ["kill", "freeze"]),
        ([], ["kill", "kill, again", "freeze"]),
    ],
)
def test_a_round_is_chosen_by_its_name_or_by_a_part_of_names(wanted: list[str], expected: list[str]) -> None:
    plan = [(name, late) for name in ("kill", "kill, again", "freeze")]
    assert [name for name, _ in chosen(plan, wanted)] == expected
