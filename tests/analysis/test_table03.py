"""Table 3 on a store of a few cells whose MSE are powers of ten."""

from __future__ import annotations

import json

import polars as pl
import pytest

from analysis.errors import AmbiguousCells
from analysis.paper import STANDINGS, paper_values
from analysis.tables import TABLES, Table
from orchestrator.errors import InputError
from workloads.registry import UnknownName

table = TABLES["3"]

SETTINGS = {"hidden": 64, "lr": 0.001, "decay": None, "window": None}
SCHEMA = {
    "cell_id": pl.String,
    "experiment": pl.String,
    "workload": pl.String,
    "workload_version": pl.String,
    "method": pl.String,
    "k": pl.Int64,
    "seed": pl.Int64,
    "status": pl.String,
    "config": pl.String,
    "mse_post_last_500": pl.Float64,
    "persistence_post_last_500": pl.Float64,
}


def cell(
    method: str,
    k: int | None,
    seed: int,
    mse: float | None,
    status: str = "done",
    experiment: str = "sine",
    version: str = "1",
    **config: object,
) -> dict[str, object]:
    text = json.dumps(SETTINGS | config)
    persistence = 0.1 if status == "done" else None
    values = ("id", experiment, "online_rnn", version, method, k, seed, status, text, mse, persistence)
    return dict(zip(SCHEMA, values, strict=True))


def store(*cells: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame([c | {"cell_id": f"c{i}"} for i, c in enumerate(cells)], schema=SCHEMA, orient="row")


def whole_seed(seed: int, decay095: float, decay0: float, partial: float, full: float) -> list[dict[str, object]]:
    return [
        cell("traces", 0, seed, decay095, decay=0.95),
        cell("traces", 0, seed, decay0, decay=0.0),
        *(cell("sparse_rtrl", k, seed, partial) for k in (4, 8, 16, 32)),
        cell("rtrl", None, seed, full),
        cell("bptt", None, seed, decay0, window=1),
    ]


WHOLE = [*whole_seed(42, 1.0, 0.1, 0.1, 0.01), *whole_seed(7, 1.0, 0.001, 0.01, 0.01)]
"""Seed 42 has a gap from either floor, seed 7 only from decay .95."""


def shown(made: Table, *columns: str) -> dict[str, tuple[object, ...]]:
    return {row[0]: row[1:] for row in made.frame.select("row", *columns).iter_rows()}


def near(*values: float | None) -> tuple[object, ...]:
    return tuple(None if value is None else pytest.approx(value) for value in values)


def test_a_complete_table() -> None:
    made = table(store(*WHOLE))
    root = 2**0.5
    assert shown(made, "k", "fraction_percent", "mse_mean", "mse_sd", "mse_cv_percent", "n") == {
        "traces_decay095": near(0, 0, 1.0, 0, 0, 2),
        "traces_decay0": near(0, 0, 0.0505, 0.099 / root, 100 * 0.0495 / 0.0505, 2),
        "k4": near(4, 6.25, 0.055, 0.09 / root, 100 * 0.045 / 0.055, 2),
        "k8": near(8, 12.5, 0.055, 0.09 / root, 100 * 0.045 / 0.055, 2),
        "k16": near(16, 25, 0.055, 0.09 / root, 100 * 0.045 / 0.055, 2),
        "k32": near(32, 50, 0.055, 0.09 / root, 100 * 0.045 / 0.055, 2),
        "full": near(64, 100, 0.01, 0, 0, 2),
        "bptt_window1": near(None, None, 0.0505, 0.099 / root, 100 * 0.0495 / 0.0505, 2),
        "persistence": near(None, None, 0.1, 0, 0, 2),
    }
    names = ("mean", "sd", "n")
    partial = near(75, 50 / root, 2, 0, None, 1)
    decay0 = near(100, 100 / root, 2, 0, None, 1)
    assert shown(made, *(f"{floor}_{name}" for floor in ("recovery", "recovery_decay0") for name in names)) == {
        "traces_decay095": near(0, 0, 2, -100, None, 1),
        "traces_decay0": decay0,
        "k4": partial,
        "k8": partial,
        "k16": partial,
        "k32": partial,
        "full": near(100, 0, 2, 100, None, 1),
        "bptt_window1": decay0,
        "persistence": near(50, 0, 2, 0, None, 1),
    }
    assert (made.complete, made.cells, made.missing.rows()) == (True, 16, [])
    assert made.command == "raysweep resume paper/e1-sine"
    assert made.settings == {"hidden": 64, "lr": 0.001, "workload": "online_rnn", "workload_version": "1"}
    assert [note for note in made.notes if "From the" in note] == [
        "From the decay 0 floor there is a gap on 1 of 2 seeds only: elsewhere full RTRL is no better than k = 0 "
        "with decay 0, and Eq. 10 means nothing. Its recovery is over the seeds with a gap, a selection in favour "
        "of full RTRL. Over all seeds, full RTRL's MSE is 1 times that of k = 0 with decay 0 (geometric mean)."
    ]
    assert made.notes[-1] == "Settings: hidden=64, lr=0.001, workload=online_rnn, workload_version=1."


def test_the_papers_numbers_stand_beside() -> None:
    made = table(store(*WHOLE))
    columns = ("paper_mse", "paper_mse_mark", "paper_recovery", "paper_recovery_upper", "paper_recovery_sd")
    nothing = (None,) * 5
    assert shown(made, *columns, "paper_recovery_mark") == {
        "traces_decay095": (0.23, "", 0.0, None, None, ""),
        "traces_decay0": (*nothing, None),
        "k4": (0.0015, "", 84.0, None, 6.0, "*"),
        "k8": (None, None, 78.0, 84.0, None, ""),
        "k16": (None, None, 78.0, 84.0, None, ""),
        "k32": (None, None, 78.0, 84.0, None, ""),
        "full": (0.0006, "†", 100.0, None, None, ""),
        "bptt_window1": (*nothing, None),
        "persistence": (*nothing, None),
    }


def test_every_value_of_the_paper_belongs_to_a_row_and_has_a_standing() -> None:
    known = paper_values("table03")
    assert set(known["row"]) <= set(table(store()).frame["row"])
    assert set(known["standing"]) <= set(STANDINGS)
    assert known.select("row", "quantity").is_duplicated().any() is False


def test_the_implied_ceiling_is_eq_10_solved() -> None:
    """.23, .0015 and 84 % give .0006."""
    assert round(0.23 * (0.0015 / 0.23) ** (1 / 0.84), 4) == 0.0006


def test_missing_cells_are_noted_with_the_command() -> None:
    """No full RTRL on seed 7, k = 8 failed there, k = 16 is pending throughout, k = 32 was never asked for."""
    frame = store(*WHOLE).filter(~((pl.col("method") == "rtrl") & (pl.col("seed") == 7)) & pl.col("k").ne_missing(32))
    status = (
        pl.when((pl.col("k") == 8) & (pl.col("seed") == 7))
        .then(pl.lit("failed"))
        .when(pl.col("k") == 16)
        .then(pl.lit("pending"))
        .otherwise("status")
    )
    made = table(frame.with_columns(status=status))
    assert made.missing.rows() == [
        ("k8", 7, "failed"),
        ("k16", 42, "pending"),
        ("k16", 7, "pending"),
        ("k32", 42, "not launched"),
        ("k32", 7, "not launched"),
        ("full", 7, "not launched"),
    ]
    assert made.notes[-1] == (
        "6 of 16 cells missing: k = 8: seed 7 (failed); k = 16: all seeds (pending); k = 32: all seeds (not launched); "
        "k = 64 (full RTRL): seed 7 (not launched). To run them: raysweep resume paper/e1-sine"
    )
    assert "Recovery leaves out seeds whose floor or full RTRL is missing." in made.notes
    assert not made.complete
    assert shown(made, "n", "recovery_n")["k4"] == (2, 1)
    assert shown(made, "n", "recovery_n", "recovery_absent")["k32"] == (0, 0, 0)


def test_a_seed_without_the_decay_0_floor_only_is_noted_too() -> None:
    made = table(store(*(c for c in WHOLE if '"decay": 0.0' not in str(c["config"]) or c["seed"] == 42)))
    assert "Recovery leaves out seeds whose floor or full RTRL is missing." in made.notes
    assert shown(made, "recovery_n", "recovery_decay0_n")["k4"] == (2, 1)


def test_a_diverged_cell_is_done_without_a_value() -> None:
    made = table(store(*whole_seed(42, 1.0, 0.1, 0.1, 0.01), cell("sparse_rtrl", 4, 7, None)))
    assert shown(made, "n", "without_value")["k4"] == (1, 1)
    assert "Diverged, so without an MSE and not in the means: k = 4: seed 7." in made.notes


def test_an_empty_store_asks_for_the_papers_seeds() -> None:
    made = table(store())
    assert made.missing.filter(pl.col("row") == "k4")["seed"].to_list() == [42, 123, 7, 2024, 31337]
    assert made.command == "raysweep launch paper/e1-sine"
    assert made.notes[-1] == "None of the 40 cells has been launched: raysweep launch paper/e1-sine"
    assert made.frame["n"].to_list() == [0] * 9


def test_nothing_done_yet_needs_no_metric_columns() -> None:
    frame = store(cell("sparse_rtrl", 4, 42, None, "pending"))
    made = table(frame.drop("mse_post_last_500", "persistence_post_last_500"))
    assert made.missing.rows()[:2] == [("traces_decay095", 42, "not launched"), ("traces_decay0", 42, "not launched")]
    assert made.missing.height == made.cells == 8


def test_other_cells_of_the_experiment_are_not_its_business() -> None:
    others = [
        cell("sparse_rtrl", 4, 42, 9.0, hidden=128),
        cell("sparse_rtrl", 1, 42, 9.0, lr=0.1),
        cell("sparse_rtrl", 4, 42, 9.0, experiment="lorenz"),
        cell("bptt", None, 42, 9.0, window=10),
        cell("traces", 0, 42, 9.0, decay=0.5),
        cell("uoro", None, 42, 9.0, lr=0.1),
    ]
    assert table(store(*WHOLE, *others)).frame.equals(table(store(*WHOLE)).frame)


def test_two_settings_are_refused_naming_how_to_choose() -> None:
    with pytest.raises(AmbiguousCells) as raised:
        table(store(*WHOLE, cell("sparse_rtrl", 4, 123, 0.1, lr=0.01, version="2")))
    assert str(raised.value) == (
        "the table needs cells of one setting, and the store has several that fit it:\n"
        "  lr: 0.001 (16 cells), 0.01 (1 cells)\n"
        '  workload_version: "1" (16 cells), "2" (1 cells)\n'
        "Say which by --where, for example --where \"lr = 0.001 and workload_version = '1'\""
    )


def test_a_setting_that_only_some_methods_have_is_one_setting() -> None:
    cells = [cell("sparse_rtrl", 4, 42, 0.1, selection="ring"), cell("rtrl", None, 42, 0.1, selection=None)]
    assert table(store(*cells)).settings["selection"] == "ring"


def test_a_setting_that_differs_within_a_method_by_null_is_refused() -> None:
    cells = [cell("sparse_rtrl", 4, 42, 0.1, selection="ring"), cell("sparse_rtrl", 8, 42, 0.1, selection=None)]
    with pytest.raises(AmbiguousCells, match=r'selection: "ring" \(1 cells\), null \(1 cells\)'):
        table(store(*cells))


def test_two_cells_for_a_row_and_seed_are_refused_naming_them() -> None:
    with pytest.raises(AmbiguousCells) as raised:
        table(store(cell("bptt", None, 7, 1.0, window=1), cell("bptt", 3, 7, 1.0, window=1)))
    assert str(raised.value) == (
        "more than one cell for the same row and seed; say which by --where:\n"
        "  bptt_window1, seed 7: cells c0, c1 differ in k (null, 3)"
    )


def test_a_frame_that_is_not_the_wide_cells_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the frame of cells has no column k, config; it has cell_id, "):
        table(store(*WHOLE).drop("k", "config"))
    with pytest.raises(InputError, match=r"^the done cells have no metric 'mse_post_last_500'; columns: cell_id, "):
        table(store(*WHOLE).drop("mse_post_last_500"))


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(UnknownName) as raised:
        TABLES["33"]
    assert str(raised.value) == "unknown table '33'; did you mean '3'? Known: 3"
