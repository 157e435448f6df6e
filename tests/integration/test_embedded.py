"""The embedded servers keep their promises while everything around them is killed."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
import redis

from embedded import EmbeddedServersError, Servers, ensure_running, servers
from embedded.binaries import postgres_programs, redis_server
from embedded.connection_file import read_connection
from embedded.files import open_private, try_lock
from embedded.leftovers import processes_in
from embedded.postgres import Postgres
from embedded.valkey import Redis
from embedded.waiting import wait_for

SRC = Path(__file__).parents[2] / "src"
PROGRAMS = {"postgres", "initdb", "valkey-server", "redis-server", redis_server().name[:15]}
NEVER_LOOKS_UP = b"DO $$ BEGIN LOOP END LOOP; END $$"

USER = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from embedded import servers

with servers(Path(sys.argv[1]), durable="volatile" not in sys.argv) as them:
    print(json.dumps(asdict(them)), flush=True)
    sys.stdin.read()
"""

USER_WITHOUT_POWER_OVER_FILES = """
import ctypes, sys
from pathlib import Path
from embedded import EmbeddedServersError
from embedded.postgres import Postgres

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0) == 0
try:
    Postgres(Path(sys.argv[1]) / "server").start()
except EmbeddedServersError as error:
    print(error, flush=True)
"""


class User:
    """Another process, which uses the servers until it leaves or is killed."""

    def __init__(
        self,
        home: Path,
        *arguments: str,
        script: str = USER,
        python: str = sys.executable,
        uid: int | None = None,
        **env: str,
    ) -> None:
        self.process = subprocess.Popen(
            [python, "-c", script, str(home), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | env,
            cwd="/",
            user=uid,
            extra_groups=None if uid is None else [],
        )

    def hear(self) -> str:
        assert self.process.stdout
        assert self.process.stderr
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read()
        return line

    def servers(self) -> Servers:
        return Servers(**json.loads(self.hear()))

    def leave(self) -> None:
        self.process.communicate()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def ask(url: str, question: str) -> object:
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        row = connection.execute(question.encode()).fetchone()
        return row[0] if row else None


def remember(them: Servers, word: str) -> None:
    with psycopg.connect(them.database_url) as connection, redis.Redis.from_url(them.redis_url) as client:
        connection.execute("CREATE TABLE IF NOT EXISTS remembered (word text)")
        connection.execute("INSERT INTO remembered VALUES (%s)", [word])
        client.set(word, word)


def remembered(them: Servers, word: str) -> bool:
    """By both of them; either may be on its way back."""
    try:
        with psycopg.connect(them.database_url) as connection, redis.Redis.from_url(them.redis_url) as client:
            rows = connection.execute("SELECT word FROM remembered WHERE word = %s", [word]).fetchall()
            return rows == [(word,)] and client.get(word) == word.encode()
    except (psycopg.OperationalError, redis.ConnectionError):
        return False


def eventually(condition: Callable[[], bool]) -> bool:
    return wait_for(condition, within=10, every=0.03)


def pids(home: Path) -> dict[str, int]:
    connection = wait_for(lambda: read_connection(home), within=10)
    assert connection, f"no servers are up in {home}"
    return connection.pids


def is_quiet(home: Path) -> bool:
    """No server is left, and no supervisor."""
    with open_private(home / "supervisor.lock", "a") as lock:
        return try_lock(lock) and not processes_in(home, PROGRAMS)


@pytest.fixture(scope="module")
def used_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home").resolve()


@pytest.fixture
def home(used_home: Path) -> Iterator[Path]:
    """One for all, since to make a database takes a second; but no test may leave anything running there."""
    yield used_home
    assert eventually(lambda: is_quiet(used_home)), f"left running: {processes_in(used_home, PROGRAMS)}"


# --- start to end -----------------------------------------------------------------------------------------------------


def test_durable_servers_start_and_stop_without_leaving_a_process(home: Path) -> None:
    with servers(home) as them, redis.Redis.from_url(them.redis_url) as client:
        assert str(ask(them.database_url, "SELECT version()")).startswith(them.postgres)
        assert them.redis.startswith(("Valkey ", "Redis "))
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert ask(them.database_url, f"SHOW {setting}") == "on"
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
        assert processes_in(home, PROGRAMS)
    assert eventually(lambda: is_quiet(home))
    assert not (home / "servers.json").exists()


def test_data_and_urls_survive_a_restart_even_one_that_is_asked_for_while_they_stop(home: Path) -> None:
    with servers(home) as them:
        remember(them, "restart")
        stopping = pids(home)
    assert wait_for(lambda: not (home / "servers.json").exists(), within=5, every=0.001)
    with servers(home) as again:
        assert pids(home)["supervisor"] != stopping["supervisor"]
        assert again == them
        assert remembered(again, "restart")


def test_a_home_may_have_a_long_name_with_spaces_in_any_language(tmp_path: Path) -> None:
    home = tmp_path / "Lager für Möbel" / '倉庫 \'n "quotes" $HOME %s' / ("long " * 40) / ("longer" * 30)
    with servers(home, durable=False) as them:
        remember(them, "在庫")
        assert remembered(them, "在庫")
        assert ask(them.database_url, "SHOW fsync") == "off"
        with pytest.raises(EmbeddedServersError, match="lose data"), servers(home, durable=True):
            pass
    assert eventually(lambda: is_quiet(home))


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_users_that_come_at_once_share_one_supervisor_until_the_last_has_left_or_was_killed(home: Path) -> None:
    *leaving, last = [User(home) for _ in range(5)]
    try:
        them = last.servers()
        assert {user.servers() for user in leaving} == {them}
        before = pids(home)
        assert processes_in(home, PROGRAMS - {"postgres"}) == {before["redis"]}
    finally:
        for user in leaving:
            user.leave()
    remember(them, "shared")
    assert not wait_for(lambda: pids(home) != before, within=0.5, every=0.05)
    assert remembered(them, "shared")
    last.kill()
    assert eventually(lambda: is_quiet(home))


def test_a_user_killed_before_they_are_up_has_left_too(home: Path) -> None:
    user = User(home)
    assert wait_for(lambda: not is_quiet(home), within=5, every=0.001), "nobody started anything"
    user.kill()
    assert eventually(lambda: is_quiet(home))


# --- under fire -------------------------------------------------------------------------------------------------------


def test_a_killed_server_comes_back_at_the_same_url(home: Path) -> None:
    with servers(home) as them, closing(psycopg.connect(them.database_url)) as busy:
        remember(them, "killed")
        busy.pgconn.send_query(NEVER_LOOKS_UP)  # a backend that outlives its postmaster, and gets in the way
        for name in ("redis", "postgres"):
            killed = pids(home)[name]
            os.kill(killed, signal.SIGKILL)
            assert eventually(lambda: pids(home)[name] != killed)  # noqa: B023
            assert remembered(them, "killed")
        assert ensure_running(home) == them


def test_a_killed_supervisor_takes_the_servers_along_and_all_come_back(home: Path) -> None:
    with servers(home) as them:
        remember(them, "supervisor killed")
        os.kill(pids(home)["supervisor"], signal.SIGKILL)
        assert eventually(lambda: is_quiet(home))
        assert read_connection(home) is None
        assert ensure_running(home) == them
        assert remembered(them, "supervisor killed")


def test_all_come_back_when_all_are_killed_at_once(home: Path) -> None:
    with servers(home) as them, closing(psycopg.connect(them.database_url)) as busy:
        remember(them, "all killed")
        busy.pgconn.send_query(NEVER_LOOKS_UP)
        for pid in pids(home).values():
            os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: read_connection(home) is None)
        assert ensure_running(home) == them
        assert remembered(them, "all killed")


@pytest.mark.parametrize("said", [None, "", "[]", '{"servers": {}}'])
def test_a_connection_file_that_somebody_has_changed_is_written_anew(home: Path, said: str | None) -> None:
    file = home / "servers.json"
    with servers(home) as them:
        before = pids(home)
        file.unlink() if said is None else file.write_text(said)

        assert ensure_running(home) == them
        assert pids(home) == before


@pytest.mark.parametrize("put", [Path.mkdir, lambda file: file.symlink_to(file.name)], ids=["a folder", "a link"])
def test_what_is_no_file_in_place_of_the_connection_file_ends_no_server(
    home: Path, put: Callable[[Path], object]
) -> None:
    file = home / "servers.json"
    with servers(home) as them:
        before = pids(home)
        file.unlink()
        put(file)
        log = home / "log" / "supervisor.log"
        assert eventually(lambda: "not all servers are up" in log.read_text() or file.is_file())
        if file.is_dir():
            file.rmdir()

        assert ensure_running(home) == them
        assert pids(home) == before


def test_ctrl_c_is_for_the_users(home: Path) -> None:
    with servers(home) as them:
        before = pids(home)
        assert os.getsid(0) not in {os.getsid(pid) for pid in before.values()}
        os.kill(before["supervisor"], signal.SIGINT)
        remember(them, "interrupted")
        assert pids(home) == before


def test_servers_whose_home_is_taken_away_stop(home: Path) -> None:
    with servers(home):
        moved = home.rename(home.with_name("moved"))
        try:
            assert eventually(lambda: is_quiet(moved))
        finally:
            moved.rename(home)


# --- keeping others out -----------------------------------------------------------------------------------------------


def test_nobody_gets_in_without_the_password_which_only_the_owner_can_read(home: Path) -> None:
    with servers(home) as them:
        passwords = [url.split("@")[0].rsplit(":", 1)[1].encode() for url in (them.database_url, them.redis_url)]
        files = [path for path in home.rglob("*") if path.is_file()]
        telling = [path for path in files if any(password in path.read_bytes() for password in passwords)]
        assert {path.name for path in telling} == {"servers.json", "password"}
        assert not [path for path in telling if path.stat().st_mode & 0o077]
        command_lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout
        assert not [password for password in passwords if password in command_lines]
        for wrong in (":wrong@", "@"):
            with pytest.raises(psycopg.OperationalError, match="password"):
                psycopg.connect(_with_password(them.database_url, wrong))
        with (
            redis.Redis.from_url(_with_password(them.redis_url, "@")) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()


def _with_password(url: str, password: str) -> str:
    start, rest = url.split("://")
    user, host = rest.split(":")[0], rest.split("@")[1]
    return f"{start}://{user}{password}{host}"


# --- one server -------------------------------------------------------------------------------------------------------


def test_another_port_is_taken_only_between_lives(tmp_path: Path) -> None:
    server = Redis(tmp_path / "server", durable=False)
    server.start()
    url = server.url
    server.stop()
    with socket.create_server(("127.0.0.1", int(url.split(":")[-1].split("/")[0]))):
        with pytest.raises(EmbeddedServersError, match="did not start"):
            server.start()
        later = Redis(tmp_path / "server", durable=False)
        later.start()
        later.stop()
    assert later.url != url


def test_a_redis_whose_data_is_damaged_says_so(tmp_path: Path) -> None:
    server = Redis(tmp_path / "server", durable=True)
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for number in range(100):
            client.set(f"key {number}", "value")
    server.stop()
    [appended] = (tmp_path / "server").rglob("*.incr.aof")
    appended.write_bytes(appended.read_bytes()[:1_000] + b"?" * 100 + appended.read_bytes()[1_100:])

    with pytest.raises(EmbeddedServersError, match="Bad file format reading the append only file"):
        server.start()


def test_a_killed_postgres_starts_again_though_its_pid_is_in_use_by_somebody_else(home: Path) -> None:
    server = Postgres(home / "postgres")
    server.start()
    url, pid = server.url, server.pid
    server.kill()
    assert not server.alive
    pid_file = home / "postgres/data/postmaster.pid"
    with subprocess.Popen(["sleep", "60"]) as somebody_else:
        pid_file.write_text(pid_file.read_text().replace(str(pid), str(somebody_else.pid), 1))
        server.start()
        assert server.alive
        assert (server.url, server.pid != pid) == (url, True)
        server.stop()
        assert somebody_else.poll() is None
        somebody_else.kill()
    assert not processes_in(home, PROGRAMS)


@pytest.mark.parametrize("left", ["", "\0" * 200, "not a number\n"])
def test_a_killed_postgres_starts_again_though_its_pid_was_not_written_to_the_end(home: Path, left: str) -> None:
    server = Postgres(home / "postgres")
    server.start()
    server.kill()
    (home / "postgres/data/postmaster.pid").write_text(left)

    server.start()

    assert server.alive
    server.stop()


@pytest.mark.parametrize("broken", ["postgres", "initdb", "redis"])
def test_a_broken_program_is_named_with_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, good in {
        "postgres": postgres_programs() / "postgres",
        "initdb": postgres_programs() / "initdb",
        "redis": redis_server(),
    }.items():
        if name == broken:
            (programs / name).write_text("#!/bin/sh\necho 'error: no space left in the warehouse'\nexit 1\n")
            (programs / name).chmod(0o755)
        else:
            (programs / name).symlink_to(good)
    monkeypatch.setenv("EMBEDDED_POSTGRES_BIN", str(programs))
    monkeypatch.setenv("EMBEDDED_REDIS_SERVER", str(programs / "redis"))
    with (
        pytest.raises(EmbeddedServersError, match=rf"{programs / broken} .*no space left in the warehouse"),
        servers(tmp_path / "home", durable=False),
    ):
        pass
    assert eventually(lambda: is_quiet(tmp_path / "home"))


# --- as whom ----------------------------------------------------------------------------------------------------------

if os.geteuid() == 0:  # all of the above has run as an ordinary user, if we are one; what follows takes root
    NOBODY = pwd.getpwnam("nobody").pw_uid

    @pytest.fixture
    def open_folder() -> Iterator[Path]:
        """That others may enter, unlike pytest's."""
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name).resolve()
            folder.chmod(0o755)
            yield folder
            assert eventually(lambda: not processes_in(folder, PROGRAMS))

    def user_of(pid: int) -> int:
        return Path(f"/proc/{pid}").stat().st_uid

    def test_postgres_runs_as_another_user_if_we_are_root(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("EMBEDDED_POSTGRES_USER", "nobody")
        server = Postgres(open_folder / "server", durable=False)
        server.start()
        assert user_of(server.pid) == NOBODY
        assert ask(server.url, "SELECT 1") == 1
        server.kill()
        monkeypatch.delenv("EMBEDDED_POSTGRES_USER")
        server.start()
        assert user_of(server.pid) == NOBODY, "the data belongs to that user, so the server must too"
        server.stop()
        assert open_folder.stat().st_uid == 0
        assert open_folder.stat().st_mode & 0o777 == 0o755

    def test_the_other_user_reaches_what_is_below_a_closed_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tmp_path.chmod(0o700)
        package = postgres_programs().parent.parent
        for part in (package, package.with_name(package.name + ".libs")):
            if part.exists():
                (tmp_path / part.name).symlink_to(part)
        monkeypatch.setenv("EMBEDDED_POSTGRES_BIN", str(tmp_path / postgres_programs().relative_to(package.parent)))
        monkeypatch.setenv("EMBEDDED_POSTGRES_USER", "nobody")
        server = Postgres(tmp_path / "server", durable=False)
        server.start()
        assert user_of(server.pid) == NOBODY
        assert ask(server.url, "SELECT 1") == 1
        server.stop()
        assert (tmp_path.stat().st_uid, tmp_path.stat().st_mode & 0o777) == (0, 0o700)

    def test_root_does_not_take_a_folder_from_its_owner(open_folder: Path) -> None:
        folder = open_folder / "server"
        folder.mkdir()
        os.chown(folder, NOBODY, -1)
        server = Redis(folder)
        server.start()
        assert user_of(server.pid) == NOBODY
        server.stop()

    def test_the_other_user_is_refused_with_advice_if_even_root_has_no_power_over_files(tmp_path: Path) -> None:
        tmp_path.chmod(0o700)
        user = User(tmp_path, script=USER_WITHOUT_POWER_OVER_FILES, EMBEDDED_POSTGRES_USER="nobody")
        assert re.search(r"cannot reach .*: set ALLOCATION_HOME to a folder that others may enter", user.hear())
        user.leave()

    def python_for_nobody() -> str | None:
        """One that nobody can run, if nobody can reach the servers' programs too."""
        reachable = "import os, sys; sys.exit(sys.version_info < (3, 11) or not all(map(os.path.exists, sys.argv[1:])))"
        needed = [str(SRC), str(postgres_programs() / "postgres"), str(redis_server())]
        for python in (sys.executable, "/usr/local/bin/python3", "/usr/bin/python3"):
            with suppress(OSError):
                command = [python, "-c", reachable, *needed]
                if subprocess.run(command, check=False, user=NOBODY, extra_groups=[], cwd="/").returncode == 0:
                    return python
        return None

    if PYTHON_FOR_NOBODY := python_for_nobody():

        def test_an_ordinary_user_needs_nothing_but_python(open_folder: Path) -> None:
            home = open_folder / "home"
            home.mkdir()
            os.chown(home, NOBODY, -1)
            user = User(
                home,
                "volatile",
                python=str(PYTHON_FOR_NOBODY),
                uid=NOBODY,
                PYTHONPATH=str(SRC),
                EMBEDDED_POSTGRES_BIN=str(postgres_programs()),
                EMBEDDED_REDIS_SERVER=str(redis_server()),
            )
            them = user.servers()
            assert {user_of(pid) for pid in pids(home).values()} == {NOBODY}
            remember(them, "ordinary")
            assert remembered(them, "ordinary")
            user.kill()
            assert eventually(lambda: is_quiet(home))
