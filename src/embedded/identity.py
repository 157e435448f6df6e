"""As whom a server runs when we are root: PostgreSQL refuses to be, and no server may take a folder from its owner.

First choice for PostgreSQL: root in a user namespace of its own, where it sees itself as an ordinary user. Its files
stay root's, so there is nothing to hand over and no path to open. Where that is forbidden, as in most containers:
another user, the one named by EMBEDDED_POSTGRES_USER, `postgres` or `nobody`, who then owns the data. If that user
cannot reach the data or the programs, since a folder above is closed to others, as /root is, it keeps root's
power over files, and no other; for we never open other people's folders.
"""

import os
import pwd
from contextlib import suppress
from pathlib import Path

from embedded.errors import EmbeddedServersError
from embedded.process import Launcher


def identity_for(folder: Path, program: Path, *, refuses_root: bool) -> str:
    """For `launch.become`. Hands the folder over if it is root's and the server will be somebody else."""
    if os.geteuid() != 0:
        return ""
    uid, gid = folder.stat().st_uid, folder.stat().st_gid
    if uid == 0:
        if not refuses_root:
            return ""
        wanted = os.environ.get("EMBEDDED_POSTGRES_USER")
        if not wanted and can_run(program, folder, "namespace"):
            return "namespace"
        uid, gid = _ids(wanted) if wanted else _ids("postgres", "nobody")
    for identity in (f"{uid}:{gid}", f"{uid}:{gid}:files"):
        if can_run(program, folder.parent, identity):
            if folder.stat().st_uid != uid:
                _hand_over(folder, uid, gid)
            return identity
    raise EmbeddedServersError(
        f"{program.name} cannot run as root here, nor as user {uid}, who cannot reach {program} or {folder.parent}: "
        "set ALLOCATION_HOME to a folder that others may enter, or be an ordinary user"
    )


def can_run(program: Path, folder: Path, identity: str) -> bool:
    try:
        Launcher(folder, identity).run(program, "--version")
    except EmbeddedServersError:
        return False
    return True


def _ids(*names: str) -> tuple[int, int]:
    for name in names:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise EmbeddedServersError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(names)} to be instead"
    )


def _hand_over(folder: Path, uid: int, gid: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, uid, gid, follow_symlinks=False)
