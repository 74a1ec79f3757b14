"""Whatever ends a command, its exit code is a documented one, and what it has said is true."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from raysweep import Store, Sweep, launch
from raysweep.orchestrator.launch import launch as launcher
from raysweep.orchestrator.schedule import driver
from tests.conftest import RAYSWEEP, SWEEP, TINY, environment

SLOW = """
    import time
    def run(cell, context):
        time.sleep(0.05)
        return {"x": 1.0}
"""
MANY = 'name="m"\nworkload="slow:run"\nseeds="0..999"\n[[grid]]\nmethod="a"\n'


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("import os\nos._exit(0)", "fails to import: SystemExit: it called os._exit(0)"),
        ("from os import _exit\n_exit(0)", "fails to import: SystemExit: it called os._exit(0)"),
        ("raise SystemExit(0)", "fails to import: SystemExit: 0"),
        ("raise KeyboardInterrupt", "fails to import: KeyboardInterrupt"),
        ("def settle(method, k, config):\n    raise SystemExit(0)", "settle: SystemExit: 0"),
        ("def cost(method, k, config):\n    raise SystemExit(0)", "cost: SystemExit: 0"),
        ("def lacks(config):\n    raise SystemExit(0)", "lacks() raised SystemExit: 0"),
        (
            "import pydantic\nclass Config(pydantic.BaseModel):\n    @pydantic.model_validator(mode='after')\n"
            "    def check(self):\n        raise SystemExit(0)",
            "Config: SystemExit: 0",
        ),
    ],
)
def test_code_of_users_cannot_end_a_command_as_if_it_had_succeeded(module: str, message: str, cli, write) -> None:
    write("tiny.py", f"{module}\n{textwrap.dedent(TINY)}")
    write("tiny.toml", SWEEP)
    ended = cli("launch", "tiny.toml", "--inline")
    assert (ended.returncode, message in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr
    assert not Store().exists()


def test_processes_that_a_module_forks_may_end_by_os_exit(cli, write) -> None:
    forks = "import os\npid = os.fork()\nif not pid:\n    os._exit(7)\nassert os.waitpid(pid, 0)[1] == 7 << 8\n"
    write("tiny.py", forks + textwrap.dedent(TINY))
    write("tiny.toml", SWEEP)
    assert cli("launch", "tiny.toml", "--inline").returncode == 0


@pytest.mark.parametrize("closed", [">&- 2>&-", "--json | head -c 9 >&2"])
def test_cells_run_whether_or_not_anybody_reads_the_output(closed: str, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", MANY)
    words = f"'{sys.executable}' -m raysweep launch slow.toml --inline --seeds 0..39"
    shell = ["bash", "-c", f"{words} {closed}; exit ${{PIPESTATUS[0]}}"]
    ended = subprocess.run(shell, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert "Error" not in ended.stderr
    assert Store().cells.collect().height == 40


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP, None], ids=["SIGTERM", "SIGHUP", "the terminal closes"])
def test_a_signal_commits_what_is_finished(how: signal.Signals | None, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", MANY)
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*RAYSWEEP, "launch", "slow.toml", "--inline"], cwd=folder, env=environment(), start_new_session=True,
        stdin=slave, stdout=slave, stderr=slave, preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),
    )  # fmt: skip
    os.close(slave)
    wait_for_rows(5, process)
    os.close(master) if how is None else process.send_signal(how)
    assert process.wait(20) == 130
    assert Store().check() == []
    rows = Store().cells.collect().height
    assert 5 <= rows < 1000
    assert Store().attempts.collect().filter(status="cancelled").height <= 1


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.02, 0.5, 1.5])
def test_more_than_one_interrupt_ends_a_launch_at_once(pause: float, write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", MANY)
    process = subprocess.Popen(
        [*RAYSWEEP, "launch", "slow.toml"], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True
    )
    wait_for_rows(5, process)
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert Store().check() == []


def wait_for_rows(count: int, process: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while not Store().exists() or Store().cells.collect().height < count:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.05)


EARLY = """
    import importlib.abc, os, signal, sys
    import raysweep.__main__
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name == "raysweep.orchestrator.cli.options":
                os.kill(os.getpid(), signal.{signal})
    sys.meta_path.insert(0, Finder())
    raysweep.__main__.main()
"""
BLOCKED = """
    import os, signal, threading, time
    import ray
    def never(*args, **options):
        os.kill(os.getpid(), signal.{signal})
        time.sleep(1000)
    ray.init = never
    from raysweep.__main__ import main
    main()
"""


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("program", [EARLY, pytest.param(BLOCKED, marks=pytest.mark.slow)], ids=["import", "Ray"])
def test_a_signal_at_any_moment_gives_its_exit_code(program: str, number: str, write, folder: Path) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    code = textwrap.dedent(program).format(signal=number)
    ended = subprocess.run(
        [sys.executable, "-c", code, "launch", "tiny.toml", "--address", "local"], cwd=folder,
        env=environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 130, ended.stderr
    assert "Traceback" not in ended.stderr


def test_progress_is_never_ahead_of_the_store(write, monkeypatch: pytest.MonkeyPatch) -> None:
    write("slow.py", SLOW)
    monkeypatch.setattr(driver, "CHUNK_CELLS", 2)
    monkeypatch.setattr(launcher, "FLUSH_S", 1000.0)
    monkeypatch.setattr(launcher, "FLUSH_OUTCOMES", 6)
    seen = []

    def check(progress) -> None:
        rows = Store().cells.collect().height if Store().exists() else 0
        seen.append(progress.done - progress.uncommitted)
        assert rows >= seen[-1]

    launch(Sweep.from_text(MANY.replace("999", "19")), inline=True, progress=check)
    assert seen[-1] == 20
    assert len(set(seen)) >= 4


@pytest.mark.slow
def test_what_json_says_is_done_is_in_the_store_of_a_killed_launch(write, folder: Path) -> None:
    write("slow.py", SLOW)
    write("slow.toml", MANY)
    kept = [0]
    for turn in range(4):
        process = subprocess.Popen(
            [*RAYSWEEP, "launch", "slow.toml", "--inline", "--json"], cwd=folder, env=environment(),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        done, until = 0, time.monotonic() + 3 + turn
        for line in process.stdout:
            event = json.loads(line)
            done = event.get("done", 0) if event["event"] == "progress" else done
            if time.monotonic() > until and done:
                break
        process.kill()
        process.communicate()
        kept.append(Store().cells.collect().height)
        assert kept[-1] - kept[-2] >= done > 0


def test_a_cleaner_that_removes_temporary_files_does_not_end_a_launch(write) -> None:
    write("slow.py", SLOW)

    def clean(progress) -> None:
        shutil.rmtree("results/_tmp", ignore_errors=True)

    result = launch(Sweep.from_text(MANY.replace("999", "29")), inline=True, progress=clean)
    assert result.done == Store().cells.collect().height == 30


def test_a_store_that_is_renamed_is_said_to_be(cli, write, folder: Path) -> None:
    write(
        "slow.py", "import os\ndef run(cell, context):\n    os.rename('results', 'elsewhere')\n    return {'x': 1.0}\n"
    )
    write("slow.toml", MANY)
    ended = cli("launch", "slow.toml", "--inline", "--seeds", "0")
    assert ended.returncode == 1
    assert "the store was removed or renamed while this process wrote to it" in ended.stderr


def test_a_cell_that_raises_keyboard_interrupt_itself_has_failed_and_is_tried_again(write) -> None:
    write(
        "tiny.py",
        """
        def run(cell, context):
            if cell.seed == 1:
                raise KeyboardInterrupt("its own")
            return {"x": 1.0}
        """,
    )
    result = launch(Sweep.from_text(SWEEP), inline=True)
    assert (result.done, result.failed, result.left, result.exit_code) == (6, 2, 0, 1)
    attempts = Store().attempts.collect().filter(seed=1)
    assert attempts["status"].to_list() == ["failed"] * 4
    assert set(attempts["error_message"]) == {"its own"}
    assert all("in run" in text for text in attempts["traceback"])
