"""The user that a server runs as when we are root: PostgreSQL refuses to run as root.

It is the one named by EMBEDDED_POSTGRES_USER, `postgres` or `nobody`, and owns the data, which stays in its home. If
that user cannot reach the home or the programs, since a folder above is closed to others as /root is, the server keeps
root's access to files: to open other people's folders, or to move the data where it may be cleared away, is worse.
"""

import os
import pwd
from contextlib import suppress
from pathlib import Path

from embedded.errors import EmbeddedServersError
from embedded.process import Launcher


def identity_for(folder: Path, program: Path, *, refuses_root: bool) -> str:
    """For `launch.change_user`; "" is our own. A folder of root's is given to the user, any other stays its owner's."""
    owner = folder.stat()
    if os.geteuid() != 0 or (owner.st_uid == 0 and not refuses_root):
        return ""
    uid, gid = (owner.st_uid, owner.st_gid) if owner.st_uid else _unprivileged_user()
    for identity in (f"{uid}:{gid}", f"{uid}:{gid}:files"):
        with suppress(EmbeddedServersError):
            Launcher(folder.parent, identity).run(program, "--version")
            for path in () if owner.st_uid else (*folder.rglob("*"), folder):
                os.chown(path, uid, gid, follow_symlinks=False)
            return identity
    raise EmbeddedServersError(
        f"{program.name} cannot run as root here, nor as user {uid}, who cannot reach {program} or {folder.parent}: "
        "set ALLOCATION_HOME to a folder that others may enter, or be an ordinary user"
    )


def _unprivileged_user() -> tuple[int, int]:
    wanted = os.environ.get("EMBEDDED_POSTGRES_USER")
    names = [wanted] if wanted else ["postgres", "nobody"]
    for name in names:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return user.pw_uid, user.pw_gid
    raise EmbeddedServersError(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(names)} to be instead"
    )
