"""The code that is recorded with a row is the code that ran, also in a process that outlives an edit of it."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.launch import Launch
from raysweep.orchestrator.launch.request import Options, from_sweeps
from raysweep.orchestrator.sweep.loading import imports
from raysweep.orchestrator.sweep.loading.workload import load_workload
from tests.conftest import environment

SWEEP = 'name="s"\nworkload="work:run"\nseeds="0..2"\n[[grid]]\nmethod="m"\n'
WORK = """
from helper import SCALE
METHODS = ["m"]
def run(cell, context):
    from late import SHIFT
    return {"value": SCALE * cell.seed + SHIFT}
"""
IN_PROCESSES = pytest.param(False, id="in processes")


@pytest.fixture
def sweep(write) -> Sweep:
    write("work.py", WORK)
    write("helper.py", "SCALE = 1\n")
    write("late.py", "SHIFT = 0\n")
    return Sweep.load(write("s.toml", SWEEP))


def values() -> dict[int, float]:
    return dict(Store().sql("SELECT seed, value FROM cells WHERE status = 'done'").iter_rows())


def states(sweep: Sweep) -> dict[str, int]:
    store = Store()
    counts = Launch(from_sweeps([sweep], store), store, Options()).current_plan().counts()
    return {state: count for state, count in counts.items() if count}


@pytest.mark.parametrize("inline", [pytest.param(True, id="inline"), IN_PROCESSES])
@pytest.mark.parametrize(("file", "text"), [
    ("helper.py", "SCALE = 5\n"),  # within the second and of the same length: bytecode caches do not see it
    ("late.py", "SHIFT = 9\n"),
    ("work.py", WORK.replace("SCALE *", "SCALE * 5 *")),
])  # fmt: skip
def test_an_edit_between_two_launches_of_a_process_runs_and_counts_as_a_change(
    sweep: Sweep, write, inline: bool, file: str, text: str
) -> None:
    launch(sweep, inline=inline)
    write(file, text)
    wider = sweep.with_seeds("0..4")
    result = launch(wider, inline=inline)
    new = (lambda seed: seed + 9.0) if file == "late.py" else (lambda seed: seed * 5.0)
    assert values() == {0: 0.0, 1: 1.0, 2: 2.0, 3: new(3), 4: new(4)}
    assert (result.ran, result.changed) == (2, 3)
    assert states(wider) == {"changed": 3, "done": 2}
    assert Store().sql("SELECT count(DISTINCT source_digest) FROM cells").item() == 2


def test_declarations_are_those_of_the_present_file(sweep: Sweep, write) -> None:
    launch(sweep, inline=True)
    write("work.py", WORK.replace('["m"]', '["other"]'))
    with pytest.raises(InputError, match="unknown method 'm'"):
        launch(sweep, inline=True)


def test_modules_that_the_user_imported_are_left_alone(
    sweep: Sweep, folder: Path, write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    work = importlib.import_module("work")
    write("helper.py", "SCALE = 5\n")
    launch(sweep, inline=True)
    assert values()[2] == 10.0
    assert sys.modules["work"] is work
    assert work.SCALE == 1
    write("work.py", WORK.replace("SCALE *", "2 * SCALE *") + "X = 1\n")
    assert importlib.reload(work).X == 1
    assert launch(sweep, inline=True).changed == 3


def test_an_edit_while_cells_run_waits_for_the_next_launch(sweep: Sweep, write) -> None:
    edit = "    Path('helper.py').write_text('SCALE = 5')\n"
    write("work.py", f"from pathlib import Path\n{WORK.replace('    from late', edit + '    from late')}")
    launch(sweep, inline=True)
    assert values() == {0: 0.0, 1: 1.0, 2: 2.0}
    assert states(sweep) == {"changed": 3}


def test_the_bytes_that_are_hashed_are_imported(sweep: Sweep, write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is edited between the two, by an editor or another process."""
    read = imports.read_code

    def edited(*arguments):
        code = read(*arguments)
        write("helper.py", "SCALE = 5\n")
        return code

    monkeypatch.setattr("raysweep.orchestrator.sweep.loading.workload.read_code", edited)
    workload = load_workload("work:run", (str(Path.cwd()),))
    assert workload.run.__globals__["SCALE"] == 1
    monkeypatch.undo()
    assert load_workload("work:run", (str(Path.cwd()),)).source_digest != workload.source_digest


def test_an_installed_package_that_changed_is_refused(folder: Path, write, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pip has replaced under a running process cannot be imported twice, as it may be compiled."""
    (folder / "site-packages").mkdir()
    module = write("site-packages/installed.py", "def run(cell, context):\n    return {}\n")
    monkeypatch.syspath_prepend(module.parent)
    load_workload("installed:run")
    module.write_text("def run(cell, context):\n    return {'x': 1.0}\n")
    with pytest.raises(InputError, match=r"installed.py has changed since this process imported it; restart"):
        load_workload("installed:run")


def test_a_module_that_launches_itself_is_told_so(write) -> None:
    write("itself.py", """
        from raysweep import Sweep, launch
        def run(cell, context):
            return {}
        launch(Sweep.from_text('name="s"\\nworkload="itself:run"\\nseeds=[0]\\n[[grid]]\\nmethod="m"'), inline=True)
    """)  # fmt: skip
    with pytest.raises(InputError, match="starts a launch while it is imported; put that under"):
        load_workload("itself:run", (str(Path.cwd()),))


@pytest.mark.slow
def test_a_workload_that_loads_on_no_worker_stops_the_launch_and_charges_no_cell(write, cli) -> None:
    write("work.py", "import sys\nif 'default_worker' in sys.argv[0]:\n    import einops_missing\n" + WORK)
    write("helper.py", "SCALE = 1\n")
    write("s.toml", SWEEP)
    ended = cli("launch", "s.toml", "--address", "local")
    assert ended.returncode == 1
    assert "no node is left that can run work:run: workload 'work:run' fails to import" in ended.stdout + ended.stderr
    assert "einops_missing" in ended.stdout + ended.stderr
    assert Store().sql("SELECT count(*) FROM attempts").item() == 0


def notebook(executor: str, near: Path) -> list[dict[str, float]]:
    """Run the cells of `kernel.py` beside a helper module; what each launch printed."""
    near.write_text("SHIFT = 1\n")
    command = [sys.executable, "-m", "tests.orchestrator.launch.kernel", executor]
    ended = subprocess.run(command, cwd=near.parent, env=environment(), capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


@pytest.mark.parametrize("executor", ["inline", pytest.param("processes", marks=pytest.mark.slow)])
def test_a_function_of_a_notebook_runs_and_its_versions_are_told_apart(folder: Path, executor: str) -> None:
    """An edit of a function that it calls, of a global and of a class counts; that of something else does not."""
    assert notebook(executor, folder / "near.py") == [
        {"ran": 3, "changed": 0, "last": (1 + 2.0 * 2) * 0.5},
        {"ran": 1, "changed": 3, "last": (1 + 2 * 2.0 * 3) * 0.5},
        {"ran": 1, "changed": 4, "last": (1 + 2 * 3.0 * 4) * 0.5},
        {"ran": 1, "changed": 4, "last": (1 + 2 * 3.0 * 5) * 0.5},
        {"ran": 1, "changed": 6, "last": (1 + 2 * 3.0 * 6) * 0.5},
    ]


MAIN_PROGRAM = """
import sys, threading
from pathlib import Path
import near
from raysweep import launch
LOCK = threading.Lock()
def locked(cell, context):
    with LOCK:
        return {"value": 1.0}
def run(cell, context):
    return {"value": near.SHIFT}
def error(function, **options):
    try:
        launch(function, inline=True, **options)
    except Exception as error:
        print(type(error).__name__, error)
    else:
        print("ran")
if __name__ == "__main__":
    error(locked)
    error(lambda cell, context: {})
    error(run, grid={"rate": float, "size": [1]})
    error(run)
    Path("near.py").write_text("SHIFT = 22")
    error(run)
    Path(__file__).write_text(Path(__file__).read_text().replace("near.SHIFT", "3.0"))
    error(run)
"""


def test_a_function_whose_versions_cannot_be_told_apart_is_refused(folder: Path, write) -> None:
    write("near.py", "SHIFT = 1")
    program = write("program.py", MAIN_PROGRAM)
    command = [sys.executable, str(program)]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "InputError", "InputError", "InputError", "ran", "InputError", "InputError",
    ]  # fmt: skip
    assert "uses the global LOCK, of type lock, whose versions cannot be told apart" in lines[0]
    assert "<lambda>: not a function at the top level" in lines[1]
    assert "grid: rate: <class 'float'> is neither a number, a text" in lines[2]
    assert "uses near.py, which has changed since this process imported it; run importlib.reload(near)" in lines[4]
    assert "uses the global run, whose file has changed since this process began" in lines[5]


def test_a_recorded_function_of_a_notebook_is_not_resumed_elsewhere(folder: Path, write, cli) -> None:
    write("near.py", "SHIFT = 1")
    program = write("program.py", MAIN_PROGRAM.split("if __name__")[0] + "error(run, seeds=range(2))\n")
    subprocess.run([sys.executable, str(program)], cwd=folder, env=environment(), check=True, capture_output=True)
    ended = cli("resume")
    assert ended.returncode == 2
    assert (
        "'__main__:run': the program that runs now has no function 'run'; launch it from the notebook" in ended.stderr
    )


OTHER_PROGRAM = """
import beside
from raysweep import Store, launch
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.sweep.from_function import function_sweep
def run(cell, context):
    return {"loss": beside.double(cell.config["rate"])}
if __name__ == "__main__":
    for function in (run, beside.run):
        launch(function, grid={"rate": 0.5}, inline=True, name=function.__module__.strip("_"))
        request = from_sweeps([function_sweep(function, {"rate": 0.5}, [0])], Store("none"))
        print(sorted(path.name for files in request.own_files.values() for path in files))
"""
BESIDE = """
def double(x):
    return 2 * x
def run(cell, context):
    return {"loss": double(cell.config["rate"])}
"""


def test_functions_of_a_program_in_another_folder_are_shipped_and_debugged(folder: Path, write, cli_process) -> None:
    (folder / "inner").mkdir()
    write("inner/program.py", OTHER_PROGRAM)
    write("inner/beside.py", BESIDE)
    command = [sys.executable, "inner/program.py"]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=True)
    assert ended.stdout == "['beside.py']\n['beside.py']\n"
    ids = dict(Store().sql("SELECT sweep, cell_id FROM cells").iter_rows())
    for name in ("main", "beside"):
        debugged = cli_process("debug", ids[name])
        assert debugged.stdout.splitlines()[-1] == "the recorded metrics are the same", debugged.stderr
    write("inner/program.py", OTHER_PROGRAM.replace('__name__ == "__main__"', "run"))
    refused = cli_process("debug", ids["main"])
    assert refused.returncode == 2
    assert "program.py: starts a launch while it is run for its functions; put that under if __name__" in refused.stderr
    (folder / "inner/program.py").unlink()
    gone = cli_process("debug", ids["main"])
    assert (gone.returncode, "debug it in the folder of its program" in gone.stderr) == (2, True)
