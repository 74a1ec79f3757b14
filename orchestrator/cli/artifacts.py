"""The commands `artifacts ls` and `artifacts get`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.cells import one_cell
from raysweep.orchestrator.cli.options import Json, StoreOption
from raysweep.orchestrator.cli.terminal.output import fail, print_frame, print_json, say, warn
from raysweep.orchestrator.text import count_cells, join_first, short_repr

if TYPE_CHECKING:
    import polars as pl

    from raysweep.orchestrator.store.reader import Store

artifacts_app = typer.Typer(help="List and fetch the files that cells left in their folders.", no_args_is_help=True)

MAX_PATHS = 8  # listed in a message

Cell = Annotated[
    str | None, typer.Argument(metavar="CELL_ID", help="Only this cell: its id, or the first characters of it.")
]
Where = Annotated[
    str | None, typer.Option(help='Only cells that match this SQL predicate over the table cells: "loss < 0.1".')
]
Name = Annotated[str | None, typer.Option(metavar="PATTERN", help='Only files whose path matches: "*.png".')]


@artifacts_app.command("ls")
def artifacts_ls(
    cell: Cell = None,
    where: Where = None,
    name: Name = None,
    store: StoreOption = "results",
    as_json: Json = False,
) -> None:
    """List artifacts.

    raysweep artifacts ls 3f5b

    raysweep artifacts ls --where "status = 'done' and k = 8" --name "*.png"
    """
    from raysweep.orchestrator.store.reader import Store

    chosen = _chosen(Store(store).require(), cell, where, name).drop("epoch")
    if as_json:
        print_json(chosen.to_dicts())
    elif chosen.is_empty():
        say("no artifacts: no cell has left a file in its folder")
    else:
        print_frame(chosen.select("cell_id", "attempt", "status", "path", "bytes", "kind"))


@artifacts_app.command("get")
def artifacts_get(
    *,
    cell: Cell = None,
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the files; one folder per cell in it.")],
    where: Where = None,
    name: Name = None,
    store: StoreOption = "results",
) -> None:
    """Copy artifacts to DIR/CELL_ID/PATH. Files that are there already are left alone.

    raysweep artifacts get 3f5b --to model

    raysweep artifacts get --where "seed = 0" --name "*.png" --to figures
    """
    from raysweep.orchestrator.store.artifacts import read_content, save
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    chosen = _chosen(opened, cell, where, name)
    if chosen.is_empty():
        fail("no artifacts: no cell has left a file in its folder")
    folder = Path(to)
    size = new = 0
    for row in chosen.iter_rows(named=True):
        if row["sha256"] is None:
            warn([f"{row['cell_id'][:8]} {row['path']}: {row['kind']}"])
            continue
        content = read_content(opened.storage, row)
        try:
            (folder / row["cell_id"]).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            fail(f"--to {to}: cannot be created: {error.strerror}")
        new += save(content, folder / row["cell_id"], row["path"])
        size += len(content)
    kept = chosen.filter(chosen["sha256"].is_not_null())
    files = f"{kept.height:,} file{'' if kept.height == 1 else 's'}"
    cells = count_cells(kept["cell_id"].n_unique())
    say(f"{files} of {cells} in {to} ({size / 2**20:.1f} MiB), {new:,} of them new")


def _chosen(store: Store, cell: str | None, where: str | None, name: str | None) -> pl.DataFrame:
    """Return the artifacts of the cells that match `cell` and `where`, with a path that matches `name`.

    Raises:
        InputError: `cell` is unknown or has no artifacts, `where` matches no cell, or artifacts exist but none of
            them is chosen.
    """
    import polars as pl

    rows = store.artifacts()
    if cell is not None:
        cell_id = one_cell(store.known(), cell)["cell_id"]
        rows = rows.filter(pl.col("cell_id") == cell_id)
        if rows.is_empty():
            fail(f"cell {cell_id[:8]}: has no artifacts")
    if where is not None:
        cells = store.sql(f"SELECT cell_id FROM cells WHERE (\n{where}\n)")["cell_id"]
        if cells.is_empty():
            fail(f"--where {short_repr(where)}: no cell matches")
        rows, every = rows.filter(pl.col("cell_id").is_in(cells.implode())), rows
        if rows.is_empty() and every.height:
            fail(f"--where {short_repr(where)}: {count_cells(len(cells))} match, without artifacts")
    if name is not None:
        paths = rows["path"]
        rows = rows.filter(pl.Series([fnmatchcase(path, name) for path in paths], dtype=pl.Boolean))
        if rows.is_empty() and len(paths):
            there = join_first(paths.unique().sort(), MAX_PATHS)
            fail(f"--name {short_repr(name)}: no path matches; there are: {there}")
    return rows
