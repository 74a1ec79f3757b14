"""A workload's files and their digest: its helpers count, other files do not, and every process finds the same.

Of a bundled workload every module that a cell loads below `raysweep.workloads` counts, but for one: the package's own
`__init__.py`, which holds only the registry of workloads, and would change the digests of all when one is added.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raysweep import Store
from raysweep.orchestrator.launch import provenance
from raysweep.orchestrator.launch.provenance import commits_of
from raysweep.orchestrator.sweep.loading.imports import read_code
from raysweep.orchestrator.sweep.loading.source import imported, reached, source_files
from raysweep.orchestrator.sweep.loading.workload import load_workload
from tests.conftest import ROOT, environment
from tests.workloads.vit.vit_cells import SMALL, write_images

RUN = "def run(cell, context):\n    return {'value': 1.0}\n"
SWEEP = 'name="s"\nworkload="w:run"\nseeds=[0, 1]\n[[grid]]\nmethod="m"\n'


@pytest.fixture
def tree(folder: Path) -> Callable[..., None]:
    """Write files of the folder, their folders too."""

    def put(files: dict[str, str]) -> None:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")

    return put


def digest(module: str = "w") -> str:
    return read_code(module, str(Path.cwd())).digest


@pytest.mark.parametrize("options", [["--inline"], []], ids=["inline", "in processes"])
def test_a_plan_shows_that_a_helper_has_changed(folder: Path, tree, cli, options: list[str]) -> None:
    """In processes the digest that is recorded is of the copy that was staged, and has to be the same."""
    run = "def run(cell, context):\n    return {'value': physics.G}\n"
    tree({"w.py": "import physics, data.more\n" + run, "physics.py": "from laws import gravity\nG = 9.81\n"})
    tree({"laws/gravity.py": "", "data/more.py": "", "s.toml": SWEEP})  # in folders that are no packages
    assert cli("launch", "s.toml", *options).returncode == 0
    assert "2  done" in cli("plan", "s.toml").stdout
    tree({"unrelated.py": "x = 1\n", "notes.txt": "x"})
    assert "2  done" in cli("plan", "s.toml").stdout
    tree({"physics.py": "G = 1.62\n"})
    assert "2  changed" in cli("plan", "s.toml").stdout
    assert "\n2 of the done cells ran different code" in cli("launch", "s.toml", *options).stdout
    again = cli("launch", "s.toml", "--inline", "--rerun-changed")
    assert "2 of 2 cells done (2 now" in again.stdout
    assert "different code" not in again.stdout
    assert "2  done" in cli("plan", "s.toml").stdout


def test_a_workload_without_helpers_keeps_the_digest_that_it_had(folder: Path, tree) -> None:
    tree({"w.py": "import os, numpy.linalg, missing\nfrom raysweep.workloads.interface import AddedLater\n" + RUN})
    tree({"workloads/interface.py": "", "other.py": ""})
    alone = hashlib.sha256(b"w.py\0" + Path("w.py").read_bytes() + b"\0").hexdigest()[:16]
    assert digest() == alone
    tree({"pkg/__init__.py": "", "pkg/run.py": RUN, "pkg/unused.py": "x = 1\n"})
    whole = hashlib.sha256()
    for name in ("__init__.py", "run.py", "unused.py"):
        whole.update(name.encode() + b"\0" + Path("pkg", name).read_bytes() + b"\0")
    assert digest("pkg.run") == whole.hexdigest()[:16]
    tree({"pkg/.ipynb_checkpoints/run-checkpoint.py": "", "pkg/results/old.py": ""})  # are not shipped either
    assert digest("pkg.run") == whole.hexdigest()[:16]


CHAINS = {
    "within a function": ({"w.py": "def run(cell, context):\n    import deep\n", "deep.py": "1"}, "deep.py"),
    "of a helper's helper": ({"w.py": "import a", "a.py": "from b import x", "b.py": "x = 1"}, "b.py"),
    "in a circle": ({"w.py": "import a", "a.py": "import b", "b.py": "import a, w"}, "b.py"),
    "of a package's module": ({"w.py": "from p import a", "p/__init__.py": "", "p/a.py": "1"}, "p/a.py"),
    "around a module": ({"w.py": "import p.q.a", "p/__init__.py": "", "p/q/__init__.py": "", "p/q/a.py": ""},
                        "p/__init__.py"),
    "relative": ({"w.py": "import p.a", "p/__init__.py": "", "p/a.py": "from .b import x", "p/b.py": "1"}, "p/b.py"),
    "relative to the package above": (
        {"w.py": "import p.q.a", "p/__init__.py": "", "p/q/__init__.py": "", "p/q/a.py": "from ..b import x",
         "p/b.py": "x = 1"}, "p/b.py"),
    "of names from the package itself": (
        {"w.py": "import p.a", "p/__init__.py": "", "p/a.py": "from . import b as other", "p/b.py": "1"}, "p/b.py"),
    "in a folder that is no package": ({"w.py": "from lib.a import x", "lib/a.py": "x = 1"}, "lib/a.py"),
    "of all names": ({"w.py": "from a import *", "a.py": "x = 1"}, "a.py"),
    "only for types": ({"w.py": "if False:\n    import a", "a.py": "x = 1"}, "a.py"),
    "which is not Python": ({"w.py": "try:\n    import a\nexcept SyntaxError:\n    pass", "a.py": "def ("}, "a.py"),
    "which is not text": ({"w.py": "def run(): import a", "a.py": "\x00"}, "a.py"),
}  # fmt: skip


@pytest.mark.parametrize("chain", CHAINS)
def test_a_helper_counts(folder: Path, tree, chain: str) -> None:
    files, changed = CHAINS[chain]
    tree({**files, "unrelated.py": "", "p/unrelated.py": "", "lib/unrelated.py": ""})
    before = digest()
    tree({"unrelated.py": "x = 2", "p/unrelated.py": "x = 2", "lib/unrelated.py": "x = 2"})
    assert digest() == before
    tree({changed: files[changed] + "\n# changed"})
    assert digest() != before


def test_what_a_package_imports_from_beside_it_counts(folder: Path, tree, monkeypatch: pytest.MonkeyPatch) -> None:
    tree({"pkg/__init__.py": "", "pkg/run.py": "from . import more\n" + RUN, "pkg/more.py": "import beside"})
    tree({"beside.py": "x = 1"})
    assert [name for name, _ in source_files("pkg.run", str(folder / "pkg/run.py"), str(folder))] == [
        "__init__.py", "more.py", "run.py", "beside.py",
    ]  # fmt: skip
    before = digest("pkg.run")
    tree({"beside.py": "x = 2"})
    assert digest("pkg.run") != before
    monkeypatch.syspath_prepend(folder)
    assert read_code("pkg.run", None).digest not in (before, digest("pkg.run"))  # installed: no folder


def test_a_module_is_taken_as_python_takes_it(folder: Path, tree) -> None:
    tree({"w.py": "import a", "a/__init__.py": "", "a.py": "", "a/c.py": ""})
    assert reached("w", folder) == [Path("a/__init__.py"), Path("w.py")]
    assert imported(b"import a.b, c as d\nfrom e import f, g as h\nfrom . import i\nfrom ..j import *", ("p", "q")) == {
        "a.b", "c", "e", "e.f", "e.g", "p.q", "p.q.i", "p.j",
    }  # fmt: skip


def test_links_are_followed_and_rings_of_them_end(folder: Path, tree, tmp_path: Path) -> None:
    (tmp_path / "shared.py").write_text("x = 1")
    (folder / "physics.py").symlink_to(tmp_path / "shared.py")
    tree({"w.py": "import physics, p", "p/__init__.py": "from .again import x"})
    (folder / "p" / "again").symlink_to(folder / "p")
    before = digest()
    (tmp_path / "shared.py").write_text("x = 2")
    assert digest() != before


@pytest.mark.parametrize("other", ["two/helper.py", "two/helper/__init__.py"])
def test_helpers_of_one_name_that_differ_are_refused_in_one_launch(folder: Path, tree, cli, other: str) -> None:
    run = "import helper\ndef run(cell, context):\n    return {'loss': helper.LOSS}\n"
    grid = "seeds=[1]\n[[grid]]\nmethod='a'\n"
    tree({"one/first.py": run, "one/helper.py": "LOSS = 1.5\n", "two/second.py": run, other: "LOSS = 9.5\n"})
    tree({"one/first.toml": f"name='s1'\nworkload='first:run'\n{grid}"})
    tree({"two/second.toml": f"name='s2'\nworkload='second:run'\n{grid}"})
    refused = cli("launch", "one/first.toml", "two/second.toml", "--inline")
    assert refused.returncode == 2
    assert f"{folder / 'one' / 'helper.py'} and {folder / other}: two modules of one name" in refused.stderr
    assert not (folder / "results").exists()
    tree({"one/plain.py": RUN, "one/plain.toml": f"name='s3'\nworkload='plain:run'\n{grid}"})  # has no helper
    for names in (("one/plain.toml", "one/first.toml"), ("one/first.toml", "one/plain.toml")):
        assert "two modules of one name" in cli("plan", *names, "two/second.toml").stderr
    for name in ("one/first.toml", "two/second.toml"):
        assert cli("launch", name, "--inline").returncode == 0
    assert Store().sql("SELECT loss FROM cells ORDER BY loss")["loss"].to_list() == [1.5, 9.5]
    assert "two modules of one name" in cli("resume").stderr
    tree({other: "LOSS = 1.5\n"})  # the same
    assert cli("plan", "one/first.toml", "two/second.toml").returncode == 0


def test_a_large_folder_costs_nothing(folder: Path, tree) -> None:
    tree({"w.py": "import a\n" + RUN, "a.py": ""})
    for number in range(100):
        (folder / f"d{number}").mkdir()
        for file in range(50):
            (folder / f"d{number}" / f"m{file}.py").touch()
    began = time.process_time()
    digest()
    assert time.process_time() - began < 0.1


def test_a_file_that_a_program_wrote_counts_and_is_not_searched(folder: Path, tree) -> None:
    tree({"w.py": "import tables\n" + RUN, "tables.py": "import deep\n" + "x = 1\n" * 100_000, "deep.py": "1"})
    before = digest()
    tree({"deep.py": "2"})
    assert digest() == before
    tree({"tables.py": "import deep\n" + "x = 2\n" * 100_000})
    assert digest() != before


def test_a_file_that_warns_is_read_in_silence(folder: Path, tree, recwarn) -> None:
    tree({"w.py": r"s = '\d'; import a", "a.py": "1 is 1"})
    assert digest()
    assert [str(warning.message) for warning in recwarn] == []


def test_it_is_the_same_in_a_fresh_process_whatever_was_imported(folder: Path, tree) -> None:
    tree({"w.py": "import a\n" + RUN, "a.py": "def late():\n    import b\n", "b.py": "import json\n"})
    here = digest()
    code = (
        "import sys; sys.path.insert(0, '.'); {}\n"
        "from raysweep.orchestrator.sweep.loading.workload import load_workload\n"
        "print(load_workload('w:run', ('{}',)).source_digest)"
    )
    for first in ("pass", "import b", "import json, w; sys.modules.pop('a')"):
        ended = subprocess.run(
            [sys.executable, "-c", code.format(first, folder)],
            env={**environment(), "PYTHONHASHSEED": str(os.getpid() % 97)}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ended.stdout.strip() == here, ended.stderr


def test_a_helper_that_is_not_committed_makes_the_commit_dirty(folder: Path, tree) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True)

    def commit() -> provenance.Commit:
        loaded = load_workload("w:run", (str(folder),))
        return commits_of({"w:run": loaded})[loaded.source_digest]

    tree({"w.py": "import physics\n" + RUN, "physics.py": "", "other.py": ""})
    git("init", "--quiet")
    git("add", "w.py")
    git("commit", "--quiet", "--message", "w")
    first = commit()
    assert first.dirty is not None  # physics.py is in no commit
    tree({"physics.py": "G = 1\n"})
    assert commit().dirty not in (None, first.dirty)
    git("add", "physics.py")
    git("commit", "--quiet", "--message", "physics")
    assert commit().dirty is None  # though other.py is in no commit: it takes no part
    tree({"physics.py": "G = 2\n"})
    assert commit().dirty is not None


def bundled_files(workload: str) -> dict[str, Path]:
    """Name in the digest -> file."""
    loaded = load_workload(workload)
    return dict(source_files(loaded.module, loaded.source_path, loaded.folder))


def test_a_bundled_workload_is_made_of_what_it_imports_and_no_other_workload() -> None:
    files = bundled_files("online_rnn")
    assert {"workloads/online_rnn.py", "workloads/rnn/rules/traces.py"} <= files.keys()
    assert [name for name in files if name.startswith(("workloads/bci", "workloads/vit"))] == []
    assert "workloads/vit/model.py" in bundled_files("vit")
    assert "workloads/rnn/rules/traces.py" in bundled_files("bci")  # which decodes by the same networks
    assert "workloads/__init__.py" not in files


def test_an_edit_changes_the_digests_of_the_workloads_that_import_the_file(tmp_path: Path) -> None:
    """In a copy of the package, in which a worker or an installation has real folders in place of our links."""
    shutil.copytree(
        ROOT / "src" / "raysweep", tmp_path / "raysweep", ignore=shutil.ignore_patterns("__pycache__", "analysis")
    )
    code = (
        "from raysweep.orchestrator.sweep.loading.workload import load_workload\n"
        "print(*(load_workload(name).source_digest for name in ('online_rnn', 'bci', 'vit')))"
    )

    def digests() -> list[str]:
        env = {**environment(), "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-c", code]
        ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        return ended.stdout.split()

    original = [load_workload(name).source_digest for name in ("online_rnn", "bci", "vit")]
    assert digests() == original
    with (tmp_path / "raysweep/workloads/vit/model.py").open("a") as file:
        file.write("# changed\n")
    edited = digests()
    assert edited[:2] == original[:2]
    assert edited[2] != original[2]


RNN = """
name = "s"
workload = "online_rnn"
seeds = [1]
[config]
hidden = 8
steps = 200
shift = 100
[[grid]]
method = ["rtrl", "traces"]
implementation = ["readable", "fused"]
"""
VIT = 'name="s"\nworkload="vit"\nseeds=[1]\n[config]\n{}\n[[grid]]\nmethod="sparse"\nk=2\n'


@pytest.mark.parametrize("workload", ["online_rnn", pytest.param("vit", marks=pytest.mark.slow)])
def test_every_module_that_a_cell_loads_counts(folder: Path, tree, workload: str) -> None:
    if workload == "vit":
        pytest.importorskip("torch")
        write_images(folder / "data" / "tiny.parquet")
    config = "\n".join(f"{name} = {json.dumps(value)}" for name, value in SMALL.items())
    tree({"s.toml": RNN if workload == "online_rnn" else VIT.format(config)})
    command = [sys.executable, "-m", "tests.orchestrator.sweep.loaded_modules", "s.toml"]
    env = {**environment(), "RAYSWEEP_DATA": str(folder / "data")}
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    loaded = json.loads(ended.stdout.splitlines()[-1])
    assert loaded["done"] == (4 if workload == "online_rnn" else 1)
    files = {Path(file).resolve() for file in loaded["files"]}
    assert files - set(bundled_files(workload).values()) == {(ROOT / "workloads" / "__init__.py").resolve()}
