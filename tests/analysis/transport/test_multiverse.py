"""Experiment C: shares of protocols, specification curves and components of variance on errors with known answers."""

import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from raysweep.analysis.transport.multiverse import (
    AXES,
    CLAIMS,
    LORENZ,
    QUESTIONS,
    ROUNDING,
    SEEDS,
    SINE,
    curve,
    variances,
)
from raysweep.analysis.transport.question import answers
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.spec import changed, load_all

SWEEPS = {
    SINE: "transport/multiverse-sine",
    LORENZ: "transport/multiverse-lorenz",
    ROUNDING: "transport/multiverse-rounding",
}
pytestmark = pytest.mark.usefixtures("few_resamples")


@functools.cache
def _cells(experiment: str) -> pl.DataFrame:
    """The sweep's own cells, with as many seeds as it has, without metrics."""
    table = expand(changed(load_all([SWEEPS[experiment]]), {}, f"0..{SEEDS - 1}"))
    keys = ["selection", "decay", "recurrent_scale", "input_scale", "optimizer", "learning_rate", "phase", "rounding"]
    wide = table.wide()
    configs = [json.loads(text) for text in wide["config"]]
    return wide.select("experiment", "method", "k", "seed").with_columns(
        *(pl.Series(key, [config.get(key) for config in configs], strict=False) for key in keys), status=pl.lit("done")
    )


def filled(experiment: str, error: Callable[[Mapping[str, Any]], float | None]) -> pl.DataFrame:
    """The sweep's cells with errors; trivial predictors are at 1 and 2."""
    metric = "post_all" if experiment == LORENZ else "post_last_500"
    frame = _cells(experiment)
    errors = pl.Series([error(cell) for cell in frame.to_dicts()], dtype=pl.Float64)
    return frame.with_columns(
        errors.alias(f"mse_{metric}"),
        pl.lit(1.0).alias(f"persistence_{metric}"),
        pl.lit(2.0).alias(f"constant_{metric}"),
    )


def by_rule(cell: Mapping[str, Any]) -> float:
    """Errors as in the paper: traces two orders above k = 4, which is near full RTRL; no selection wins."""
    jitter = 1 + 0.01 * math.sin(17 * cell["seed"] + 3 * len(str(cell["selection"])))
    level = {"traces": 0.25 if cell["decay"] else 0.0016, "rtrl": 0.001 * 2 ** (cell["seed"] % 2), "uoro": 0.0008}
    return level.get(cell["method"], 0.0015) * jitter


def test_the_sweeps_cross_all_protocols_with_all_rows_and_seeds() -> None:
    for experiment, protocols, rows in ((SINE, 96, 9), (LORENZ, 48, 9), (ROUNDING, 96, 4)):
        frame = _cells(experiment)
        assert frame.height == protocols * rows * SEEDS
        assert frame.select(AXES[LORENZ if experiment == LORENZ else SINE]).unique().height == protocols


def test_errors_as_in_the_paper_give_yes_to_each_of_its_claims() -> None:
    frame = pl.concat([filled(SINE, by_rule), filled(LORENZ, by_rule)], how="diagonal")
    given = {answer.question.words.partition(": ")[2]: answer for answer in answers(QUESTIONS, frame)}
    assert len(given) < len(QUESTIONS)  # words that both streams have
    for words, answer in given.items():
        assert (answer.alone, answer.value, answer.units) == ("yes", 1.0, SEEDS), (words, answer.why)


def test_a_claim_that_holds_at_one_gain_holds_in_a_third_of_the_protocols() -> None:
    frame = filled(
        SINE, lambda cell: by_rule(cell) * (30 if cell["method"] == "rtrl" and cell["recurrent_scale"] > 0.4 else 1)
    )
    within = next(i for i, claim in enumerate(CLAIMS[SINE]) if "factor of three" in claim.words)
    answer = answers(QUESTIONS[within : within + 1], frame)[0]
    assert answer.verdict == "no"
    assert answer.value == pytest.approx(1 / 3)
    points = curve(SINE, CLAIMS[SINE][within], frame)
    assert points["verdict"].value_counts(sort=True).rows() == [("fails", 64), ("holds", 32)]
    assert points["value"].is_sorted()
    assert (points["lower"] <= points["value"]).all()


def test_a_recovery_without_a_gap_does_not_hold() -> None:
    claim = next(claim for claim in CLAIMS[SINE] if "recovers" in claim.words)
    frame = filled(SINE, lambda cell: 0.5 if cell["method"] == "rtrl" else by_rule(cell))
    assert set(curve(SINE, claim, frame)["verdict"]) == {"fails"}
    assert answers([QUESTIONS[CLAIMS[SINE].index(claim)]], frame)[0].value == 0


def test_a_diverged_run_counts_as_the_better_trivial_predictor() -> None:
    frame = filled(SINE, lambda cell: None if cell["method"] == "sparse_rtrl" else by_rule(cell))
    naive = next(claim for claim in CLAIMS[SINE] if "persistence" in claim.words)
    assert set(curve(SINE, naive, frame)["value"]) == {1.0}


@pytest.mark.parametrize("lacking", [pl.col("seed") == 3, pl.col("recurrent_scale") > 0.4])
def test_without_a_seed_or_a_protocol_no_question_is_answered(lacking: pl.Expr) -> None:
    frame = filled(SINE, by_rule)
    assert {answer.verdict for answer in answers(QUESTIONS, frame.filter(~lacking))} == {"not run"}
    doubled = pl.concat([frame, frame.filter(lacking & (pl.col("method") == "sparse_rtrl"))])
    assert answers(QUESTIONS[:1], doubled)[0].verdict == "not run"


def test_the_variance_is_divided_into_protocol_seed_and_rounding() -> None:
    rng = np.random.default_rng(5)
    effects = {
        key: rng.normal(0, sd, 2 * 96 * SEEDS) for key, sd in (("protocol", 2.0), ("seed", 1.0), ("rounding", 0.5))
    }
    protocols = {key: i for i, key in enumerate(_cells(SINE).select(AXES[SINE]).unique(maintain_order=True).rows())}

    def error(cell: Mapping[str, Any]) -> float:
        protocol = protocols[tuple(cell[key] for key in AXES[SINE])]
        seed = protocol * SEEDS + cell["seed"]
        roundings = effects["rounding"][2 * seed + (cell["rounding"] or 0)]
        return math.exp(effects["protocol"][protocol] + effects["seed"][seed] + roundings)

    parts = variances(pl.concat([filled(SINE, error), filled(ROUNDING, error)], how="diagonal"))
    assert parts["row"].to_list() == ["trace", "none", "ring", "full"]
    for row in parts.to_dicts():
        assert row["protocol"] == pytest.approx(4.0, rel=0.35)
        assert row["seed"] == pytest.approx(1.0, rel=0.25)
        assert row["rounding"] == pytest.approx(0.25, rel=0.15)
