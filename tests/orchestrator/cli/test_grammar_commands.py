"""The commands on sweeps with nested settings, bases and conditions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

WORK = """
    def run(cell, context):
        rate = cell.config["optimizer"]["lr"]
        if rate > 1:
            raise ValueError("too fast")
        return {"loss": rate, "has_momentum": "momentum" in cell.config["optimizer"]}
"""
BASE = """
    workload = "mine:run"
    seeds = [0]
    resources.retries = 0
    [config]
    data.name = "digits"
    [[grid]]
    optimizer.name = ["sgd", "adam"]
    optimizer.lr = { logspace = [0.1, 10, 3] }
    optimizer.momentum = { values = [0.9], when = "optimizer.name = 'sgd'" }
"""


def test_nested_settings_are_one_name_in_each_command(cli, write: Callable[..., Path], folder: Path) -> None:
    write("mine.py", WORK)
    write("base.toml", BASE)
    write("top.toml", 'base = "base.toml"\n')
    assert "6 cells in top" in cli("plan", "top.toml").stdout
    assert "3 cells in top" in cli("plan", "top.toml", "--where", "optimizer.name = 'sgd'").stdout
    assert "2 cells in top" in cli("plan", "top.toml", "--set", "optimizer.lr=0.5").stdout
    renamed = cli("plan", "top.toml", "--set", "custom=2", "--set", "needs=3", "--where", "custom = 2 and needs = 3")
    assert "6 cells in top" in renamed.stdout  # names of columns of our own, too
    assert cli("launch", "top.toml", "--inline").stdout.startswith("4 of 6 cells done")
    sql = 'SELECT optimizer.name, "optimizer.momentum" AS m, avg(loss) FROM cells c WHERE c.optimizer.lr <= 1'
    rows = json.loads(cli("query", f"{sql} GROUP BY ALL ORDER BY ALL", "--json").stdout)
    assert [list(row.values()) for row in rows] == [["adam", None, 0.55], ["sgd", 0.9, 0.55]]
    assert "optimizer.lr=10" in cli("failures").stdout.replace(" = ", "=")
    misspelt, hint = 'Referenced column "optimizer.nam" not found in FROM clause', " (did you mean 'optimizer.name'?)"
    assert f"{misspelt}!{hint}" in cli("query", "SELECT optimizer.nam FROM cells").stderr
    assert f"{misspelt}{hint}" in cli("plan", "top.toml", "--where", "optimizer.nam = 'sgd'").stderr
    cell = json.loads(
        cli("query", "SELECT cell_id FROM cells WHERE optimizer.name = 'sgd' AND loss = 1", "--json").stdout
    )
    shown = cli("show", cell[0]["cell_id"]).stdout
    assert "  optimizer.lr = 1\n" in shown
    assert "  data.name = digits\n" in shown
    best = cli("best", "--metric", "loss", "--where", "optimizer.name = 'sgd'").stdout
    assert "3 of 3 settings may be the best" in best
    assert "optimizer.lr=0.1" in best


def test_a_store_remembers_a_sweep_with_its_base(cli, write: Callable[..., Path], folder: Path) -> None:
    write("mine.py", WORK.replace("too fast", "fast"))
    write("base.toml", BASE)
    write("top.toml", 'base = "base.toml"\n')
    cli("launch", "top.toml", "--inline")
    assert "has changed" not in cli("resume", "--inline", "--max-failures", "1").stderr
    write("base.toml", BASE.replace("digits", "moons"))
    assert "top.toml has changed since it was launched" in cli("resume", "--inline").stderr
    plan = cli("plan", "top.toml").stdout
    assert "6  new" in plan
    assert "6  not requested now: launched before the file changed" in plan
    (folder / "base.toml").unlink()
    assert "4 of 6 cells done" in cli("resume", "--inline").stdout
