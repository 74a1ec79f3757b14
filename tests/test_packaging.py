"""What would be published works without the repository, and says which extra brings what it leaves out."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from email.message import Message
from importlib import metadata
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import EXTRAS, InputError, missing_extra
from tests.conftest import ROOT, SWEEP, TINY, environment

DISTRIBUTIONS = {"sklearn": "scikit-learn"}
"""Of modules whose distribution has another name."""


def requirements() -> list[str]:
    declared: Message = metadata.metadata("raysweep")  # type: ignore[assignment]
    return [str(line) for line in declared.get_all("Requires-Dist", [])]


def test_each_extra_brings_the_modules_that_it_is_named_for() -> None:
    lines = requirements()
    for module, extra in EXTRAS.items():
        name = "ray[default]" if module == "aiohttp" else DISTRIBUTIONS.get(module, module)
        brings = f'extra == "{extra}"'
        assert [line for line in lines if line.startswith(name) and brings in line.replace("'", '"')], module


def test_the_core_leaves_out_what_the_reproduction_alone_needs() -> None:
    core = {line.split(">")[0].split("[")[0] for line in requirements() if "extra ==" not in line}
    assert core >= {"ray", "polars", "pyarrow", "duckdb", "typer"}
    large = {"numba", "scikit-learn", "h5py", "matplotlib", "pooch", "vl-convert-python", "altair", "obstore", "torch"}
    assert not core & large


def test_a_missing_module_of_no_extra_is_not_explained_away() -> None:
    assert missing_extra(ModuleNotFoundError("gone", name="their_module")) is None
    explained = missing_extra(ModuleNotFoundError("gone", name="sklearn.linear_model"))
    assert isinstance(explained, InputError)
    assert "raysweep[paper]" in str(explained)


WITHOUT = """
import sys
from importlib.machinery import PathFinder

find = PathFinder.find_spec
PathFinder.find_spec = lambda name, *rest: None if name in {modules!r} else find(name, *rest)
sys.argv = ["raysweep", *sys.argv[1:]]
from raysweep.orchestrator.cli.app import main
main()
"""


@pytest.fixture
def without(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command where some modules are not installed."""

    def run(modules: set[str], *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT.format(modules=modules), *arguments]
        return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=90)

    return run


@pytest.mark.parametrize(
    ("module", "arguments", "extra"),
    [
        ("obstore", ["status", "--store", "s3://bucket/prefix"], "objects"),
        ("matplotlib", ["figure", "step"], "paper"),
        ("pooch", ["data", "fetch", "cifar10"], "paper"),
    ],
)
def test_a_command_that_needs_an_extra_names_it_in_one_line(
    module: str, arguments: list[str], extra: str, without, cli, write
) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    cli("launch", "tiny.toml", "--inline")
    ended = without({module}, *arguments)
    assert ended.returncode == 2, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert module in line
    assert f"raysweep[{extra}]" in line


def test_what_needs_no_extra_runs_without_any(without, write) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    for words in (
        ["launch", "tiny.toml", "--inline"],
        ["query", "SELECT avg(value) FROM cells"],
        ["report"],
        ["status"],
    ):
        ended = without(set(EXTRAS), *words)
        assert ended.returncode == 0, ended.stderr
    ended = without({"numba"}, "launch", "paper/e1-sine", "--inline", "--store", "other")
    assert ended.returncode == 2
    assert "raysweep[paper]" in ended.stderr


@pytest.mark.slow
def test_the_wheel_runs_a_sweep_in_a_fresh_environment(tmp_path: Path) -> None:
    """Builds what `make wheel` builds, installs it with its core dependencies alone, and launches on Ray."""

    def run(*command: str | Path, cwd: Path = tmp_path) -> str:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RAYSWEEP"))}
        ended = subprocess.run(
            [str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=900
        )
        assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
        return ended.stdout

    run(sys.executable, "-m", "build", "--outdir", tmp_path / "dist", ROOT)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info" not in name} == {"raysweep"}
    run(sys.executable, "-m", "venv", tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt", wheel)
    project = tmp_path / "project"
    project.mkdir()
    (project / "tiny.py").write_text("def run(cell, context):\n    return {'value': cell.seed * 2.0}\n")
    (project / "tiny.toml").write_text(SWEEP)
    raysweep = tmp_path / "env" / "bin" / "raysweep"
    assert "8 of 8 cells done" in run(raysweep, "launch", "tiny.toml", cwd=project)
    assert "3.0" in run(raysweep, "query", "SELECT avg(value) AS mean FROM cells", cwd=project)
    run(raysweep, "report", "-o", "report.html", cwd=project)
    assert "vegaEmbed" in (project / "report.html").read_text(encoding="utf-8")
    where = run(
        python, "-c", "import raysweep, raysweep.orchestrator as o; print(raysweep.__file__, o.__file__)", cwd=project
    )
    assert str(ROOT) not in where
