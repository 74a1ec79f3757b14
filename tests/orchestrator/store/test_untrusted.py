"""A store from a stranger: one clear error in bounded memory; nothing outside it is touched, nothing in it runs."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.launch import Launch, launch
from raysweep.orchestrator.launch.request import Options, from_store
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import ARRAYS, CELLS
from raysweep.orchestrator.store.sweeps import RecordedSweep, read_sweep, sweep_bytes
from raysweep.orchestrator.sweep.spec import Sweep
from tests.orchestrator.store.commands import MAX_OUTPUT, run_commands
from tests.orchestrator.store.footers import BINARY, I32, I64, LIST, STRUCT, Struct, read_struct, rewrite, written

SWEEP = 'name="s"\nworkload="arr:run"\nseeds="0..3"\n[[grid]]\nmethod="m"\n'
ARR = """
    def run(cell, context):
        if cell.seed > 3:
            raise ValueError
        context.array('a', [1.0])
        return {'loss': 1.0}
"""
MORE = "00000000-00000009.parquet"


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user of its own, who has no key yet."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def results(write) -> Path:
    write("arr.py", ARR)
    write("s.toml", SWEEP)
    launch(Sweep.load("s.toml"), inline=True)
    return Path("results")


# What a stranger may have put there: a name, where the error names the file, and how


def segment(folder: str) -> Callable[[Path], Path]:
    return lambda store: next((store / folder).glob("*.parquet"))


def claims(folder: str, change: Callable[[Struct], None]) -> Callable[[Path], None]:
    return lambda store: rewrite(segment(folder)(store), change)


def column(footer: Struct, number: int = 0) -> Struct:
    chunk: Struct = footer[4][1][1][0][1][1][1][number]
    return chunk


def many_rows(footer: Struct) -> None:
    footer[3] = I64, 2**40
    footer[4][1][1][0][3] = I64, 2**40


def rows_of_the_file_alone(footer: Struct) -> None:
    footer[3] = I64, 2**20


def negative_rows(footer: Struct) -> None:
    footer[3] = I64, -5
    footer[4][1][1][0][3] = I64, -5


def no_values(footer: Struct) -> None:
    column(footer)[3][1][5] = I64, -1


def many_values(footer: Struct) -> None:
    column(footer)[3][1][5] = I64, 2**60


def pages_elsewhere(footer: Struct) -> None:
    column(footer)[3][1][9] = I64, 2**50


def pages_before_the_file(footer: Struct) -> None:
    column(footer)[3][1][9] = I64, -4


def huge_pages(footer: Struct) -> None:
    column(footer)[3][1][7] = I64, 2**50


def another_file(footer: Struct) -> None:
    column(footer)[1] = BINARY, b"../../precious.parquet"


def replaces(names: list[str]) -> Callable[[Struct], None]:
    def change(footer: Struct) -> None:
        pair = {1: (BINARY, b"raysweep.replaces"), 2: (BINARY, json.dumps(names).encode())}
        footer[5] = LIST, (STRUCT, [*footer.get(5, (0, (0, [])))[1][1], pair])

    return change


def nests(footer: Struct) -> None:
    pair = {1: (BINARY, b"raysweep.replaces"), 2: (BINARY, b"[" * 10**6)}
    footer[5] = LIST, (STRUCT, [pair])


def long_metadata(footer: Struct) -> None:
    footer[5] = LIST, (STRUCT, [{1: (BINARY, b"note"), 2: (BINARY, b"x" * (64 * 2**20))}])


def parquet(folder: str, table: pa.Table, **options: Any) -> Callable[[Path], None]:
    return lambda store: pq.write_table(table, store / folder / MORE, **options)


def many_columns(store: Path) -> None:
    parquet("cells", pa.table({f"column {n}": [1] for n in range(20_000)}))(store)


def deep_columns(store: Path) -> None:
    kind: pa.DataType = pa.int64()
    for _ in range(80):
        kind = pa.list_(kind)
    parquet("cells", pa.table({"cell_id": pa.array([None], kind)}))(store)


def longer_than_it_says(footer_of: str) -> Callable[[Path], None]:
    def change(store: Path) -> None:
        path = segment(footer_of)(store)
        data = path.read_bytes()
        path.write_bytes(data[:-8] + (2**31 - 1).to_bytes(4, "little") + b"PAR1")

    return change


def footer_of_a_gigabyte(store: Path) -> None:
    with (store / "cells" / MORE).open("wb") as file:
        file.write(b"PAR1")
        file.truncate(2**30)  # holes: it takes no room
        file.seek(0, io.SEEK_END)
        file.write((2**30 - 100).to_bytes(4, "little") + b"PAR1")


def bomb_of_values(store: Path) -> None:
    """270 million equal numbers in a file of a few KiB."""
    rows = 2**8 + 1
    one = pa.ListArray.from_arrays(pa.array([0, 2**20], pa.int32()), pa.array([0.0] * 2**20, pa.float32()))
    lists = pa.chunked_array([one] * rows)
    same = {"cell_id": ["0" * 24] * rows, "attempt": [1] * rows, "name": ["a"] * rows, "step": [0] * rows}
    table = pa.table({**same, "stride": [1] * rows, "values": lists, "values_f64": [None] * rows}, schema=ARRAYS)
    pq.write_table(table, store / "arrays" / MORE, compression="zstd", row_group_size=64)


def page_of_two_gigabytes(store: Path) -> None:
    """The pages of a column once more, at the end of the file, of which the first says that it unpacks to 2 GiB."""
    path, pages = segment("cells")(store), []
    data = path.read_bytes()
    end = len(data) - 8 - int.from_bytes(data[-8:-4], "little")

    def change(footer: Struct) -> None:
        chunk: Struct = column(footer)[3][1]
        begins = chunk[11][1]  # with its dictionary
        head, after = read_struct(data, begins)
        head[2] = I32, 2**31 - 1
        longer = len(written(head)) - (after - begins)
        pages.append(written(head) + data[after : begins + chunk[7][1]])
        chunk[7], chunk[9] = (I64, len(pages[0])), (I64, end + chunk[9][1] - begins + longer)
        chunk[11] = I64, end

    rewrite(path, change, lambda: pages[0])


def bomb_of_rows(store: Path) -> None:
    rows = 2**19
    whole = pl.read_parquet(store / "cells" / "*.parquet").head(1).to_arrow().cast(CELLS)
    table = whole.take(pa.array([0] * rows, pa.int8()))
    pq.write_table(table, store / "cells" / MORE, compression="zstd")


def recorded(change: Callable[[dict[str, Any], dict[str, pl.DataFrame]], None]) -> Callable[[Path], None]:
    """Another recorded sweep, well-formed, with changed content."""

    def put(store: Path) -> None:
        (path,) = (store / "_sweeps").iterdir()
        sweep = read_sweep(Store(store).storage, path.name)
        metadata, frames = (
            {**sweep.metadata, "digest": "bad"},
            {"variants": sweep.table.variants, "cells": sweep.table.cells},
        )
        change(metadata, frames)
        (store / "_sweeps/bad.arrow").write_bytes(sweep_bytes(metadata, type(sweep.table)(**frames)))

    return put


def says(**what: Any) -> Callable[[Path], None]:
    return recorded(lambda metadata, frames: metadata.update(what))


def variant(**what: Any) -> Callable[[Path], None]:
    def change(metadata: dict[str, Any], frames: dict[str, pl.DataFrame]) -> None:
        schema = frames["variants"].schema
        frames["variants"] = frames["variants"].with_columns(
            pl.lit(value).cast(schema[name]).alias(name) for name, value in what.items()
        )

    return recorded(change)


def cell(**what: Any) -> Callable[[Path], None]:
    def change(metadata: dict[str, Any], frames: dict[str, pl.DataFrame]) -> None:
        schema = frames["cells"].schema
        frames["cells"] = frames["cells"].with_columns(pl.lit(v).cast(schema[n]).alias(n) for n, v in what.items())

    return recorded(change)


def parts(*replaced: tuple[int, bytes]) -> Callable[[Path], None]:
    """Another recorded sweep with some parts replaced, and a correct checksum."""

    def put(store: Path) -> None:
        (path,) = (store / "_sweeps").iterdir()
        data, sections = path.read_bytes(), []
        while data:
            size = int.from_bytes(data[:8], "little")
            sections.append(data[8 : 8 + size])
            data = data[8 + size :]
        for at, part in replaced:
            sections[at] = part
        sections[3] = hashlib.sha256(b"".join(sections[:3])).digest()
        whole = b"".join(len(part).to_bytes(8, "little") + part for part in sections)
        (store / "_sweeps/bad.arrow").write_bytes(whole)

    return put


def long_frame() -> bytes:
    """Of cells that take 2.5 GiB in memory and 80 KiB here."""
    same = {"variant": pa.nulls(2**24, pa.uint32()), "seed": pa.nulls(2**24, pa.int64())}
    batch = pa.record_batch({"cell_id": pa.nulls(2**24, pa.string()), **same})
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        for _ in range(10):
            writer.write_batch(batch)
    return sink.getvalue()


def huge(name: str) -> Callable[[Path], None]:
    def put(store: Path) -> None:
        with (store / name).open("wb") as file:
            file.truncate(2**34)

    return put


def text(name: str, content: str) -> Callable[[Path], None]:
    return lambda store: (store / name).write_text(content)


def link(name: str, to: str) -> Callable[[Path], None]:
    def put(store: Path) -> None:
        path = store / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(Path(to).absolute())

    return put


def checkpoints_of_a_done_cell(store: Path) -> None:
    """Which the next launch removes."""
    cell_id = pl.read_parquet(store / "cells/*.parquet")["cell_id"][0]
    link(f"checkpoints/{cell_id}", "outside")(store)


PUT: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a million million rows": ("cells/", claims("cells", many_rows)),
    "more rows than its groups": ("attempts/", claims("attempts", rows_of_the_file_alone)),
    "negative rows": ("cells/", claims("cells", negative_rows)),
    "negative values": ("cells/", claims("cells", no_values)),
    "values beyond number": ("arrays/", claims("arrays", many_values)),
    "pages beyond the file": ("cells/", claims("cells", pages_elsewhere)),
    "pages before the file": ("cells/", claims("cells", pages_before_the_file)),
    "pages larger than the file": ("cells/", claims("cells", huge_pages)),
    "pages in another file": ("cells/", claims("cells", another_file)),
    "replaces what is outside": ("cells/", claims("cells", replaces(["../../outside/precious.parquet"]))),
    "replaces an absolute path": ("cells/", claims("cells", replaces([str(Path.cwd() / "precious.parquet")]))),
    "replaces ten million": ("cells/", claims("cells", replaces(["00000000-00000000.parquet"] * 10_000_000))),
    "replaces a nest": ("attempts/", claims("attempts", nests)),
    "metadata of 64 MiB": ("cells/", claims("cells", long_metadata)),
    "twenty thousand columns": (f"cells/{MORE}", many_columns),
    "columns nested deep": (f"cells/{MORE}", deep_columns),
    "another schema": (f"cells/{MORE}", parquet("cells", pa.table({"a": [1]}))),
    "a footer longer than the file": ("cells/", longer_than_it_says("cells")),
    "a footer of a gigabyte": (f"cells/{MORE}", footer_of_a_gigabyte),
    "a bomb of values": (f"arrays/{MORE}", bomb_of_values),
    "a page of two gigabytes": ("cells/", page_of_two_gigabytes),
    "a bomb of rows": (f"cells/{MORE}", bomb_of_rows),
    "a sweep that says nothing": ("_sweeps/bad.arrow", parts((0, b"{}"))),
    "a sweep that is a nest": ("_sweeps/bad.arrow", parts((0, b"[" * 10**6))),
    "a sweep without a name": ("_sweeps/bad.arrow", says(name=None)),
    "a search that is text": ("_sweeps/bad.arrow", says(search="abc")),
    "a search for numbers": ("_sweeps/bad.arrow", says(search=[1])),
    "frames that are none": ("_sweeps/bad.arrow", parts((1, b"ARROW1\0\0" * 9))),
    "frames that take gigabytes": ("_sweeps/bad.arrow", lambda store: parts((2, long_frame()))(store)),
    "cells of no variant": ("_sweeps/bad.arrow", cell(variant=7)),
    "cells without a seed": ("_sweeps/bad.arrow", cell(seed=None)),
    "an id that leads out": ("_sweeps/bad.arrow", cell(cell_id="../../outside")),
    "cells on no CPU": ("_sweeps/bad.arrow", variant(cpus=0.0)),
    "cells on NaN CPUs": ("_sweeps/bad.arrow", variant(cpus=float("nan"))),
    "a negative timeout": ("_sweeps/bad.arrow", variant(timeout_s=-1.0)),
    "a config that is none": ("_sweeps/bad.arrow", variant(config="[1]")),
    "a sweep of 16 GiB": ("_sweeps/bad.arrow", huge("_sweeps/bad.arrow")),
    "an epoch of 16 GiB": ("_epochs/00000007.json", huge("_epochs/00000007.json")),
    "an epoch that is a nest": ("_epochs/00000007.json", text("_epochs/00000007.json", "[" * 10**6)),
    "a mark of 16 GiB": ("store.json", huge("store.json")),
    "a folder elsewhere": ("cells", link("cells", "outside")),
    "a segment elsewhere": (f"cells/{MORE}", link(f"cells/{MORE}", "outside/precious.parquet")),
    "temporary files elsewhere": ("_tmp", link("_tmp", "outside")),
    "checkpoints elsewhere": ("checkpoints", link("checkpoints", "outside")),
    "a cell's checkpoints elsewhere": ("checkpoints/", checkpoints_of_a_done_cell),
    "a mark elsewhere": ("store.json", link("store.json", "outside/store.json")),
}

_AT_REST = {"_epochs", "_tmp", "checkpoints"}
UNREAD = {  # what a command need not look at, and is not harmed by
    "status": {"arrays", "_tmp", "checkpoints"}, "query": {"attempts", *_AT_REST}, "show": {"arrays", *_AT_REST},
    "report": _AT_REST, "export": {"arrays", *_AT_REST}, "resume": {"arrays"}, "launch": {"_sweeps", "arrays"},
}  # fmt: skip


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() if p.is_file() else b"" for p in sorted(folder.rglob("*"))}


COMMANDS = (
    ("store", "check"), ("status",), ("query", "SELECT count(*), avg(loss) FROM cells, arrays"),
    ("report", "-o", "reports/report.html"), ("resume", "--inline"), ("launch", "s.toml", "--inline"),
    ("export", "--output", "reports/all.csv"),
)  # fmt: skip
FEW = ("a million million rows", "replaces what is outside", "a sweep without a name", "a folder elsewhere")


@pytest.mark.parametrize("names", [FEW, pytest.param(tuple(PUT), marks=pytest.mark.slow)], ids=["few", "all"])
def test_each_is_one_clear_error_and_touches_nothing_else(results: Path, folder: Path, names: tuple[str, ...]) -> None:
    (folder / "outside").mkdir()
    (folder / "reports").mkdir()
    shutil.copy(segment("cells")(results), folder / "outside/precious.parquet")
    shutil.copy(results / "store.json", folder / "outside/store.json")
    for name in names:
        store = folder / f"store {name}"
        shutil.copytree(results, store)
        PUT[name][1](store)
    cell_id = Store().cells.select("cell_id").collect()["cell_id"][0]
    before = listing(folder / "outside"), {p.name for p in folder.iterdir()}
    pairs = [(name, words) for name in names for words in (*COMMANDS, ("show", cell_id))]
    # One process for all: it must live through each of them.
    answers, peak_kib = run_commands(folder, [[*words, "--store", f"store {name}"] for name, words in pairs])
    wrong = []
    for (name, words), answer in zip(pairs, answers, strict=True):
        file, command = PUT[name][0], words[0]
        right = answer.code == (1 if command == "store" and file != "store.json" else 2) and file in answer.output
        if file.partition("/")[0] in UNREAD.get(command, ()):
            right = right or answer.code == 0
        if not right or answer.length > MAX_OUTPUT or "Traceback" in answer.output:
            wrong.append((name, command, answer))
    assert wrong == []
    assert (listing(folder / "outside"), {p.name for p in folder.iterdir()}) == before
    assert peak_kib < 1.5 * 2**20


# Whose sweeps a bare `resume` runs

EVIL = """
    import sys

    with open("imports", "a") as file:
        file.write(f"{__name__} by {' '.join(sys.argv)}\\n")

    def run(cell, context):
        return {"loss": 2.0}
"""


def pending(entry: RecordedSweep, workload: str, search: list[str], first: str) -> None:
    """Record cells that never ran, as a stranger's launch would that found the module there; ids begin with `first`."""
    variants = entry.table.variants.with_columns(workload=pl.lit(workload))
    cells = entry.table.cells.with_columns(pl.col("cell_id").str.replace("^.", first))
    text = SWEEP.replace("arr:run", workload)
    metadata = {**entry.metadata, "search": search, "text": text, "path": None, "digest": first}
    recorded = sweep_bytes(metadata, type(entry.table)(variants, cells))
    Path(f"results/_sweeps/{first}.arrow").write_bytes(recorded)


def test_resume_runs_no_module_that_a_stranger_chose(
    results: Path, write, folder: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (entry,) = Store().sweeps()
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "the stranger's"))
    for module, place, first in (("in_the_store", "results", "e"), ("beside_it", ".", "f")):
        write(f"{place}/{module}.py", EVIL)
        pending(entry, f"{module}:run", [str(folder / place)], first)
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    trusting = ["resume", "--inline", "--trust-store"]
    answers, _ = run_commands(folder, [["resume", "--inline"], ["status"], ["report", "-o", "r.html"], trusting])
    assert [answer.code for answer in answers] == [2, 0, 0, 0], answers
    assert "Traceback" not in str(answers)
    for reason in ("'in_the_store:run'", "'beside_it:run'", "--trust-store"):
        assert reason in answers[0].output
    command = " ".join(["raysweep", *trusting])
    imports = (folder / "imports").read_text().splitlines()
    assert sorted(imports) == [f"beside_it by {command}", f"in_the_store by {command}"]
    assert Store().cells.collect().height == 12


def test_a_users_own_store_needs_no_word(results: Path, state: Path) -> None:
    launch(Sweep.load("s.toml").with_seeds("0..5"), inline=True)
    store = Store()
    assert [entry.own for entry in store.sweeps()] == [True, True]
    assert Launch(from_store(store, None), store, Options(resume=True, executor="inline")).run().failed == 2
    assert (state / "raysweep/key").stat().st_mode & 0o777 == 0o600
    assert [p.name for p in (state / "raysweep").iterdir()] == ["key"]


def test_all_of_a_sweep_is_signed(results: Path, state: Path) -> None:
    store = Store()
    (entry,) = store.sweeps()
    (path,) = (results / "_sweeps").iterdir()
    changed = dict(entry.metadata) | {"search": ["/tmp"]}
    old, new = (json.dumps(dict(metadata), sort_keys=True).encode() for metadata in (entry.metadata, changed))
    data = path.read_bytes().replace(len(old).to_bytes(8, "little") + old, len(new).to_bytes(8, "little") + new)
    body = data[: -8 - 32]
    digest = hashlib.sha256()
    while body:
        size = int.from_bytes(body[:8], "little")
        digest.update(body[8 : 8 + size])
        body = body[8 + size :]
    path.write_bytes(data[:-32] + digest.digest())
    assert [(e.metadata["search"], e.own) for e in store.sweeps()] == [(["/tmp"], False)]
    path.unlink()
    launch(Sweep.load("s.toml"), inline=True)
    assert store.sweeps()[0].own
    (state / "raysweep/key").unlink()
    assert not store.sweeps()[0].own
    with pytest.raises(InputError, match=r"arr:run.*--trust-store"):
        from_store(store, None)
    from_store(store, None, trust=True)


def test_no_file_that_a_strangers_sweep_names_is_read(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path, **_: pytest.fail(f"{path} was read"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
    assert len(from_store(Store(), None, trust=True).table) == 4


def test_a_strangers_sweep_that_is_launched_by_name_is_recorded_again(
    results: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another user's"))
    for _ in range(3):
        launch(Sweep.load("s.toml"), inline=True)
    assert sorted(entry.own for entry in Store().sweeps()) == [False, True]
    assert len(Store().known()) == 4


def test_without_a_place_for_a_key_a_launch_runs_and_resume_asks(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/proc/nowhere")
    launch(Sweep.load("s.toml").with_seeds("0..4"), inline=True)
    with pytest.raises(InputError, match="--trust-store"):
        from_store(Store(), None)
