"""The commands `data list` and `data fetch`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.options import DataDir, Json
from raysweep.orchestrator.cli.output import fail, print_frame, print_json, say

if TYPE_CHECKING:
    from raysweep.workloads.datasets.dataset import Dataset

data_app = typer.Typer(help="Data sets that workloads read: list, fetch.", no_args_is_help=True)


def use_data(folder: str | None) -> None:
    """Make a folder that was named the data folder, of this process and of the workers that it starts.

    Raises:
        InputError: there is no such folder.
    """
    from raysweep.workloads.datasets.dataset import VARIABLE

    if folder is None:
        return
    path = Path(folder).resolve()
    if not path.is_dir():
        fail(f"--data-dir {folder}: no such folder")
    os.environ[VARIABLE] = str(path)


@data_app.command("list")
def data_list(
    name: Annotated[str | None, typer.Argument(help="A data set; default: all.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Show what of each data set lies in the data folder, and what is odd about it."""
    from raysweep.workloads.datasets import DATASETS
    from raysweep.workloads.datasets.dataset import data_folder

    use_data(data_dir)
    chosen = {known: _dataset(known) for known in ([name] if name else DATASETS)}
    try:
        found = {known: dataset.listing(data_folder()) for known, dataset in chosen.items()}
    except (ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json({known: {"rows": list(of.rows), "notes": list(of.notes)} for known, of in found.items()})
        return
    import polars as pl

    for known, of in found.items():
        say(f"{known}: {chosen[known].title}")
        say(f"  {chosen[known].source}")
        if of.rows:
            print_frame(pl.DataFrame(list(of.rows), infer_schema_length=None))
        else:
            say(f"  nothing of it in {data_folder()}; raysweep data fetch {known}")
        for note in of.notes:
            say(note)


@data_app.command("fetch")
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set.")],
    sessions: Annotated[
        str | None, typer.Option(help='Of indy: names, as "20160624_03,20170131_02", or "all".')
    ] = None,
    bin_ms: Annotated[int | None, typer.Option(min=1, help="Of indy: the width of bins, milliseconds.")] = None,
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Another place that has the same files.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Download a data set into the data folder, check it, and prepare it; goes on where it was interrupted."""
    from raysweep.workloads.datasets.dataset import data_folder

    dataset = _dataset(name)
    options: dict[str, Any] = {"sessions": sessions, "bin_ms": bin_ms, "mirror": mirror}
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in dataset.options:
            fail(f"--{option.replace('_', '-')} has no effect on data set {name!r}; leave it out")
    folder = Path(data_dir).resolve() if data_dir else data_folder()
    try:
        files = dataset.fetch(folder, (lambda line: None) if as_json else say, **given)
    except (ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    say(f"{len(files)} files in {folder}; they are found by --data-dir {folder}, or RAYSWEEP_DATA")


def _dataset(name: str) -> Dataset:
    from raysweep.workloads.datasets import DATASETS
    from raysweep.workloads.registry import UnknownName

    try:
        module, _, entry = DATASETS[name].partition(":")
    except UnknownName as error:
        fail(str(error))
    found: Dataset = getattr(importlib.import_module(module), entry)
    return found
