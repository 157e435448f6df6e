"""Become the process that a server needs, then the server: as whom it runs, where, and whose death ends it.

Run as a program of its own, since the interpreter between fork and exec of a process with threads is no
place for any of this: `python launch.py PARENT SIGNAL IDENTITY FOLDER PROGRAM ARGUMENT...`
"""

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
INNER_ID = 1000
PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 1, 28, 47
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


def become(identity: str) -> None:
    """Ourselves (""), root that does not look it ("namespace"), or another user ("UID:GID", "UID:GID:files")."""
    if identity == "namespace":
        _enter_user_namespace()
    elif identity:
        uid, gid, *powers = identity.split(":")
        if powers:
            _libc("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)  # setuid and access(2) then respect them
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
        if powers:
            _keep_power_over_files()


def _enter_user_namespace() -> None:
    """Inside, our own id reads as an ordinary one, and files of ours as that user's; outside nothing has changed."""
    uid, gid = os.geteuid(), os.getegid()
    _libc("unshare", CLONE_NEWUSER)
    for name, line in ("setgroups", "deny"), ("uid_map", f"{INNER_ID} {uid} 1"), ("gid_map", f"{INNER_ID} {gid} 1"):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123 - pathlib would double the start-up time
            file.write(line)


def _keep_power_over_files() -> None:
    """Drop every other capability of root's, and let the program inherit this one."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    effective_permitted_inheritable = (ctypes.c_uint32 * 6)(*[1 << CAP_DAC_OVERRIDE] * 3)
    _libc("capset", header, effective_permitted_inheritable)
    _libc("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def end_with(parent: int, signal: int) -> None:
    """Have the kernel send us `signal` when the parent's thread that started us ends (Linux only)."""
    if sys.platform == "linux":
        _libc("prctl", PR_SET_PDEATHSIG, signal, 0, 0, 0)  # after any change of identity, which clears it
    if os.getppid() != parent:  # it was faster
        sys.exit("the process that asked for this server has gone")


def _libc(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def main(parent: str, signal: str, identity: str, folder: str, *command: str) -> None:
    try:
        become(identity)
        os.chdir(folder)
        end_with(int(parent), int(signal))
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]} in {folder}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
