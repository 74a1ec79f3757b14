"""Saved queries: one .sql file per query in the user's configuration folder. A saved query works on any store."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import typer

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def home() -> Path:
    """Return the user's configuration folder, such as `~/.config/raysweep`."""
    return Path(typer.get_app_dir("raysweep"))


def keep(name: str, sql: str) -> Path:
    """Save a query under a name, and return its file. An earlier query of that name is replaced.

    Raises:
        InputError: the name is invalid, or the folder cannot be written.
    """
    check_name(name)
    path = _folder() / f"{name}.sql"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql.strip() + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    return path


def resolve(text: str) -> str:
    """Return the SQL of the saved query `text` if `text` is a single word; otherwise return `text` itself.

    Raises:
        InputError: no query is saved under this name, or its file cannot be read.
    """
    if not _NAME.fullmatch(text):
        return text
    path = _folder() / f"{text}.sql"
    if not path.is_file():
        unknown = unknown_name("saved query", text, _names())
        raise InputError(f"{unknown} (a single word names a saved query; SQL has several words)")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None


def listed() -> pl.DataFrame:
    """List all saved queries. Columns: name, sql."""
    names = _names()
    return pl.DataFrame(
        {"name": names, "sql": [resolve(n) for n in names]}, schema={"name": pl.String, "sql": pl.String}
    )


def check_name(name: str) -> None:
    """Check that a query may have this name.

    Raises:
        InputError: the name does not consist of 1 to 64 letters, digits, "-" and "_", or begins with "-" or "_".
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"--save {short_repr(name)}: invalid name; use 1 to 64 letters, digits, '-' and '_'")


def _folder() -> Path:
    return home() / "queries"


def _names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.sql") if _NAME.fullmatch(path.stem))
