"""Programs as cells: their folder, output, metrics, exit codes, timeouts, checkpoints, and what is left of them."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from raysweep import Sweep, launch
from raysweep.orchestrator.store.reader import Store
from tests.conftest import RAYSWEEP, environment

Write = Callable[..., Path]


def run(write: Write, script: str, head: str = 'command = "python p.py {seed}"', tail: str = "") -> dict[str, Any]:
    """The row of the last attempt at the only cell of a sweep of one script, run in this process."""
    write("p.py", script)
    text = f"{head}\nseeds = [7]\n[resources]\nretries = 0\n{tail}"
    launch(Sweep.from_text(text), "results", inline=True)
    return Store("results").attempts.sort("started_at").collect().row(-1, named=True)


def metrics(row: dict[str, Any]) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in row["metrics"]}


def arrays() -> dict[str, list[Any]]:
    frame = Store("results").arrays.sort("name", "step").collect()
    columns = ("name", "step", "stride", "values_f64")
    return {name: [step, stride, values] for name, step, stride, values in frame.select(columns).iter_rows()}


def test_the_last_line_of_json_is_the_metrics_and_the_lines_are_curves(write: Write) -> None:
    script = """
        import json, sys
        for step in range(3):
            print(json.dumps({"step": 10 * step, "loss": 1 / (1 + step), "name": "x", "seed": 7}))
        print("{not json}", file=sys.stderr)
        print(json.dumps({"accuracy": 0.5, "deep": {"er": True}}))
    """
    row = run(write, script)
    assert (row["status"], metrics(row)) == (
        "done",
        {"loss": pytest.approx(1 / 3), "accuracy": 0.5, "deep.er": 1, "step": 20},
    )
    assert arrays() == {"loss": [0, 10, [1.0, 0.5, pytest.approx(1 / 3)]], "seed": [0, 10, [7.0, 7.0, 7.0]]}


def test_a_program_that_prints_no_number_is_done_with_a_note(write: Write) -> None:
    row = run(write, "print('hello')")
    assert (row["status"], row["metrics"]) == ("done", [])
    assert "hello\nraysweep: no metrics: no line of standard output is a JSON object" in row["log_tail"]
    result = launch(Sweep.from_text('command = "python p.py {seed}"\nseeds = [8, 9]'), "results", inline=True)
    assert [line.partition(" no line")[0] for line in result.warnings] == [
        "$ python p.py {seed}: cells are done without metrics:"
    ]


def test_a_failed_program_keeps_its_curves(write: Write) -> None:
    script = """
        import sys
        print('{"step": 1, "loss": 4}')
        print('{"step": 2, "loss": 2}')
        open("log.csv", "w").write("step,acc\\n1,0.5\\n3,0.75\\n")
        sys.exit(1)
    """
    row = run(write, script, tail='[metrics]\njson_lines = true\nfile = "log.csv"\n')
    assert (row["status"], row["metrics"]) == ("failed", [])
    assert arrays() == {"acc": [1, 2, [0.5, 0.75]], "loss": [1, 1, [4, 2]]}


def test_a_declared_source_without_a_metric_fails_the_cell(write: Write) -> None:
    head = (
        "command = \"python p.py {seed}\"\n[metrics]\nfile = 'm.json'\ntensorboard = '.'\npatterns.loss = 'loss (.*)'"
    )
    head, _, table = head.partition("\n")
    row = run(write, "print('loss nothing')", f"{head}", table)
    assert (row["status"], row["error_type"]) == ("failed", "NoMetrics")
    for part in (
        "'m.json': the program has not written it",
        "no event file",
        "no line of the output matches 'loss (.*)'",
    ):
        assert part in row["error_message"]
    assert row["traceback"] == "loss nothing"


def test_patterns_take_last_least_and_largest_and_keep_the_curve(write: Write) -> None:
    script = """
        import sys
        for epoch, loss in ((1, 0.5), (3, 0.25), (5, 0.75)):
            sys.stderr.write(f"epoch {epoch} loss={loss},\\r")
    """
    table = """
        [metrics.patterns]
        last = 'loss=(\\S+)'
        least = { pattern = 'epoch (?P<step>\\d+) loss=(?P<value>\\S+)', take = "min" }
        most = { pattern = 'loss=(\\S+)', take = "max" }
    """
    row = run(write, script, tail=table)
    assert metrics(row) == {"last": 0.75, "least": 0.25, "most": 0.75}
    assert arrays()["least"] == [1, 2, [0.5, 0.25, 0.75]]


def test_a_cell_has_its_own_folder_in_which_the_projects_files_are(write: Write, folder: Path) -> None:
    script = """
        import json, os, sys
        from pathlib import Path
        import helper
        Path("out").mkdir()
        Path("out/model.pt").write_text(sys.argv[1])
        Path("data/new.txt").write_text("")
        rows = [Path("data/x.csv").read_text(), (Path(__file__).parent / "data" / "x.csv").read_text()]
        print(json.dumps({"rows": len(set(rows)), "x": float(rows[0]), "big": float(Path("big/set").read_text())}))
    """
    (folder / "data").mkdir()
    (folder / "big").mkdir()
    write("data/x.csv", "4.5")
    write("big/set", "8")
    write("helper.py", "")
    row = run(write, script, 'command = "python p.py {seed}"\nfiles = ["data"]\nlinks = ["big"]')
    assert (row["error_message"], metrics(row)) == (None, {"rows": 1, "x": 4.5, "big": 8})
    assert sorted(p.name for p in folder.iterdir() if p.name != "__pycache__") == [
        "big",
        "data",
        "helper.py",
        "p.py",
        "results",
    ]
    assert [p.name for p in (folder / "data").iterdir()] == ["x.csv"]
    assert Store("results").artifacts()["path"].to_list() == ["data/new.txt", "out/model.pt"]


def test_a_generated_config_file_and_variables_reach_the_program(write: Write) -> None:
    script = """
        import json, os, sys, tomllib
        settings = tomllib.load(open("conf/c.toml", "rb"))
        print(json.dumps({"rate": settings["opt"]["rate"], "s": settings["seed"], "v": float(os.environ["RATE"])}))
        assert os.environ["OMP_NUM_THREADS"] == os.environ["NUMBA_NUM_THREADS"] == "1", os.environ
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "" and "x y" == os.environ["TEXT"]
    """
    head = 'command = "python p.py"\nconfig_file = "conf/c.toml"\nenv = { RATE = "1{opt.rate}", TEXT = "x y" }'
    row = run(write, script, head, '[config]\n"opt.rate" = 0.5\n')
    assert (row["error_message"], metrics(row)) == (None, {"rate": 0.5, "s": 7.0, "v": 10.5})


@pytest.mark.parametrize(
    ("script", "message", "last"),
    [
        ("import sys; print('out'); sys.exit(3)", "exit code 3: out", "out"),
        ("import sys; print('out'); sys.exit('sorry')", "exit code 1: sorry", "sorry"),
        ("import os; os.kill(os.getpid(), 11)", "killed by SIGSEGV", ""),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL (by the system, if its memory was used up)", ""),
        (
            "from pathlib import Path; (Path(__file__).absolute().parent / 'a' / '..' / 'x.csv').read_text()",
            "exit code 1: FileNotFoundError: [Errno 2] No such file or directory: 'a/../x.csv'; if the project has it, "
            "add x.csv to files = [...]",
            "",
        ),
        ("open('../x')", "exit code 1: FileNotFoundError: [Errno 2] No such file or directory: '../x'; of the pro", ""),
    ],
)
def test_exit_codes_and_signals_are_errors(script: str, message: str, last: str, write: Write) -> None:
    row = run(write, script)
    assert (row["status"], row["error_type"]) == ("failed", "ProgramFailed")
    assert row["error_message"].startswith(message)
    assert last in row["traceback"]
    assert "/cell-" not in row["traceback"]


def test_a_program_that_does_not_exist_is_refused_before_anything_runs(cli, write: Write, folder: Path) -> None:
    write("s.toml", 'command = "no-such-program {seed}"\nseeds = [1]\n')
    ended = cli("launch", "s.toml", "--inline")
    assert (ended.returncode, "no program 'no-such-program' on the path" in ended.stderr) == (2, True)
    assert not (folder / "results").exists()


ORPHANS = """
    import os, subprocess, sys, time
    for prefix in ([], ["setsid"]):
        subprocess.Popen([*prefix, sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]])
    print("started", flush=True)
    time.sleep(300)
"""


def processes(word: str) -> list[int]:
    """Processes with this word in their command line."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if word.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def gone(word: str, seconds: float = 10) -> bool:
    limit = time.monotonic() + seconds
    while processes(word) and time.monotonic() < limit:
        time.sleep(0.05)
    return not processes(word)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_a_timeout_ends_all_that_the_program_started(write: Write, folder: Path) -> None:
    word = f"timeout-{folder.parent.name}-{os.getpid()}"
    row = run(write, ORPHANS, f'command = "python p.py {word}"', "timeout_s = 1")
    assert (row["status"], row["error_type"], row["traceback"]) == ("timed_out", "CellTimeout", "started")
    assert gone(word)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_driver_leaves_no_process(number: int, write: Write, folder: Path) -> None:
    word = f"driver-{number}-{folder.parent.name}-{os.getpid()}"
    write("p.py", ORPHANS)
    write("s.toml", f'command = "python p.py {word}"\nseeds = [1]\n')
    driver = subprocess.Popen(
        [*RAYSWEEP, "launch", "s.toml", "--inline"], cwd=folder, env=environment(), stderr=-1, stdout=-1
    )
    limit = time.monotonic() + 120
    while len(processes(word)) < 3 and time.monotonic() < limit:
        time.sleep(0.05)
    assert len(processes(word)) == 3
    driver.send_signal(number)
    driver.communicate(timeout=120)
    assert driver.returncode == (130 if number == signal.SIGINT else -9)
    assert gone(word)


def test_children_left_by_a_finished_program_are_ended(write: Write, folder: Path) -> None:
    word = f"finished-{folder.parent.name}-{os.getpid()}"
    script = """
        import subprocess, sys
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]])
        print('{"a": 1}')
    """
    row = run(write, script, f'command = "python p.py {word}"')
    assert (row["status"], metrics(row)) == ("done", {"a": 1})
    assert row["seconds"] < 100  # it did not wait for the child, which holds the pipes
    assert gone(word)


def test_the_checkpoint_folder_goes_on_to_the_next_attempt(write: Write, folder: Path) -> None:
    script = """
        import json, sys
        from pathlib import Path
        kept = Path(sys.argv[1]) / "steps"
        steps = int(kept.read_text()) if kept.exists() else 0
        kept.write_text(str(steps + 1))
        if steps < 2:
            sys.exit(1)
        print(json.dumps({"steps": steps}))
    """
    write("p.py", script)
    text = 'command = "python p.py {checkpoint}"\nseeds = [7]\n[resources]\nretries = 2\n'
    launch(Sweep.from_text(text), "results", inline=True)
    rows = Store("results").attempts.sort("attempt").collect()
    assert rows["status"].to_list() == ["failed", "failed", "done"]
    assert metrics(rows.row(2, named=True)) == {"steps": 2}
    assert list((folder / "results" / "checkpoints").iterdir()) == []


def test_debug_runs_the_program_in_the_foreground_and_prints_it(cli, write: Write) -> None:
    row = run(write, "import sys; print('{\"a\": 1}'); print('err', file=sys.stderr)", tail="cpus = 1")
    (write("s.toml", 'command = "python p.py {seed}"\nseeds = [7]\n'), cli("launch", "s.toml", "--inline"))
    ended = cli("debug", Store("results").cells.collect()["cell_id"][0])
    assert ended.returncode == 0, ended.stderr
    assert f"{shlex.quote(sys.executable)} p.py 7" in ended.stdout
    assert "as a process of its own" in ended.stdout
    assert '{"a": 1}' in ended.stdout
    assert "err" in ended.stderr
    assert "the recorded metrics are the same" in ended.stdout
    assert row["status"] == "done"


def test_resume_without_a_sweep_runs_programs_of_the_newest_file_only(cli, write: Write) -> None:
    write("p.py", "import sys; sys.exit(len(sys.argv) != 3)")
    for command in ("python p.py {seed}", "python p.py --seed {seed}"):
        write("s.toml", f'command = "{command}"\nseeds = [7]\n[resources]\nretries = 0\n')
        cli("launch", "s.toml", "--inline")
    write("p.py", "")
    resumed = cli("resume", "--inline")
    assert "cells of older workload versions are not run again" in resumed.stderr
    frame = Store("results").attempts.sort("started_at").collect()
    assert frame.select("workload", "status").rows() == [
        ("$ python p.py {seed}", "failed"),
        ("$ python p.py --seed {seed}", "done"),
    ]


def test_a_strangers_program_is_not_run(cli, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    row = run(write, "import sys; sys.exit(1)")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    for words in (["resume", "--inline"], ["debug", row["cell_id"]]):
        ended = cli(*words)
        assert (ended.returncode, "was not recorded by this user" in ended.stderr) == (2, True)
    assert Store("results").attempts.select(pl.len()).collect().item() == 1


@pytest.mark.slow
def test_a_killed_worker_leaves_no_process_and_the_cell_goes_on(write: Write, folder: Path) -> None:
    word = f"worker-{folder.parent.name}-{os.getpid()}"
    script = """
        import json, os, signal, subprocess, sys, time
        from pathlib import Path
        kept = Path(sys.argv[2]) / "steps"
        if not kept.exists():
            subprocess.Popen(["setsid", sys.executable, "-c", "import time; time.sleep(300)", sys.argv[1]])
            kept.write_text("5")
            time.sleep(9)  # the folder is saved meanwhile
            os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(300)
        print(json.dumps({"steps": int(kept.read_text())}))
    """
    write("p.py", script)
    write("s.toml", f'command = "python p.py {word} {{checkpoint}}"\nseeds = [7]\n')
    ended = subprocess.run(
        [*RAYSWEEP, "launch", "s.toml"], cwd=folder, env=environment(), capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    rows = Store("results").attempts.sort("attempt").collect()
    assert rows["status"].to_list() == ["crashed", "done"]
    assert metrics(rows.row(1, named=True)) == {"steps": 5}
    assert gone(word)


def test_json_output_of_plan_names_the_first_command(cli, write: Write) -> None:
    write("s.toml", 'command = "echo {lr} {seed}"\nseeds = [7]\n[[grid]]\nlr = [0.1, 0.2]\n')
    assert json.loads(cli("plan", "s.toml", "--json").stdout)["commands"] == {"$ echo {lr} {seed}": "echo 0.1 7"}
    assert "first command: echo 0.1 7" in cli("plan", "s.toml").stdout


def test_of_a_progress_bar_a_failed_programs_traceback_has_the_last_state(write: Write) -> None:
    row = run(
        write,
        """
        import sys
        for i in range(200):
            sys.stderr.write(f"\\r{i}%|##  | it/s")
        sys.stderr.write("\\nno data\\n")
        sys.exit(3)
        """,
    )
    assert row["status"] == "failed"
    assert "199%|##  | it/s\nno data" in row["traceback"]
    assert "198%" not in row["traceback"]
