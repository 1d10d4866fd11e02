"""Become a server process: `python -I -S launch.py PARENT SIGNAL USER GROUP PROGRAM [ARGUMENT…]`.

This is a program of its own because Python code in `preexec_fn` can deadlock in a process with threads. It changes the
user itself because an unprivileged user may lack the permission to execute root's interpreter. A USER and GROUP of -1
keep the current ones.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, signal_number, user, group = map(int, sys.argv[1:5])
    if user >= 0:
        os.setgroups([])
        os.setgid(group)
        os.setuid(user)
    os.umask(0o077)
    if sys.platform == "linux":
        # The kernel then stops the server even if the platform is killed. A change of user clears this setting.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
        if os.getppid() != parent:
            sys.exit("the platform ended before its server started")
    os.execv(sys.argv[5], sys.argv[5:])  # noqa: S606


main()
