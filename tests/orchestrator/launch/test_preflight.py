"""Unmet requirements are reported with the cure before anything runs, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raysweep.orchestrator.executors.inline import _has_gpu
from raysweep.orchestrator.store.reader import Store

NEEDS = """
from pathlib import Path

def lacks(config):
    if config["words"] == "broken":
        return config["nothing"]
    return None if Path(config["words"]).is_file() else f"no {config['words']}: get it by hand"

def run(cell, context):
    return {"letters": len(Path(cell.config["words"]).read_text())}
"""
SWEEP = 'name="n"\nworkload="needs:run"\nseeds=[1, 2]\n[[grid]]\nmethod="m"\nwords={}\n'


@pytest.fixture
def needs(write) -> None:
    write("needs.py", NEEDS)
    write("n.toml", SWEEP.format('["a.txt", "b.txt"]'))
    write("a.txt", "abc")


@pytest.mark.parametrize("executor", [["--inline"], []])
def test_a_launch_here_is_refused_and_nothing_is_written(cli, needs, executor: list[str]) -> None:
    ended = cli("launch", "n.toml", *executor)
    assert ended.returncode == 2
    assert ended.stderr == "error: no b.txt: get it by hand (2 cells)\n"  # before "starting Ray"
    assert not Path("results").exists()


def test_what_is_not_run_may_lack_it(cli, needs, write) -> None:
    assert cli("launch", "n.toml", "--inline", "--where", "words = 'a.txt'").returncode == 0
    assert cli("launch", "n.toml", "--inline").returncode == 2
    write("b.txt", "ab")
    assert cli("launch", "n.toml", "--inline").returncode == 0
    Path("b.txt").unlink()
    assert cli("resume", "n.toml", "--inline").returncode == 0


def test_cells_larger_than_this_machine_are_refused_before_ray_starts(cli, write) -> None:
    write("any.py", "def run(cell, context):\n    return {}\n")
    text = 'workload="any:run"\nseeds=[1]\n[resources]\n{}\n[[grid]]\nmethod="m"\n'
    for resources, need in (("cpus=9999", "9999 CPUs"), ("memory_gib=99999", "1 CPU and 99999 GiB")):
        write("large.toml", text.format(resources))
        refused = cli("launch", "large.toml")
        assert refused.returncode == 2
        assert refused.stderr.startswith(f"error: 1 cell needs {need}; this machine has ")
        assert len(refused.stderr.splitlines()) == 1
    write("large.toml", text.format("custom.license=1"))
    refused = cli("launch", "large.toml")
    assert refused.stderr == (
        "error: 1 cell needs 1 CPU and 1 of license; a Ray that is started here has no license: change [resources] or "
        "use --address with a larger cluster\n"
    )
    assert not Path("results").exists()


def test_a_plan_warns(cli, needs) -> None:
    planned = cli("plan", "n.toml")
    assert planned.returncode == 0
    assert "no b.txt: get it by hand (2 cells)" in planned.stderr
    assert json.loads(cli("plan", "n.toml", "--json").stdout)["lacks_here"] == ["no b.txt: get it by hand (2 cells)"]


def test_a_mistake_in_it_is_named(cli, needs, write) -> None:
    write("n.toml", SWEEP.format('"broken"'))
    assert "needs.py: lacks() raised KeyError: 'nothing' (2 cells)" in cli("launch", "n.toml", "--inline").stderr


def test_cells_whose_config_is_no_longer_one_fail_by_themselves(cli, needs, write) -> None:
    model = """
        import pydantic

        class Config(pydantic.BaseModel):
            words: str
            {}

        def lacks(config):
            return None

        def run(cell, context):
            return {{"value": 1 / (cell.seed - 2)}}
    """
    write("needs.py", model.format("more: int = 0"))
    assert cli("launch", "n.toml", "--inline").returncode == 1
    write("needs.py", model.format("more: str"))
    resumed = cli("resume", "--inline")
    assert resumed.returncode == 1
    assert "2 of 4 cells done" in resumed.stdout


def test_many_are_counted(cli, needs, write) -> None:
    write("n.toml", SWEEP.format(json.dumps([f"{n}.txt" for n in range(9)])))
    assert cli("launch", "n.toml", "--inline").stderr.splitlines()[-1] == "error: and 4 more"


def test_experiments_of_the_paper_name_the_command_that_fetches_their_data(cli, write) -> None:
    for sweep, cure in (("paper/e9-pairs", "data fetch indy"), ("paper/e7-heads", "data fetch cifar10")):
        refused = cli("launch", sweep, "--inline", "--device", "cpu", "--seeds", "42")
        assert refused.returncode == 2
        assert cure in refused.stderr
        assert "--data-dir" in refused.stderr
    assert not Path("results").exists()


@pytest.mark.skipif(_has_gpu(), reason="there is a GPU")
def test_a_gpu_in_this_process_is_refused_where_there_is_none(cli, write) -> None:
    write("any.py", "def run(cell, context):\n    return {}\n")
    write("g.toml", 'name="g"\nworkload="any:run"\nseeds=[1]\n[resources]\ngpus=1\n[[grid]]\nmethod="m"\n')
    refused = cli("launch", "g.toml", "--inline")
    assert refused.returncode == 2
    assert "1 cell needs a GPU; --inline runs cells in this process, and this machine has no GPU" in refused.stderr
    assert "--device cpu" in refused.stderr
    assert not Path("results").exists()


def test_a_bare_resume_runs_cells_where_they_were_launched(cli, write) -> None:
    """On CPUs by `--device cpu`; with the limits of the last launch that requested them."""
    write(
        "any.py",
        """
        from pathlib import Path

        def run(cell, context):
            if not Path("ready").read_text():
                raise OSError
            return {}
        """,
    )
    write("ready", "")
    text = 'name="g"\nworkload="any:run"\nseeds=[1, 2]\n[resources]\ngpus=1\nretries={}\n[[grid]]\nmethod="m"\n'
    write("g.toml", text.format(3))
    failed = cli("launch", "g.toml", "--inline", "--device", "cpu", "--where", "seed = 1", "--max-failures", "1")
    assert failed.returncode == 1
    write("g.toml", text.format(0))
    assert cli("launch", "g.toml", "--inline", "--device", "cpu", "--where", "seed = 1").returncode == 1
    variants = Store().known().variants
    assert variants.select("gpus", "retries").rows() == [(0.0, 0), (0.0, 3)]
    assert "on 1 CPU each" in cli("resume", "--inline").stderr
    assert Store().attempts.collect().height == 5  # four of the first launch; one, as by the last there are no retries
    write("ready", "yes")
    assert cli("resume", "--inline").returncode == 0
