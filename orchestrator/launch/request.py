"""The request of a launch: its cells, from sweep files or the store's records, and its options. Writes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.schedule.limits import MAX_ALIKE, NODE_WAIT_MIN
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CellTable, expand
from raysweep.orchestrator.sweep.source import module_conflicts, own_files
from raysweep.orchestrator.sweep.spec import BELONGS, RESOURCES, Sweep
from raysweep.orchestrator.sweep.workload import Workload, load_workload, shadowed_module
from raysweep.orchestrator.text import short_repr

_MAX_FOREIGN = 5


@dataclass(frozen=True)
class Options:
    """Options of a launch."""

    where: str | None = None
    resume: bool = False
    rerun_changed: bool = False
    executor: str = "ray"
    address: str | None = None
    device: str = "auto"
    max_failures: int | None = None
    max_hours: float | None = None
    max_alike: int | None = MAX_ALIKE
    node_wait: float | None = NODE_WAIT_MIN  # minutes
    wait: bool = False
    command: str = "raysweep launch"


@dataclass(frozen=True)
class Request:
    """The sweeps of a launch and their cells."""

    sweeps: tuple[Sweep, ...]
    table: CellTable  # the cells that `where` selects
    every: CellTable  # all cells of the sweeps
    warnings: tuple[str, ...] = ()
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    recorded: bool = False  # whether the store has the sweeps on record already

    @property
    def own_files(self) -> dict[str, list[Path]]:
        """Folder of users' modules -> the source files of the workloads in that folder."""
        files: dict[str, list[Path]] = {}
        for w in self.workloads.values():
            if w.folder is not None:
                files.setdefault(w.folder, []).extend(own_files(w.module, w.source_path, w.folder))
        return files


def from_sweeps(sweeps: Sequence[Sweep], store: Store, where: str | None = None) -> Request:
    """Expand the sweeps and keep the cells that `where` selects.

    Raises:
        InputError: the sweeps are invalid (all errors are reported), or the predicate is.
    """
    every = expand(sweeps)
    check_questions(sweeps, every)
    workloads = {s.workload: load_workload(s.workload, s.search) for s in sweeps}
    table, warnings = select(every, store, where)
    return _checked(Request(tuple(sweeps), table, every, warnings, workloads))


def from_store(
    store: Store, where: str | None, timeout_s: float | None = None, retries: int | None = None, *, trust: bool = False
) -> Request:
    """Request the cells that the store's launches recorded, or only those that `where` selects.

    Args:
        store: the store.
        where: an SQL predicate over its cells.
        timeout_s: replaces the recorded timeouts; None keeps them.
        retries: replaces the recorded numbers of retries; None keeps them.
        trust: import users' modules from the recorded folders, whoever recorded them.

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
        sweeps[entry.key] = replace(Sweep.from_text(text, Path(path) if path else None), search=folders)
        search.update(dict.fromkeys(entry.table.variants["workload"].unique(), folders))
        if entry.own:  # the store of another user could name a device or a pipe
            texts.setdefault(path, set()).add(text)
    for name in filter(None, texts):
        if _changed(Path(name), texts[name]):
            warnings.append(f"{name} has changed since it was launched; `raysweep resume {name}` uses the new version")
    table = store.known()
    changes = {"timeout_s": timeout_s, "retries": retries}
    variants = table.variants.with_columns(pl.lit(v).alias(n) for n, v in changes.items() if v is not None)
    workloads = {name: load_workload(name, folders) for name, folders in search.items()}
    warnings += filter(None, (shadowed_module(workload, str(Path.cwd())) for workload in workloads.values()))
    versions = {name: workload.version for name, workload in workloads.items()}
    current = pl.col("workload").replace_strict(versions, default=None)
    old = variants.filter(current != pl.col("workload_version"))["variant"]
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


def _checked(request: Request) -> Request:
    problems = module_conflicts(request.own_files) if len(request.workloads) > 1 else []
    if problems:
        raise InputError(problems)
    return request


def suspicious_keys(sweep: Sweep, typed: Collection[str]) -> list[str]:
    """Warnings about keys of a sweep that are probably in the wrong place, for a workload without `Config`.

    Keys that were `typed` on the command line are not warned about.
    """
    lists = [
        f"{sweep.path}: config.{key}: each cell gets the whole list; to try its values one by one, write "
        f"{key} = {short_repr(value)} in [[grid]]"
        for key, value in sweep.config.items()
        if isinstance(value, list) and key not in typed
    ]
    places = [("config", sweep.config), *((f"grid[{i}]", block.axes) for i, block in enumerate(sweep.blocks))]
    resources = [
        f"{sweep.path}: {place}.{key}: is passed to the workload as a setting; a limit {BELONGS}"
        for place, keys in places
        for key in RESOURCES
        if key in keys and key not in typed
    ]
    return lists + resources


def check_questions(sweeps: Sequence[Sweep], table: CellTable) -> None:
    """Raise InputError if a question's predicates are invalid, or select no cells or settings that cannot be compared.

    Cells of questions are those that the file declares, whatever --where selects.
    """
    problems = []
    for sweep in sweeps:
        if sweep.questions:
            from raysweep.orchestrator.query.settings import by_setting, compared  # loads DuckDB

            variants = table.variants.filter((pl.col("sweep") == sweep.name) & (pl.col("workload") == sweep.workload))
            cells = table.cells.filter(pl.col("variant").is_in(variants["variant"].implode()))
            settings = by_setting(CellTable(table.variants, cells))
            for question in sweep.questions:
                where = f"{sweep.path or sweep.name}: question {question.name!r}"
                problems += [f"{where}: {line}" for line in compared(question, settings).problems]
    if problems:
        raise InputError(problems)


def refuse_foreign(store: Store, recorded: Sequence[RecordedSweep]) -> None:
    """Raise InputError for user modules in records that are not this user's: importing them would run foreign code."""
    foreign = {
        (entry.metadata["name"], workload): ", ".join(entry.metadata["search"]) or "the Python path"
        for entry in recorded
        if not entry.own
        for workload in entry.table.variants["workload"].unique(maintain_order=True)
        if ":" in workload
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
        return path.read_text(encoding="utf-8") not in texts
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def select(table: CellTable, store: Store, where: str | None) -> tuple[CellTable, tuple[str, ...]]:
    """The cells that match the SQL predicate, and warnings about the predicate."""
    if where is None:
        return table, ()
    from raysweep.orchestrator.query.sql import matching

    matches, warning = matching(table, store.summary(), where)
    return table.keep(matches), (warning,) if warning else ()
