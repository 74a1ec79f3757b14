"""Stage 7, reading: segments become lazy frames. Readers never block, and never write."""

from __future__ import annotations

import html
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO

import polars as pl

from raysweep.orchestrator.errors import InputError, StoreDamaged
from raysweep.orchestrator.status import CHARGES, statuses_of
from raysweep.orchestrator.store import documents
from raysweep.orchestrator.store.check import check, damage
from raysweep.orchestrator.store.columns import empty
from raysweep.orchestrator.store.lease import Ownership, current_owner
from raysweep.orchestrator.store.live import LiveState
from raysweep.orchestrator.store.live import read_all as live_states
from raysweep.orchestrator.store.schema import SCHEMA_VERSION, TABLES
from raysweep.orchestrator.store.segments import HINT, Segment, fetch, inspected, listed, live, verify
from raysweep.orchestrator.store.storage.storage import Storage, open_storage, read_at_most
from raysweep.orchestrator.store.sweeps import RecordedSweep, known_cells, read_sweep
from raysweep.orchestrator.sweep.cells import VARIANT, CellTable

FORMAT = 1
FOLDERS = (*TABLES, "files", "checkpoints", "_live", "_sweeps", *documents.FOLDERS, "_epochs", "_hb", "_tmp")
MARK, MARK_BYTES = "store.json", 2**16
DEFAULT = "results"
MAX_KEPT = 256 * 2**20
"""Maximum bytes of segments from an object store that a reader holds in memory, so as not to fetch them again."""
_MAX_TRIES = 100
"""Maximum number of tries of a read. A try fails if a launch merges a file away before it is read."""


class Store:
    """A store to read.

    Args:
        path: the store's folder or its address on an object store. The store need not exist yet.
        skip_damaged: whether to leave out damaged files, and list them in `skipped`, instead of raising
            StoreDamaged.

    Raises:
        InputError: the path contains other files but no store, or the store has a newer format.
    """

    def __init__(self, path: str | Path = DEFAULT, *, skip_damaged: bool = False) -> None:
        self.storage = open_storage(str(path))
        self.skip_damaged = skip_damaged
        self.skipped: dict[str, str] = {}
        """Path of each damaged file that was left out so far -> what is wrong with it."""
        self._footers: dict[tuple[str, str], Segment] = {}
        self._verified: set[str] = set()  # paths of segments
        self._kept: dict[str, bytes] = {}  # path of a verified segment -> its bytes
        self._summary_of: tuple[tuple[str, ...], pl.DataFrame] | None = None  # paths of segments, their summary
        self.check_format()

    def __repr__(self) -> str:
        return f"Store({str(self.storage)!r})"

    def _repr_html_(self) -> str:
        """Return the HTML that a notebook shows: the number of cells by status.

        Cells without an attempt are `pending`.
        """
        if not self.exists():
            return f"<p>{html.escape(repr(self))}: no launch has written to it</p>"
        requested, ended = self.known().cells.select("cell_id"), self.summary()
        counts = dict(ended.group_by("status").len().sort("status").iter_rows())
        pending = requested.join(ended, on="cell_id", how="anti").height
        counts |= {"pending": pending} if pending else {}
        rows = "".join(f"<tr><td>{status}</td><td>{count:,}</td></tr>" for status, count in counts.items())
        return f"<p>{html.escape(repr(self))}</p><table><tr><th>status</th><th>cells</th></tr>{rows}</table>"

    def check_format(self) -> None:
        """Raise InputError if the folder has other files but no store, or the store has a newer format."""
        try:
            check_format(self.storage)
        except StoreDamaged as error:
            self.skip(MARK, error)

    def skip(self, path: str, error: StoreDamaged) -> None:
        """List a damaged file in `skipped` if the store skips damaged files; otherwise raise the error."""
        if not self.skip_damaged:
            raise error
        self.skipped[path] = str(error).removesuffix(HINT)

    def skipped_rows(self) -> dict[str, int]:
        """Return the number of rows of each skipped segment whose footer can be read, by path."""
        return {s.path: s.rows for s in self._footers.values() if s.path in self.skipped}

    def exists(self) -> bool:
        """Return whether a launch has created the store."""
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
            # A segment never changes, and a damaged one that was skipped stays skipped.
            new = [n for n in names if (folder, n) not in self._footers and f"{folder}/{n}" not in self.skipped]
            try:
                for segment in inspected(self.storage, folder, new, self.skip):
                    self._footers[folder, segment.name] = segment
            except FileNotFoundError:
                continue  # merged away between listing and reading: look again
            # A listing is not atomic: it may miss both the merged segments and the one they were merged into.
            if listed(self.storage, folder) == names:
                return [self._footers[folder, name] for name in names if (folder, name) in self._footers]
        raise StoreDamaged(f"{self.storage}/{folder}: its files change faster than they can be read")

    def collect(self, frame: Callable[[], pl.LazyFrame]) -> pl.DataFrame:
        """Collect a lazy frame over the store's tables, even while a launch merges segments.

        Args:
            frame: builds the lazy frame. Called again if a merge removed a file before it was read.

        Raises:
            StoreDamaged: pages of a file are damaged (the message names the file), or files change too fast to be
                read.
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
        """Scan one of the folders of `TABLES` into a lazy frame of its fixed schema.

        All of its segments are verified first. Each segment is verified only once.

        Raises:
            StoreDamaged: a file is damaged; the message names it.
        """
        paths = [segment.path for segment in self.verified(folder)]
        if not paths:
            return _empty(folder)
        if all(path in self._kept for path in paths):
            sources: list[IO[bytes]] = [io.BytesIO(self._kept[path]) for path in paths]
            return pl.scan_parquet(sources, glob=False)
        located = [self.storage.locate(path) for path in paths]
        return pl.scan_parquet(located, glob=False, storage_options=self.storage.reading, credential_provider=None)

    def verified(self, folder: str) -> list[Segment]:
        """Return the live, undamaged segments of a folder that have rows. Each segment is verified only once.

        Raises:
            StoreDamaged: a file is damaged, and the store does not skip damaged files; the message names it.
        """
        segments = [segment for segment in self.segments(folder) if segment.rows]
        new = [s for s in segments if s.path not in self._verified and s.path not in self.skipped]
        if self.storage.remote and sum(s.size for s in new) + sum(map(len, self._kept.values())) <= MAX_KEPT:
            self._kept |= (fetched := fetch(self.storage, new, self.skip))
            self._verified |= fetched.keys()
        else:
            self._verified.update(segment.path for segment in verify(self.storage, new, self.skip))
        return [segment for segment in segments if segment.path in self._verified]

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
        """The recorded arrays, such as loss curves, of attempts of any status."""
        return self.scan("arrays")

    @property
    def logs(self) -> pl.LazyFrame:
        """The output of each attempt that printed more than its `log_tail` holds."""
        return self.scan("logs")

    def artifacts(self) -> pl.DataFrame:
        """Return the artifacts of each cell's done attempt, or of its last attempt if the cell is not done.

        Columns: cell_id, attempt, status, path, bytes, sha256, kind, epoch. For a file whose content was not stored,
        `sha256` is null and `kind` is the reason.
        """
        return self.collect(self._artifacts)

    def live(self) -> list[LiveState]:
        """Return the output and curves so far of attempts that have not ended.

        Attempts that have published neither output nor curves are left out.
        """
        states = live_states(self.storage, self.skip)
        if not states:
            return []
        cells = [state.cell_id for state in states]
        ended = self.collect(
            lambda: self.attempts.filter(pl.col("cell_id").is_in(cells)).select("cell_id", "attempt")
        ).rows()
        return [state for state in states if (state.cell_id, state.attempt) not in set(ended)]

    def _artifacts(self) -> pl.LazyFrame:
        done = self.cells.select("cell_id", "attempt", "epoch", "status")
        ended = self.attempts.filter(pl.col("status") != "done").select("cell_id", "attempt", "epoch", "status")
        last = ended.join(done, on="cell_id", how="anti").sort("attempt").unique("cell_id", keep="last")
        shown = pl.concat([done, last])
        rows = self.scan("artifacts").join(shown, on=["cell_id", "attempt", "epoch"], how="inner")
        return rows.select("cell_id", "attempt", "status", "path", "bytes", "sha256", "kind", "epoch").sort(
            "cell_id", "path"
        )

    def sql(self, query: str) -> pl.DataFrame:
        """Execute an SQL query over the store's tables (see `raysweep.orchestrator.query.sql`), and return its rows."""
        # For the user's convenience, the one import against the direction of the folders; lazy, as DuckDB is large.
        from raysweep.orchestrator.query.sql import query as answer

        return answer(self, query)

    def sweeps(self, known: dict[str, RecordedSweep] | None = None) -> list[RecordedSweep]:
        """Return the sweeps that launches recorded, oldest first.

        Args:
            known: file name -> sweep that an earlier call has read; these files are not read again. This call adds the
                sweeps that it reads.
        """
        read = {} if known is None else known
        names = [name for name in self.storage.names("_sweeps") if name.endswith(".arrow")]
        for name in names:
            try:
                if name not in read:
                    read[name] = read_sweep(self.storage, name)
            except StoreDamaged as error:
                self.skip(f"_sweeps/{name}", error)
        sweeps = [read[name] for name in names if name in read]
        return sorted(sweeps, key=lambda sweep: str(sweep.metadata.get("recorded_at")))

    def owner(self) -> Ownership | None:
        """Return the launch that owns the store now; None if no launch owns it."""
        return current_owner(self.storage, on_damage=self.skip)

    def known(self) -> CellTable:
        """Return all cells that launches have requested."""
        return known_cells(self.sweeps())

    def summary(self) -> pl.DataFrame:
        """Return one row per cell that has an attempt.

        Columns: cell_id, status, attempts (their number), the number charged to each retry budget (`status.CHARGES`),
        seconds, source_digest, epoch. The last three are null for cells that are not done.
        """
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
        ours = {*FOLDERS, "_control", "_lock", "_damaged", MARK}
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
            f"store {storage}: has format {version}, schema {schema} by its {MARK}; "
            f"this raysweep reads up to {FORMAT}, {SCHEMA_VERSION}: upgrade it"
        )


def _empty(folder: str) -> pl.LazyFrame:
    frame = pl.from_arrow(empty(TABLES[folder]))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - for the type checker
    return frame.lazy()


def _summary(cells: pl.LazyFrame, attempts: pl.LazyFrame) -> pl.LazyFrame:
    columns = ("cell_id", "attempt", "seconds", "source_digest", "epoch")
    done = cells.select(*columns, pl.lit("done").alias("status")).unique("cell_id", keep="first")
    # Most cells have one attempt, which is done. It tells nothing more than its row of `cells`, which only half a
    # commit lacks. Grouping them would take most of the time.
    is_first = (pl.col("status") == "done") & (pl.col("attempt") == 1)
    others = attempts.filter(~is_first).select("cell_id", "attempt", "status")
    charges = [pl.col("status").is_in(statuses_of(budget)).sum().alias(budget) for budget in CHARGES]
    last = pl.col("status").sort_by("attempt").last().alias("last")
    tried = others.group_by("cell_id").agg(pl.col("attempt").max().alias("attempts"), *charges, last)
    half = attempts.filter(is_first).select("cell_id").join(cells.select("cell_id"), on="cell_id", how="anti")
    uncommitted = half.unique("cell_id").join(others, on="cell_id", how="anti").with_columns(
        pl.lit(1, pl.Int32).alias("attempts"),
        *(pl.lit(0, pl.UInt32).alias(budget) for budget in CHARGES),
        pl.lit("done").alias("last"),
    )  # fmt: skip
    return (
        done.join(pl.concat([tried, uncommitted], how="vertical_relaxed"), on="cell_id", how="full", coalesce=True)
        .with_columns(
            pl.coalesce("status", "last").alias("status"),
            pl.coalesce("attempts", "attempt").fill_null(0).alias("attempts"),
            pl.col(*CHARGES).fill_null(0),
        )
        .select("cell_id", "status", "attempts", *CHARGES, "seconds", "source_digest", "epoch")
    )
