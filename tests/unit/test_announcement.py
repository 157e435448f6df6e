"""Where everything is, told once it is ready, whatever answers until then."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from allocation.config import Settings
from allocation.entrypoints.command_line import announcement
from allocation.entrypoints.command_line.announcement import Announcement
from allocation.overview import Api
from messaging.errors import Unavailable

SETTINGS = replace(Settings(), redis_url="redis://:secret@127.0.0.1:1/0", database_url="postgresql://db/stock")


@dataclass
class World:
    """A clock, an API that says what it is told to, and a Redis that is not there."""

    now: float = 100.0
    status: str | None = None
    asked: list[str] = field(default_factory=list)

    def api(self, url: str, patience: float) -> Api:
        self.asked.append(url)
        if self.status is None:
            raise Unavailable(f"no answer within {patience}")
        return Api(self.status, 1.0)

    def announcement(self, *, as_json: bool = False) -> Announcement:
        return Announcement(SETTINGS, "", as_json=as_json, clock=lambda: self.now)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(announcement, "api", world.api)
    return world


@pytest.mark.parametrize("status", [None, "not ready", "ready"])
def test_nothing_is_told_before_the_api_and_the_consumer_are_there(
    world: World, status: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    world.status = status
    announcement = world.announcement()

    for _ in range(3):
        announcement.make_when_ready()
        world.now += 60

    assert world.asked == ["http://127.0.0.1:5005"] * 3
    assert capsys.readouterr().out == ""


def test_a_redis_that_stays_away_is_told_once_and_not_waited_for(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    announcement = world.announcement()
    for world.status in ("not ready", "degraded", "degraded"):
        announcement.make_when_ready()
        world.now += 4.0
    assert capsys.readouterr().out == "", "it may only be late"

    announcement.make_when_ready()
    announcement.make_when_ready()

    said = capsys.readouterr().out
    assert said.count("Ready") == 1
    assert "Ready, but Redis at redis://127.0.0.1:1/0 does not answer: orders are taken, events wait." in said
    assert "http://127.0.0.1:5005/console" in said


def test_what_can_not_be_printed_ends_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.status = "degraded"
    announcement = world.announcement()

    with Path("/dev/full").open("w") as full, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        for _ in range(2):
            announcement.make_when_ready()
            world.now += 6
        full.write("from now on nobody minds")
        full.flush()

    assert [record.getMessage() for record in caplog.records] == ["can't print that it is ready"]


def test_a_redis_that_comes_in_between_begins_the_wait_anew(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    announcement = world.announcement()

    for world.status in ("degraded", "ready", "degraded"):
        announcement.make_when_ready()
        world.now += 4.0

    assert capsys.readouterr().out == ""


def test_a_program_gets_one_object(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    announcement = world.announcement(as_json=True)
    world.status = "degraded"

    announcement.make_when_ready()
    world.now += 9.0
    announcement.make_when_ready()

    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["console"]) == ("degraded", "http://127.0.0.1:5005/console")
    assert "secret" not in str(said)
