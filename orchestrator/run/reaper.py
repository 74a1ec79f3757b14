"""Ends the programs of a worker that dies, however it dies. A process of its own, with no import of ours.

The worker holds the other end of standard input, and writes `+GROUP` and `-GROUP` when a program, which leads a process
group, begins and ends. At the end of input the worker is dead: the groups that are left are killed, and on Linux also
each process of this user with the worker's mark in its environment, such as one that has left its group.
"""

import contextlib
import os
import signal
import sys

MARK = "RAYSWEEP_PROGRAM"
"""Environment variable of a program and its children: the worker's mark, a dot, the number of the program."""


def marked(mark: str) -> list[int]:
    """Processes of this user in whose environment `MARK` begins with this mark; none on other systems than Linux."""
    word, found = f"\0{MARK}={mark}.".encode(), []
    for name in os.listdir("/proc") if os.path.isdir("/proc/self") else ():
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError), open(f"/proc/{name}/environ", "rb") as file:
                if word in b"\0" + file.read():
                    found.append(int(name))
    return found


def end(groups: set[int], mark: str) -> None:
    """Kill the process groups and the marked processes."""
    for group in groups:
        with contextlib.suppress(OSError):
            os.killpg(group, signal.SIGKILL)
    while pids := marked(mark):  # a process may start another one meanwhile
        killed = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        if not killed:
            return


def main(mark: str) -> None:
    """Read groups until the worker is dead, and end those that are left."""
    if os.fork():  # a child of the worker would be ended with it by Ray
        os._exit(0)
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line[0] == "+" else groups.discard)(int(line[1:]))
    end(groups, mark)


if __name__ == "__main__":
    main(sys.argv[1])
