"""The keys `artifacts` and `nan` of a sweep file.

They state which files in a cell's folder are stored, and whether metrics may be NaN or infinite.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from raysweep.orchestrator.text import encodable, short_repr
from raysweep.workloads.registry import unknown_name

MAX_MIB, MAX_FILES = 4096, 100_000
_KEYS = ("include", "exclude", "max_mib", "max_files")
_LIMITS = {"max_mib": MAX_MIB, "max_files": MAX_FILES}
NAN = ("fail", "keep")


@dataclass(frozen=True, slots=True)
class Outputs:
    """The keys `artifacts` and `nan` of a sweep file. Neither is part of a cell's id.

    Args:
        include: patterns of the files to store; `*` also matches `/`.
        exclude: patterns of files not to store.
        max_mib: maximum MiB of stored files per attempt.
        max_files: maximum number of stored files per attempt.
        keep_nan: whether a metric may be NaN or infinite. If not, a cell with such a metric fails.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    max_mib: float = 256.0
    max_files: int = 1000
    keep_nan: bool = False

    def keeps(self, path: str) -> bool:
        """Tell whether a file with this path in a cell's folder becomes an artifact."""
        return any(fnmatchcase(path, p) for p in self.include) and not any(fnmatchcase(path, p) for p in self.exclude)


DEFAULT = Outputs()


def read_outputs(raw: Mapping[str, Any], problems: list[str]) -> Outputs:
    """Read the keys `artifacts` and `nan` of a sweep file; problems are appended."""
    nan = raw.get("nan", "fail")
    if nan not in NAN:
        problems.append(f'nan: {short_repr(nan)} is invalid; write "keep" to record NaN, or "fail" (the default)')
    keys = raw.get("artifacts", {})
    if not isinstance(keys, dict):
        problems.append(f"artifacts: {short_repr(keys)} is not a table; write artifacts = {{include = [...]}}")
        keys = {}
    values: dict[str, Any] = {}
    for key, value in keys.items():
        if key not in _KEYS:
            problems.append(f"artifacts: {unknown_name('key', key, _KEYS)}")
        elif key in _LIMITS:
            kind, noun = (int, "an integer") if key == "max_files" else (int | float, "a number")
            if isinstance(value, bool) or not isinstance(value, kind) or not 0 <= value <= _LIMITS[key]:
                problems.append(f"artifacts.{key}: {short_repr(value)} is not {noun} from 0 to {_LIMITS[key]:,}")
            else:
                values[key] = value
        elif not isinstance(value, list) or not all(isinstance(v, str) and v and encodable(v) for v in value):
            problems.append(f'artifacts.{key}: {short_repr(value)} is not a list of patterns, such as ["*.png"]')
        else:
            values[key] = tuple(value)
    return Outputs(**values, keep_nan=nan == "keep")
