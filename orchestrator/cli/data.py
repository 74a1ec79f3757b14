"""The commands `data list` and `data fetch`."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from raysweep.orchestrator.cli.options import DataDir, Json
from raysweep.orchestrator.cli.terminal.output import entry, fail, print_frame, print_json, say
from raysweep.orchestrator.cli.terminal.usage import Command

if TYPE_CHECKING:
    from raysweep.workloads.datasets.dataset import Dataset

data_app = typer.Typer(help="List and download the data sets that workloads read.", no_args_is_help=True)


def use_data(folder: str | None) -> None:
    """Set the data folder of this process and of the workers that it starts; None changes nothing.

    Raises:
        InputError: the folder does not exist.
    """
    from raysweep.workloads.datasets.dataset import VARIABLE

    if folder is None:
        return
    path = Path(folder).resolve()
    if not path.is_dir():
        fail(f"--data-dir {folder}: no such folder")
    os.environ[VARIABLE] = str(path)


@data_app.command("list", cls=Command)
def data_list(
    name: Annotated[str | None, typer.Argument(help="A data set. Default: all.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """List the downloaded parts of each data set, and known peculiarities of the recordings."""
    from raysweep.workloads.datasets import DATASETS
    from raysweep.workloads.datasets.dataset import data_folder

    use_data(data_dir)
    datasets = {each: _dataset(each) for each in ([name] if name else DATASETS)}
    try:
        listings = {each: dataset.listing(data_folder()) for each, dataset in datasets.items()}
    except (ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json({each: {"rows": list(of.rows), "notes": list(of.notes)} for each, of in listings.items()})
        return
    import polars as pl

    for each, listing in listings.items():
        say(f"{each}: {datasets[each].title}")
        say(f"  {datasets[each].source}")
        if listing.rows:
            print_frame(pl.DataFrame(list(listing.rows), infer_schema_length=None))
        else:
            say(f"  nothing in {data_folder()} yet; to download it: raysweep data fetch {each}")
        for note in listing.notes:
            say(note)


@data_app.command("fetch", cls=Command)
def data_fetch(
    name: Annotated[str, typer.Argument(help="A data set.")],
    sessions: Annotated[
        str | None, typer.Option(help='For indy: sessions, such as "20160624_03,20170131_02", or "all".')
    ] = None,
    bin_ms: Annotated[int | None, typer.Option(min=1, help="For indy: the bin width in milliseconds.")] = None,
    mirror: Annotated[str | None, typer.Option(metavar="URL", help="Another server with the same files.")] = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Download a data set into the data folder, verify and prepare it; an interrupted download is continued."""
    from raysweep.workloads.datasets.dataset import data_folder

    dataset = _dataset(name)
    options: dict[str, Any] = {"sessions": sessions, "bin_ms": bin_ms, "mirror": mirror}
    typed = {option: value for option, value in options.items() if value is not None}
    for option in typed:
        if option not in dataset.options:
            fail(f"--{option.replace('_', '-')} has no effect on data set {name!r}; leave it out")
    folder = Path(data_dir).resolve() if data_dir else data_folder()
    try:
        files = dataset.fetch(folder, (lambda line: None) if as_json else say, **typed)
    except (ValueError, OSError) as error:
        fail(str(error))
    if as_json:
        print_json({"files": [str(file) for file in files]})
        return
    say(f"{len(files)} files in {folder}; to use them, pass --data-dir {folder} or set RAYSWEEP_DATA")


def _dataset(name: str) -> Dataset:
    from raysweep.workloads.datasets import DATASETS

    module, _, attribute = entry(DATASETS, name).partition(":")
    dataset: Dataset = getattr(importlib.import_module(module), attribute)
    return dataset
