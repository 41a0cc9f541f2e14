"""Become another program that dies with its parent: ``child.py PARENT SIGNAL IDENTITY NICENESS COMMAND...``.

Run by ``process.spawn`` as a script of its own instead of a ``preexec_fn``, which is not safe in a process
with threads. It costs about 15 ms and keeps its process id through the final ``exec``.

The order matters: the kernel forgets the parent-death signal at each change of credentials, so it is set
last, and then the parent is looked at again, because it may have died before.
"""

import contextlib
import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
NOBODY = 65534


def enter_user_namespace(uid: int) -> None:
    """Continue as ``uid`` in a new user namespace, where it stands for the user who called.

    Files keep their owner, so this works below a home directory of mode 0700.

    Raises:
        OSError: the kernel or a policy forbids user namespaces.
    """
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER) was refused")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outer_gid} 1")


def drop_to_nobody() -> None:
    """Continue as the system's ``nobody``; initdb needs a user with an entry in passwd."""
    entry = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)


def die_with_parent(parent: int, death_signal: int) -> None:
    """Ask the kernel for ``death_signal`` when the parent ends; elsewhere than on Linux do nothing."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) was refused")
    if os.getppid() != parent:
        sys.exit("the parent ended before its child began")


def yield_to_others(niceness: int) -> None:
    """Take the processor only as far as others leave it: by process, and by session where Linux groups those."""
    if niceness:
        os.nice(niceness)
        with contextlib.suppress(OSError):
            Path("/proc/self/autogroup").write_text(str(niceness))


def main(arguments: list[str]) -> None:
    """Change identity, bind the life to the parent's, become the command."""
    parent, death_signal, identity, niceness, *command = arguments
    os.umask(0o077)
    if identity == "namespace":
        enter_user_namespace(NOBODY)
    elif identity == "nobody":
        drop_to_nobody()
    for name in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(name, signal.SIG_DFL)  # a shell's `&` ignores SIGINT, Python ignores SIGPIPE
    yield_to_others(int(niceness))
    die_with_parent(int(parent), int(death_signal))
    os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1:])
