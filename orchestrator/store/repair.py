"""`raysweep store repair`: moves damaged files aside, so that a launch runs exactly the cells whose results are lost.

A cell stays done if its row and all arrays, texts and artifacts of its done attempt can be read, contents included.
The row of a done cell is in `cells` and in `attempts`. If one of these tables has lost the row, it is restored from
the other. A done cell that has lost more becomes pending: its remaining rows are removed from all tables. A segment
from which rows are removed is moved aside, too. An attempt that is not done may have an artifact with damaged
content. This artifact stays listed, but as not kept.

`survey` only reads the store, and decides what to do. `Repair` then owns the store. It first moves damaged contents
of artifacts aside; a missing content counts the same as a damaged one. It changes `cells`, then `attempts`, then the
other tables. So if the repair is killed, another survey decides the same about each cell. Last, a seal replaces each
damaged segment. The seal lists the names of the segments that the damaged one may have replaced. So no late write can
take the name of the damaged segment, and the replaced segments do not come back.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl
import pyarrow as pa

from raysweep.orchestrator.code.source import decoded
from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.store import artifacts, documents, live
from raysweep.orchestrator.store.lease import EPOCH_FILE, epochs, note_bytes, read_note
from raysweep.orchestrator.store.owner import Owner
from raysweep.orchestrator.store.reader import FORMAT, MARK, Store
from raysweep.orchestrator.store.schema import COUNTED, DETAILS, SCHEMA_VERSION, TABLES
from raysweep.orchestrator.store.segments import (
    NAME,
    UNKNOWN,
    DetailCounts,
    Run,
    Segment,
    encode,
    finish,
    joined,
    keys,
    listed,
    parse_name,
    read_segment,
    run_lengths,
    verify,
)
from raysweep.orchestrator.store.storage.storage import exists

ASIDE = "_damaged"
"""Folder for damaged files that were moved aside. Readers ignore it."""
_KEY = ["cell_id", "attempt"]


@dataclass(frozen=True)
class Survey:
    """The damage of a store, and what its repair will do.

    Args:
        files: path -> problem, of each damaged file and each missing content of an artifact.
        run_again: the done cells that have to run again. Columns: cell_id, lost (`row`: its row in `cells` is lost
            and cannot be restored; `details`: it may have lost arrays, texts or artifacts).
        unknown: number of requested cells without any row, which may be pending or lost; 0 unless files of both
            `cells` and `attempts` are damaged.
        lost_requests: whether the record of a sweep is damaged, so that pending cells may be missing from the store.
        done: the cells that stay done. Columns: cell_id, attempt.
    """

    files: dict[str, str]
    run_again: pl.DataFrame
    unknown: int
    lost_requests: bool
    done: pl.DataFrame

    @property
    def damaged(self) -> bool:
        """Whether there is anything to repair."""
        return bool(self.files)


class _Rows:
    """The keys of the rows in all live, undamaged segments, as one frame per table.

    A frame has the columns cell_id, attempt, epoch, status, details and path (of the segment). In the frame of
    `attempts`, details is the number of rows in `COUNTED` tables that the attempt recorded. The frame of a table in
    `DETAILS` has only one row per attempt and segment: there, details is the number of the attempt's rows in the
    segment, and epoch is null. Only `attempts` has a status.
    """

    def __init__(self, store: Store) -> None:
        self.segments: dict[str, list[Segment]] = {}
        self.frames: dict[str, pl.DataFrame] = {}
        for folder in TABLES:
            every = [s for s in store.every_segment(folder) if s.path not in store.skipped]
            verify(store.storage, every, store.skip)  # also those without live rows, which `store check` reports, too
            self.segments[folder] = [s for s in store.segments(folder) if s.rows and s.path not in store.skipped]
            self.frames[folder] = pl.concat([_no_rows(), *(self._read(store, s) for s in self.segments[folder])])
        self.without_content = pl.concat(
            [_no_rows(), *(_without_content(store, s) for s in self.segments["artifacts"])]
        )
        """Attempts that have an artifact with missing or damaged content; column path: the segment of `artifacts`."""

    @staticmethod
    def _read(store: Store, segment: Segment) -> pl.DataFrame:
        columns = {"attempts": [*_KEY, "epoch", "status"], "cells": [*_KEY, "epoch"]}.get(segment.folder, _KEY)
        frame = pl.DataFrame(pl.from_arrow(read_segment(store.storage, segment, columns)))
        if segment.folder in DETAILS:
            frame = frame.group_by(_KEY, maintain_order=True).agg(pl.len().cast(pl.Int64).alias("details"))
        elif segment.folder == "attempts":
            frame = frame.with_columns(details=pl.Series(_expanded(segment.detail_counts), dtype=pl.Int64))
        return pl.concat([_no_rows(), frame.with_columns(path=pl.lit(segment.path))], how="diagonal")


def _without_content(store: Store, segment: Segment) -> pl.DataFrame:
    """Return the attempts in a segment of `artifacts` that have an artifact with missing or damaged content.

    The paths of these contents are added to the store's skipped files.
    """
    table = pl.DataFrame(pl.from_arrow(read_segment(store.storage, segment)))
    keys_of_rows = []
    for row, error in artifacts.damage(store.storage, table):
        store.skip(artifacts.named_by(row), error)
        keys_of_rows.append({"cell_id": row["cell_id"], "attempt": row["attempt"], "path": segment.path})
    schema = {name: kind for name, kind in _no_rows().schema.items() if name in {*_KEY, "path"}}
    return pl.concat([_no_rows(), pl.DataFrame(keys_of_rows, schema).unique()], how="diagonal")


def _no_rows() -> pl.DataFrame:
    return pl.DataFrame(
        schema={
            "cell_id": pl.String,
            "attempt": pl.Int32,
            "epoch": pl.Int64,
            "status": pl.String,
            "details": pl.Int64,
            "path": pl.String,
        }
    )


def _expanded(counts: DetailCounts) -> list[int]:
    return [count for count, length in counts for _ in range(length)]


def survey(store: Store) -> Survey:
    """Read all undamaged files of a store, and decide which cells stay done. The store must skip damaged files.

    Raises:
        StoreDamaged: a damaged entry is not a file, for example a link, and cannot be moved aside.
    """
    return _survey(store)[0]


def _survey(store: Store) -> tuple[Survey, _Rows]:
    rows = _Rows(store)
    known = store.known().cells.select("cell_id")
    for epoch in epochs(store.storage):
        try:
            read_note(store.storage, epoch)
        except StoreDamaged as error:
            store.skip(f"_epochs/{epoch:08d}.json", error)
    for folder in documents.FOLDERS:
        parse: Callable[[bytes], object] = decoded if folder == documents.SOURCES else bytes
        documents.read(store.storage, folder, None, parse, store.skip)
    live.read_all(store.storage, store.skip)
    for path in store.skipped:
        exists(store.storage, path)  # raises for what is no file
    damaged = {folder: _generations(store, folder) for folder in TABLES}
    cells, attempts = rows.frames["cells"], rows.frames["attempts"]
    done = attempts.filter(pl.col("status") == "done")
    rows_of_cells = cells.select(_KEY).sort("attempt").unique("cell_id", keep="last")
    candidates = rows_of_cells
    if not damaged["attempts"]:  # else the last attempt of a cell might be another one
        spare = done.select(_KEY).sort("attempt").unique("cell_id", keep="last")
        if not damaged["cells"]:  # a rerun whose commit was interrupted is no reason to replace a row
            spare = spare.join(rows_of_cells, on="cell_id", how="anti")
        candidates = pl.concat([candidates, spare]).sort("attempt").unique("cell_id", keep="last", maintain_order=True)
    whole = candidates
    if newest := [epoch for folder in COUNTED for epoch in damaged[folder]]:
        whole = _have_details(candidates, rows, max(newest))
    whole = whole.join(rows.without_content, on=_KEY, how="anti")
    ever = pl.concat([cells.select("cell_id"), done.select("cell_id")]).unique(maintain_order=True)
    again = ever.join(whole, on="cell_id", how="anti")
    lost = pl.when(pl.col("cell_id").is_in(candidates["cell_id"].implode())).then(pl.lit("details"))
    unknown = 0
    if damaged["cells"] and damaged["attempts"]:
        unknown = known.join(ever, on="cell_id", how="anti").join(attempts, on="cell_id", how="anti").height
    files = dict(sorted(store.skipped.items()))
    return Survey(
        files,
        again.with_columns(lost=lost.otherwise(pl.lit("row"))).sort("cell_id"),
        unknown,
        any(path.startswith("_sweeps/") for path in files),
        whole.sort("cell_id"),
    ), rows


def _generations(store: Store, folder: str) -> list[int]:
    """Return the generations of damaged segments that may have held live rows.

    Seals, segments that a compaction has replaced, and foreign files are left out.
    """
    held_none = {s.path for s in store.every_segment(folder)} - {s.path for s in store.segments(folder) if s.rows}
    lost = [path for path in store.skipped if path.startswith(f"{folder}/") and path not in held_none]
    names = [path.partition("/")[2] for path in lost]
    return [parse_name(folder, name)[0] for name in names if NAME.fullmatch(name)]


def _have_details(candidates: pl.DataFrame, rows: _Rows, newest: int) -> pl.DataFrame:
    """Return the candidates (cell_id, attempt) that have certainly lost no array, text or artifact.

    `newest` is the newest generation with a damaged segment of these tables.
    """
    left = pl.concat([rows.frames[folder] for folder in COUNTED])
    left = left.group_by(_KEY).agg(pl.col("details").sum().alias("left"))
    epochs_of = pl.concat([rows.frames[folder].select(*_KEY, "epoch") for folder in ("cells", "attempts")]).unique(_KEY)
    recorded = rows.frames["attempts"].select(*_KEY, "details").unique(_KEY, keep="first")
    frame = candidates
    for other in (left, epochs_of, recorded):
        frame = frame.join(other, on=_KEY, how="left", maintain_order="left")
    left_over, number = pl.col("left").fill_null(0), pl.col("details").fill_null(UNKNOWN)
    # Without a recorded number, a cell without any may have lost them.
    has_all = (
        pl.when(number == UNKNOWN).then((left_over > 0) | (pl.col("epoch") > newest)).otherwise(left_over == number)
    )
    return frame.filter(has_all).select(_KEY)


def _is_content(path: str) -> bool:
    return path.startswith(f"{artifacts.FOLDER}/")


class Repair(Owner):
    """An owner that repairs a store. The store must skip damaged files."""

    def _begin(self, unfinished: list[int]) -> None:
        """Do nothing: `apply` handles the interrupted commits of all generations."""

    def apply(self, expected: Survey) -> None:
        """Repair the store.

        Raises:
            InputError: the store has changed since the survey.
        """
        surveyed, rows = _survey(self.store)
        if surveyed.files != expected.files or not surveyed.run_again.equals(expected.run_again):
            raise InputError(f"store {self.storage}: has changed since its damage was listed; repair it again")
        self.storage.prepare((ASIDE,))
        for path in filter(_is_content, surveyed.files):
            self._move_aside(path)
        self._rewrite(surveyed, rows)
        for path in itertools.filterfalse(_is_content, surveyed.files):
            self._move_aside(path)

    def _rewrite(self, surveyed: Survey, rows: _Rows) -> None:
        """Remove the remaining rows of cells that run again.

        Rows that only `cells` or only `attempts` has lost are restored from the other table.
        """
        changed = set(rows.without_content["path"])
        done, again = surveyed.done, surveyed.run_again["cell_id"].implode()
        cells, attempts = rows.frames["cells"], rows.frames["attempts"]
        attempts_left = attempts.filter((pl.col("status") != "done") | ~pl.col("cell_id").is_in(again))
        ended = pl.concat([attempts_left.select(_KEY), done])
        keep = {
            "cells": cells.join(done, on=_KEY, how="semi").unique("cell_id", maintain_order=True),
            "attempts": attempts_left,
            **{folder: rows.frames[folder].join(ended, on=_KEY, how="semi") for folder in DETAILS},
        }
        restored = {
            "cells": self._rows_of(rows.segments["attempts"], done.join(cells, on=_KEY, how="anti")),
            "attempts": self._rows_of(rows.segments["cells"], done.join(attempts, on=_KEY, how="anti")),
        }
        for folder in ("cells", "attempts", *DETAILS):
            for segment in rows.segments[folder]:
                before, after = (
                    frame.filter(pl.col("path") == segment.path) for frame in (rows.frames[folder], keep[folder])
                )
                if after.height < before.height or segment.path in changed:
                    self._reduce(segment, set(after.select(_KEY).iter_rows()))
            if (table := restored.get(folder)) is not None:
                table = table.select(TABLES[folder].names).cast(TABLES[folder])
                self._commit(folder, table, (), ((UNKNOWN, table.num_rows),) if table.num_rows else ())

    def _rows_of(self, segments: Sequence[Segment], wanted: pl.DataFrame) -> pa.Table:
        """Return the rows of the attempts `wanted` in these segments of `cells` or `attempts`.

        The result has the columns of `attempts`. Those that `cells` lacks are null in rows from `cells`.
        """
        left, tables = set(wanted.select(_KEY).iter_rows()), [TABLES["attempts"].empty_table()]
        for segment in segments if left else ():
            table = read_segment(self.storage, segment)
            tables.append(table.filter(pa.array([key in left for key in keys(table)], pa.bool_())))
            left.difference_update(keys(table))
        return pa.concat_tables(tables, promote_options="default")

    def _reduce(self, segment: Segment, keep: set[tuple[str, int]]) -> None:
        """Replace a segment by one that has only the rows of the attempts in `keep`."""
        table = read_segment(self.storage, segment)
        mask = [key in keep for key in keys(table)]
        counts = run_lengths(itertools.compress(_expanded(segment.detail_counts), mask))
        self._copy(segment.path, self.storage.read(segment.path) or b"")
        kept = table.filter(pa.array(mask, pa.bool_()))
        if segment.folder == "artifacts":
            kept = self._as_not_kept(kept)
        self._commit(segment.folder, kept, [segment], counts)
        self.storage.delete(segment.path)

    def _as_not_kept(self, table: pa.Table) -> pa.Table:
        """Mark missing and damaged contents in rows of `artifacts` as not kept, and return all the rows."""
        rows = table.to_pylist()
        for row in rows:
            if row["sha256"] is not None and artifacts.named_by(row) in self.store.skipped:
                row |= {"sha256": None, "kind": "not kept: its content was damaged or missing, and a repair removed it"}
        return pa.Table.from_pylist(rows, table.schema)

    # Damaged files

    def _move_aside(self, path: str) -> None:
        """Copy a damaged file into `ASIDE`, then remove it.

        A file whose name must stay taken is replaced by a valid one instead.
        """
        data = self.storage.read(path)
        if data is None:
            return
        self._copy(path, data)
        folder, _, name = path.partition("/")
        if path == MARK:
            new = json.dumps({"format": FORMAT, "schema": SCHEMA_VERSION}).encode()
        elif folder == "_epochs" and EPOCH_FILE.fullmatch(name):
            new = note_bytes(int(name[:8]), {"repaired_by": self.epoch})
        elif folder in TABLES and NAME.fullmatch(name):
            encoded = encode(folder, TABLES[folder].empty_table(), seal=True, replaced=self._replaced(folder, name))
            new = finish(encoded, name)
        else:
            self.storage.delete(path)
            return
        if not self.storage.exchange(path, data, new):
            raise InputError(f"{path}: was changed by another process; repair the store again")

    def _copy(self, path: str, data: bytes) -> None:
        digest = hashlib.sha256(data).hexdigest()[:16]
        # Another name than .parquet, as some globs search all folders.
        self.storage.create(f"{ASIDE}/{path.replace('/', '-')[:200]}-{digest}", data)

    def _replaced(self, folder: str, name: str) -> tuple[Run, ...]:
        """Return the names that a damaged segment has replaced.

        If its footer cannot be read, return all unused names before its own, which it may have replaced.
        """
        for segment in self.store.every_segment(folder):
            if segment.name == name:
                return segment.replaces
        own = parse_name(folder, name)
        taken: dict[int, list[int]] = {}
        for other in filter(NAME.fullmatch, listed(self.storage, folder)):
            if (number := parse_name(folder, other)) <= own:
                taken.setdefault(number[0], []).append(number[1])
        return joined(
            (epoch, before + 1, after - 1)
            for epoch, numbers in taken.items()
            for before, after in itertools.pairwise([-1, *sorted(numbers)])
            if after > before + 1
        )
