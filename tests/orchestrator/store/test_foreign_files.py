"""Foreign files in a store's folder are named by `store check`, or refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.store.reader import Store
from tests.orchestrator.sweeps import sweep_of


@pytest.fixture
def small(write) -> Path:
    """A store of four cells."""
    write("arr.py", "def run(cell, context):\n    context.array('a', [1.0])\n    return {'loss': 1.0}\n")
    launch(sweep_of("arr:run", seeds='"0..3"'), inline=True)
    return Path("results")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def torn(path: Path) -> None:
    path.write_text("{")


@pytest.mark.parametrize(
    ("put", "name"),
    [
        (pipe, "_sweeps/a.arrow"), (pipe, "cells/00000007-00000000.parquet"), (pipe, "_tmp/pipe"),
        (dangling, "cells/00000007-00000000.parquet"), (Path.mkdir, "_tmp/folder"),
        (Path.mkdir, "cells/00000007-00000000.parquet"), (Path.mkdir, "_epochs/00000007.json"),
        (torn, "_epochs/00000007.json"),
    ],
)  # fmt: skip
def test_check_names_what_is_foreign(small: Path, put, name: str) -> None:
    put(small / name)
    problems = Store().check()
    assert any(name in line for line in problems), problems
    if name.startswith(("cells", "_sweeps")):
        with pytest.raises(InputError, match=name):
            Store().sql("SELECT count(*) FROM cells")


def test_check_finds_flipped_bytes_in_a_recorded_sweep(small: Path) -> None:
    (path,) = (small / "_sweeps").iterdir()
    data = bytearray(path.read_bytes())
    for at in (20, len(data) // 2, len(data) - 50):
        path.write_bytes(bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]]))
        assert [path.name in line for line in Store().check()] == [True]


def test_check_reports_a_missing_folder_of_segments(small: Path) -> None:
    for path in (small / "cells").iterdir():
        path.unlink()
    assert ["have no row in cells" in line for line in Store().check()] == [True]
    from raysweep.orchestrator.store.writer import StoreWriter

    with StoreWriter(Store()) as owner:
        owner.compact()
    assert Store().check() == []
    assert Store().cells.collect().height == 4


def test_a_folder_that_is_not_a_store_is_refused(small: Path, folder: Path) -> None:
    for mark in ('{"format": 1e999, "schema": 1}', "[" * 100_000):
        (small / "store.json").write_text(mark)
        with pytest.raises(InputError, match=r"store\.json"):
            Store()
    (small / "store.json").unlink()
    (small / "store.json").mkdir()
    with pytest.raises(InputError, match=r"store\.json"):
        Store()
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        launch(sweep_of("arr:run"), store="file/sub", inline=True)
    (folder / "other").mkdir()
    (folder / "other/cells").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        launch(sweep_of("arr:run"), store="other", inline=True)


def test_a_lock_that_is_a_folder_is_refused(small: Path) -> None:
    (small / "_lock").unlink()
    (small / "_lock").mkdir()
    with pytest.raises(InputError, match="_lock"):
        launch(sweep_of("arr:run", seeds="[9]"), inline=True)
