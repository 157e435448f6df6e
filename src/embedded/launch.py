"""What a child process does before it becomes its program: change user and folder, and tie its life to its parent's.

A program of its own, `python launch.py PARENT SIGNAL USER FOLDER PROGRAM ARGUMENT...`, because `preexec_fn` is not
safe in a process with threads, and `Popen(user=)` cannot keep a capability.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG, PR_SET_SECUREBITS, PR_CAP_AMBIENT = 1, 28, 47
SECBIT_NO_SETUID_FIXUP = 4
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


def change_user(user: str) -> None:
    """To "UID:GID"; with "UID:GID:files" it keeps root's access to all files, and no other capability."""
    uid, gid, *capability = user.split(":")
    if capability:
        _libc("prctl", PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0)  # capabilities survive setuid
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    if capability:
        header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
        effective_permitted_inheritable = (ctypes.c_uint32 * 6)(*[1 << CAP_DAC_OVERRIDE] * 3)
        _libc("capset", header, effective_permitted_inheritable)
        _libc("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def end_with(parent: int, signal: int) -> None:
    """Have the kernel send us `signal` when the parent's thread that started us ends (Linux only)."""
    if sys.platform == "linux":
        _libc("prctl", PR_SET_PDEATHSIG, signal, 0, 0, 0)  # after a change of user, which clears it
    if os.getppid() != parent:
        sys.exit("the parent process has ended")


def _libc(function: str, *arguments: object) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), f"{function}: {os.strerror(ctypes.get_errno())}")


def main(parent: str, signal: str, user: str, folder: str, *command: str) -> None:
    try:
        if user:
            change_user(user)
        os.chdir(folder)
        end_with(int(parent), int(signal))
        os.execv(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        sys.exit(f"cannot run {command[0]} in {folder}: {error}")


if __name__ == "__main__":
    main(*sys.argv[1:])
