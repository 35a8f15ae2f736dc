"""Runs a program as somebody who is not root: ``python -I -S unroot.py PROGRAM ARGS``. Standard library only.

PostgreSQL refuses to run as root. In a user namespace of its own it is user 1000, while its files stay root's outside:
no user has to be created, and no folder on the way to the data opened to others.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWUSER = 0x10000000
INSIDE_ID = 1000


def enter_user_namespace() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER) != 0:
        reason = os.strerror(ctypes.get_errno())
        sys.exit(f"root may not make a user namespace here ({reason}); run the sandbox as an ordinary user")
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE_ID} 0 1\n"),
        ("gid_map", f"{INSIDE_ID} 0 1\n"),
    ):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)


def main() -> None:
    enter_user_namespace()
    os.execv(sys.argv[1], sys.argv[1:])  # noqa: S606


if __name__ == "__main__":
    main()
