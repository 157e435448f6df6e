"""What is installed from a wheel works without the source tree, and a source archive holds all that a checkout does."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest
from sqlalchemy import create_engine

from allocation.database.schema import REVISION, require_current_schema

ROOT = Path(__file__).parents[2]
NOT_OURS = (".*", "var", "build", "dist", "*.egg-info", "__pycache__")
NOT_SHIPPED = {".gitignore", ".ci/run"}


@dataclass(frozen=True)
class Installed:
    """The wheel in an environment of its own, outside the source tree, beside the dependencies of this one."""

    sdist: Path
    wheel: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *command: str, **variables: str) -> str:
        """What the command prints, run from a folder that knows nothing of us."""
        clean = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        done = subprocess.run(
            [self.folder / "bin" / command[0], *command[1:]],
            cwd=self.folder,
            env=clean | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built as anybody would: an archive of the sources, and a wheel from that archive alone."""
    place = tmp_path_factory.mktemp("package")
    sources = place / "sources"
    copytree(ROOT, sources, ignore=ignore_patterns(*NOT_OURS))
    for name in (".importlinter", ".dockerignore"):
        (sources / name).write_bytes((ROOT / name).read_bytes())
    run_here("build", "--no-isolation", "--outdir", str(place / "dist"), str(sources))
    [sdist], [wheel] = (place / "dist").glob("*.tar.gz"), (place / "dist").glob("*.whl")
    folder = place / "elsewhere"
    venv.create(folder, with_pip=False, symlinks=True)
    one = Installed(sdist, wheel, folder)
    python = ["--disable-pip-version-check", "--python", str(one.python)]
    run_here("pip", *python, "install", "--quiet", "--no-index", "--no-deps", str(wheel))
    [site_packages] = folder.glob("lib/python*/site-packages")
    dependencies = sysconfig.get_path("purelib")  # as a path only: the .pth of our own editable install is not read
    (site_packages / "dependencies.pth").write_text(dependencies)
    return one


def run_here(module: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr


def files_of(folder: str) -> set[str]:
    there = {path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()}
    return {str(path) for path in there if not any(part.endswith((".egg-info", "__pycache__")) for part in path.parts)}


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == {name.removeprefix("src/") for name in files_of("src")}


def test_the_archive_of_the_sources_holds_all_that_a_checkout_does(installed: Installed) -> None:
    with tarfile.open(installed.sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split(
        "\n"
    )
    folders = set().union(*(files_of(folder) for folder in ("src", "tests", "docs", "examples", "benchmarks")))

    assert {name for name in listed if name and (ROOT / name).exists()} - held <= NOT_SHIPPED
    assert folders <= held


def test_what_is_installed_says_who_it_is(installed: Installed) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

    assert installed.run("allocation", "--version") == f"allocation, version {project['version']}\n"
    assert "Promise stock to order lines" in installed.run("allocation", "--help")
    told = (
        "from importlib.metadata import metadata\n"
        "told = metadata('allocation')\n"
        "print(told['Requires-Python'], told['License-Expression'])"
    )
    assert installed.run("python", "-c", told) == f"{project['requires-python']} MIT\n"


def test_what_is_installed_imports_whole_and_from_its_own_place(installed: Installed) -> None:
    program = """
import importlib, pkgutil, allocation, embedded, messaging
for package in (allocation, embedded, messaging):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        runs_when_imported = "allocation.database.migrations.", "allocation.__main__"
        if not module.name.startswith(runs_when_imported):
            importlib.import_module(module.name)
    print(package.__file__)
"""

    places = installed.run("python", "-c", program).split()

    assert len(places) == 3
    assert all(place.startswith(str(installed.folder)) for place in places), places


def test_what_is_installed_migrates_a_database(installed: Installed, unmigrated_url: str) -> None:
    said = installed.run("allocation", "migrate", DATABASE_URL=unmigrated_url, REDIS_URL="redis://127.0.0.1:1/0")

    assert said == f"The schema is at revision {REVISION}.\n"
    engine = create_engine(unmigrated_url)
    require_current_schema(engine)
    engine.dispose()


def test_what_is_installed_has_the_published_schemas(installed: Installed) -> None:
    assert '"allocation.allocated.v1"' in installed.run("allocation", "catalogue", "--format", "schemas")


def test_what_is_installed_brings_its_types(installed: Installed, tmp_path: Path) -> None:
    consumer = tmp_path / "consumer.py"
    consumer.write_text(
        "import embedded\n"
        "from allocation.domain.allocating import allocate\n"
        "from allocation.domain.lines import OrderLine\n"
        "from allocation.domain.product import Product\n"
        "from messaging.envelope import Metadata\n"
        "servers: type[embedded.Servers] = embedded.Servers\n"
        "batch: str | None = allocate(Product('LAMP'), OrderLine('o1', 'LAMP', 1))\n"
        "when: str = Metadata.first('test').time  # type: ignore[assignment]\n"
        "OrderLine('o1', 'LAMP', 'one')  # type: ignore[arg-type]\n"
    )
    options = ["--strict", "--config-file=", f"--python-executable={installed.python}", f"--cache-dir={tmp_path}"]

    run_here("mypy", *options, str(consumer))
