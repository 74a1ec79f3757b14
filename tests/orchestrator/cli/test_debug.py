"""`debug`: a done or failed cell runs again in this process, and no file of the store changes."""

from __future__ import annotations

import io
import shutil
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.cli.cells import debug
from raysweep.orchestrator.errors import InputError

WORKLOAD = """
    def run(cell, context):
        print("seed", cell.seed, cell.config["rate"])
        assert context.checkpoint.load() is None
        context.checkpoint.save(b"state")
        assert context.checkpoint.load() == b"state"
        if cell.seed:
            raise ValueError("unlucky")
        context.array("curve", [1.0, 2.0, 3.0], step=10, stride=5)
        return {"loss": 0.25}
"""
SWEEP = 'name="odd"\nworkload="odd:run"\nseeds="0..1"\n[[grid]]\nmethod="a"\nrate=0.5\n'


@pytest.fixture
def ids(write: Callable[..., Path]) -> dict[int, str]:
    """Seed -> id of the cells of a store; seed 0 is done, seed 1 failed."""
    write("odd.py", WORKLOAD)
    launch(Sweep.load(write("odd.toml", SWEEP)), inline=True)
    return dict(Store().sql("SELECT seed, cell_id FROM cells").iter_rows())


def files() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path("results").rglob("*")) if path.is_file()}


def test_a_done_cell_prints_metrics_and_arrays(ids: dict[int, str], capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    debug(ids[0][:6])
    output = capsys.readouterr().out
    assert output.splitlines()[:-2] == [
        f"running odd/a/seed=0#{ids[0][:8]} from {Path('odd.py').resolve()} in this process; nothing is recorded",
        "seed 0 0.5",
        "metrics:",
        "  loss = 0.25",
        "arrays:",
        "  curve: 3 of float32, steps 10 to 20",
    ]
    assert output.splitlines()[-1] == "the recorded metrics are the same"
    assert files() == before


def test_a_failed_cell_shows_its_own_frames_and_the_debugger_where_it_raised(
    ids: dict[int, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files()
    monkeypatch.setattr("sys.stdin", io.StringIO("p cell.seed + 41\nq\n"))
    with pytest.raises(typer.Exit) as ended:
        debug(ids[1], pdb=True)
    assert ended.value.exit_code == 1
    output = capsys.readouterr().out
    trace = output[output.index("Traceback") : output.index("ValueError: unlucky\n")]
    assert trace.count("File ") == 1
    assert "odd.py" in trace
    assert "(Pdb) 42" in output
    assert files() == before


def test_an_interrupt_shows_where_a_cell_hangs(
    ids: dict[int, str], capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    write("odd.py", "def wait():\n    raise KeyboardInterrupt\ndef run(cell, context):\n    wait()\n")
    with pytest.raises(typer.Exit) as ended:
        debug(ids[0])
    assert ended.value.exit_code == 130
    assert "in wait\n    raise KeyboardInterrupt" in capsys.readouterr().out


def test_metrics_that_differ_from_the_recorded_ones_are_reported(
    ids: dict[int, str], capsys: pytest.CaptureFixture[str], write: Callable[..., Path]
) -> None:
    write("odd.py", "def run(cell, context):\n    return {'loss': 0.5}\n")
    debug(ids[0])
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert "differ (with other code)" in last_line
    assert "loss = 0.25; 0 are the same" in last_line
    debug(ids[1])
    assert "no recorded result" in capsys.readouterr().out.splitlines()[-1]


def test_a_copied_project_is_warned_of_code_from_elsewhere(
    ids: dict[int, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from raysweep.orchestrator.launch.request import from_store

    here, copy = Path.cwd(), tmp_path / "copy"
    shutil.copytree(here, copy)
    monkeypatch.chdir(copy)
    (warning,) = from_store(Store(), None, trust=True).warnings
    assert warning.startswith(f"odd:run runs from {here}, where it was launched, not from {copy}; ")
    debug(ids[0], trust_store=True)
    assert f"odd:run runs from {here}" in capsys.readouterr().err


def test_another_version_is_a_warning(
    ids: dict[int, str], write: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write("odd.py", f"VERSION = 2\n{textwrap.dedent(WORKLOAD)}")
    debug(ids[0])
    warning = capsys.readouterr().err
    assert "version '1' of odd:run" in warning
    assert "'2'" in warning


def test_a_strangers_store_runs_nothing_unless_it_is_trusted(
    ids: dict[int, str], monkeypatch: pytest.MonkeyPatch, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "another user"))
    with pytest.raises(InputError, match="--trust-store"):
        debug(ids[0])
    assert "seed" not in capsys.readouterr().out
    debug(ids[0], trust_store=True)
    assert "loss = 0.25" in capsys.readouterr().out


def test_an_unknown_cell_is_refused(ids: dict[int, str]) -> None:
    with pytest.raises(InputError, match="no such cell"):
        debug("zz")


def test_progress_is_printed_now_and_then(
    ids: dict[int, str],
    write: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write(
        "odd.py",
        """
        def run(cell, context):
            context.progress(0.25)
            context.progress(0.5)
            return {"loss": 0.25}
        """,
    )
    debug(ids[0])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("raysweep.orchestrator.cli.cells.PROGRESS_S", 0.0)
    debug(ids[0])
    assert capsys.readouterr().err == "25%\n50%\n"
