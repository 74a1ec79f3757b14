from __future__ import annotations

import json
import math
import re

import polars as pl
import pytest

from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.errors import AmbiguousCells
from raysweep.analysis.tables import TABLES, Table
from raysweep.orchestrator.errors import InputError
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
    found = [text for text in table.notes if text.startswith(start)]
    assert len(found) <= 1
    return found[0] if found else ""


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


def test_where_full_rtrl_does_not_beat_decay_0_there_is_nothing_to_recover_and_the_table_says_so() -> None:
    """Seed 1: full .01 from .1, a gap; seed 2: .1 from .01 and seed 3: .01 from .01, none."""
    table = table3(frame([*one_seed(1), *one_seed(2, decay0=0.01, full=0.1), *one_seed(3, decay0=0.01)]))
    assert ours(table, "k32", DECAY0) == (approx(100), None, 1)
    assert note(table, "Eq. 10 needs") == (
        "Eq. 10 needs a gap: full RTRL is no better than k = 0, decay 0 on 2 of 3 seeds; recovery from "
        "that floor is over the other seeds, a selection in favour of full RTRL. Over all 3, full RTRL's MSE "
        "is 1 times that of k = 0, decay 0 (geometric mean)."
    )
    assert ours(table, "k32")[-1] == 3  # from decay .95 there is a gap on every seed


def test_no_gap_on_any_seed_leaves_the_column_empty() -> None:
    table = table3(frame(one_seed(1, decay0=0.001) + one_seed(2, decay0=0.001)))
    assert [ours(table, row, DECAY0) for row in ("k4", "full")] == [(None, None, 0), (None, None, 0)]
    assert "on 2 of 2 seeds; recovery from that floor is null throughout" in note(table, "Eq. 10 needs")
    assert "full RTRL's MSE is 10 times" in note(table, "Eq. 10 needs")


def test_diverged_seeds_are_counted_and_named_not_averaged() -> None:
    table = table3(frame(one_seed(1, k4=None) + one_seed(2) + one_seed(3, full=None)))
    assert ours(table, "k4") == (approx(0.1), approx(0), 2, approx(50), None, 1)
    assert ours(table, "full") == (approx(0.01), approx(0), 2, approx(100), None, 2)
    assert table.frame["without_value"].to_list() == [0, 0, 1, 0, 0, 0, 1, 0, 0, 0]
    assert note(table, "Diverged") == (
        "Diverged, so without a value and not in the means: k = 4: seed 1; k = 64 (full): seed 3."
    )
    assert table.complete


def test_missing_cells_are_listed_with_what_became_of_them() -> None:
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
    nothing = frame([])
    table = table3(nothing.drop(column) if column else nothing)
    assert table.frame["n"].to_list() == [0] * 10
    assert table.frame["mse_mean"].to_list() == [None] * 10
    assert (table.cells, table.missing.height, table.complete) == (40, 40, False)
    assert table.notes[-1] == "None of the 40 cells has been launched: raysweep launch paper/e1-sine"
    assert table.command == "raysweep launch paper/e1-sine"
    assert list(dict.fromkeys(table.missing["seed"].to_list())) == [42, 123, 7, 2024, 31337]


def test_cells_that_are_not_the_tables_business_change_nothing() -> None:
    mine = one_seed(1) + one_seed(2)
    others = [
        cell("traces", 0, 1, 5.0, decay=0.5),
        cell("sparse_rtrl", 2, 1, 5.0),
        cell("bptt", None, 1, 5.0, window=10),
        cell("uoro", None, 1, 5.0),
        cell("rtrl", 256, 1, 5.0, hidden=256, learning_rate=3e-4),
        cell("rtrl", 64, 1, 5.0, experiment="lorenz", stream="lorenz"),
    ]
    assert table3(frame(others + mine)).frame.equals(table3(frame(mine)).frame)


def test_the_rows_order_in_the_store_does_not_matter() -> None:
    cells = one_seed(1) + one_seed(2, full=0.1, decay0=0.2)
    one, other = table3(frame(cells)), table3(frame(cells[::-1]))
    assert one.frame.drop("label").to_dicts() == [
        {key: approx(value) if isinstance(value, float) else value for key, value in row.items()}
        for row in other.frame.drop("label").to_dicts()
    ]


def test_other_settings_are_refused_naming_them_and_the_choice() -> None:
    cells = [*one_seed(1), cell("sparse_rtrl", 4, 1, 0.3, learning_rate=0.01)]
    with pytest.raises(AmbiguousCells) as raised:
        table3(frame(cells))
    assert str(raised.value) == (
        "the table needs cells of one setting, and the store has several that fit it:\n"
        "  learning_rate: 0.001 (8 cells), 0.01 (1 cell)\n"
        'Say which by --where, for example --where "learning_rate = 0.001"'
    )


def test_other_settings_of_which_nothing_is_done_are_left_out_and_counted() -> None:
    """They can't be deleted, so they must not bar the way to what is done."""
    others = [
        cell("sparse_rtrl", 4, 1, status="failed", learning_rate=0.01),
        cell("rtrl", 64, 9, status="pending", learning_rate=0.01),
        cell("traces", 0, 1, status="pending", version="2", decay=0.95),
    ]
    table = table3(frame([*others, *one_seed(1)]))
    assert (table.complete, table.cells, table.settings["learning_rate"]) == (True, 8, 0.001)
    said = (
        "Left out of paper/e1-sine: 3 cells of other settings, none of them done "
        "(learning_rate=0.01: 2 cells; workload_version=2: 1 cell)."
    )
    assert said in table.notes
    one = table3(frame([*others[:1], *one_seed(1)])).notes
    assert "Left out of paper/e1-sine: 1 cell of other settings, not done (learning_rate=0.01)." in one
    assert not any("Left out" in note for note in table3(frame(one_seed(1))).notes)


def test_cells_not_done_of_the_same_setting_are_missing_and_not_left_out() -> None:
    cells = [*one_seed(1), *(row | {"seed": 2, "status": "pending"} for row in one_seed(2))]
    table = table3(frame(cells))
    assert (table.cells, table.missing.height) == (16, 8)
    assert not any("Left out" in note for note in table.notes)


def test_of_the_same_row_and_seed_the_done_cell_is_taken() -> None:
    """What tells rows apart is no shared setting: of full RTRL the k may be any."""
    table = table3(frame([cell("rtrl", 32, 1, status="failed"), *one_seed(1)]))
    assert table.complete
    said = "Left out of paper/e1-sine: 1 cell of other settings, not done (k=32)."
    assert said in table.notes


def test_the_choice_is_of_values_that_go_together() -> None:
    """Half of each: the first by name of every setting, on its own, would choose no cell at all."""
    cells = [*one_seed(1), *(cell(r["method"], r["k"], 1, 0.5, decay=json.loads(r["config"])["decay"],
             window=json.loads(r["config"])["window"], data="b", stream="a") for r in one_seed(1))]  # fmt: skip
    cells[:8] = [each | {"config": each["config"].replace("{", '{"data": "a", ', 1)} for each in cells[:8]]
    with pytest.raises(AmbiguousCells, match=re.escape("--where \"data = 'a' and stream = 'sine'\"")):
        table3(frame(cells))


def test_several_settings_of_which_none_is_done_are_refused() -> None:
    cells = [cell("rtrl", 64, 1, status="failed", learning_rate=rate) for rate in (0.01, 0.001)]
    with pytest.raises(AmbiguousCells, match=r"learning_rate: 0\.001 \(1 cell\), 0\.01 \(1 cell\)"):
        table3(frame(cells))


def test_rows_of_different_settings_are_not_compared_though_each_is_of_one() -> None:
    """No seed is there twice, yet full RTRL learnt at another rate than the rest."""
    cells = one_seed(1)
    cells[6] = cell("rtrl", 64, 1, 0.01, learning_rate=3e-4)
    with pytest.raises(AmbiguousCells, match=r"learning_rate: 0\.001 \(7 cells\), 0\.0003 \(1 cell\)"):
        table3(frame(cells))


def test_a_method_of_two_selections_and_a_setting_that_a_method_lacks() -> None:
    """Selection is null for the other methods, which is no difference; ring and random are one."""
    with pytest.raises(AmbiguousCells, match=r"--where \"\(selection = 'ring' OR selection IS NULL\)\"$") as raised:
        table3(frame(one_seed(1) + [cell("sparse_rtrl", k, 1, 0.3, selection="random") for k in (4, 8)]))
    assert '"ring" (4 cells), null (4 cells), "random" (2 cells)' in str(raised.value)


def test_a_null_within_one_method_is_a_setting_of_its_own() -> None:
    cells = [*one_seed(1), *(row | {"seed": 2} for row in one_seed(1))]
    cells[6] = cell("rtrl", 64, 1, 0.01, clip=None)
    cells[14] = cell("rtrl", 64, 2, 0.01, clip=1.0)
    with pytest.raises(AmbiguousCells, match=r"clip: 1\.0 \(1 cell\), null \(1 cell\)"):
        table3(frame(cells))


def test_a_setting_added_to_the_workload_later_is_no_difference() -> None:
    cells = one_seed(1) + [row | {"config": row["config"].replace("{", '{"leak": 0.0, ', 1)} for row in one_seed(2)]
    table = table3(frame(cells))
    assert (ours(table, "k4")[2], table.settings["leak"]) == (2, 0.0)


def test_two_versions_of_the_workload_are_refused() -> None:
    newer = [row | {"workload_version": "2"} for row in one_seed(1)]
    with pytest.raises(AmbiguousCells, match=re.escape("--where \"workload_version = '1'\"")):
        table3(frame(one_seed(1) + newer))


def test_the_same_row_and_seed_twice_is_refused_naming_the_cells() -> None:
    """What one setting cannot tell: k, where a row takes whatever it is."""
    cells = [*one_seed(1), cell("bptt", 1, 1, 0.2, window=1), cell("rtrl", 64, 1, 0.2)]
    with pytest.raises(AmbiguousCells) as raised:
        table3(frame(cells))
    assert str(raised.value) == (
        "more than one cell for the same row and seed:\n"
        "  full, seed 1: cells cell6, cell9 differ in nothing that a config says\n"
        "  bptt_window1, seed 1: cells cell7, cell8 differ in k (null, 1)\n"
        "Say which by --where, for example --where \"cell_id NOT IN ('cell8', 'cell9')\""
    )


def test_done_cells_without_the_metric_are_refused_with_the_columns_there_are() -> None:
    with pytest.raises(InputError, match=r"no metric 'mse_post_last_500'; columns: cell_id, config, diverged"):
        table3(frame(one_seed(1)).drop("mse_post_last_500"))


def test_a_frame_that_is_not_of_cells_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the frame of cells has no column status, config; it has cell_id"):
        table3(frame([]).drop("config", "status"))


def test_the_frame_given_is_left_as_it_was() -> None:
    given = frame(one_seed(1))
    before = given.clone()
    table3(given)
    assert given.equals(before)
    assert given.schema == SCHEMA
