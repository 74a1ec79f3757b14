"""Stage 7: the store, as readers see it.

Readers never block and never write; writing is `owner`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.cells import CELLS_SCHEMA, VARIANTS_SCHEMA, CellTable, merge
from orchestrator.errors import InputError, StoreDamaged
from orchestrator.local_disk import LocalDisk
from orchestrator.schema import LOSSES, OWN_ERRORS, SCHEMA_VERSION, TABLES
from orchestrator.segments import Segment, inspect, listed, live

FORMAT = 1
FOLDERS = (*TABLES, "checkpoints", "_sweeps", "_epochs", "_hb", "_tmp")
MARK = "store.json"
DEFAULT = "results"


@dataclass(frozen=True)
class RecordedSweep:
    """A sweep as a launch recorded it: `about` is its file and overrides, `table` its cells."""

    about: Mapping[str, Any]
    table: CellTable


class Store:
    """A store to read, by path.

    Raises:
        InputError: the path is no store, or one of a newer format.
    """

    def __init__(self, path: str | Path = DEFAULT) -> None:
        text = str(path)
        if "://" in text:
            raise InputError(f"store {text!r}: object stores are not supported yet; give a folder")
        self.disk = LocalDisk(Path(text).expanduser())
        self._footers: dict[tuple[str, str], Segment] = {}
        check_format(self.disk)

    def __repr__(self) -> str:
        return f"Store({str(self.disk)!r})"

    def exists(self) -> bool:
        """Whether a launch has made it yet."""
        return self.disk.read(MARK) is not None

    def require(self) -> Store:
        """Itself, or InputError where nothing was launched into it."""
        if not self.exists():
            raise InputError(f"no store at {self.disk}: launch a sweep first, or give --store (or RAYSWEEP_STORE)")
        return self

    def segments(self, folder: str) -> list[Segment]:
        """The segments that count, checked by their footers.

        Raises:
            StoreDamaged: a file is torn, foreign or of another schema.
        """
        for _ in range(100):
            found = []
            for name in listed(self.disk, folder):
                key = (folder, name)
                try:
                    if key not in self._footers:  # a segment never changes
                        self._footers[key] = inspect(self.disk, folder, name)
                except FileNotFoundError:
                    break  # merged away between listing and reading: look again
                found.append(self._footers[key])
            else:
                return live(found)
        raise StoreDamaged(f"{self.disk}/{folder}: its files change faster than they can be read")

    def scan(self, folder: str) -> pl.LazyFrame:
        """One of the folders `cells`, `attempts`, `arrays` as a lazy frame of its fixed schema."""
        paths = [self.disk.locate(s.path) for s in self.segments(folder) if s.rows]
        if not paths:
            empty = pl.from_arrow(TABLES[folder].empty_table())
            assert isinstance(empty, pl.DataFrame)  # noqa: S101 - for the type checker
            return empty.lazy()
        return pl.scan_parquet(paths, glob=False)

    @property
    def cells(self) -> pl.LazyFrame:
        """Done cells, one row each."""
        return self.scan("cells")

    @property
    def attempts(self) -> pl.LazyFrame:
        """Every attempt that ended, good or bad."""
        return self.scan("attempts")

    @property
    def arrays(self) -> pl.LazyFrame:
        """Recorded arrays: loss curves, spectra."""
        return self.scan("arrays")

    def sql(self, query: str) -> pl.DataFrame:
        """Answer SQL over `cells`, `attempts` and `arrays` (see `orchestrator.query`)."""
        from orchestrator.query import query as answer

        return answer(self, query)

    def sweeps(self) -> list[RecordedSweep]:
        """The sweeps that launches recorded, oldest first."""
        found = [read_sweep(self.disk, name) for name in self.disk.names("_sweeps") if name.endswith(".arrow")]
        return sorted(found, key=lambda s: str(s.about.get("recorded_at")))

    def known(self) -> CellTable:
        """Every cell that any launch asked for."""
        tables = [s.table for s in self.sweeps()]
        return merge(tables)

    def summary(self) -> pl.DataFrame:
        """One row a cell with an attempt: cell_id, status, attempts, own_errors, losses, seconds, source_digest."""
        done = self.cells.select(
            "cell_id", "attempt", "seconds", "source_digest", pl.lit("done").alias("status")
        ).unique("cell_id", keep="first")
        tried = (
            self.attempts.select("cell_id", "attempt", "status")
            .group_by("cell_id")
            .agg(
                pl.col("attempt").max().alias("attempts"),
                pl.col("status").is_in(sorted(OWN_ERRORS)).sum().alias("own_errors"),
                pl.col("status").is_in(sorted(LOSSES)).sum().alias("losses"),
                pl.col("status").sort_by("attempt").last().alias("last"),
            )
        )
        return (
            done.join(tried, on="cell_id", how="full", coalesce=True)
            .with_columns(
                pl.coalesce("status", "last").alias("status"),
                pl.coalesce("attempts", "attempt").fill_null(0).alias("attempts"),
                pl.col("own_errors", "losses").fill_null(0),
            )
            .select("cell_id", "status", "attempts", "own_errors", "losses", "seconds", "source_digest")
            .collect()
        )

    def check(self) -> list[str]:
        """Verify every segment, page checksums included; one line for each thing that is wrong."""
        problems: list[str] = []
        for folder in TABLES:
            good: list[Segment] = []
            for name in listed(self.disk, folder):
                try:
                    segment = inspect(self.disk, folder, name)
                    with pq.ParquetFile(self.disk.locate(segment.path), page_checksum_verification=True) as file:
                        for group in range(file.num_row_groups):
                            file.read_row_group(group)
                    good.append(segment)
                except FileNotFoundError:
                    continue
                except StoreDamaged as error:
                    problems.append(str(error).removesuffix("; `raysweep store check` lists all damage"))
                except (pa.ArrowException, OSError) as error:
                    problems.append(f"{folder}/{name}: damaged: {str(error).splitlines()[0][:200]}")
            names = {s.name for s in good}
            pending = [s for s in good if names & set(s.replaces)]
            problems.extend(
                f"{s.path}: a compaction was interrupted; until the next launch or `store compact` finishes it, a "
                "plain glob over the folder reads rows twice (raysweep itself does not)"
                for s in pending
            )
            if folder == "cells":
                problems.extend(self._check_cells(live(good)))
        for name in self.disk.names("_sweeps"):
            try:
                read_sweep(self.disk, name)
            except StoreDamaged as error:
                problems.append(str(error))
        return problems

    def _check_cells(self, segments: list[Segment]) -> list[str]:
        paths = [self.disk.locate(s.path) for s in segments if s.rows]
        if not paths:
            return []
        ids = pl.scan_parquet(paths, glob=False).select("cell_id", "status").collect()
        twice = ids.filter(pl.col("cell_id").is_duplicated())["cell_id"].unique()
        lines = [f"cells: {len(twice)} cells have two rows, such as {twice[0]}"] if len(twice) else []
        wrong = ids.filter(pl.col("status") != "done").height
        return lines + ([f"cells: {wrong} rows are not done"] if wrong else [])


def check_format(disk: LocalDisk) -> None:
    """Raise InputError for a folder that is no store, or one of a newer format."""
    mark = disk.read(MARK) if disk.exists() else None
    if mark is None:
        if disk.exists() and any(name not in FOLDERS and name != "_lock" for name in disk.names("")):
            raise InputError(f"store {disk}: the folder holds other files and no {MARK}; give an empty or new folder")
        return
    try:
        about = json.loads(mark)
        version, schema = int(about["format"]), int(about["schema"])
    except (ValueError, KeyError, TypeError):
        raise StoreDamaged(f"{disk}/{MARK}: not a store's mark") from None
    if version > FORMAT or schema > SCHEMA_VERSION:
        raise InputError(
            f"store {disk}: of format {version}, schema {schema}; this raysweep reads up to {FORMAT}, "
            f"{SCHEMA_VERSION}: upgrade it"
        )


def sweep_bytes(about: Mapping[str, Any], table: CellTable) -> bytes:
    """A recorded sweep as bytes: an Arrow stream of its cells, one of its variants, and the rest as JSON."""
    head = json.dumps(about, sort_keys=True).encode()
    parts = [head]
    for frame in (table.variants, table.cells):
        parts.append(_ipc(frame))
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)


def _ipc(frame: pl.DataFrame) -> bytes:
    import io

    sink = io.BytesIO()
    frame.write_ipc(sink, compression="zstd")
    return sink.getvalue()


def read_sweep(disk: LocalDisk, name: str) -> RecordedSweep:
    """Read back what `sweep_bytes` wrote.

    Raises:
        StoreDamaged: the file is torn or foreign.
    """
    data = disk.read(f"_sweeps/{name}") or b""
    parts, at = [], 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        parts.append(data[at + 8 : at + 8 + size])
        at += 8 + size
    try:
        head, variants, cells = parts
        table = CellTable(pl.read_ipc(variants), pl.read_ipc(cells))
        about = json.loads(head)
        if (
            at != len(data)
            or dict(table.variants.schema) != VARIANTS_SCHEMA
            or dict(table.cells.schema) != CELLS_SCHEMA
        ):
            raise ValueError("other columns")
    except (ValueError, pl.exceptions.PolarsError, OSError) as error:
        raise StoreDamaged(f"_sweeps/{name}: torn or foreign: {error}") from None
    return RecordedSweep(about, table)
