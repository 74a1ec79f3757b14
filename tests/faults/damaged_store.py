"""A small but complete store that `tests.faults.damage` damages and puts back: each kind of file occurs in it."""

from __future__ import annotations

import contextlib
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.schedule import driver
from raysweep.orchestrator.store import live
from raysweep.orchestrator.store.reader import FOLDERS, Store
from raysweep.orchestrator.store.storage.storage import Storage
from raysweep.orchestrator.store.writer import StoreWriter
from raysweep.orchestrator.sweep.spec import Sweep
from tests.command_line import forget_users, in_this_process
from tests.orchestrator.store.owners import let_go

CELLS = """
    def run(cell, context):
        if cell.method == "failing":
            context.checkpoint.save(b"step 1 of seed %d" % cell.seed)
            (context.folder / "state.txt").write_text(f"failed, with seed {cell.seed}")
            raise ValueError(f"always, with seed {cell.seed}")
        if cell.method == "curve":
            context.array("loss", [1.0 / (1 + step + cell.seed) for step in range(30)])
        if cell.method == "files":
            print(f"line of seed {cell.seed}\\n" * 400)
            (context.folder / "plot.svg").write_text(f"<svg><!-- {cell.seed} --></svg>")
            (context.folder / "state.txt").write_text(f"seed {cell.seed}")
            return {"x": cell.seed * 0.5, "best": f"optimizer {cell.seed}"}
        return {"x": cell.seed * 0.5, "y": -1.0 * cell.seed}
"""
OLDER = CELLS.replace("-1.0 * cell.seed", "0.0 - cell.seed")
"""The workload of the first launch. The change to `CELLS` is accepted."""
SWEEP = """
    name = "damage"
    workload = "damage_cells:run"
    seeds = "0..{last}"
    [resources]
    retries = 0
    [[grid]]
    method = ["plain", "curve", "failing", "files"]
"""
LAUNCHES = (1, 2, 3)
"""Last seed of each launch; a merge follows the second."""
MORE = 4
"""Last seed of the sweep file `more.toml`, which is not launched before the store is damaged."""
NESTED = ("checkpoints", "files")


class DamagedStore:
    """The store, in a folder of its own.

    Args:
        folder: an empty folder.
        place: the store: a folder in it, or an address.
    """

    def __init__(self, folder: Path, place: str) -> None:
        self.folder, self.place = folder, place
        self.storage: Storage = Store(place).storage
        self._sweep("more.toml", MORE)
        with _few_at_once():
            self._launch(LAUNCHES[0], OLDER)
            self.old = dict(self._files())
            (folder / "damage_cells.py").write_text(textwrap.dedent(CELLS))
            words = ["accept", "damage.toml", "--store", place, "--reason", "equal numbers"]
            ended = in_this_process(words, folder)
            assert "count as done" in ended.stdout, ended.stderr
            self._launch(LAUNCHES[1])
            with StoreWriter(Store(place)) as owner:
                owner.compact()
            self._launch(LAUNCHES[2])
        killed = StoreWriter(Store(place))
        for number in range(2):  # cells that ran when it was killed
            state = live.LiveState(
                f"{number:024x}", 1, 9, b"one\ntwo\n%d" % number, {"a": live.Curve([0], [0.5], [1e9])}
            )
            killed.publish(state.cell_id, state.attempt, live.encode(state))
        killed._closed.set()
        killed._heart.join()
        let_go(killed)
        forget_users()
        self.files = dict(self._files())

    def _sweep(self, name: str, last: int) -> Path:
        path = self.folder / name
        path.write_text(textwrap.dedent(SWEEP).format(last=last))
        return path

    def _launch(self, last: int, code: str = CELLS) -> None:
        (self.folder / "damage_cells.py").write_text(textwrap.dedent(code))
        launcher.launch(Sweep.load(self._sweep("damage.toml", last)), self.place, inline=True)

    def paths(self) -> Iterator[str]:
        """Paths of all files, without temporary ones and without those that a repair moved aside."""
        storage = self.storage
        for folder in (folder for folder in FOLDERS if folder != "_tmp"):
            names = storage.names(folder)
            if folder in NESTED:
                names = [f"{name}/{file}" for name in names for file in storage.names(f"{folder}/{name}")]
            yield from (f"{folder}/{name}" for name in names)
        yield from (name for name in ("store.json", "_lock") if name in storage.names(""))

    def _files(self) -> Iterator[tuple[str, bytes]]:
        for path in self.paths():
            data = self.storage.read(path)
            assert data is not None
            yield path, data

    def write(self, files: Mapping[str, bytes]) -> None:
        """Overwrite files."""
        for path, data in files.items():
            self.storage.prepare((path.rpartition("/")[0],) if "/" in path else ())
            self.storage.replace(path, data)

    def reset(self, changed: Mapping[str, bytes] | None = None) -> None:
        """Put back the undamaged store.

        Args:
            changed: the only files that differ from it; None: any file may.
        """
        if changed is not None:
            self.write({path: self.files[path] for path in changed if path in self.files})
            for path in changed.keys() - self.files.keys():
                self.storage.delete(path)
            return
        for name in self.storage.names("_damaged"):
            self.storage.delete(f"_damaged/{name}")
        now = dict(self._files())
        for path in now.keys() - self.files.keys():
            self.storage.delete(path)
        self.write({path: data for path, data in self.files.items() if now.get(path) != data})


@contextlib.contextmanager
def _few_at_once() -> Iterator[None]:
    """Commit a few cells at a time, so that a small store has many segments."""
    before = launcher.FLUSH_OUTCOMES, driver.CHUNK_CELLS
    launcher.FLUSH_OUTCOMES = driver.CHUNK_CELLS = 4
    try:
        yield
    finally:
        launcher.FLUSH_OUTCOMES, driver.CHUNK_CELLS = before
