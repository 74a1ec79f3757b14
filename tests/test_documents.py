"""The documents tell the truth: README's own workload runs, links exist, every verb and name is documented."""

from __future__ import annotations

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
    (text,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.S) if holding in b]
    return text


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
    failed = cli("show", next(row["cell_id"] for row in bad if row["status"] == "failed")).stdout
    assert "seed 3 is unlucky" in failed
    assert "attempts: 2" in failed
    source = (folder / "digits.py").read_text()
    (folder / "digits.py").write_text(source.replace("cell.seed == 3", "False").replace("cell.seed == 4", "False"))
    resumed = cli("resume", "digits.toml", "--inline", timeout=200)
    assert resumed.returncode == 0, resumed.stderr
    assert "20 of 20 cells done (8 now" in resumed.stdout
    assert Store(folder / "results").cells.collect().height == 20
    cell_id = re.findall(r"raysweep show (\w+)", commands)[0]
    assert f"cell_id: {cell_id}" in cli("show", cell_id).stdout
    script = block("python", "from raysweep import") + "print(frame.height)\n"
    command = [sys.executable, "-c", script]
    ended = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.stdout == "2\n", ended.stderr  # two rates


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_exist(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8"))
    assert [t for t in targets if "://" not in t and not (path.parent / t).exists()] == []


def test_every_command_is_documented() -> None:
    pages = [path.read_text(encoding="utf-8") for path in DOCUMENTS if path.name != "commands.md"]  # which is generated
    text = "\n".join(pages)
    names = re.findall(r"^## raysweep (.+)$", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.M)
    assert len(names) > 15
    assert [n for n in names if f"raysweep {n}" not in text and f"`{n}`" not in text] == []
    assert [n for n in RULES if f"`{n}`" not in text] == []
    assert set(EXECUTORS) == {"inline", "processes", "ray"}
