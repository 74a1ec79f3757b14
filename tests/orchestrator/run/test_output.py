"""Everything that a cell, native code and its children print is recorded, and nothing of it reaches the terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from raysweep import Store, launch
from raysweep.orchestrator.run import output
from raysweep.orchestrator.run.output import HEAD, TAIL, OutputFile, clean
from tests.orchestrator.sweeps import sweep_of

PRINTS = """
    import ctypes, os, subprocess, sys

    def run(cell, context):
        print("from Python")
        os.write(1, b"from a descriptor\\n")
        libc = ctypes.CDLL(None)
        libc.puts(b"from native code")
        libc.fflush(None)
        subprocess.run(["sh", "-c", "echo from a child; echo and its errors >&2"], check=True)
        print("at the end", file=sys.stderr)
        if cell.seed == 1:
            os.close(1)
            raise ValueError("no more output")
        return {}
"""
LINES = "from Python\nfrom a descriptor\nfrom native code\nfrom a child\nand its errors\nat the end\n"


def test_output_of_native_code_and_children_is_recorded(write, capfd: pytest.CaptureFixture[str]) -> None:
    write("prints.py", PRINTS)
    launch(sweep_of("prints:run", "[resources]\nretries=0", seeds='"0..2"'), inline=True)
    logs = Store().attempts.select("seed", "status", "log_tail").sort("seed").collect().rows()
    assert logs == [(0, "done", LINES), (1, "failed", LINES), (2, "done", LINES)]
    assert capfd.readouterr() == ("", "")
    print("the terminal again")
    assert capfd.readouterr().out == "the terminal again\n"


LATE = """
    import os, time

    def run(cell, context):
        if cell.seed == 0:
            os.system("(echo early; sleep 0.5; echo late) &")
        time.sleep(0.2 + 0.6 * cell.seed)
        return {}
"""


def test_a_child_that_outlives_its_cell_does_not_write_into_the_next_cells_output(write) -> None:
    write("late.py", LATE)
    launch(sweep_of("late:run", seeds='"0..1"'), inline=True)
    assert Store().attempts.sort("seed").collect()["log_tail"].to_list() == ["early\n", None]


def test_a_long_output_keeps_its_head_and_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_SPARE", 2**20)
    file = OutputFile(tmp_path / "output")
    with file.captured():
        print("begins")
        for _ in range(3):
            print("x" * 2**20)
            file.flush()
            file.free_middle()
        print("ends")
    printed = file.printed()
    size = len("begins\nends\n") + 3 * (2**20 + 1)
    assert (printed.size, printed.left_out) == (size, size - HEAD - TAIL)
    assert printed.text.startswith("begins\nxxx")
    assert printed.text.endswith("xxx\nends\n")
    assert f"\n... {printed.left_out:,} bytes left out ...\n" in printed.text
    assert (tmp_path / "output").stat().st_blocks * 512 < 2 * 2**20  # of 3 MiB: the middle was freed
    file.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"0%\r50%\r100%\ndone\n", "100%\ndone\n"),
        (b"0%\r50%\r", "50%"),
        (b"line\r\nline\r\n", "line\nline\n"),
        (b"\x1b[32mgreen\x1b[0m \x1b[A\x1b]0;title\x07up\n", "green up\n"),
        (b"\xff\n", "\ufffd\n"),
    ],
)
def test_progress_bars_and_escape_sequences_are_collapsed(printed: bytes, text: str) -> None:
    assert clean(printed) == text
