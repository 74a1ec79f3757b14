"""The interface of a workload: a module with a function that runs one cell.

A sweep names the function as `"package.module:function"`, or one of the bundled `WORKLOADS` by its name. The function
takes a `Cell` and a `Context` and returns the cell's metrics:

    def run(cell, context):
        loss = [1 / (1 + cell.config["rate"] * step) for step in range(100)]
        context.array("loss", loss)
        return {"loss": loss[-1]}

Metrics are numbers or short texts. The same seed must give the same metrics: draw all random numbers from
`cell.seed`, and keep no state in the module, since one process runs many cells.

The module may also define these names, all optional:

| name | meaning | default |
|---|---|---|
| `Config` | frozen pydantic model with `extra="forbid"`; it may contain other models | any config is accepted |
| `VERSION` | text; change it when `run` computes something else, so that cells get new ids | `"1"` |
| `METHODS` | collection of the valid method names | any name is accepted |
| `settle(method, k, config)` | returns (k, config), completed, or raises `ValueError` | k and config are unchanged |
| `cost(method, k, config)` | returns a relative cost; a first launch starts expensive cells first | costs are equal |
| `lacks(config)` | returns what this machine is missing, and how to get it, or None | nothing is missing |

The `ValueError` of `settle` has one problem per line. `lacks` returns one line.

The module is imported whenever a sweep is planned. So import torch and other slow libraries inside `run`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt


@dataclass(frozen=True)
class AddedLater:
    """Marks a `Config` field added after cells were recorded: `momentum: Annotated[float, AddedLater(0.0)] = 0.0`.

    Args:
        old: the value that gives the behaviour of earlier cells. A cell with this value leaves the field out of
            its id, so earlier cells keep their ids.
    """

    old: Any


class Cell(Protocol):
    """One run of a workload: experiment, method, k, seed and config."""

    @property
    def cell_id(self) -> str:
        """The cell's id: 24 hexadecimal characters, a hash of everything that defines the cell."""

    @property
    def experiment(self) -> str:
        """The cell's experiment, by default the sweep's name. It is part of the cell's id."""

    @property
    def method(self) -> str:
        """The name of the cell's method."""

    @property
    def k(self) -> int | None:
        """An integer beside the method, the size of the subset that it uses; None for methods without one."""

    @property
    def seed(self) -> int:
        """The integer from which the cell takes all its random numbers."""

    @property
    def config(self) -> Any:
        """The cell's settings: an instance of the module's `Config`, or a dict if the module defines none."""


class Checkpoint(Protocol):
    """Storage for one cell's progress, deleted when the cell is done. The workload chooses the format."""

    def save(self, data: bytes) -> None:
        """Replace the checkpoint durably.

        If the machine is draining (`Context.should_stop`), this call does not return. It ends the attempt, and the
        cell continues on another machine.
        """

    def load(self) -> bytes | None:
        """Return the newest intact checkpoint that the same code saved for this cell; None if there is none."""


class NeededCell(Protocol):
    """A cell that the running cell needs. Both have the same seed."""

    @property
    def cell_id(self) -> str:
        """The id of the needed cell."""

    @property
    def method(self) -> str:
        """The cell's method."""

    @property
    def k(self) -> int | None:
        """The cell's k; None if it has none."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The cell's settings; nested settings are dicts."""

    @property
    def folder(self) -> Path:
        """A folder with copies of the cell's artifacts, which is removed after the attempt."""


class Context(Protocol):
    """A running cell's device, arrays, logged metrics, needed cells, files, progress and checkpoint."""

    @property
    def device(self) -> str:
        """The device to compute on: `"cpu"` or `"cuda"`."""

    def array(
        self,
        name: str,
        values: Sequence[float] | npt.NDArray[Any],
        step: int = 0,
        stride: int = 1,
    ) -> None:
        """Record a one-dimensional array. Its entry i belongs to step `step + i * stride`.

        A NumPy array of float64 is stored as float64. Anything else, lists included, is stored as float32.
        """

    def log(self, step: int, **metrics: float) -> None:
        """Record numbers of a step. They are shown while the cell runs, and stored as arrays."""

    @property
    def needs(self) -> Mapping[str, Sequence[NeededCell]]:
        """The needed cells, by the name of their block in the sweep file."""

    def progress(self, fraction: float) -> None:
        """Report the completed fraction of the cell, from 0 to 1."""

    @property
    def folder(self) -> Path:
        """The cell's own folder, empty when the attempt begins. The files in it at the end are kept as artifacts."""

    @property
    def checkpoint(self) -> Checkpoint:
        """Storage for the cell's checkpoint. A long cell resumes from it after a crash, on any machine."""

    @property
    def should_stop(self) -> bool:
        """Whether the machine is draining (spot reclaim, node shutdown). The cell should then save a checkpoint."""


Metrics = Mapping[str, float | str | None]
"""Metrics by name; a metric with the value None is left out."""
