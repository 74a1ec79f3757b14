"""Which cells of a store are requested now, and why others are not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.launch.drift import DROPPED, REQUESTED, SUPERSEDED, Drift, drift, request_state
from raysweep.orchestrator.launch.request import from_sweeps
from raysweep.orchestrator.sweep.cells import CellTable

FILE = 'name="m"\nworkload="{}:run"\nseeds="0..1"\n[[grid]]\nmethod="a"\nrate={}\n'
CODE = """
    from typing import Annotated
    from pydantic import BaseModel
    from raysweep.workloads.interface import AddedLater

    VERSION = "{version}"

    class Config(BaseModel, frozen=True, extra="forbid"):
        rate: float = 0.1
        {more}

    def run(cell, context):
        return {{"x": 1.0}}
"""


@pytest.fixture
def sweep(write: Callable[..., Path]) -> Callable[..., Sweep]:
    """A sweep of the file `m.toml`, whose workload module has a new name whenever its code differs."""

    def make(module: str = "m1", rate: str = "[0.1, 0.2]", **code: str) -> Sweep:
        write(f"{module}.py", CODE.format(**{"version": "1", "more": "", **code}))
        return Sweep.load(write("m.toml", FILE.format(module, rate)))

    return make


def ended(sweep: Sweep) -> Drift:
    request = from_sweeps([sweep], Store())
    return drift(request.sweeps, request.every, Store().sweeps(), request.workloads)


def test_why_cells_are_not_requested(sweep: Callable[..., Sweep], write: Callable[..., Path]) -> None:
    now = sweep()
    for each in (now, now.with_seeds("0..4"), now.with_settings({"rate": 0.5})):
        launch(each, inline=True)
    assert ended(now).why == {"with other seeds (--seeds, --until)": 6, "with other settings (--set)": 2}
    assert ended(now.with_settings({"rate": 0.5})).why == {
        "with other seeds (--seeds, --until)": 6, "with other settings (--set)": 4,
    }  # fmt: skip
    assert ended(sweep(rate="[0.2]")).why == {
        "with other seeds (--seeds, --until)": 6, "with other settings (--set)": 2, "before the file changed": 2,
    }  # fmt: skip
    commented = Sweep.load(write("m.toml", f"# A comment.\ntitle = 'T'\n{FILE.format('m1', '[0.1, 0.2]')}"))
    assert ended(commented).why == ended(now).why


def test_keys_that_a_config_has_got_since_are_named_and_marked_ones_are_not(
    sweep: Callable[..., Sweep], monkeypatch: pytest.MonkeyPatch
) -> None:
    from raysweep.orchestrator.launch import drift

    launch(sweep(), inline=True)
    now = sweep()
    request = from_sweeps([now], Store())
    (workload,) = request.workloads.values()
    configs = request.every.variants["config"].str.replace("{", '{"drop":0,', literal=True)
    later = request.every.variants.with_columns(config=configs)
    recorded = request.every.variants.select("workload", "config")
    assert drift._new_keys(recorded, later, {"m1:run": workload}) == {"m1:run": ("drop",)}
    assert drift._new_keys(later, later, {"m1:run": workload}) == {}
    assert drift._new_keys(recorded.clear(), later, {"m1:run": workload}) == {}
    monkeypatch.setattr(type(workload), "added_later", lambda self: {"drop": 0})
    assert drift._new_keys(recorded, later, {"m1:run": workload}) == {}


def test_a_cell_stands_where_its_newest_request_puts_it(
    sweep: Callable[..., Sweep], write: Callable[..., Path]
) -> None:
    launch(sweep(), inline=True)
    launch(sweep(rate="[0.2, 0.3]"), inline=True)

    def counts() -> dict[str, int]:
        return dict(request_state(Store().sweeps())["request_state"].value_counts().iter_rows())

    assert counts() == {REQUESTED: 4, DROPPED: 2}
    sweep()  # the older text stands in the file again
    assert counts() == {REQUESTED: 4, DROPPED: 2}
    ids = request_state(Store().sweeps()).filter(request_state=DROPPED)["cell_id"]
    rates = Store().sql("SELECT cell_id, rate FROM cells")
    assert set(rates.filter(rates["cell_id"].is_in(ids.implode()))["rate"]) == {0.3}


def test_only_a_change_of_the_cells_drops_a_cell(sweep: Callable[..., Sweep], write: Callable[..., Path]) -> None:
    launch(sweep(), inline=True)  # rates 0.1 and 0.2, seeds 0 and 1

    def dropped(text: str, **options: object) -> int:
        changed = Sweep.load(write("m.toml", text))
        seeds, settings = options.pop("seeds", None), options.pop("settings", {})
        changed = changed.with_settings(settings)
        launch(changed if seeds is None else changed.with_seeds(seeds), inline=True, **options)
        states = request_state(Store().sweeps())["request_state"]
        return int((states == DROPPED).sum())

    text = FILE.format("m1", "[0.1, 0.2]")
    assert dropped(f"# A comment.\ntitle = 'T'\n{text}[resources]\nretries = 3\n", seeds="0") == 0
    wider = FILE.format("m1", "[0.1, 0.2, 0.3]")
    assert dropped(wider, seeds="0") == 0  # the file has seed 1 as well
    assert dropped(FILE.format("m1", "[0.2, 0.4]"), where="rate = 0.4") == 0  # nothing recorded says what else it has
    assert dropped(FILE.format("m1", "[0.2, 0.4]"), settings={"rate": 0.5}) == 0
    assert dropped(FILE.format("m1", "[0.2, 0.4]"), seeds="0") == 3  # rate 0.1 with two seeds, and 0.3 with one


def test_an_earlier_version_is_distinguished_from_the_newest(sweep: Callable[..., Sweep]) -> None:
    launch(sweep(), inline=True)
    (entry,) = Store().sweeps()
    ids = entry.table.cells.with_columns(cell_id="f" + pl.col("cell_id").str.slice(1))  # an id has its version in it
    variants = entry.table.variants.with_columns(workload_version=pl.lit("0"))
    older = replace(entry, table=CellTable(variants, ids))
    assert dict(request_state([older, entry])["request_state"].value_counts().iter_rows()) == {
        REQUESTED: 4,
        SUPERSEDED: 4,
    }
    assert request_state([]).height == 0
