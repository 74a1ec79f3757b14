"""The commands `artifacts ls` and `artifacts get`."""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from raysweep.orchestrator.cli.options import Json, StoreOption
from raysweep.orchestrator.cli.output import fail, print_frame, print_json, say, warn
from raysweep.orchestrator.text import count_cells

if TYPE_CHECKING:
    import polars as pl

    from raysweep.orchestrator.store.reader import Store

artifacts_app = typer.Typer(help="List and fetch the files that cells left in their folders.", no_args_is_help=True)

Where = Annotated[
    str | None, typer.Option(help='Only cells that match this SQL predicate over the table cells: "loss < 0.1".')
]
Name = Annotated[str | None, typer.Option(metavar="PATTERN", help='Only files whose path matches: "*.png".')]


@artifacts_app.command("ls")
def artifacts_ls(where: Where = None, name: Name = None, store: StoreOption = "results", as_json: Json = False) -> None:
    """List artifacts.

    raysweep artifacts ls --where "status = 'done' and k = 8" --name "*.png"
    """
    from raysweep.orchestrator.store.reader import Store

    chosen = _chosen(Store(store).require(), where, name).drop("epoch")
    if as_json:
        print_json(chosen.to_dicts())
    elif chosen.is_empty():
        say("no artifacts")
    else:
        print_frame(chosen.select("cell_id", "attempt", "status", "path", "bytes", "kind"))


@artifacts_app.command("get")
def artifacts_get(
    to: Annotated[str, typer.Option("--to", metavar="DIR", help="Folder for the files; one folder per cell in it.")],
    where: Where = None,
    name: Name = None,
    store: StoreOption = "results",
) -> None:
    """Copy artifacts to DIR/CELL_ID/PATH. Files that are there already are left alone.

    raysweep artifacts get --where "seed = 0" --to figures
    """
    from raysweep.orchestrator.store.artifacts import read_content, save
    from raysweep.orchestrator.store.reader import Store

    opened = Store(store).require()
    chosen = _chosen(opened, where, name)
    if chosen.is_empty():
        fail("no artifact matches; `raysweep artifacts ls` lists all")
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
    say(
        f"{kept.height:,} files of {count_cells(kept['cell_id'].n_unique())} in {to} ({size / 2**20:.1f} MiB), "
        f"{new:,} of them new"
    )


def _chosen(store: Store, where: str | None, name: str | None) -> pl.DataFrame:
    """The artifacts of the cells that match, with paths that match."""
    import polars as pl

    rows = store.artifacts()
    if where is not None:
        cells = store.sql(f"SELECT cell_id FROM cells WHERE (\n{where}\n)")["cell_id"]
        rows = rows.filter(pl.col("cell_id").is_in(cells.implode()))
    if name is not None:
        rows = rows.filter(pl.Series([fnmatchcase(path, name) for path in rows["path"]], dtype=pl.Boolean))
    return rows
