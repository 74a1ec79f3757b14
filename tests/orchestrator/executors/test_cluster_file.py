"""`raysweep cluster check`: Ray's own rules with the line of each error, and whether a sweep's cells have nodes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from raysweep.orchestrator.cli.app import app
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.ray.cluster_file import read
from raysweep.orchestrator.executors.ray.connection import KEEPALIVE
from tests.conftest import ROOT, environment

FILE = ROOT / "cluster.yaml"
TEXT = FILE.read_text(encoding="utf-8")


def variants() -> dict[str, str]:
    """cluster.yaml, and the files that the commands in its head derive from it."""
    files = {"aws.yaml": TEXT}
    for line in re.findall(r"^# +(sed .*)$", TEXT, re.M):
        command, _, name = line.rpartition(" > ")
        ended = subprocess.run(command, shell=True, cwd=ROOT, capture_output=True, text=True, check=True)
        files[name] = ended.stdout
    return files


def line_of(words: str, text: str = TEXT) -> int:
    (number,) = [n for n, line in enumerate(text.splitlines(), 1) if words in line]
    return number


def problems(text: str, folder: Path) -> list[str]:
    (folder / "c.yaml").write_text(text)
    with pytest.raises(InputError) as caught:
        read("c.yaml")
    return list(caught.value.problems)


@pytest.fixture(scope="module")
def run():
    """The command, in this process: Ray takes a second to import."""
    from typer.testing import CliRunner

    def invoke(*words: str):
        return CliRunner().invoke(app, ["cluster", "check", *words])

    return invoke


def test_the_files_for_each_provider_are_valid_and_give_no_cause_for_advice(folder: Path) -> None:
    files = variants()
    assert sorted(files) == ["aws.yaml", "gcp.yaml", "local.yaml"]
    read_files = {}
    for name, text in files.items():
        (folder / name).write_text(text)
        read_files[name] = read(name)
    assert {name: file.provider for name, file in read_files.items()} == {
        f"{p}.yaml": p for p in ("aws", "gcp", "local")
    }
    assert [file.advice for file in read_files.values()] == [(), (), ()]
    assert [file.head_cpus for file in read_files.values()] == [0, 0, 0]
    for name in ("aws.yaml", "gcp.yaml"):
        assert [(kind.name, kind.has_gpu, kind.open) for kind in read_files[name].offer.types] == [
            ("cpu", False, False),
            ("gpu", True, False),
        ]
    assert [kind.open for kind in read_files["local.yaml"].offer.types] == [True]
    assert read_files["local.yaml"].offer.most == 2


def test_the_groups_scale_from_zero_and_are_spot() -> None:
    for name, text in variants().items():
        config = yaml.safe_load(text)
        kinds = config.get("available_node_types", {})
        assert all(kinds[kind].get("min_workers") == 0 for kind in kinds if kind != "head"), name
        assert ("InstanceType" in str(kinds)) == (name == "aws.yaml")
    spot = [
        k["node_config"].get("InstanceMarketOptions") for k in yaml.safe_load(TEXT)["available_node_types"].values()
    ]
    assert spot == [None, {"MarketType": "spot"}, {"MarketType": "spot"}]  # the head is not: it keeps the launch


def test_every_node_gets_the_keepalives_and_the_token() -> None:
    (written,) = [c for c in yaml.safe_load(TEXT)["setup_commands"] if c.startswith("printf")]
    exported = dict(word.split("=") for word in re.findall(r"RAY_\w+=\w+", written))
    assert exported.items() >= KEEPALIVE.items()
    assert exported["RAY_AUTH_MODE"] == "token"


def test_the_packages_of_the_image_are_those_that_are_tested() -> None:
    version = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert set(re.findall(r"rayproject/ray:([\d.]+)", TEXT)) == {version}


def test_all_errors_are_reported_at_once_each_with_its_line(folder: Path) -> None:
    text = TEXT.replace("{CPU: 16, memory: 23622320128}", "{CPU: 16, GPU: 0.5}")
    text = text.replace("{kind: gpu, market: spot}", "{kind: gpu, market: 3}")
    text = text.replace("    max_workers: 2", "    max_wokers: 2").replace("cluster_name: raysweep", "cluster_nmae: x")
    lines = problems(text, folder)
    for words, key, *facts in (
        ("GPU: 0.5", "available_node_types.cpu.resources.GPU", "integer", "0.5"),
        ("market: 3", "available_node_types.gpu.labels.market", "string", "3"),
        ("max_wokers", "available_node_types.gpu.max_wokers", "did you mean max_workers?"),
        ("cluster_nmae", "cluster_nmae", "did you mean cluster_name?"),
    ):
        (line,) = [line for line in lines if line.startswith(f"c.yaml:{line_of(words, text)}: {key}: ")]
        assert all(fact in line.partition(f"{key}: ")[2] for fact in facts), line


@pytest.mark.parametrize(
    ("old", "new", "fact"),
    [
        ("head_node_type: head", "head_node_type: haed", "`head_node_type` must be one of `available_node_types`"),
        ("min_workers: 0\n    max_workers: 10", "min_workers: 20\n    max_workers: 20", "smaller than the sum of"),
        ("type: aws  # aws", "type: awz", "provider.type: Ray has no 'awz'"),
        ("  type: aws  # aws\n", "", "provider.type: missing"),
        ("cluster_name: raysweep", "cluster_name: [", "not YAML"),
        ("cluster_name: raysweep", "cluster_name: 2026-99-99", "not YAML"),
    ],
)
def test_what_ray_refuses_is_refused(old: str, new: str, fact: str, folder: Path) -> None:
    assert TEXT.count(old) == 1
    (line,) = problems(TEXT.replace(old, new), folder)
    assert line.startswith("c.yaml")
    assert fact in line


def test_files_that_are_not_cluster_files(folder: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.yaml: No such file or directory"):
        read("missing.yaml")
    assert "a mapping" in problems("- 1\n", folder)[0]
    assert "larger than 1 MiB" in problems("#" * 2**21, folder)[0]
    (folder / "b.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InputError, match="UTF-8"):
        read("b.yaml")


def test_nothing_in_the_file_is_executed(folder: Path) -> None:
    (line,) = problems("cluster_name: !!python/object/apply:os.system ['touch run']\nprovider: {type: aws}\n", folder)
    assert "not YAML" in line
    assert not (folder / "run").exists()


def test_advice_on_valid_settings_that_are_likely_mistakes(folder: Path) -> None:
    text = TEXT.replace("resources: {CPU: 0}", "resources: {CPU: 2}").replace("--num-cpus=0 ", "")
    text = text.replace("127.0.0.1", "0.0.0.0").replace("RAY_AUTH_MODE=token ", "")
    text = text.replace("RAY_health_check_period_ms=1000 ", "").replace("--autoscaling-config=", "--x=")
    (folder / "c.yaml").write_text(text)
    facts = (
        "{CPU: 0}",
        "--autoscaling-config",
        "RAY_AUTH_MODE=token",
        "--dashboard-host=0.0.0.0",
        "RAY_health_check_period_ms",
    )
    advice = read("c.yaml").advice
    assert [fact in line for fact, line in zip(facts, advice, strict=True)] == [True] * 5, advice


def test_cells_that_no_node_type_can_run_are_counted(run, write, folder: Path) -> None:
    write("w.py", "def run(cell, context):\n    return {}\n")
    write(
        "s.toml",
        'name="s"\nworkload="w:run"\nseeds="0..2"\n[[grid]]\nmethod="small"\n'
        '[[grid]]\nmethod="gpu"\nresources.gpus=1\n[[grid]]\nmethod="large"\nresources.memory_gib=64\n',
    )
    (folder / "c.yaml").write_text(re.sub(r"^  gpu:\n(    .*\n|#gcp .*\n)*", "", TEXT, flags=re.M))
    ended = run("c.yaml", "s.toml")
    assert ended.exit_code == 1, ended.output
    assert (
        "3 cells need a GPU each; no node type has one: use --device cpu, change [resources] or add a node type"
        in ended.output
    )
    assert "3 cells need 1 CPU and 64 GiB each; no node type is large enough: cpu (16 CPUs, 22 GiB)" in ended.output
    result = json.loads(run("c.yaml", "s.toml", "--device", "cpu", "--json").stdout)
    assert (result["cells"], len(result["problems"])) == (9, 1)
    assert [kind["name"] for kind in result["types"]] == ["cpu"]
    assert run("c.yaml", "s.toml", "--seeds", "0").output.count("1 cell needs") == 2


def test_a_sweep_that_fits(run) -> None:
    ended = run(str(FILE), "paper/e7-heads")
    assert ended.exit_code == 0, ended.output
    assert "every cell fits a node" in ended.output


def test_exit_codes_as_a_command(cli, folder: Path) -> None:
    (folder / "cluster.yaml").write_text(TEXT.replace("CPU: 16", "CPU: 1.5"))
    ended = cli("cluster", "check")
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"error: cluster.yaml:{line_of('CPU: 16')}: available_node_types.cpu.resources.CPU")
    assert cli("cluster", "check", "--address", "127.0.0.1:1").returncode == 2
    assert cli("cluster", "check", "a.yaml", "b.yaml").returncode == 2


def test_help_is_light() -> None:
    code = (
        "import sys, raysweep.orchestrator.cli.app\n"
        "assert not {'ray', 'yaml', 'polars', 'jsonschema'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)
