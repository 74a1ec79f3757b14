"""Several commands of `raysweep` in one process, since importing costs seconds.

    python -m tests.orchestrator.store.commands < COMMANDS

`COMMANDS` is a JSON list of lists of words. Prints a JSON list of answers, and the process's peak memory in KiB.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from raysweep.orchestrator.cli import app
from tests.conftest import environment

MAX_OUTPUT = 2000
MAX_MEMORY = 8 << 30  # bytes of address space


class Answer(NamedTuple):
    """Exit code, what was printed (the first `MAX_OUTPUT` characters), and how long it was.

    The code of a command that ended in an exception is None.
    """

    code: int | None
    output: str
    length: int


def run_command(*words: str) -> Answer:
    """Run one command in this process."""
    code: int | None = 0
    output, arguments = io.StringIO(), sys.argv
    sys.argv = ["raysweep", *words]
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                app.main()
            except SystemExit as end:
                code = end.code if isinstance(end.code, int) else None
            except BaseException:
                code = None
                traceback.print_exc()
    finally:
        sys.argv = arguments
    return Answer(code, output.getvalue()[:MAX_OUTPUT], len(output.getvalue()))


def run_commands(folder: Path, commands: Sequence[Sequence[str]]) -> tuple[list[Answer], int]:
    """Run commands in a new process in this folder; their answers, and the peak of its memory in KiB."""
    ended = subprocess.run(
        [sys.executable, "-m", "tests.orchestrator.store.commands"], input=json.dumps(commands),
        cwd=folder, env=environment(), capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, (ended.returncode, ended.stderr[-3000:])
    answers, peak_kib = json.loads(ended.stdout.splitlines()[-1])
    return [Answer(*answer) for answer in answers], peak_kib


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    answers = []
    for words in json.load(sys.stdin):
        print(words, file=sys.stderr)  # the last one is what a process died of
        answers.append(run_command(*words))
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps([answers, int(peak[1]) if peak else 0]))


if __name__ == "__main__":
    main()
