"""Output of hostile cells on a terminal, to a full disk, and options beyond their bounds."""

from __future__ import annotations

import subprocess
from pathlib import Path

from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment
from tests.orchestrator.sweeps import sweep_of


def test_a_cell_cannot_send_escape_codes_to_the_terminal(cli, write) -> None:
    body = "def run(cell, context):\n    if cell.seed:\n        raise type('\\x1b[31mE', (Exception,), {})\n"
    write("esc.py", body + "    return {'\\x1b[31mred': 1.0}\n")
    write("esc.toml", 'name="esc"\nworkload="esc:run"\nseeds="0..1"\n[[grid]]\nmethod="m"\n')
    cli("launch", "esc.toml", "--inline", "--retries", "0")
    for cell_id in Store("results").attempts.select("cell_id").collect()["cell_id"]:
        ended = cli("show", cell_id)
        assert "[31m" in ended.stdout
        assert "\x1b" not in ended.stdout + ended.stderr


def test_output_that_goes_nowhere_is_a_line(write, folder: Path) -> None:
    write("arr.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    launch(sweep_of("arr:run"), inline=True)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*RAYSWEEP, "status"], cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (ended.returncode, ended.stderr) == (1, "error: output: No space left on device\n")
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([*RAYSWEEP, "status"], cwd=folder, env=ascii_only, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 of 1 cell done" in ended.stdout


def test_the_command_line_bounds_its_numbers(cli, write) -> None:
    write("arr.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    write("arr.toml", 'name="arr"\nworkload="arr:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    for option in (["--retries", "9" * 20], ["--timeout", "nan"], ["--timeout", "1e300"]):
        ended = cli("launch", "arr.toml", "--inline", *option)
        assert ended.returncode == 2
