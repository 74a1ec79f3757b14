"""A submitted launch: its files and command on the head, and input that is refused before it is sent."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import typer

from raysweep.orchestrator.cli import submit
from raysweep.orchestrator.cli.app import app
from raysweep.orchestrator.cli.options import typed_options
from raysweep.orchestrator.cli.submit import check_paths, job
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.ray.jobs import Jobs
from raysweep.orchestrator.launch.provenance import Commit, shipped, to_ship
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.spec import load_all
from tests.conftest import ROOT

URL = "http://127.0.0.1:1"


@pytest.fixture
def ready(write, folder: Path):
    """Two sweeps, each in a folder with its workload and files that are not shipped, and a bundled one."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    for name in ("one", "two"):
        write(f"{name}/cells_{name}.py", f"NAME = {name!r}\ndef run(cell, context):\n    return {{}}\n")
        write(f"{name}/helper.py", "")
        write(f"{name}/s.toml", f'name="{name}"\nworkload="cells_{name}:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    write("one/secret.txt", "at home")
    (folder / "one" / "results").mkdir()
    write("one/results/old.py", "")
    return from_sweeps(load_all(["one/s.toml", "two/s.toml", "paper/e1-sine"]), Store("none"))


def test_each_sweep_is_shipped_with_the_modules_of_its_own_folder(ready) -> None:
    with job("launch", ready, ["--store=/s", "--where=k < 3"]) as shipped_job:
        files = {p.relative_to(shipped_job.folder).as_posix() for p in shipped_job.folder.rglob("*") if p.is_file()}
        assert {f for f in files if f.startswith("sweeps/")} == {
            f"sweeps/{n}/{f}"
            for n, name in enumerate(("one", "two"))
            for f in ("s.toml", "helper.py", f"cells_{name}.py")
        }
        assert {f"raysweep/{f}" for f in ("orchestrator/cli/app.py", "workloads/paper/e1-sine.toml")} <= files
        assert not [f for f in files if "__pycache__" in f]
        assert shlex.split(shipped_job.command) == [
            *("python", "-m", "raysweep", "launch", "sweeps/0/s.toml", "sweeps/1/s.toml", "paper/e1-sine"),
            *("--address", "auto", "--yes", "--store=/s", "--where=k < 3"),
        ]
        folder = shipped_job.folder
    assert not folder.exists()


def test_a_bare_resume_ships_the_modules_that_lie_here(ready, write) -> None:
    write("mine.py", "")
    with job("resume", None, []) as shipped_job:
        assert (shipped_job.folder / "mine.py").is_file()
        assert not (shipped_job.folder / "one").exists()  # no package
        assert shipped_job.command == "python -m raysweep resume --address auto --yes"


def test_a_bare_resume_ships_the_files_of_the_programs_of_this_folder(folder: Path, write, capsys) -> None:
    (folder / "data").mkdir()
    for name in ("data/in.csv", "conf.yaml", "train.py", "secret.txt", "sweeps.txt"):
        write(name, "x = 1\n")
    write("s.toml", 'script = "train.py"\nseeds = [0]\nfiles = ["data", "conf.yaml"]\nconfig = {conf = "conf.yaml"}\n')
    write("old.toml", 'seeds = [0]\nscript = "gone.py"\n')
    write("pyproject.toml", "[project]\nname = 'x'\n")
    with job("resume", None, []) as shipped_job:
        files = {p.relative_to(shipped_job.folder).as_posix() for p in shipped_job.folder.rglob("*") if p.is_file()}
    assert {f for f in files if not f.startswith("raysweep/")} == {"train.py", "data/in.csv", "conf.yaml"}
    warning = capsys.readouterr().err
    assert "old.toml: the files of its program are not shipped: no file 'gone.py'" in warning
    assert "pyproject" not in warning


def test_too_much_is_refused_by_name(ready, monkeypatch, write) -> None:
    monkeypatch.setattr(submit, "MAX_MIB", 0.5)
    write("two/large.py", "#" * 2**20)
    with (
        pytest.raises(InputError, match=r"1 MiB of Python files .* 0\.5 MiB; the largest: sweeps/1/large\.py"),
        job("launch", ready, []),
    ):
        pass


def test_the_commit_goes_along(monkeypatch) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no repository")
    prepared = from_sweeps(load_all(["paper/e1-sine"]), Store("none"))
    with job("launch", prepared, []) as shipped_job:
        for name, value in shipped_job.environment.items():
            monkeypatch.setenv(name, value)
    ((digest, commit),) = shipped().items()
    assert digest == prepared.workloads["online_rnn"].source_digest
    assert len(commit.commit) == 40
    assert to_ship({}) == {"RAYSWEEP_COMMITS": json.dumps({})}
    assert shipped() == {digest: Commit(*commit)}


def context_of(*words: str) -> typer.Context:
    command = typer.main.get_command(app)
    context = command.make_context("raysweep", list(words))
    name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
    return command.make_context(name, rest, parent=context)


def test_typed_options_are_passed_on(monkeypatch) -> None:
    monkeypatch.setenv("RAYSWEEP_STORE", "/s")
    typed = (
        *("launch", "a.toml", "--submit", URL, "--follow", "--yes", "--set", "a=1", "--set", 'b="x y"'),
        *("--where", "k < 3", "--retries", "2", "--timeout", "0.5", "--json", "--device", "auto", "--rerun-changed"),
    )
    assert typed_options(context_of(*typed), {"sweeps", "submit", "follow", "yes"}) == [
        *("--rerun-changed", "--store", "/s", "--where", "k < 3", "--set", "a=1", "--set", 'b="x y"'),
        *("--device", "auto", "--timeout", "0.5", "--retries", "2", "--json"),
    ]


def test_relative_paths_are_refused() -> None:
    for store in ("results", "./x", "~/x"):
        with pytest.raises(InputError, match=f"--store {store}: relative path"):
            check_paths(store, None)
    check_paths("/mnt/sweeps", None)
    check_paths("s3://bucket/sweeps", "/data")
    with pytest.raises(InputError, match="--data-dir data: relative path"):
        check_paths("/mnt/sweeps", "data")


@pytest.mark.parametrize(
    "address", ["127.0.0.1:8265", "ray://head:10001", "http://", "http://h:x", "file:///etc/passwd"]
)
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match="expected http://HEAD:8265"):
        Jobs(address)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--address", "auto", "--store", "/s"], "--address or --inline"),
        (["--inline", "--store", "/s"], "--address or --inline"),
        ([], "--store results: relative path"),
        (
            ["--store", "/s", "--seeds", "0..9999"],
            "more than 10,000 need --yes",
        ),
        (["--store", "/s", "--seeds", "0..9999", "--yes"], "nothing answers there"),
        (["--store", "/s", "--where", "kk < 3"], "kk"),
    ],
)
def test_wrong_input_is_refused_before_anything_is_sent(words, message, folder: Path, monkeypatch, capsys) -> None:
    from raysweep.orchestrator.cli import app as cli

    monkeypatch.setattr("sys.argv", ["raysweep", "launch", "paper/e1-sine", "--submit", URL, *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
    assert list(folder.iterdir()) == []
