"""`python -m tests.mutants`: break SQL and Lua, a line at a time, in a copy of the checkout: does a test notice?"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import click
from tests.mutants import of_redis, of_the_database, of_the_views
from tests.mutants.part import ROOT, Mutant, Part

import embedded

PARTS = [
    part
    for module in (of_the_database, of_redis, of_the_views)
    for part in vars(module).values()
    if isinstance(part, Part)
]

# A mutant that Python, the database or Redis can't even read proves nothing.
NONSENSE = "nonsense"
_NONSENSE = re.compile(
    r"^E .*(errors\.(SyntaxError|Undefined\w+|Ambiguous\w+)|Error compiling script)|^E +(Syntax|Import)Error",
    re.MULTILINE,
)
_FIRST_FAILURE = re.compile(r"^(?:FAILED|ERROR) \S+::(\w+)", re.MULTILINE)
_HUNG = 150.0  # seconds
_NO_SUCH_TEST = 5


@click.command()
@click.option("--only", "wanted", default="", help="Only those with this in their file or in what they lose.")
@click.option("--list", "listing", is_flag=True, help="Say which there are, and stop.")
def main(wanted: str, listing: bool) -> None:
    """Break it, run its tests, mend it. Exit 1 when a mutant survives that does harm."""
    chosen = [(part, one) for part in PARTS for one in part.mutants if wanted in f"{part.path} {one.loses}"]
    if not chosen:
        raise click.ClickException(f"there are none with {wanted!r}")
    if stale := [f"{part.path}: {one.loses}" for part, one in chosen if part.text().count(one.old) != 1]:
        raise click.ClickException("the code has changed; say anew how to break it:\n" + "\n".join(stale))
    if unknown := {one.seen_by for part, one in chosen if one.seen_by and not part.files_with(one.seen_by)}:
        raise click.ClickException(f"there are no such tests: {', '.join(sorted(unknown))}")
    if listing:
        for part, one in chosen:
            click.echo(f"{part.path}: {one.loses}")
        return
    with ExitStack() as clean_up:
        folder = Path(clean_up.enter_context(tempfile.TemporaryDirectory(prefix="mutants-")))
        copy = shutil.copytree(
            ROOT, folder / "copy", ignore=shutil.ignore_patterns(".*", "var", "build", "__pycache__")
        )
        clean_up.enter_context(embedded.servers(folder / "home", durable=False))
        laboratory = Laboratory(copy, folder / "home")
        files = list(dict.fromkeys(name for part, _ in chosen for name in part.tests))
        if first := laboratory.first_failure(files):
            raise click.ClickException(f"without any mutant {first} fails")
        counted = Counter(laboratory.try_out(part, one) for part, one in chosen)
    click.echo(", ".join(f"{number} {verdict}" for verdict, number in sorted(counted.items())))
    if counted.keys() - {"killed", "harmless"}:
        sys.exit(1)


class Laboratory:
    def __init__(self, copy: Path, home: Path) -> None:
        self._copy = copy
        self._environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "TESTS_HOME": str(home)}
        self._moments = count(1)

    def try_out(self, part: Part, mutant: Mutant) -> str:
        """Killed, harmless, survived or nonsense; it is told at once."""
        file, text = self._copy / "src" / part.path, part.text(self._copy)
        begun = time.monotonic()
        self._write(file, text.replace(mutant.old, mutant.new))
        try:
            noticed = mutant.seen_by and self.first_failure(part.files_with(mutant.seen_by), "-k", mutant.seen_by)
            noticed = noticed or self.first_failure(part.tests)
        finally:
            self._write(file, text)
        if noticed:
            verdict = noticed if noticed == NONSENSE else "killed"
        else:
            verdict = "harmless" if mutant.harmless else "survived"
        why = mutant.harmless if verdict == "harmless" else noticed
        click.echo(f"{verdict:9} {time.monotonic() - begun:5.1f} s  {part.path}: {mutant.loses}  [{why or '-'}]")
        return verdict

    def _write(self, file: Path, text: str) -> None:
        """Each time as of another second: by that Python tells whether its bytecode is out of date."""
        file.write_text(text, "utf-8")
        os.utime(file, times=(next(self._moments),) * 2)

    def first_failure(self, tests: Sequence[str], *narrower: str) -> str:
        """The name of the first test that fails, or nothing."""
        options = ["-x", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--timeout=40", "--hypothesis-seed=0"]
        command = [sys.executable, "-m", "pytest", *options, *narrower, *(f"tests/{name}" for name in tests)]
        with subprocess.Popen(
            command, cwd=self._copy, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as pytest:
            try:
                said, _ = pytest.communicate(timeout=_HUNG * len(tests))
            except subprocess.TimeoutExpired:
                pytest.kill()
                return "it hangs"
        if pytest.returncode in {0, _NO_SUCH_TEST}:
            return ""
        found = _FIRST_FAILURE.search(said)
        if found and pytest.returncode == 1 and not _NONSENSE.search(said):
            return found[1]
        if "Timeout (>" in said:
            return "it hangs"
        click.echo(said[-3000:])
        return NONSENSE


if __name__ == "__main__":
    main()
