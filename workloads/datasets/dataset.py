"""The interface of a data set: its source, its download, and its files in the data folder.

The data folder is `$RAYSWEEP_DATA`, or `data` in the current folder. Its path is never part of a cell. A digest of the
files' content may be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RAYSWEEP_DATA"


def data_folder() -> Path:
    """Return the data folder: `$RAYSWEEP_DATA`, or `data` in the current folder."""
    return Path(os.environ.get(VARIABLE) or "data")


@dataclass(frozen=True)
class Listing:
    """The parts of a data set that a folder contains.

    Args:
        rows: one row per part, such as a session. All rows have the same keys; values are numbers, text or None.
        notes: remarks for the reader, of one or two sentences.
    """

    rows: Sequence[Mapping[str, float | int | str | None]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Dataset:
    """A data set that `raysweep data` can fetch: an entry of `DATASETS`.

    Args:
        title: content and authors, on one line.
        source: the place of publication, and the licence.
        fetch: (data folder, `say`, options by keyword) -> the files that now exist. It calls `say` with one line per
            file. It raises ValueError or OSError with one message. The next call resumes a partial download.
        listing: (data folder) -> its `Listing`. It raises ValueError if a file cannot be read.
        options: the options of `raysweep data fetch` that `fetch` accepts; others are refused.
    """

    title: str
    source: str
    fetch: Callable[..., Sequence[Path]]
    listing: Callable[[Path], Listing]
    options: tuple[str, ...] = ()
