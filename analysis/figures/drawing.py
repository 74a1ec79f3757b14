"""Drawing: page sizes, fonts, colours, and figure files with reproducible bytes.

The colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish. Each rule also has its own
marker and dash, so that figures stay readable in black and white. Matplotlib is imported inside the functions. pyplot
is never used, so drawing leaves no global state.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from raysweep.analysis.cells.methods import Row
from raysweep.orchestrator.errors import InputError

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Input = TypeVar("Input")
"""Type of what a figure is drawn from: a `Source`, or a frame of cells."""

SINGLE, DOUBLE = 3.4, 7.0
"""Widths in inches of a one-column and a two-column figure."""

BLACK, ORANGE, GREEN = "#000000", "#E69F00", "#009E73"
BLUE, VERMILLION, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"


@dataclass(frozen=True)
class Mark:
    """The look of one rule in every figure: colour, marker, dash."""

    colour: str
    marker: str
    dash: str | tuple[int, tuple[float, ...]]


MARKS = {
    "traces_decay095": Mark(VERMILLION, "v", (0, (5, 1.5))),
    "traces_decay0": Mark(BLUE, "s", (0, (5, 1.2, 1, 1.2))),
    "k4": Mark(GREEN, "o", "solid"),
    "full": Mark(BLACK, "D", (0, (2.2, 1.2))),
    "persistence": Mark(GREY, "_", (0, (1, 1.2))),
}

FORMATS = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
"""File ending -> metadata that is left out, so that repeated saves give the same bytes."""

_STYLE: dict[str, Any] = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "legend.columnspacing": 1.2,
    "legend.handletextpad": 0.5,
    "legend.borderaxespad": 0.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "figure.dpi": 100,
    "savefig.dpi": 300,
    "svg.fonttype": "path",  # text as outlines needs no installed font
    "svg.hashsalt": "raysweep",  # otherwise ids are random
}


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]):  # ignores the user's matplotlibrc
        yield


def drawn(draw: Callable[[Input], Figure]) -> Callable[[Input], Figure]:
    """Decorate a drawing function so that it uses our fonts and line widths, whatever the caller's settings are."""

    @functools.wraps(draw)
    def styled(cells: Input) -> Figure:
        with _style():
            figure = draw(cells)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # a second layout would shift elements slightly
            return figure

    return styled


def page(width: float, height: float, panels: int = 1, *, share: bool = True) -> tuple[Figure, list[Axes]]:
    """Create an empty figure with panels side by side. Sizes are in inches; `share` gives all panels one y axis."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, panels, squeeze=False, sharey=share)[0]
    return figure, list(axes)


def legend(figure: Figure, axes: Axes, columns: int) -> None:
    """Add one legend below the figure, with the entries of `axes`."""
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(list(unique.values()), list(unique), loc="outside lower center", ncols=columns)


def draw_band(axes: Axes, part: pl.DataFrame, x: str, row: Row) -> None:
    """Draw a rule's median over `x` as a line, and the range from low to high as a band.

    `part` has the columns of `selected.running`.
    """
    mark, places = MARKS[row.key], part[x].to_list()
    axes.fill_between(places, part["low"].to_list(), part["high"].to_list(), color=mark.colour, alpha=0.16, linewidth=0)
    label = f"k = 0, {row.label}" if row.method == "traces" else row.label
    axes.plot(places, part["median"].to_list(), color=mark.colour, linestyle=mark.dash, linewidth=1, label=label)


def panel_label(axes: Axes, text: str) -> None:
    """Set a panel's title, above the panel on the left."""
    axes.set_title(text, loc="left")


def spread_out(count: int, width: float) -> list[float]:
    """Return `count` offsets, symmetric about 0 and `width` wide in total, which keep the dots of a column apart."""
    return [0.0] if count == 1 else [width * (i / (count - 1) - 0.5) for i in range(count)]


def by_seed(seeds: Sequence[int], width: float) -> dict[int, float]:
    """Return the offset of each seed's dot. It is the same in every column, so that a seed can be followed by eye."""
    return dict(zip(seeds, spread_out(len(seeds), width), strict=True))


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure in the format of the path's extension. Repeated saves give the same bytes.

    Args:
        figure: a figure from `FIGURES`.
        path: a path in an existing folder, ending in .svg (text as outlines) or .png (300 dpi).

    Raises:
        InputError: the path is invalid (see `destination`), or the file cannot be written.
    """
    path = destination(path)
    kind = path.suffix.lower()
    buffer = io.BytesIO()
    with _style():
        figure.savefig(buffer, format=kind[1:], metadata=FORMATS[kind])
    try:
        path.write_bytes(buffer.getvalue())
    except OSError as error:
        raise InputError(f"figure file {str(path)!r} can't be written: {error.strerror or error}") from None


def destination(path: Path | str) -> Path:
    """Check the path of a figure file before the figure is drawn, and return it.

    Raises:
        InputError: the extension is not in `FORMATS`, the parent folder does not exist, or the path is a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise InputError(f"figure file {str(path)!r} must end in {' or '.join(FORMATS)}")
    if not path.parent.is_dir():
        raise InputError(f"figure file {str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    if path.is_dir():
        raise InputError(f"figure file {str(path)!r} is a folder; name a file in it")
    return path
