"""Resources that nodes and node types offer against what cells request: pure."""

from __future__ import annotations

import polars as pl
import pytest

from raysweep import Sweep
from raysweep.orchestrator.executors import inline
from raysweep.orchestrator.executors.executor import Waiting
from raysweep.orchestrator.executors.resources import (
    Autoscaler,
    Demand,
    NodeType,
    autoscaler,
    demands,
    missing_customs,
    needs,
    nodes_to_avoid,
    selector,
    slots_of,
    unmet,
)
from raysweep.orchestrator.launch.launch import Launch
from raysweep.orchestrator.launch.request import Options, from_sweeps
from raysweep.orchestrator.store.reader import Store

GIB = 2**30
CPU = NodeType("cpu", {"CPU": 8.0, "memory": 32.0 * GIB}, 10, {"kind": "cpu", "market": "spot"})
GPU = NodeType("gpu", {"CPU": 4.0, "GPU": 1.0, "memory": 16.0 * GIB}, 3, {"kind": "gpu", "market": "spot"})
BOTH = Autoscaler((CPU, GPU), 11)
CONFIG = {
    "max_workers": 11,
    "head_node_type": "head",
    "provider": {"type": "aws"},
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0},
        "cpu": {"resources": {"CPU": 8, "memory": 32 * GIB}, "max_workers": 10, "labels": dict(CPU.labels)},
        "gpu": {"resources": {"CPU": 4, "GPU": 1, "memory": 16 * GIB}, "max_workers": 3, "labels": dict(GPU.labels)},
        "none": {"resources": {"CPU": 96}, "max_workers": 0},
    },
}


def test_an_autoscaler_is_its_file_without_the_head_and_without_types_that_may_have_no_node() -> None:
    assert autoscaler(CONFIG) == BOTH


def test_on_premise_nodes_say_what_they_have_when_they_run() -> None:
    only = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
    scaling = autoscaler({"max_workers": 2, "head_node_type": "local.cluster.node", "provider": {"type": "local"}}
                       | {"available_node_types": only})  # fmt: skip
    assert scaling == Autoscaler((NodeType("local.cluster.node", {}, 2, open=True),), 2)
    assert scaling.may_run(Demand(64, 8, 100))


@pytest.mark.parametrize(
    ("demand", "count"),
    [
        (Demand(1, 0, None), 8),
        (Demand(0.5, 0, None), 16),
        (Demand(3, 0, None), 2),
        (Demand(1, 0, 10.0), 3),
        (Demand(9, 0, None), 0),
        (Demand(1, 0.25, None), 0),
    ],
)
def test_cells_that_fit_a_node(demand: Demand, count: int) -> None:
    assert slots_of(CPU.resources, demand) == count


@pytest.mark.parametrize(
    ("demand", "now", "wanted"),
    [
        (Demand(1, 0, None), 0, 16),  # two nodes of eight
        (Demand(1, 0, None), 40, 40),  # as many again
        (Demand(1, 0, None), 72, 8),  # what is left of ten nodes
        (Demand(1, 0, None), 80, 0),
        (Demand(1, 1, None), 0, 2),
        (Demand(1, 1, None), 3, 0),
        (Demand(99, 0, None), 0, 0),
    ],
)
def test_an_autoscaler_is_asked_for_no_more_than_it_has_step_by_step(demand: Demand, now: int, wanted: int) -> None:
    assert BOTH.wanted(demand, now) == wanted


def test_an_autoscaler_of_unknown_types_is_asked_for_anything() -> None:
    unknown = Autoscaler(types_known=False)
    assert unknown.may_run(Demand(64, 8, None))
    assert unknown.wanted(Demand(64, 8, None), 0) == 2
    assert not Autoscaler().may_run(Demand(1, 0, None))


def test_cells_without_gpus_keep_off_gpu_nodes_that_are_still_to_come() -> None:
    plain, gpu, large = Demand(1, 0, None), Demand(1, 1, None), Demand(1, 0, 20.0)
    assert BOTH.keep_off_gpus(plain) == {"ray.io/node-group": "!in(gpu)", "kind": "!in(gpu)"}
    assert BOTH.keep_off_gpus(gpu) == {}
    assert Autoscaler((GPU,), 3).keep_off_gpus(plain) == {}  # where else would they run
    assert [kind.name for kind in BOTH.for_cells(large)] == ["cpu"]
    nodes = {"a": {"CPU": 0.0}, "b": {"CPU": 4.0, "GPU": 1.0}}
    assert nodes_to_avoid(nodes, set(), plain, others_may_come=True) == {"b"}
    assert nodes_to_avoid(nodes, set(), plain) == set()
    assert selector({"b", "a"}, {"kind": "!in(gpu)"}) == {"ray.io/node-id": "!in(a,b)", "kind": "!in(gpu)"}
    assert selector((), {}) == {}


@pytest.mark.parametrize(
    ("demand", "words"),
    [
        (Demand(1, 0, None), "1 CPU"),
        (Demand(1, 1, None), "a GPU"),
        (Demand(2, 0.5, 8.0), "2 CPUs, 0.5 GPUs and 8 GiB"),
        (Demand(1, 2, None), "2 GPUs"),
    ],
)
def test_needs_in_words(demand: Demand, words: str) -> None:
    assert needs(demand) == words


def test_what_is_unmet_says_how_many_why_and_what_to_do() -> None:
    line = unmet(Demand(1, 1, None), 3, "no node type has one", ["add a node type"])
    assert line == (
        "3 cells need a GPU each; no node type has one: use --device cpu, change [resources] or add a node type"
    )


def test_cells_are_counted_by_demand() -> None:
    variants = pl.DataFrame({"variant": [0, 1, 2], "cpus": [1.0, 1.0, 2.0], "gpus": [0.0, 1.0, 0.0]}).with_columns(
        memory_gib=pl.lit(None, pl.Float64), custom=pl.lit(None, pl.String)
    )
    cells = pl.DataFrame({"variant": [0, 0, 1, 2, 0]})
    assert dict(demands(cells, variants)) == {Demand(1, 0, None): 3, Demand(1, 1, None): 1, Demand(2, 0, None): 1}


LICENSED = Demand(1, 0, None, '{"license": 1.0}')
H100 = Demand(1, 1, None, '{"accelerator_type:H100": 0.001}')


def test_custom_resources_and_accelerators_are_demands() -> None:
    plain = {"CPU": 8.0, "GPU": 2.0}
    assert [slots_of({**plain, "license": 3.0}, LICENSED), slots_of(plain, LICENSED)] == [3, 0]
    assert [slots_of({**plain, "accelerator_type:H100": 1.0}, H100), slots_of(plain, H100)] == [2, 0]
    assert [needs(LICENSED), needs(H100)] == ["1 CPU and 1 of license", "a GPU and the accelerator H100"]
    assert missing_customs([plain], H100) == "the accelerator H100"
    assert missing_customs([plain, {"license": 1.0}], LICENSED) == ""


class NodeLess(inline.InlineExecutor):
    """Runs cells of one CPU; those of two wait for a node that never comes."""

    def submit(self, chunk) -> None:
        if chunk.cpus == 1:
            super().submit(chunk)
        else:
            self.stuck = getattr(self, "stuck", set()) | {chunk.number}

    def kill(self, number: int) -> None:
        self.stuck.discard(number)

    def waiting(self) -> list[Waiting]:
        stuck = frozenset(getattr(self, "stuck", ()))
        return [Waiting(stuck, "a node with 2 CPUs", 100.0)] if stuck else []


def test_cells_whose_node_does_not_come_are_left_once_nothing_else_runs(write, folder, monkeypatch) -> None:
    write("cells.py", "def run(cell, context):\n    return {'x': 1.0}\n")
    text = 'name="n"\nworkload="cells:run"\nseeds="0..9"\n[[grid]]\nmethod="small"\n'
    write("n.toml", text + '[[grid]]\nmethod="large"\nresources.cpus=2\n')
    monkeypatch.setattr(inline, "InlineExecutor", NodeLess)
    store, waits = Store("results"), []
    prepared = from_sweeps([Sweep.load("n.toml")], store)
    ended = Launch(prepared, store, Options(executor="inline", node_wait=1.0)).run(lambda p: waits.append(p.waiting))
    assert (ended.done, ended.failed, ended.left, ended.exit_code) == (10, 0, 10, 1)
    assert "1 min for a node with 2 CPUs (--node-wait)" in ended.stopped
    assert ("a node with 2 CPUs",) in waits
    assert store.attempts.collect()["method"].unique().to_list() == ["small"]  # the others were not charged


def test_reports_of_either_autoscaler_in_words() -> None:
    from ray.core.generated import autoscaler_pb2

    from raysweep.orchestrator.executors.ray.autoscaler import _v1_in_words, _v2_in_words

    unavailable = {"category": "InsufficientInstanceCapacity", "description": "no such machine is free"}
    first = {
        "pending_launches": {"gpu": 2},
        "pending_nodes": [("10.0.0.1", "cpu", "setting-up")],
        "node_availability_summary": {
            "node_availabilities": {
                "gpu": {"is_available": False, "unavailable_node_information": unavailable},
                "cpu": {"is_available": True, "unavailable_node_information": None},
            }
        },
    }
    assert _v1_in_words(first) == "starting 2 x gpu, 1 x cpu (setting-up); gpu: no such machine is free"
    assert _v1_in_words({"pending_launches": {}, "pending_nodes": []}) == ""
    second = autoscaler_pb2.AutoscalingState()
    second.pending_instance_requests.add(ray_node_type_name="gpu", count=2)
    second.pending_instances.add(ray_node_type_name="cpu")
    second.failed_instance_requests.add(ray_node_type_name="gpu", count=1, reason="quota exceeded")
    assert _v2_in_words(second) == "starting 2 x gpu, 1 x cpu; gpu: quota exceeded"
    assert _v2_in_words(autoscaler_pb2.AutoscalingState()) == ""


def test_only_node_types_of_the_heads_file_leave_it(tmp_path) -> None:
    from raysweep.orchestrator.executors.ray.autoscaler import _node_types

    (tmp_path / "c.yaml").write_text(
        "provider: {type: aws, secret: s}\nauth: {ssh_private_key: k}\nmax_workers: 11\nhead_node_type: head\n"
        "available_node_types:\n  head: {resources: {CPU: 0}, max_workers: 0, node_config: {UserData: s}}\n"
        "  cpu: {resources: {CPU: 2}, labels: {kind: cpu}, node_config: {KeyName: k}}\n"
    )
    config = _node_types(tmp_path / "c.yaml")
    assert config == {
        "max_workers": 11,
        "head_node_type": "head",
        "provider": {"type": "aws"},
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "labels": None, "max_workers": 0},
            "cpu": {"resources": {"CPU": 2}, "labels": {"kind": "cpu"}},
        },
    }
    assert autoscaler(config) == Autoscaler((NodeType("cpu", {"CPU": 2.0}, 11, {"kind": "cpu"}),), 11)
