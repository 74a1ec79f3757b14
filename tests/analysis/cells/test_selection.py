"""Selection of cells: one setting, one cell a row and seed; cells left out are counted, ambiguous ones refused."""

from __future__ import annotations

import json
import re
from typing import Any

import polars as pl
import pytest

from raysweep.analysis.cells.notes import origin_notes
from raysweep.analysis.cells.selection import Selected, in_order, select
from raysweep.analysis.cells.source import ARRAYS_SCHEMA, Source
from raysweep.analysis.errors import AmbiguousCells
from raysweep.analysis.tables.spec import Panel
from raysweep.analysis.tables.table03 import PANEL
from raysweep.orchestrator.errors import InputError
from tests.analysis.store_frames import cell, frame, one_seed


def selected(cells: list[dict[str, Any]], *dropped: str) -> Selected[Panel]:
    """The cells of Table 3."""
    return select(Source(frame(cells).drop(dropped), lambda _: pl.DataFrame(schema=ARRAYS_SCHEMA)), PANEL)


def test_other_settings_are_refused_naming_them_and_the_choice() -> None:
    cells = [*one_seed(1), cell("sparse_rtrl", 4, 1, 0.3, learning_rate=0.01)]
    with pytest.raises(AmbiguousCells) as raised:
        selected(cells)
    assert str(raised.value) == (
        "the table needs cells of one setting, but cells of several settings fit it:\n"
        "  learning_rate: 0.001 (8 cells), 0.01 (1 cell)\n"
        'Choose by --where, for example --where "learning_rate = 0.001"'
    )


def test_undone_cells_of_other_settings_are_left_out_and_counted() -> None:
    """They can't be deleted, so they must not bar the way to what is done."""
    others = [
        cell("sparse_rtrl", 4, 1, status="failed", learning_rate=0.01),
        cell("rtrl", 64, 9, status="pending", learning_rate=0.01),
        cell("traces", 0, 1, status="pending", version="2", decay=0.95),
    ]
    part = selected([*others, *one_seed(1)])
    assert (part.missing.height, part.expected, part.settings["learning_rate"]) == (0, 8, 0.001)
    assert part.left_out["differs"].to_list() == ["learning_rate=0.01"] * 2 + ["workload_version=2"]
    assert origin_notes([part]) == [
        "Left out of paper/e1-sine: 3 cells of other settings, none of them done "
        "(learning_rate=0.01: 2 cells; workload_version=2: 1 cell)."
    ]
    one = selected([*others[:1], *one_seed(1)])
    assert origin_notes([one, one]) == [
        "Left out of paper/e1-sine: 1 cell of other settings, not done (learning_rate=0.01)."
    ]
    assert origin_notes([selected(one_seed(1))]) == []


def test_cells_not_done_of_the_same_setting_are_missing_and_not_left_out() -> None:
    cells = [*one_seed(1), *(row | {"seed": 2, "status": "pending"} for row in one_seed(2))]
    part = selected(cells)
    assert (part.expected, part.missing.height, part.left_out.height) == (16, 8, 0)


def test_a_done_cell_takes_precedence_over_others_of_its_row_and_seed() -> None:
    """What tells rows apart is no shared setting: of full RTRL the k may be any."""
    part = selected([cell("rtrl", 32, 1, status="failed"), *one_seed(1)])
    assert part.missing.is_empty()
    assert part.left_out["differs"].to_list() == ["k=32"]


def test_the_choice_is_of_values_that_go_together() -> None:
    """Half of each: the first by name of every setting, on its own, would choose no cell at all."""
    cells = [*one_seed(1), *(cell(r["method"], r["k"], 1, 0.5, decay=json.loads(r["config"])["decay"],
             window=json.loads(r["config"])["window"], data="b", stream="a") for r in one_seed(1))]  # fmt: skip
    cells[:8] = [each | {"config": each["config"].replace("{", '{"data": "a", ', 1)} for each in cells[:8]]
    with pytest.raises(AmbiguousCells, match=re.escape("--where \"data = 'a' and stream = 'sine'\"")):
        selected(cells)


def test_several_settings_of_which_none_is_done_are_refused() -> None:
    cells = [cell("rtrl", 64, 1, status="failed", learning_rate=rate) for rate in (0.01, 0.001)]
    with pytest.raises(AmbiguousCells, match=r"learning_rate: 0\.001 \(1 cell\), 0\.01 \(1 cell\)"):
        selected(cells)


def test_rows_of_different_settings_are_refused_though_each_is_of_one() -> None:
    """No seed is there twice, yet full RTRL learnt at another rate than the rest."""
    cells = one_seed(1)
    cells[6] = cell("rtrl", 64, 1, 0.01, learning_rate=3e-4)
    with pytest.raises(AmbiguousCells, match=r"learning_rate: 0\.001 \(7 cells\), 0\.0003 \(1 cell\)"):
        selected(cells)


def test_a_method_of_two_selections_and_a_setting_that_a_method_lacks() -> None:
    """Selection is null for the other methods, which is no difference; ring and random are one."""
    with pytest.raises(AmbiguousCells, match=r"--where \"\(selection = 'ring' OR selection IS NULL\)\"$") as raised:
        selected(one_seed(1) + [cell("sparse_rtrl", k, 1, 0.3, selection="random") for k in (4, 8)])
    assert '"ring" (4 cells), null (4 cells), "random" (2 cells)' in str(raised.value)


def test_a_null_within_one_method_is_a_setting_of_its_own() -> None:
    cells = [*one_seed(1), *(row | {"seed": 2} for row in one_seed(1))]
    cells[6] = cell("rtrl", 64, 1, 0.01, clip=None)
    cells[14] = cell("rtrl", 64, 2, 0.01, clip=1.0)
    with pytest.raises(AmbiguousCells, match=r"clip: 1\.0 \(1 cell\), null \(1 cell\)"):
        selected(cells)


def test_a_setting_added_to_the_workload_later_is_no_difference() -> None:
    cells = one_seed(1) + [row | {"config": row["config"].replace("{", '{"leak": 0.0, ', 1)} for row in one_seed(2)]
    part = selected(cells)
    assert (part.done.filter(row="k4").height, part.settings["leak"]) == (2, 0.0)


def test_two_versions_of_the_workload_are_refused() -> None:
    newer = [row | {"workload_version": "2"} for row in one_seed(1)]
    with pytest.raises(AmbiguousCells, match=re.escape("--where \"workload_version = '1'\"")):
        selected(one_seed(1) + newer)


def test_the_same_row_and_seed_twice_is_refused_naming_the_cells() -> None:
    """What one setting cannot tell: k, where a row takes whatever it is."""
    cells = [*one_seed(1), cell("bptt", 1, 1, 0.2, window=1), cell("rtrl", 64, 1, 0.2)]
    with pytest.raises(AmbiguousCells) as raised:
        selected(cells)
    assert str(raised.value) == (
        "more than one cell for the same row and seed:\n"
        "  full, seed 1: cells cell6, cell9 differ in no config key\n"
        "  bptt_window1, seed 1: cells cell7, cell8 differ in k (null, 1)\n"
        "Choose by --where, for example --where \"cell_id NOT IN ('cell8', 'cell9')\""
    )


def test_done_cells_without_the_metric_are_refused_with_the_columns_there_are() -> None:
    with pytest.raises(InputError, match=r"no metric 'mse_post_last_500'; columns: cell_id, config, diverged"):
        selected(one_seed(1), "mse_post_last_500").values()


def test_a_frame_that_is_not_of_cells_is_refused() -> None:
    with pytest.raises(InputError, match=r"^the frame of cells has no column status, config; it has cell_id"):
        selected([], "config", "status")


def test_the_papers_seeds_come_first_the_others_ascending() -> None:
    assert in_order([5, 7, 42, 1, 7]) == (42, 7, 1, 5)
