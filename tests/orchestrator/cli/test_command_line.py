"""The command line on real Ray, in processes of its own, killed and interrupted for real."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, SWEEP, TINY, environment

SLOW = """
    import os, time

    def run(cell, context):
        time.sleep(0.15)
        if cell.method == "dies once" and not os.path.exists(f"died-{cell.seed}"):
            open(f"died-{cell.seed}", "w").close()
            os.kill(os.getpid(), 9)
        return {"value": cell.seed}
"""


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*RAYSWEEP, *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, resource\n"
        "sys.argv = ['raysweep', '--help']\n"
        "from raysweep.orchestrator.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'ray', 'torch', 'polars', 'pyarrow', 'duckdb', 'numpy', 'matplotlib'} & set(sys.modules)\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(sorted(heavy), used.ru_utime + used.ru_stime, file=sys.stderr)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert "launch" in ended.stdout
    heavy, _, seconds = ended.stderr.strip().rpartition(" ")
    assert heavy == "[]"
    assert float(seconds) < 0.6  # 0.3 on an idle machine; the promise is 0.4


def test_launch_query_status_show_table_on_ray(cli, write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    planned = cli("plan", "tiny.toml", "--json")
    assert json.loads(planned.stdout)["to_run"] == 8
    launched = cli("launch", "tiny.toml")
    assert launched.returncode == 0, launched.stderr
    assert "8 of 8 cells done (8 now" in launched.stdout
    again = cli("launch", "tiny.toml")
    assert again.stdout.startswith("nothing to run: all 8 cells are done")
    sql = "SELECT method, seed, value FROM cells ORDER BY method, seed"
    assert cli("query", sql, "--format", "csv").stdout.splitlines()[:2] == ["method,seed,value", "a,0,0.0"]
    assert json.loads(cli("query", sql, "--format", "json").stdout)[1] == {"method": "a", "seed": 1, "value": 2.0}
    assert json.loads(cli("query", sql, "--format", "ndjson").stdout.splitlines()[0])["seed"] == 0
    assert cli("query", sql, "--format", "parquet", "--output", "out.parquet").returncode == 0
    assert pl.read_parquet(folder / "out.parquet").height == 8
    assert cli("query", "SELEC").returncode == 2
    assert cli("query", "COPY (SELECT 1) TO 'stolen.csv'").returncode == 2
    assert not (folder / "stolen.csv").exists()
    counts = json.loads(cli("status", "--json").stdout)["counts"]
    assert [(c["method"], c["status"], c["cells"]) for c in counts] == [("a", "done", 4), ("b", "done", 4)]
    one = Store(folder / "results").cells.collect()["cell_id"][0]
    shown = json.loads(cli("show", one[:10], "--json").stdout)
    assert (shown["cell_id"], shown["status"], len(shown["attempts"])) == (one, "done", 1)
    assert cli("show", "ffff0000").returncode == 2
    assert cli("store", "check").returncode == 0
    assert cli("store", "compact").returncode == 0
    assert cli("table", "nope").returncode == 2
    row = Store(folder / "results").cells.collect().row(0, named=True)
    assert json.loads(row["packages"])["ray"]
    assert row["source_digest"]
    assert row["source_path"] == str(folder / "tiny.py")  # and not the copy that was shipped to a worker


def test_worker_killed_is_retried_and_the_sweep_finishes(cli, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", 'name="slow"\nworkload="slow:run"\nseeds="0..5"\n[[grid]]\nmethod=["fine", "dies once"]\n')
    ended = cli("launch", "slow.toml", timeout=150)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    store = Store(folder / "results")
    assert store.cells.collect().height == 12
    crashed = store.attempts.filter(pl.col("status") == "crashed").collect()
    assert set(crashed["method"]) <= {"dies once"}
    assert store.check() == []


@pytest.mark.parametrize("after", [0, 1, 12])
def test_driver_killed_then_resumed_loses_nothing(cli, write, folder: Path, after: int) -> None:
    write("slow.py", SLOW)
    write("slow.toml", 'name="slow"\nworkload="slow:run"\nseeds="0..39"\n[[grid]]\nmethod="fine"\n')
    victim = start(folder, "launch", "slow.toml")
    store_path = folder / "results"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (store_path / "store.json").exists() and Store(store_path).cells.collect().height >= after:
            break
        time.sleep(0.05)
    if after == 12:  # a second launch meanwhile is refused, and told by whom
        second = cli("launch", "slow.toml")
        assert second.returncode == 3
        assert "to run" not in second.stderr  # the other launch may run it
        assert f"pid {victim.pid}" in second.stderr
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    acknowledged = set(Store(store_path).cells.collect()["cell_id"])
    resumed = cli("resume", "slow.toml", timeout=150)
    assert resumed.returncode == 0, resumed.stderr
    cells = Store(store_path).cells.collect()
    assert cells.height == cells["cell_id"].n_unique() == 40
    assert acknowledged <= set(cells["cell_id"])
    assert cells.sort("seed")["metrics"].list.first().struct.field("value").to_list() == list(map(float, range(40)))
    assert cli("store", "check").returncode == 0


def test_interrupt_commits_what_is_finished(cli, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", 'name="slow"\nworkload="slow:run"\nseeds="0..99"\n[[grid]]\nmethod="fine"\n')
    victim = start(folder, "launch", "slow.toml")
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if (folder / "results/store.json").exists() and Store(folder / "results").cells.collect().height >= 5:
            break
        time.sleep(0.05)
    victim.send_signal(signal.SIGINT)
    out, err = victim.communicate(timeout=40)
    assert victim.returncode == 130, err
    assert "resume: raysweep resume slow.toml" in out
    assert Store(folder / "results").cells.collect().height >= 5
    assert Store(folder / "results").check() == []
    assert list((folder / "results/_tmp").iterdir()) == []


def test_cells_for_which_no_node_is_large_enough_are_refused(cli, write) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP + "\n[resources]\ngpus = 64\n")
    ended = cli("launch", "tiny.toml")
    assert ended.returncode == 2
    assert "8 cells need 64 GPUs each" in ended.stderr
    assert "--device cpu" in ended.stderr
    assert cli("launch", "tiny.toml", "--device", "cpu", "--inline").returncode == 0


NEVER = """
import sys, time
from raysweep.orchestrator.executors import ray_tasks
from raysweep.orchestrator.cli.app import main

def never(*chunk):  # as seen from the driver, a worker that does not start is one that gives no sign of life
    time.sleep(60)

ray_tasks.START_S, ray_tasks.work = 2.0, never
sys.argv = ["raysweep", "launch", "tiny.toml"]
main()
"""


def test_workers_that_never_start_are_said(write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    ended = subprocess.run(
        [sys.executable, "-c", NEVER], cwd=folder, env=environment(), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 1
    assert "none of its workers has started in 2 s; its logs are in /" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_an_address_where_nothing_answers_is_refused_before_the_store_is_taken(cli, write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    for address in ("127.0.0.1:1", "nowhere"):
        ended = cli("launch", "tiny.toml", "--address", address, timeout=30)
        assert ended.returncode == 2
        assert address in ended.stderr
        assert "Traceback" not in ended.stderr
    assert not (folder / "results").exists()


def test_the_resume_hint_asks_for_the_same_cells(cli, write) -> None:
    write("odd.py", "def run(cell, context):\n    return {'value': 1.0 / (cell.seed % 2)}\n")
    write("tiny.toml", SWEEP.replace("tiny:run", "odd:run"))
    asked = ["--seeds", "2..5", "--set", "x=2", "--where", "seed > 2", "--store", "my store"]
    ended = cli("launch", "tiny.toml", "--inline", "--retries", "0", *asked)
    assert ended.returncode == 1
    hint = next(line for line in ended.stdout.splitlines() if line.startswith("resume: ")).removeprefix("resume: ")
    assert shlex.split(hint)[:2] == ["raysweep", "resume"]
    assert "see:    raysweep failures --store 'my store'\n" in ended.stdout
    again = json.loads(cli(*shlex.split(hint)[1:], "--inline", "--json").stdout.splitlines()[-1])
    assert (again["asked"], again["ran"], again["failed"]) == (6, 0, 2)
    assert again["resume"] == hint


def test_the_python_interface_is_what_its_names_say() -> None:
    code = (
        "import raysweep.orchestrator.launch.launch\n"
        "from raysweep import Store, Sweep, launch\n"
        "assert callable(launch) and Sweep.load('paper/e1-sine').name == 'e1-sine' and Store is not None\n"
        "launch\nfrom raysweep import launch\nassert callable(launch)\n"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_the_schema_can_be_asked_for_and_wide_rows_can_be_read(cli, write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    cli("launch", "tiny.toml", "--inline", "--set", "rate=0.5")
    described = cli("query", "DESCRIBE cells", "--format", "csv").stdout
    assert {"rate", "value", "method"} <= {line.split(",")[0] for line in described.splitlines()}
    assert "arrays" in cli("query", "SHOW TABLES").stdout
    said = cli("query", "SELECT valeu FROM cells").stderr
    assert "(did you mean 'value'?)\ncolumns of cells: cell_id" in said
    assert "Candidate" not in said  # DuckDB's, which may be others
    assert "(did you mean 'cell_id'?)" in cli("query", "SELECT x.cel_id FROM cells x").stderr
    assert "(did you mean 'source_digest' or 'source_path'?)" in cli("query", "SELECT source FROM cells").stderr
    assert cli("query", "UPDATE cells SET k = 1").stderr.endswith(
        "base table (only queries are answered: the store is never written)\n"
    )
    wide = cli("query", "SELECT * FROM cells LIMIT 1").stdout
    assert "row 1" in wide
    assert "value" in wide
    assert cli("query", "SELECT seed FROM cells", "--output", "o.csv").returncode == 0
    assert (folder / "o.csv").read_text().splitlines()[0] == "seed"
    assert cli("query", "SELECT seed FROM cells", "--output", "o.dat").returncode == 2


def test_raysweep_says_its_version(cli) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", cli("--version").stdout)
