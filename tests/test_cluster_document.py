"""`docs/cluster.md` is right: its manifest, Slurm script and commands, as far as can be tested without a cloud."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from raysweep.orchestrator.executors.ray.connection import KEEPALIVE
from tests.conftest import ROOT
from tests.test_guide import blocks, parse

PAGE = ROOT / "docs" / "cluster.md"
VERSION = re.search(r"^ray==(.*)$", (ROOT / "constraints.txt").read_text(), re.M)[1]


@pytest.fixture(scope="module")
def manifest() -> dict:
    (text,) = blocks(PAGE, "yaml")
    return yaml.safe_load(text)


def test_the_manifest_is_a_ray_job_that_is_tried_again_and_cleaned_up(manifest) -> None:
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayJob")
    spec = manifest["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    assert spec["submissionMode"] in {"K8sJobMode", "HTTPMode", "SidecarMode", "InteractiveMode"}
    assert spec["rayClusterSpec"]["rayVersion"] == VERSION
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    words = shlex.split(spec["entrypoint"])
    assert words[0] == "raysweep"
    parse(words[1:])
    assert {"--address", "--yes", "--store"} <= set(words)


def test_its_groups_start_from_zero_and_its_head_runs_no_cells(manifest) -> None:
    cluster = manifest["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
    assert sorted(groups) == ["cpu", "gpu"]
    assert all(group["minReplicas"] == 0 < group["maxReplicas"] for group in groups.values())
    pods = [cluster["headGroupSpec"]["template"]["spec"], *(g["template"]["spec"] for g in groups.values())]
    asks = [pod["containers"][0]["resources"]["limits"].get("nvidia.com/gpu") for pod in pods]
    assert asks == [None, None, "1"]
    for pod in pods:
        (container,) = pod["containers"]
        assert {e["name"]: e["value"] for e in container["env"]}.items() >= KEEPALIVE.items()
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod["restartPolicy"] == "Never"
    for group in groups.values():
        pod = group["template"]["spec"]
        assert pod["terminationGracePeriodSeconds"] > 30  # that Ray gives a drained node
        mounts = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
        assert mounts == {volume["name"] for volume in pod["volumes"]}


def test_the_slurm_script_uses_what_ray_has(tmp_path) -> None:
    (script,) = blocks(PAGE, "bash")
    path = tmp_path / "job.sh"
    path.write_text(script)
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    variables = dict(re.findall(r"(RAY_\w+)=(\w+)", script))
    assert variables.items() >= (KEEPALIVE | {"RAY_AUTH_MODE": "token"}).items()
    words = shlex.split(script[script.index("ray symmetric-run") :].replace("\\\n", " "))
    ours = words[words.index("--") + 1 :]
    assert ours[0] == "raysweep"
    parse(ours[1:])
    helped = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "symmetric-run", "--help"], capture_output=True, text=True,
        check=True, timeout=60,
    )  # fmt: skip
    for option in (w for w in words[2 : words.index("--")] if w.startswith("--")):
        assert option in helped.stdout


def test_options_of_ray_start_may_follow_in_it() -> None:
    from ray.scripts.symmetric_run import curate_and_validate_ray_start_args

    assert curate_and_validate_ray_start_args(["--address", "a:1", "--num-cpus=4"])[-1] == "--num-cpus=4"
    with pytest.raises(Exception, match="head"):
        curate_and_validate_ray_start_args(["--head"])


def test_the_image_and_the_file_have_the_versions_that_are_tested() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"rayproject/ray:([\d.]+)", text) == [VERSION]
    assert set(re.findall(r"^sed .*$", text, re.M)) == set(
        re.findall(r"^# +(sed .*)$", (ROOT / "cluster.yaml").read_text(), re.M)
    )


@pytest.mark.parametrize("command", ["up", "down", "dashboard", "get-auth-token", "job logs", "job stop"])
def test_commands_of_ray_that_are_shown_are_there(command: str) -> None:
    from ray.scripts.scripts import cli

    assert f"ray {command}" in PAGE.read_text(encoding="utf-8")
    group = cli
    for word in command.split():
        group = group.commands[word]
    options = {name for parameter in group.params for name in parameter.opts}
    for line in re.findall(rf"ray {command}([^`\n#]*)", PAGE.read_text(encoding="utf-8")):
        assert {w for w in line.split() if w.startswith("--")} <= options
