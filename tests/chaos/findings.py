"""Violations, in a file as soon as each is found, with how to see it again."""

from __future__ import annotations

import os
import pickle
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from tests.chaos.history import History, Violation

FOLDER = Path("var/chaos")


@dataclass(slots=True)
class Findings:
    """`violations.txt` in the folder has the text of all violations, and a file for each round that had one has its
    history, which `python -m tests.chaos --judge FILE` judges again. Nothing is there while nothing is found."""

    folder: Path = FOLDER
    _round: str = ""
    _command: str = ""
    _is_named: bool = field(default=False, repr=False)

    @property
    def file(self) -> Path:
        return self.folder / "violations.txt"

    def begin(self, world: str, what: str, seed: int) -> None:
        """A round, as the command line names it."""
        self._round = f"{world}, {what}, seed {seed}"
        which = "--short" if world == "short" else f"--world {world}"
        self._command = f"python -m tests.chaos {which} --only '{what}' --first-seed {seed} --seeds 1"
        self._is_named = False

    def add(self, found: list[Violation], violations: Iterable[Violation]) -> None:
        """One after the other: whatever ends us, what was found before is kept."""
        for violation in violations:
            found.append(violation)
            self._write(violation)

    def keep(self, history: History) -> Path:
        file = self.folder / f"{re.sub(r'[^a-z0-9]+', '-', self._round.lower())}.history"
        self.folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(pickle.dumps(history))
        return file

    def _write(self, violation: Violation) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as file:
            if not self._is_named:
                file.write(f"\n{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {self._round}\nAgain: {self._command}\n")
                self._is_named = True
            file.write(f"{violation}\n")
            file.flush()
            os.fsync(file.fileno())


def kept(file: Path) -> History:
    """The history of a round of ours: who opens another's runs what it says."""
    history: History = pickle.loads(file.read_bytes())
    return history
