"""A guard ends the processes that a worker's cells have started, once the worker is dead.

Ray ends a dead worker's direct children. A grandchild, or a child in a session of its own, would go on
computing. The guard is a shell that waits for the end of a pipe, which the system closes when the worker dies.
A cell may close the pipe, too. So after the pipe's end the guard checks every second whether the worker is
still alive.

After the worker's death the guard kills this user's processes that carry the worker's mark. A process started by
`exec` carries the mark in an environment variable. A process that was only forked carries it as the name of an open
file. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import tempfile
from functools import cache

VARIABLE = "RAYSWEEP_WORKER"
"""Variable in the environment of the processes that cells start; its value marks the worker."""
_SHELL = "/bin/sh"
_SCRIPT = r"""
cd /
exec 3<&0
(
    read -r end <&3
    while kill -0 "$2" 2>/dev/null; do sleep 1; done
    for try in 1 2 3 4 5 6 7 8 9 10; do
        marked=$(
            {
                grep -las -e "$1" /proc/[0-9]*/environ | cut -d / -f 3
                ls -l /proc/[0-9]*/fd 2>/dev/null |
                    awk -v mark="$1" '/^\/proc\//{split($0, part, "/")} index($0, mark){print part[3]}'
            } | sort -u
        )
        [ -n "$marked" ] || exit 0
        kill -9 $marked 2>/dev/null
    done
) &
"""
"""Shell script that starts the guard in the background.

The guard is not a child of the worker: a cell that waits for any of its children must not wait for the guard.
"""


@cache
def mark_of_worker() -> str | None:
    """Return the mark of this worker, and start its guard at the first call. None if no guard is possible here."""
    if sys.platform != "linux" or not os.access(_SHELL, os.X_OK):
        return None
    mark = f"raysweep-worker-{secrets.token_hex(8)}"
    end, kept = os.pipe()
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    try:
        shell = os.posix_spawn(
            _SHELL,
            [_SHELL, "-c", _SCRIPT, "raysweep-guard", mark, str(os.getpid())],
            {"PATH": os.environ.get("PATH", os.defpath)},
            file_actions=[(os.POSIX_SPAWN_DUP2, end, 0), *((os.POSIX_SPAWN_DUP2, null, n) for n in (1, 2))],
            setsid=True,
        )
        os.waitpid(shell, 0)
    except OSError:  # no process can be started
        os.close(kept)
        return None
    finally:
        os.close(end)
        os.close(null)
    # Forked children inherit this open file; executed ones inherit the variable instead.
    _mark_file(mark)
    os.register_at_fork(after_in_child=lambda: _close(kept))  # the pipe must end with this process
    return mark


def _mark_file(mark: str) -> None:
    descriptor, path = tempfile.mkstemp(prefix=mark)
    os.unlink(path)
    os.set_inheritable(descriptor, False)


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)
