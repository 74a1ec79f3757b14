"""Hostile modules, sweep files and options: one clear error each, and nothing is written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch.launch import Launch, Options, launch
from raysweep.orchestrator.launch.request import from_store, from_sweeps
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.find import find
from raysweep.orchestrator.sweep.spec import Sweep, setting
from tests.orchestrator.sweeps import sweep_of


def test_cells_that_fit_nowhere_leave_no_store(write, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysweep.orchestrator.executors.inline import InlineExecutor

    write("fits.py", "def run(cell, context):\n    return {}\n")
    monkeypatch.setattr(InlineExecutor, "fits", lambda *_: "the largest node offers nothing")
    with pytest.raises(InputError, match="offers nothing"):
        launch(sweep_of("fits:run"), inline=True)
    assert not (folder / "results").exists()


def test_two_sweeps_of_one_name_each_find_their_own(folder: Path) -> None:
    for name in ("A", "B"):
        (folder / name).mkdir()
        body = "raise ValueError" if name == "A" else "return {'loss': 1.0}"
        (folder / name / f"mod{name}.py").write_text(f"def run(cell, context):\n    {body}\n")
        text = f'name="same"\nworkload="mod{name}:run"\nseeds=[0]\n[resources]\nretries=0\n[[grid]]\nmethod="m"\n'
        (folder / name / "s.toml").write_text(text)
    for name in ("A", "B"):
        launch(Sweep.load(folder / name / "s.toml"), inline=True)
    store = Store()
    Launch(from_store(store, None), store, Options(resume=True, executor="inline")).run()
    attempts = store.attempts.sort("workload", "attempt").select("workload", "attempt", "error_type").collect()
    assert attempts.rows() == [("modA:run", 1, "ValueError"), ("modA:run", 2, "ValueError"), ("modB:run", 1, None)]
    sizes = {entry.key: len(entry.table) for entry in store.sweeps()}
    assert sizes == {("same", str(folder / name / "s.toml")): 1 for name in ("A", "B")}


@pytest.mark.parametrize(
    ("module", "fact"),
    [
        ("def settle(method, k, config):\n    raise KeyError('depth')\n", "settle: KeyError: 'depth'"),
        ("def settle(method, k, config):\n    return 5\n", "settle: TypeError: it returned 5, not (k, config)"),
        ("def settle(method, k, config):\n    return 'a', config\n", "it returned k = 'a'"),
        ("def settle(method, k, config):\n    return 2**70, config\n", "it returned k = 1180591620717411303424"),
        ("def settle(method, k, config):\n    raise ValueError\n", "settle: ValueError"),
        ("def cost(method, k, config):\n    return None\n", "cost: TypeError"),
        ("def cost(method, k, config):\n    return 1 / 0\n", "cost: ZeroDivisionError"),
        ("class Config:\n    pass\n", "Config is <class 'hooks.Config'>; it must be a pydantic model"),
        ("METHODS = 5\n", "METHODS: TypeError"),
        ("VERSION = '\\ud800'\n", "VERSION is"),
        ("VERSION = object()\n", "VERSION is"),  # its text, with an address, would make new ids in each process
        ("class E(Exception):\n    def __str__(self):\n        raise SystemExit(9)\nraise E\n", "fails to import: E"),
        ("def __getattr__(name):\n    raise KeyError(name)\n", "hooks.py: VERSION: KeyError"),
        ("settle = 5\n", "settle is 5; it must be a function"),
    ],
)
def test_a_module_that_is_wrong_is_named(write, module: str, fact: str) -> None:
    write("hooks.py", module + "\ndef run(cell, context):\n    return {}\n")
    with pytest.raises(InputError) as caught:
        expand([sweep_of("hooks:run")])
    assert fact in str(caught.value)
    assert "hooks" in str(caught.value)


HEAD = 'name="s"\nworkload="odd:run"\nseeds=[1]\n'
DIGITS, HEX = "9" * 5000, "0x" + "f" * 6000


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        (f'{HEAD}[config]\nx={DIGITS}\n[[grid]]\nmethod="m"\n', "a number has thousands of digits"),
        (f'{HEAD}[config]\nx={HEX}\n[[grid]]\nmethod="m"\n', "<int of 24,000 bits> does not fit in 64 bits"),
        (f'{HEAD}[[grid]]\nmethod="m"\nk={HEX}\n', "does not fit in 64 bits"),
        (HEAD.replace("[1]", f"[{HEX}]") + '[[grid]]\nmethod="m"\n', "is not an integer from 0"),
        (HEAD.replace('"s"', HEX) + '[[grid]]\nmethod="m"\n', "name: <int"),
        (f'{HEAD}[resources]\ncpus={HEX}\n[[grid]]\nmethod="m"\n', "cpus: <int of 24,000 bits> is too large"),
        (f'{HEAD}[resources]\nretries=99999999999999999999\n[[grid]]\nmethod="m"\n', "is too large"),
        (f'{HEAD}[resources]\ntimeout_s=1e300\n[[grid]]\nmethod="m"\n', "timeout_s: 1e+300 is too large"),
        (f'{HEAD}[[grid]]\nmethod=""\n', "text of 1 to 300 characters"),
        (f'{HEAD}[config]\n"a\\u0000b"=1\n[[grid]]\nmethod="m"\n', "key 'a\\x00b'"),
        (
            HEAD + '[[grid]]\nmethod="m"\n' + "".join(f"a{i} = {list(range(50))}\n" for i in range(8)),
            "39,062,500,000,000 cells requested; at most 20,000,000",
        ),
        (HEAD.replace("[1]", '"0..99999999"') + '[[grid]]\nmethod="m"\n', "100,000,000 cells requested"),
    ],
)
def test_sizes_beyond_reason_are_refused_at_once(write, text: str, fact: str) -> None:
    write("odd.py", "def run(cell, context):\n    return {}\n")
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        from_sweeps([Sweep.from_text(text)], Store())
    assert fact in str(caught.value)
    assert time.monotonic() - began < 5


def test_options_beyond_reason_are_refused(write) -> None:
    write("odd.py", "def run(cell, context):\n    return {}\n")
    sweep = sweep_of("odd:run")
    for seeds in ("²", DIGITS):
        with pytest.raises(InputError, match="--seeds"):
            sweep.with_seeds(seeds)
    for text in (f"x={DIGITS}", "x=" + "[" * 3000, f"x={HEX}", "x=\udcff", "a\0b=1"):
        with pytest.raises(InputError, match="--set"):
            setting(text)
    for changes in ({"timeout_s": float("nan")}, {"timeout_s": float("inf")}, {"retries": 10**20}):
        with pytest.raises(InputError, match="given resources"):
            sweep.with_resources(**changes)
    for name in ("~nosuchuser/x.toml", "x" * 300, "x" * 300 + ".toml"):
        with pytest.raises(InputError):
            find(name)
    for path in ("~nosuchuser/x", "x" * 300, "\udcff"):
        with pytest.raises(InputError, match="store"):
            Store(path)
