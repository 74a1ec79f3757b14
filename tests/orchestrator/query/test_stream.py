"""Arrays are committed and queried in parts: memory follows their bytes, not their number of rows."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.launch import launch as launching
from raysweep.orchestrator.query import stream
from raysweep.orchestrator.query.sql import in_parts
from raysweep.orchestrator.run import cell as running
from raysweep.orchestrator.store.writer import StoreWriter

LARGE = """
    import numpy as np
    def run(cell, context):
        context.array("curve", np.arange(1000, dtype=np.float32) + cell.seed)
        return {"loss": 0.5}
"""
ALL = "SELECT * FROM arrays ORDER BY cell_id"


@pytest.fixture
def store(write, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Forty cells, each with an array of 4,000 bytes, committed in parts of ten."""
    write("large.py", LARGE)
    monkeypatch.setattr(launching, "FLUSH_BYTES", 40_000)
    monkeypatch.setattr(stream, "VALUES_AT_ONCE", 3000)
    text = 'name="s"\nworkload="large:run"\nseeds="0..39"\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).done == 40
    return Store()


def test_a_commit_is_bounded_by_bytes(store: Store) -> None:
    assert max(segment.rows for segment in store.segments("arrays")) <= 10
    assert store.check() == []


def test_a_chunk_ends_when_its_reply_is_large(write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver holds whole replies in memory, however many cells it had guessed to take a second."""
    write("large.py", LARGE)
    monkeypatch.setattr(running, "MAX_REPLY_BYTES", 10_000)
    sizes: list[int] = []
    run_chunk = running.run_chunk

    def counted(*arguments, **options):
        reply = run_chunk(*arguments, **options)
        sizes.append(len(reply.outcomes))
        return reply

    monkeypatch.setattr("raysweep.orchestrator.executors.inline.run_chunk", counted)
    text = 'name="s"\nworkload="large:run"\nseeds="0..39"\n[[grid]]\nmethod="m"\n'
    assert launch(Sweep.from_text(text), inline=True).done == 40
    assert (max(sizes), sum(sizes)) == (3, 40)


def test_a_query_reads_and_answers_a_few_rows_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    heights: list[int] = []
    batches = stream.ArrayStream._batches

    def counted(self):
        for batch in batches(self):
            heights.append(batch.num_rows)
            yield batch

    monkeypatch.setattr(stream.ArrayStream, "_batches", counted)
    answered = [part.height for part in in_parts(store, "SELECT * FROM arrays")]
    assert (sum(heights), max(heights), sum(answered)) == (40, 3, 40)
    assert max(answered) <= 3
    assert store.sql("SELECT avg(list_avg(values)) FROM arrays").item() == pytest.approx(499.5 + 19.5)
    assert store.sql("SELECT count(*) FROM arrays a JOIN arrays b USING (cell_id)").item() == 40  # read twice


def test_only_the_columns_that_a_query_may_reach_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[list[str]] = []
    parts = stream.parts
    monkeypatch.setattr(stream, "parts", lambda *words: read.append(words[2]) or parts(*words))
    assert store.sql("SELECT name, count(*) FROM arrays GROUP BY name").row(0) == ("curve", 40)
    assert read == [["cell_id", "attempt", "name"]]


def test_a_file_of_many_parts_is_what_one_part_would_be(store: Store, cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for ending in ("csv", "ndjson", "parquet"):
        assert cli("query", ALL, "--output", f"parts.{ending}").returncode == 0
    with monkeypatch.context() as patch:
        patch.setattr(stream, "VALUES_AT_ONCE", 10**9)
        for ending in ("csv", "ndjson", "parquet"):
            assert cli("query", ALL, "--output", f"whole.{ending}").returncode == 0
    for ending in ("csv", "ndjson"):
        assert Path(f"parts.{ending}").read_bytes() == Path(f"whole.{ending}").read_bytes()
    assert json.loads(Path("parts.ndjson").read_text().splitlines()[39])["values"][0] in range(40)
    frame = pl.read_parquet("parts.parquet")
    assert frame.equals(store.sql(ALL))
    assert cli("query", "SELECT * FROM arrays WHERE false", "--format", "csv").stdout.count("\n") == 1


def test_a_query_starts_again_if_a_merge_removes_a_file_under_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    parts, merged = stream.parts, []

    def merging(*words):
        for number, table in enumerate(parts(*words)):
            if number == 0 and not merged:
                with StoreWriter(Store()) as writer:
                    merged.append(writer.compact())
            yield table

    monkeypatch.setattr("raysweep.orchestrator.store.segments.PART_BYTES", 1)
    monkeypatch.setattr(stream, "parts", merging)
    assert store.sql("SELECT count(DISTINCT cell_id), count(*) FROM arrays").row(0) == (40, 40)
    assert merged[0]["arrays"] == (4, 1)


def test_damage_is_named_by_its_file(store: Store, monkeypatch: pytest.MonkeyPatch, cli) -> None:
    file = sorted(Path("results/arrays").iterdir())[1]
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 1
    file.write_bytes(data)
    ended = cli("query", "SELECT avg(values[1]) FROM arrays", "--format", "csv")
    assert ended.returncode == 2
    assert f"arrays/{file.name}" in ended.stderr
