"""Figure: spread over seeds of sparse and full RTRL on Lorenz, at two sizes (the paper's Table 4).

Unlike the paper, it shows persistence and traces of decay 0, which propagate nothing, beside the paper's two methods.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLACK, DOUBLE, GREY, MARKS, by_seed, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import DECAY_0, FULL, Part, caption_of, mse, parts_of, per_seed, ring
from raysweep.analysis.paper.values import paper_values
from raysweep.analysis.statistics.spread import spread

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC = "mse_post_all"
PERSISTENCE = "persistence_post_all"
ROWS = (DECAY_0, ring(4), FULL)
PARTS = {
    n: Selection("paper/e2-lorenz", "lorenz", ROWS, {"hidden": n}, label=f"n = {n}", metric=METRIC) for n in (64, 128)
}
_select = parts_of("spread", PARTS.values())


def data(source: Source) -> pl.DataFrame:
    """Read the errors of the done cells, and add those of persistence.

    Columns: hidden (the number of units), row (the method's key, or "persistence"), seed, mse.
    """
    return _values(_select(source))


def variation(frame: pl.DataFrame) -> pl.DataFrame:
    """Compute the coefficient of variation over seeds, population sd / mean. Columns: hidden, row, cv_percent, n."""
    return spread(frame, ["hidden", "row"], "mse").select("hidden", "row", "cv_percent", "n")


@drawn
def figure(source: Source) -> Figure:
    """Draw one panel per size and one column per method: our seeds in colour, the paper's in grey on their right."""
    parts = _select(source)
    frame = _values(parts)
    varied = {(n, row): cv for n, row, cv in variation(frame).select("hidden", "row", "cv_percent").iter_rows()}
    printed = _printed()
    sheet, panels = page(DOUBLE, 2.7, len(parts))
    for axes, each in zip(panels, parts, strict=True):
        n = int(str(each.selection.pinned["hidden"]))
        here = frame.filter(pl.col("hidden") == n)
        ticks: list[str] = []
        for x, row in enumerate(ROWS):
            mark = MARKS[row.key]
            ours = here.filter((pl.col("row") == row.key) & (pl.col("mse") > 0))
            printed_seeds = printed.filter((pl.col("hidden") == n) & (pl.col("row") == row.key))
            side = 0.2 if printed_seeds.height else 0.0
            offsets = by_seed(each.seeds, 0.28)
            places = [x - side + offsets[seed] for seed in ours["seed"].to_list()]
            axes.plot(places, ours["mse"].to_list(), mark.marker, color=mark.colour, mew=0)
            papers = by_seed(printed_seeds["seed"].to_list(), 0.28)
            places = [x + side + papers[seed] for seed in printed_seeds["seed"].to_list()]
            axes.plot(places, printed_seeds["mse"].to_list(), mark.marker, mfc="none", mec=GREY, mew=0.8)
            cv = varied.get((n, row.key))
            ticks.append(row.label if cv is None else f"{row.label}\nCV {cv:.0f} %")
        level = here.filter(pl.col("row") == "persistence")["mse"].drop_nulls()
        if level.len():
            mark = MARKS["persistence"]
            mean = float(level.to_numpy().mean())
            axes.axhline(mean, color=mark.colour, linestyle=mark.dash, label="persistence")
        axes.plot([], [], "o", color=BLACK, mew=0, label="ours, one mark per seed")
        axes.plot([], [], "o", mfc="none", mec=GREY, mew=0.8, label="the paper's, one mark per seed")
        axes.set_yscale("log")
        axes.set_xticks(range(len(ROWS)), ticks)
        axes.set_xlim(-0.5, len(ROWS) - 0.5)
        panel_label(axes, f"n = {n}")
    panels[0].set_ylabel("MSE, all steps after the shift")
    legend(sheet, panels[0] if parts[0].done.height else panels[-1], 3)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    what = (
        "Lorenz: error after the shift of each seed; CV: ours, population sd / mean over seeds; "
        "grey outlines: the paper's seeds"
    )
    return caption_of(what, _select(source), METRIC)


def _values(parts: list[Part]) -> pl.DataFrame:
    frames: list[pl.DataFrame] = []
    for each in parts:
        hidden = pl.lit(each.selection.pinned["hidden"], dtype=pl.Int64).alias("hidden")
        persistence = pl.lit("persistence").alias("row")
        frames.append(mse(each).select(hidden, "row", "seed", "mse"))
        frames.append(per_seed(each, PERSISTENCE).select(hidden, persistence, "seed", "mse"))
    return pl.concat(frames)


def _printed() -> pl.DataFrame:
    """Read the error of each seed in the paper's Table 4. Columns: hidden, row, seed, mse."""
    name = pl.col("row").str.extract_groups(r"^n(?<hidden>\d+)/(?<key>\w+)$").struct
    return (
        paper_values("table04")
        .filter((pl.col("quantity") == "mse") & pl.col("seed").is_not_null())
        .select(
            name.field("hidden").cast(pl.Int64),
            name.field("key").alias("row"),
            "seed",
            pl.col("value").alias("mse"),
        )
    )
