"""Commands in this process, as most tests run them, end like processes of their own and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from raysweep.orchestrator.store.reader import Store
from tests.command_line import starts_ray

WORKLOAD = """
    import os
    import helper
    from raysweep.workloads.interface import AddedLater

    def run(cell, context):
        os.environ["LEFT_BEHIND"] = "1"
        if cell.seed == 1:
            raise ValueError("unlucky")
        return {"value": helper.VALUE}
"""
SWEEP = """
    workload = "mine:run"
    seeds = [0, 1]
    [resources]
    retries = 0
    [[grid]]
    method = "m"
"""


@pytest.fixture
def mine(write) -> None:
    write("mine.py", WORKLOAD)
    write("helper.py", "VALUE = 1.0\n")
    write("mine.toml", SWEEP)


def comparable(text: str) -> list[str]:
    """Words without lines of progress, times, the store's name and what started raysweep."""
    text = re.sub(r"^\d+ done, .* left.*$", "", text, flags=re.MULTILINE)
    return re.sub(r"\d+\.\d s|[\d.]+ (cells/s|s\b)|--store \w+|python -m (?=raysweep)", "", text).split()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["launch", "mine.toml", "--inline"], 1),
        (["plan", "mime.toml"], 2),
        (["plan", "mine.toml", "--sede", "1"], 2),
        (["query", "SELECT 'é' AS e", "--format", "csv"], 2),
        (["launch", "--help"], 0),
    ],
)
def test_exit_code_and_output_are_those_of_a_process(cli, cli_process, mine, words: list[str], code: int) -> None:
    in_a, in_b = (["--store", "a"], ["--store", "b"]) if "--inline" in words else ([], [])
    here, apart = cli(*words, *in_a), cli_process(*words, *in_b)
    assert (here.returncode, apart.returncode) == (code, code)
    assert comparable(here.stdout) == comparable(apart.stdout)
    assert comparable(here.stderr) == comparable(apart.stderr)


def test_users_modules_are_imported_anew_and_nothing_is_left(cli, write, mine) -> None:
    before = dict(os.environ), list(sys.path), signal.getsignal(signal.SIGINT), Path.cwd()
    assert cli("launch", "mine.toml", "--inline").returncode == 1
    write("helper.py", "VALUE = 2.0\n")
    assert cli("launch", "mine.toml", "--inline", "--rerun-changed").returncode == 1
    metrics = Store("results").sql("SELECT value FROM cells WHERE status = 'done'")["value"].to_list()
    assert metrics == [2.0]
    assert (dict(os.environ), list(sys.path), signal.getsignal(signal.SIGINT), Path.cwd()) == before
    assert {"mine", "helper"}.isdisjoint(sys.modules)


def test_what_may_start_ray_is_a_process() -> None:
    assert starts_ray(["launch", "a.toml", "--address", "local"])
    assert starts_ray(["cluster", "check", "--address", "auto"])
    assert not starts_ray(["launch", "a.toml"])
    assert not starts_ray(["plan", "a.toml"])
