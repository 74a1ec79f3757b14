"""Imports between our folders go in one direction only, and no modules import each other in a circle."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

from tests.conftest import ROOT

FLOORS = {
    "raysweep.orchestrator": (
        {"cli"}, {"launch"}, {"schedule"}, {"executors"}, {"query", "run"}, {"store"}, {"sweep"},
        {"code"}, {"text", "errors", "process", "status", "waits"},
    ),
    "raysweep.analysis": (
        {"publish", "transport"}, {"reads", "report"}, {"claims", "figures"}, {"tables"}, {"cells", "questions"},
        {"paper"}, {"statistics"}, {"rendering", "errors"},
    ),
}  # fmt: skip
"""Package -> its folders and modules by floor, the highest first; each may import from lower floors only."""

LIBRARIES = {"ray": "raysweep.orchestrator.executors.ray", "typer": "raysweep.orchestrator.cli"}
"""Library -> the only package that imports it."""

PACKAGES = {
    "raysweep.workloads": set(),
    "raysweep.orchestrator": {"raysweep.workloads"},
    "raysweep.analysis": {"raysweep.workloads", "raysweep.orchestrator"},
    "raysweep.orchestrator.cli": {"raysweep.analysis"},
}
"""Package -> other packages of ours that it may import, in addition to those of its parent package."""

EXCEPTIONS = {
    ("raysweep.orchestrator.store.reader", "raysweep.orchestrator.query.sql"): "`Store.sql`, lazy",
    ("raysweep.orchestrator.launch.result", "raysweep.analysis.questions.best"): "`Result.best`, lazy",
    ("raysweep.orchestrator.launch.rounds", "raysweep.analysis.questions.until"): "`launch(until=...)`, lazy",
}
"""(Importing module, imported module or library) -> the reason for the exception."""


def modules() -> dict[str, str]:
    """Name -> source text of all our modules."""
    texts = {}
    for folder in ("orchestrator", "workloads", "analysis"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(["raysweep", *(parts[:-1] if parts[-1] == "__init__" else parts)])
            texts[name] = path.read_text(encoding="utf-8")
    return texts


def imported(text: str) -> Iterator[str]:
    """Modules that a source text imports, also in functions and under TYPE_CHECKING."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not followed here"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES or node.module == "raysweep" else str(node.module)


MODULES = modules()


@functools.cache
def imports() -> frozenset[tuple[str, str]]:
    """Pairs of a module and a module or library that it imports."""
    return frozenset((name, other) for name, text in MODULES.items() for other in imported(text) if other != name)


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def floor(name: str, package: str) -> int:
    """Number of a module's floor in its package; 0 is the highest floor."""
    part = name.removeprefix(f"{package}.").partition(".")[0]
    (number,) = [number for number, parts in enumerate(FLOORS[package]) if part in parts] or [None]
    assert number is not None, f"{package}.{part} has no place in FLOORS"
    return number


def refused(name: str, other: str) -> bool:
    """Whether an import breaks a rule."""
    if (library := other.partition(".")[0]) in LIBRARIES:
        return not within(name, LIBRARIES[library])
    if not within(other, "raysweep") or other == "raysweep":  # the public package, which imports the rest lazily
        return False
    homes = [package for package in PACKAGES if within(name, package)]
    allowed = {*homes, *(package for home in homes for package in PACKAGES[home])}
    if not any(within(other, package) for package in allowed):
        return True
    for package in FLOORS:
        if within(other, package) and package not in (name, other):
            folder = ".".join(other.split(".")[:3])
            if not within(name, package):
                return folder == "raysweep.orchestrator.cli"  # the top floor, which no other package may import
            return not within(name, folder) and floor(name, package) >= floor(other, package)
    return False


def test_every_import_goes_down() -> None:
    against = {pair for pair in imports() if refused(*pair)}
    libraries = {(name, other.partition(".")[0]) for name, other in against if not within(other, "raysweep")}
    ours = {pair for pair in against if within(pair[1], "raysweep")}
    assert (ours | libraries) - EXCEPTIONS.keys() == set()


def test_no_modules_import_each_other() -> None:
    graph: dict[str, set[str]] = {name: set() for name in MODULES}
    for name, other in imports():
        if other in MODULES and (name, other) not in EXCEPTIONS:
            graph[name].add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise AssertionError(" imports ".join(reversed(error.args[1]))) from None


def test_no_exception_is_out_of_date() -> None:
    pairs = {(name, other if other in MODULES else other.partition(".")[0]) for name, other in imports()}
    assert EXCEPTIONS.keys() - pairs == set()


def test_an_import_against_a_rule_would_be_noticed() -> None:
    orchestrator = "raysweep.orchestrator"
    assert refused(f"{orchestrator}.store.writer", f"{orchestrator}.run.cell")
    assert refused(f"{orchestrator}.run.cell", f"{orchestrator}.query.sql")
    assert refused(f"{orchestrator}.text", f"{orchestrator}.errors")
    assert refused(f"{orchestrator}.launch.launch", "ray.util")
    assert refused(f"{orchestrator}.launch.launch", "raysweep.analysis.errors")
    assert refused("raysweep.workloads.arrays", f"{orchestrator}.text")
    assert refused("raysweep.analysis.cells.source", "raysweep.analysis.tables.render")
    assert not refused(f"{orchestrator}.cli.analysis", "raysweep.analysis.tables")
    assert not refused(f"{orchestrator}.executors.ray.worker", "ray")
    assert not refused(f"{orchestrator}.launch.launch", f"{orchestrator}.store.reader")
    assert not refused("raysweep.analysis.cells.source", f"{orchestrator}.store.reader")
