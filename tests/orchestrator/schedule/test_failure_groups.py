"""Failed attempts by cause: what a signature keeps, and the place in the user's own code."""

from __future__ import annotations

import itertools
import json

import polars as pl
import pytest

from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.schedule.failure_groups import grouped, place, signature
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import Sweep

TRACE = """Traceback (most recent call last):
  File "/home/me/cells.py", line 3, in run
    step(x)
  File "/home/me/model.py", line 7, in step
    return torch.matmul(a, b)
  File "/home/me/.venv/lib/python3.12/site-packages/torch/tensor.py", line 99, in matmul
    check()
  File "/usr/lib/python3.12/threading.py", line 5, in check
ValueError: sizes
"""
RINGING = """Traceback (most recent call last):
  File "cells.py", line 3, in run
  File "cells.py", line 8, in wait
  File "raysweep/orchestrator/run/timeout.py", line 44, in ring
CellTimeout: ran longer
"""
ENDED = """Timeout (0:00:03)!
Thread 0x1 (most recent call first):
  File "/usr/lib/python3.12/threading.py", line 331 in wait
  File "/tmp/stage/raysweep/orchestrator/executors/ray/worker.py", line 70 in run
Thread 0x2 (most recent call first):
  File "/tmp/stage/cells.py", line 8 in wait
  File "/tmp/stage/cells.py", line 3 in run
  File "/tmp/stage/raysweep/orchestrator/run/cell.py", line 200 in _run
"""
SAVING = """Traceback (most recent call last):
  File "cells.py", line 3, in run
  File "{0}raysweep/orchestrator/store/checkpoints.py", line 92, in save
  File "{0}raysweep/orchestrator/store/storage/local.py", line 70, in create
StoreWriteFailed: disk full
"""
BUNDLED = """Traceback (most recent call last):
  File "{0}raysweep/workloads/online_rnn.py", line 9, in run
  File "/x/lib/python3.12/site-packages/torch/tensor.py", line 99, in matmul
ValueError: sizes
"""


SETTINGS = ["method", "k", "config"]


def of_attempts(rows: list[tuple[str, ...]]) -> pl.DataFrame:
    """One row per cell and seed, from its status, error type, message and traceback."""
    columns = ["workload", *SETTINGS, "cell_id", "seed", "status", "error_type", "error_message", "traceback"]
    cells = [("w", "m", None, "{}", f"c{i}", i, *row) for i, row in enumerate(rows)]
    return pl.DataFrame(cells, schema=columns, orient="row")


def groups_of(frame: pl.DataFrame) -> pl.DataFrame:
    return grouped(frame, frame.select(SETTINGS))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("shape (3, 4) at 0x7f21", "shape (5, 1) at 0xabcd"),
        ("no file '/tmp/a/b.txt'", "no file '/home/x/c.txt'"),
        ("lost /data/a/b.csv after 1.5e-3 s", "lost /data/c/d.csv after 2 s"),
        ('bad key "alpha"', 'bad key "beta"'),
        ("the same\nand details 1", "the same\nand others 2"),
    ],
)
def test_variable_parts_of_messages_are_not_in_the_signature(first: str, second: str) -> None:
    trace = 'Traceback\n  File "/a/b/cells.py", line 3, in run\n    raise X\nX\n'
    assert signature("X", first, trace) == signature("X", second, trace.replace("/a/b/", "/c/"))
    assert signature("X", first, trace) != signature("X", first, trace.replace("line 3", "line 4"))
    assert signature("X", first, trace) != signature("Y", first, trace)


@pytest.mark.parametrize(
    ("trace", "where"),
    [
        (TRACE, "model.py:7 in step"),
        (RINGING, "cells.py:8 in wait"),
        (ENDED, "cells.py:8 in wait"),
        (SAVING.format("/home/me/clone/"), "cells.py:3 in run"),
        (SAVING.format("/x/lib/python3.12/site-packages/"), "cells.py:3 in run"),
        (SAVING.format(""), "cells.py:3 in run"),
        (BUNDLED.format("/x/lib/python3.12/site-packages/"), "online_rnn.py:9 in run"),
        (BUNDLED.format(""), "online_rnn.py:9 in run"),
        ('  File "/home/me/orchestrator/run/cell.py", line 2, in run', "cell.py:2 in run"),
        ('  File "/x/lib/python3.12/json/decoder.py", line 2, in parse', "decoder.py:2 in parse"),
        ('  File "raysweep/orchestrator/sweep/loading/workload.py", line 9, in load_workload', None),
        ("killed", None),
        (None, None),
    ],
)
def test_the_place_is_in_the_workloads_own_code(trace: str | None, where: str | None) -> None:
    assert place(trace) == where


def test_a_message_that_a_whole_group_shares_is_not_masked() -> None:
    frame = of_attempts([("failed", "KeyError", "'rate' of 3", TRACE)] * 2)
    assert groups_of(frame)["failure"].to_list() == ["KeyError: 'rate' of 3 (model.py:7 in step)"]
    frame = of_attempts([("failed", "KeyError", f"'rate' of {i}", TRACE) for i in range(3)])
    assert groups_of(frame).select("failure", "seeds").rows() == [
        ("KeyError: '…' of # (model.py:7 in step)", [0, 1, 2])
    ]


def test_timeouts_are_one_group_with_their_most_frequent_place() -> None:
    traces = [RINGING, RINGING, RINGING.replace("line 8", "line 9")]
    frame = of_attempts([("timed_out", "CellTimeout", "ran", trace) for trace in traces])
    assert groups_of(frame)["failure"].to_list() == ["CellTimeout: ran (mostly cells.py:8 in wait)"]
    assert groups_of(frame[:2])["failure"].to_list() == ["CellTimeout: ran (cells.py:8 in wait)"]
    unknown = frame.with_columns(traceback=pl.lit(None, pl.String))
    assert groups_of(unknown)["failure"].to_list() == ["CellTimeout: ran"]


def test_a_timeout_ends_its_traceback_where_it_hung(write) -> None:
    write("hang.py", "import time\n\ndef run(cell, context):\n    time.sleep(9)\n")
    text = 'name="h"\nworkload="hang:run"\nseeds=[0]\n[resources]\nretries=0\ntimeout_s=0.05\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).failed == 1
    (trace,) = Store().attempts.select("traceback").collect()["traceback"]
    assert trace.splitlines()[-2:] == [
        "    time.sleep(9)",
        "raysweep.orchestrator.run.timeout.CellTimeout: " + trace.split(": ")[-1].rstrip(),
    ]
    assert place(trace) == "hang.py:4 in run"


def test_failures_are_listed_by_signature(cli, write) -> None:
    write("two.py", "def run(cell, context):\n    raise ValueError(f'seed {cell.seed}')\n")
    write("two.toml", 'name="s"\nworkload="two:run"\nseeds="0..2"\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n')
    assert cli("launch", "two.toml", "--inline").returncode == 1
    listing = cli("failures")
    assert listing.returncode == 0
    assert "3 cells failed, seeds 0, 1, 2:" in listing.stdout
    assert "ValueError: seed # (two.py:2 in run)" in listing.stdout
    (group,) = json.loads(cli("failures", "--json").stdout)
    assert (group["cells"], group["shared"], group["status"]) == (3, "", "failed")
    write("two.py", "def run(cell, context):\n    assert cell.seed, 'another'\n    return {}\n")
    assert cli("resume", "--inline").returncode == 1
    lines = cli("failures").stdout.splitlines()
    assert lines[:2] == [
        "1 cell failed, seed 0:",
        "    AssertionError: another (two.py:2 in run)",
    ]  # its last error
    assert lines[-1] == "2 cells failed earlier and are done now"
    assert pl.DataFrame([group]).height == 1


def test_a_group_names_what_its_cells_share_and_others_do_not_have() -> None:
    """Cells with rate .1 and width 128 fail, whatever their method; the number of steps is that of all cells."""
    grid = list(itertools.product(["adam", "sgd"], [0.1, 0.01], [64, 128]))
    configs = [{"rate": rate, "width": width, "steps": 9} for _, rate, width in grid]
    variants = pl.DataFrame(
        [(method, None, json.dumps(config)) for (method, *_), config in zip(grid, configs, strict=True)],
        schema={"method": pl.String, "k": pl.Int64, "config": pl.String},
        orient="row",
    )
    failed = of_attempts([("failed", "ValueError", "nan", TRACE)] * 2).with_columns(
        method=pl.Series(["adam", "sgd"]), config=pl.lit('{"rate": 0.1, "width": 128, "steps": 9}')
    )
    assert grouped(failed, variants).select("cells", "shared").rows() == [(2, "rate = 0.1, width = 128")]
    one = failed.head(1)
    assert grouped(one, variants)["shared"].to_list() == ["method = adam, rate = 0.1, width = 128"]
    assert grouped(one, one.select(SETTINGS))["shared"].to_list() == [""]


def test_a_progress_bar_before_the_message_does_not_separate_groups() -> None:
    bars = [f"exit code 1: {40 + i}%|{'#' * i}   | {i}/9 [00:01<00:02, 3.{i}it/s]config file missing" for i in range(3)]
    groups = groups_of(of_attempts([("failed", "ProgramFailed", bar, "") for bar in bars]))
    assert groups.select("cells", "failure").rows() == [(3, "ProgramFailed: exit code #: …config file missing")]
