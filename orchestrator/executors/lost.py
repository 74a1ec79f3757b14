"""What a worker on this machine left behind when it died: its last stack, the output of its cell, a lack of memory."""

from __future__ import annotations

from raysweep.orchestrator.executors.memory import oom_kills
from raysweep.orchestrator.executors.worker import fault_path
from raysweep.orchestrator.run.messages import ChunkLost
from raysweep.orchestrator.run.output import left_output

NO_MEMORY = (
    "its machine ran out of memory; the cell is retried once with more. Request what it needs in [resources]: "
    "memory_gib = ..."
)
DIED = "its worker process died (killed, a crash in native code, or os._exit)"
FROZEN_S = 40.0
"""Seconds without a heartbeat after which a worker whose process is stopped counts as lost."""


class Autopsy:
    """Finds out how workers of one launch died.

    Args:
        launch: id of the launch.
        here: whether all workers run on this machine, so that the kernel's count of processes that it killed for lack
            of memory is about them.
    """

    def __init__(self, launch: str, *, here: bool) -> None:
        self._launch, self._here = launch, here
        self._oom_kills = oom_kills()  # of which a lost worker is known

    def crashed(self, number: int, message: str = DIED) -> ChunkLost:
        """Return the event of a worker's death, with the worker's last stack if it ran on this machine.

        Args:
            number: the chunk that the worker ran.
            message: what is known otherwise of its death.
        """
        path = fault_path(self._launch, number)
        if not path.is_file():
            return ChunkLost(number, "crashed", message)
        text = path.read_text(encoding="utf-8", errors="replace").partition("\nExtension modules: ")[0]
        first, _, stack = text.partition("\n")
        path.unlink(missing_ok=True)
        printed = left_output(path)
        position = int(first) if first.isdigit() else None
        if not stack and self._here and oom_kills() > self._oom_kills:
            self._oom_kills += 1
            return ChunkLost(number, "out_of_memory", NO_MEMORY, position)
        if not stack and position is None:
            return ChunkLost(number, "crashed", message, traceback=first or None, printed=printed)
        if stack.startswith("Timeout"):
            message = "did not react to its timeout; its worker was ended"
            return ChunkLost(number, "timed_out", message, position, stack, printed)
        return ChunkLost(number, "crashed", message, None, stack or None, printed)


def last_line(error: BaseException) -> str:
    """Return the last line of an error's text, at most 500 characters; its type's name if it has no text."""
    text = str(error).strip()
    return text.splitlines()[-1][:500] if text else type(error).__name__
