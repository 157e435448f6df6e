"""A real shell completes our commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from allocation.entrypoints.cli import main


def test_bash_completes_with_the_script_that_we_print(tmp_path: Path) -> None:
    typed = tmp_path / "allocation"
    us = "from allocation.entrypoints.cli import main; main(prog_name='allocation')"
    typed.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{us}" "$@"\n')
    typed.chmod(0o755)
    script = tmp_path / "script"
    script.write_text(CliRunner().invoke(main, ["completion", "bash"]).stdout)
    lines = f"""
        source {script}
        complete -p allocation >/dev/null || echo "nothing is set up"
        COMP_WORDS=(allocation watch --si); COMP_CWORD=2
        _allocation_completion allocation
        echo "${{COMPREPLY[@]}}"
    """
    env = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    said = subprocess.run(["bash", "-c", lines], env=env, capture_output=True, text=True, check=True).stdout

    assert said == "--since\n"
