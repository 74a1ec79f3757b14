"""The sources of a program's metrics and curves: lines of output, metrics files, TensorBoard events.

Every source provides curves by name. The last value of a curve (or its minimum or maximum) is the metric with
this name. A curve of several values is also logged. Curves from output are logged while the program runs, other
curves when it has ended.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from raysweep.orchestrator.run.context import MAX_TEXT, RunContext
from raysweep.orchestrator.run.curves import LoggedCurve
from raysweep.orchestrator.run.programs.event_files import read_events
from raysweep.orchestrator.run.programs.object_lines import ObjectLines
from raysweep.orchestrator.sweep.programs.program import MetricSources
from raysweep.orchestrator.text import encodable

MAX_VALUES = 2**22
"""Maximum number of values of one curve. Later values only change the metric."""
_TAKE: Mapping[str, Callable[[Sequence[float]], float]] = {"last": lambda values: values[-1], "min": min, "max": max}


class NoMetrics(Exception):
    """The program succeeded, but a source that the sweep declares has provided no metric."""


@dataclass
class Curve:
    """The values that a program wrote under one name, in order.

    Args:
        values: the values.
        steps: the step of each value; its position if the source gives no step.
        take: which value becomes the metric: last, min or max.
        text: the last value that is text, which becomes the metric if there are no numbers.
    """

    values: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)
    take: str = "last"
    text: str | None = None

    def add(self, value: float, step: int | None = None) -> None:
        """Append a value."""
        if len(self.values) < MAX_VALUES:
            self.steps.append(len(self.values) if step is None else step)
            self.values.append(value)
        elif self.take == "last" or _TAKE[self.take]([value, *self.values]) == value:
            self.values[-1] = value

    @property
    def metric(self) -> float | str | None:
        """The last, smallest or largest of the values, as `take` says; without values, `text`."""
        return _TAKE[self.take](self.values) if self.values else self.text


Curves = dict[str, Curve]


class OutputMetrics:
    """Curves that are read from lines of output while the program prints them.

    Args:
        sources: the sources that the sweep names.
        context: the context to which the curves are logged.
    """

    def __init__(self, sources: MetricSources, context: RunContext) -> None:
        self.curves: Curves = {}
        self._context = context
        self._sources = sources
        self._objects = ObjectLines()
        self._patterns = [(p, re.compile(p.pattern)) for p in sources.patterns]

    def stdout(self, line: str) -> None:
        """Read values from a line of standard output: by patterns, and from a JSON object that ends with this line."""
        if self._sources.json_lines and (row := self._objects.add(line)) is not None:
            names = _add_row(self.curves, row, self._sources.step)
            self._log(name for name in names if name != self._sources.step)
        self.stderr(line)

    def stderr(self, line: str) -> None:
        """Read values from a line of standard error, by patterns only."""
        for pattern, compiled in self._patterns:
            for match in compiled.finditer(line):
                groups = match.groupdict()
                value = _number(groups.get("value", match[1]))
                if value is not None:
                    step = _number(groups.get("step"))
                    curve = self.curves.setdefault(pattern.name, Curve(take=pattern.take))
                    curve.add(value, None if step is None else _step(step))
                    self._log([pattern.name])

    def _log(self, names: Iterable[str]) -> None:
        """Log the newest value of these curves. A curve with only one value is not logged yet."""
        for name in names:
            _log(self._context, name, self.curves[name], newest=True)


def read_metrics(
    sources: MetricSources,
    output: OutputMetrics,
    folder: Path,
    files: Sequence[str],
    settings: Collection[str],
    context: RunContext,
) -> dict[str, float | str | None]:
    """Record the curves of all sources, and return the metrics.

    Args:
        sources: the sources that the sweep names.
        output: the curves from lines of output.
        folder: the cell's folder.
        files: paths of the metrics files in this folder, or patterns such as `*.csv`.
        settings: names of the cell's settings. A program may print its settings, so a value with such a name is not a
            metric. The exception is a name that a pattern of the sweep has.
        context: the context to which the curves are logged.

    Raises:
        NoMetrics: a declared source has provided no metric.
        ValueError: a metrics file cannot be read.
    """
    curves, missing = record_files(sources, folder, files, context)
    missing += [
        f"metrics.patterns.{pattern.name}: no line of the output matches {pattern.pattern!r} with a number"
        for pattern in sources.patterns
        if pattern.name not in output.curves
    ]
    curves = {**curves, **output.curves}
    if sources.declared and not missing and not _has_number(curves):
        missing.append("metrics.json_lines: no line of standard output is a JSON object with a number")
    if missing:
        raise NoMetrics("; ".join(missing))
    patterns = {pattern.name for pattern in sources.patterns}
    return {name: curve.metric for name, curve in curves.items() if name in patterns or name not in settings}


def record_files(
    sources: MetricSources, folder: Path, files: Sequence[str], context: RunContext
) -> tuple[Curves, list[str]]:
    """Log the curves of metrics files and event files.

    Returns the curves, and an error message for each source that has no numbers.
    """
    curves: Curves = {}
    missing: list[str] = []
    for name in files:
        curves = {**_read_file(folder, name, sources.step, missing), **curves}
    if sources.tensorboard is not None:
        event_curves = _read_tensorboard(folder / sources.tensorboard)
        if not event_curves:
            missing.append(f"metrics.tensorboard: no event file with scalars in {sources.tensorboard!r}")
        curves = {**event_curves, **curves}
    for name, curve in curves.items():
        if name != sources.step and name not in context.curves:
            _log(context, name, curve)
    return curves, missing


def _log(context: RunContext, name: str, curve: Curve, *, newest: bool = False) -> None:
    """Log all values of a curve; with `newest`, only those that are not logged yet.

    A curve with fewer than two values is not logged.
    """
    if len(curve.values) < 2:
        return
    logged = context.curves.setdefault(name, LoggedCurve())
    first = len(curve.values) - 1 if newest and len(curve.values) > 2 else 0
    for step, value in zip(curve.steps[first:], curve.values[first:], strict=True):
        logged.add(step, value)
    context.points += len(curve.values) - first


def _read_file(folder: Path, name: str, step: str, missing: list[str]) -> Curves:
    paths = sorted(p for p in folder.glob(name) if p.is_file()) if any(c in name for c in "*?[") else [folder / name]
    if len(paths) != 1 or not paths[0].is_file():
        reason = f"{len(paths)} files match" if len(paths) > 1 else "the program has not written it into its folder"
        missing.append(f"metrics.file: {name!r}: {reason}")
        return {}
    try:
        text = paths[0].read_text(encoding="utf-8-sig", errors="replace")
        curves = _READERS[paths[0].suffix](text, step)
    except (ValueError, RecursionError, csv.Error) as error:
        raise ValueError(f"metrics.file: {name!r} cannot be read: {error}") from None
    if not _has_number(curves):
        missing.append(f"metrics.file: {name!r} has no number")
    return curves


def _from_json(text: str, step: str) -> Curves:
    """Read curves from JSON text: an object or a list of objects. A list of numbers in an object is a whole curve."""
    curves: Curves = {}
    tree = json.loads(text)
    for row in tree if isinstance(tree, list) else [tree]:
        if not isinstance(row, dict):
            raise ValueError(
                "it is neither a JSON object nor a list of objects; name it .jsonl if it has an object a line"
            )
        _add_row(curves, row, step)
    return curves


def _from_json_lines(text: str, step: str) -> Curves:
    curves: Curves = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from None
            if isinstance(row, dict):
                _add_row(curves, row, step)
    return curves


def _from_csv(text: str, step: str, delimiter: str = ",") -> Curves:
    """Read curves from CSV text with a header. Lines with `#` before the header, and empty fields, are skipped."""
    lines = text.splitlines()
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        del lines[0]
    if lines and delimiter not in lines[0] and ";" in lines[0]:
        delimiter = ";"
    curves: Curves = {}
    for row in csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True):
        _add_row(
            curves, {key.strip(): _number(text) for key, text in row.items() if key and isinstance(text, str)}, step
        )
    return curves


_READERS: dict[str, Callable[[str, str], Curves]] = {
    ".json": _from_json,
    ".jsonl": _from_json_lines,
    ".ndjson": _from_json_lines,
    ".csv": _from_csv,
    ".tsv": lambda text, step: _from_csv(text, step, "\t"),
}


def _read_tensorboard(folder: Path) -> Curves:
    """Read the scalars of all event files below a folder.

    If the files lie in several folders, a tag is preceded by the path of its file's folder, relative to `folder`.
    """
    files = sorted(path for path in folder.rglob("*tfevents*") if path.is_file())
    folders = {path.parent for path in files}
    curves: Curves = {}
    for path in files:
        prefix = "" if len(folders) == 1 or path.parent == folder else f"{path.parent.relative_to(folder).as_posix()}/"
        for tag, step, value in read_events(path):
            curves.setdefault(prefix + tag, Curve()).add(value, step)
    return curves


def _has_number(curves: Curves) -> bool:
    return any(curve.values for curve in curves.values())


def _add_row(curves: Curves, row: Mapping[str, Any], step: str) -> list[str]:
    """Add the values of a JSON object to the curves of their names; return the names whose values are numbers."""
    flat = dict(_flat(row))
    at = flat.get(step)
    at = _step(at) if isinstance(at, float) else None
    for name, value in flat.items():
        curve = curves.setdefault(name, Curve())
        if isinstance(value, str):
            curve.text = value
            continue
        for item in value if isinstance(value, list) else [value]:
            curve.add(item, None if isinstance(value, list) else at)
    return [name for name, value in flat.items() if isinstance(value, float)]


def _flat(row: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, float | str | list[float]]]:
    """Yield the numbers, texts and lists of numbers in a JSON object and its nested objects, with their names.

    Nested names are joined by dots.
    """
    for key, value in row.items():
        name = f"{prefix}{key}"
        if not name or not encodable(name):
            continue
        if isinstance(value, dict):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, int | float) and (number := _number(value)) is not None:
            yield name, number
        elif isinstance(value, str) and len(value) <= MAX_TEXT:
            yield name, value
        elif isinstance(value, list) and value and all(isinstance(v, int | float) for v in value):
            yield name, [float(v) for v in value]


def _number(value: Any) -> float | None:
    """Convert a number, or text that contains one, to a float; None for anything else."""
    try:
        return None if value is None else float(value.strip().rstrip(",;") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None


def _step(number: float) -> int | None:
    return int(number) if number == number and abs(number) < 2**53 and number == int(number) else None
