"""What a mutant is: one line of the code made wrong, in a way that takes a guarantee away."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Mutant:
    """`old` stands once in its file. `loses` says what is lost with `new` in its place.

    `seen_by` is the test that is run first, and should notice; `harmless` says why no test can.
    """

    old: str
    new: str
    loses: str
    seen_by: str = ""
    harmless: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A file under `src`, and the files under `tests` that should notice, the likely first."""

    path: str
    tests: tuple[str, ...]
    mutants: tuple[Mutant, ...]

    def text(self, root: Path = ROOT) -> str:
        return (root / "src" / self.path).read_text("utf-8")

    def files_with(self, test: str) -> list[str]:
        """Those that have a test of this name."""
        return [name for name in self.tests if f"def {test}(" in (ROOT / "tests" / name).read_text("utf-8")]
