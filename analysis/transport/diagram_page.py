"""Experiment A on the page: its design, tables of recoveries and accuracies, the diagram, and k50 over n."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from raysweep.analysis.figures.drawing import BLUE, DOUBLE, GREEN, GREY, ORANGE, PURPLE, VERMILLION, drawn, page
from raysweep.analysis.rendering import ABSENT, markdown_table
from raysweep.analysis.statistics.inference import Columns, Statistic, estimate
from raysweep.analysis.transport.diagram import (
    DIAGRAM,
    GAP,
    KEYS,
    LAGS,
    NETWORKS,
    ONE_SYMBOL,
    QUESTIONS,
    SIZES,
    SWEEPS,
    Setting,
    Task,
    gap,
    ladder,
    level,
    ln_k50,
    query_of,
    recovery,
    recovery_of,
    scored,
)
from raysweep.analysis.transport.experiment import Experiment, digits
from raysweep.analysis.transport.question import columns_of, rows_of
from raysweep.workloads.rnn.rules import RULES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

DESIGN = """When is carrying k of n paths worth it? The copy task with one symbol of eight is a dial for the lag: the
symbol is shown once and asked for 1, 4, 9, 19 or 39 steps later. State and influence are reset with each sequence, so
nothing else can be learned. Each lag gets 2,000 sequences, each with one graded step, and so 2,000 updates: shorter
lags do not get more of them. The metric is the accuracy of the last 500 sequences; chance is .125.

- Networks: tanh RNN (gain .95), GRU that resets after its product, LSTM, with 32, 64 and 128 units; with 128 the GRU
  and LSTM at lags 9 and 19 alone, and with the rules that the law of k50 reads. Float32, Adam, the paper's clip of 1.
- Floor: the best trace over the decays 0, .3, .5, .8, .95. Ceiling: full RTRL.
- Sparse RTRL on a ring at k = 2, 4, 8, 16, 32, 64 below n, and at 3n/4; k = 1, which a ring does not have, at random.
  Random sources and largest weights at k = 4 and 16, lags 9 and 19.
- BPTT over 2, 5, 10, 20, 40 steps, as far as lag + 1; SnAp-1; e-prop with symmetric feedback, which on the tanh RNN
  is the trace of decay 0. As a sequence has its only loss, and so its only update, at its end, BPTT over lag + 1
  steps is full RTRL but for rounding.
- With 64 units: UORO, OK of rank 4, KF-RTRL, RFLO, DNI on the tanh RNN at lags 9 and 19; at lag 9 also reverse
  KF-RTRL, BPTT over windows that follow one another, future-facing BPTT, KeRNL, and pp-prop at decay .9, which the
  GRU and LSTM also have. KeRNL's default settings learn no kernel in any run ([rules](rules.md#kernl)); its rate is
  10 and its perturbation .01 here. Exact RTRL of an eLSTM and an LRU, which costs O(n m), at every lag; the GRU that
  resets before its product, with BPTT over 1, 5 and 10 steps, at lag 9.
- A tanh RNN of 32 units with sparse weights, of which each unit reads 4 others, at lag 9: SnAp of order 1, 2 and 3,
  and sparse RTRL over the larger half of the connections.

Rates 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1 for every network, lag and rule. The one with the best mean accuracy on
the seeds 6000 to 6004, the lower one of equals, is the only one that is run on the seeds 6100 to 6129, which are
scored: by the launches that `python -m raysweep.analysis.transport.chosen` prints. The floor's decay is chosen
likewise. Seeds are resampled, the same for all rules. A diverged run counts as chance.

The recovery of a rule is (rule - floor) / (ceiling - floor), of mean accuracies. It is undefined unless the ceiling
is more than .05, the ledger's margin for accuracies, above the floor; a question that needs the gap is then answered
*no*, or is open if the seeds cannot tell. *k50* is the k from which on at least half is recovered, interpolated in ln
k. Where only k near n recovers half, its slope on n is near 1 by construction.

Known when zones and questions were set: an exploratory run of the tanh RNN with 64 units at lags 1 to 19, five seeds,
by which lags 1 and 4 leave nothing to recover. None of its numbers is used here."""


_ORDER = {name: i for i, name in enumerate(sorted(RULES, key=lambda rule: (rule != "traces", rule == "rtrl", rule)))}
"""Rule -> its place in a table of accuracies: traces first, full RTRL last."""


ACCURACIES = """Accuracies, 95 % intervals over seeds, and the rate that the tuning seeds chose; * is the lowest or the
highest of the seven. *Oracle* sources have the largest weights (of the connections where each unit reads few); the
names of rules are those of [learning rules](rules.md):"""


def networks(cells: pl.DataFrame, task: Task = ONE_SYMBOL) -> list[tuple[str, int]]:
    """List the networks of the diagram, (architecture, n), of which any cell is scored, in the diagram's order."""
    present = set(scored(cells, task).select("architecture", "hidden").rows())
    return [(name, n) for name in NETWORKS for n in SIZES if (name, n) in present]


def columns_at(
    architecture: str, n: int, lag: int, cells: pl.DataFrame, task: Task = ONE_SYMBOL, floor: str = "floor"
) -> Columns | None:
    """Return the accuracies of a floor, ceiling and every k; None if they are not all done. The floor is `floor`."""
    query = query_of(Setting(architecture, (n,), (lag,), task=task), (floor, "full"), all_k=True)
    units, columns = columns_of(rows_of(query, cells))
    return {name.replace(floor, "floor"): values for name, values in columns.items()} if units else None


def interval(statistic: Statistic, columns: Columns, most: float = math.inf) -> str:
    """Format a statistic with its interval, whose ends are at most `most`; a dash if it is not defined."""
    result = estimate(statistic, columns)
    if not math.isfinite(result.value):
        return ABSENT
    lower, upper = (digits(min(end, most)) if math.isfinite(end) else ABSENT for end in result.interval())
    return f"{digits(result.value)} [{lower}, {upper}]"


def half_point(n: int, columns: Columns) -> str:
    """Format k50 with its interval; 1 is a bound, as no less than one path is run."""
    text = interval(lambda own: np.exp(ln_k50(own, n)), columns)
    return "at most 1" if text == "1.00 [1.00, 1.00]" else text


def has_gap(columns: Columns) -> bool:
    """Tell whether these seeds show that full RTRL is more than `GAP` above the best trace."""
    return estimate(gap(), columns).interval()[0] > GAP


def recoveries(architecture: str, n: int, cells: pl.DataFrame, task: Task = ONE_SYMBOL) -> str:
    """Write the table of a network: by lag floor, ceiling, recovery at each k, k50, chance."""
    rows = []
    for lag in task.lags:
        columns = columns_at(architecture, n, lag, cells, task)
        if columns is None:
            continue
        ends = [interval(level(rule), columns, 1.0) for rule in ("floor", "full")]
        meaning = has_gap(columns)
        parts = [interval(recovery(f"k{k}"), columns) if meaning else ABSENT for k in ladder(n)]
        half = half_point(n, columns) if meaning else ABSENT
        rows.append([str(lag), *ends, *parts, half])
    if not rows:
        return ""
    head = ["lag", "floor", "full RTRL", *(f"k = {k}" for k in ladder(n)), "k50"]
    caption = (
        f"{NETWORKS[architecture]}, n = {n}: accuracies of floor and ceiling, recoveries in percent where the seeds "
        "show a gap:"
    )
    return f"{caption}\n\n{markdown_table(head, rows, [True] * len(head))}"


def halves_over_decay_0(known: Sequence[tuple[str, int]], cells: pl.DataFrame) -> str:
    """Write the table of k50, networks by lags, if the floor is the trace of decay 0 and not the best trace."""
    rows = []
    for architecture, n in known:
        fields = []
        for lag in LAGS:
            columns = columns_at(architecture, n, lag, cells, floor="decay0")
            if columns is not None and has_gap(columns):
                fields.append(half_point(n, columns))
            else:
                fields.append(ABSENT)
        rows.append([f"{NETWORKS[architecture]}, n = {n}", *fields])
    return markdown_table(["k50 over decay 0", *(f"lag {lag}" for lag in LAGS)], rows)


def accuracies(own: pl.DataFrame, architecture: str, n: int) -> str:
    """Write the table of a network's accuracies, rules by lags: mean, interval, and the chosen rate.

    Args:
        own: `scored` cells.
        architecture: the network's name.
        n: its units.
    """
    here = own.filter(pl.col("architecture") == architecture, pl.col("hidden") == n)
    here = here.sort(pl.col("method").replace_strict(_ORDER), *KEYS, nulls_last=True, maintain_order=True)
    lags = sorted(set(here["lag"]))
    rows = []
    for (rule,), cells in here.group_by("rule", maintain_order=True):
        fields = []
        for lag in lags:
            at = cells.filter(pl.col("lag") == lag)
            if at.is_empty():
                fields.append(ABSENT)
                continue
            text = interval(lambda c: c["accuracy"].mean(-1), {"accuracy": at["accuracy"].to_numpy()}, 1.0)
            mark = "*" if at["at_the_end"][0] else ""
            fields.append(f"{text} ({at['learning_rate'][0]:g}{mark})")
        rows.append([str(rule), *fields])
    chance = [digits(here.filter(pl.col("lag") == lag)["chance"].mean()) for lag in lags]  # type: ignore[arg-type]
    rows.append(["chance", *chance])
    head = ["rule", *(f"lag {lag}" for lag in lags)]
    return f"{NETWORKS.get(architecture, architecture)}, n = {n}:\n\n{markdown_table(head, rows)}"


def _details(cells: pl.DataFrame) -> str:
    known = networks(cells)
    if not known:
        return "No cell is scored yet."
    tables = [recoveries(*network, cells) for network in known]
    return "\n\n".join(
        [
            *(table for table in tables if table),
            "The same k50 over the trace of decay 0, a comparison that was chosen once the answers were known:",
            halves_over_decay_0(known, cells),
        ]
    )


def appendix(cells: pl.DataFrame, task: Task = ONE_SYMBOL) -> str:
    """Write the accuracies of all networks that are scored, those of the diagram first."""
    own = scored(cells, task)
    rest = own.select("architecture", "hidden").unique(maintain_order=True).rows()
    ordered = dict.fromkeys([*networks(cells, task), *rest])
    return "\n\n".join([ACCURACIES, *(accuracies(own, *network) for network in ordered)]) if ordered else ""


def diagram(cells: pl.DataFrame, task: Task = ONE_SYMBOL) -> pl.DataFrame:
    """Compute the diagram: architecture, hidden, lag, k, recovery in percent, null where there is no gap."""
    rows = []
    for architecture, n in networks(cells, task):
        for lag in task.lags:
            columns = columns_at(architecture, n, lag, cells, task)
            if columns is None:
                continue
            meaning = has_gap(columns)
            for k in ladder(n):
                value = float(recovery_of(columns, f"k{k}")) if meaning else None
                rows.append((architecture, n, lag, k, value))
    schema = {"architecture": pl.String, "hidden": pl.Int64, "lag": pl.Int64, "k": pl.Int64, "recovery": pl.Float64}
    return pl.DataFrame(rows, schema, orient="row")


def levels(cells: pl.DataFrame) -> pl.DataFrame:
    """Compute mean accuracies: architecture, hidden, lag, rule (a name of `_heights`), accuracy."""
    own = scored(cells).filter(pl.col("method") == "eprop")
    places = ["architecture", "hidden", "lag"]
    eprop = own.group_by(places).agg(pl.col("accuracy").mean()).with_columns(rule=pl.lit(EPROP))
    rows = []
    for architecture, n in networks(cells):
        for lag in LAGS:
            columns = columns_at(architecture, n, lag, cells)
            if columns is None:
                continue
            for name, rule in _heights(n).items():
                if rule is not None:
                    rows.append((architecture, n, lag, name, float(level(rule)(columns))))
    schema = {"architecture": pl.String, "hidden": pl.Int64, "lag": pl.Int64, "rule": pl.String, "accuracy": pl.Float64}
    return pl.concat([pl.DataFrame(rows, schema, orient="row"), eprop.select(*schema)])


EPROP = "e-prop"


def _heights(n: int) -> dict[str, str | None]:
    """Return the rows of the diagram from its lowest to its highest: name -> rule in a query; None for e-prop."""
    return {"best trace": "floor", EPROP: None} | {f"k = {k}": f"k{k}" for k in ladder(n)} | {"full RTRL": "full"}


@drawn
def _diagram(cells: pl.DataFrame) -> Figure:
    """Draw accuracy as colour over lag and k, one panel per network."""
    from matplotlib.figure import Figure

    points = levels(cells)
    figure = Figure(figsize=(DOUBLE, 7.2), layout="constrained")
    panels = figure.subplots(len(NETWORKS), len(SIZES), squeeze=False)
    for across, architecture in zip(panels, NETWORKS, strict=True):
        for axes, n in zip(across, SIZES, strict=True):
            own = points.filter(pl.col("architecture") == architecture, pl.col("hidden") == n)
            image = _panel(axes, own, n)
            axes.set_title(f"{NETWORKS[architecture]}, n = {n}")
    figure.colorbar(image, ax=list(panels.ravel()), label="accuracy", shrink=0.5)
    return figure


def _panel(axes: Axes, own: pl.DataFrame, n: int) -> AxesImage:
    names = list(_heights(n))
    grid = np.full((len(names), len(LAGS)), np.nan)
    for lag, rule, value in own.select("lag", "rule", "accuracy").rows():
        place = names.index(rule), LAGS.index(lag)
        grid[place] = value
        colour = "black" if value > 0.6 else "white"
        text = f"{value:.2f}".removeprefix("0")
        axes.text(place[1], place[0], text, ha="center", va="center", fontsize=5, color=colour)
    image = axes.imshow(grid, vmin=0.125, vmax=1, cmap="viridis", origin="lower", aspect="auto")
    axes.set_xticks(range(len(LAGS)), [str(lag) for lag in LAGS])
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("lag")
    axes.tick_params(length=0)
    return image


@drawn
def _halves(cells: pl.DataFrame) -> Figure:
    """Draw k50 over the trace of decay 0 against n, one panel per architecture, one line per lag."""
    figure, panels = page(DOUBLE, 2.6, len(NETWORKS))
    for axes, architecture in zip(panels, NETWORKS, strict=True):
        for lag, colour in zip(LAGS, (GREY, ORANGE, BLUE, VERMILLION, PURPLE), strict=True):
            points = []
            for n in SIZES:
                columns = columns_at(architecture, n, lag, cells, floor="decay0")
                if columns is not None and has_gap(columns):
                    points.append((n, math.exp(float(ln_k50(columns, n)))))
            axes.plot(*zip(*points, strict=True) if points else ([], []), "o-", color=colour, label=f"lag {lag}")
        axes.plot(SIZES, SIZES, color=GREEN, linestyle=":", linewidth=0.8, label="k = n")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(SIZES, [str(n) for n in SIZES])
        axes.set_yticks([2**i for i in range(8)], [str(2**i) for i in range(8)])
        axes.set_xlabel("n")
        axes.set_title(NETWORKS[architecture])
    panels[0].set_ylabel("k50")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


REMARKS = """What it says, beyond the table:

- **Where the floor is the best trace, nothing is left to transport.** On the tanh RNN of 64 units a trace of decay .95
  at its own rate does what full RTRL does: .99 against .95 at lag 19, .93 against .94 at lag 39 (A1 to A4: yes; A5:
  open). So does one on the GRU and the LSTM (A12 to A19: no), and no question on recoveries or on k50 shows a gap to
  divide by. A decaying trace sends the signal of the last step to each earlier input, without a path; with one symbol a
  sequence that is enough.
- **On gated networks a unit's own path is enough, up to a lag.** e-prop, which has nothing else, has 1.00 on the GRU of
  64 units at every lag, and on the LSTM of 64 units 1.00 to lag 9 and .96 at lag 19, but chance at lag 39. There k = 1
  to 32 of 64 have .23 to .45, k = 48 .90, full RTRL .93, and the trace of decay .95 1.00.
- **Few paths are worth little at the longest lag.** On the tanh RNN of 64 units k = 1 to 16 are at lag 39 about where
  decay 0 is (.51 to .54 against .50). Over decay 0, half of what full RTRL gains there takes k = 21 [16, 26], 39 [34,
  46] and 66 [53, 76] of 32, 64 and 128, and on the LSTM 22 [18, 26] and 36 [33, 38] of 32 and 64. At lag 19 the tanh
  RNN's seeds say less (17 [8, 25], 24 [5, 44], 33 [22, 44]), and at lag 9 about four paths are enough (1.7 [1.3, 4.4]
  and 3.5 [2.9, 4.5] of 32 and 64). This comparison was chosen once the answers were known, so it has no verdict.
- **Four Kronecker products are more than four paths.** OK of rank 4, on the tanh RNN of 64 units, has 1.00 at lags 9
  and 19, where the ring of k = 4 has .97 and .67. KF-RTRL has .99 and .91; UORO (.47, .24), RFLO (.67, .19) and DNI
  (.17, .15) are below decay 0 (.90, .57). KeRNL has learned nothing.
- **An exact RTRL can be cheap**: an LRU and an eLSTM, whose RTRL takes O(n m), have 1.00 at lags 19 and 39 (A45 to A48:
  yes).
- *Which paths*: at lag 9 four random ones have .83, the ring's .97 and the largest weights' .99 (A20: open (on its own:
  no)); at lag 19 the 16 largest have .89, ring and random .72 and .71. With sparse weights SnAp-2 has 1.00, SnAp-1 .93
  (A52: open).
- *Windows*: BPTT over lag + 1 steps is full RTRL (A22: yes), as it must be; over half of them it has .84 at lag 19 and
  .58 at lag 39 on the tanh RNN of 64 units, less than the best trace.
- *Limits.* One task, whose sequences have one symbol and one loss: no other input has to be told apart from the symbol,
  which is a trace's best case; Experiment D has five. Intervals hold for the chosen rates: which ones five other tuning
  seeds would choose is not in them. Many rates lie at an end of the range (marked *), most of them where every rate
  does well; where the accuracy is below 1, as that of full RTRL at lag 19 on the tanh RNN, another rate might do
  better."""

EXPERIMENT = Experiment(
    "A. A phase diagram of transport",
    SWEEPS,
    (DIAGRAM,),
    DESIGN,
    QUESTIONS,
    _details,
    {
        "diagram": (_diagram, "Accuracy over lag and k; chance is .125; blank: not run"),
        "diagram-half": (_halves, "k50 over the trace of decay 0, the k from which on at least half is recovered, "
                         "against n, where the seeds show a gap; dotted: k = n. A flat line is an absolute k, a "
                         "parallel to the dotted one a fraction of n"),
    },
    remarks=REMARKS,
    appendix=appendix,
)  # fmt: skip
