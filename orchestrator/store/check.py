"""The command `store check`: verifies every file of a store, page checksums included, and writes nothing."""

from __future__ import annotations

from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store import artifacts, documents, live
from raysweep.orchestrator.store.lease import EPOCH_FILE, current_owner, read_note
from raysweep.orchestrator.store.schema import DETAILS, TABLES
from raysweep.orchestrator.store.segments import HINT, Segment, inspect, listed, read_segment, replaced_by, verify
from raysweep.orchestrator.store.segments import live as not_replaced
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.sweeps import read_sweep

_KEY = ["cell_id", "attempt"]


def check(storage: Storage) -> list[str]:
    """Describe each problem of a store in one line."""
    problems: list[str] = []
    try:
        owner = current_owner(storage)
    except StoreDamaged:
        owner = None  # the torn file is reported below
    sound: dict[str, list[Segment]] = {}
    for folder in TABLES:
        good: list[Segment] = []
        problems.extend(_damage(storage, folder, good))
        sound[folder] = good
        problems.extend(
            f"{s.path}: a compaction was interrupted; until the next launch or `raysweep store compact` finishes it, "
            "a plain glob over the folder reads rows twice (raysweep itself does not)"
            for s in good
            if s.replaces and any(map(replaced_by([s]), good))
        )
    problems.extend(_other_files(storage))
    problems.extend(documents.problems(storage))
    if owner is None:  # a living owner removes the rows and contents of an interrupted commit one after the other
        problems.extend(_contents(storage, not_replaced(sound["artifacts"])))
    if not problems:  # rows can only be compared if all of them can be read
        problems.extend(_inconsistencies(storage, sound, owner is not None))
    return problems


def damage(storage: Storage, folder: str) -> list[str]:
    """Describe each unreadable segment of a folder in one line."""
    return list(_damage(storage, folder, []))


def _damage(storage: Storage, folder: str, good: list[Segment]) -> Iterator[str]:
    """Describe each unreadable segment of a folder, and append the readable ones to `good`."""
    try:
        names = listed(storage, folder)
    except StoreDamaged as error:
        yield str(error)
        return
    for name in names:
        try:
            segment = inspect(storage, folder, name)
            verify(storage, [segment])
            with storage.open(segment.path) as opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
                for group in range(file.num_row_groups):
                    file.read_row_group(group)
            good.append(segment)
        except FileNotFoundError:
            continue  # merged away meanwhile
        except StoreDamaged as error:
            yield str(error).removesuffix(HINT)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield f"{folder}/{name}: damaged: {str(error).splitlines()[0][:200]}"


def _other_files(storage: Storage) -> Iterator[str]:
    """Describe problems in the folders without segments."""
    live_states: list[StoreDamaged] = []
    live.read_all(storage, lambda path, error: live_states.append(error))
    yield from map(str, live_states)
    for folder in ("_sweeps", "_epochs", "_hb", "_tmp", "_control", "checkpoints", "files"):
        try:
            names = storage.names(folder)
        except StoreDamaged as error:
            yield str(error)
            continue
        for name in names:
            if folder == "_sweeps" and name.startswith(".nfs"):
                continue
            try:
                if folder == "_sweeps":
                    read_sweep(storage, name)
                elif folder == "_epochs" and EPOCH_FILE.fullmatch(name):
                    read_note(storage, int(name[:8]))
                elif folder in ("checkpoints", "files"):
                    storage.names(f"{folder}/{name}")
                else:
                    storage.size(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            except StoreDamaged as error:
                yield str(error)


def _contents(storage: Storage, segments: list[Segment]) -> Iterator[str]:
    """Yield a description of each artifact content that is missing or damaged."""
    for segment in segments:
        try:
            rows = pl.DataFrame(pl.from_arrow(read_segment(storage, segment)))
        except FileNotFoundError:
            continue  # merged away meanwhile
        yield from (str(error) for _, error in artifacts.damage(storage, rows))


def _inconsistencies(storage: Storage, sound: dict[str, list[Segment]], owned: bool) -> Iterator[str]:
    """Describe rows that contradict each other, within a table or between tables."""

    def rows(folder: str, *columns: str) -> list[pl.DataFrame]:
        tables = (read_segment(storage, s, list(columns)) for s in not_replaced(sound[folder]) if s.rows)
        return [pl.DataFrame(pl.from_arrow(table)) for table in tables]

    try:
        tables = {folder: rows(folder, *_KEY, *(() if folder in DETAILS else ("status",))) for folder in TABLES}
    except FileNotFoundError:
        return  # merged away meanwhile, by an owner, which reads all that it merges
    empty = pl.DataFrame(schema={"cell_id": pl.String, "attempt": pl.Int32, "status": pl.String})
    details = {
        folder: pl.concat([empty.select(_KEY), *(frame.unique() for frame in tables[folder])]) for folder in DETAILS
    }
    attempts, cells = (pl.concat([empty, *tables[folder]]) for folder in ("attempts", "cells"))
    yield from _duplicates("cells", cells.select("cell_id"), "cells have two rows")
    yield from _duplicates("attempts", attempts.select(_KEY), "attempts have two rows")
    for folder, keys in details.items():
        yield from _duplicates(folder, keys, f"attempts have their {folder} twice")
    wrong = cells.filter(pl.col("status") != "done").height
    if wrong:
        yield f"cells: {wrong} rows have another status than done"
    if owned or current_owner(storage):
        return  # a living owner may be in the middle of a commit; it finished older half commits when it began
    repair = "a commit was interrupted, or files are missing; `raysweep store compact` repairs it"
    for folder, keys in details.items():
        if (orphans := keys.join(pl.concat([attempts, cells]), on=_KEY, how="anti")).height:
            yield f"{_count(folder, orphans, f'attempts have {folder} but no row in attempts')} ({repair})"
    if (lost := cells.join(attempts, on=_KEY, how="anti")).height:
        yield _count("cells", lost, "cells have no row in attempts (files are missing)")
    done = attempts.filter(pl.col("status") == "done")
    if (lost := done.join(cells, on="cell_id", how="anti").unique("cell_id")).height:
        yield f"{_count('attempts', lost, 'cells are done but have no row in cells')} ({repair})"


def _duplicates(folder: str, rows: pl.DataFrame, problem: str) -> Iterator[str]:
    duplicates = rows.filter(rows.is_duplicated()).unique()
    if duplicates.height:
        yield _count(folder, duplicates, problem)


def _count(folder: str, rows: pl.DataFrame, problem: str) -> str:
    return f"{folder}: {rows.height} {problem}, such as {rows['cell_id'][0]}"
