"""The grammar of blocks: nested settings, zip, spaces, samples, predicates, conditions and bases."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.from_function import function_sweep
from raysweep.orchestrator.sweep.grammar.axes import linspace, logspace
from raysweep.orchestrator.sweep.spec import Sweep, setting
from tests.conftest import ROOT

HEAD = 'workload = "grammar_work:run"\nseeds = [0]\n'


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "grammar_work.py").write_text("def run(cell, context):\n    return {'loss': 1.0}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "grammar_work", raising=False)


def settings(text: str, **changes: Any) -> list[dict[str, Any]]:
    """The method, k and config of each variant of a sweep."""
    sweep = Sweep.from_text(HEAD + text)
    if changes:
        sweep = sweep.with_settings({key.replace("__", "."): value for key, value in changes.items()})
    rows = expand([sweep]).variants.select("method", "k", "config").iter_rows()
    return [{"method": m, **({} if k is None else {"k": k}), **json.loads(config)} for m, k, config in rows]


def configs(text: str, **changes: Any) -> list[dict[str, Any]]:
    """The config of each variant of a sweep."""
    return [{k: v for k, v in row.items() if k not in ("method", "k")} for row in settings(text, **changes)]


def problems(text: str) -> list[str]:
    """The problems of a sweep."""
    with pytest.raises(InputError) as caught:
        expand([Sweep.from_text(HEAD + text)])
    return [problem.removeprefix("sweep: ") for problem in caught.value.problems]


# Methods and blocks


def test_neither_a_block_nor_a_method_is_needed() -> None:
    assert settings("") == [{"method": "default"}]
    assert settings("[config]\nlr = 0.1") == [{"method": "default", "lr": 0.1}]
    assert settings("[[grid]]\nlr = [0.1, 0.2]") == [
        {"method": "default", "lr": 0.1},
        {"method": "default", "lr": 0.2},
    ]


# Nested settings


def test_nested_tables_reach_the_function_as_nested_dicts() -> None:
    tables = "[config.data]\nname = 'digits'\n[[grid]]\noptimizer.lr = [0.1, 0.2]\noptimizer.name = 'sgd'"
    assert configs(tables) == [
        {"data": {"name": "digits"}, "optimizer": {"lr": lr, "name": "sgd"}} for lr in (0.1, 0.2)
    ]
    inline = "config = { data = { name = 'digits' } }\n[[grid]]\noptimizer = { lr = [0.1, 0.2], name = 'sgd' }"
    assert expand([Sweep.from_text(HEAD + inline)]).cells.equals(expand([Sweep.from_text(HEAD + tables)]).cells)


def test_a_name_in_quotes_stays_one_key_and_keeps_its_cells() -> None:
    text = '[[grid]]\nmethod = "m"\n"optimizer.lr" = [0.1, 0.2]'
    table = expand([Sweep.from_text('name = "s"\n' + HEAD + text)])
    assert [json.loads(config) for config in table.variants["config"]] == [
        {"optimizer.lr": 0.1}, {"optimizer.lr": 0.2},
    ]  # fmt: skip
    assert table.cells["cell_id"].to_list() == ["ae6268a6243ddb2a3f6b6178", "d002776c68e92df5cb50fef2"]


def test_only_a_list_under_an_almost_right_key_alone_is_taken_for_misspelt_values() -> None:
    assert configs("[[grid]]\ninit.scales = [1, 2]")[0] == {"init": {"scales": 1}}
    assert configs("[[grid]]\ninit.value = 1")[0] == {"init": {"value": 1}}
    assert configs("[[grid]]\ninit.value = [1, 2]\ninit.gain = 3")[0] == {"init": {"value": 1, "gain": 3}}
    assert configs('[[grid]]\n"init.value" = [1, 2]')[0] == {"init.value": 1}
    assert "did you mean 'values'?" in problems("[[grid]]\ninit.value = [1, 2]")[0]


def test_set_changes_and_adds_nested_settings() -> None:
    text = "[config]\ndata.name = 'digits'\n[[grid]]\noptimizer.lr = [0.1, 0.2]"
    changed = configs(text, optimizer__lr=0.5, optimizer__momentum=0.9, data__name="moons")
    assert changed == [{"data": {"name": "moons"}, "optimizer": {"lr": 0.5, "momentum": 0.9}}]
    assert configs('[[grid]]\n"a.b" = [1, 2]', a__b=3) == [{"a.b": 3}]
    with pytest.raises(InputError, match="optimizer is both a setting and a table of settings"):
        configs(text, optimizer="sgd")
    with pytest.raises(InputError, match="--set optimizer: is a table; set its settings one by one"):
        setting("optimizer={lr=0.1}")


def test_nested_settings_fill_a_nested_model(tmp_path: Path) -> None:
    (tmp_path / "typed_work.py").write_text(
        "from pydantic import BaseModel\n"
        "from pydantic.dataclasses import dataclass\n"
        "@dataclass(frozen=True)\n"
        "class Data:\n"
        "    name: str = 'digits'\n"
        "class Optimizer(BaseModel, frozen=True, extra='forbid'):\n"
        "    lr: float = 0.1\n"
        "    momentum: float = 0.0\n"
        "class Config(BaseModel, frozen=True, extra='forbid'):\n"
        "    optimizer: Optimizer = Optimizer()\n"
        "    data: Data = Data()\n"
        "def run(cell, context):\n"
        "    return {'loss': cell.config.optimizer.lr}\n"
    )
    head = 'workload = "typed_work:run"\nseeds = [0]\n'
    sweep = Sweep.from_text(head + "[[grid]]\noptimizer.lr = [0.1, 0.2]").with_settings({"data.name": "moons"})
    assert [json.loads(config) for config in expand([sweep]).variants["config"]] == [
        {"data": {"name": "moons"}, "optimizer": {"lr": lr, "momentum": 0}} for lr in (0.1, 0.2)
    ]
    with pytest.raises(InputError) as caught:
        expand([Sweep.from_text(head + "[[grid]]\noptimizer.momentun = 0.5\noptimizer.lr = 'high'")])
    first, second = caught.value.problems
    assert "unknown config key 'optimizer.momentun'; did you mean 'optimizer.momentum'?" in first + second
    assert "config key 'optimizer.lr': input should be a valid number (got 'high')" in first + second


def test_a_program_has_nested_settings_by_name() -> None:
    head = 'command = "echo {optimizer.lr} {args}"\nargs = "hydra"\nseeds = [0]\n'
    nested = Sweep.from_text(head + "[[grid]]\noptimizer.lr = 0.1\noptimizer.name = 'sgd'")
    in_quotes = Sweep.from_text(head + "[[grid]]\n'optimizer.lr' = 0.1\n'optimizer.name' = 'sgd'")
    assert expand([nested]).cells.equals(expand([in_quotes]).cells)
    config = json.loads(expand([nested]).variants["config"][0])
    assert nested.program is not None
    line = nested.program.render({"method": "m", "k": None, "seed": 0}, config)
    assert line.argv == ("echo", "0.1", "optimizer.name=sgd", "seed=0")


# Spaces


def test_spaces_have_exact_printable_values() -> None:
    assert linspace(0, 1, 11) == (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1)
    assert linspace(0, 1, 4) == (0, 0.333333, 0.666667, 1)
    assert linspace(1, -1, 5) == (1, 0.5, 0, -0.5, -1)
    assert linspace(1000000, 1000001, 4) == (1000000, 1000000.333333, 1000000.666667, 1000001)
    assert logspace(1e-4, 1e-1, 4) == (0.0001, 0.001, 0.01, 0.1)
    assert logspace(16, 1024, 7) == (16, 32, 64, 128, 256, 512, 1024)
    assert logspace(1e-4, 1e-2, 5) == (0.0001, 0.000316228, 0.001, 0.00316228, 0.01)
    assert all(isinstance(value, int) for value in logspace(16, 1024, 7))
    assert configs("[[grid]]\nlr = { logspace = [1e-3, 1e-1, 3] }\nw = { values = [1, 2] }") == [
        {"lr": lr, "w": w} for lr in (0.001, 0.01, 0.1) for w in (1, 2)
    ]


# zip


def test_zipped_lists_are_taken_in_step() -> None:
    assert configs("[[grid]]\nzip = ['lr', 'width']\nlr = [0.1, 0.2]\nwidth = [64, 32]\nb = [1, 2]") == [
        {"lr": lr, "width": width, "b": b} for lr, width in ((0.1, 64), (0.2, 32)) for b in (1, 2)
    ]
    two = "[[grid]]\nzip = [['method', 'k'], ['o.lr', 'width']]\nmethod = ['a', 'b']\nk = [1, 2]\n"
    assert settings(two + "o.lr = [0.1, 0.2]\nwidth = { linspace = [10, 20, 2] }") == [
        {"method": method, "k": k, "o": {"lr": lr}, "width": width}
        for method, k in (("a", 1), ("b", 2))
        for lr, width in ((0.1, 10), (0.2, 20))
    ]
    assert configs("[[grid]]\nzip = ['lr', 'width']\nlr = [0.1, 0.2]\nwidth = [64, 32]", lr=0.5) == [
        {"lr": 0.5, "width": 64},
        {"lr": 0.5, "width": 32},
    ]


def test_a_zipped_list_may_repeat_a_value() -> None:
    zipped = "[[grid]]\nzip = ['method', 'lr']\nmethod = ['adam', 'adam', 'sgd']\nlr = [0.1, 0.2, 0.1]"
    assert [(row["method"], row["lr"]) for row in settings(zipped)] == [("adam", 0.1), ("adam", 0.2), ("sgd", 0.1)]
    assert problems("[[grid]]\nzip = ['a', 'b']\na = [1, 2, 1]\nb = [3, 3, 3]") == [
        "grid[0].zip: a = 1, b = 3 appears twice; remove one of them"
    ]
    assert problems("[[grid]]\na = [1, 2, 1]") == ["grid[0].a: 1 appears twice; remove one of them"]


# Predicates


def test_predicates_select_settings() -> None:
    block = "[config]\ndepth = 2\n[[grid]]\nmethod = ['a', 'b']\no.lr = [0.1, 0.2]\nwidth = [32, 64]\n"
    assert settings(block + "where = 'width * depth <= 64'\nexclude = [\"method = 'b' and o.lr > 0.1\"]") == [
        {"method": "a", "depth": 2, "o": {"lr": 0.1}, "width": 32},
        {"method": "a", "depth": 2, "o": {"lr": 0.2}, "width": 32},
        {"method": "b", "depth": 2, "o": {"lr": 0.1}, "width": 32},
    ]


# Conditional settings


def test_a_conditional_setting_is_left_out_of_other_cells() -> None:
    text = "[[grid]]\noptimizer = ['sgd', 'adam']\nmomentum = { values = [0, 0.9], when = \"optimizer = 'sgd'\" }\n"
    sgd = [{"optimizer": "sgd", "momentum": m} for m in (0, 0.9)]
    assert configs(text) == [*sgd, {"optimizer": "adam"}]
    nested = text + "nesterov = { values = [true, false], when = 'momentum > 0' }\n"
    assert configs(nested) == [
        sgd[0],
        {**sgd[1], "nesterov": True},
        {**sgd[1], "nesterov": False},
        {"optimizer": "adam"},
    ]


# Samples

DRAWN = """[[grid]]
method = ["a", "b"]
lr = { loguniform = [1e-4, 1e-1] }
dropout = { uniform = [0, 0.5] }
width = { integers = [8, 64] }
optimizer = { choice = ["sgd", "adam"] }
depth = [1, 2, 3]
momentum = { uniform = [0, 1], when = "optimizer = 'sgd'" }
"""


def test_a_sample_contains_each_smaller_one_and_is_the_same_everywhere() -> None:
    small, large = settings(f"{DRAWN}sample = 10"), settings(f"{DRAWN}sample = 20")
    assert (len(small), len(large)) == (20, 40)  # of each method
    assert small == large[:20]
    assert [{**row, "method": "b"} for row in large if row["method"] == "a"] == [r for r in large if r["method"] == "b"]
    assert all(("momentum" in row) == (row["optimizer"] == "sgd") for row in large)
    assert all(1e-4 <= row["lr"] <= 0.1 and 0 <= row["dropout"] <= 0.5 and 8 <= row["width"] <= 64 for row in large)
    assert {row["depth"] for row in large} == {1, 2, 3}
    assert large[0] == PINNED
    others = settings(f"{DRAWN}sample = {{ count = 10, seed = 1 }}")
    assert [row for row in others if row in large] == []
    program = "import sys, json; sys.path[:0] = sys.argv[1:]\nfrom raysweep.orchestrator.sweep.spec import Sweep\n"
    program += "from raysweep.orchestrator.sweep.cells import expand\n"
    program += f"print(list(expand([Sweep.from_text({HEAD + DRAWN + 'sample = 10'!r})]).cells['cell_id']))"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == str(list(expand([Sweep.from_text(f"{HEAD}{DRAWN}sample = 10")]).cells["cell_id"]))


PINNED = {
    "method": "a",
    "depth": 2,
    "dropout": 0.1254373,
    "lr": 0.000105676,
    "momentum": 0.082522,
    "optimizer": "sgd",
    "width": 8,
}


def test_a_new_setting_leaves_the_draws_of_the_others() -> None:
    one = configs("[[grid]]\nsample = 5\nlr = { uniform = [0, 1] }")
    two = configs("[[grid]]\nsample = 5\nwidth = { integers = [1, 8] }\nlr = { uniform = [0, 1] }")
    assert [row["lr"] for row in one] == [row["lr"] for row in two]
    assert configs("[[grid]]\nsample = 2\nlr = { uniform = [0, 1] }\nw = { uniform = [0, 1] }", lr=0.5)[0]["lr"] == 0.5


def test_a_sample_has_distinct_settings_that_match_its_predicates() -> None:
    rows = configs("[[grid]]\nsample = 4\na = [1, 2, 3]\nb = [1, 2, 3]\nwhere = 'a + b <= 4'\nexclude = 'a = b'")
    assert sorted((row["a"], row["b"]) for row in rows) == [(1, 2), (1, 3), (2, 1), (3, 1)]
    zipped = configs("[[grid]]\nsample = 2\nzip = ['a', 'b']\na = [1, 2, 3]\nb = [10, 20, 30]")
    assert all(row["b"] == 10 * row["a"] for row in zipped)


# Bases


def test_a_file_overrides_its_base(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/common.toml").write_text(
        'name = "common"\nworkload = "grammar_work:run"\nseeds = "0..4"\n[resources]\ntimeout_s = 60\n'
        "[config]\nepochs = 10\nlr = 0.1\n[config.data]\nname = 'digits'\npath = 'a'\n[[grid]]\nwidth = [1, 2]\n"
    )
    (tmp_path / "middle.toml").write_text('base = "conf/common.toml"\n[config]\ndata.name = "moons"\n')
    (tmp_path / "top.toml").write_text(
        'base = "middle.toml"\nseeds = [7]\n[resources]\nretries = 3\n'
        "[config]\nepochs = 20\n[[grid]]\nlr = [0.2, 0.3]\n"
    )
    sweep = Sweep.load(tmp_path / "top.toml")
    assert (sweep.name, sweep.experiment, sweep.seeds) == ("top", "top", (7,))
    assert (sweep.blocks[0].resources.timeout_s, sweep.blocks[0].resources.retries) == (60, 3)
    variants = expand([sweep]).variants
    assert [json.loads(config) for config in variants["config"]] == [
        {"epochs": 20, "data": {"name": "moons", "path": "a"}, "lr": lr} for lr in (0.2, 0.3)
    ]
    again = Sweep.from_text(sweep.text, tmp_path / "top.toml")  # as a store's record is read, without the bases
    (tmp_path / "conf/common.toml").unlink()
    assert expand([Sweep.from_text(sweep.text, tmp_path / "top.toml")]).cells.equals(expand([again]).cells)
    assert expand([again]).cells.equals(expand([sweep]).cells)


def test_blocks_keep_the_settings_of_the_base_that_other_blocks_vary(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        'workload = "grammar_work:run"\nseeds = [0]\n[config]\nwd = 0.5\nopt.eps = 1\nopt.betas = [1, 2]\n"a.b" = 3\n'
    )
    (tmp_path / "middle.toml").write_text('base = "base.toml"\n[[grid]]\nwd = [0.1]\n')
    (tmp_path / "top.toml").write_text(
        'base = "middle.toml"\n[[grid]]\nopt.lr = [0.1]\n'
        '[[grid]]\nopt.lr = 0.2\nwd = [0.6, 0.7]\nopt.eps = 2\nopt.betas = [[3, 4]]\n"a.b" = 4\n'
    )
    assert [json.loads(config) for config in expand([Sweep.load(tmp_path / "top.toml")]).variants["config"]] == [
        {"opt": {"lr": 0.1, "eps": 1, "betas": [1, 2]}, "wd": 0.5, "a.b": 3},
        *({"opt": {"lr": 0.2, "eps": 2, "betas": [3, 4]}, "wd": wd, "a.b": 4} for wd in (0.6, 0.7)),
    ]


def test_a_base_in_a_circle_is_refused(tmp_path: Path) -> None:
    for name, base in {"a": "b", "b": "a"}.items():
        (tmp_path / f"{name}.toml").write_text(f'base = "{base}.toml"\n')
    with pytest.raises(InputError, match=r"in a circle: a\.toml -> b\.toml -> a\.toml"):
        Sweep.load(tmp_path / "a.toml")


def test_a_grid_of_python_has_the_same_grammar(tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    try:
        run = importlib.import_module("grammar_work").run
        grid = {
            "optimizer": {"lr": [0.1, 0.2]},
            "width": {"linspace": [1, 3, 3]},
            "where": "optimizer.lr * width < 0.35",
        }
        found = [json.loads(config) for config in expand([function_sweep(run, grid, [0])]).variants["config"]]
        dotted = {"optimizer.lr": [0.1, 0.2], **{key: grid[key] for key in ("width", "where")}}
        assert function_sweep(run, dotted, [0]).blocks == function_sweep(run, grid, [0]).blocks
        with pytest.raises(InputError, match="is not a dict"):
            function_sweep(run, [("lr", 1)], [0])  # type: ignore[arg-type]
    finally:
        sys.path.remove(str(tmp_path))
    assert found == [
        {"optimizer": {"lr": lr}, "width": width} for lr, width in ((0.1, 1), (0.1, 2), (0.1, 3), (0.2, 1))
    ]
