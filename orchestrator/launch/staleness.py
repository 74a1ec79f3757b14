"""Comparison of the code of recorded rows with the present code, and users' acceptances of code changes."""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import polars as pl

from raysweep.orchestrator.code.meaning import Difference, differences
from raysweep.orchestrator.code.source import Source
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.schedule.edges import has_needs
from raysweep.orchestrator.schedule.plan import Plan, plan
from raysweep.orchestrator.store import documents
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import CellTable
from raysweep.orchestrator.sweep.loading.recorded import source_of
from raysweep.orchestrator.sweep.loading.workload import Workload
from raysweep.orchestrator.text import count_cells, encodable, short_repr

MAX_REASON = 500
MAX_KINDS = 12
"""Maximum number of sources with different meanings that `same_code` compares with each other."""


@dataclass(frozen=True)
class Acceptance:
    """A user's statement that a change of code does not matter.

    Args:
        workload: the workload's name.
        before: the source digest of recorded rows.
        after: the source digest at the time of the acceptance.
        name: the user.
        time: in UTC, ISO 8601.
        reason: why the change does not matter.
        parts: the changed parts, "file: part".
    """

    workload: str
    before: str
    after: str
    name: str
    time: str
    reason: str
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class CodeChange:
    """A difference between the source of recorded rows and the present source.

    Args:
        workload: the workload's name.
        before: the recorded digest.
        after: the present digest.
        differences: the parts that differ in meaning; empty if both compute the same.
        accepted: the acceptances that cover the change; empty if users have not accepted it.
    """

    workload: str
    before: str
    after: str
    differences: tuple[Difference, ...]
    accepted: tuple[Acceptance, ...] = ()

    @property
    def matters(self) -> bool:
        """Whether done cells with the recorded code count as changed."""
        return bool(self.differences) and not self.accepted


@dataclass(frozen=True)
class CodeChanges:
    """The changes from recorded sources to present ones: (recorded digest, present digest) -> change.

    Rows whose source was not recorded have no entry.
    """

    changes: Mapping[tuple[str, str], CodeChange] = field(default_factory=dict)

    @cached_property
    def same(self) -> frozenset[tuple[str, str]]:
        """The pairs (recorded digest, present digest) whose difference does not matter."""
        return frozenset(pair for pair, change in self.changes.items() if not change.matters)


def code_changes(
    store: Store,
    workloads: Mapping[str, Workload],
    table: CellTable,
    summary: pl.DataFrame,
    known: CodeChanges | None = None,
) -> CodeChanges:
    """Compare the recorded sources of the requested cells with the present sources of their workloads.

    Args:
        store: the store.
        workloads: name -> workload.
        table: the requested cells.
        summary: the store's cells (`Store.summary`).
        known: results of an earlier call, which are reused.
    """
    present = [workload.source_digest for workload in workloads.values()]
    other = summary.filter(pl.col("source_digest").is_not_null() & ~pl.col("source_digest").is_in(present))
    recorded = table.cells.join(other, on="cell_id")["source_digest"].unique().to_list() if other.height else []
    changes = dict(known.changes) if known is not None else {}
    accepted: list[Acceptance] | None = None
    for digest in sorted(recorded):
        if any(before == digest for before, _ in changes):
            continue
        entry = documents.read_source(store.storage, digest, store.skip)
        workload = None if entry is None else workloads.get(entry[0].workload)
        if entry is None or workload is None:
            continue
        now, changed = source_of(workload), tuple(differences(entry[0], source_of(workload)))
        why: tuple[Acceptance, ...] = ()
        if changed:
            accepted = acceptances(store) if accepted is None else accepted
            why = _accepting(store, digest, entry[0], now, [a for a in accepted if a.workload == workload.name])
        pair = digest, workload.source_digest
        changes[pair] = CodeChange(workload.name, *pair, changed, why)
    return CodeChanges(changes)


def same_code(store: Store, digests: Collection[str]) -> dict[str, str]:
    """Map source digests to the digest of an equivalent source.

    Two sources are equivalent if they have the same meaning, or if a user has accepted their difference. The digests
    are compared in alphabetical order, and each is mapped to the first equivalent one. A digest has no entry if it is
    the first, or if its source is not recorded. After `MAX_KINDS` sources of different meanings, further digests are
    not compared.
    """
    accepted = {frozenset((entry.before, entry.after)) for entry in acceptances(store)}
    kinds: list[tuple[str, Source]] = []
    same: dict[str, str] = {}
    for digest in sorted(digests):
        entry = documents.read_source(store.storage, digest, store.skip)
        if entry is None or len(kinds) == MAX_KINDS:
            continue
        for first, source in kinds:
            if source.workload == entry[0].workload and (
                frozenset((first, digest)) in accepted or not differences(source, entry[0])
            ):
                same[digest] = first
                break
        else:
            kinds.append((digest, entry[0]))
    return same


def by_change(planned: Plan, summary: pl.DataFrame, changes: CodeChanges) -> tuple[list[tuple[CodeChange, int]], int]:
    """Count the done cells of a plan for each change of code since they ran.

    Returns:
        Each change in meaning, including accepted ones, with its number of cells; and the number of changed cells whose
        source was not recorded.
    """
    done = planned.frame.filter(pl.col("state").is_in(["done", "changed"])).select("cell_id", "variant")
    digests = done.join(summary.select("cell_id", before="source_digest"), on="cell_id").join(
        planned.table.variants.select("variant", after="source_digest"), on="variant"
    )
    counts = (
        digests.filter(pl.col("before") != pl.col("after")).group_by("before", "after").len().sort("before", "after")
    )
    changed, unrecorded = [], 0
    for before, after, cells in counts.iter_rows():
        change = changes.changes.get((before, after))
        if change is None:
            unrecorded += cells
        elif change.differences:
            changed.append((change, cells))
    return changed, unrecorded


def changed_elsewhere(
    every: CellTable, table: CellTable, summary: pl.DataFrame, same: Collection[tuple[str, str]]
) -> frozenset[str]:
    """Return the ids of changed cells that are not requested. Empty if no requested cell needs other cells.

    Args:
        every: all cells of the sweeps.
        table: the requested cells.
        summary: the store's cells.
        same: pairs of source digests, recorded and present, whose difference does not matter.
    """
    if not has_needs(table):
        return frozenset()
    changed = plan(every, summary, same=same).frame.filter(pl.col("state") == "changed")
    return frozenset(changed.join(table.cells, on="cell_id", how="anti")["cell_id"])


def held_back(planned: Plan) -> str:
    """Explain why the plan's held cells do not run again: they need cells that have changed but are not requested."""
    return (
        f"{count_cells(planned.held)} with unchanged code need changed cells that --where leaves out; they run again "
        "only after those: widen --where, or leave it out"
    )


def _accepting(
    store: Store, digest: str, before: Source, now: Source, accepted: Collection[Acceptance]
) -> tuple[Acceptance, ...]:
    """Return a chain of acceptances that leads from a source to the present one; empty if there is none."""

    def source(name: str) -> Source | None:
        entry = documents.read_source(store.storage, name, store.skip)
        return None if entry is None else entry[0]

    reached: dict[str, tuple[Acceptance, ...]] = {digest: ()}
    sources = {digest: before}
    waiting = [digest]
    while waiting:
        here = waiting.pop(0)
        if not differences(sources[here], now):
            return reached[here]
        for entry in accepted:
            for start, end in ((entry.before, entry.after), (entry.after, entry.before)):
                if end in reached or (there := source(end)) is None:
                    continue
                if start == here or ((begin := source(start)) and not differences(sources[here], begin)):
                    reached[end], sources[end] = (*reached[here], entry), there
                    waiting.append(end)
    return ()


def acceptances(store: Store) -> list[Acceptance]:
    """Return all acceptances in the store, oldest first."""
    changed = documents.read(store.storage, documents.ACCEPTED, None, _acceptance, store.skip)
    return sorted((entry for entry, _ in changed), key=lambda entry: entry.time)


def _acceptance(text: bytes) -> Acceptance:
    try:
        fields = json.loads(text)
        parts = tuple(str(part) for part in fields.pop("parts"))
        entry = Acceptance(**fields, parts=parts)
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from None
    if not all(isinstance(value, str) for value in asdict(entry).values() if not isinstance(value, tuple)):
        raise ValueError("a value is not text")
    return entry


def accept(store: Store, changes: Collection[CodeChange], workloads: Mapping[str, Workload], reason: str) -> None:
    """Record that these changes do not matter, together with the present sources.

    Raises:
        InputError: the reason is empty, too long, or not text that a store can hold.
    """
    if not reason.strip() or len(reason) > MAX_REASON or not encodable(reason):
        raise InputError(f"--reason {short_repr(reason)}: give a text of 1 to {MAX_REASON} characters")
    for change in changes:
        documents.write_source(store.storage, change.after, source_of(workloads[change.workload]))
        parts = tuple(f"{difference.file}: {difference.what}" for difference in change.differences)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = Acceptance(change.workload, change.before, change.after, user(), now, reason.strip(), parts)
        stem = hashlib.sha256(f"{change.workload} {change.before} {change.after}".encode()).hexdigest()[:16]
        documents.write(store.storage, documents.ACCEPTED, stem, json.dumps(asdict(entry), sort_keys=True).encode())


def withdraw(store: Store, workloads: Collection[str]) -> int:
    """Remove all acceptances for these workloads, and return their number."""
    return documents.delete(store.storage, documents.ACCEPTED, lambda text: _acceptance(text).workload in workloads)


def user() -> str:
    """Return the name of the user of this process; "unknown" if the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"
