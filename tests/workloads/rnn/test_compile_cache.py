"""The cache of compiled functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.command_line import environment

COMPILE = """
import sys
import numpy as np
from raysweep.workloads.rnn.fused.elementwise import tanh_rnn

print("ready", flush=True)
sys.stdin.readline()
row = np.zeros((1, 4))
tanh_rnn(row, row.copy(), 0.5, row.copy(), np.zeros((1, 1, 4)), np.zeros((1, 1, 4)))
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
