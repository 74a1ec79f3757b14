"""Bad input: one clear message each, all of a file together, exit 2, nothing written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.find import find
from raysweep.orchestrator.sweep.spec import Sweep, setting
from tests.conftest import SWEEP, TINY

HEAD = 'name="s"\nworkload="online_rnn"\nseeds=[1]\n'


def problems(text: str) -> str:
    with pytest.raises(InputError) as caught:
        expand([Sweep.from_text(text)])
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("name = ", "not valid TOML"),
        (HEAD, "grid[0].method: missing; online_rnn has the methods"),
        (HEAD.replace("online_rnn", "online_rmn") + '[[grid]]\nmethod="rtrl"', "did you mean 'online_rnn'?"),
        (HEAD + '[[grid]]\nmethod="rlfo"', "unknown method 'rlfo'"),
        (HEAD + '[[grid]]\nmethod="rttl"', "did you mean 'rtrl'?"),
        (HEAD + '[[grid]]\nmethod="rtrl"\ntimeout_s=5', "timeout_s: | [resources]"),
        ('name="a"\nworkload="mine.run"\nseeds=[1]\n[[grid]]\nmethod="a"', "or name one of your own as 'mine:run'"),
        (HEAD + '[config]\nhiden=3\n[[grid]]\nmethod="rtrl"', "unknown config key 'hiden'; did you mean 'hidden'?"),
        (HEAD + '[config]\nstream="sin"\n[[grid]]\nmethod="rtrl"', "did you mean 'sine'?"),
        (HEAD + '[config]\nhidden="64"\n[[grid]]\nmethod="rtrl"', "config key 'hidden'"),
        (HEAD + '[config]\nlearning_rate=nan\n[[grid]]\nmethod="rtrl"', "config.learning_rate: nan is not finite"),
        (HEAD + '[config]\nlearning_rate=inf\n[[grid]]\nmethod="rtrl"', "config.learning_rate: inf is not finite"),
        (HEAD + '[[grid]]\nmethod="sparse_rtrl"\nk=65', "k = 65"),
        (HEAD + '[[grid]]\nmethod="sparse_rtrl"\nk=-1', "grid[0].k: -1 is negative"),
        (HEAD + '[[grid]]\nmethod="sparse_rtrl"\nk=3', "k = 3"),
        (HEAD + '[[grid]]\nmethod="sparse_rtrl"\nk="4"', "grid[0].k: '4' is not an integer"),
        (HEAD + '[[grid]]\nmethod="sparse_rtrl"\nk=[]', "grid[0].k: | empty list"),
        (HEAD + '[[grid]]\nmethod="rtrl"\ndecay=0.5', "decay"),
        (HEAD.replace("[1]", "[1, 2, 1]") + '[[grid]]\nmethod="rtrl"', "seeds: 1 | twice"),
        (HEAD.replace("[1]", '"4..2"') + '[[grid]]\nmethod="rtrl"', "'4..2' is not a range"),
        (HEAD + '[[grid]]\nmethod="rtrl"\n[[grid]]\nmethod="rtrl"\nk=64', "gives the same cells as grid[0]"),
        (HEAD.replace("[1]", '"0-4"') + '[[grid]]\nmethod="rtrl"', "'0-4' is not a range; did you mean \"0..4\"?"),
        (HEAD + '[grid]\nmethod="rtrl"', "[grid] is one table | write [[grid]]"),
        (
            HEAD + 'timeout_s=3\n[[grid]]\nmethod="rtrl"',
            "timeout_s: | top of the file | [resources]",
        ),
        (HEAD + 'method="rtrl"\n', "method: | top of the file | [[grid]]"),
        (HEAD + 'hidden=3\n[[grid]]\nmethod="rtrl"', "unknown key 'hidden' | [config] or [[grid]]"),
        (HEAD + '[config]\nhidden=[1, 2]\n[[grid]]\nmethod="rtrl"', "one by one | hidden = [1, 2] | [[grid]]"),
        (HEAD + "sedes=3\n" + '[[grid]]\nmethod="rtrl"', "unknown key 'sedes'; did you mean 'seeds'?"),
        (HEAD + '[resources]\ncpu=1\n[[grid]]\nmethod="rtrl"', "unknown resource 'cpu'; did you mean 'cpus'?"),
        (HEAD.replace("online_rnn", "nowhere:run") + '[[grid]]\nmethod="a"', "no module 'nowhere'"),
    ],
)
def test_each_mistake_has_its_message(text: str, facts: str) -> None:
    message = problems(text)
    assert [fact for fact in facts.split(" | ") if fact not in message] == []


VIT = 'name="s"\nworkload="vit"\nseeds=[1]\n'


def test_a_mistake_of_several_blocks_is_reported_once_and_where_it_was_made() -> None:
    blocks = '[[grid]]\nmethod="dense_ref"\n[[grid]]\nmethod="sparse"\nk=[13, 2]\n[[grid]]\nmethod="trace_like"\n'
    in_file = problems(VIT + "[config]\nlearning_rate=-1.0\n" + blocks).splitlines()
    assert in_file == [
        "s: config: config key 'learning_rate': input should be greater than 0 (got -1)",
        "s: grid[1]: k = 13 with 12 heads; valid: 1 to 12",  # though the config is wrong, too
    ]
    typed = Sweep.from_text(VIT + blocks.replace("13, ", "")).with_settings({"patch": 5, "epocs": 2})
    with pytest.raises(InputError) as caught:
        expand([typed])
    first, second = caught.value.problems
    assert first.startswith("--set epocs=2 on s: unknown config key 'epocs'; did you mean 'epochs'?")
    assert second == "--set patch=5 on s: patch = 5 does not divide 32 pixels; valid: 1, 2, 4, 8, 16, 32"
    varied = problems(
        VIT + '[[grid]]\nmethod="dense_ref"\n[[grid]]\nmethod=["dense_ref", "trace_like"]\npatch=[5, 3]\n'
    )
    assert varied.splitlines() == [
        f"s: grid[1]: patch = {patch} does not divide 32 pixels; valid: 1, 2, 4, 8, 16, 32" for patch in (5, 3)
    ]


def test_a_value_that_fits_no_pattern_is_described() -> None:
    message = problems(VIT + '[config]\ndata_set="cifar10_subset.parquet"\n[[grid]]\nmethod="dense_ref"\n')
    assert message.endswith("(got 'cifar10_subset.parquet'); expected: name of a prepared file, without .parquet")


def test_a_key_in_the_wrong_place_is_sent_to_the_right_one() -> None:
    first, second = problems(VIT + '[config]\nk=3\n[[grid]]\nmethods="dense_ref"\n').splitlines()
    assert first.startswith("sweep: grid[0].methods: the key is method")
    assert second.startswith("s: config: k: ")
    assert "[[grid]] block: k = 4" in second


def test_all_problems_of_a_file_come_together() -> None:
    text = problems(
        'name="a b"\nworkload="online_rnn"\nseeds=[1,1]\n[config]\nhiden=1\n[[grid]]\nmethod="rtrl"\nk=-2\n'
    )
    for fact in ("name: 'a b'", "seeds: 1 appears twice", "grid[0].k: -2", "unknown config key 'hiden'"):
        assert fact in text


@pytest.mark.parametrize("module", ["workloads.interface", "orchestrator.store", "analysis"])
def test_a_module_that_imports_ours_by_a_name_of_before_0_1_is_given_the_new_one(
    write, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests' own path has the checkout, whose folders can still be imported by these names."""
    top = module.partition(".")[0]
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, top, None)
    write("older.py", f"import {module}\ndef run(cell, context):\n    return {{}}\n")
    text = 'name="s"\nworkload="older:run"\nseeds=[1]\n[[grid]]\nmethod="a"\n'
    message = problems(text)
    assert "workload 'older:run' fails to import: " in message
    assert f"since version 0.1.0 its name is raysweep.{top}" in message
    write("older.py", "import missing_one\n")
    assert "0.1.0" not in problems(text)


def test_a_mark_of_another_copy_of_raysweep_is_refused(write) -> None:
    """It would not be seen, and every cell would get another id."""
    write(
        "marked.py",
        """
        from typing import Annotated
        from pydantic import BaseModel

        AddedLater = type("AddedLater", (), {"__module__": "workloads.interface"})

        class Config(BaseModel, frozen=True, extra="forbid"):
            rate: Annotated[float, AddedLater()] = 0.5

        def run(cell, context):
            return {}
        """,
    )
    message = problems('name="s"\nworkload="marked:run"\nseeds=[1]\n[[grid]]\nmethod="a"\n')
    for name in ("rate", "workloads.interface", "raysweep.workloads.interface"):
        assert repr(name) in message


def test_user_module_that_fails_or_lacks_the_function(write) -> None:
    write("broken.py", "raise RuntimeError('no luck')\n")
    write("empty.py", "def go(cell, context):\n    return {}\n")
    text = 'name="s"\nworkload="{}"\nseeds=[1]\n[[grid]]\nmethod="a"\n'
    assert "fails to import: RuntimeError: no luck" in problems(text.format("broken:run"))
    assert "empty has no function 'run'; it has: go" in problems(text.format("empty:run"))


def test_groups_are_of_sweeps_that_there_are_and_known_by_name() -> None:
    for group in ("paper/rnn", "paper/vit"):
        assert len(find(group)) > 3
    with pytest.raises(InputError, match=r"did you mean paper/vit\?"):
        find("paper/wit")


def test_bundled_sweeps_are_named_whole_by_folder_or_by_pattern() -> None:
    every = find("paper")
    assert len(every) > 20
    assert find("paper/") == find("paper/*") == every
    assert [path.stem for path in find("paper/e1-*")] == ["e1-sine", "e1-tbptt"]
    for beginning in ("p", "pape", "paper/e", "paper/e1", "paper/e1-"):
        with pytest.raises(InputError, match=r"begin with it; to name all of them, write '.*\*' in quotes"):
            find(beginning)


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_name_is_not_every_sweep(name: str, write) -> None:
    write("tiny.toml", SWEEP)
    with pytest.raises(InputError, match="empty"):
        find(name)


def test_missing_file_and_unknown_bundled_name(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no sweep file x\.toml"):
        find("x.toml")
    with pytest.raises(InputError, match="did you mean paper/e1-sine"):
        find("paper/e1-sin0")
    (folder / "mine.toml").write_text(SWEEP)
    for name in ("mine", "mine.tml", "mime.toml", str(folder / "mine")):
        with pytest.raises(InputError, match=r"; did you mean .*mine\.toml\?$"):
            find(name)
    (folder / "notes").mkdir()
    with pytest.raises(InputError, match=r"'notes'.* no \.toml"):
        find("notes")
    assert [p.name for p in find("paper/e1-sine")] == ["e1-sine.toml"]


@pytest.mark.parametrize(
    ("text", "value"), [("a=1", 1), ("a=1.5", 1.5), ("a=true", True), ("a=x y", "x y"), ("a=[1,2]", [1, 2])]
)
def test_set_takes_toml_or_text(text: str, value: object) -> None:
    assert setting(text) == ("a", value)


def test_set_changes_a_varied_key_where_it_varies() -> None:
    table = expand([Sweep.load("paper/e1-sine").with_settings({"decay": 0.5})])
    assert len(table) == 35


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["launch", "tiny.toml", "--inline", "--where", "nope = 1"], "--where 'nope = 1'"),
        (["launch", "tiny.toml", "--inline", "--where", "method = a"], "single quotes: method = 'a')"),
        (["launch", "tiny.toml", "--inline", "--where", 'seed < 2 and method <> "a"'], "seed < 2 and method <> 'a')"),
        (["launch", "tiny.toml", "--inline", "--where", "metod = 'a'"], "(did you mean 'method'?)"),
        (["launch", "tiny.toml", "--inline", "--where", "seed"], "not a condition"),
        (["launch", "tiny.toml", "--inline", "--where", "seed = 77"], "none of the 8 cells matches"),
        (["launch", "tiny.toml", "--inline", "--set", "nothing"], "not of the form key=value"),
        (["launch", "tiny.toml", "--inline", "--store", "tiny.toml"], "is a file"),
        (["launch", "tiny.toml", "--inline", "--store", "other"], "files in it but no store.json"),
        (["launch", "tiny.toml", "--inline", "--seeds", "x"], "--seeds"),
        (
            ["launch", "tiny.toml", "--inline", "--seeds", "0-3"],
            "--seeds: '0-3' is not a range; did you mean \"0..3\"?",
        ),
        (["query", "SELECT 1"], "no store at results"),
        (["plan", "tony.toml"], "no sweep file tony.toml"),
    ],
)
def test_command_line_refuses_and_writes_nothing(cli, write, folder: Path, arguments: list[str], fact: str) -> None:
    write("tiny.toml", SWEEP)
    write("tiny.py", TINY)
    (folder / "other").mkdir()
    write("other/notes.txt", "mine")
    before = sorted(p.relative_to(folder) for p in folder.rglob("*") if "__pycache__" not in p.parts)
    ended = cli(*arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert fact in ended.stderr
    assert "Traceback" not in ended.stderr
    assert sorted(p.relative_to(folder) for p in folder.rglob("*") if "__pycache__" not in p.parts) == before


def test_a_list_in_config_is_warned_of_where_no_config_model_checks_it(cli, write) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP.replace("[[grid]]", "[config]\nrate = [1, 2]\n[[grid]]"))
    planned = cli("plan", "tiny.toml", "--json")
    assert json.loads(planned.stdout)["cells"] == 8  # the list is one value
    assert (
        "config.rate: each cell gets the whole list; to try its values one by one, write rate = [1, 2] in [[grid]]"
        in planned.stderr
    )
    assert "whole list" not in cli("plan", "tiny.toml", "--set", "rate=[3, 4]").stderr  # requested by its name


def test_a_limit_among_the_settings_is_warned_of(cli, write) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP.replace("[[grid]]", "[config]\nretries = 3\n[[grid]]\ntimeout_s = 5"))
    warnings = cli("plan", "tiny.toml").stderr
    assert "grid[0].timeout_s: is passed to the workload as a setting; a limit belongs under [resources]" in warnings
    assert "config.retries: is passed to the workload as a setting" in warnings


def test_a_workload_in_a_folder_that_is_no_package_is_told_what_it_lacks(write, folder: Path) -> None:
    (folder / "models").mkdir()
    write("models/net.py", TINY)
    with pytest.raises(InputError, match=r"models has no __init__\.py"):
        expand([Sweep.load(write("net.toml", SWEEP.replace("tiny:run", "models.net:run")))])
