"""`new` writes files that plan and run unchanged; the schema agrees with the spec; `workload` lists settings."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from raysweep import Sweep, launch
from raysweep.orchestrator.cli import scaffold
from raysweep.orchestrator.cli.scaffold import settings
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.find import BUNDLED
from raysweep.orchestrator.sweep.grammar.keys import RESOURCE_NAMES
from raysweep.orchestrator.sweep.json_schema import schema
from raysweep.orchestrator.sweep.loading.workload import load_workload
from raysweep.workloads import WORKLOADS
from tests.conftest import ROOT

GOOD = 'workload = "w:run"\nseeds = "0..2"\n[[grid]]\nmethod = "a"\n'


def valid(text: str, json_schema: dict[str, Any]) -> bool:
    return jsonschema.Draft7Validator(json_schema).is_valid(tomllib.loads(text))


def test_the_script_that_new_writes_plans_and_runs(folder: Path, cli: Callable[..., Any]) -> None:
    assert "next: raysweep plan first.toml" in cli("new", "first").stdout
    assert json.loads(cli("plan", "first.toml", "--json").stdout)["to_run"] == 20
    ended = launch(Sweep.load("first.toml"), "results", inline=True)
    assert (ended.asked, ended.done) == (20, 20)
    loss = Store("results").sql("SELECT optimizer, rate, max(loss) AS most FROM cells GROUP BY ALL")
    assert loss.height == 4
    assert loss["most"].max() < 1  # it descends: half the squared norm begins near 5
    curves = (
        Store("results").sql("SELECT name, step, stride, len(coalesce(values, values_f64)) AS n FROM arrays").unique()
    )
    assert curves.rows() == [("loss", 0, 10, 21)]
    assert valid((folder / "first.toml").read_text(), schema())


def test_the_function_that_new_writes_plans_and_runs(folder: Path, cli: Callable[..., Any]) -> None:
    assert "next: raysweep plan first.toml" in cli("new", "first", "--function").stdout
    assert json.loads(cli("plan", "first.toml", "--json").stdout)["to_run"] == 30
    ended = launch(Sweep.load("first.toml"), "results", inline=True)
    assert (ended.asked, ended.done) == (30, 30)
    loss = Store("results").sql("SELECT method, k, min(loss) AS least, max(loss) AS most FROM cells GROUP BY ALL")
    assert loss.height == 4  # two methods, and sgd at two k
    assert loss["most"].max() < 1  # it descends: half the squared norm begins near 5
    assert Store("results").sql("SELECT len(values) AS n FROM arrays").unique()["n"].to_list() == [200]
    first = schema(load_workload("first:run", (str(folder),)))
    assert valid((folder / "first.toml").read_text(), first)
    assert not valid((folder / "first.toml").read_text().replace("rate = 0.2", "raet = 0.2"), first)
    assert not valid((folder / "first.toml").read_text().replace('"momentum"', '"momentun"'), first)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my-sweep", "letters, digits and '_'"),
        ("class", "letters, digits and '_'"),
        ("../up", "letters, digits and '_'"),
        ("", "letters, digits and '_'"),
        ("json", "a module of Python"),
        ("raysweep", "a module of raysweep"),
        ("there", "there.py exists already"),
    ],
)
def test_new_refuses_names_that_would_not_work(name: str, message: str, folder: Path) -> None:
    (folder / "there.py").write_text("mine")
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        scaffold.write(name, folder)
    assert [path.name for path in folder.iterdir()] == ["there.py"]
    assert (folder / "there.py").read_text() == "mine"


@pytest.mark.parametrize("path", sorted(BUNDLED.glob("*/*.toml")), ids=lambda p: p.stem)
def test_every_bundled_sweep_fits_the_schema(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert valid(text, schema())
    spec = tomllib.loads(text)
    while "workload" not in spec:  # the base has it
        spec = tomllib.loads((path.parent / spec["base"]).read_text(encoding="utf-8"))
    assert valid(text, schema(load_workload(spec["workload"])))


def test_the_readme_sweep_fits_the_schema() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    text = readme.partition('name = "digits"')[2].partition("```")[0]
    assert valid('name = "digits"' + text, schema())


def test_the_schema_has_every_resource() -> None:
    assert tuple(schema()["properties"]["resources"]["properties"]) == RESOURCE_NAMES


@pytest.mark.parametrize("name", list(WORKLOADS))
def test_schemas_of_our_workloads_are_schemas(name: str) -> None:
    jsonschema.Draft7Validator.check_schema(schema(load_workload(name)))


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('workload = "w:run"\n', ""),
        GOOD.replace("seeds", "seed"),
        GOOD.replace('"0..2"', '"0-2"'),
        GOOD.replace('"0..2"', "[]"),
        GOOD.replace('"0..2"', "[1, 1]"),
        GOOD.replace('"0..2"', "[-1]"),
        GOOD.replace('"0..2"', "[true]"),
        GOOD.partition("[[grid]]")[0] + "grid = []\n",
        GOOD.replace('method = "a"', "method = []"),
        GOOD.replace('method = "a"', 'method = ""'),
        GOOD + "k = -1\n",
        GOOD + "k = 1.5\n",
        GOOD + "seed = 1\n",
        GOOD + "rate = []\n",
        GOOD + "rate = [1, 1]\n",
        GOOD + "rate = {a = []}\n",
        GOOD + "rate = {}\n",
        GOOD + "rate = {values = 1}\n",
        GOOD + "rate = {linspace = [0, 1]}\n",
        GOOD + "rate = {uniform = ['a', 'b']}\n",
        GOOD + "rate = {values = [1], step = 2}\n",
        GOOD + "sample = 0\n",
        GOOD + "sample = {seed = 1}\n",
        GOOD + "zip = ['a']\na = [1, 2]\n",
        GOOD + "where = 1\n",
        GOOD + "exclude = ['']\n",
        GOOD + "[resources]\ncpu = 1\n",
        GOOD + "[resources]\ncpus = 0\n",
        GOOD + "[resources]\ncpus = 1.5\n",
        GOOD + "[resources]\nretries = 1.5\n",
        GOOD + "[resources]\ntimeout_s = 1e10\n",
        GOOD + "resources = {gpus = -1}\n",
        'name = "a b"\n' + GOOD,
        "nonsense = 1\n" + GOOD,
    ],
)
def test_schema_and_spec_refuse_the_same(text: str) -> None:
    assert not valid(text, schema())
    assert Sweep.from_text(text).problems


PROGRAM = GOOD.replace('workload = "w:run"', 'command = "prog {args}"')


@pytest.mark.parametrize(
    "text",
    [
        'workload = "w:run"\n' + PROGRAM,
        'script = "a.py"\n' + PROGRAM,
        'command = "prog"\n' + GOOD,
        "files = []\n" + GOOD,
        "command = 1\n" + PROGRAM.partition("\n")[2],
        "command = []\n" + PROGRAM.partition("\n")[2],
        "shell = 1\n" + PROGRAM,
        'args = "click"\n' + PROGRAM,
        'env = {"A B" = "1"}\n' + PROGRAM,
        "env = {A = 1}\n" + PROGRAM,
        'config_file = "c.ini"\n' + PROGRAM,
        "metrics = {}\n" + PROGRAM,
        "metrics.loss = '(a)'\n" + PROGRAM,
        "metrics.patterns.loss = {take = 'last'}\n" + PROGRAM,
        "metrics.patterns.loss = {pattern = '(a)', take = 'mean'}\n" + PROGRAM,
        "files = [1]\n" + PROGRAM,
    ],
)
def test_schema_and_spec_refuse_the_same_programs(text: str) -> None:
    assert not valid(text, schema())
    assert Sweep.from_text(text).problems


@pytest.mark.parametrize(
    "text",
    [
        'script = "a.py"\nargs = "hydra"\nseeds = [1]\n',
        'command = ["a", "{seed}"]\nseeds = [1]\n[[grid]]\nlr = [1, 2]\n',
        "shell = true\nfiles = 'a'\nlinks = ['/data', 'b']\nconfig_file = 'a/c.yaml'\nenv.A = '{k}'\n" + PROGRAM,
        "metrics = 'a.csv'\n" + PROGRAM,
        "metrics = {file = ['a.csv', '*.json'], step = 'epoch', tensorboard = '.', json_lines = true}\n" + PROGRAM,
        "metrics.patterns = {a = '(a)', b = {pattern = '(b)', take = 'min'}}\n" + PROGRAM,
    ],
)
def test_schema_and_spec_accept_the_same_programs(text: str) -> None:
    assert Sweep.from_text(text).problems == ()
    assert valid(text, schema())


@pytest.mark.parametrize(
    "extra",
    [
        "",
        "k = [1, 2]\n",
        'rate = [0.1, "x", true]\n',
        "resources = {gpus = 0.5}\n",
        "optimizer.lr = [0.1, 0.2]\noptimizer.schedule.kind = 'cosine'\n",
        "zip = [['a', 'b'], ['c', 'd']]\na = [1, 2]\nb = [3, 4]\nc = [1, 2]\nd = {linspace = [0, 1, 2]}\n",
        "where = 'a < 2'\nexclude = ['a = 0', 'a = -1']\na = {values = [1, 2], when = \"method = 'a'\"}\n",
        "sample = {count = 5, seed = 1}\na = {loguniform = [1e-4, 1]}\nb.c = {integers = [1, 8]}\n",
    ],
)
def test_schema_and_spec_accept_the_same(extra: str) -> None:
    assert valid(GOOD + extra, schema())
    assert Sweep.from_text(GOOD + extra).problems == ()


@pytest.mark.parametrize(
    "text",
    [
        'seeds = [0]\n[[grid]]\nblock = "a"\nworkload = "w:run"\n[[grid]]\nneeds = "a"\ncommand = "b {needs.a}"\n',
        GOOD.replace("[[grid]]", "files = []\n[[grid]]", 1) + '[[grid]]\ncommand = "b"\n',
    ],
)
def test_schema_and_spec_accept_the_same_pipelines(text: str) -> None:
    assert valid(text, schema())
    assert Sweep.from_text(text).problems == ()


def test_a_workload_without_a_model_takes_any_key(write: Callable[..., Path], folder: Path) -> None:
    write("free.py", "def run(cell, context):\n    return {}\n")
    text = GOOD.replace("w:run", "free:run") + "anything = 1\n"
    assert valid(text, schema(load_workload("free:run", (str(folder),))))
    assert len(expand([Sweep.from_text(text)])) == 3


@pytest.mark.parametrize("name", sorted(WORKLOADS))
def test_every_setting_of_ours_is_shown_with_what_is_valid(name: str) -> None:
    keys = settings(load_workload(name))
    model = load_workload(name).config_model
    assert [key.name for key in keys] == list(model.model_fields)
    for key in keys:
        assert key.valid
        default = json.loads(key.default) if key.default else None
        assert default == model.model_fields[key.name].default
        assert model.model_validate({key.name: default})


def test_workload_lists_methods_and_settings(cli, write) -> None:
    lines = cli("workload", "vit").stdout.splitlines()
    assert lines[0].startswith("vit: ")
    assert "sparse gradient transport in a vision transformer" in lines[0].lower()
    assert lines[1].startswith("methods: bptt_ref, dense_ref, ")
    (row,) = (line.split()[:4] for line in lines if line.split()[0] == "precision")
    assert row == ["precision", '"float32"', '"float32",', '"bf16"']
    assert [line.split()[0] for line in cli("workload").stdout.splitlines()] == sorted(WORKLOADS)
    model = "class Config(pydantic.BaseModel):\n    rate: float\n    deep: list[int] | None = None\n"
    write("mine.py", f'"""Mine.\n\nMore."""\nimport pydantic\n{model}\ndef run(cell, context):\n    return {{}}\n')
    assert cli("workload", "mine:run").stdout.splitlines()[:2] == ["mine:run: Mine.", "methods: any name"]
    assert json.loads(cli("workload", "mine:run", "--json").stdout)["settings"] == [
        {"name": "rate", "default": "required", "valid": "number", "about": ""},
        {"name": "deep", "default": "", "valid": "list", "about": ""},
    ]
    write("any.py", "def run(cell, context):\n    return {}\n")
    assert cli("workload", "any:run").stdout.splitlines()[2] == "settings: any key, as the workload has no Config"
    assert cli("workload", "vitt").returncode == 2
