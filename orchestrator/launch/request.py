"""Stage 2, from sweep files or from what a store remembers of them to the cells asked for; nothing is written."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import polars as pl

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.sweeps import RecordedSweep
from raysweep.orchestrator.sweep.cells import CellTable, expand
from raysweep.orchestrator.sweep.spec import BELONGS, RESOURCES, Sweep
from raysweep.orchestrator.sweep.workload import Workload, clashes, load_workload, passed_over
from raysweep.orchestrator.text import short_repr


@dataclass(frozen=True)
class Request:
    """Sweeps read, expanded and selected; nothing written yet."""

    sweeps: tuple[Sweep, ...]
    table: CellTable  # the cells that `where` selects
    every: CellTable  # and all that the sweeps define
    warnings: tuple[str, ...] = ()
    workloads: Mapping[str, Workload] = field(default_factory=dict)
    recorded: bool = False  # read from the store, which has its record already


def from_sweeps(sweeps: Sequence[Sweep], store: Store, where: str | None = None) -> Request:
    """Expand the sweeps and keep the cells that `where` selects.

    Raises:
        InputError: all that is wrong with the sweeps; or the predicate.
    """
    every = expand(sweeps)
    workloads = {s.workload: load_workload(s.workload, s.search) for s in sweeps}
    _refuse_clashes(workloads)
    table, warnings = select(every, store, where)
    return Request(tuple(sweeps), table, every, warnings, workloads)


def doubts(sweep: Sweep, meant: Collection[str]) -> list[str]:
    """Keys of a sweep whose workload checks none that are likely to stand in the wrong place.

    Args:
        sweep: a sweep of a workload without `Config`.
        meant: keys that were given by hand.
    """
    lists = [
        f"{sweep.path}: config.{key}: each cell gets the whole list; to try its values one by one, write "
        f"{key} = {short_repr(value)} in [[grid]]"
        for key, value in sweep.config.items()
        if isinstance(value, list) and key not in meant
    ]
    places = [("config", sweep.config), *((f"grid[{i}]", block.axes) for i, block in enumerate(sweep.blocks))]
    resources = [
        f"{sweep.path}: {place}.{key}: is a setting of the workload here; a limit {BELONGS}"
        for place, keys in places
        for key in RESOURCES
        if key in keys and key not in meant
    ]
    return lists + resources


def from_store(
    store: Store, where: str | None, timeout_s: float | None = None, retries: int | None = None, *, trust: bool = False
) -> Request:
    """Everything the store knows, as its launches recorded it.

    Args:
        store: the store.
        where: which of its cells.
        timeout_s: in place of the recorded ones.
        retries: likewise.
        trust: run users' modules from where the store says that they were found, whoever recorded it.

    Raises:
        InputError: a workload no longer loads, or was recorded by someone else; or the predicate is wrong.
    """
    recorded = store.sweeps()
    if not trust:
        refuse_foreign(store, recorded)
    warnings: list[str] = []
    sweeps: dict[tuple[str, str], Sweep] = {}
    search: dict[str, tuple[str, ...]] = {}  # of each workload that any of the cells has
    texts: dict[str, set[str]] = {}
    for entry in recorded:
        about = entry.about
        path = Path(about["path"]) if about["path"] else None
        folders = (*about["search"], str(Path.cwd()))  # or here, if that was another machine
        sweeps[entry.key] = replace(Sweep.from_text(about["text"], path), search=folders)
        search.update(dict.fromkeys(entry.table.variants["workload"].unique(), folders))
        texts.setdefault(about["path"], set()).add(about["text"])
    for name in filter(None, texts):
        if _changed(Path(name), texts[name]):
            warnings.append(f"{name} has changed since it was launched; name it to read it again")
    table = store.known()
    changes = {"timeout_s": timeout_s, "retries": retries}
    table = replace(
        table,
        variants=table.variants.with_columns(pl.lit(v).alias(n) for n, v in changes.items() if v is not None),
    )
    workloads = {name: load_workload(name, folders) for name, folders in search.items()}
    _refuse_clashes(workloads)
    warnings += filter(None, (passed_over(workload, str(Path.cwd())) for workload in workloads.values()))
    stale = table.variants.with_columns(
        current=pl.col("workload").replace_strict({n: w.version for n, w in workloads.items()}, default=None)
    ).filter(pl.col("current") != pl.col("workload_version"))
    if stale.height:
        warnings.append("cells of older workload versions are not run again; their rows stay")
        old = pl.col("variant").is_in(stale["variant"].implode())
        table = replace(table, cells=table.cells.filter(~old))
    # The digests of now, not of the launch: `plan` compares them with what ran.
    digests = {n: w.source_digest for n, w in workloads.items()}
    table = replace(
        table,
        variants=table.variants.with_columns(
            source_digest=pl.col("workload").replace_strict(digests, default=None, return_dtype=pl.String)
        ),
    )
    every = table
    table, more = select(every, store, where)
    return Request(tuple(sweeps.values()), table, every, (*dict.fromkeys(warnings), *more), workloads, recorded=True)


def _refuse_clashes(workloads: Mapping[str, Workload]) -> None:
    problems = clashes(workloads.values()) if len(workloads) > 1 else []
    if problems:
        raise InputError(problems)


def refuse_foreign(store: Store, recorded: Sequence[RecordedSweep]) -> None:
    """Of a store from a stranger no module is imported that nobody here has named."""
    foreign = {
        (entry.about["name"], workload): ", ".join(entry.about["search"]) or "the Python path"
        for entry in recorded
        if not entry.own
        for workload in entry.table.variants["workload"].unique(maintain_order=True)
        if ":" in workload
    }
    if foreign:
        raise InputError(
            [
                f"store {store.storage}: sweep {name!r} runs {workload!r} out of {folders}, and was not recorded by "
                "this user on this machine: name its file (`raysweep resume SWEEP`), or, if you trust whoever made the "
                "store, add --trust-store"
                for (name, workload), folders in list(foreign.items())[:_FOREIGN_SHOWN]
            ]
        )


_FOREIGN_SHOWN = 5


def _changed(path: Path, texts: set[str]) -> bool:
    try:
        return path.read_text(encoding="utf-8") not in texts
    except FileNotFoundError:
        return False
    except (OSError, ValueError):
        return True


def select(table: CellTable, store: Store, where: str | None) -> tuple[CellTable, tuple[str, ...]]:
    """The cells for which the SQL predicate holds, and what to warn of."""
    if where is None:
        return table, ()
    from raysweep.orchestrator.query.sql import matching

    kept, warning = matching(table, store.summary() if store.exists() else None, where)
    return table.keep(kept), (warning,) if warning else ()
