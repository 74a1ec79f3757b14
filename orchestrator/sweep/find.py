"""Search for the sweep files that a SWEEP argument names."""

from __future__ import annotations

import difflib
import fnmatch
import re
import shlex
from pathlib import Path

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import join_first, short_repr
from raysweep.workloads.registry import nearest

BUNDLED = Path(__file__).resolve().parents[2] / "workloads"
"""Folder of the bundled sweeps: `paper/e1-sine` is `workloads/paper/e1-sine.toml`."""
MAX_LONGER = 5
"""Maximum number of bundled sweeps that a message lists if their names begin with the unknown name."""


def find(name: str) -> list[Path]:
    """Return the sweep files that a SWEEP argument names, sorted.

    Args:
        name: a path to a `.toml` file or to a folder of such files; or the name, group or folder of bundled sweeps
            (`paper/e1-sine`, `paper/rnn`, `paper`), or a pattern of their names (`paper/e8-*`).

    Raises:
        InputError: nothing matches; the message suggests the most similar name.
    """
    if not name.strip():
        raise InputError(
            f"sweep {name!r}: the name is empty (an unset variable?); give a .toml file or a bundled sweep"
        )
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
    if inside := [p for n, p in bundled.items() if n.startswith(f"{name.rstrip('/')}/")]:
        return inside
    group = BUNDLED / f"{name}.txt"
    if name.count("/") == 1 and group.is_file():
        members = [line for line in group.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
        return [bundled[member] for member in members]
    matching = [p for n, p in bundled.items() if fnmatch.fnmatchcase(n, name)]
    if not matching:
        if is_file or path.is_dir():
            kind = "file's name does not end in .toml" if is_file else "folder contains no .toml file"
            raise InputError(f"sweep {short_repr(name)}: the {kind}{_suggestion(path)}")
        if suggestion := _suggestion(path):
            raise InputError(f"unknown sweep {short_repr(name)}{suggestion}")
        longer = [n for n in bundled if n.startswith(name)]
        if len(longer) > 1:
            raise InputError(
                f"unknown sweep {short_repr(name)}; {join_first(longer, MAX_LONGER)} begin with it; "
                f"to name all of them, write '{name}*' in quotes"
            )
        groups = [p.relative_to(BUNDLED).with_suffix("").as_posix() for p in BUNDLED.glob("*/*.txt")]
        if re.fullmatch(r"[\w.-]+=.*", name):
            raise InputError(f"unknown sweep {short_repr(name)}; to set a config key, write --set {shlex.quote(name)}")
        near = nearest(name, [*bundled, *groups])
        hint = f"did you mean {near}?" if near else "give a .toml file, a folder, or a bundled sweep (paper/e1-sine)"
        raise InputError(f"unknown sweep {short_repr(name)}; {hint}")
    return matching


def _suggestion(path: Path) -> str:
    """Return text for a message: the most similar `.toml` file in the same folder; "" if none is similar."""
    stems = {p.stem: p for p in sorted(path.parent.glob("*.toml"))} if path.parent.is_dir() else {}
    near = difflib.get_close_matches(path.stem, stems, n=1)
    return f"; did you mean {stems[near[0]]}?" if near else ""
