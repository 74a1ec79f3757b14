"""Table 14: the transport that each architecture needs (arXiv 2603.15195, Sec. 5.2).

Transport means that the influence (in a transformer, the gradient) passes through k units of a kind, such as neurons
or attention heads. The threshold is the smallest k whose mean recovery from the paper's floor (traces with decay .95)
reaches 70 %, the level that the paper calls substantial.

A GRU, persistence, and the recovery of two methods without transport are added to the paper's table. These methods
are decay 0, which propagates nothing, and the architecture's own path alone (k = 0). The threshold means something
only if both stay below 70 %.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import polars as pl

from raysweep.analysis.cells.methods import DECAY_0, FULL, TRACES, sparse
from raysweep.analysis.statistics.summary import averages, mean_recoveries
from raysweep.analysis.tables import paper_columns, table03, table08
from raysweep.analysis.tables.assembly import assemble
from raysweep.analysis.tables.comparison import measure
from raysweep.analysis.tables.notes import of_panel, standings
from raysweep.analysis.tables.spec import CEILING, FLOOR, FLOOR_DECAY0, Measured, Panel
from raysweep.analysis.tables.table import Column, Table, with_interval

if TYPE_CHECKING:
    from raysweep.analysis.cells.source import Source

SUBSTANTIAL = 70
PAPER_K = 4
UNITS = 64

PANELS = (
    replace(table03.PANEL, key="rnn", label="vanilla RNN"),
    replace(table08.SPEC.panels[0], key="lstm", label="LSTM"),
    Panel(
        sweep="paper/gru-sine",
        experiment="gru_sine",
        metric="mse_post_all",
        pinned={"hidden": UNITS},
        rows=(TRACES, DECAY_0, sparse(0, label="k = 0, own path"), sparse(4), FULL),
        key="gru",
        label="GRU",
    ),
)
TRANSPORT = {"rnn": "neuron", "lstm": "gate Jacobian", "gru": "gate Jacobian", "transformer": "attention head"}
NOT_RUN = "not run"


COLUMNS = (
    Column("", "label"),
    Column("transport\nunit", "unit"),
    Column("threshold\npaper", "paper_threshold"),
    Column("threshold\nours", "threshold"),
    Column(
        "recovery\npaper, %",
        "paper_recovery",
        "percent",
        upper="paper_recovery_upper",
        sd="paper_recovery_sd",
        mark="paper_mark",
    ),
    with_interval("recovery\nours, %", "at_threshold"),
    with_interval("k = 4,\n%", "k4"),
    with_interval("decay 0,\n%", FLOOR_DECAY0),
    with_interval("own path,\n%", "k0"),
    with_interval("MSE at\ndecay 0.95", f"{FLOOR}_mse", "mse"),
    Column("persis-\ntence", "persistence_mse_average", "mse"),
    Column("full\nRTRL", f"{CEILING}_mse_average", "mse"),
    Column("n", "n", "count"),
)


def table(source: Source) -> Table:
    """Build Table 14 from the cells of Experiments 1 and 5 and of the GRU sweep."""
    measured = [measure(panel, source) for panel in PANELS]
    paper = paper_columns.values("table14")
    rows = [_row(part, paper) for part in measured]
    rows.append({"row": "transformer", "label": "Transformer", "threshold": NOT_RUN} | _paper(paper, "transformer", 12))
    frame = pl.DataFrame(
        [row | {"unit": TRANSPORT[str(row["row"])]} for row in rows], schema=_SCHEMA, orient="row"
    ).with_columns(pl.col("n").fill_null(0))
    notes = (
        f"Threshold: least k > 0 of those run whose recovery reaches {SUBSTANTIAL} %. Recovery: Eq. 10 as a "
        "ratio of means over seeds with its 95 % interval, from traces with decay 0.95, 100 % full RTRL; at the "
        "threshold, then of k = 4, "
        "of k = 0 with decay 0 and of k = 0 with the architecture's own path. MSE at decay 0.95: the degenerate "
        "floor. MSE: geometric mean with its 95 % interval, "
        + ", ".join(f"{panel.metric} ({panel.label})" for panel in PANELS)
        + ". "
        + standings([frame.select(mark="paper_mark")]),
        "The paper has no GRU. Its recovery of the RNN is that of Table 3; its degenerate values are lost but for "
        "“fails”. Transformer: not run (Experiment 7).",
        *_without_transport(measured),
        *(note for part in measured for note in of_panel(part, PANELS)),
    )
    title = "Redundancy of transport by architecture, on the sine"
    return assemble("14", title, COLUMNS, frame, notes, [part.selected for part in measured])


_AVERAGE = ("average", "low", "high")
_RECOVERIES = ("at_threshold", "k4", FLOOR_DECAY0, "k0")
_NUMBERS = (
    *("paper_recovery", "paper_recovery_upper", "paper_recovery_sd"),
    *(f"{name}_{part}" for name in _RECOVERIES for part in _AVERAGE),
    *(f"{name}_mse_{part}" for name in (FLOOR, "persistence", CEILING) for part in _AVERAGE),
)
_SCHEMA = {
    **dict.fromkeys(("row", "label", "unit", "paper_threshold", "threshold"), pl.String),
    **dict.fromkeys(_NUMBERS, pl.Float64),
    "paper_mark": pl.String,
    "n": pl.Int64,
}


Summaries = Mapping[str, Mapping[str, float | None]]
"""Row -> name of a statistic over seeds, such as `average` -> the statistic's value."""


def _row(part: Measured, paper: pl.DataFrame) -> dict[str, object]:
    summaries = _by_row(mean_recoveries(part.recovery[FLOOR]))
    mse = _by_row(averages(part.values, geometric=True))
    threshold = _threshold(part, summaries)
    row: dict[str, object] = {
        "row": part.panel.key,
        "label": part.panel.label,
        "threshold": _threshold_text(part, summaries, threshold),
    }
    for name, key in zip(_RECOVERIES, (threshold, "k4", FLOOR_DECAY0, "k0"), strict=True):
        row |= {f"{name}_{number}": summaries.get(key or "", {}).get(number) for number in _AVERAGE}
    for key in (FLOOR, "persistence", CEILING):
        row |= {f"{key}_mse_{number}": mse.get(key, {}).get(number) for number in _AVERAGE}
    row["n"] = part.values.filter(pl.col("row") == f"k{PAPER_K}")["value"].count()
    return row | _paper(paper, part.panel.key, UNITS)


def _by_row(averaged: pl.DataFrame) -> Summaries:
    return {str(summary["row"]): summary for summary in averaged.to_dicts()}


def _sources(part: Measured) -> dict[str, int]:
    """Return row -> k for the rows of sparse RTRL with k > 0, in ascending order of k.

    These rows are the candidates for the threshold.
    """
    ks = {row.key: row.k for row in part.panel.rows if row.method == "sparse_rtrl" and row.k}
    return dict(sorted(ks.items(), key=lambda pair: pair[1]))


def _threshold(part: Measured, summaries: Summaries) -> str | None:
    for key in _sources(part):
        average = summaries.get(key, {}).get("average")
        if average is not None and average >= SUBSTANTIAL:
            return key
    return None


def _threshold_text(part: Measured, summaries: Summaries, threshold: str | None) -> str | None:
    """Format the threshold as `4/64` (k / units); `none of 4, 8` if no k reaches it; None if no k has a value yet."""
    ks = _sources(part)
    if threshold is not None:
        return f"{ks[threshold]}/{UNITS}"
    tried = [str(k) for key, k in ks.items() if summaries.get(key, {}).get("average") is not None]
    return f"none of {', '.join(tried)}" if tried else None


def _paper(paper: pl.DataFrame, row: str, units: int) -> dict[str, object]:
    printed = {entry["quantity"]: entry for entry in paper.filter(pl.col("row") == row).to_dicts()}
    if not printed:
        return {}
    threshold, recovery = printed["threshold"], printed["recovery"]
    upper = "" if threshold["upper"] is None else f"–{threshold['upper']:.0f}"
    return {
        "paper_threshold": f"{threshold['value']:.0f}{upper}/{units}{threshold['mark']}",
        "paper_recovery": recovery["value"],
        "paper_recovery_upper": recovery["upper"],
        "paper_recovery_sd": recovery["sd"],
        "paper_mark": recovery["mark"],
    }


def _without_transport(measured: Sequence[Measured]) -> list[str]:
    """Note the rows with k = 0 whose recovery reaches the threshold's 70 %."""
    notes: list[str] = []
    for part in measured:
        summaries = _by_row(mean_recoveries(part.recovery[FLOOR]))
        free = [key for key in (FLOOR_DECAY0, "k0") if (summaries.get(key, {}).get("average") or 0) >= SUBSTANTIAL]
        if free:
            named = " and ".join(part.panel.labels[key] for key in free)
            notes.append(
                f"{part.panel.label}: {named} reach{'es' * (len(free) == 1)} {SUBSTANTIAL} % without any k: what "
                "is recovered was lost by the floor's decay."
            )
    return notes
