"""Compaction in the background of a launch: fewer files, the same rows, whatever happens meanwhile."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.orchestrator.errors import StoreDamaged, StoreWriteFailed
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.store import compaction
from raysweep.orchestrator.store.compaction import BATCH_ROWS, FAN, LARGEST, MANY_ROWS, batches, size_class
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS
from raysweep.orchestrator.store.schema import CELLS as CELLS_SCHEMA
from raysweep.orchestrator.store.segments import Segment, encode, inspect, joined, replaced_by
from raysweep.orchestrator.store.untrusted import MAX_VALUES
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import environment
from tests.orchestrator.store import altered_launch
from tests.orchestrator.store.altered_launch import ALTERED

CELLS = 48


def segment(number: int, size: int, seal: bool = False, rows: int = 1) -> Segment:
    return Segment("cells", f"{0:08d}-{number:08d}.parquet", 0, number, rows, size, seal, ())


def test_a_row_is_rewritten_a_few_times_only() -> None:
    assert [size_class(s, 1) for s in (1, 32 * 2**10, 512 * 2**10, LARGEST)] == [0, 1, 2, None]
    assert size_class(1, MANY_ROWS) is None
    small = [segment(n, 1000) for n in range(FAN)]
    assert batches(small) == [small]
    assert batches(small[1:]) == []
    assert batches([*small[1:], segment(99, 10**6), segment(100, 0, seal=True)]) == []
    assert batches([segment(n, LARGEST) for n in range(3 * FAN)]) == []
    # What is held in memory at once is bounded, in bytes and in rows.
    large = [segment(n, LARGEST - 1) for n in range(FAN)]
    assert [len(batch) for batch in batches(large)] == [4, 4, 4]
    long = [segment(n, 1000, rows=MANY_ROWS // 4) for n in range(FAN + 4)]
    assert [sum(s.rows for s in batch) for batch in batches(long)] == [BATCH_ROWS, BATCH_ROWS]
    # Two that no reader would take as one stay: merged alone, each would be written again and again.
    assert batches([replace(segment(n, 100), values=MAX_VALUES // 2 + 1) for n in range(3)]) == []


def test_all_that_was_ever_replaced_is_recorded_in_few_runs() -> None:
    first = replace(segment(3, 100), replaces=((0, 0, 2),))
    second = replace(segment(7, 100), replaces=joined([(0, 6, 6), (0, 4, 5), (0, 5, 5), (1, 7, 9)]))
    assert second.replaces == ((0, 4, 6), (1, 7, 9))
    merged = encode("cells", CELLS_SCHEMA.empty_table(), replaces=[first, second]).getvalue()
    footer = pq.read_schema(pa.BufferReader(merged)).metadata
    assert json.loads(footer[b"raysweep.replaces"]) == [first.name, second.name]  # what older versions read
    assert json.loads(footer[b"raysweep.replaced"]) == [[0, 0, 7], [1, 7, 9]]
    is_replaced = replaced_by([replace(segment(9, 100), replaces=((0, 0, 7), (1, 7, 9)))])
    assert [is_replaced(segment(n, 1)) for n in (0, 3, 7, 8, 9)] == [True, True, True, False, False]
    other = replace(segment(8, 1), epoch=1)
    assert (is_replaced(other), is_replaced(replace(other, sequence=6)), is_replaced(replace(other, epoch=2))) == (
        True, False, False,
    )  # fmt: skip


@pytest.mark.parametrize("runs", ["{}", "[", "[[0, 1]]", '[["a", 0, 1]]', "[[0, -1, 2]]", "[[0, 0, 100000000]]", "[7]"])
def test_a_segment_with_invalid_runs_is_named(folder: Path, runs: str) -> None:
    footer = {"raysweep.replaces": "[]", "raysweep.replaced": runs}
    storage = Store("results").storage
    storage.prepare(("_tmp", "cells"))
    name = f"{0:08d}-{0:08d}.parquet"
    sink = io.BytesIO()
    pq.write_table(CELLS_SCHEMA.empty_table().replace_schema_metadata(footer), sink)
    storage.create(f"cells/{name}", sink.getvalue())
    with pytest.raises(StoreDamaged, match=f"{name}: its list of replaced segments is invalid"):
        inspect(storage, "cells", name)


@pytest.fixture
def sweep(write, monkeypatch: pytest.MonkeyPatch) -> Sweep:
    write("arr.py", "def run(cell, context):\n    context.array('a', [1.0 * cell.seed])\n    return {'x': cell.seed}\n")
    monkeypatch.setattr(compaction, "FAN", altered_launch.FAN)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # here processes die, and machines do not
    monkeypatch.setattr(launcher, "FLUSH_OUTCOMES", 1)
    monkeypatch.setattr("raysweep.orchestrator.schedule.driver.CHUNK_CELLS", 1)
    return Sweep.from_text(f'name="s"\nworkload="arr:run"\nseeds="0..{CELLS - 1}"\n[[grid]]\nmethod="m"\n')


def files(folder: Path) -> dict[str, int]:
    return {name: len(list((folder / "results" / name).iterdir())) for name in ("arrays", "attempts", "cells")}


def check_whole() -> None:
    store = Store()
    assert store.check() == []
    assert store.sql("SELECT count(*), count(DISTINCT cell_id), sum(x) FROM cells").row(0) == (
        CELLS, CELLS, CELLS * (CELLS - 1) / 2,
    )  # fmt: skip
    assert store.sql("SELECT count(*), sum(values[1]) FROM arrays").row(0) == (CELLS, CELLS * (CELLS - 1) / 2)
    assert pl.read_parquet("results/cells/*.parquet").height == CELLS  # a plain glob
    assert store.attempts.collect().height == CELLS


def test_a_launch_leaves_few_files(sweep: Sweep, folder: Path) -> None:
    assert launch(sweep, inline=True).done == CELLS
    assert all(count < CELLS / 2 for count in files(folder).values()), files(folder)
    check_whole()
    assert "raysweep-compaction" not in [t.name for t in threading.enumerate()]


@pytest.mark.slow
def test_readers_beside_it_see_each_row_once(sweep: Sweep) -> None:
    ended, seen = threading.Event(), []

    def read() -> None:
        while not ended.is_set():
            store = Store()
            if store.exists():
                frame = store.collect(lambda: store.cells.select("cell_id"))  # noqa: B023 - read at once
                seen.append((frame.height, frame["cell_id"].n_unique()))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        launch(sweep, inline=True)
    finally:
        ended.set()
        reader.join()
    assert len(seen) > 3
    assert [all_ for all_, distinct in seen if all_ != distinct] == []
    check_whole()


def test_a_swap_beside_it_brings_no_row_back(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    launch(sweep, inline=True)
    from raysweep.orchestrator.launch.launch import Launch
    from raysweep.orchestrator.launch.request import Options, from_sweeps

    Path("arr.py").write_text(Path("arr.py").read_text() + "run.version = 2\n")
    store = Store()
    result = Launch(from_sweeps([sweep], store), store, Options(executor="inline", rerun_changed=True)).run()
    assert result.ran == CELLS
    assert Store().check() == []
    totals = Store().sql("SELECT count(*), count(DISTINCT cell_id), min(attempt), max(attempt) FROM cells").row(0)
    assert totals == (CELLS, CELLS, 2, 2)


def test_a_full_disk_stops_it_and_not_the_launch(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    replace = StoreWriter._replace

    def full(self, folder, merged, batch):
        raise StoreWriteFailed("no room for a merged segment")

    monkeypatch.setattr(StoreWriter, "_replace", full)
    result = launch(sweep, inline=True)
    assert result.done == CELLS
    assert ["no room for a merged segment" in line for line in result.warnings] == [True]
    monkeypatch.setattr(StoreWriter, "_replace", replace)
    check_whole()


@pytest.mark.slow
def test_a_merge_holds_a_part_of_the_rows_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, length, count = 4, 200_000, 24  # 3.2 MB a segment, 77 MB in all, that hardly compress
    chance = np.random.default_rng(0)

    def table(at: int) -> pa.Table:
        ids = [f"{at * rows + i:024x}" for i in range(rows)]
        values = [chance.random(length, np.float32) for _ in ids]
        same = {"attempt": [1] * rows, "name": ["a"] * rows, "step": [0] * rows, "stride": [1] * rows}
        return pa.table({"cell_id": ids, **same, "values": values, "values_f64": [None] * rows}, schema=ARRAYS)

    monkeypatch.setattr("raysweep.orchestrator.store.compaction.BATCH", 2**40)
    before = pa.default_memory_pool()
    with StoreWriter(Store()) as owner:
        tables = [table(at) for at in range(count)]
        for one in tables:
            owner._commit("arrays", one)
        wanted = pa.concat_tables(tables).sort_by("cell_id")
        pool = pa.proxy_memory_pool(before)  # counts from here on
        pa.set_memory_pool(pool)
        try:
            owner._merge_due("arrays")
        finally:
            pa.set_memory_pool(before)
    assert len(list((folder / "results/arrays").iterdir())) == 1
    assert Store().arrays.collect().to_arrow().cast(ARRAYS).sort_by("cell_id").equals(wanted)
    assert 2**20 < pool.max_memory() < 40 * 2**20 < wanted.nbytes * 0.6


@pytest.mark.parametrize("mode", ["die-in-merge", pytest.param("die-deleting", marks=pytest.mark.slow)])
def test_killed_in_a_merge_nothing_is_lost_or_doubled(sweep: Sweep, folder: Path, mode: str) -> None:
    Path("s.toml").write_text(sweep.text)
    words = [*ALTERED, mode, "launch", "s.toml", "--inline"]
    ended = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert launch(sweep, inline=True).done == CELLS
    check_whole()
