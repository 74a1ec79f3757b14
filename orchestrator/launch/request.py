"""The options of a launch, and its cells, read from sweep files or from the store's records. Writes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.schedule.limits import MAX_ALIKE, NODE_WAIT_MIN
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CellTable, expand
from raysweep.orchestrator.sweep.grammar.base import read_file
from raysweep.orchestrator.sweep.grammar.keys import RESOURCE_NAMES
from raysweep.orchestrator.sweep.grammar.near_misses import ONLY_SEEDS, like_a_range
from raysweep.orchestrator.sweep.grammar.resources import BELONGS
from raysweep.orchestrator.sweep.loading.source import module_conflicts
from raysweep.orchestrator.sweep.loading.workload import Workload, load_workload, shadowed_module
from raysweep.orchestrator.sweep.programs.program import is_program
from raysweep.orchestrator.sweep.programs.program_files import workload_of
from raysweep.orchestrator.sweep.spec import Sweep
from raysweep.orchestrator.text import short_repr

_MAX_FOREIGN = 5
LOCAL = "local"
"""The address for a Ray that the launch starts on this machine."""


@dataclass(frozen=True)
class Options:
    """Options of a launch."""

    where: str | None = None
    resume: bool = False
    rerun_changed: bool = False
    executor: str | None = None  # a name in `EXECUTORS`; None: by the cells to run (`launch.executor_of`)
    address: str | None = None  # of a Ray cluster; LOCAL: a Ray that is started here
    device: str = "auto"
    max_failures: int | None = None
    max_hours: float | None = None
    max_parallel: int | None = None
    max_alike: int | None = MAX_ALIKE
    node_wait: float | None = NODE_WAIT_MIN  # minutes
    wait: bool = False
    command: str = "raysweep launch"
    exits: bool = False  # whether the process has no other purpose than this launch
    until: str | None = None  # "decided": run rounds of cells until the sweeps' questions are decided
    max_cells: int | None = None  # of the questions' cells, those of earlier launches included, as are the hours
    max_cpu_hours: float | None = None
    max_gpu_hours: float | None = None

    @property
    def is_here(self) -> bool:
        """Whether cells run on this machine and not on a cluster."""
        return self.executor == "inline" or self.address in (None, LOCAL)


@dataclass(frozen=True)
class Request:
    """The sweeps of a launch, and the cells that it requests."""

    sweeps: tuple[Sweep, ...]
    table: CellTable  # the cells that `where` selects
    every: CellTable  # all cells of the sweeps
    warnings: tuple[str, ...] = ()
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    recorded: bool = False  # whether the store has the sweeps on record already

    @property
    def own_files(self) -> dict[str, dict[Path, bytes | None]]:
        """Folder of users' files -> the workloads' files in it, as `Workload.shipped` returns them."""
        files: dict[str, dict[Path, bytes | None]] = {}
        for w in self.workloads.values():
            if w.folder is not None:
                files.setdefault(w.folder, {}).update(w.shipped())
        return files


def from_sweeps(sweeps: Sequence[Sweep], store: Store, where: str | None = None) -> Request:
    """Expand the sweeps, and keep the cells that the SQL predicate `where` selects.

    Raises:
        InputError: sweeps are invalid (the message lists all errors), or the predicate is invalid.
    """
    every = expand(sweeps)
    unasked = check_questions(sweeps, every)
    workloads = load_workloads(sweeps)
    for name, digest in every.variants.select("workload", "source_digest").unique().iter_rows():
        if workloads[name].source_digest != digest:
            raise InputError(f"workload {name!r}: its files changed while the launch was planned; launch again")
    table, warnings = select(every, store, where)
    return _checked(Request(tuple(sweeps), table, every, (*unasked, *warnings), workloads))


def from_store(
    store: Store, where: str | None, timeout_s: float | None = None, retries: int | None = None, *, trust: bool = False
) -> Request:
    """Request the cells that launches have recorded in the store, or the part of them that `where` selects.

    Args:
        store: the store.
        where: an SQL predicate over the store's cells; None selects all.
        timeout_s: replaces the recorded timeouts; None keeps them.
        retries: replaces the recorded numbers of retries; None keeps them.
        trust: import users' modules from the recorded folders even if another user recorded them.

    Raises:
        InputError: a workload cannot be loaded or was recorded by another user, or the predicate is invalid.
    """
    recorded = store.sweeps()
    if not trust:
        refuse_foreign(store, recorded)
    warnings: list[str] = []
    sweeps: dict[tuple[str, str], Sweep] = {}
    search: dict[str, tuple[str, ...]] = {}  # workload -> folders of its module
    texts: dict[str, set[str]] = {}
    for entry in recorded:
        path, text = entry.metadata["path"], entry.metadata["text"]
        folders = (*entry.metadata["search"], str(Path.cwd()))  # recorded folders may be on another machine
        sweeps[entry.key] = replace(entry.sweep(), search=folders)
        search.update((name, folders) for name in entry.table.variants["workload"].unique() if not is_program(name))
        if entry.own:  # the store of another user could name a device or a pipe
            texts.setdefault(path, set()).add(text)
    for name in filter(None, texts):
        if _changed(Path(name), texts[name]):
            warnings.append(f"{name} has changed since it was launched; `raysweep resume {name}` uses the new version")
    table = store.known()
    changes = {"timeout_s": timeout_s, "retries": retries}
    variants = table.variants.with_columns(pl.lit(v).alias(n) for n, v in changes.items() if v is not None)
    workloads = {name: load_workload(name, folders) for name, folders in search.items()}
    parts = [part for sweep in sweeps.values() for part in sweep.parts()]
    workloads |= load_workloads([part for part in parts if part.program is not None or part.inputs is not None])
    warnings += filter(None, (shadowed_module(workload, str(Path.cwd())) for workload in workloads.values()))
    versions = {name: workload.version for name, workload in workloads.items()}
    current = pl.col("workload").replace_strict(versions, default=None)
    # A program that no sweep names any more is an older version, too.
    old = variants.filter(current.ne_missing(pl.col("workload_version")))["variant"]
    if len(old):
        warnings.append("cells of older workload versions are not run again; their rows stay")
    # Digests of the current code: `plan` compares them with those of the code that ran.
    digests = {name: workload.source_digest for name, workload in workloads.items()}
    digest = pl.col("workload").replace_strict(digests, default=None, return_dtype=pl.String)
    every = CellTable(
        variants.with_columns(source_digest=digest), table.cells.filter(~pl.col("variant").is_in(old.implode()))
    )
    selected, more = select(every, store, where)
    warnings = list(dict.fromkeys(warnings))
    return _checked(Request(tuple(sweeps.values()), selected, every, (*warnings, *more), workloads, recorded=True))


def load_workloads(sweeps: Sequence[Sweep]) -> dict[str, Workload]:
    """Load the workloads of the sweeps, by name.

    Raises:
        InputError: a workload cannot be loaded; or two sweeps run the same command from different folders, or with
            different files, inputs, metrics or variables.
    """
    workloads: dict[str, Workload] = {}
    for part in (part for sweep in sweeps for part in sweep.parts()):
        workload = workload_of(part)
        same = workloads.setdefault(workload.name, workload)
        if same.program != workload.program or (same.program is not None and same.folder != workload.folder):
            raise InputError(
                f"two sweeps run {workload.name!r}, but in other folders, or with other files, metrics or variables; "
                "launch or resume them separately, each by its file"
            )
        if same.inputs != workload.inputs or same.version != workload.version:
            raise InputError(
                f"two sweeps run {workload.name!r}, but with other inputs; launch or resume them separately, each by "
                "its file"
            )
    return workloads


def _checked(request: Request) -> Request:
    problems = module_conflicts(request.own_files) if len(request.workloads) > 1 else []
    if problems:
        raise InputError(problems)
    return request


def suspicious_keys(sweep: Sweep, typed: Collection[str]) -> list[str]:
    """Return warnings about keys that are probably in the wrong place, for a sweep whose workload has no `Config`.

    Keys in `typed`, which were set on the command line, are not checked.
    """
    lists = [
        f"{sweep.path}: config.{key}: each cell gets the whole list; to try its values one by one, write "
        f"{key} = {short_repr(value)} in [[grid]]"
        for key, value in sweep.config.items()
        if isinstance(value, list) and key not in typed
    ]
    blocks = [{name: axis.values for name, axis in block.axes.items()} for block in sweep.blocks]
    places: list[tuple[str, Mapping[str, Any]]] = [("config", sweep.config)]
    places += [(f"grid[{i}]", axes) for i, axes in enumerate(blocks)]
    resources = [
        f"{sweep.path}: {place}.{key}: is passed to the workload as a setting; a limit {BELONGS}"
        for place, keys in places
        for key in RESOURCE_NAMES
        if key in keys and key not in typed
    ]
    ranges = [
        f"{sweep.path}: {place}.{key}: {short_repr(value)} is passed to the workload as text; {ONLY_SEEDS}"
        for place, keys in places
        for key, values in keys.items()
        for value in (values if isinstance(values, list | tuple) else [values])
        if like_a_range(value) and key not in typed
    ]
    return lists + resources + ranges


def unread_keys(workload: Workload, typed: Collection[str]) -> list[str]:
    """Return a warning for each key in `typed` (of `--set`) that does not occur in any of the workload's files."""
    text = b"\n".join(workload.code.contents.values()).decode(errors="replace")
    names = set(re.findall(r"\w+", text))
    return [
        f"--set {key}: no file of workload {workload.name!r} names {key!r}; unless it passes all settings on, the new "
        "cells compute the same as the old ones"
        for key in typed
        if workload.program is None and key.rpartition(".")[2] not in names  # a.b is the setting b in the table a
    ]


def check_questions(sweeps: Sequence[Sweep], table: CellTable) -> list[str]:
    """Check the questions of the sweeps: predicates are valid, and select cells whose settings can be compared.

    All cells that the file declares are checked, whatever `--where` selects.

    Returns:
        A line for each question that cannot be answered with the settings of `--set`.

    Raises:
        InputError: a question cannot be answered, although `--set` does not change its sweep.
    """
    problems, unasked = [], []
    for sweep in sweeps:
        if sweep.questions:
            from raysweep.orchestrator.query.settings import by_setting, compared  # loads DuckDB

            variants = table.variants.filter(
                (pl.col("sweep") == sweep.name) & pl.col("workload").is_in(sweep.workloads)
            )
            cells = table.cells.filter(pl.col("variant").is_in(variants["variant"].implode()))
            settings = by_setting(CellTable(table.variants, cells))
            for question in sweep.questions:
                where = f"{sweep.path or sweep.name}: question {question.name!r}"
                lines = compared(question, settings).problems
                if lines and sweep.overrides:
                    unasked.append(f"{where}: not asked of these cells, since --set changes the settings: {lines[0]}")
                else:
                    problems += [f"{where}: {line}" for line in lines]
    if problems:
        raise InputError(problems)
    return unasked


def refuse_foreign(store: Store, recorded: Sequence[RecordedSweep]) -> None:
    """Raise InputError if a sweep that this user did not record would run a user's module or a program."""
    foreign = {
        (entry.metadata["name"], workload): ", ".join(entry.metadata["search"]) or "the Python path"
        for entry in recorded
        if not entry.own
        for workload in entry.table.variants["workload"].unique(maintain_order=True)
        if ":" in workload or is_program(workload)
    }
    if foreign:
        raise InputError(
            [
                f"store {store.storage}: sweep {name!r} runs {workload!r} from {folders}, and was not recorded by this "
                "user on this machine: name its file (`raysweep resume SWEEP`), or add --trust-store if you trust the "
                "store's author"
                for (name, workload), folders in list(foreign.items())[:_MAX_FOREIGN]
            ]
        )


def _changed(path: Path, texts: set[str]) -> bool:
    try:
        return read_file(path) not in texts
    except FileNotFoundError:
        return False
    except (OSError, ValueError, InputError):
        return True


def select(table: CellTable, store: Store, where: str | None) -> tuple[CellTable, tuple[str, ...]]:
    """Select the cells that match the SQL predicate. Also returns warnings about the predicate."""
    if where is None:
        return table, ()
    from raysweep.orchestrator.query.sql import matching

    matches, warning = matching(table, store.summary(), where)
    return table.keep(matches), (warning,) if warning else ()
