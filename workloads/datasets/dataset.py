"""What a data set is: where it comes from, how it is fetched, what of it lies in a folder.

Its files lie in the data folder, `$RAYSWEEP_DATA`, or `data` in the current folder. The folder is never part of a
cell; what its files hold may be, by a digest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "RAYSWEEP_DATA"


def data_folder() -> Path:
    """Where data sets lie: `$RAYSWEEP_DATA`, or `data`."""
    return Path(os.environ.get(VARIABLE) or "data")


@dataclass(frozen=True)
class Listing:
    """What of a data set lies in a folder.

    Args:
        rows: one a part (a session, say); the same keys in each, a number, text or None.
        notes: what a reader must know of it, a sentence or two each.
    """

    rows: Sequence[Mapping[str, float | int | str | None]]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Dataset:
    """An entry of `DATASETS`.

    Args:
        title: one line: what, and by whom.
        source: where it is published, and its licence.
        fetch: (data folder, say, own options by keyword) -> files that are there now. `say` is told one line a file.
            ValueError or OSError, one message, where that cannot be; what was downloaded so far is kept and gone on
            from.
        listing: of a data folder; ValueError where a file of it cannot be read.
        options: names of the options of `raysweep data fetch` that `fetch` takes; others are refused.
    """

    title: str
    source: str
    fetch: Callable[..., Sequence[Path]]
    listing: Callable[[Path], Listing]
    options: tuple[str, ...] = ()
