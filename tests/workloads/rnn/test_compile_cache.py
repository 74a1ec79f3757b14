"""The cache of compiled functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.command_line import environment

COMPILE = """
import sys
from numba import float64
from raysweep.workloads.rnn.fused.elementwise import tanh_rnn

print("ready", flush=True)
sys.stdin.readline()
row, rows = float64[:, ::1], float64[:, :, ::1]
tanh_rnn.compile((row, row, float64, row, rows, rows))
print(sum(tanh_rnn.stats.cache_misses.values()))
"""


def test_processes_that_start_together_compile_a_function_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COMPILE]
    variables = {**environment(), "RAYSWEEP_CACHE": os.fspath(tmp_path)}
    processes = [
        subprocess.Popen(command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    compiled = [int(process.communicate(timeout=100)[0]) for process in processes]
    assert sorted(compiled) == [0, 0, 1]
