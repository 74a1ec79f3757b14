"""Figures: the frames that are drawn, known answers; the files; what is said of cells that are not there."""

from __future__ import annotations

import functools
import json
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.errors import NothingDone
from raysweep.analysis.figures import (
    CAPTIONS,
    FIGURES,
    alignment,
    condition,
    curves,
    decay,
    decoding,
    gap,
    save,
    scale,
    spread,
    step,
)
from raysweep.analysis.figures.selected import geometric
from raysweep.orchestrator.errors import InputError
from raysweep.workloads.registry import UnknownName
from tests.analysis.vit_frames import cell as vit_cell
from tests.conftest import environment

approx = pytest.approx
METRICS = ("mse_post_last_500", "mse_post_all", "persistence_post_last_500", "persistence_post_all", "diverged")
DECODING = ("mse_b_late", "frozen_b_late", "mse_a_end", "ridge_refit_b_late", "gap_days")
HEADS = ("accuracy_average", *(f"{name}_accuracy_average" for name in ("ridge", "nearest_mean", "chance")))
SCHEMA = {
    "cell_id": pl.String,
    "experiment": pl.String,
    "workload": pl.String,
    "workload_version": pl.String,
    "method": pl.String,
    "k": pl.Int64,
    "seed": pl.Int64,
    "config": pl.String,
    "status": pl.String,
    **dict.fromkeys(("session_a", "session_b"), pl.String),
    **dict.fromkeys((*METRICS, *DECODING, *HEADS), pl.Float64),
}


def cell(
    experiment: str,
    method: str,
    k: int | None,
    seed: int,
    mse: float | None = None,
    status: str = "done",
    **config: Any,
) -> dict[str, Any]:
    """One cell; its MSE is every window's, and a done cell without one has diverged."""
    settings = {"hidden": 64, "learning_rate": 1e-3, "shift": 1000, "decay": None, "selection": None} | config
    if method == "sparse_rtrl" and settings["selection"] is None:
        settings["selection"] = "ring"
    done = status == "done"
    return {
        "experiment": experiment,
        "workload": "online_rnn",
        "workload_version": "1",
        "method": method,
        "k": k,
        "seed": seed,
        "config": json.dumps(settings, sort_keys=True),
        "status": status,
        "mse_post_last_500": mse,
        "mse_post_all": mse,
        "persistence_post_last_500": 0.045 if done else None,
        "persistence_post_all": 0.002 if done else None,
        "diverged": float(mse is None) if done else None,
    }


def decoder(
    experiment: str,
    method: str,
    k: int | None,
    seed: int,
    a: str,
    b: str,
    numbers: Sequence[float | None],
    **config: Any,
) -> dict[str, Any]:
    """A cell of Experiment 9 on a pair of sessions; `numbers` as `DECODING`."""
    sessions = {"session_a": a, "session_b": b}
    row = cell(experiment, method, k, seed, 1.0, bin_ms=64, **sessions, **config)
    return row | sessions | dict(zip(DECODING, numbers, strict=True))


Series = Mapping[str, tuple[int, int, Sequence[float | None]]]


def store(cells: Iterable[Mapping[str, Any]], series: Mapping[int, Series] | None = None) -> Source:
    """Cells in order, and by the cell's place its arrays: name -> (step, stride, values)."""
    rows = [{"cell_id": f"cell{i}", **row} for i, row in enumerate(cells)]
    arrays = pl.DataFrame(
        [
            (f"cell{i}", name, first, stride, list(values))
            for i, named in (series or {}).items()
            for name, (first, stride, values) in named.items()
        ],
        schema=ARRAYS_SCHEMA,
        orient="row",
    )
    return Source(pl.DataFrame(rows, schema=SCHEMA), lambda names: arrays.filter(pl.col("name").is_in(list(names))))


def four(experiment: str, seed: int, traces: float, decay0: float, k4: float, full: float, **config: Any) -> list[Any]:
    return [
        cell(experiment, "traces", 0, seed, traces, decay=0.95, **config),
        cell(experiment, "traces", 0, seed, decay0, decay=0.0, **config),
        cell(experiment, "sparse_rtrl", 4, seed, k4, **config),
        cell(experiment, "rtrl", None, seed, full, **config),
    ]


VIT = ("dense_ref", "k6", "k4", "k2", "trace_like", "no_replay", *(f"forward_k{k}" for k in (6, 4, 2, 1)))
LEARNERS: tuple[tuple[str, int | None, dict[str, Any]], ...] = (
    ("traces", 0, {"decay": 0.95}),
    ("traces", 0, {"decay": 0.0}),
    ("sparse_rtrl", 4, {}),
    ("rtrl", 64, {}),
)


@functools.cache
def everything() -> Source:
    """Cells and arrays of every sweep that figures read, at two seeds."""
    cells: list[dict[str, Any]] = []
    series: dict[int, Series] = {}

    def add(row: dict[str, Any], named: Series | None = None) -> None:
        series[len(cells)] = named or {}
        cells.append(row)

    for seed in (42, 123):
        own = 1 + seed / 1000
        loss = {"loss": (0, 1, [own * (0.001 if t % 1000 > 100 else 0.1) for t in range(2000)])}
        for row in four("sine", seed, 0.3 * own, 2e-4 * own, 2e-3 * own, 1e-3):
            add(row, loss)
        for k in (8, 16, 32):
            add(cell("sine", "sparse_rtrl", k, seed, 2e-3))
        for n in (64, 128):
            for row in four("lorenz", seed, 0.1, 0.015, 0.014 * own, 0.02 / own, hidden=n):
                add(row)
        for rate in (3e-4, 5e-4, 1e-3):
            for row in four("sine_n256", seed, 0.5, 1e-4, 0.004, 0.0003 * own, hidden=256, learning_rate=rate):
                add(row)
        for n in (64, 256):
            for at, value in enumerate(decay.DECAYS):
                add(cell("decay", "traces", 0, seed, own * 10.0 ** (at - 6), decay=value, hidden=n))
            add(cell("decay", "sparse_rtrl", 4, seed, 2e-3, hidden=n))
        spectrum = {
            "condition": (99, 100, [3.0 * own] * 20),
            "immediate_condition": (99, 100, [1.1 * own] * 20),
        }
        for experiment in ("spectra_sine", "spectra_lorenz"):
            add(cell(experiment, "rtrl", 64, seed, 1e-3), spectrum)
        cosines = {"cosine_all": (49, 50, [0.4 * own] * 40), "past_cosine_all": (49, 50, [0.7] * 40)}
        for row in [
            *(cell("alignment", "traces", 0, seed, 1.0, decay=value) for value in (0.0, 0.95)),
            cell("alignment", "sparse_rtrl", 1, seed, 1.0, selection="random"),
            *(cell("alignment", "sparse_rtrl", k, seed, 1.0) for k in (2, 4, 8, 16, 32)),
            cell("alignment", "rtrl", 64, seed, 1.0),
        ]:
            add(row, cosines)
        errors = {"mse_b": (0, 50, [0.5 * own] * 60), "frozen_b": (0, 50, [0.9 * own] * 60)}
        numbers = (0.5 * own, 0.9 * own, 0.4, 0.46, 215.0)
        for part in decoding.PARTS:
            a, b = str(part.pinned["session_a"]), decoding.SESSION_B
            for method, k, own_settings in LEARNERS:
                add(decoder("bci", method, k, seed, a, b, numbers, **own_settings), errors)
        for a, b in (("20160624_03", "20170131_02"), ("20160411_01", "20160411_01"), ("20160630_01", "20170131_02")):
            for method, k, own_settings in LEARNERS[:3]:
                add(decoder("bci_pairs", method, k, seed, a, b, numbers, **own_settings))
        scores = {f"accuracy_after_{i}": (0, 1, [0.7 / i * own] * i) for i in range(1, 6)}
        scores |= {f"fisher_after_{i}": (0, 1, [1e-3 * own * (1 + j) for j in range(4 * 4 * 12)]) for i in range(1, 6)}
        scores |= {f"entropy_after_{i}": (0, 1, [own * (1 + j % 7) for j in range(4 * 12)]) for i in range(1, 6)}
        for at, row in enumerate(VIT):
            add(vit_cell(row, seed, {"accuracy_average": (0.4 - 0.01 * at) * own}), scores)
    return store(cells, series)


def test_step_is_the_metric_of_each_cell_and_persistence_once_a_seed() -> None:
    frame = step.data(store(four("sine", 7, 1.0, 0.1, 0.01, 0.001) + four("sine", 42, 2.0, 0.2, 0.02, 0.002)))
    assert frame.rows() == [
        ("traces_decay095", 0, 7, 1.0),
        ("traces_decay0", 0, 7, 0.1),
        ("k4", 4, 7, 0.01),
        ("full", 64, 7, 0.001),
        ("traces_decay095", 0, 42, 2.0),
        ("traces_decay0", 0, 42, 0.2),
        ("k4", 4, 42, 0.02),
        ("full", 64, 42, 0.002),
        ("persistence", None, 7, 0.045),
        ("persistence", None, 42, 0.045),
    ]


def test_geometric_mean_over_the_seeds_that_have_a_value() -> None:
    frame = pl.DataFrame({"row": ["a", "a", "a", "b"], "mse": [1e-4, 1e-2, None, None]})
    assert geometric(frame, ["row"]).rows() == [("a", approx(1e-3), 2)]


def test_curves_median_and_range_of_the_running_mean() -> None:
    """Constant until the shift, a step of 1 after it: the mean of 25 climbs by 1/25 a step, in every seed."""
    bases = {42: 1.0, 123: 3.0, 7: 2.0}
    cells = [cell("sine", "rtrl", 64, seed, 0.1) for seed in bases]
    series = {i: {"loss": (0, 1, [base] * 1000 + [base + 1] * 1000)} for i, base in enumerate(bases.values())}
    frame = curves.data(store(cells, series))
    assert frame.columns == ["row", "step", "median", "low", "high", "n"]
    assert frame["step"].to_list() == list(range(-200, 1000))
    by_step = {at: values for at, *values in frame.select("step", "median", "low", "high", "n").iter_rows()}
    assert by_step[-1] == [approx(2), approx(1), approx(3), 3]
    assert by_step[0] == [approx(2.04), approx(1.04), approx(3.04), 3]
    assert by_step[24] == by_step[999] == [approx(3), approx(2), approx(4), 3]


def test_curves_of_a_run_that_ended_count_until_it_did() -> None:
    cells = [cell("sine", "rtrl", 64, 42, 0.1), cell("sine", "rtrl", 64, 7)]
    series: dict[int, Series] = {0: {"loss": (0, 1, [1.0] * 2000)}, 1: {"loss": (0, 1, [9.0] * 1010)}}
    source = store(cells, series)
    counts = dict(curves.data(source).select("step", "n").iter_rows())
    assert (counts[9], counts[10]) == (2, 1)
    assert "Diverged, drawn up to there: full RTRL, seed 7." in CAPTIONS["curves"](source)


def test_a_value_that_is_not_finite_takes_its_window_along() -> None:
    loss: list[float | None] = [1.0] * 2000
    loss[1100] = math.nan
    frame = curves.data(store([cell("sine", "rtrl", 64, 42, 0.1)], {0: {"loss": (0, 1, loss)}}))
    assert sorted(set(range(-200, 1000)) - set(frame["step"].to_list())) == list(range(100, 125))


def test_spread_per_size_and_its_coefficient_of_variation() -> None:
    cells = [
        cell("lorenz", "sparse_rtrl", 4, 42, 0.01),
        cell("lorenz", "sparse_rtrl", 4, 7, 0.03),
        cell("lorenz", "rtrl", 128, 42, 0.5, hidden=128),
    ]
    frame = spread.data(store(cells))
    assert frame.rows() == [
        (64, "k4", 42, 0.01),
        (64, "k4", 7, 0.03),
        (64, "persistence", 42, 0.002),
        (64, "persistence", 7, 0.002),
        (128, "full", 42, 0.5),
        (128, "persistence", 42, 0.002),
    ]
    assert spread.variation(frame).rows() == [
        (64, "k4", approx(50), 2),
        (64, "persistence", approx(0), 2),
        (128, "full", None, 1),
        (128, "persistence", None, 1),
    ]


def test_the_papers_seeds_of_table_4_give_its_coefficients_of_variation() -> None:
    printed = spread._printed()
    assert printed.height == 20
    assert [(n, row, round(cv)) for n, row, cv, _ in spread.variation(printed).iter_rows()] == [
        (64, "k4", 13),
        (64, "full", 88),
        (128, "k4", 8),
        (128, "full", 161),
    ]


def test_scale_recovery_by_size_and_learning_rate() -> None:
    cells = [
        *four("sine", 42, 1.0, 1e-4, 1e-1, 1e-2),  # 200 % and 50 %
        *four("lorenz", 42, 1.0, 1e-1, 1e-2, 1e-1, hidden=128),
        *four("sine_n256", 42, 1e-2, 1e-2, 1e-2, 1.0, hidden=256, learning_rate=5e-4),  # no gap
    ]
    frame = scale.data(store(cells))
    assert frame.select("place", "row", "seed", "recovery").rows() == [
        (0, "traces_decay0", 42, approx(200)),
        (0, "k4", 42, approx(50)),
        (1, "traces_decay0", 42, approx(100)),
        (1, "k4", 42, approx(200)),
        (3, "traces_decay0", 42, None),
        (3, "k4", 42, None),
    ]
    assert frame["gap"].to_list()[::2] == approx([math.log(100), math.log(10), -math.log(100)])


def test_scale_leaves_out_seeds_without_both_ends() -> None:
    assert scale.data(store(four("sine", 42, 1.0, 0.1, 0.1, 0.01)[:3])).is_empty()
    assert scale.data(store(four("sine", 42, 1.0, 0.1, 0.1, 0.01)[1:])).is_empty()


def test_condition_at_the_steps_recorded() -> None:
    cells = [cell("spectra_lorenz", "rtrl", 64, 7, 0.1), cell("spectra_lorenz", "sparse_rtrl", 4, 7, 0.1)]
    values: Series = {"condition": (99, 100, [2.0, math.inf, 1e15]), "immediate_condition": (99, 100, [1.0, 1.5])}
    frame = condition.data(store(cells, {0: values, 1: values}))
    assert frame.rows() == [
        ("Lorenz", 7, "condition", 99, 2.0),
        ("Lorenz", 7, "condition", 299, 1e15),
        ("Lorenz", 7, "immediate_condition", 99, 1.0),
        ("Lorenz", 7, "immediate_condition", 199, 1.5),
    ]


def test_alignment_means_over_the_500_steps_on_either_side() -> None:
    """Measured at 49, 99, ...: entries 10 to 19 are of the steps 500 to 999, entries 20 to 29 of the next 500."""
    cells = [
        cell("alignment", "sparse_rtrl", 4, 42, 0.1),
        cell("alignment", "sparse_rtrl", 4, 42, 0.1, selection="random"),  # not the figure's
        cell("alignment", "traces", 0, 42, 0.1, decay=0.0),
    ]
    cosines = [9.0] * 10 + [0.1] * 5 + [0.3] * 5 + [0.5] * 9 + [0.6] + [9.0] * 10
    named: Series = {"cosine_all": (49, 50, cosines), "past_cosine_all": (49, 50, [0.25] * 40)}
    frame = alignment.data(store(cells, {0: named, 1: {"cosine_all": (49, 50, [7.0] * 40)}, 2: named}))
    assert frame.filter(pl.col("name") == "cosine_all").rows() == [
        ("traces_decay0", None, 42, "cosine_all", "before", approx(0.2)),
        ("traces_decay0", None, 42, "cosine_all", "after", approx(0.51)),
        ("k4", 4, 42, "cosine_all", "before", approx(0.2)),
        ("k4", 4, 42, "cosine_all", "after", approx(0.51)),
    ]
    assert frame.filter(pl.col("name") == "past_cosine_all")["cosine"].to_list() == approx([0.25] * 4)


def test_decay_by_size_and_k4_without_one() -> None:
    cells = [
        cell("decay", "traces", 0, 42, 0.2, decay=0.99, hidden=256),
        cell("decay", "traces", 0, 42, 0.1, decay=0.5),
        cell("decay", "sparse_rtrl", 4, 42, 0.01),
        cell("decay", "traces", 0, 42, 0.3, decay=0.42),  # not the figure's
    ]
    assert decay.data(store(cells)).rows() == [
        (64, "decay0.5", 0.5, 42, 0.1),
        (64, "k4", None, 42, 0.01),
        (256, "decay0.99", 0.99, 42, 0.2),
    ]


def test_a_figure_and_a_caption_of_every_name() -> None:
    assert list(FIGURES) == list(CAPTIONS)
    with pytest.raises(UnknownName, match="unknown figure 'curve'; did you mean 'curves'\\?"):
        FIGURES["curve"]


def test_decoding_is_a_running_mean_over_points_of_fifty_bins() -> None:
    a = "20160624_03"
    cells = [decoder("bci", "rtrl", 64, seed, a, "20170131_02", (1.0, 2.0, 0.5, 0.4, 221.0)) for seed in (42, 7)]
    rising = [float(i) for i in range(30)]
    series = {
        0: {"mse_b": (0, 50, rising), "frozen_b": (0, 50, [2.0] * 30)},
        1: {"mse_b": (0, 50, rising[:25]), "frozen_b": (0, 50, [4.0] * 30)},  # diverged there
    }
    frame = decoding.data(store(cells, series))
    assert frame["label"].unique().to_list() == ["20160624_03, clean"]
    adapting = frame.filter(pl.col("name") == "mse_b")
    assert adapting.height == 11
    assert adapting.row(0, named=True)["median"] == approx(9.5)  # 0 to 19
    assert adapting["minutes"].to_list()[::10] == approx([19 * 50 * 0.064 / 60, 29 * 50 * 0.064 / 60])
    frozen = frame.filter(pl.col("name") == "frozen_b").row(0, named=True)
    assert (frozen["low"], frozen["median"], frozen["high"]) == (2.0, 3.0, 4.0)


def test_gap_is_eq_12_of_means_over_seeds() -> None:
    odd, clean, b = "20160630_01", "20160624_03", "20170131_02"
    rows = [
        *(decoder("bci_pairs", "sparse_rtrl", 4, seed, clean, b, numbers) for seed, numbers in
          ((42, (0.5, 0.8, 0.3, 0.4, 221.0)), (7, (0.7, 1.2, 0.5, 0.4, 221.0)))),
        decoder("bci_pairs", "sparse_rtrl", 4, 42, odd, b, (0.5, 0.8, 0.3, 0.4, 215.0)),
        decoder("bci_pairs", "sparse_rtrl", 4, 42, odd, odd, (0.5, 0.2, 0.3, 0.4, 0.0)),
        decoder("bci_pairs", "sparse_rtrl", 4, 42, b, clean, (0.2, 0.8, 0.3, 0.4, -221.0)),
    ]  # fmt: skip
    frame = gap.data(store(rows))
    assert frame.select("session_a", "session_b", "days", "relabelled", "n", "recovery").rows() == [
        (clean, b, 221.0, False, 2, approx(100 * (1.0 - 0.6) / (1.0 - 0.4))),
        (odd, odd, 0.0, False, 1, None),  # nothing was lost
        (odd, b, 215.0, True, 1, approx(60)),
        (b, clean, 221.0, False, 1, approx(120)),
    ]
    caption = CAPTIONS["gap"](store(rows))
    assert "Decoding over 4 ordered pairs" in caption
    assert "Of 4 recoveries, 0 lie beyond the axis; 1 are undefined, as nothing was lost." in caption
    assert "n = 1 to 2 seeds." in caption


DRAWN_TWICE = ("step", "curves", "gap")
"""Figures of the fast tests, by the three ways of drawing: points, bands, and marks beside text."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in DRAWN_TWICE else [pytest.mark.slow]) for name in FIGURES]
)
def test_two_saves_are_the_same_to_the_byte(name: str, tmp_path: Path) -> None:
    """Of one figure and of two drawn alike; whatever the caller's settings of matplotlib."""
    import matplotlib

    first, second = FIGURES[name](everything()), FIGURES[name](everything())
    (tmp_path / "new").mkdir()
    for ending in ("svg", "png") if name == "step" else ("svg",):  # drawing pixels takes most of the time
        save(first, tmp_path / f"a.{ending}")
        with matplotlib.rc_context({"font.size": 20, "svg.hashsalt": None, "savefig.dpi": 50}):
            save(second, tmp_path / "new" / f"b.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / "new" / f"b.{ending}").read_bytes()
    assert first.get_size_inches()[0] in (3.4, 7.0)
    svg = (tmp_path / "a.svg").read_text()
    assert "<dc:date>" not in svg
    assert "<text" not in svg


@pytest.mark.parametrize("name", FIGURES)
def test_of_a_complete_store_nothing_is_missing(name: str) -> None:
    caption = CAPTIONS[name](everything())
    assert "\n" not in caption
    assert "n = 2 seeds." in caption
    assert "paper/" in caption
    assert "Missing" not in caption
    assert "Diverged" not in caption


@pytest.mark.parametrize("name", FIGURES)
def test_a_store_without_cells_is_refused_with_the_command(name: str) -> None:
    for call in (FIGURES[name], CAPTIONS[name]):
        with pytest.raises(NothingDone, match=f"figure '{name}' has nothing to draw.*; run: raysweep launch paper/"):
            call(store([]))


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_not_there_is_left_out_and_said(name: str) -> None:
    """One seed, without full RTRL; the other one pending."""
    whole = everything()
    gone = pl.col("seed") == 123
    if name != "condition":  # which shows full RTRL alone
        gone |= pl.col("method") == "rtrl"
    cells = whole.cells.with_columns(status=pl.when(gone).then(pl.lit("pending")).otherwise("status"))
    source = Source(cells, whole.arrays)
    FIGURES[name](source)
    caption = CAPTIONS[name](source)
    assert "n = 1 seed." in caption
    assert "Missing: " in caption
    assert "pending" in caption
    assert "To run them: raysweep resume paper/" in caption


def test_the_captions_words_for_what_is_missing() -> None:
    cells = [
        *four("sine", 42, 1.0, 0.1, 0.1, 0.01),
        cell("sine", "traces", 0, 7, None, decay=0.95),
        cell("sine", "rtrl", 64, 7, status="failed"),
    ]
    caption = CAPTIONS["step"](store(cells))
    assert caption.endswith(
        " Metric: mse_post_last_500; sweep: paper/e1-sine; n = 1 to 2 seeds. "
        "Diverged, so not drawn: decay 0.95, seed 7. "
        "Missing: 9 of 14 cells (decay 0, k = 4, seed 7, not launched; k = 8, k = 16, k = 32, all seeds, "
        "not launched; full RTRL, seed 7, failed). To run them: raysweep resume paper/e1-sine."
    )
    caption = CAPTIONS["decay"](store([cell("decay", "traces", 0, 1, 0.1, decay=value) for value in decay.DECAYS]))
    assert caption.endswith(
        " n = 1 seed. Missing: n = 64: 1 of 9 cells (k = 4, all seeds, not launched); "
        "n = 256: all 45 cells, not launched. To run them: raysweep resume paper/decay."
    )


def test_launched_but_not_done_is_resumed() -> None:
    with pytest.raises(NothingDone, match="none of its 7 cells is done; run: raysweep resume paper/e1-sine"):
        step.figure(store([cell("sine", "rtrl", 64, 42, status="pending")]))


@pytest.mark.parametrize("name", ["curves", "condition", "alignment"])
def test_done_cells_that_recorded_no_such_array_are_refused(name: str) -> None:
    source = Source(everything().cells, store([]).arrays)
    with pytest.raises(InputError, match=r"have no array .*: raysweep launch paper/"):
        FIGURES[name](source)


def test_only_svg_and_png(tmp_path: Path) -> None:
    figure = FIGURES["decay"](everything())
    with pytest.raises(InputError, match=r"figure.pdf' must end in \.svg or \.png"):
        save(figure, tmp_path / "figure.pdf")
    with pytest.raises(InputError, match=r"there is no folder '.*nowhere'; make it first"):
        save(figure, tmp_path / "nowhere" / "figure.svg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(InputError, match="is a folder; name a file in it"):
        save(figure, tmp_path / "folder.svg")
    save(figure, tmp_path / "figure.PNG")
    assert (tmp_path / "figure.PNG").read_bytes().startswith(b"\x89PNG")


def test_matplotlib_is_loaded_by_drawing_only_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys; from raysweep.analysis.figures import FIGURES, save; print('matplotlib' in sys.modules); "
        "from tests.analysis.figures.test_figures import everything; save(FIGURES['step'](everything()), sys.argv[1]); "
        "print('matplotlib' in sys.modules, 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "step.svg")],
        capture_output=True,
        text=True,
        check=True,
        env=environment(),
    )
    assert done.stdout.split() == ["False", "True", "False"]
