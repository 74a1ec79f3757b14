"""What the tests of the workload `vit` share: a small data set, cells, a context with a checkpoint."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from raysweep.workloads import vit

SMALL = {
    "data_set": "tiny",
    "heads": 4,
    "head_dim": 3,
    "embed": 10,
    "depth": 2,
    "mlp_ratio": 2.0,
    "patch": 16,
    "batch": 8,
    "epochs": 1,
    "replay": 20,
    "replay_batch": 5,
    "measured_images": 6,
    "learning_rate": 0.01,
}


def write_images(path: Path, train: int = 8, test: int = 4, seed: int = 0, shuffled: bool = True) -> Path:
    """Ten classes of noise about a colour of their own, `train` and `test` images of each."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(60, 196, size=(10, 3))
    labels = np.repeat(np.arange(10), train + test)
    splits = np.tile(["train"] * train + ["test"] * test, 10)
    order = rng.permutation(len(labels)) if shuffled else np.arange(len(labels))
    images = [
        np.clip(colours[label] + rng.normal(0, 25, size=(32, 32, 3)), 0, 255).astype(np.uint8).tobytes()
        for label in labels[order]
    ]
    table = pa.table(
        {
            "image": pa.array(images, pa.large_binary()),
            "label": pa.array(labels[order], pa.uint8()),
            "split": pa.array(splits[order].tolist()),
        }
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def cell_of(method: str, k: int | None = None, seed: int = 1, **config: Any) -> SimpleNamespace:
    """A settled cell; settings of the buffer left out where there is none."""
    given = SMALL | config
    if method == "no_replay":
        given = {name: value for name, value in given.items() if not name.startswith("replay")}
    stored, settled = vit.settle(method, k, vit.Config(**given))
    return SimpleNamespace(
        cell_id=f"{seed:024d}", experiment="test", method=method, k=stored, seed=seed, config=settled
    )


class Stopped(Exception):
    """What ends a cell from outside."""


class Context:
    """Arrays by name; a checkpoint, where there is one, that may end the cell once it was saved so many times."""

    device = "cpu"

    def __init__(self, data: bytes | None = None, stop_after: int | None = None, keeps: bool = True) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.fractions: list[float] = []
        self.data, self.stop_after, self.saves = data, stop_after, 0
        self.checkpoint = self if keeps else None

    def array(self, name: str, values: Any, step: int = 0, stride: int = 1) -> None:
        assert name not in self.arrays
        self.arrays[name] = np.asarray(values)

    def progress(self, fraction: float) -> None:
        self.fractions.append(fraction)

    def save(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self.data, self.saves = data, self.saves + 1
        if self.saves == self.stop_after:
            raise Stopped

    def load(self) -> bytes | None:
        return self.data


def run(cell: SimpleNamespace, context: Context | None = None) -> tuple[dict[str, float], Context]:
    """Metrics and what was recorded."""
    context = context or Context(keeps=False)
    return dict(vit.run(cell, context)), context


def timeless(metrics: dict[str, float]) -> dict[str, float]:
    """Without the speed, which no two runs share."""
    return {name: value for name, value in metrics.items() if name != "images_per_s"}
