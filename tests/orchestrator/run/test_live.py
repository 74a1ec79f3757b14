"""What a running cell prints and logs is seen while it runs, and kept if it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import polars as pl
import pytest

from raysweep import Store, launch
from raysweep.orchestrator.errors import StoreDamaged
from raysweep.orchestrator.run.curves import LoggedCurve, as_arrays
from raysweep.orchestrator.store import live
from raysweep.orchestrator.store.repair import survey
from tests.command_line import Ended
from tests.orchestrator.sweeps import sweep_of

LOGS = """
    import os, time

    def run(cell, context):
        for step in range(0, 50, 10):
            context.log(step, loss=1.0 / (1 + step), accuracy=float("nan"))
        os.write(1, b"half way\\n")
        while not os.path.exists("go on"):
            time.sleep(0.05)
        context.log(50, loss=0.5)
        if cell.seed == 1:
            raise ValueError("too bad")
        return {"loss": 0.5}
"""


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_curves_and_output_of_a_running_cell_are_seen_and_kept_when_it_fails(write, cli: Callable[..., Ended]) -> None:
    write("logs.py", LOGS)
    sweep = sweep_of("logs:run", "[resources]\nretries=0", seeds="[1, 2]")
    runs = threading.Thread(target=launch, args=(sweep,), kwargs={"inline": True}, daemon=True)
    runs.start()
    wait_for(lambda: Store().exists() and Store().live())
    began = time.time()
    store = Store()
    rows = store.sql("SELECT attempt, step, name, value, logged_at FROM live WHERE name = 'loss' ORDER BY step")
    assert rows["step"].to_list() == [0, 10, 20, 30, 40]
    assert rows["value"].to_list() == [1 / (1 + step) for step in range(0, 50, 10)]
    assert abs(rows["logged_at"][-1].timestamp() - began) < 20
    assert store.sql("SELECT count(*) AS n FROM live WHERE isnan(value)")["n"].item() == 5
    cell_id = store.live()[0].cell_id
    write("go on", "")
    runs.join(20)

    assert store.live() == []
    assert store.storage.names("_live") == []
    assert cli("logs", cell_id).stdout == "half way\n"
    failed = store.sql(
        "SELECT status, step, stride, values_f64 FROM attempt_arrays WHERE name = 'loss' ORDER BY status"
    )
    assert failed["status"].to_list() == ["done", "failed"]
    assert failed["values_f64"][1].to_list() == [*(1 / (1 + step) for step in range(0, 50, 10)), 0.5]
    assert store.sql("SELECT DISTINCT cell_id FROM arrays").height == 1  # of the done cell
    assert store.sql("SELECT status FROM cells WHERE loss IS NOT NULL")["status"].to_list() == ["done"]


def test_logged_steps_become_arrays_of_equidistant_runs() -> None:
    curve = LoggedCurve()
    for step, value in [(0, 1.0), (10, 2.0), (20, 3.0), (25, 4.0), (30, 5.0), (35, 6.0), (10, 2.5)]:
        curve.add(step, value)
    parts = [(a.name, a.step, a.stride, a.values.tolist()) for a in as_arrays({"loss": curve})]
    assert parts == [("loss", 0, 10, [1.0, 2.5, 3.0]), ("loss", 25, 5, [4.0, 5.0, 6.0])]


def test_a_long_curve_is_published_thinned_out_with_its_last_point() -> None:
    curve = LoggedCurve()
    for step in range(10_001):
        curve.add(step, float(step))
    thinned = curve.thinned(100)
    assert thinned.steps[:3] == [0, 128, 256]
    assert (len(thinned.steps), thinned.steps[-1], thinned.values[-1]) == (80, 10_000, 10_000.0)


STATE = live.encode(live.LiveState("cd" * 12, 1, 3, b"abc"))


@pytest.mark.parametrize(
    "data",
    [
        b"no zlib", b"", live.zlib.compress(b"[1]"), live.zlib.compress(b"[" * 100_000),
        pytest.param(STATE, id="of another attempt"), pytest.param(STATE[:-2], id="cut"),
    ],
)  # fmt: skip
def test_a_foreign_state_is_named(data: bytes, folder) -> None:
    launch(sweep_of("math:sqrt"), inline=True)
    store = Store()
    path, sound = live.path_of("ab" * 12, 1), live.path_of("cd" * 12, 1)
    store.storage.replace(path, data)
    store.storage.replace(sound, STATE)
    with pytest.raises(StoreDamaged, match=path):
        store.sql("SELECT * FROM live")
    assert [line.partition(":")[0] for line in store.check()] == [path]
    skipping = Store(skip_damaged=True)
    assert [state.end for state in skipping.live()] == [b"abc"]
    assert list(survey(skipping).files) == [path]


METRICS = """
    def run(cell, context):
        return {"loss": float(cell.method), "best": "adam" if cell.seed else None, "ok": True}
"""


def test_metrics_may_be_text_missing_or_nan(write, cli: Callable[..., Ended]) -> None:
    write("metrics.py", METRICS)
    sweep = sweep_of("metrics:run", 'nan = "keep"', seeds="[0, 1]", methods=["nan", "1.5"])
    assert launch(sweep, inline=True).done == 4
    store = Store()
    rows = store.sql("SELECT method, seed, loss, best, ok FROM cells ORDER BY ALL")
    assert [tuple(map(str, row)) for row in rows.rows()] == [
        ("1.5", "0", "1.5", "None", "1.0"),
        ("1.5", "1", "1.5", "adam", "1.0"),
        ("nan", "0", "nan", "None", "1.0"),
        ("nan", "1", "nan", "adam", "1.0"),
    ]
    assert store.sql("SELECT count(*) AS n FROM cells WHERE best = 'adam' AND isnan(loss)")["n"].item() == 1
    shown = cli("show", store.cells.filter(seed=1, method="nan").collect()["cell_id"].item()).stdout
    assert "best = adam" in shown
    assert "loss = nan" in shown


def test_nan_fails_a_cell_that_may_not_have_it(write) -> None:
    write("metrics.py", METRICS)
    launch(sweep_of("metrics:run", "[resources]\nretries=0", methods=["inf"]), inline=True)
    assert 'write nan = "keep"' in Store().attempts.collect()["error_message"].item()


def test_a_text_and_a_number_of_one_name_are_two_columns(write) -> None:
    write("mixed.py", "def run(cell, context):\n    return {'x': 'text' if cell.seed else 1.0}\n")
    launch(sweep_of("mixed:run", seeds="[0, 1]"), inline=True)
    frame = Store().sql("SELECT seed, metric_x, text_x FROM cells ORDER BY seed")
    assert frame.rows() == [(0, 1.0, None), (1, None, "text")]
    assert isinstance(frame, pl.DataFrame)
