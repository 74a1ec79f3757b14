"""Expected seconds of a launch: by variants, by resource, and on the wall clock."""

from __future__ import annotations

import polars as pl
import pytest

from raysweep.orchestrator.schedule.plan import Plan, plan
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import CELLS_SCHEMA, VARIANT, VARIANTS_SCHEMA, CellTable

EMPTY = Store("none").summary()


def table(*variants: dict[str, object], seeds: int = 2) -> CellTable:
    """Cells of these variants; ids are VARIANT/SEED."""
    common = {
        "sweep": "s", "experiment": "e", "workload": "w", "workload_version": "1", "source_digest": "d",
        "method": "m", "config": "{}", "cpus": 1.0, "gpus": 0.0, "retries": 1,
    }  # fmt: skip
    rows = [{**dict.fromkeys(VARIANTS_SCHEMA), **common, **v, "variant": n} for n, v in enumerate(variants)]
    cells = [(f"{n}/{seed}", n, seed) for n in range(len(rows)) for seed in range(seeds)]
    return CellTable(
        pl.DataFrame(rows, schema=VARIANTS_SCHEMA, orient="row"), pl.DataFrame(cells, schema=CELLS_SCHEMA, orient="row")
    )


def done(attempts: int = 1, **seconds: float) -> pl.DataFrame:
    """A store's summary of done cells: id -> seconds of the attempt."""
    return pl.DataFrame(
        [
            {
                **dict.fromkeys(EMPTY.columns), "cell_id": cell, "status": "done", "attempts": attempts,
                "own_errors": attempts - 1, "seconds": s, "source_digest": "d",
            }
            for cell, s in seconds.items()
        ],
        schema=EMPTY.schema,
    )  # fmt: skip


def expected(planned: Plan) -> dict[str, float | None]:
    return dict(planned.frame.filter("run").select("cell_id", "expected_seconds").iter_rows())


def test_cells_that_never_ran_are_of_unknown_length() -> None:
    planned = plan(table({}, {}), EMPTY)
    assert set(expected(planned).values()) == {None}
    assert planned.expected().select("cells", "unknown").row(0) == (4, 4)
    assert planned.wall_seconds(lambda *_: 8) is None


def test_the_variants_own_seeds_come_first() -> None:
    cells = table({"cost_hint": 1.0}, {"cost_hint": 5.0})
    assert expected(plan(cells, done(**{"0/0": 3.0, "1/0": 99.0}))) == {"0/1": 3.0, "1/1": 99.0}


def test_hints_are_scaled_by_the_same_method_then_experiment_then_workload() -> None:
    hinted = {"cost_hint": 10.0}
    cells = table(
        hinted, {"cost_hint": 20.0}, {"method": "slow", **hinted}, {"method": "slow", "cost_hint": 40.0},
        {"method": "new", "cost_hint": 30.0}, {"experiment": "new", "cost_hint": 30.0},
    )  # fmt: skip
    ran = done(**{"0/0": 1.0, "0/1": 1.0, "2/0": 5.0, "2/1": 5.0})  # 0.1 and 0.5 s a unit
    assert expected(plan(cells, ran)) == {
        "1/0": 2.0, "1/1": 2.0, "3/0": 20.0, "3/1": 20.0,
        **dict.fromkeys(["4/0", "4/1", "5/0", "5/1"], pytest.approx(9.0)),
    }  # fmt: skip


def test_where_one_variant_ran_and_there_are_no_hints_it_stands_for_all() -> None:
    cells = table({}, {"method": "other"}, {"workload": "w2"})
    seconds = expected(plan(cells, done(**{"0/0": 4.0, "0/1": 6.0})))
    assert seconds == {"1/0": 5.0, "1/1": 5.0, "2/0": None, "2/1": None}


def test_seeds_that_are_not_requested_count_too() -> None:
    """They come before hints and other methods, and are read only if the store has such seeds."""
    cells = table({"k": 2}, {"method": "other", "k": None}, {"method": "new"})
    others = done(**{"7/0": 1.0, "7/1": 1.0})
    keys = cells.variants.select(VARIANT)
    times = keys.with_columns(seconds=pl.Series([3.0, 8.0, None]))
    seconds = expected(plan(cells, others, lambda: times))
    assert seconds == {"0/0": 3.0, "0/1": 3.0, "1/0": 8.0, "1/1": 8.0, "2/0": None, "2/1": None}
    mixed = pl.concat([others, done(**{"2/0": 100.0})])
    assert expected(plan(cells, mixed, lambda: times)) == {"0/0": 3.0, "0/1": 3.0, "1/0": 8.0, "1/1": 8.0, "2/1": 100.0}
    elsewhere = times.with_columns(workload_version=pl.lit("0"))
    assert set(expected(plan(cells, others, lambda: elsewhere)).values()) == {None}
    requested = done(**{"0/0": 4.0})
    assert expected(plan(cells, requested, lambda: pytest.fail("nothing else is there")))["0/1"] == 4.0


def test_a_hint_that_is_not_positive_is_ignored() -> None:
    cells = table({"cost_hint": 0.0}, {"cost_hint": 2.0}, {"cost_hint": -1.0})
    seconds = expected(plan(cells, done(**{"0/0": 4.0, "1/0": 6.0})))
    assert seconds == {"0/1": 4.0, "1/1": 6.0, "2/0": 5.0, "2/1": 5.0}


def test_attempts_that_failed_are_no_measure() -> None:
    failed = done(**{"0/0": 3.0}).with_columns(
        status=pl.lit("failed"), seconds=pl.lit(None, pl.Float64), attempts=pl.lit(1, pl.Int32)
    )
    planned = plan(table({}), pl.concat([failed, done(3, **{"0/1": 7.0})]))
    assert expected(planned) == {"0/0": 7.0}


def test_the_longest_go_first_and_before_them_those_of_unknown_length() -> None:
    cells = table({"cost_hint": 1.0}, {"cost_hint": 3.0}, {"cost_hint": 2.0}, {"workload": "w2"})
    planned = plan(cells, done(**{"0/0": 1.0}))
    assert planned.frame["cell_id"].gather(planned.order).to_list() == [
        "3/0", "3/1", "1/0", "1/1", "2/0", "2/1", "0/1",
    ]  # fmt: skip


def test_the_wall_clock_counts_what_runs_at_once() -> None:
    cells = table({}, {"cpus": 2.0}, {"gpus": 1.0}, seeds=5)
    planned = plan(cells, done(**{"0/0": 10.0, "1/0": 20.0, "2/0": 7.0}))  # 4 of each are left
    room = {(1.0, 0.0): 4, (2.0, 0.0): 2, (1.0, 1.0): 1}
    assert planned.wall_seconds(lambda cpus, gpus, *_: room[cpus, gpus]) == 40 / 4 + 80 / 2
    assert planned.wall_seconds(lambda cpus, gpus, *_: 1 if gpus else 1000) == 28
    assert planned.wall_seconds(lambda *_: 1000) == 20  # its longest cell
    assert planned.wall_seconds(lambda cpus, gpus, *_: 0 if gpus else 4) is None
    hours = planned.expected().select("cpus", "gpus", "cpu_hours", "gpu_hours").rows()
    assert hours == [
        (1.0, 0.0, pytest.approx(40 / 3600), 0.0), (1.0, 1.0, *[pytest.approx(28 / 3600)] * 2),
        (2.0, 0.0, pytest.approx(160 / 3600), 0.0),
    ]  # fmt: skip


def test_plan_and_launch_show_the_forecast(cli, write) -> None:
    write("nap.py", "import time\ndef run(cell, context):\n    time.sleep(0.2)\n    return {}\n")
    write("nap.toml", 'name="nap"\nworkload="nap:run"\nseeds="0..9"\n[[grid]]\nmethod="m"\n')
    assert "duration unknown for 10\ntime: unknown on this machine\n" in cli("plan", "nap.toml").stdout
    launched = cli("launch", "nap.toml", "--inline", "--where", "seed < 2", "--max-parallel", "2")
    assert "duration unknown for 2; time: unknown in this process, at most 2 at once\n" in launched.stderr
    planned = cli("plan", "nap.toml").stdout
    assert "to run: 8 cells on 1 CPU each; under 0.01 CPU-hours\ntime: about 1 s on this machine" in planned
    others = cli("plan", "nap.toml", "--seeds", "20..24").stdout
    assert "to run: 5 cells on 1 CPU each; under 0.01 CPU-hours\ntime: about 1 s on this machine" in others
    launched = cli("launch", "nap.toml", "--inline")
    assert "CPU-hours; time: about 2 s in this process\n" in launched.stderr
    assert cli("launch", "nap.toml", "--inline").stderr == ""
