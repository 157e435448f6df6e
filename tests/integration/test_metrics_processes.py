"""Several processes count in one folder, whichever of them is asked, ends or is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from allocation.observability.metrics_folder import FOLDER

# What several processes count in one folder; the last one is killed, and then the numbers are asked for.
_PROCESSES = """
import os, signal, sys
from allocation.observability.metrics import metrics, of_all_processes
from prometheus_client import CollectorRegistry, generate_latest

for number in range(3):
    if not os.fork():
        own = metrics()
        own.answered("POST", "/allocate", 202, 0.004, 0.0)
        own.shed()
        own._connections.inc(number + 1)
        os.kill(os.getpid(), signal.SIGKILL if number == 2 else signal.SIGSTOP)
living = []
for _ in range(3):
    pid, status = os.waitpid(-1, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        living.append(pid)
registry = CollectorRegistry()
registry.register(of_all_processes(metrics()))
print(generate_latest(registry).decode())
for pid in living:
    os.kill(pid, signal.SIGKILL)
"""


def test_what_several_processes_count_is_added_up_and_what_a_dead_one_had_in_use_is_not(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-c", _PROCESSES], env={FOLDER: str(tmp_path)}, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    name = "allocation_http_request_duration_seconds"
    assert f'{name}_count{{method="POST",route="/allocate",status="202"}} 3.0' in said
    assert "allocation_http_shed_total 3.0" in said
    assert "allocation_db_connections_in_use 3.0" in said, "1 and 2; not the 3 of the one that was killed"
    assert f"# HELP {name} Time to answer a request, from when a thread took it." in said


def test_a_worker_that_ends_leaves_the_folder_to_the_others() -> None:
    program = """
import os, sys
from allocation.observability.metrics_folder import metrics_folder
with metrics_folder({}) as folder:
    if not (pid := os.fork()):
        sys.exit()
    os.waitpid(pid, 0)
    print(folder.is_dir())
print(folder.is_dir())
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout

    assert said.split() == ["True", "False"]
