"""Queries that a user keeps by name, for any store: one .sql file each in the user's own configuration folder."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import typer

from raysweep.orchestrator.cli.output import fail
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import unknown_name

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def home() -> Path:
    """Where what belongs to a user is kept, such as `~/.config/raysweep`."""
    return Path(typer.get_app_dir("raysweep"))


def keep(name: str, sql: str) -> Path:
    """Keep it; an earlier one of this name gives way.

    Raises:
        InputError: the name is none, or the folder can't be written.
    """
    check_name(name)
    path = _folder() / f"{name}.sql"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sql.strip() + "\n", encoding="utf-8")
    except OSError as error:
        fail(f"{path}: {error.strerror or error}")
    return path


def resolve(text: str) -> str:
    """SQL as it is; for a name, what is kept under it.

    Raises:
        InputError: nothing is.
    """
    if not _NAME.fullmatch(text):
        return text
    path = _folder() / f"{text}.sql"
    if not path.is_file():
        fail(f"{unknown_name('saved query', text, _names())} (SQL has more than one word; --save keeps a query)")
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: cannot be read as text: {error}")


def listed() -> pl.DataFrame:
    """What is kept: name, sql."""
    names = _names()
    return pl.DataFrame(
        {"name": names, "sql": [resolve(n) for n in names]}, schema={"name": pl.String, "sql": pl.String}
    )


def check_name(name: str) -> None:
    """Refuse what is no name.

    Raises:
        InputError: it holds other than letters, digits, "-" and "_", or is longer than 64.
    """
    if not _NAME.fullmatch(name):
        fail(f"--save {short_repr(name)}: a name is 1 to 64 letters, digits, '-' and '_'")


def _folder() -> Path:
    return home() / "queries"


def _names() -> list[str]:
    return sorted(path.stem for path in _folder().glob("*.sql") if _NAME.fullmatch(path.stem))
