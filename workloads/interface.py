"""What a workload is, for ours and for a user's own alike: a module with a function.

A sweep names `"package.module:function"`, or one of our `WORKLOADS`. The function takes a cell and a
context and returns the cell's metrics; the module may say more by these names, all optional:

| name | what it is | without it |
|---|---|---|
| `Config` | a frozen pydantic model (`extra="forbid"`) of flat fields | any flat config passes |
| `VERSION` | text; changed behaviour gets a new one, and with it new cell ids | `"1"` |
| `METHODS` | a registry or collection of the valid method names | any name passes |
| `settle(method, k, config)` | returns (k, config) checked and filled in; `ValueError`, a problem a line | as given |
| `cost(method, k, config) -> float` | relative cost of a cell, for the order of a first launch | equal |
| `lacks(config) -> str or None` | what this machine lacks that such a cell needs, and the cure, on one line | nothing |

Importing the module must not import torch or ray: it happens while a sweep is planned.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy.typing as npt


@dataclass(frozen=True)
class AddedLater:
    """Marks a `Config` field that came after cells had been recorded: `Annotated[float, AddedLater(0.0)]`.

    Args:
        old: the value the old cells in effect had. At this value the field is left out of the cell's
            hash, so that ids survive the workload's growth.
    """

    old: Any


class Cell(Protocol):
    """One (experiment, method, k, seed) and the rest of its settings."""

    @property
    def cell_id(self) -> str:
        """24 hex characters over all that defines the cell."""

    @property
    def experiment(self) -> str:
        """The sweep's experiment."""

    @property
    def method(self) -> str:
        """Name of the method."""

    @property
    def k(self) -> int | None:
        """Size of the method's subset, where it has one."""

    @property
    def seed(self) -> int:
        """The cell's seed."""

    @property
    def config(self) -> Any:
        """The workload's `Config`, or a plain dict where it has none."""


class Checkpoint(Protocol):
    """A cell's checkpoints: bytes of the workload's own making; removed when the cell is done."""

    def save(self, data: bytes) -> None:
        """Keep these bytes, durably. Does not return where the machine is about to go (`Context.should_stop`)."""

    def load(self) -> bytes | None:
        """The bytes last saved by any attempt at this cell; None at the first."""


class Context(Protocol):
    """What a running cell may ask of its surroundings."""

    @property
    def device(self) -> str:
        """`"cpu"` or `"cuda"`."""

    def array(
        self,
        name: str,
        values: Sequence[float] | npt.NDArray[Any],
        step: int = 0,
        stride: int = 1,
    ) -> None:
        """Record a one-dimensional array: entry i belongs to step `step + i * stride`.

        float64 stays float64, anything else is stored as float32.
        """

    def progress(self, fraction: float) -> None:
        """Say how much of the cell is done (0 to 1)."""

    @property
    def checkpoint(self) -> Checkpoint:
        """What a long cell goes on from after a crash, on this machine or another."""

    @property
    def should_stop(self) -> bool:
        """Whether the machine is about to go (a spot instance, a drained node): save a checkpoint now."""


Metrics = Mapping[str, float]
