"""The code behind rows: what counts as changed, what is kept, and how a row's code comes back."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from raysweep import Store
from raysweep.orchestrator.code.source import Source, source_file
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.as_recorded import recorded_workload
from raysweep.orchestrator.store.documents import read_source
from raysweep.orchestrator.sweep.loading.recorded import source_of
from raysweep.orchestrator.sweep.loading.workload import load_workload
from tests.conftest import environment

SWEEP = 'name = "s"\nworkload = "train:run"\nseeds = [0, 1]\n{}\n[[grid]]\nmethod = "m"\nrate = 2\n'
TRAIN = """
import data

def run(cell, context):
    return {"value": fit(cell.config["rate"], cell.seed)}

def fit(rate, seed):
    return data.load(seed) * rate
"""
DATA = '"""Data."""\nSCALE = 3\n\ndef load(seed):\n    return SCALE * seed\n\ndef plot():\n    return 1\n'
CHAIN = "data.py: SCALE, used by train.py: function run > train.py: function fit > data.py: function load"


@pytest.fixture
def project(folder: Path, cli, write):
    """Files, and a function that edits them; two cells are done."""
    write("train.py", TRAIN)
    write("data.py", DATA)
    write("s.toml", SWEEP.format(""))
    assert cli("launch", "s.toml", "--inline").returncode == 0

    def edit(name: str, before: str, after: str) -> None:
        text = Path(name).read_text()
        assert before in text
        Path(name).write_text(text.replace(before, after))

    return edit


def first_cell() -> str:
    return str(Store().sql("SELECT cell_id FROM cells ORDER BY seed")["cell_id"][1])


@pytest.mark.parametrize(("file", "before", "after"), [
    ("data.py", "SCALE = 3", "SCALE = 3  # metres"), ("data.py", '"""Data."""', '"""All data."""'),
    ("data.py", "return 1", "return 2"), ("train.py", "(rate, seed)", "( rate,\n    seed )"),
])  # fmt: skip
def test_comments_docstrings_layout_and_unused_functions_change_nothing(
    project, cli, file: str, before: str, after: str
) -> None:
    project(file, before, after)
    assert "2  done" in (planned := cli("plan", "s.toml").stdout)
    assert "changed" not in planned
    ended = cli("launch", "s.toml", "--inline", "--rerun-changed")
    assert "different code" not in ended.stdout
    assert "2 of 2 cells done (0 now" in ended.stdout or "nothing to run" in ended.stdout


def test_a_plan_names_what_changed_and_how_it_is_used(project, cli) -> None:
    project("data.py", "SCALE = 3", "SCALE = 4")
    planned = cli("plan", "s.toml").stdout
    assert "2  changed" in planned
    assert f"changed since 2 cells were done:\n  {CHAIN}\n" in planned
    diff = cli("plan", "s.toml", "--diff").stdout
    assert "    -SCALE = 3\n    +SCALE = 4\n" in diff
    (change,) = json.loads(cli("plan", "s.toml", "--json").stdout)["code_changes"]
    assert (change["cells"], change["matters"], change["accepted"]) == (2, True, [])
    (part,) = change["parts"]
    assert (part["file"], part["what"], part["after"]) == ("data.py", "SCALE", "SCALE = 4")
    assert "2 of 2 cells done (2 now" in cli("launch", "s.toml", "--inline", "--rerun-changed").stdout
    assert "2  done" in cli("plan", "s.toml").stdout


def test_a_done_cell_that_fails_when_run_again_is_listed_and_resumed(project, cli) -> None:
    project("data.py", "SCALE * seed", "SCALE * seed / (1 - seed)")
    failed = cli("launch", "s.toml", "--inline", "--rerun-changed")
    assert failed.returncode == 1
    assert "resume: raysweep resume s.toml --rerun-changed --inline\n" in failed.stdout
    query = failed.stdout.partition("query:  raysweep ")[2].splitlines()[0]
    assert "ZeroDivisionError" in cli("failures").stdout
    assert "1 cell failed when run again; the results of the attempt before stay\n" in cli("failures").stdout
    assert "division by zero" in cli(*shlex.split(query)).stdout
    project("data.py", "(1 - seed)", "(2 - seed)")
    assert "2 of 2 cells done (2 now" in cli("resume", "s.toml", "--rerun-changed", "--inline").stdout
    assert cli("failures").stdout == "no failed cells now\n1 cell failed earlier and is done now\n"


def test_an_accepted_change_does_not_matter_and_a_later_one_does(project, cli) -> None:
    project("data.py", "SCALE * seed", "seed * SCALE")
    assert cli("accept", "s.toml").returncode == 2
    assert "--reason" in cli("accept", "s.toml", "--reason", " ").stderr
    accepted = cli("accept", "s.toml", "--reason", "same product")
    assert "data.py: function load" in accepted.stdout
    assert "accepted: 2 cells count as done" in accepted.stdout
    planned = cli("plan", "s.toml").stdout
    assert "2  done" in planned
    assert ": same product\n  data.py: function load" in planned
    assert "accepted change of train:run: data.py: function load; " in cli("status").stdout
    assert json.loads(cli("status", "--json").stdout)["accepted"][0]["reason"] == "same product"
    project("data.py", "SCALE = 3", "SCALE = 3  # a comment after it")
    assert "2  done" in cli("plan", "s.toml").stdout
    project("data.py", "SCALE = 3", "SCALE = 4")
    assert "2  changed" in cli("plan", "s.toml").stdout
    assert cli("accept", "s.toml", "--reason", "twice").returncode == 0
    assert "no change to accept" in cli("accept", "s.toml", "--reason", "again").stdout
    assert cli("store", "check").returncode == 0
    assert "2 accepted changes withdrawn" in cli("accept", "s.toml", "--withdraw").stdout
    assert "2  changed" in cli("plan", "s.toml").stdout


def test_rows_without_a_recorded_source_follow_the_rule_of_files(project, cli) -> None:
    shutil.rmtree("results/_sources")
    assert "2  done" in cli("plan", "s.toml").stdout
    project("data.py", "SCALE = 3", "SCALE = 3  # metres")
    assert "2 cells changed without a recorded source: any byte of the files counts" in cli("plan", "s.toml").stdout
    refused = cli("accept", "s.toml", "--reason", "a comment")
    assert (refused.returncode, "no source of them" in refused.stderr) == (2, True)
    assert "no source of this cell's code" in cli("show", first_cell(), "--source").stderr


def test_an_input_is_part_of_the_digest_or_of_the_identity(project, cli, write) -> None:
    Path("configs").mkdir()
    write("configs/base.yaml", "epochs: 12\n")
    write("s.toml", SWEEP.format('inputs = ["configs/*.yaml"]'))
    assert "2 of 2 cells done (2 now" in cli("launch", "s.toml", "--inline", "--rerun-changed").stdout
    write("configs/base.yaml", "epochs: 20\n")
    planned = cli("plan", "s.toml", "--diff").stdout
    assert "2  changed" in planned
    assert "  configs/base.yaml: file\n    @@ -1 +1 @@\n    -epochs: 12\n    +epochs: 20\n" in planned
    assert "2 of 2 cells done (2 now" in cli("launch", "s.toml", "--inline", "--rerun-changed").stdout
    assert "# file: configs/base.yaml\nepochs: 20\n" in cli("show", first_cell(), "--source").stdout
    write("s.toml", SWEEP.format('inputs = {files = ["configs"], identity = true}'))
    assert "2  new" in cli("plan", "s.toml").stdout
    assert "2 of 2 cells done (2 now" in cli("launch", "s.toml", "--inline").stdout
    assert "2  done" in cli("plan", "s.toml").stdout
    write("configs/base.yaml", "epochs: 30\n")
    assert "2  new" in cli("plan", "s.toml").stdout
    assert cli("resume", "--inline").returncode == 0  # the cells of the older content are of another version
    write("configs/base.yaml", "epochs: 20\n")
    assert "2  done" in cli("plan", "s.toml").stdout
    Path("configs/base.yaml").unlink()
    missing = cli("plan", "s.toml")
    assert (missing.returncode, "inputs: 'configs' matches no file" in missing.stderr) == (2, True)


@pytest.mark.slow
def test_inputs_are_the_same_on_ray(folder: Path, cli, write) -> None:
    Path("configs").mkdir()
    write("configs/base.yaml", "3")
    write("train.py", "from pathlib import Path\ndef run(cell, context):\n    "
          "return {'value': float((Path(__file__).parent / 'configs/base.yaml').read_text())}\n")  # fmt: skip
    write("s.toml", SWEEP.format('inputs = ["configs"]'))
    assert "2 of 2 cells done (2 now" in cli("launch", "s.toml").stdout
    assert "2  done" in cli("plan", "s.toml").stdout
    write("configs/base.yaml", "4")
    assert "2  changed" in cli("plan", "s.toml").stdout


def test_an_option_that_nothing_reads_is_pointed_out(project, cli) -> None:
    warned = cli("plan", "s.toml", "--set", "epochs=3").stderr
    assert "--set epochs: no file of workload 'train:run' names 'epochs'" in warned
    assert "--set" not in cli("plan", "s.toml", "--set", "rate=3").stderr
    assert "--set" not in cli("plan", "s.toml", "--set", "model.rate=3").stderr


def test_code_that_was_never_committed_comes_back(project, cli) -> None:
    Path("train.py").unlink()
    Path("data.py").write_text("SCALE = 'lost'\n")
    shown = cli("show", first_cell(), "--source").stdout
    assert f"# file: train.py\n{TRAIN}" in shown
    assert DATA in shown
    whole = cli("show", first_cell(), "--reproduce").stdout
    assert "# command: raysweep launch s.toml --inline\n" in whole
    assert f"debug {first_cell()[:8]} --as-recorded" in whole
    assert "# python: 3." in whole
    assert "\nnumpy==" in whole
    assert TRAIN in whole
    document = json.loads(cli("show", first_cell(), "--reproduce", "--json").stdout)
    assert document["source"]["data.py"] == DATA
    assert document["environment"]["cpu"]


def test_every_imported_package_is_recorded_once(project, cli) -> None:
    (packages,) = Store().sql("SELECT DISTINCT packages FROM cells")["packages"]
    versions = json.loads(packages)
    assert {"numpy", "polars", "pyarrow", "pydantic-core", "pyyaml", "python", "raysweep"} <= versions.keys()
    (file,) = Path("results/_environments").iterdir()
    assert file.name.startswith(versions["_environment"])
    assert file.stat().st_size < 20_000


def test_deleted_code_runs_again_as_recorded(project, cli) -> None:
    Path("train.py").unlink()
    shutil.move("data.py", "other.py")
    assert cli("debug", first_cell()).returncode == 2
    again = cli("debug", first_cell(), "--as-recorded")
    assert again.returncode == 0, again.stderr
    assert "  value = 6.0\n" in again.stdout
    assert "the recorded metrics are the same\n" in again.stdout
    assert not Path("train.py").exists()


def test_a_deleted_program_runs_again_as_recorded(folder: Path, cli, write) -> None:
    write(
        "job.py",
        "import sys, tools\nprint({'value': tools.twice(int(sys.argv[1]))}.__repr__().replace(chr(39), chr(34)))\n",
    )
    write("tools.py", "def twice(x):\n    return 2 * x\n\ndef other():\n    return 1\n")
    write("p.toml", 'command = "python job.py {seed}"\nseeds = [4]\n')
    assert cli("launch", "p.toml", "--inline").returncode == 0
    Path("tools.py").write_text(Path("tools.py").read_text().replace("return 1", "return 2  # unused"))
    assert "1  done" in cli("plan", "p.toml").stdout
    Path("tools.py").write_text("def twice(x):\n    return x + x\n")
    assert "tools.py: function twice, used by job.py: module-level code" in cli("plan", "p.toml").stdout
    Path("job.py").unlink()
    (cell,) = Store().sql("SELECT cell_id FROM cells")["cell_id"]
    hint = "`raysweep debug --as-recorded` runs the code that the store has of the cell"
    assert f"no file 'job.py' in {folder}; {hint}\n" in cli("debug", cell).stderr
    again = cli("debug", cell, "--as-recorded")
    assert "the recorded metrics are the same\n" in again.stdout, again.stderr


def test_an_older_version_of_a_bundled_workload_runs_as_recorded(tmp_path: Path) -> None:
    present = load_workload("online_rnn")
    source = source_of(present)
    name = "workloads/rnn/windows.py"
    text = next(file.content for file in source.files if file.name == name) or b""
    old = source_file(name, f"raysweep/{name}", text + b"\nWAS = 'older'\n", "raysweep.workloads.rnn.windows")
    older = replace(source, version="1", files=tuple(old if file.name == name else file for file in source.files))
    folder = tmp_path / "unpacked"
    folder.mkdir()
    workload = recorded_workload(older, "0" * 16, None, folder)  # type: ignore[arg-type]
    assert workload.version == "1"
    with workload.code.active():
        assert workload.run.__globals__["window_means"].__globals__["WAS"] == "older"
        config = workload.revive(json.dumps({"steps": 20, "hidden": 4, "shift": 10}))
        k, settled = workload.settle("rtrl", None, config)  # type: ignore[misc]
        context = SimpleNamespace(device="cpu", array=lambda *a, **b: None, progress=lambda *a: None)
        cell = SimpleNamespace(cell_id="0" * 24, experiment="e", method="rtrl", k=k, seed=1, config=settled)
        assert workload.run(cell, context)["diverged"] == 0
    assert not hasattr(sys.modules["raysweep.workloads.rnn.windows"], "WAS")
    assert sys.modules["raysweep.workloads.rnn"].windows is sys.modules["raysweep.workloads.rnn.windows"]
    assert "WAS" not in present.run.__globals__["window_means"].__globals__


def test_code_of_another_user_runs_only_if_the_store_is_trusted(project, cli, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user"))
    refused = cli("debug", first_cell(), "--as-recorded")
    assert (refused.returncode, "add --trust-store" in refused.stderr) == (2, True)
    assert "the same" in cli("debug", first_cell(), "--as-recorded", "--trust-store").stdout


@pytest.mark.parametrize("path", ["../out.py", "/tmp/out.py", "a/../../out.py", "a\\..\\out.py", "a\0.py", ""])
def test_a_source_is_unpacked_nowhere_else(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    source = Source("w:run", "1", "w", ("run",), (source_file("w.py", path, b"x = 1\n", "w"),))
    with pytest.raises(InputError):
        recorded_workload(source, "0" * 16, None, folder)  # type: ignore[arg-type]
    assert [p for p in tmp_path.rglob("*") if p != folder] == []


def test_a_damaged_source_is_noticed_and_repaired(project, cli) -> None:
    (file,) = Path("results/_sources").iterdir()
    data = bytearray(file.read_bytes())
    data[-10] ^= 1
    file.write_bytes(data)
    assert f"_sources/{file.name}: torn or foreign" in cli("store", "check").stdout
    project("data.py", "SCALE = 3", "SCALE = 4")
    assert cli("plan", "s.toml").returncode == 2
    assert cli("store", "repair", "--yes").returncode == 0
    assert cli("store", "check").returncode == 0
    assert "without a recorded source" in cli("plan", "s.toml").stdout


def test_a_source_of_another_digest_is_refused(project) -> None:
    (file,) = Path("results/_sources").iterdir()
    other = file.with_name("0" * 16 + file.name[16:])
    file.rename(other)
    with pytest.raises(Exception, match="torn or foreign"):
        read_source(Store().storage, "0" * 16)


def test_two_cells_are_compared_in_settings_metrics_and_code(project, cli, write) -> None:
    project("data.py", "return 1", "return 2")
    write("s.toml", SWEEP.format("").replace("rate = 2", "rate = 5"))
    assert cli("launch", "s.toml", "--inline").returncode == 0
    project("data.py", "SCALE = 3", "SCALE = 4")
    write("s.toml", SWEEP.format("").replace("rate = 2", "rate = 7"))
    assert cli("launch", "s.toml", "--inline").returncode == 0
    ids = Store().sql("SELECT cell_id FROM cells WHERE seed = 1 ORDER BY rate")["cell_id"].to_list()
    assert cli("diff", ids[0], ids[0]).stdout == "the cells are the same\n"
    comment = cli("diff", ids[0], ids[1])
    assert comment.returncode == 1
    assert "settings: rate: 2 | 5\nmetrics: value: 6.0 | 15.0\ncode: other files, the same meaning\n" in comment.stdout
    code = cli("diff", ids[1], ids[2]).stdout
    assert f"code:\n  {CHAIN}\n" in code
    assert "    -SCALE = 3\n    +SCALE = 4\n" in code
    assert json.loads(cli("diff", ids[1], ids[2], "--json").stdout)["settings"] == {"rate": [5, 7]}
    wrong = "error: no cell or store zzz: give two stores, or two cells of --store\n"
    assert [cli("diff", *names).stderr for names in ((ids[0], "zzz"), ("zzz", "results"))] == [wrong, wrong]
    assert cli("diff", ids[0], "results").stderr.startswith(f"error: no store {ids[0]}: ")


PROGRAM = """
from raysweep import launch
def helper(x):
    return x{}
def run(cell, context):
    return {{"value": helper(cell.seed)}}
if __name__ == "__main__":
    result = launch(run, seeds=[1, 2], inline=True)
    print(result.ran, result.changed)
"""


def test_two_versions_of_a_function_of_a_program_are_told_apart_by_meaning(folder: Path, write) -> None:
    outcomes = []
    for edit in ("", "  # a comment", " + 1"):
        write("program.py", PROGRAM.format(edit))
        command = [sys.executable, "program.py"]
        ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
        outcomes.append(ended.stdout.split()[-2:])
    assert outcomes == [["2", "0"], ["0", "0"], ["0", "2"]]


def test_commands_for_a_function_of_a_program_are_ones_that_run_it(folder: Path, cli, cli_process, write) -> None:
    write("program.py", PROGRAM.format(" / (x - 1)"))
    subprocess.run([sys.executable, "program.py"], cwd=folder, env=environment(), capture_output=True, check=True)
    steps = "next: run the program or the notebook again; launch(..., resume=True) retries failed cells"
    assert cli("status").stdout.endswith(f"1 of 2 cells done; {steps}\n")
    (cell,) = Store().sql("SELECT cell_id FROM cells WHERE seed = 2")["cell_id"]
    text = cli("show", cell, "--reproduce").stdout
    command = text.partition("# only this cell, with the program as it is now: raysweep ")[2].splitlines()[0]
    again = cli_process(*shlex.split(command))  # a separate process, since `debug` replaces the module `__main__`
    assert "the recorded metrics are the same\n" in again.stdout


def test_a_report_names_variants_of_code_that_means_something_else(project, cli, write) -> None:
    warning = "different code of one workload version"
    project("data.py", "return 1", "return 2")
    assert cli("launch", "s.toml", "--inline", "--seeds", "2").returncode == 0
    assert Store().sql("SELECT count(DISTINCT source_digest) AS n FROM cells")["n"][0] == 2
    assert cli("report", "-o", "r.html", "--markdown", "first.md").returncode == 0
    assert warning not in Path("first.md").read_text()
    project("data.py", "SCALE = 3", "SCALE = 4")
    assert cli("launch", "s.toml", "--inline", "--seeds", "3").returncode == 0
    assert cli("report", "-o", "r.html", "--markdown", "second.md").returncode == 0
    assert warning in Path("second.md").read_text()


def test_two_sweeps_with_other_inputs_are_launched_apart(project, cli, write) -> None:
    for name in ("one", "two"):
        write(f"{name}.txt", name)
        write(f"{name}.toml", SWEEP.format(f'inputs = ["{name}.txt"]').replace('name = "s"', f'name = "{name}"'))
    refused = cli("plan", "one.toml", "two.toml")
    assert (refused.returncode, "with other inputs; launch or resume them separately" in refused.stderr) == (2, True)
