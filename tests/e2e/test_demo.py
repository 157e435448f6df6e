"""A newcomer's first command: the trading day is played against the real service, and comes true."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

from tests.e2e.client import Client
from tests.e2e.conftest import Mailbox
from tests.e2e.service import Service, allocation, environment
from tests.e2e.waiting import PATIENCE, eventually


def type_in(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As a person at the same machine, who has set a little."""
    env = environment(
        ALLOCATION_HOME=str(service.home),
        PORT=str(service.port),
        http_proxy="http://127.0.0.1:9",
        SMTP_URL="smtps://joe:its-password@mail.example:465",
        MAIL_TO="team@example.com",
    )
    return subprocess.run(allocation(*arguments), env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_story_comes_true(service: Service, api: Client, mails: Mailbox) -> None:
    played = type_in(service, "demo", "--fast", "--json")

    assert (played.returncode, played.stderr) == (0, "")
    *scenes, end = [json.loads(line) for line in played.stdout.splitlines()]
    assert [scene["scene"] for scene in scenes] == list(range(1, 16))
    assert end["came_true"]
    assert end["mail"] == "sent to team@example.com by smtps://joe@mail.example:465"
    day = end["next"][0].rpartition("-")[2]
    assert [api.batches_of(f"{name}-{day}") for name in ("anna", "ben", "cleo", "dora", "emil", "fay")] == [
        [f"shelf-{day}"],
        [],
        [f"ship-{day}"],
        [],
        [f"shelf-{day}", f"five-{day}"],
        [f"pair-{day}"],
    ]
    told = [event["type"].split(".")[1] for event in api.events(f"BRASS-LAMP-{day}")]
    assert told == [
        *["batch_created"] * 2,
        *["allocated"] * 3,
        *["batch_quantity_changed", "deallocated", "allocated"],
        *["batch_created", "batch_received", "quarantined"],
        *["order_cancelled", "line_released"],
        *["dispatched", "returned", "allocated"],
    ]
    [mail] = eventually(lambda: mails.about(f"OAK-TABLE-{day}"), "the mail came")
    assert f"dora-{day}" in mail.get_content()


def test_it_can_be_played_again_and_is_told_in_sentences(service: Service) -> None:
    first, second = (type_in(service, "demo", "--fast") for _ in range(2))

    assert (first.returncode, second.returncode) == (0, 0)
    assert "lost its 6 of BRASS-LAMP-" in first.stdout
    assert "Look at it yourself:" in second.stdout
    assert first.stdout != second.stdout


def test_status_finds_nothing_wrong_with_a_running_service(service: Service) -> None:
    def verdict() -> tuple[bool, list[dict[str, Any]]]:
        found = json.loads(type_in(service, "status", "--json").stdout)["problems"]
        others = [problem for problem in found if "dead" not in problem["what"]]  # which tests leave behind, rightly
        return not others, others

    deadline = time.monotonic() + PATIENCE
    while not (fine := verdict())[0]:
        assert time.monotonic() < deadline, f"something needs a person: {fine[1]}"
