"""Stage 7, reading: segments become lazy frames. Readers never block, and never write."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import polars as pl

from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.status import CHARGES, statuses_of
from raysweep.orchestrator.store.check import check, damage
from raysweep.orchestrator.store.schema import SCHEMA_VERSION, TABLES
from raysweep.orchestrator.store.segments import Segment, inspected, listed, live, verify
from raysweep.orchestrator.store.storage.storage import Storage, open_storage, read_at_most
from raysweep.orchestrator.store.sweeps import RecordedSweep, known_cells, read_sweep
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable

FORMAT = 1
FOLDERS = (*TABLES, "checkpoints", "_sweeps", "_epochs", "_hb", "_tmp")
MARK, MARK_BYTES = "store.json", 2**16
DEFAULT = "results"
_MAX_TRIES = 100
"""Number of tries of a read while a launch merges the files away."""


class Store:
    """A store to read.

    Args:
        path: the store's folder, or its address on an object store. The store need not exist yet.

    Raises:
        InputError: the path contains other files but no store, or the store has a newer format.
    """

    def __init__(self, path: str | Path = DEFAULT) -> None:
        self.storage = open_storage(str(path))
        self._footers: dict[tuple[str, str], Segment] = {}
        self._verified: set[str] = set()  # paths of segments
        self._summary_of: tuple[tuple[str, ...], pl.DataFrame] | None = None  # paths of segments, their summary
        check_format(self.storage)

    def __repr__(self) -> str:
        return f"Store({str(self.storage)!r})"

    def exists(self) -> bool:
        """Whether a launch has created the store."""
        return read_at_most(self.storage, MARK, MARK_BYTES) is not None

    def require(self) -> Store:
        """Return the store itself. Raises InputError if no launch has created it."""
        if not self.exists():
            raise InputError(f"no store at {self.storage}: launch a sweep first, or give --store (or RAYSWEEP_STORE)")
        return self

    def segments(self, folder: str) -> list[Segment]:
        """List the segments of a folder that no compaction has replaced. Their footers are checked.

        Raises:
            StoreDamaged: a file is incomplete, is not raysweep's, or has another schema.
        """
        return live(self.every_segment(folder))

    def every_segment(self, folder: str) -> list[Segment]:
        """List all segments of a folder, including those that a compaction has replaced."""
        for _ in range(_MAX_TRIES):
            names = listed(self.storage, folder)
            new = [name for name in names if (folder, name) not in self._footers]  # a segment never changes
            try:
                for segment in inspected(self.storage, folder, new):
                    self._footers[folder, segment.name] = segment
            except FileNotFoundError:
                continue  # merged away between listing and reading: look again
            # A listing is not atomic: it may miss both the merged segments and the one they were merged into.
            if listed(self.storage, folder) == names:
                return [self._footers[folder, name] for name in names]
        raise StoreDamaged(f"{self.storage}/{folder}: its files change faster than they can be read")

    def collect(self, frame: Callable[[], pl.LazyFrame]) -> pl.DataFrame:
        """Collect a lazy frame over `cells`, `attempts` and `arrays`, even while a launch merges segments.

        Args:
            frame: builds the lazy frame. Called again if a merge removed a file before it was read.

        Raises:
            StoreDamaged: pages of a file are damaged; the message names the file.
        """
        for _ in range(_MAX_TRIES):
            try:
                return frame().collect()
            except FileNotFoundError:
                continue
            except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
                lines = [line for folder in TABLES for line in damage(self.storage, folder)]
                if not lines:
                    raise
                raise StoreDamaged(lines[0]) from error
        raise StoreDamaged(f"{self.storage}: its files change faster than they can be read")

    def scan(self, folder: str) -> pl.LazyFrame:
        """Scan one of the folders `cells`, `attempts`, `arrays` into a lazy frame with the folder's schema.

        All of its segments are verified first. Each segment is verified only once.

        Raises:
            StoreDamaged: a file is damaged; the message names it.
        """
        segments = [segment for segment in self.segments(folder) if segment.rows]
        verify(self.storage, [segment for segment in segments if segment.path not in self._verified])
        self._verified.update(segment.path for segment in segments)
        paths = [self.storage.locate(segment.path) for segment in segments]
        if not paths:
            return _empty(folder)
        return pl.scan_parquet(paths, glob=False, storage_options=self.storage.reading, credential_provider=None)

    @property
    def cells(self) -> pl.LazyFrame:
        """The cells that are done, one row per cell."""
        return self.scan("cells")

    @property
    def attempts(self) -> pl.LazyFrame:
        """The attempts that have ended, with any status, one row per attempt."""
        return self.scan("attempts")

    @property
    def arrays(self) -> pl.LazyFrame:
        """Recorded arrays, such as loss curves."""
        return self.scan("arrays")

    def sql(self, query: str) -> pl.DataFrame:
        """Execute a SQL query over `cells`, `attempts` and `arrays` (see `raysweep.orchestrator.query.sql`)."""
        # For the user's convenience, the one import against the direction of the folders; lazy, as DuckDB is large.
        from raysweep.orchestrator.query.sql import query as answer

        return answer(self, query)

    def sweeps(self) -> list[RecordedSweep]:
        """The sweeps that launches recorded, oldest first."""
        names = [name for name in self.storage.names("_sweeps") if name.endswith(".arrow")]
        sweeps = [read_sweep(self.storage, name) for name in names]
        return sorted(sweeps, key=lambda sweep: str(sweep.metadata.get("recorded_at")))

    def known(self) -> CellTable:
        """Return all cells that launches have requested."""
        return known_cells(self.sweeps())

    def summary(self) -> pl.DataFrame:
        """Return one row per cell with an attempt: cell_id, status, attempts, `CHARGES`, seconds, source_digest."""
        paths = self._paths() if self.exists() else ()
        if self._summary_of is None or self._summary_of[0] != paths:
            if paths:
                summary = self.collect(lambda: _summary(self.cells, self.attempts))
                if self._paths() != paths:
                    return summary  # not to be cached: which segments it read is unknown
            else:
                summary = _summary(_empty("cells"), _empty("attempts")).collect()
            self._summary_of = (paths, summary)
        return self._summary_of[1]

    def times(self) -> pl.DataFrame:
        """Return the mean seconds of done cells, one row per variant (`cells.VARIANT`)."""
        return self.collect(lambda: self.cells.group_by(VARIANT).agg(pl.col("seconds").mean()))

    def _paths(self) -> tuple[str, ...]:
        return tuple(s.path for folder in ("cells", "attempts") for s in self.segments(folder) if s.rows)

    def check(self) -> list[str]:
        """Verify every file, page checksums included; return one line per problem."""
        return check(self.storage)


def check_format(storage: Storage) -> None:
    """Raise InputError if the folder holds other files but no store, or the store has a newer format."""
    mark = read_at_most(storage, MARK, MARK_BYTES) if storage.exists() else None
    if mark is None:
        # The mark may be among the names: a launch has created the store since it was read.
        ours = {*FOLDERS, "_lock", MARK}
        if storage.exists() and any(name not in ours for name in storage.names("")):
            raise InputError(
                f"store {storage}: the folder has files in it but no {MARK}; give a store, or an empty or new folder"
            )
        return
    try:
        fields = json.loads(mark)
        version, schema = int(fields["format"]), int(fields["schema"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise StoreDamaged(f"{storage}/{MARK}: torn or foreign: it names no format and schema") from None
    if version > FORMAT or schema > SCHEMA_VERSION:
        raise InputError(
            f"store {storage}: has format {version}, schema {schema}; this raysweep reads up to {FORMAT}, "
            f"{SCHEMA_VERSION}: upgrade it"
        )


def _empty(folder: str) -> pl.LazyFrame:
    frame = pl.from_arrow(TABLES[folder].empty_table())
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - for the type checker
    return frame.lazy()


def _summary(cells: pl.LazyFrame, attempts: pl.LazyFrame) -> pl.LazyFrame:
    done = cells.select("cell_id", "attempt", "seconds", "source_digest", pl.lit("done").alias("status")).unique(
        "cell_id", keep="first"
    )
    tried = (
        attempts.select("cell_id", "attempt", "status")
        .group_by("cell_id")
        .agg(
            pl.col("attempt").max().alias("attempts"),
            *(pl.col("status").is_in(statuses_of(budget)).sum().alias(budget) for budget in CHARGES),
            pl.col("status").sort_by("attempt").last().alias("last"),
        )
    )
    return (
        done.join(tried, on="cell_id", how="full", coalesce=True)
        .with_columns(
            pl.coalesce("status", "last").alias("status"),
            pl.coalesce("attempts", "attempt").fill_null(0).alias("attempts"),
            pl.col(*CHARGES).fill_null(0),
        )
        .select("cell_id", "status", "attempts", *CHARGES, "seconds", "source_digest")
    )
