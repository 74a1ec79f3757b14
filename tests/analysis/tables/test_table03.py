"""Table 3: small cases by hand; what it says of seeds without a gap, of diverged and of missing cells."""

from __future__ import annotations

import math

import polars as pl
import pytest

from raysweep.analysis.cells.launch_options import LAUNCHED_WITH
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.tables import TABLES, Table
from tests.analysis.store_frames import SCHEMA, cell, frame, one_seed

OURS = ("mse_mean", "mse_sd", "n", "recovery_mean", "recovery_sd", "recovery_n")
DECAY0 = ("recovery_decay0_mean", "recovery_decay0_sd", "recovery_decay0_n")
approx = pytest.approx


def table3(cells: pl.DataFrame) -> Table:
    return TABLES["3"](Source(cells, lambda _: pl.DataFrame(schema=ARRAYS_SCHEMA)))


def ours(table: Table, row: str, names: tuple[str, ...] = OURS) -> tuple[object, ...]:
    return table.frame.filter(pl.col("row") == row).select(names).row(0)


def note(table: Table, start: str) -> str:
    """The one note that starts so, or nothing."""
    notes = [text for text in table.notes if text.startswith(start)]
    assert len(notes) <= 1
    return notes[0] if notes else ""


def test_two_seeds_by_hand() -> None:
    """Seed 1: .1 is half way from 1 to .01; seed 2: .1 is all the way to its own ceiling of .1."""
    table = table3(frame(one_seed(1) + one_seed(2, full=0.1, decay0=0.2)))
    assert table.frame["row"].to_list() == [
        "traces_decay095",
        "traces_decay0",
        *("k4", "k8", "k16", "k32"),
        "full",
        "bptt_window1",
        "persistence",
        "rls2",
    ]
    assert table.frame["k"].to_list() == [0, 0, 4, 8, 16, 32, 64, None, None, None]
    assert table.frame["fraction_percent"].to_list() == [0, 0, 6.25, 12.5, 25, 50, 100, None, None, None]
    assert ours(table, "traces_decay095") == (1.0, 0.0, 2, approx(0), None, 2)
    assert ours(table, "k4") == (approx(0.1), approx(0), 2, approx(75), approx(50 / math.sqrt(2)), 2)
    assert ours(table, "k32") == (approx(0.01), approx(0), 2, approx(150), approx(100 / math.sqrt(2)), 2)
    assert ours(table, "full") == (approx(0.055), approx(0.09 / math.sqrt(2)), 2, approx(100), None, 2)
    assert ours(table, "persistence") == (approx(0.1), approx(0), 2, approx(75), approx(50 / math.sqrt(2)), 2)
    cv = table.frame.filter(pl.col("row") == "full")["mse_cv_percent"].item()
    assert cv == approx(100 * 0.045 / 0.055)  # population sd of .01 and .1
    # Over both seeds k = 4 gains ln 10 each time, of gaps of ln 100 and ln 10.
    average = ("mse_average", "recovery_average")
    assert ours(table, "k4", average) == (approx(0.1), approx(100 * 2 / 3))
    assert ours(table, "full", average) == (approx(math.sqrt(0.001)), approx(100))
    # From decay 0: seed 1 from .1, seed 2 from .2 to .1.
    assert ours(table, "k4", DECAY0) == (approx(50), approx(100 / math.sqrt(2)), 2)
    assert ours(table, "traces_decay0", DECAY0) == (approx(0), None, 2)
    assert (table.complete, table.cells, table.sweeps) == (True, 16, ("paper/e1-sine",))
    assert [note(table, start) for start in ("Eq. 10 needs", "Diverged", "Recovery leaves out")] == [""] * 3
    assert note(table, "Settings") == (
        "Settings: hidden=64, learning_rate=0.001, selection=ring, stream=sine, "
        "workload=online_rnn, workload_version=1."
    )


def test_the_papers_numbers_stand_beside_ours_and_what_is_lost_stays_lost() -> None:
    table = table3(frame(one_seed(1)))
    paper = table.frame.select(
        "row",
        "paper_mse_mean",
        "paper_mse_standing",
        "paper_recovery_mean",
        "paper_recovery_upper",
        "paper_recovery_sd",
    )
    assert paper.rows() == [
        ("traces_decay095", 0.23, "text", 0.0, None, None),
        ("traces_decay0", None, None, None, None, None),
        ("k4", 0.0015, "text", 84.0, None, 6.0),
        *((f"k{k}", None, None, 78.0, 84.0, None) for k in (8, 16, 32)),
        ("full", 0.0006, "implied", 100.0, None, None),
        ("bptt_window1", None, None, None, None, None),
        ("persistence", None, None, None, None, None),
        ("rls2", None, None, None, None, None),
    ]


def test_the_implied_mse_of_full_rtrl_is_eq_10_solved_for_the_ceiling() -> None:
    assert approx(0.0006, abs=0.00005) == 0.23 * (0.0015 / 0.23) ** (1 / 0.84)


def test_one_seed_has_no_spread() -> None:
    table = table3(frame(one_seed(42)))
    assert ours(table, "k4") == (approx(0.1), None, 1, approx(50), None, 1)
    assert table.frame["mse_cv_percent"].to_list() == [None] * 10
    assert (table.complete, table.cells) == (True, 8)


def test_seeds_without_a_gap_have_no_recovery_and_are_counted() -> None:
    """Seed 1: full .01 from .1, a gap; seed 2: .1 from .01 and seed 3: .01 from .01, none."""
    table = table3(frame([*one_seed(1), *one_seed(2, decay0=0.01, full=0.1), *one_seed(3, decay0=0.01)]))
    assert ours(table, "k32", DECAY0) == (approx(100), None, 1)
    assert note(table, "Eq. 10 needs") == (
        "Eq. 10 needs a gap: full RTRL is no better than k = 0, decay 0 on 2 of 3 seeds; over all of them there is "
        "nothing to recover from that floor. Full RTRL's MSE is 1 times that of k = 0, decay 0 (geometric mean)."
    )
    assert ours(table, "k4", ("recovery_average", "recovery_decay0_average")) == (approx(60), None)
    assert ours(table, "k32")[-1] == 3  # from decay .95 there is a gap on every seed


def test_no_gap_on_any_seed_leaves_the_column_empty() -> None:
    table = table3(frame(one_seed(1, decay0=0.001) + one_seed(2, decay0=0.001)))
    assert [ours(table, row, DECAY0) for row in ("k4", "full")] == [(None, None, 0), (None, None, 0)]
    assert "on 2 of 2 seeds; over all of them there is nothing to recover" in note(table, "Eq. 10 needs")
    assert "Full RTRL's MSE is 10 times" in note(table, "Eq. 10 needs")


def test_diverged_seeds_are_counted_and_named_not_averaged() -> None:
    table = table3(frame(one_seed(1, k4=None) + one_seed(2) + one_seed(3, full=None)))
    assert ours(table, "k4") == (approx(0.1), approx(0), 2, approx(50), None, 1)
    assert ours(table, "full") == (approx(0.01), approx(0), 2, approx(100), None, 2)
    assert table.frame["without_value"].to_list() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    assert note(table, "Diverged") == ("Diverged, so not in the means: k = 4: seed 1; k = 64 (full): seed 3.")
    assert table.complete


def test_missing_cells_are_listed_with_their_status() -> None:
    cells = one_seed(42) + one_seed(7)
    cells[2] |= {"status": "failed", "mse_post_last_500": None}  # k = 4, seed 42
    cells[8 + 2] |= {"status": "pending", "mse_post_last_500": None}  # k = 4, seed 7
    del cells[8 + 6]  # full, seed 7
    table = table3(frame(cells))
    assert table.missing.rows() == [("k4", 42, "failed"), ("k4", 7, "pending"), ("full", 7, "not launched")]
    assert table.notes[-1] == (
        "3 of 16 cells missing: k = 4: seed 42 (failed); k = 4: seed 7 (pending); "
        "k = 64 (full): seed 7 (not launched). To run them: raysweep resume paper/e1-sine"
    )
    assert table.command == "raysweep resume paper/e1-sine"
    assert ours(table, "k4") == (None, None, 0, None, None, 0)
    assert ours(table, "k8") == (approx(0.1), approx(0), 2, approx(50), None, 1)  # no ceiling for seed 7
    assert note(table, "Recovery leaves out") == ("Recovery leaves out seeds whose floor or full RTRL is missing.")


def test_a_seed_that_lacks_one_floor_only_is_noted_and_rows_of_no_cell_count_nothing() -> None:
    cells = [row for row in one_seed(1) + one_seed(2) if row["k"] != 32]
    del cells[7 + 1]  # decay 0, seed 2
    table = table3(frame(cells))
    assert ours(table, "k4", ("recovery_n", "recovery_decay0_n")) == (2, 1)
    assert note(table, "Recovery leaves out") == "Recovery leaves out seeds whose floor or full RTRL is missing."
    assert ours(table, "k32", ("n", "without_value", "recovery_absent", "recovery_decay0_absent")) == (0, 0, 0, 0)


@pytest.mark.parametrize("column", [None, "mse_post_last_500"])
def test_an_empty_store_gives_the_papers_numbers_and_the_command(column: str | None) -> None:
    """Nothing done: the store's frame does not even have the metrics' columns."""
    empty = frame([])
    table = table3(empty.drop(column) if column else empty)
    assert table.frame["n"].to_list() == [0] * 10
    assert table.frame["mse_mean"].to_list() == [None] * 10
    assert (table.cells, table.missing.height, table.complete) == (40, 40, False)
    assert table.notes[-1] == "None of the 40 cells has been launched: raysweep launch paper/e1-sine"
    assert table.command == "raysweep launch paper/e1-sine"
    assert list(dict.fromkeys(table.missing["seed"].to_list())) == [42, 123, 7, 2024, 31337]


def test_cells_of_other_rows_sizes_and_experiments_change_nothing() -> None:
    own = one_seed(1) + one_seed(2)
    others = [
        cell("traces", 0, 1, 5.0, decay=0.5),
        cell("sparse_rtrl", 2, 1, 5.0),
        cell("bptt", None, 1, 5.0, window=10),
        cell("uoro", None, 1, 5.0),
        cell("rtrl", 256, 1, 5.0, hidden=256, learning_rate=3e-4),
        cell("rtrl", 64, 1, 5.0, experiment="lorenz", stream="lorenz"),
    ]
    assert table3(frame(others + own)).frame.equals(table3(frame(own)).frame)


def test_the_rows_order_in_the_store_does_not_matter() -> None:
    cells = one_seed(1) + one_seed(2, full=0.1, decay0=0.2)
    one, other = table3(frame(cells)), table3(frame(cells[::-1]))
    assert one.frame.drop("label").to_dicts() == [
        {key: approx(value) if isinstance(value, float) else value for key, value in row.items()}
        for row in other.frame.drop("label").to_dicts()
    ]


def test_notes_on_settings_reach_the_table() -> None:
    cells = frame([*one_seed(1), cell("rtrl", 64, 1, status="failed", learning_rate=0.01)])
    notes = table3(cells.with_columns(pl.lit(" --set steps=9").alias(LAUNCHED_WITH))).notes
    assert "Not the settings of paper/e1-sine: --set steps=9." in notes
    assert "Left out of paper/e1-sine: 1 cell of other settings, not done (learning_rate=0.01)." in notes
    assert not any("Left out" in text or "Not the settings" in text for text in table3(frame(one_seed(1))).notes)


def test_the_frame_of_cells_is_not_changed() -> None:
    cells = frame(one_seed(1))
    before = cells.clone()
    table3(cells)
    assert cells.equals(before)
    assert cells.schema == SCHEMA
