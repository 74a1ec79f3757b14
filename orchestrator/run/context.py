"""The cell and the context that a workload receives, and checks on the arrays and metrics that it records."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from raysweep.orchestrator.run.curves import LoggedCurve, as_arrays
from raysweep.orchestrator.run.folder import CellFolder
from raysweep.orchestrator.run.messages import Array
from raysweep.orchestrator.run.needed import Needed
from raysweep.orchestrator.run.programs.process import Usage
from raysweep.orchestrator.store.checkpoints import Checkpoint
from raysweep.orchestrator.text import encodable, message_of, short_repr, storable

MAX_TEXT = 10_000  # characters of a metric that is text
MAX_ENTRIES = 2**27  # of one array; half of a segment's `untrusted.MAX_VALUES`
_INT64 = 2**63


@dataclass(frozen=True, slots=True)
class RunningCell:
    """The cell that is passed to a workload (`raysweep.workloads.interface.Cell`)."""

    cell_id: str
    experiment: str
    method: str
    k: int | None
    seed: int
    config: Any


class Children:
    """CPU seconds and peak memory of the processes that a cell started."""

    def __init__(self) -> None:
        self.cpu_seconds, self.peak_rss = 0.0, 0

    def add(self, usage: Usage) -> None:
        """Add the usage of a process that has ended. It includes the process's own children."""
        self.cpu_seconds += usage.cpu_seconds
        self.peak_rss = max(self.peak_rss, usage.peak_rss)


class RunContext:
    """The context that is passed to a workload (`raysweep.workloads.interface.Context`).

    Args:
        device: `cpu` or `cuda`.
        checkpoint: the cell's checkpoint.
        folder: the cell's own folder.
        report: called with the progress, 0 to 1, each time the cell reports it.
    """

    def __init__(
        self,
        device: str,
        checkpoint: Checkpoint,
        folder: CellFolder,
        report: Callable[[float], None] | None = None,
    ) -> None:
        self._report = report
        self._folder = folder
        self.device = device
        self.checkpoint = checkpoint
        self.arrays: list[Array] = []
        self._parts: set[tuple[str, int]] = set()
        self.curves: dict[str, LoggedCurve] = {}
        self.points = 0  # logged
        self.fraction: float | None = None
        self.children = Children()
        self.needs: Mapping[str, tuple[Needed, ...]] = {}

    def array(self, name: str, values: Any, step: int = 0, stride: int = 1) -> None:
        """Record a one-dimensional array: entry i belongs to step `step + i * stride`."""
        name = _name(name, "array")
        what = f"context.array({name!r})"
        try:
            array = np.asarray(values)
            if array.dtype != np.float64 or not isinstance(values, np.ndarray):
                array = _float32(array)
        except Exception as error:
            raise _named(what, error) from None
        if array.ndim != 1:
            raise ValueError(f"{what}: shape {array.shape} is not one-dimensional")
        if len(array) > MAX_ENTRIES:
            raise ValueError(
                f"{what}: {len(array):,} entries, more than {MAX_ENTRIES:,}: record every n-th one, with stride=n"
            )
        step, stride = _whole(f"{what}: step", step), _whole(f"{what}: stride", stride)
        if not -_INT64 <= step < _INT64:
            raise ValueError(f"{what}: the step does not fit 64 bits")
        if not 1 <= stride < _INT64:
            raise ValueError(f"{what}: stride {stride if stride < 1 else 'beyond 64 bits'}; use 1 to 2**63 - 1")
        if name in self.curves:
            raise ValueError(f"{what}: context.log has recorded this name; give the array another one")
        if (name, step) in self._parts:
            raise ValueError(f"{what}: recorded twice with step {step}; give each part its own first step")
        self._parts.add((name, step))
        self.arrays.append(Array(name, step, stride, array.copy()))

    def log(self, step: int, **metrics: float) -> None:
        """Record numbers that belong to a step. They are visible while the cell runs, and become arrays at its end."""
        what = f"context.log({step!r}, ...)"
        try:
            at = operator.index(step)
        except TypeError:
            raise TypeError(f"{what}: the step is {type(step).__name__}, not an integer") from None
        if not -_INT64 <= at < _INT64:
            raise ValueError(f"{what}: the step does not fit 64 bits")
        for name, value in metrics.items():
            number = _number(_name(name, "metric"), value)
            curve = self.curves.get(name)
            if curve is None:
                if any(name == part for part, _ in self._parts):
                    raise ValueError(f"{what}: context.array has recorded {name!r}; give the metric another name")
                curve = self.curves[name] = LoggedCurve()
            curve.add(at, number)
        self.points += 1

    @property
    def recorded(self) -> tuple[Array, ...]:
        """All arrays of the attempt; logged metrics are converted to arrays."""
        return (*self.arrays, *as_arrays(self.curves))

    @property
    def folder(self) -> Path:
        """The cell's own folder on the worker's disk. It is empty when the attempt begins, and is removed after it."""
        return self._folder.path

    @property
    def should_stop(self) -> bool:
        """Whether the machine is being drained.

        The cell should then save a checkpoint, from which it continues on another machine.
        """
        return self.checkpoint.draining

    def progress(self, fraction: float) -> None:
        """Report how much of the cell is done, 0 to 1."""
        try:
            self.fraction = min(1.0, max(0.0, float(fraction)))
        except (TypeError, ValueError):
            raise TypeError(f"context.progress: {short_repr(fraction)} is not a number from 0 to 1") from None
        if self._report is not None:
            self._report(self.fraction)


def _whole(what: str, number: Any) -> int:
    """Return a whole number of any numeric type as an int. Raises TypeError for anything else."""
    try:
        if number == int(number):
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise TypeError(f"{what} {short_repr(number)} is not an integer")


def _float32(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if array.dtype == np.float32:
        return array
    if np.iscomplexobj(array):
        raise TypeError("complex numbers cannot be stored; record the real and the imaginary part as two arrays")
    wide = array.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = wide.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(wide)).any():
        raise ValueError("values exceed the range of float32; pass a NumPy array of float64, which is stored as it is")
    return narrow


class Metrics(NamedTuple):
    """The metrics that a workload returned, by name."""

    numbers: dict[str, float]
    texts: dict[str, str]


def checked_metrics(returned: Any, keep_nan: bool = False) -> Metrics:
    """Check the return value of a workload, and return its metrics. Values that are None are left out.

    Args:
        returned: the return value.
        keep_nan: whether numbers may be NaN or infinite.

    Raises:
        TypeError: the return value is not a dict, a name is empty or not text, or a value is neither a number nor
            text.
        ValueError: a name has characters that a store cannot hold, a text is too long, or a number is NaN or infinite
            and `keep_nan` is False.
    """
    if not isinstance(returned, Mapping):
        raise TypeError(f"the workload returned {type(returned).__name__}; return a dict of metric name to value")
    metrics = Metrics({}, {})
    for name, value in returned.items():
        name = _name(name, "metric")
        if value is None:
            continue
        if isinstance(value, str):
            metrics.texts[name] = _text(name, value)
            continue
        number = _number(name, value)
        if not math.isfinite(number) and not keep_nan:
            raise ValueError(
                f'metric {name!r} is {number}, not finite; leave the metric out, or write nan = "keep" in the sweep '
                "file (for a diverged run, return diverged = 1 and no error)"
            )
        metrics.numbers[name] = number
    return metrics


def _number(name: str, value: Any) -> float:
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        raise TypeError(f"metric {name!r} is {type(value).__name__} {short_repr(value)}, not a number")
    try:
        return float(value)
    except Exception as error:
        raise _named(f"metric {name!r} ({type(value).__name__})", error) from None


def _text(name: str, value: str) -> str:
    text = storable("".join([value]))
    if len(text) > MAX_TEXT:
        raise ValueError(f"metric {name!r}: {len(text):,} characters of text, more than {MAX_TEXT:,}: write a file")
    return text


def _named(what: str, error: Exception) -> Exception:
    """Return a TypeError, MemoryError or ValueError whose message is `what`, a colon and the message of `error`.

    `error` was raised by a conversion. It may be of any type, for example if a tensor raised it.
    """
    kind = next((kind for kind in (TypeError, MemoryError) if isinstance(error, kind)), ValueError)
    return kind(f"{what}: {message_of(error)}")


def _name(name: Any, what: str) -> str:
    """Check the name of a metric or array, and return it as a plain `str`.

    Raises:
        TypeError, ValueError: the name is not text, is empty, or has characters that a store cannot hold.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"{what} name {short_repr(name)} must be non-empty text")
    if not encodable(name):
        raise ValueError(f"{what} name {name!r} contains NUL or invalid Unicode")
    return "".join([name])  # a plain `str` even of a subclass, such as np.str_
