"""Hostile cells, modules, sweep files and store folders: one clear word each, and nobody else is harmed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.launch.launch import Options, launch, run
from raysweep.orchestrator.launch.request import from_store, from_sweeps, select
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.sweep.cells import expand
from raysweep.orchestrator.sweep.find import find
from raysweep.orchestrator.sweep.spec import Sweep, setting
from tests.conftest import RAYSWEEP, environment

# Cells

HOSTILE = r"""
    import signal, sys, time

    class Shy(Exception):
        def __str__(self):
            raise SystemExit(7)

    class Slow:
        def __float__(self):
            time.sleep(30)

    def run(cell, context):
        name = cell.method
        if name == "prints bytes that are no text":
            print("name: \udcff")
        if name == "raises with a surrogate":
            raise ValueError("\ud800")
        if name == "surrogate metric":
            return {"a\ud800": 1.0}
        if name == "NUL metric":
            return {"a\0b": 1.0}
        if name == "surrogate array":
            context.array("a\ud800", [1.0])
        if name == "huge step":
            context.array("a", [1.0], step=2**70)
        if name == "huge stride":
            context.array("a", [1.0], stride=2**70)
        if name == "huge value":
            context.array("a", [1e300])
        if name == "shy error":
            raise Shy
        if name == "writes bytes":
            sys.stdout.write(b"abc")
        if name == "slow number":
            return {"loss": Slow()}
        if name == "deaf":
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            time.sleep(1.0)
        context.array("a", [1.0, 2.0])
        return {"loss": float(cell.seed)}
"""

FATES = {
    "fine": ("done", None),
    "prints bytes that are no text": ("done", None),
    "raises with a surrogate": ("failed", "ValueError"),
    "surrogate metric": ("failed", "ValueError"),
    "NUL metric": ("failed", "ValueError"),
    "surrogate array": ("failed", "ValueError"),
    "huge step": ("failed", "ValueError"),
    "huge stride": ("failed", "ValueError"),
    "huge value": ("failed", "ValueError"),
    "shy error": ("failed", "Shy"),
    "writes bytes": ("failed", "TypeError"),
    "slow number": ("timed_out", "CellTimeout"),
    "deaf": ("timed_out", "CellTimeout"),
}


def sweep_of(workload: str, more: str = "", seeds: str = "[0]", methods: list[str] | None = None) -> Sweep:
    grid = f"[[grid]]\nmethod = {json.dumps(methods or ['m'])}\n"
    return Sweep.from_text(f'name="s"\nworkload="{workload}"\nseeds={seeds}\n{more}\n{grid}')


def test_a_hostile_cell_is_a_row_and_harms_no_other(write) -> None:
    write("hostile.py", HOSTILE)
    result = launch(sweep_of("hostile:run", "[resources]\nretries=0\ntimeout_s=0.5", methods=list(FATES)), inline=True)
    store = Store()
    rows = store.attempts.select("method", "status", "error_type").collect().rows()
    assert {method: (status, kind) for method, status, kind in rows} == FATES
    assert (result.done, result.failed) == (2, len(FATES) - 2)
    printed = store.cells.filter(pl.col("method").str.starts_with("prints")).select("cell_id").collect().item()
    logs = store.attempts.filter(pl.col("cell_id") == printed).select("log_tail").collect().item()
    assert logs == "name: \ufffd\n"
    assert store.check() == []
    assert store.sql("SELECT * FROM cells").height == len(FATES)


def test_what_no_table_can_hold_fails_alone(write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysweep.orchestrator.run.cell._checked", dict)  # as if a worker let something through
    write("three.py", "def run(cell, context):\n    return {'loss': 'much' if cell.seed == 1 else 1.0}\n")
    result = launch(sweep_of("three:run", seeds='"0..2"'), inline=True)
    assert (result.done, result.failed, result.left, result.exit_code) == (2, 1, 0, 1)
    failed = Store().attempts.filter(pl.col("status") == "failed").collect().row(0, named=True)
    assert (failed["seed"], failed["error_type"]) == (1, "NotRecordable")
    assert "much" in failed["error_message"]


def test_a_cell_that_changes_folder_loses_nothing(write, folder: Path) -> None:
    write("moves.py", "import os\ndef run(cell, context):\n    os.chdir('/')\n    return {'loss': 1.0}\n")
    assert launch(sweep_of("moves:run", seeds='"0..2"'), store="results", inline=True).done == 3
    assert Path.cwd() == folder
    assert Store("results").cells.collect().height == 3


FORKS = """
    import os, sys

    def run(cell, context):
        child = os.fork()
        if child == 0:
            return {"loss": 2.0}  # goes on where the launch is its parent's
        os.waitpid(child, 0)
        return {"loss": 1.0}
"""


def test_a_forked_child_never_drives(cli_process, write) -> None:
    write("forks.py", FORKS)
    write("forks.toml", 'name="forks"\nworkload="forks:run"\nseeds="0..2"\n[[grid]]\nmethod="m"\n')
    ended = cli_process("launch", "forks.toml", "--inline", timeout=30)
    assert ended.returncode == 0, ended.stderr
    assert Store("results").sql("SELECT seed, loss FROM cells ORDER BY seed").rows() == [(0, 1.0), (1, 1.0), (2, 1.0)]


LEAVES_A_CHILD = """
    import multiprocessing, os, signal, time

    def run(cell, context):
        child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(30,))
        child.start()
        open("child", "w").write(str(child.pid))
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_child_that_outlives_the_launch_holds_nothing(cli, write, folder: Path) -> None:
    write("leaves.py", LEAVES_A_CHILD)
    write("leaves.toml", 'name="leaves"\nworkload="leaves:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    process = subprocess.Popen(
        [*RAYSWEEP, "launch", "leaves.toml", "--inline"], cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        assert process.wait(30) == -signal.SIGKILL
        write("leaves.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
        assert cli("launch", "leaves.toml", "--inline").returncode == 0
        os.kill(int((folder / "child").read_text()), 0)  # it lives on
    finally:
        os.kill(int((folder / "child").read_text()), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("folder_of_it", ["arrays", "attempts", "cells"])
def test_an_interrupt_within_a_commit_comes_after_it(
    write, monkeypatch: pytest.MonkeyPatch, number: int, folder_of_it: str
) -> None:
    from raysweep.orchestrator.store.writer import StoreWriter

    write("arr.py", "def run(cell, context):\n    context.array('a', [1.0])\n    return {'loss': 1.0}\n")
    commit, sent = StoreWriter._commit, []

    def interrupted(self, folder, *rest):
        if folder == folder_of_it and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)
            time.sleep(0.05)
        return commit(self, folder, *rest)

    monkeypatch.setattr(StoreWriter, "_commit", interrupted)
    monkeypatch.setattr(launcher, "FLUSH_OUTCOMES", 3)
    launch(sweep_of("arr:run", seeds='"0..9"'), inline=True)
    assert sent
    store = Store()
    counts = [store.scan(name).collect().height for name in ("arrays", "attempts", "cells")]
    assert counts[0] == counts[1] == counts[2] > 0
    launch(sweep_of("arr:run", seeds='"0..9"'), inline=True)
    assert [store.scan(name).collect().height for name in ("arrays", "attempts", "cells")] == [10, 10, 10]
    assert store.check() == []


def test_an_interrupt_reaches_the_cell_and_nothing_finished_is_lost(write) -> None:
    write(
        "stops.py",
        """
        import os, signal, time

        def run(cell, context):
            if cell.seed == 3:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(10)
            return {"loss": 1.0}
        """,
    )
    result = launch(sweep_of("stops:run", seeds='"0..9"'), inline=True)
    assert (result.stopped, result.done, result.exit_code) == ("interrupted", 3, 130)
    assert dict(Store().attempts.collect().group_by("status").len().iter_rows()) == {"done": 3, "cancelled": 1}


# Queries


@pytest.fixture
def odd(write) -> Store:
    write(
        "odd.py",
        """
        def run(cell, context):
            context.array("a", [1.0])
            many = {"Loss": 10.0, "loss": 2.0} if cell.seed == 1 else {"loss": 1.0}
            return {**many, "acc@1": 0.5, "val loss": 3.0, "x": 7.0, "metric_x": 8.0, 'q"q': 9.0}
        """,
    )
    sweep = Sweep.from_text(
        'name="odd"\nworkload="odd:run"\nseeds="0..2"\n'
        '[config]\n"lr.max" = 0.25\nx = 1\nwindow = 5\n[[grid]]\nmethod="m"\n'
    )
    launch(sweep, inline=True)
    return Store()


def test_names_that_sql_takes_for_one_are_told_apart(odd: Store) -> None:
    rows = odd.sql('SELECT seed, "metric_Loss_1", "metric_loss_2" FROM cells ORDER BY seed').rows()
    assert rows == [(0, None, 1.0), (1, 10.0, 2.0), (2, None, 1.0)]
    with pytest.raises(InputError, match="metric_loss_2"):
        odd.sql("SELECT loss FROM cells")
    names = {n for n in odd.sql("SELECT * FROM cells").columns if "x" in n and n not in ("experiment", "seed")}
    assert names == {"config_x", "metric_x_1", "metric_x_2", "lr.max"}
    assert odd.sql("SELECT DISTINCT config_x, metric_x_1, metric_x_2 FROM cells").rows() == [(1, 8.0, 7.0)]


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ('SELECT DISTINCT "acc@1" FROM cells', [(0.5,)]),
        ('SELECT DISTINCT "val loss", "lr.max", "q""q" FROM cells', [(3.0, 0.25, 9.0)]),
        ("SELECT DISTINCT COLUMNS('val.*') FROM cells", [(3.0,)]),
        ("SELECT count(*) FROM cells", [(3,)]),
        ('SELECT count(*) FROM cells WHERE "lr.max" = 0.25', [(3,)]),
    ],
)
def test_a_column_is_there_whoever_names_it(odd: Store, sql: str, said: list[tuple[object, ...]]) -> None:
    assert odd.sql(sql).rows() == said


@pytest.mark.parametrize(
    "sql",
    [
        "FROM cells", "TABLE cells", "SELECT c FROM cells AS c", "SELECT cells FROM cells", "SUMMARIZE cells",
        "WITH w AS (FROM cells) SELECT DISTINCT w FROM w", "PIVOT cells ON seed USING sum(1)",
    ],
)  # fmt: skip
def test_what_names_no_column_gets_all(odd: Store, sql: str) -> None:
    answer = odd.sql(sql)
    assert "val loss" in " ".join(answer.columns) or "val loss" in str(answer.to_dicts())


@pytest.mark.parametrize(
    ("sql", "columns", "row"),
    [
        ("SELECT 1 a, 2 a, 3 a", ["a", "a_1", "a_2"], (1, 2, 3)),
        ("SELECT 1 a, 2 a, 3 a_1", ["a", "a_1", "a_1_1"], (1, 2, 3)),
        ("SELECT INTERVAL 1 DAY d", ["d"], ("1 day",)),
        ("SELECT union_value(a := 1) u, 5 v", ["u", "v"], ("1", 5)),
        ("SELECT 'infinity'::TIMESTAMP t", ["t"], ("infinity",)),
        ("SELECT DATE '-infinity' d", ["d"], ("-infinity",)),
        ("SELECT [INTERVAL 1 DAY] l", ["l"], ("[1 day]",)),
    ],
)
def test_an_answer_is_a_frame_whatever_it_holds(
    odd: Store, sql: str, columns: list[str], row: tuple[object, ...]
) -> None:
    answer = odd.sql(sql)
    assert (answer.columns, answer.row(0)) == (columns, row)
    assert str(answer)


def test_joined_tables_may_share_names(odd: Store) -> None:
    columns = odd.sql("SELECT * FROM cells, arrays LIMIT 1").columns
    assert {"cell_id", "cell_id_1", "attempt_1"} <= set(columns)


@pytest.mark.parametrize("where", ["true), (true", "seed", "\udcff = 1"])
def test_where_that_is_no_condition(odd: Store, where: str) -> None:
    with pytest.raises(InputError, match="--where"):
        select(odd.known(), odd, where)


def test_where_knows_every_config_key(odd: Store) -> None:
    assert len(select(odd.known(), odd, '"lr.max" = 0.25 and seed < 2')[0]) == 2


def test_columns_named_like_words_of_sql(odd: Store) -> None:
    for refused in (
        lambda: odd.sql("SELECT window FROM cells"),
        lambda: select(odd.known(), odd, "window = 5"),
    ):
        with pytest.raises(InputError, match='write the column as "window"'):
            refused()
    with pytest.raises(InputError) as other:
        odd.sql("SELECT 'window' FRM cells")
    assert "double quotes" not in str(other.value)
    assert len(select(odd.known(), odd, '"window" = 5')[0]) == 3


# Sweeps and modules


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
    run(from_store(store, None), store, Options(resume=True, executor="inline"))
    found = store.attempts.sort("workload", "attempt").select("workload", "attempt", "error_type").collect()
    assert found.rows() == [("modA:run", 1, "ValueError"), ("modA:run", 2, "ValueError"), ("modB:run", 1, None)]
    about = {entry.key: len(entry.table) for entry in store.sweeps()}
    assert about == {("same", str(folder / name / "s.toml")): 1 for name in ("A", "B")}


@pytest.mark.parametrize(
    ("module", "said"),
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
        ("class E(Exception):\n    def __str__(self):\n        raise SystemExit(9)\nraise E\n", "does not import: E"),
        ("def __getattr__(name):\n    raise KeyError(name)\n", "hooks.py: VERSION: KeyError"),
        ("settle = 5\n", "settle is 5; it must be a function"),
    ],
)
def test_a_module_that_is_wrong_is_named(write, module: str, said: str) -> None:
    write("hooks.py", module + "\ndef run(cell, context):\n    return {}\n")
    with pytest.raises(InputError) as caught:
        expand([sweep_of("hooks:run")])
    assert said in str(caught.value)
    assert "hooks" in str(caught.value)


HEAD = 'name="s"\nworkload="odd:run"\nseeds=[1]\n'
DIGITS, HEX = "9" * 5000, "0x" + "f" * 6000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{HEAD}[config]\nx={DIGITS}\n[[grid]]\nmethod="m"\n', "cannot be read"),
        (f'{HEAD}[config]\nx={HEX}\n[[grid]]\nmethod="m"\n', "<int of 24,000 bits> does not fit 64 bits"),
        (f'{HEAD}[[grid]]\nmethod="m"\nk={HEX}\n', "does not fit 64 bits"),
        (HEAD.replace("[1]", f"[{HEX}]") + '[[grid]]\nmethod="m"\n', "is not an integer from 0"),
        (HEAD.replace('"s"', HEX) + '[[grid]]\nmethod="m"\n', "name: <int"),
        (f'{HEAD}[resources]\ncpus={HEX}\n[[grid]]\nmethod="m"\n', "cpus: <int of 24,000 bits> is too large"),
        (f'{HEAD}[resources]\nretries=99999999999999999999\n[[grid]]\nmethod="m"\n', "is too large"),
        (f'{HEAD}[resources]\ntimeout_s=1e300\n[[grid]]\nmethod="m"\n', "timeout_s: 1e+300 is too large"),
        (f'{HEAD}[[grid]]\nmethod=""\n', "is not text of 1 to 300 characters"),
        (f'{HEAD}[config]\n"a\\u0000b"=1\n[[grid]]\nmethod="m"\n', "key 'a\\x00b'"),
        (
            HEAD + '[[grid]]\nmethod="m"\n' + "".join(f"a{i} = {list(range(50))}\n" for i in range(8)),
            "39,062,500,000,000 cells are asked for; 5,000,000 at most",
        ),
        (HEAD.replace("[1]", '"0..99999999"') + '[[grid]]\nmethod="m"\n', "100,000,000 cells are asked for"),
    ],
)
def test_sizes_beyond_reason_are_refused_at_once(write, text: str, said: str) -> None:
    write("odd.py", "def run(cell, context):\n    return {}\n")
    began = time.monotonic()
    with pytest.raises(InputError) as caught:
        from_sweeps([Sweep.from_text(text)], Store())
    assert said in str(caught.value)
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


# Foreign things in a store's folder


@pytest.fixture
def made(write) -> Path:
    write("arr.py", "def run(cell, context):\n    context.array('a', [1.0])\n    return {'loss': 1.0}\n")
    launch(sweep_of("arr:run", seeds='"0..3"'), inline=True)
    return Path("results")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def torn(path: Path) -> None:
    path.write_text("{")


@pytest.mark.parametrize(
    ("put", "name"),
    [
        (pipe, "_sweeps/a.arrow"), (pipe, "cells/00000007-00000000.parquet"), (pipe, "_tmp/pipe"),
        (dangling, "cells/00000007-00000000.parquet"), (Path.mkdir, "_tmp/folder"),
        (Path.mkdir, "cells/00000007-00000000.parquet"), (Path.mkdir, "_epochs/00000007.json"),
        (torn, "_epochs/00000007.json"),
    ],
)  # fmt: skip
def test_check_names_what_is_foreign(made: Path, put, name: str) -> None:
    put(made / name)
    problems = Store().check()
    assert any(name in line for line in problems), problems
    if name.startswith(("cells", "_sweeps")):
        with pytest.raises(InputError, match=name):
            Store().sql("SELECT count(*) FROM cells")


def test_check_finds_flipped_bytes_in_a_recorded_sweep(made: Path) -> None:
    (path,) = (made / "_sweeps").iterdir()
    data = bytearray(path.read_bytes())
    for at in (20, len(data) // 2, len(data) - 50):
        path.write_bytes(bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]]))
        assert [path.name in line for line in Store().check()] == [True]


def test_check_misses_no_missing_folder_of_segments(made: Path) -> None:
    for path in (made / "cells").iterdir():
        path.unlink()
    assert ["have no row in cells" in line for line in Store().check()] == [True]
    from raysweep.orchestrator.store.writer import StoreWriter

    with StoreWriter(Store()) as owner:
        owner.compact()
    assert Store().check() == []
    assert Store().cells.collect().height == 4


def test_a_store_that_is_none_is_refused_in_a_line(made: Path, folder: Path) -> None:
    for mark in ('{"format": 1e999, "schema": 1}', "[" * 100_000):
        (made / "store.json").write_text(mark)
        with pytest.raises(InputError, match=r"store\.json"):
            Store()
    (made / "store.json").unlink()
    (made / "store.json").mkdir()
    with pytest.raises(InputError, match=r"store\.json"):
        Store()
    (folder / "file").write_text("")
    with pytest.raises(InputError, match="not a folder"):
        launch(sweep_of("arr:run"), store="file/sub", inline=True)
    (folder / "other").mkdir()
    (folder / "other/cells").write_text("")
    with pytest.raises(InputError, match="cannot be made"):
        launch(sweep_of("arr:run"), store="other", inline=True)


def test_a_lock_that_is_a_folder_is_refused(made: Path) -> None:
    (made / "_lock").unlink()
    (made / "_lock").mkdir()
    with pytest.raises(InputError, match="_lock"):
        launch(sweep_of("arr:run", seeds="[9]"), inline=True)


# The command line


def test_nothing_of_a_cell_commands_the_terminal(cli, write) -> None:
    body = "def run(cell, context):\n    if cell.seed:\n        raise type('\\x1b[31mE', (Exception,), {})\n"
    write("esc.py", body + "    return {'\\x1b[31mred': 1.0}\n")
    write("esc.toml", 'name="esc"\nworkload="esc:run"\nseeds="0..1"\n[[grid]]\nmethod="m"\n')
    cli("launch", "esc.toml", "--inline", "--retries", "0")
    for cell_id in Store("results").attempts.select("cell_id").collect()["cell_id"]:
        shown = cli("show", cell_id)
        assert "[31m" in shown.stdout
        assert "\x1b" not in shown.stdout + shown.stderr


def test_output_that_goes_nowhere_is_a_line(write, folder: Path) -> None:
    write("arr.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    launch(sweep_of("arr:run"), inline=True)
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [*RAYSWEEP, "status"], cwd=folder, env=environment(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (ended.returncode, ended.stderr) == (1, "error: output: No space left on device\n")
    ascii_only = {**environment(), "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([*RAYSWEEP, "status"], cwd=folder, env=ascii_only, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "1 of 1 cell done" in ended.stdout


def test_the_command_line_bounds_its_numbers(cli, write) -> None:
    write("arr.py", "def run(cell, context):\n    return {'loss': 1.0}\n")
    write("arr.toml", 'name="arr"\nworkload="arr:run"\nseeds=[0]\n[[grid]]\nmethod="m"\n')
    for option in (["--retries", "9" * 20], ["--timeout", "nan"], ["--timeout", "1e300"]):
        ended = cli("launch", "arr.toml", "--inline", *option)
        assert ended.returncode == 2
        assert "Traceback" not in ended.stderr
    assert not Path("results").exists()
