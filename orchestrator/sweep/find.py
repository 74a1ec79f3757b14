"""Which sweep files a SWEEP argument means."""

from __future__ import annotations

import difflib
from pathlib import Path

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

BUNDLED = Path(__file__).resolve().parents[2] / "workloads"
"""Bundled sweeps: `paper/e1-sine` is `workloads/paper/e1-sine.toml`."""


def find(name: str) -> list[Path]:
    """The sweep files that a SWEEP argument means, sorted.

    A path to a `.toml`, a folder of them, or a bundled name, group or prefix (`paper/e1-sine`,
    `paper/rnn`, `paper`).

    Raises:
        InputError: there is none; the message names a file or a bundled sweep that may have been meant.
    """
    try:
        path = Path(name).expanduser()
        is_file = path.is_file()
    except (RuntimeError, OSError, ValueError) as error:  # no such user's home, a name too long, a NUL
        raise InputError(f"sweep {short_repr(name)}: no path: {getattr(error, 'strerror', None) or error}") from None
    if name.endswith(".toml"):
        if not is_file:
            raise InputError(f"no sweep file {name}" + (" (it is a folder)" if path.is_dir() else _meant(path)))
        return [path]
    if path.is_dir() and (inside := sorted(path.glob("*.toml"))):
        return inside
    bundled = {p.relative_to(BUNDLED).with_suffix("").as_posix(): p for p in sorted(BUNDLED.glob("*/*.toml"))}
    if name in bundled:
        return [bundled[name]]
    group = BUNDLED / f"{name}.txt"
    if name.count("/") == 1 and group.is_file():
        members = [line for line in group.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
        return [bundled[member] for member in members]
    matching = [p for n, p in bundled.items() if n.startswith(name)]
    if not matching:
        if is_file or path.is_dir():
            kind = "file does not end in .toml" if is_file else "folder holds no .toml"
            raise InputError(f"sweep {short_repr(name)}: the {kind}{_meant(path)}")
        if meant := _meant(path):
            raise InputError(f"unknown sweep {short_repr(name)}{meant}")
        groups = [p.relative_to(BUNDLED).with_suffix("").as_posix() for p in BUNDLED.glob("*/*.txt")]
        unknown = unknown_name("sweep", name, [*bundled, *groups])
        raise InputError(f"{unknown}; a sweep file of your own is given as a path to a .toml")
    return matching


def _meant(path: Path) -> str:
    """Which `.toml` in the same folder has almost this name, as the end of a message; else nothing."""
    stems = {p.stem: p for p in sorted(path.parent.glob("*.toml"))} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f"; did you mean {stems[near[0]]}?" if near else ""
