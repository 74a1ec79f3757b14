"""`raysweep store check`: every file of a store, page checksums included. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store.holder import EPOCH_FILE, about_epoch, current_owner
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import Segment, inspect, listed, live, replaced_by
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.sweeps import read_sweep

if TYPE_CHECKING:
    from raysweep.orchestrator.store.reader import Store

_KEY = ["cell_id", "attempt"]
_HINT = "; `raysweep store check` lists all damage"


def check(store: Store) -> list[str]:
    """One line for each thing that is wrong."""
    storage = store.storage
    problems: list[str] = []
    try:
        held = current_owner(storage)
    except StoreDamaged:
        held = None  # named below
    sound: dict[str, list[Segment]] = {}
    for folder in TABLES:
        good: list[Segment] = []
        problems.extend(_lines(storage, folder, good))
        sound[folder] = good
        problems.extend(
            f"{s.path}: a compaction was interrupted; until the next launch or `store compact` finishes it, a "
            "plain glob over the folder reads rows twice (raysweep itself does not)"
            for s in good
            if s.replaces and any(map(replaced_by([s]), good))
        )
    problems.extend(_surroundings(storage))
    if not problems:  # of what can't be read nothing more can be said
        problems.extend(_across(storage, sound, held is not None))
    return problems


def damage(storage: Storage, folder: str) -> list[str]:
    """A line for each segment of a folder that can't be read."""
    return list(_lines(storage, folder, []))


def _lines(storage: Storage, folder: str, good: list[Segment]) -> Iterator[str]:
    try:
        names = listed(storage, folder)
    except StoreDamaged as error:
        yield str(error)
        return
    for name in names:
        try:
            segment = inspect(storage, folder, name)
            with (
                storage.open(segment.path) as opened,
                pq.ParquetFile(opened, page_checksum_verification=True) as file,
            ):
                for group in range(file.num_row_groups):
                    file.read_row_group(group)
            good.append(segment)
        except FileNotFoundError:
            continue  # merged away meanwhile
        except StoreDamaged as error:
            yield str(error).removesuffix(_HINT)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            yield f"{folder}/{name}: damaged: {str(error).splitlines()[0][:200]}"


def _surroundings(storage: Storage) -> Iterator[str]:
    """What is wrong in the folders that hold no segments."""
    for folder in ("_sweeps", "_epochs", "_hb", "_tmp", "checkpoints"):
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
                    if not about_epoch(storage, int(name[:8])):
                        raise StoreDamaged(f"_epochs/{name}: torn or foreign")
                elif folder == "checkpoints":
                    storage.names(f"{folder}/{name}")
                else:
                    storage.size(f"{folder}/{name}")
            except FileNotFoundError:
                continue
            except StoreDamaged as error:
                yield str(error)


def _across(storage: Storage, sound: dict[str, list[Segment]], held: bool) -> Iterator[str]:
    """What holds between rows."""

    def rows(folder: str, *columns: str) -> list[pl.DataFrame]:
        paths = [storage.locate(s.path) for s in live(sound[folder]) if s.rows]
        how: dict[str, Any] = {"glob": False, "storage_options": storage.reading, "credential_provider": None}
        return [pl.read_parquet(path, columns=list(columns), **how) for path in paths]

    try:
        found = {folder: rows(folder, *_KEY, *(() if folder == "arrays" else ("status",))) for folder in TABLES}
    except FileNotFoundError:
        return  # merged away meanwhile: an owner is at work, and reads all it merges
    empty = pl.DataFrame(schema={"cell_id": pl.String, "attempt": pl.Int32, "status": pl.String})
    arrays = pl.concat([empty.select(_KEY), *(frame.unique() for frame in found["arrays"])])
    attempts, cells = (pl.concat([empty, *found[folder]]) for folder in ("attempts", "cells"))
    yield from _twice("cells", cells.select("cell_id"), "cells have two rows")
    yield from _twice("attempts", attempts.select(_KEY), "attempts have two rows")
    yield from _twice("arrays", arrays, "attempts have their arrays twice")
    wrong = cells.filter(pl.col("status") != "done").height
    if wrong:
        yield f"cells: {wrong} rows are not done"
    if held or current_owner(storage):  # no epoch is torn, or we would not be here
        return  # its commit may be half made; halves from before it has finished when it began
    if (orphans := arrays.join(pl.concat([attempts, cells]), on=_KEY, how="anti")).height:
        yield _some("arrays", orphans, "attempts have arrays and no row in attempts")
    if (lost := cells.join(attempts, on=_KEY, how="anti")).height:
        yield _some("cells", lost, "cells have no row in attempts: files are missing there")
    done = attempts.filter(pl.col("status") == "done")
    if (lost := done.join(cells, on="cell_id", how="anti").unique("cell_id")).height:
        yield _some("attempts", lost, "cells are done and have no row in cells")


def _twice(folder: str, rows: pl.DataFrame, what: str) -> Iterator[str]:
    twice = rows.filter(rows.is_duplicated()).unique()
    if twice.height:
        yield f"{folder}: {twice.height} {what}, such as {twice['cell_id'][0]}"


def _some(folder: str, rows: pl.DataFrame, what: str) -> str:
    mended = "a commit was interrupted, or files are gone; `raysweep store compact` makes it whole"
    end = "" if "missing" in what else f" ({mended})"
    return f"{folder}: {rows.height} {what}, such as {rows['cell_id'][0]}{end}"
