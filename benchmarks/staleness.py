"""Replay this repository's history: which commits would run cells of `online_rnn` again, and which of those had to?

    python benchmarks/staleness.py --fused          # all commits
    python benchmarks/staleness.py --mutants 60     # instead: edits of the present code at random places

Between a commit and its parent, the rule of files runs all cells again if a byte of the workload's files changed, the
rule of meaning if what the workload's function reaches changed. The truth: small cells of every method, run under both
commits and compared bit by bit. Each version of the files is run once, in a process of its own.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from raysweep.orchestrator.code.meaning import differences
from raysweep.orchestrator.code.source import Source, SourceFile, module_name, source_file
from raysweep.orchestrator.sweep.loading.source import imported

ROOT = Path(__file__).resolve().parents[1]
WORKLOAD = "workloads/online_rnn.py"
WINDOWS = (100, 150, 200)
PACKAGES = ("raysweep/__init__.py", "raysweep/workloads/__init__.py", "workloads/__init__.py")
"""Files that the source does not hold, as they hold only registries; empty here."""

RUNNER = """
import hashlib, itertools, json, os, sys, warnings
warnings.simplefilter("ignore")
import importlib, types
import numpy as np
module = importlib.import_module(sys.argv[1])

def digest(value):
    if isinstance(value, np.ndarray):
        return hashlib.sha256(str((value.dtype, value.shape)).encode() + value.tobytes()).hexdigest()
    return repr(value)

class Context:
    device = "cpu"
    def __init__(self): self.parts = []
    def array(self, name, values, *more, **others): self.parts.append((name, digest(np.asarray(values))))
    def progress(self, *_): pass

FIELDS = getattr(module.Config, "model_fields", {})
VARIANTS = [{}, {"architecture": "gru_reset_after"}, {"architecture": "lstm"}, {"stream": "lorenz"}, {"stream": "copy"}]
results = {}
for method, k, variant, fused in itertools.product(sorted(module.METHODS), (None, 2), VARIANTS, (False, True)):
    if fused and (variant or not os.environ.get("FUSED")):
        continue
    settings = {"steps": 60, "hidden": 6, **variant}
    if variant.get("stream") == "copy":
        settings["loss"] = "cross_entropy"
    else:
        settings["shift"] = 30
    if "implementation" in FIELDS:
        settings["implementation"] = "fused" if fused else "readable"
    elif fused:
        continue
    try:
        config = module.Config(**settings)
        settled = module.settle(method, k, config)
    except Exception:
        continue
    context = Context()
    cell = types.SimpleNamespace(
        cell_id="0" * 24, experiment="e", method=method, k=settled[0], seed=3, config=settled[1]
    )
    try:
        metrics = module.run(cell, context)
        answer = [(n, digest(v)) for n, v in sorted(metrics.items()) if n != "seconds_per_step"] + context.parts
    except Exception:
        continue
    results[json.dumps([method, k, variant, fused])] = hashlib.sha256(repr(answer).encode()).hexdigest()[:16]
print(json.dumps({"version": str(getattr(module, "VERSION", "1")), "cells": results}))
"""


def git(*words: str) -> bytes:
    """What git prints."""
    return subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True).stdout


@cache
def blob(digest: str) -> bytes:
    """The content of a blob."""
    return git("cat-file", "blob", digest)


@cache
def tree(commit: str) -> dict[str, str]:
    """Path -> blob of the Python files of the workloads."""
    lines = (line.split("\t") for line in git("ls-tree", "-r", commit, "workloads").decode().splitlines())
    return {path: meta.split()[2] for meta, path in lines if path.endswith(".py")}


@cache
def source(commit: str) -> Source | None:
    """The source of the workload at a commit; None if there is none."""
    blobs = tree(commit)
    if WORKLOAD not in blobs:
        return None
    prefix = "raysweep/" if b"raysweep.workloads" in blob(blobs[WORKLOAD]) else ""
    top = f"{prefix}workloads".replace("/", ".")
    files: dict[str, SourceFile] = {}
    seen: set[str] = set()
    waiting = [f"{top}.online_rnn"]
    while waiting:
        name = waiting.pop()
        if name in seen or not name.startswith(f"{top}."):
            continue
        seen.add(name)
        parts = name.split(".")
        waiting.append(".".join(parts[:-1]))
        path = name.replace(".", "/").removeprefix(prefix)
        for file, package in ((f"{path}/__init__.py", parts), (f"{path}.py", parts[:-1])):
            if file in blobs:
                text = blob(blobs[file])
                files[file] = source_file(file, prefix + file, text, module_name(prefix + file))
                waiting += imported(text, tuple(package))
                break
    ordered = tuple(file for _, file in sorted(files.items()))
    return Source("online_rnn", "", f"{top}.online_rnn", ("run", "Config"), ordered)


class Truth:
    """Results of the small cells of a source; each is computed once."""

    def __init__(self, folder: Path, fused: bool) -> None:
        self._folder, self._fused = folder, fused
        self._known: dict[str | None, dict[str, Any]] = {}

    def of(self, version: Source) -> dict[str, Any]:
        """The version and the digest of each cell's result; no cells if the workload cannot be imported."""
        key = version.digest()
        if key not in self._known:
            self._known[key] = self._run(version)
        return self._known[key]

    def _run(self, version: Source) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=self._folder) as place:
            for file in version.files:
                target = Path(place, file.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(file.content or b"")
            for name in PACKAGES:
                target = Path(place, name)
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(b"")
            env = {"PATH": os.environ["PATH"], "HOME": str(self._folder), "PYTHONPATH": place, "OMP_NUM_THREADS": "1"}
            env |= {"FUSED": "1"} if self._fused else {}
            command = [sys.executable, "-c", RUNNER, version.module]
            try:
                ended = subprocess.run(command, env=env, cwd=place, capture_output=True, text=True, timeout=900)
            except subprocess.TimeoutExpired:
                return {"version": "", "cells": {}}
        if ended.returncode:
            return {"version": "", "cells": {}, "problem": ended.stderr.strip().splitlines()[-1:]}
        return dict(json.loads(ended.stdout.splitlines()[-1]))


def replay(truth: Truth) -> list[dict[str, Any]]:
    """One row per commit: compared with its first parent, or with the last commit before that can run."""
    rows: list[dict[str, Any]] = []
    base: dict[str, str] = {}  # commit -> itself if its cells can run, otherwise the last before it whose cells can
    for line in git("log", "--topo-order", "--reverse", "--format=%H %P").decode().splitlines():
        commit, *parents = line.split()
        if (after := source(commit)) is None:
            continue
        if not parents or parents[0] not in base:
            base[commit] = commit
            continue
        base[commit] = base[parents[0]]
        before = source(base[commit])
        row: dict[str, Any] = {"commit": commit[:8], "title": git("log", "-1", "--format=%s", commit).decode().strip()}
        rows.append(row)
        if before is None or before.digest() == after.digest():
            continue
        flagged = differences(before, after)
        one, other = truth.of(before), truth.of(after)
        if not other["cells"]:
            row["title"] += " (cells cannot run)"
            print(json.dumps(row), flush=True)
            continue
        base[commit] = commit
        cells = one["cells"].items() if one["version"] == other["version"] else ()
        changed = [cell for cell, result in cells if other["cells"].get(cell) != result]
        row |= {"files": True, "meaning": bool(flagged), "cells": len(cells), "changed": len(changed)}
        row |= {"parts": [f"{d.file}: {d.what}" for d in flagged][:3]}
        print(json.dumps(row), flush=True)
    return rows


def summary(rows: list[dict[str, Any]], label: str) -> str:
    """The counts over these commits, in one line."""
    total = {"files": 0, "meaning": 0, "missed": 0, "changed": 0, "commits": 0, "flagged": 0}
    for row in rows:
        cells, changed = row.get("cells", 0), row.get("changed", 0)
        total["changed"] += changed
        total["commits"] += bool(row.get("files"))
        total["flagged"] += bool(row.get("meaning"))
        if row.get("files"):
            total["files"] += cells - changed
        if row.get("meaning"):
            total["meaning"] += cells - changed
        elif row.get("files"):
            total["missed"] += changed
    share = total["meaning"] / total["files"] if total["files"] else 0.0
    return (
        f"{label}: {len(rows)} commits, {total['commits']} change a file of the workload, {total['flagged']} its "
        f"meaning; {total['changed']} results changed, {total['missed']} missed; needless reruns: {total['files']} by "
        f"files, {total['meaning']} by meaning ({share:.1%})"
    )


class Mutation(ast.NodeTransformer):
    """Changes the n-th place of a file where a number, an operator or a comparison stands."""

    def __init__(self, place: int) -> None:
        self.left = place

    def visit(self, node: ast.AST) -> ast.AST:
        """The node, edited if it is the place."""
        swap = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Lt: ast.GtE, ast.Gt: ast.LtE}
        is_number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
        if is_number or type(node) in swap:
            if self.left == 0:
                self.left -= 1
                if isinstance(node, ast.Constant):
                    return ast.copy_location(ast.Constant(node.value + 1 if node.value else 1), node)  # type: ignore[operator]
                return swap[type(node)]()
            self.left -= 1
        return self.generic_visit(node)


def mutants(truth: Truth, count: int) -> Iterator[tuple[str, bool, int]]:
    """Edit random places: the place, whether it counts as a change, and the number of results that changed."""
    present = source("HEAD")
    assert present is not None
    base = truth.of(present)
    generator = random.Random(7)
    while count:
        file = generator.choice([f for f in present.files if "/fused/" not in f.path])
        mutation = Mutation(generator.randrange(200))
        text = ast.unparse(ast.fix_missing_locations(mutation.visit(ast.parse(file.content or b""))))
        if mutation.left >= 0:
            continue
        count -= 1
        edited = source_file(file.name, file.path, text.encode(), file.module)
        other = Source(
            present.workload, "", present.module, present.roots,
            tuple(edited if each is file else each for each in present.files),
        )  # fmt: skip
        result = truth.of(other)
        cells, now = base["cells"], result["cells"]
        changed = sum(now.get(cell) != value for cell, value in cells.items())
        name = hashlib.sha256(text.encode()).hexdigest()[:8]
        yield f"{file.name} {name}", bool(differences(present, other)), changed


def main() -> None:
    """Print one line per commit that changes a file, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutants", type=int, default=0, help="instead of the history: this many random edits")
    parser.add_argument("--fused", action="store_true", help="run compiled cells, too (minutes of compilation)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        truth = Truth(Path(folder), options.fused)
        if not options.mutants:
            rows = replay(truth)
            for window in WINDOWS:
                print(summary(rows[-window:], f"last {window}"))
            print(summary(rows, "all"))
            return
        outcomes = []
        for outcome in mutants(truth, options.mutants):
            print(*outcome, flush=True)
            outcomes.append(outcome)
        effective = [outcome for outcome in outcomes if outcome[2]]
        missed = [outcome for outcome in effective if not outcome[1]]
        flagged = sum(outcome[1] for outcome in outcomes)
        print(
            f"{len(outcomes)} random edits: {len(effective)} change results of {sum(o[2] for o in effective)} cells, "
            f"{len(missed)} of them missed; {flagged} count as changes"
        )


if __name__ == "__main__":
    main()
