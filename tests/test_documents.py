"""The documents tell the truth: README's own workload runs, links exist, every verb and name is documented."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from raysweep.orchestrator.executors import EXECUTORS
from raysweep.orchestrator.store.reader import Store
from raysweep.workloads.rnn.rules import RULES
from tests.conftest import ROOT, environment

DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, holding: str) -> str:
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if holding in b]
    return found


def test_readme_workload_runs_fails_as_it_says_and_resumes(cli, folder: Path) -> None:
    (folder / "digits.py").write_text(block("python", "def run(cell, context)"))
    (folder / "digits.toml").write_text(block("toml", 'name = "digits"'))
    assert json.loads(cli("plan", "digits.toml", "--json").stdout)["to_run"] == 20
    launched = cli("launch", "digits.toml", timeout=200)
    assert launched.returncode == 1, launched.stderr
    assert "12 of 20 cells done" in launched.stdout
    assert "8 failed" in launched.stdout
    commands = block("sh", "raysweep plan digits.toml")
    (average, failures) = re.findall(r'raysweep query "(.*)"', commands)
    assert len(json.loads(cli("query", average, "--json").stdout)) == 4
    bad = json.loads(cli("query", failures, "--json").stdout)
    assert sorted({row["status"] for row in bad}) == ["failed", "timed_out"]
    shown = cli("show", next(row["cell_id"] for row in bad if row["status"] == "failed")).stdout
    assert "seed 3 is unlucky" in shown
    assert "attempts: 2" in shown
    source = (folder / "digits.py").read_text()
    (folder / "digits.py").write_text(source.replace("cell.seed == 3", "False").replace("cell.seed == 4", "False"))
    resumed = cli("resume", "digits.toml", timeout=200)
    assert resumed.returncode == 0, resumed.stderr
    assert "20 of 20 cells done (8 now" in resumed.stdout
    assert Store(folder / "results").cells.collect().height == 20
    shown = re.findall(r"raysweep show (\w+)", commands)
    assert f"cell_id: {shown[0]}" in cli("show", shown[0]).stdout
    script = block("python", "from raysweep import") + "print(frame.height)\n"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.stdout == "2\n", ended.stderr  # two rates


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_exist(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


def test_every_command_is_documented() -> None:
    from raysweep.orchestrator.cli.app import app, cluster_app, data_app, store_app

    text = "\n".join(p.read_text(encoding="utf-8") for p in DOCUMENTS)
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert [n for n in names if f"raysweep {n}" not in text and f"`{n}`" not in text] == []
    assert [c.name for c in store_app.registered_commands if f"store {c.name}" not in text] == []
    assert [c.name for c in cluster_app.registered_commands if f"cluster {c.name}" not in text] == []
    assert [c.name for c in data_app.registered_commands if f"data {c.name}" not in text] == []
    assert [n for n in RULES if f"`{n}`" not in text] == []
    assert set(EXECUTORS) == {"inline", "ray"}


ALLOWED = {"workloads": set(), "orchestrator": {"workloads"}, "analysis": {"workloads", "orchestrator"}}


def test_layers_import_one_way_and_only_executors_know_ray() -> None:
    wrong = []
    for package, allowed in ALLOWED.items():
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for top in {name.partition(".")[0] for name in names}:
                    place = path.relative_to(ROOT).as_posix()
                    ours = (
                        top in ALLOWED and top != package and top not in allowed and place != "orchestrator/cli/app.py"
                    )
                    if ours or (top == "ray" and "executors/" not in place):
                        wrong.append(f"{place} imports {top}")
    assert wrong == []
