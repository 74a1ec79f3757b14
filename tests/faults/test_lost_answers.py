"""Every kind of write to an object store, executed though its sender saw an error: nothing is lost or doubled."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from urllib.parse import unquote

import pytest

from raysweep.orchestrator.errors import Fenced
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.schedule import driver
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.schema import TABLES
from raysweep.orchestrator.store.segments import Segment, encode
from raysweep.orchestrator.store.storage import object as object_storage
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.object_store import Proxy
from tests.orchestrator.store.owners import die

CELLS = 10
WORKLOAD = """
    def run(cell, context):
        if cell.seed < 2:
            context.checkpoint.save(b"x" * (1 + cell.seed))
        context.array("a", [1.0 * cell.seed])
        return {"x": cell.seed}
"""
SWEEP = f'name="s"\nworkload="quick:run"\nseeds="0..{CELLS - 1}"\n[[grid]]\nmethod="m"\n'


FILLED = ("arrays", "attempts", "cells")
"""The tables in which these cells have rows."""


class EveryOther:
    """A fault at the first request of each write, and none when it is repeated."""

    def __init__(self, what: str) -> None:
        self.what, self.seen = what, Counter[str]()

    def __call__(self, method: str, path: str) -> str | None:
        name = unquote(path).partition("a store/")[2]
        # A heartbeat is sent once, and may be lost.
        if method not in {"PUT", "POST", "DELETE"} or name.startswith("_hb/"):
            return None
        self.seen[f"{method} {name}"] += 1
        return self.what if self.seen[f"{method} {name}"] % 2 else None

    def kinds(self) -> set[str]:
        """What was written, by folder or by the end of an epoch's file."""
        names = [key.removeprefix("PUT ") for key in self.seen if key.startswith("PUT ")]
        return {name.rpartition(".")[2] if name.startswith("_epochs/") else name.partition("/")[0] for name in names}


def presume_dead(owner: StoreWriter) -> None:
    """Make others presume it dead, as if its machine were cut off from the network."""
    die(owner.storage, owner.epoch)


def rows_of(s3: str, folder: str) -> list[Segment]:
    return [segment for segment in Store(s3).segments(folder) if not segment.seal]


def check_whole(s3: str) -> None:
    store = Store(s3)
    assert store.check() == []
    assert store.sql("SELECT count(*), count(DISTINCT cell_id), sum(abs(x - seed)) FROM cells").row(0) == (
        CELLS, CELLS, 0,
    )  # fmt: skip
    assert store.sql("SELECT count(*), sum(values[1]) FROM arrays").row(0) == (CELLS, CELLS * (CELLS - 1) / 2)
    assert store.attempts.collect().height == CELLS


@pytest.mark.parametrize("what", [pytest.param("drop", marks=pytest.mark.slow), "late"])
def test_writes_whose_answers_are_lost_lose_and_double_nothing(
    what: str, s3: str, proxy: Proxy, write, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.01)
    monkeypatch.setattr(launcher, "FLUSH_OUTCOMES", 2)
    monkeypatch.setattr(driver, "CHUNK_CELLS", 2)
    write("quick.py", WORKLOAD)
    proxy.fault = fault = EveryOther(what)
    assert launch(Sweep.from_text(SWEEP), s3, inline=True).done == CELLS
    paused = StoreWriter(Store(s3))
    # Of merges that come late too, each would tell what it replaces: commits alone are harder.
    proxy.fault = fault if what == "drop" else lambda method, path: None
    for table in FILLED:  # what was merged is merged again
        paused._merge(table, rows_of(s3, table)[:3])
        paused._merge(table, rows_of(s3, table))
        assert len(rows_of(s3, table)) == 1
    proxy.fault = lambda method, path: None
    presume_dead(paused)
    proxy.fault = fault
    with StoreWriter(Store(s3)) as owner:
        assert [s.epoch for s in owner.store.segments("cells") if s.seal] == [0, paused.epoch]  # once each
        with pytest.raises(Fenced):
            paused._put("cells", encode("cells", TABLES["cells"].empty_table()))
        assert owner.epoch == paused.epoch + 1 == 2  # nobody has taken its own epoch for another's
    paused.close()
    assert fault.kinds() == {
        "store.json", "json", "sealed", "released", "_sweeps", "_sources", "_environments", "checkpoints", *TABLES,
    }  # fmt: skip
    check_whole(s3)
    proxy.release()
    StoreWriter(Store(s3)).close()  # what came back is removed
    check_whole(s3)
    assert [len(rows_of(s3, table)) for table in FILLED] == [1, 1, 1]
    at = Store(s3).storage
    assert [n for n in at.names("checkpoints") if at.names(f"checkpoints/{n}")] == []
