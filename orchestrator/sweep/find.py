"""Search for the sweep files that a SWEEP argument names."""

from __future__ import annotations

import difflib
from pathlib import Path

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

BUNDLED = Path(__file__).resolve().parents[2] / "workloads"
"""Folder of the bundled sweeps: `paper/e1-sine` is `workloads/paper/e1-sine.toml`."""


def find(name: str) -> list[Path]:
    """Find the sweep files that a SWEEP argument names, sorted.

    Args:
        name: a path to a `.toml` file or to a folder of such files; or the name, group or prefix of bundled sweeps
            (`paper/e1-sine`, `paper/rnn`, `paper`).

    Raises:
        InputError: nothing matches; the message suggests the most similar name.
    """
    if not name.strip():
        raise InputError("sweep '': the name is empty (an unset variable?); give a .toml file or a bundled sweep")
    try:
        path = Path(name).expanduser()
        is_file = path.is_file()
    except (RuntimeError, OSError, ValueError) as error:  # an unknown user's home, a name too long, a NUL
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"sweep {short_repr(name)}: not a valid path: {reason}") from None
    if name.endswith(".toml"):
        if not is_file:
            raise InputError(f"no sweep file {name}" + (" (it is a folder)" if path.is_dir() else _suggestion(path)))
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
            kind = "file's name does not end in .toml" if is_file else "folder contains no .toml file"
            raise InputError(f"sweep {short_repr(name)}: the {kind}{_suggestion(path)}")
        if suggestion := _suggestion(path):
            raise InputError(f"unknown sweep {short_repr(name)}{suggestion}")
        groups = [p.relative_to(BUNDLED).with_suffix("").as_posix() for p in BUNDLED.glob("*/*.txt")]
        unknown = unknown_name("sweep", name, [*bundled, *groups])
        raise InputError(f"{unknown}; for a sweep file of your own, give its path, which ends in .toml")
    return matching


def _suggestion(path: Path) -> str:
    """Suggest, for a message, the `.toml` file in the same folder with the most similar name; "" if none is similar."""
    stems = {p.stem: p for p in sorted(path.parent.glob("*.toml"))} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f"; did you mean {stems[near[0]]}?" if near else ""
