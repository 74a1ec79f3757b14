"""Figure: recovery and accuracy against the number of heads that gradients pass through (the paper's Sec. 4.7).

The paper has no such figure. There are two variants, on the same axes. In the variant *detached*, gradients do not
pass through the other heads. In the variant *zeroed*, the other heads are set to zero in the forward pass. For each
variant, 0 % recovery is the accuracy of its own network with one head. Naive baselines are drawn beside the
accuracies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.methods import DENSE, NO_REPLAY, TRACE_LIKE, TRANSFORMER, Row, sparse_heads
from raysweep.analysis.cells.selection import Selection
from raysweep.analysis.cells.source import Source
from raysweep.analysis.figures.drawing import BLACK, BLUE, DOUBLE, GREEN, GREY, ORANGE, drawn, legend, page, panel_label
from raysweep.analysis.figures.selected import Part, caption_of, mse, parts_of, per_seed
from raysweep.analysis.paper.values import paper_values
from raysweep.analysis.tables.heads import NAIVE, recovery

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = TRANSFORMER["heads"]
SEEDS = (42, 43, 44)
METRIC = "accuracy_average"


def zeroed(k: int) -> Row:
    """Build the row in which training zeroes all but k heads of each block. Testing uses all heads."""
    return Row(f"zeroed_k{k}", f"zeroed, k = {k}", "sparse_forward", k, {"forward_test": "all_heads"})


DETACHED = (DENSE, *map(sparse_heads, (6, 4, 2)), TRACE_LIKE)
ZEROED = tuple(zeroed(k) for k in (6, 4, 2, 1))
PARTS = (
    Selection("paper/e7-heads", "vit_heads", (*DETACHED, NO_REPLAY), TRANSFORMER, "detached", METRIC, seeds=SEEDS),
    Selection("paper/e7-forward", "vit_heads", (DENSE, *ZEROED), TRANSFORMER, "zeroed", METRIC, seeds=SEEDS),
)
SERIES = (("detached", TRACE_LIKE.key, GREEN, "o"), ("zeroed", "zeroed_k1", ORANGE, "s"))
"""For each part (variant): label, key of the row with 0 % recovery, colour, marker."""
SHOWN = (-60.0, 200.0)
LACKS = {
    "gap": "the dense network is not better than the floor on these seeds",
    "floor": "these seeds have no one-head floor yet",
    "dense": "these seeds have no dense network yet",
}
"""Key -> reason why a cell that has an accuracy has no recovery."""
_select = parts_of("heads", PARTS)


def data(source: Source) -> pl.DataFrame:
    """Compute accuracies and recoveries.

    Columns: part ("detached" or "zeroed"), row (the method's key), k, seed, accuracy, recovery (percent), lack (the
    key of the reason in `LACKS` if only recovery is null, otherwise null).
    """
    return _rated(_select(source))


@drawn
def figure(source: Source) -> Figure:
    """Draw recovery (left) and accuracy (right): seeds as dots, means as lines. The dense network is drawn once."""
    parts = _select(source)
    frame = _rated(parts)
    sheet, (left, right) = page(DOUBLE, 2.9, 2, share=False)
    for name, _, colour, marker in SERIES:
        part = frame.filter((pl.col("part") == name) & pl.col("k").is_not_null()).sort("k")
        for axes, column in ((left, "recovery"), (right, "accuracy")):
            with_value = part.drop_nulls(column)
            dots = _own(with_value)
            if dots.is_empty():
                continue
            y = dots[column].to_list() if column == "accuracy" else dots[column].clip(*SHOWN).to_list()
            axes.plot(dots["k"].to_list(), y, marker, color=colour, alpha=0.6, mew=0, zorder=3)
            mean = with_value.group_by("k", maintain_order=True).agg(pl.col(column).mean())
            # The marker appears only in the legend.
            axes.plot(
                mean["k"].to_list(), mean[column].to_list(), marker, ls="-", markevery=[], color=colour, label=name
            )
    paper = paper_values("table10")
    ks = {"dense_ref": 12, "k6": 6, "k4": 4, "k2": 2, "trace_like": 1}
    for axes, quantity in ((left, "recovery"), (right, "accuracy")):
        printed = paper.filter(
            (pl.col("quantity") == quantity) & pl.col("seed").is_null() & pl.col("row").is_in(list(ks))
        )
        x = [ks[row] for row in printed["row"].to_list()]
        axes.plot(x, printed["value"].to_list(), "x", color=GREY, label="the paper's, detached", zorder=4)
    left.axhline(0, color=GREY, linewidth=0.6)
    left.axhline(100, color=GREY, linewidth=0.6)
    for name, colour, dash in (("ridge", BLUE, "dashed"), ("chance", BLACK, "dotted")):
        column = f"{name}_accuracy_average"
        if column in parts[0].done.columns and parts[0].done.height:
            level = per_seed(parts[0], column)["mse"].mean()
            right.axhline(float(str(level)), color=colour, linestyle=dash, linewidth=0.9, label=NAIVE[name])
    without = frame.filter(pl.col("row") == NO_REPLAY.key)["accuracy"].drop_nulls()
    if without.len():
        right.axhline(float(without.to_numpy().mean()), color=GREY, linewidth=0.9, label=NO_REPLAY.label)
    left.set_ylabel("recovery, %")
    left.set_ylim(*SHOWN)
    right.set_ylabel("average accuracy")
    for axes, title in ((left, "from one head (0 %) to dense (100 %)"), (right, "after five tasks")):
        axes.set_xlabel(f"heads, of {HEADS} per block")
        axes.set_xticks(sorted(ks.values()))
        panel_label(axes, title)
    legend(sheet, right, 3)
    return sheet


def caption(source: Source) -> str:
    """Describe the figure on one line, including its missing cells."""
    parts = _select(source)
    drawn_ones = _own(_rated(parts)).filter(pl.col("k").is_not_null())
    what = (
        f"Recovery and accuracy by the number of heads, of {HEADS} per block, that gradients pass through (detached) "
        "or that are active in training (zeroed); dots: seeds, lines: means; each variant's recovery starts from its "
        "own one-head floor"
    )
    for lack, why in LACKS.items():
        lost = drawn_ones.filter(pl.col("lack") == lack).height
        what += f"; {lost} {'recovery is' if lost == 1 else 'recoveries are'} undefined because {why}" if lost else ""
    beyond = drawn_ones.filter(~pl.col("recovery").is_between(*SHOWN)).height
    what += f"; {beyond} beyond the axis, drawn at its edge" if beyond else ""
    return caption_of(what, parts, METRIC)


def _own(frame: pl.DataFrame) -> pl.DataFrame:
    """Drop the dense network's rows from the zeroed part, since they repeat those of the detached part."""
    return frame.filter((pl.col("row") != DENSE.key) | (pl.col("part") == SERIES[0][0]))


def _rated(parts: list[Part]) -> pl.DataFrame:
    frames = []
    for each, (name, floor, _, _) in zip(parts, SERIES, strict=True):
        values = mse(each).rename({"mse": "value"})
        ks = {row.key: HEADS if row is DENSE else row.k for row in each.selection.rows}
        rated = recovery(values, floor).select("row", "seed", "recovery")
        has = {
            key: pl.col("seed").is_in(values.filter(pl.col("row") == key).drop_nulls("value")["seed"].implode())
            for key in (floor, DENSE.key)
        }
        lack = (
            pl.when(pl.col("recovery").is_not_null() | pl.col("value").is_null())
            .then(None)
            .when(~has[floor])
            .then(pl.lit("floor"))
            .when(~has[DENSE.key])
            .then(pl.lit("dense"))
            .otherwise(pl.lit("gap"))
        )
        frames.append(
            values.join(rated, on=["row", "seed"], how="left", maintain_order="left").select(
                pl.lit(name).alias("part"),
                "row",
                pl.col("row").replace_strict(ks, return_dtype=pl.Int64).alias("k"),
                "seed",
                accuracy="value",
                recovery="recovery",
                lack=lack,
            )
        )
    return pl.concat(frames)
