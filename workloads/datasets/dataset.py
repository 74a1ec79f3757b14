"""A data set: its source, its download, its files in the data folder.

The data folder is `$RAYSWEEP_DATA`, or `data` in the current folder. The path is never part of a cell; the content of
the files may be, as a digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RAYSWEEP_DATA"


def data_folder() -> Path:
    """The data folder: `$RAYSWEEP_DATA`, or `data`."""
    return Path(os.environ.get(VARIABLE) or "data")


@dataclass(frozen=True)
class Listing:
    """The part of a data set present in a folder.

    Args:
        rows: one per part (a session, say); all with the same keys, values are numbers, text or None.
        notes: remarks for the reader, a sentence or two each.
    """

    rows: Sequence[Mapping[str, float | int | str | None]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Dataset:
    """An entry of `DATASETS`.

    Args:
        title: content and authors, one line.
        source: where it is published, and its licence.
        fetch: (data folder, say, options by keyword) -> the files now present. `say` receives a line per file. Raises
            ValueError or OSError with one message; a partial download is resumed by the next call.
        listing: (data folder) -> its `Listing`; raises ValueError if a file cannot be read.
        options: the options of `raysweep data fetch` that `fetch` accepts; others are refused.
    """

    title: str
    source: str
    fetch: Callable[..., Sequence[Path]]
    listing: Callable[[Path], Listing]
    options: tuple[str, ...] = ()
