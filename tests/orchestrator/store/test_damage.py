"""A damaged byte anywhere in a segment is named; it never changes an answer, ends a process or shows a traceback."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.store import checksums
from raysweep.orchestrator.store.missing import missing
from raysweep.orchestrator.store.segments import inspect, verify
from raysweep.orchestrator.store.writer import StoreWriter

WORKLOAD = """
    def run(cell, context):
        if cell.seed == 3:
            raise ValueError("unlucky")
        context.array("loss", [1.0 / (1 + step + cell.seed) for step in range(50)])
        return {"loss": cell.seed * 0.5}
"""
SWEEP = 'workload = "lossy:run"\nseeds = "0..5"\n[resources]\nretries = 0\n[[grid]]\nmethod = ["a", "b"]\n'
QUERIES = (
    "SELECT * FROM cells ORDER BY cell_id",
    "SELECT * FROM attempts ORDER BY cell_id, attempt",
    "SELECT cell_id, name, step, values FROM arrays ORDER BY ALL",
)


def answers() -> list[str]:
    """What a new process would read: rows, each cell's status, recorded sweeps."""
    store = Store("results")
    return [
        *(store.sql(query).write_json() for query in QUERIES),
        store.summary().sort("cell_id").write_json(),
        str(len(store.known())),
    ]


def flip_bit(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def zero_block(data: bytearray, chance: random.Random) -> None:
    start, length = chance.randrange(len(data)), chance.choice([16, 128, 512])
    data[start : start + length] = bytes(len(data[start : start + length]))


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


DAMAGES: tuple[Callable[[bytearray, random.Random], None], ...] = (flip_bit, flip_bit, flip_bit, zero_block, truncate)


@pytest.mark.slow  # a part of what tests/faults/damage.py does, of which a short run is in the fast suite
@pytest.mark.parametrize("seed", range(2))
def test_random_damage_is_named_and_changes_no_answer(seed: int, write, folder: Path) -> None:
    write("lossy.py", WORKLOAD)
    launch(Sweep.load(write("lossy.toml", SWEEP)), inline=True)
    files = sorted(path for kind in ("cells", "attempts", "arrays") for path in Path("results", kind).glob("*.parquet"))
    assert len(files) >= 3
    sound = answers()
    chance = random.Random(seed)
    for _ in range(40):
        path = chance.choice(files)
        original = path.read_bytes()
        damaged = bytearray(original)
        chance.choice(DAMAGES)(damaged, chance)
        path.write_bytes(damaged)
        message = ""
        try:
            assert answers() == sound, f"{path} at seed {seed}"
        except StoreDamaged as error:
            message = str(error)
        assert damaged == original or path.name in message
        path.write_bytes(original)
    assert answers() == sound


def test_each_byte_of_a_footer_and_of_a_page_is_covered(folder: Path, write) -> None:
    write("lossy.py", WORKLOAD)
    launch(Sweep.load(write("lossy.toml", SWEEP)), inline=True)
    (path, *_) = sorted(Path("results/cells").glob("*.parquet"))
    original = path.read_bytes()
    storage = Store("results").storage
    for index in range(0, len(original), 23):
        damaged = bytearray(original)
        damaged[index] ^= 16
        path.write_bytes(damaged)
        with pytest.raises(StoreDamaged, match=path.name):
            verify(storage, [inspect(storage, "cells", path.name)])


@pytest.mark.parametrize("length", [64, 512])
def test_zeros_over_the_entry_of_the_checksums_are_noticed(length: int, folder: Path, write) -> None:
    write("lossy.py", WORKLOAD)
    launch(Sweep.load(write("lossy.toml", SWEEP)), inline=True)
    (path, *_) = sorted(Path("results/cells").glob("*.parquet"))
    original = path.read_bytes()
    entry = original.index(checksums.KEY)
    for start in range(entry - length, entry + 60):
        damaged = bytearray(original)
        zeroed = damaged[start : start + length]
        damaged[start : start + length] = bytes(len(zeroed))
        path.write_bytes(damaged)
        with pytest.raises(StoreDamaged, match=path.name):
            verify(Store("results").storage, [inspect(Store("results").storage, "cells", path.name)])


def test_a_segment_of_an_older_version_is_verified_by_parquets_own_checksums(folder: Path, write) -> None:
    write("lossy.py", WORKLOAD)
    launch(Sweep.load(write("lossy.toml", SWEEP)), inline=True)
    sound = answers()
    (path, *_) = sorted(Path("results/arrays").glob("*.parquet"))
    table = pq.read_table(path, partitioning=None).replace_schema_metadata(None)
    pq.write_table(table, path, compression="none", write_page_checksum=True)  # as versions before wrote them
    assert inspect(Store("results").storage, "arrays", path.name).checksum is None
    assert answers() == sound
    data = bytearray(path.read_bytes())
    values = table["values"][0].values.to_numpy().tobytes()
    data[data.index(values) + 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreDamaged, match=path.name):
        answers()


def test_two_exchanged_segments_are_named(folder: Path, write) -> None:
    write("lossy.py", WORKLOAD)
    for seeds in ("0..2", "3..5"):
        launch(Sweep.load(write("lossy.toml", SWEEP.replace("0..5", seeds))), inline=True)
    first, second = (min(Path("results/cells").glob(f"{epoch:08d}-*.parquet")) for epoch in range(2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)
    problems = Store("results").check()
    assert [path.name in line for path, line in zip((first, second), problems, strict=True)] == [True, True]
    with pytest.raises(StoreDamaged, match=f"{first.name}: holds another segment, .* as cells/{second.name}"):
        answers()


def test_two_exchanged_notes_of_owners_are_named_and_repaired(folder: Path, write, cli) -> None:
    write("lossy.py", WORKLOAD)
    for _ in range(2):
        launch(Sweep.load(write("lossy.toml", SWEEP)), inline=True)
    with StoreWriter(Store("results")) as owner:  # alive, and in the third generation
        first, third = (Path(f"results/_epochs/{epoch:08d}.json") for epoch in (0, owner.epoch))
        one, other = first.read_bytes(), third.read_bytes()
        first.write_bytes(other)
        third.write_bytes(one)
        ended = cli("status")
        assert (ended.returncode, f"{third.name}: holds the note of generation 0" in ended.stderr) == (2, True)
        assert cli("launch", "lossy.toml", "--inline").returncode == 2
    assert [path.name in line for path, line in zip((first, third), Store("results").check(), strict=True)] == [
        True
    ] * 2
    assert cli("store", "repair", "--yes").returncode == 0
    assert Store("results").check() == []
    assert cli("status").returncode == 0


def test_a_note_of_an_earlier_version_has_neither_generation_nor_checksum(folder: Path) -> None:
    store = Store("results")
    with StoreWriter(store):
        note = Path("results/_epochs/00000000.json")
        fields = json.loads(note.read_text())
        note.write_text(json.dumps({**fields, "command": "another"}))
        with pytest.raises(StoreDamaged, match=rf"{note.name}: damaged: checksum"):
            store.owner()
        assert fields.pop("epoch") == 0
        assert fields.pop("crc32") > 0
        note.write_text(json.dumps(fields))
        assert store.owner() is not None
        assert store.check() == []
        note.write_text(Path("results/store.json").read_text())
        with pytest.raises(StoreDamaged, match=rf"{note.name}: foreign"):
            store.owner()


@pytest.fixture
def damaged(write, folder: Path, cli) -> Path:
    """A store of two launches, 6 and 4 cells, of which the second one's file of cells is damaged; that file's path."""
    write("lossy.py", WORKLOAD)
    for seeds in ("0..2", "3..5"):
        write("lossy.toml", SWEEP.replace("0..5", seeds))
        assert cli("launch", "lossy.toml", "--inline").returncode == (0 if seeds == "0..2" else 1)
    path = min(Path("results/cells").glob("00000001-*.parquet"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    return path


READERS: tuple[tuple[str, ...], ...] = (
    ("query", "SELECT count(*) AS n FROM cells WHERE status = 'done'", "--json"),
    ("status", "--json"),
    ("failures", "--json"),
    ("show", "ID", "--json"),
    ("export", "-o", "cells.csv"),
    ("report",),
)


@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0])
def test_damage_is_an_error_unless_it_is_to_be_skipped(words: tuple[str, ...], damaged: Path, cli) -> None:
    failed = Store("results").sql("SELECT cell_id FROM attempts WHERE status = 'failed'").item(0, 0)
    words = tuple(failed if word == "ID" else word for word in words)
    ended = cli(*words)
    assert ended.returncode == 2
    assert damaged.name in ended.stderr
    assert "--skip-damaged" in ended.stderr
    ended = cli(*words, "--skip-damaged")
    assert ended.returncode == 0, ended.stderr
    assert f"skipped a damaged file (4 rows): cells/{damaged.name}" in ended.stderr
    assert "4 cells done, but without a row in the files that were read" in ended.stderr
    if "--json" in words:
        document = json.loads(ended.stdout)
        assert document["missing"]["files"][0]["path"] == f"cells/{damaged.name}"
        assert (document["missing"]["rows"], document["missing"]["unreadable_done"]) == (4, 4)
        assert document["missing"]["without_arrays"] is None
    if words[0] == "query":
        assert document["answer"] == [{"n": 6}]
    if words[0] == "report":
        assert f"cells/{damaged.name}" in Path("report.html").read_text()


def test_the_python_api_skips_damage_on_request(damaged: Path) -> None:
    with pytest.raises(StoreDamaged, match=damaged.name):
        Store("results").cells.collect()
    store = Store("results", skip_damaged=True)
    assert store.cells.collect().height == 6
    assert list(store.skipped) == [f"cells/{damaged.name}"]
    damaged.write_bytes(b"torn")  # its footer, too
    store = Store("results", skip_damaged=True)
    assert store.sql("SELECT count(*) FROM cells WHERE status = 'done'").item() == 6
    assert (missing(store).rows, missing(store).unreadable_done) == ({}, 4)


def test_two_exchanged_requests_are_named(folder: Path, write) -> None:
    write("lossy.py", WORKLOAD)
    for seeds in ("0..1", "0..2"):
        launch(Sweep.load(write("lossy.toml", SWEEP.replace("0..5", seeds))), inline=True)
    first, second = sorted(Path("results/_sweeps").iterdir())
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    with pytest.raises(StoreDamaged, match=rf"{first.name}: .* recorded as {second.name}"):
        Store("results").known()  # else one request would be forgotten, and the other be there twice
    second.write_bytes(one)
    assert [path.name in line for path, line in zip((first, second), Store("results").check(), strict=True)] == [
        True
    ] * 2


def test_a_damaged_request_is_skipped(damaged: Path, cli) -> None:
    request = min(Path("results/_sweeps").iterdir())
    request.write_bytes(request.read_bytes()[:-50])
    store = Store("results", skip_damaged=True)
    assert len(store.known()) == 6
    assert f"_sweeps/{request.name}" in store.skipped
    ended = cli("status", "--skip-damaged")
    assert ended.returncode == 0
    assert "only a skipped file of _sweeps requested" in ended.stderr
