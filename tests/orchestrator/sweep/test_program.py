"""Programs in sweep files: what is accepted, the command line of a cell, ids, files and their digest."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from raysweep import Sweep
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.programs.program import Program, config_text
from raysweep.orchestrator.sweep.programs.program_files import load_program, workload_of

KEY: dict[str, Any] = {"method": "sgd", "k": None, "seed": 3, "cell_id": "ab", "folder": "/cell", "checkpoint": "/kept"}
TAIL = 'seeds = "0..1"\n[[grid]]\nlr = [0.1, 0.01]\nwidth = 64\n'


def program(text: str) -> Program:
    sweep = Sweep.from_text(text + "\n" + TAIL)
    assert sweep.problems == ()
    assert sweep.program is not None
    return sweep.program


def argv(command: str, config: dict[str, Any], more: str = "", **key: Any) -> list[str]:
    return list(program(f"command = {json.dumps(command)}\n{more}").render({**KEY, **key}, config).argv)


def problems_of(text: str) -> str:
    with pytest.raises(InputError) as caught:
        expand([Sweep.from_text(text)])
    return str(caught.value)


@pytest.mark.parametrize(
    ("command", "config", "words"),
    [
        ("prog --lr {lr} -s {seed} {method}", {"lr": 1e-05}, ["prog", "--lr", "1e-05", "-s", "3", "sgd"]),
        ("prog 'two words' a\\ b {{x}}", {}, ["prog", "two words", "a b", "{x}"]),
        ("prog {text}", {"text": "a b; rm -rf ~ $HOME"}, ["prog", "a b; rm -rf ~ $HOME"]),
        ("prog {deep} x={deep}", {"deep": True}, ["prog", "true", "x=true"]),
        ("prog --layers {layers} l={layers}", {"layers": [64, 32]}, ["prog", "--layers", "64", "32", "l=64,32"]),
        ("prog {optimizer.lr}", {"optimizer.lr": 0.5}, ["prog", "0.5"]),
        ("prog {cell_id} {folder}/out {checkpoint}", {}, ["prog", "ab", "/cell/out", "/kept"]),
    ],
)
def test_a_command_is_split_like_a_shell_would_and_filled_without_one(command, config, words) -> None:
    assert argv(command, config) == words


def test_the_settings_as_flags() -> None:
    config = {
        "lr": -1e-05,
        "batch_size": 64,
        "batch-size": 8,
        "amp": True,
        "fast": False,
        "layers": [1, 2],
        "name": "a b",
    }
    flags = ["--lr=-1e-05", "--batch_size=64", "--batch-size=8", "--amp", "--layers", "1", "2", "--name=a b"]
    assert argv("prog {args}", config) == ["prog", *flags, "--seed=3"]
    assert argv("prog {args}", config, k=4)[-2:] == ["--k=4", "--seed=3"]
    assert argv("prog -s {seed} {args} {lr}", {"lr": 1, "width": 2}) == ["prog", "-s", "3", "--width=2", "1"]


def test_the_settings_as_overrides_of_hydra() -> None:
    config = {"db.user": "omry", "+new": 0.5, "flag": False, "sizes": [1, "b"], "text": "it's 1\\", "number": "1e-3"}
    overrides = ["db.user=omry", "+new=0.5", "flag=false", "sizes=[1,b]", "text='it\\'s 1\\\\'", "number='1e-3'"]
    assert argv("prog {args}", config, 'args = "hydra"') == ["prog", *overrides, "seed=3"]


def test_hydra_reads_the_overrides_back() -> None:
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    config = {
        "a": "it's",
        "b": "x\\",
        "c": "\\'",
        "d": "1",
        "e": "null",
        "f": "a, b",
        "g": [True, "no", 1.5],
        "h": "é {x}",
    }
    words = argv("prog {args}", config, 'args = "hydra"')[1:-1]
    assert {o.key_or_group: o.value() for o in parser.parse_overrides(words)} == config


def test_a_shell_gets_quoted_values() -> None:
    words = argv("prog {text} {seed} | tail -1 > 'out'", {"text": "a'; rm x"}, "shell = true")
    assert words == ["/bin/sh", "-c", "prog 'a'\"'\"'; rm x' 3 | tail -1 > 'out'"]


def test_the_settings_as_a_file() -> None:
    settings = {"lr": 1e-05, "optimizer.name": "a\"d'\\é\x7f", "optimizer.betas": [0.9, 1], "amp": True, "seed": 3}
    tree = {"lr": 1e-05, "optimizer": {"name": "a\"d'\\é\x7f", "betas": [0.9, 1]}, "amp": True, "seed": 3}
    assert json.loads(config_text("c.json", settings)) == tree
    assert tomllib.loads(config_text("c.toml", settings)) == tree
    assert yaml.safe_load(config_text("c.yaml", settings)) == tree


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ('command = "true"\nworkload = "a:run"', "one of command, script and workload; remove workload"),
        ('script = "train.py"\ncommand = "true"', "remove script"),
        ("command = 1", "neither a text nor a list of texts"),
        ("command = []", "neither a text nor a list of texts"),
        ('command = "prog \'a"', "cannot be split into words: No closing quotation"),
        ('command = "prog { {lr}"', "write {{ for a brace"),
        ('command = "prog {lr} {width} {seed} | tail"', "'|' is for a shell"),
        ('command = "prog --{args}"', "write it as a word of its own"),
        ('command = "prog {lr} {width}"\nargs = "argparse"', "the command has no {args}"),
        ('command = "prog {args}"\nargs = "click"', "unknown form 'click'"),
        ("command = \"prog '{lr}'\"\nshell = true", "{lr} stands inside quotes"),
        ('command = ["prog"]\nshell = true', "one text, not a list"),
        ('command = "prog {args}"\nshell = 1', "shell: 1 is not true or false"),
        ('command = "prog {args}"\nenv = { "A-B" = "1" }', "'A-B' is not the name of an environment variable"),
        ('command = "prog {args}"\nenv = { A = 1 }', 'env.A: 1 is not text; write A = "..."'),
        ('command = "prog"\nconfig_file = "../c.json"', "is not a path in the cell's folder"),
        ('command = "prog"\nconfig_file = "c.ini"', ".json, .toml, .yaml"),
        ('command = "prog {args}"\nmetrics = "out.txt"', "metrics.file: 'out.txt' is not a path"),
        ('command = "prog {args}"\n[metrics]\nloss = "a(b)"', "belong in [metrics.patterns]"),
        ("command = \"prog {args}\"\nmetrics.patterns.loss = 'a(b'", "is not a regular expression"),
        ("command = \"prog {args}\"\nmetrics.patterns.loss = 'a'", "has 0 groups"),
        (
            "command = \"prog {args}\"\nmetrics.patterns.loss = { pattern = '(a)', take = 'mean' }",
            "unknown choice 'mean'",
        ),
        ('command = "prog {args}"\nfiles = ["../x"]', "in links ="),
        ('command = "prog {args}"\nfiles = ["no*.csv"]', "'no*.csv' matches no file in"),
        ('command = "prog {args}"\nlinks = ["nothere"]', "links: there is no"),
        ('command = "python train.py {args}"', "no file 'train.py' in"),
        ('command = "./run {args}"', "no file './run' in"),
        ('script = "train.py"', "no file 'train.py' in"),
        ('script = "train.py {lr}"', "is not the path of a script"),
        ('args = "hydra"', "args: belongs to a program"),
        ('command = "prog {lr} {seed} {widht}"', "unknown placeholder 'widht'; did you mean 'width'?"),
        ('command = "prog {lr} {seed}"', "config key 'width' is not used by the command; write {width}"),
        ('command = "prog {lr} {width}"', "seeds: there are several"),
        ('command = "prog {lr} {width} {seed} {k}"', "there is no k here"),
        ('command = "prog {args}"\nmetrics = "{nam}.json"', "unknown placeholder 'nam'"),
    ],
)
def test_mistakes_are_named_with_their_fix(head: str, message: str, folder: Path) -> None:
    assert message in problems_of(
        f"{head.partition('[metrics]')[0]}\n{TAIL}{head[len(head.partition('[metrics]')[0]) :]}"
    )


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ('method = ["a", "b"]\n', "write {method} in it"),
        ("k = 1\n", "config key 'k' is not used"),
        ("folder = 1\n", "config key 'folder' is the name of a placeholder"),
    ],
)
def test_parts_of_the_key_that_change_nothing_are_mistakes(block: str, message: str, folder: Path) -> None:
    assert message in problems_of(f'command = "prog {{seed}}"\nseeds = "0..1"\n[[grid]]\n{block}')


def test_folders_of_needed_cells_stand_for_the_seed_and_the_shared_settings(folder: Path) -> None:
    train = 'method = ["a", "b"]\nk = [1, 2]\nlr = [0.1, 0.01]\n'
    head = f'seeds = "0..1"\n[[grid]]\nblock = "train"\ncommand = "prog {{args}} {{method}}"\n{train}'
    second = '[[grid]]\ncommand = "prog {needs.train} {noise}"\nneeds = "train"\nnoise = [0, 1]\n'
    assert len(expand([Sweep.from_text(f"{head}{second}{train}")])) == 2 * (8 + 16)
    assert "'rate' is not used" in problems_of(f"{head}{second}{train}rate = [1, 2]\n")
    assert "write {method} in it" in problems_of(f'{head}{second}method = ["c", "d"]\n')
    one = second.replace("{needs.train}", "")
    message = problems_of(f"{head}{one}{train}")
    for text in ("'lr' is not used", "'k' is not used", "write {method} in it", "write {seed} in it, or at the top of"):
        assert text in message


def test_a_sweep_of_a_program_needs_neither_a_grid_nor_a_method(folder: Path) -> None:
    table = expand([Sweep.from_text('command = "prog {args}"\nseeds = "0..2"\n[config]\nlr = 1')])
    assert table.variants.select("method", "config").rows() == [("default", '{"lr":1}')]
    assert len(table) == 3


def test_ids_are_pinned_and_depend_on_what_the_program_is_told(folder: Path) -> None:
    def ids(head: str) -> list[str]:
        return expand([Sweep.from_text(f'name = "s"\n{head}\n{TAIL}')]).cells["cell_id"].to_list()

    first = ids('command = "prog --lr {lr} --width {width} --seed {seed}"')
    assert first[0] == PINNED
    assert ids('command = ["prog", "--lr", "{lr}", "--width", "{width}", "--seed", "{seed}"]') == first
    assert ids('command = "prog --lr {lr} --width {width} --seed {seed}"\nmetrics = "m.json"') == first
    others = [
        'command = "prog --lr {lr} --width {width} --seed  {seed} -v"',
        'command = "prog --lr {lr} --width {width} --seed {seed}"\nshell = true',
        'command = "prog --lr {lr} --width {width} --seed {seed}"\nenv = { A = "1" }',
        'command = "prog --lr {lr} --width {width} --seed {seed}"\nconfig_file = "c.json"',
        'command = "prog {args}"',
        'command = "prog {args}"\nargs = "hydra"',
    ]
    assert len({*first, *(cell for other in others for cell in ids(other))}) == len(first) * (len(others) + 1)
    write_script(folder)
    assert ids('script = "train.py"') == ids('command = "python train.py {args}"')


PINNED = "70af287587a0f1d95726f8e3"


def write_script(folder: Path) -> None:
    (folder / "nets").mkdir()
    for name, text in {
        "train.py": "import json, nets.small\nfrom helper import f\n",
        "helper.py": "def f(): import deep\n",
        "deep.py": "",
        "unrelated.py": "",
        "nets/small.py": "",
        "data.csv": "1",
        "base.yaml": "a: 1",
    }.items():
        (folder / name).write_text(text)


def files(head: str) -> list[Path]:
    return list(workload_of(Sweep.from_text(f"{head}\n{TAIL}")).shipped())


def test_a_programs_files_are_what_it_names_and_imports(folder: Path) -> None:
    write_script(folder)
    closure = ["deep.py", "helper.py", "nets/small.py", "train.py"]
    assert list(map(str, files('script = "train.py"'))) == closure
    assert list(map(str, files('command = "python -u train.py --base=base.yaml {args}"'))) == ["base.yaml", *closure]
    assert list(map(str, files('command = "python -m train {args}"\nfiles = ["*.csv"]'))) == ["data.csv", *closure]
    assert list(map(str, files('command = "cat data.csv | wc {args}"\nshell = true'))) == ["data.csv"]
    assert files('command = "true {args}"') == []
    (folder / "pkg" / "inner").mkdir(parents=True)
    modules = ["pkg/__init__.py", "pkg/inner/__init__.py", "pkg/inner/train.py", "pkg/util.py"]
    for name in modules:
        (folder / name).write_text("from .. import util\nimport deep\n" if name.endswith("train.py") else "")
    for module in ("pkg.inner.train", "pkg.util"):
        found = list(map(str, files(f'command = "python -m {module} {{args}}"')))
        assert found == (["deep.py", *modules] if module == "pkg.inner.train" else modules)


def test_a_program_is_found_beside_the_sweep_or_in_the_current_folder(folder: Path) -> None:
    write_script(folder)
    (folder / "sweeps").mkdir()
    path = folder / "sweeps" / "s.toml"
    path.write_text(f'script = "train.py"\n{TAIL}')
    assert workload_of(Sweep.load(path)).folder == str(folder)
    (folder / "sweeps" / "train.py").write_text("")
    assert workload_of(Sweep.load(path)).folder == str(folder / "sweeps")


def test_an_edit_of_a_file_changes_the_digest_and_no_other_edit_does(folder: Path) -> None:
    write_script(folder)
    found = program('script = "train.py"\nfiles = ["*.csv"]')

    def digest() -> str:
        return load_program(found, [str(folder)]).source_digest

    digests = [digest()]
    (folder / "unrelated.py").write_text("x = 1")
    (folder / "base.yaml").write_text("a: 2")
    assert digest() == digests[0]
    for name in ("train.py", "deep.py", "nets/small.py", "data.csv"):
        (folder / name).write_text((folder / name).read_text() + "\n# edited")
        digests.append(digest())
    assert len(set(digests)) == 5
    assert (
        load_program(program('script = "train.py"\nfiles = ["*.csv"]\nmetrics = "m.csv"'), [str(folder)]).source_digest
        not in digests
    )


def test_an_edited_script_makes_its_cells_changed(cli: Callable[..., Any], write: Callable[..., Path]) -> None:
    write("train.py", "print('{\"loss\": 1}')\n")
    write("s.toml", 'command = "python train.py"\nseeds = [0]\n')
    assert cli("launch", "s.toml", "--inline").returncode == 0
    assert json.loads(cli("plan", "s.toml", "--json").stdout)["states"]["done"] == 1
    write("train.py", "print('{\"loss\": 2}')\n")
    planned = json.loads(cli("plan", "s.toml", "--json").stdout)
    assert (planned["states"]["done"], planned["states"]["changed"]) == (0, 1)
    assert planned["commands"] == {"$ python train.py": "python train.py"}


def test_submit_refuses_links_that_the_nodes_could_not_find(
    cli: Callable[..., Any], write: Callable[..., Path]
) -> None:
    write("data.csv", "")
    write("s.toml", 'command = "cat {seed}"\nseeds = [0]\nlinks = ["data.csv"]\n')
    ended = cli("launch", "s.toml", "--submit", "http://127.0.0.1:9", "--store", "/tmp/nowhere")
    assert (ended.returncode, "links: 'data.csv' is relative" in ended.stderr) == (2, True)
