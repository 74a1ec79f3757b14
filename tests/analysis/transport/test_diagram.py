"""Experiment A: chosen rates, recoveries and k50 on accuracies with known answers."""

import functools
import json
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from raysweep.analysis.transport import chosen
from raysweep.analysis.transport.diagram import (
    DIAGRAM,
    LAGS,
    QUESTIONS,
    RATES,
    SCORED,
    SIZES,
    SWEEPS,
    TUNING,
    choices,
    exponent,
    ladder,
    ln_k50,
    scored,
)
from raysweep.analysis.transport.diagram_page import EXPERIMENT, diagram, levels
from raysweep.analysis.transport.experiment import section
from raysweep.analysis.transport.question import Answer, answers, rows_of
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.find import BUNDLED
from raysweep.orchestrator.sweep.spec import changed, load_all
from raysweep.workloads.rnn.architectures import ARCHITECTURES
from raysweep.workloads.rnn.rules import RULES

pytestmark = pytest.mark.usefixtures("few_resamples")
SETTINGS = (
    *("architecture", "hidden", "length", "delay", "steps"),
    *("selection", "decay", "window", "order", "learning_rate"),
)
TANH_64 = ("transport/diagram-tanh-64",)
Level = Callable[[Mapping[str, Any]], float | None]
FLOOR, FULL = 0.4, 0.9


@functools.cache
def rows(sweeps: tuple[str, ...]) -> pl.DataFrame:
    """The settings of sweeps, each once, in columns."""
    frames = []
    for sweep in sweeps:
        table = expand(changed(load_all([sweep]), {}, "0")).wide()
        configs = [json.loads(text) for text in table["config"]]
        settings = {key: pl.Series(key, [config.get(key) for config in configs], strict=False) for key in SETTINGS}
        dtypes = {"selection": pl.String, "decay": pl.Float64, "window": pl.Int64, "order": pl.Int64}
        frames.append(
            table.select("experiment", "method", "k").with_columns(
                *(values.cast(dtypes[key]) if key in dtypes else values for key, values in settings.items())
            )
        )
    return pl.concat(frames).unique(maintain_order=True)


def filled(level: Level, sweeps: tuple[str, ...] = TANH_64) -> pl.DataFrame:
    """The sweeps' cells at all rates and seeds. The accuracy is a row's level, a little different with every seed."""
    frame = rows(sweeps)
    levels = pl.Series("level", [level(row) for row in frame.to_dicts()], dtype=pl.Float64)
    seeds = pl.DataFrame({"seed": [*TUNING, *SCORED]})
    jitter = 1e-3 * (17 * pl.col("seed") + 3 * pl.col("row")).cast(pl.Float64).sin()
    return (
        frame.with_columns(levels)
        .with_row_index("row")
        .join(seeds, how="cross")
        .with_columns(
            (pl.col("level") + pl.when(pl.col("seed") >= SCORED[0]).then(jitter).otherwise(0)).alias(
                "accuracy_all_last_500"
            ),
            chance_accuracy_all_last_500=pl.lit(0.125),
            status=pl.lit("done"),
        )
    )


def at_its_rate(row: Mapping[str, Any], recovery: Callable[[int, int], float]) -> float:
    """Accuracies of which a share of the gap is recovered by k of n; 1e-2 is the best rate, .5 the best decay."""
    lost = 0.01 * abs(math.log10(row["learning_rate"]) + 2)
    if row["method"] == "traces":
        return FLOOR - lost - 0.1 * abs(row["decay"] - 0.5)
    share = recovery(row["k"], row["hidden"]) if row["method"] == "sparse_rtrl" else 1.0
    return FLOOR + share * (FULL - FLOOR) - lost


def by_words(frame: pl.DataFrame, *words: str) -> Answer:
    matching = [question for question in QUESTIONS if all(word in question.words for word in words)]
    assert len(matching) == 1, (words, [question.words for question in matching])
    return answers(matching, frame)[0]


def test_every_rule_and_architecture_is_run_for_the_same_number_of_sequences() -> None:
    frame = rows(SWEEPS)
    assert set(frame["method"]) == set(RULES)
    assert set(frame["architecture"]) == set(ARCHITECTURES)
    assert set(frame["experiment"]) == {DIAGRAM}
    assert (frame["steps"] == 2000 * (frame["delay"] + 2)).all()
    assert set(frame["delay"] + 1) == set(LAGS)
    rates = frame.group_by(pl.exclude("learning_rate")).agg(pl.col("learning_rate").sort())
    assert set(map(tuple, rates["learning_rate"])) == {RATES}


def test_a_ladder_is_what_the_sweeps_run() -> None:
    for n in SIZES:
        own = rows((f"transport/diagram-tanh-{n}",)).filter(
            (pl.col("selection") == "ring") | ((pl.col("selection") == "random") & (pl.col("k") == 1))
        )
        assert sorted(set(own["k"])) == list(ladder(n))


def test_a_recovery_that_is_the_fraction_k_over_n_follows_the_law_of_fractions() -> None:
    sweeps = tuple(f"transport/diagram-tanh-{n}" for n in SIZES)
    frame = filled(lambda row: at_its_rate(row, lambda k, n: k / n), sweeps)
    law = by_words(frame, "tanh RNN, lag 19", "fraction")
    assert (law.alone, law.units) == ("yes", len(SCORED))
    assert law.value == pytest.approx(1.0, abs=0.05)
    assert by_words(frame, "tanh RNN, lag 19", "absolute").alone == "no"
    assert by_words(frame, "tanh RNN, n = 64, lag 19", "redundant").alone == "no"
    needed = by_words(frame, "tanh RNN, n = 64, lag 19", "other paths")
    assert needed.alone == "yes"
    assert needed.value == pytest.approx(100 * 4 / 64, abs=0.5)
    assert by_words(frame, "tanh RNN, n = 64, lag 19", "nothing to transport").alone == "no"
    points = diagram(frame)
    assert points.height == len(LAGS) * sum(len(ladder(n)) for n in SIZES)
    assert np.allclose(points["recovery"], 100 * points["k"] / points["hidden"], atol=0.5)


def test_a_recovery_by_k_alone_follows_the_law_of_an_absolute_k() -> None:
    sweeps = tuple(f"transport/diagram-tanh-{n}" for n in SIZES)
    frame = filled(lambda row: at_its_rate(row, lambda k, n: min(1.0, k / 5)), sweeps)
    law = by_words(frame, "tanh RNN, lag 9", "absolute")
    assert law.alone == "yes"
    assert law.value == pytest.approx(0.0, abs=0.02)
    assert by_words(frame, "tanh RNN, lag 9", "fraction").alone == "no"
    redundant = by_words(frame, "tanh RNN, n = 64, lag 39", "redundant")
    assert redundant.alone == "yes"
    assert redundant.value == pytest.approx(80, abs=0.5)


def test_all_questions_are_answered_from_all_sweeps() -> None:
    given = answers(QUESTIONS, filled(lambda row: at_its_rate(row, lambda k, n: k / n), SWEEPS))
    assert {answer.question.name: answer.alone for answer in given if answer.units != len(SCORED)} == {}
    cheap = [answer for answer in given if "at O(n m)" in answer.question.words]
    assert [answer.alone for answer in cheap] == ["yes"] * 4


def _ladder_of(recoveries: Mapping[int, float], n: int) -> dict[str, np.ndarray]:
    """Columns of ten equal seeds with these recoveries."""
    levels = {"floor": 0.0, "full": 1.0} | {f"k{k}": recoveries[k] for k in ladder(n)}
    return {f"accuracy {rule} {n}": np.full(10, value) for rule, value in levels.items()}


def test_k50_is_interpolated_in_ln_k_at_the_last_crossing() -> None:
    low = dict.fromkeys(ladder(32), 0.25)
    assert math.exp(ln_k50(_ladder_of(low | {8: 0.75, 16: 0.75, 24: 0.75}, 32), 32, 32)) == pytest.approx(math.sqrt(32))
    twice = low | {2: 0.9, 16: 0.5, 24: 0.6}
    assert math.exp(ln_k50(_ladder_of(twice, 32), 32, 32)) == pytest.approx(16)
    assert math.exp(ln_k50(_ladder_of(dict.fromkeys(ladder(32), 0.6), 32), 32, 32)) == 1
    none = _ladder_of(dict.fromkeys(ladder(32), 0.0), 32)
    assert math.exp(ln_k50(none, 32, 32)) == pytest.approx(math.sqrt(24 * 32))
    assert math.isnan(ln_k50(none | {"accuracy full 32": np.zeros(10)}, 32, 32))
    largest = _ladder_of(dict.fromkeys(ladder(128), 0.0), 128)
    assert exponent(none | largest) == pytest.approx(1.0)


def test_without_a_gap_nothing_is_to_be_transported_and_no_recovery_holds() -> None:
    def level(row: Mapping[str, Any]) -> float:
        return FLOOR + (0.01 if row["method"] == "rtrl" else 0.0)

    frame = filled(level)
    assert by_words(frame, "tanh RNN, n = 64, lag 9", "nothing to transport").alone == "yes"
    for words in ("redundant", "other paths", "SnAp-1", "half of lag + 1"):
        answer = by_words(frame, "tanh RNN, n = 64, lag 9:", words)
        assert answer.alone == "no"
        assert "not 0.05 above the best trace" in answer.why
    assert set(diagram(frame)["recovery"]) == {None}


def test_equal_rules_are_equal_and_one_selection_that_differs_is_not() -> None:
    frame = filled(lambda row: at_its_rate(row, lambda k, n: 0.5))
    assert by_words(frame, "BPTT over lag + 1 steps").alone == "yes"
    assert by_words(frame, "lag 9", "largest weights").alone == "yes"

    def oracle_is_better(row: Mapping[str, Any]) -> float:
        return at_its_rate(row, lambda k, n: 0.7 if row["selection"] == "oracle" else 0.5)

    answer = by_words(filled(oracle_is_better), "lag 9", "largest weights")
    assert answer.alone == "no"
    assert answer.value == pytest.approx(0.2 * (FULL - FLOOR), abs=2e-3)


def test_the_rate_is_the_best_of_the_tuning_seeds_and_the_lower_one_of_equals() -> None:
    frame = filled(lambda row: 0.5 if row["learning_rate"] in (1e-3, 3e-2) else 0.4)
    assert set(choices(frame)["learning_rate"]) == {1e-3}
    assert set(scored(frame)["learning_rate"]) == {1e-3}
    assert not choices(frame)["at_the_end"].any()
    misled = frame.with_columns(
        pl.when(pl.col("seed").is_in(SCORED) & (pl.col("learning_rate") == 1e-4))
        .then(1.0)
        .otherwise("accuracy_all_last_500")
        .alias("accuracy_all_last_500")
    )
    assert set(choices(misled)["learning_rate"]) == {1e-3}


def test_a_diverged_run_counts_as_chance() -> None:
    frame = filled(lambda row: None if row["learning_rate"] > 1e-4 else 0.1 if row["method"] == "rtrl" else 0.5)
    best = scored(frame)
    assert set(best.filter(pl.col("method") == "rtrl")["accuracy"]) == {0.125}
    assert set(best.filter(pl.col("method") == "rtrl")["learning_rate"]) == {3e-4}
    assert set(best.filter(pl.col("method") != "rtrl")["learning_rate"]) == {1e-4}


@pytest.mark.parametrize("seed", [TUNING[2], SCORED[3]])
def test_a_missing_cell_leaves_its_questions_not_run(seed: int) -> None:
    frame = filled(lambda row: at_its_rate(row, lambda k, n: k / n))
    lacking = (pl.col("method") == "rtrl") & (pl.col("seed") == seed) & (pl.col("delay") == 8)
    frame = frame.filter(~lacking)
    assert by_words(frame, "tanh RNN, n = 64, lag 9", "redundant").alone == "not run"
    assert by_words(frame, "tanh RNN, n = 64, lag 19", "redundant").alone == "no"


@pytest.mark.parametrize("sweep", ["transport/diagram-tanh-64", "transport/diagram-ceilings-64"])
def test_the_printed_launch_runs_the_chosen_cells_alone(sweep: str) -> None:
    def level(row: Mapping[str, Any]) -> float:
        best = RATES[(row["delay"] + len(row["method"])) % len(RATES)]
        return 0.9 if row["learning_rate"] == best else 0.5

    frame = filled(level, (sweep,)).filter((pl.col("delay") != 38) | (pl.col("seed") != TUNING[0]))
    comment, command = chosen.commands([sweep], frame, "here")
    counted = choices(frame)
    assert comment.startswith(f"# {sweep}: {counted.height} of ")
    words = shlex.split(command)
    assert words[:7] == ["raysweep", "launch", sweep, "--store", "here", "--seeds", "6100..6129"]
    picked = rows_of(f"SELECT * FROM cells WHERE {words[-1]}", rows((sweep,)))
    assert picked.height == counted.height
    assert (picked["delay"] != 38).all()
    assert picked.select(level=pl.struct(pl.all()).map_elements(level, pl.Float64))["level"].unique().to_list() == [0.9]


def test_what_is_printed_for_a_shell_holds_no_command_of_a_name(tmp_path: Path) -> None:
    path = tmp_path / "evil\ntouch pwned #.toml"
    path.write_text((BUNDLED / "transport" / "diagram-tanh-64.toml").read_text())
    comment, command = chosen.commands([str(path)], filled(lambda row: 0.5), "x; touch pwned")
    assert "\n" not in comment
    assert shlex.split(command)[2:5] == [str(path), "--store", "x; touch pwned"]


def test_without_tuned_rows_no_launch_is_printed() -> None:
    frame = filled(lambda row: 0.5).filter(pl.col("seed") != TUNING[0])
    assert list(chosen.commands(TANH_64, frame, "here")) == ["# transport/diagram-tanh-64: 0 of 98 rows are tuned"]


def test_the_diagram_has_the_accuracies_of_floor_paths_and_ceiling() -> None:
    points = levels(filled(lambda row: at_its_rate(row, lambda k, n: k / n)))
    assert points.height == len(LAGS) * (len(ladder(64)) + 3)
    heights = {row["rule"]: row["accuracy"] for row in points.filter(pl.col("lag") == 9).to_dicts()}
    assert heights["best trace"] == pytest.approx(FLOOR, abs=1e-3)
    assert heights["k = 32"] == pytest.approx((FLOOR + FULL) / 2, abs=1e-3)
    assert heights["full RTRL"] == pytest.approx(FULL, abs=1e-3)
    assert heights["e-prop"] == pytest.approx(FULL, abs=1e-3)


@pytest.mark.slow
def test_the_page_has_tables_and_figures(tmp_path: Any) -> None:
    frame = filled(lambda row: at_its_rate(row, lambda k, n: k / n))
    text = section(EXPERIMENT, frame, tmp_path)
    assert "tanh RNN, n = 64: accuracies of floor and ceiling" in text
    assert "| trace, decay 0.5 |" in text
    assert "(0.01)" in text
    assert "| chance | 0.125 |" in text
    assert {path.name for path in tmp_path.iterdir()} == {"diagram.svg", "diagram-half.svg"}
    tuned_alone = section(EXPERIMENT, frame.filter(pl.col("seed").is_in(TUNING)), tmp_path)
    assert "No cell is scored yet." in tuned_alone
