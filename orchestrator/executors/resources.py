"""The resources that nodes offer, compared with the resources that cells demand. Pure; does not import Ray."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

from raysweep.orchestrator.sweep.grammar.resources import ACCELERATOR

NODE_ID, NODE_GROUP = "ray.io/node-id", "ray.io/node-group"
"""Labels that Ray sets on each node: the node's id, and the name of its node type."""
FIRST_NODES = 2
"""Number of nodes that are first requested from the autoscaler. Each later request at most doubles the cluster."""


class Demand(NamedTuple):
    """Resources that one cell requests."""

    cpus: float
    gpus: float
    memory_gib: float | None
    custom: str | None = None  # JSON: custom resource, by Ray's name -> amount

    @property
    def customs(self) -> dict[str, float]:
        """The custom resources of the demand: Ray's name of a resource -> amount."""
        return json.loads(self.custom) if self.custom else {}


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler may start.

    Args:
        name: name of the node type, which is the value of its nodes' label `NODE_GROUP`.
        resources: Ray's name of a resource -> amount; memory in bytes.
        most: maximum number of nodes of this type at once.
        labels: labels of the nodes.
        open: whether a node may have more resources than `resources` lists, because its provider determines them when
            the node starts.
    """

    name: str
    resources: Mapping[str, float]
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)
    open: bool = False

    def slots(self, demand: Demand) -> int:
        """Return how many cells of this demand one node of this type runs at once."""
        return slots_of(self.resources, demand, self.open)

    @property
    def has_gpu(self) -> bool:
        """Whether `resources` contains GPUs."""
        return bool(self.resources.get("GPU"))


@dataclass(frozen=True)
class Autoscaler:
    """The nodes that an autoscaler may start.

    Args:
        types: node types of which at least one node may be started.
        most: maximum number of nodes at once, without the head.
        types_known: False if the types are unknown; any node may then be started.
    """

    types: tuple[NodeType, ...] = ()
    most: int = 0
    types_known: bool = True

    def without_gpus(self, demand: Demand) -> bool:
        """Tell whether the autoscaler may start a node without GPUs that runs a cell of this demand."""
        return any(not kind.has_gpu and kind.slots(demand) for kind in self.types)

    def for_cells(self, demand: Demand) -> list[NodeType]:
        """Return the node types on which cells of this demand may run.

        If the cells need no GPU, types with GPUs are returned only if no other type fits.
        """
        plain = not demand.gpus and self.without_gpus(demand)
        return [kind for kind in self.types if kind.slots(demand) and not (plain and kind.has_gpu)]

    def may_run(self, demand: Demand) -> bool:
        """Tell whether the autoscaler may start a node for a cell of this demand; True if node types are unknown."""
        return not self.types_known or bool(self.for_cells(demand))

    def wanted(self, demand: Demand, now: int) -> int:
        """Return how many slots to request in addition to those of the running nodes.

        They are the slots that the autoscaler may still add. Their number is limited to the larger of `now` and the
        slots of `FIRST_NODES` nodes of the largest type, so that a large cluster is started in steps.

        Args:
            demand: the demand of each cell.
            now: number of slots of the running nodes.
        """
        left, full, largest = self.most, 0, 0
        for each, most in sorted(((k.slots(demand), k.most) for k in self.for_cells(demand)), reverse=True):
            nodes = min(left, most)
            left, full, largest = left - nodes, full + nodes * each, max(largest, each)
        if not self.types_known:
            full, largest = 2 * now + FIRST_NODES, 1
        return max(0, min(full - now, max(now, FIRST_NODES * largest)))

    def keep_off_gpus(self, demand: Demand) -> dict[str, str]:
        """Return a label selector that excludes the autoscaler's GPU nodes, running or future, for a cell without GPUs.

        Empty if the cell needs a GPU, or if only GPU nodes can run it.
        """
        with_gpus = [kind for kind in self.types if kind.has_gpu]
        if demand.gpus or not with_gpus or not self.without_gpus(demand):
            return {}
        plain = [kind for kind in self.types if not kind.has_gpu]
        selector = {NODE_GROUP: _none_of(kind.name for kind in with_gpus)}
        for name in with_gpus[0].labels:
            values = {kind.labels.get(name) for kind in with_gpus}
            if None not in values and values.isdisjoint(kind.labels.get(name) for kind in plain):
                selector[name] = _none_of(v for v in values if v is not None)
        return selector


def autoscaler(config: Mapping[str, Any]) -> Autoscaler:
    """Read the autoscaler's limits from a cluster file.

    Args:
        config: the file with Ray's defaults filled in: max_workers, head_node_type, provider.type, and
            available_node_types with their resources, labels and max_workers.
    """
    most = int(config.get("max_workers", 0))
    types = []
    for name, node_type in config["available_node_types"].items():
        on_premise = config.get("provider", {}).get("type") == "local"  # one type for head and workers
        limit = min(int(node_type.get("max_workers", most)), most)
        if limit > 0 and (name != config.get("head_node_type") or on_premise):
            resources = {k: float(v) for k, v in (node_type.get("resources") or {}).items()}
            types.append(NodeType(name, resources, limit, dict(node_type.get("labels") or {}), open=not resources))
    return Autoscaler(tuple(types), most)


def slots_of(offers: Mapping[str, float], demand: Demand, unstated: bool = False) -> int:
    """Return how many cells of this demand fit these resources at once.

    Args:
        offers: Ray's name of a resource -> amount; memory in bytes.
        demand: the demand of each cell.
        unstated: whether a resource that is missing in `offers` counts as enough for one cell.
    """
    requested = {"CPU": demand.cpus, "GPU": demand.gpus, "memory": (demand.memory_gib or 0.0) * 2**30, **demand.customs}
    fits = [offers.get(name, need if unstated else 0.0) / need for name, need in requested.items() if need]
    return int(min(fits, default=math.inf) + 1e-9)


def nodes_to_avoid(
    nodes: Mapping[str, Mapping[str, float]], unresponsive: set[str], demand: Demand, others_may_come: bool = False
) -> set[str]:
    """Return the ids of the nodes that a cell should not run on.

    Ray would place cells without GPUs on GPU nodes. There they would take the CPUs that GPU cells need. If no
    other node can run the cell, GPU nodes are not avoided; if still no node can run it, no node is avoided.

    Args:
        nodes: id of a living node -> its resources.
        unresponsive: ids of nodes that do not answer, or refuse chunks.
        demand: the cell's demand.
        others_may_come: whether an autoscaler may start a node without GPUs that can run the cell. Then no present
            node has to remain.
    """
    with_gpus = set() if demand.gpus else {node for node, offers in nodes.items() if offers.get("GPU")}
    if others_may_come:
        return (unresponsive | with_gpus) & set(nodes)
    for avoided in (unresponsive | with_gpus, unresponsive):
        if any(slots_of(offers, demand) for node, offers in nodes.items() if node not in avoided):
            return avoided & set(nodes)
    return set()


def selector(avoided: Iterable[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Build Ray's label selector that excludes nodes and requires labels; empty if every node is acceptable."""
    nodes = sorted(avoided)
    return {**({NODE_ID: _none_of(nodes)} if nodes else {}), **labels}


def largest(nodes: Iterable[Mapping[str, float]]) -> str:
    """Describe the largest amount of each resource that any of the nodes offers, in words."""
    offered = list(nodes)
    cpus, gpus, memory = (max((n.get(name, 0.0) for n in offered), default=0.0) for name in ("CPU", "GPU", "memory"))
    return f"{cpus:g} CPUs, {gpus:g} GPUs and {memory / 2**30:.1f} GiB"


def listed(scaling: Autoscaler) -> str:
    """Describe an autoscaler's node types on one line."""
    return ", ".join(f"{kind.name} ({offer(kind.resources, kind.open)})" for kind in scaling.types)


def offer(resources: Mapping[str, float], unstated: bool = False) -> str:
    """Describe a node's resources in words.

    Args:
        resources: Ray's name of a resource -> amount; memory in bytes.
        unstated: whether the node may have other resources as well, which are known only when it runs.
    """
    words = [_count(resources[name], name) for name in ("CPU", "GPU") if resources.get(name)]
    words += [f"{resources['memory'] / 2**30:.0f} GiB"] if resources.get("memory") else []
    words += ["others that only the provider knows"] if unstated and words else []
    return ", ".join(words) or ("known when a node runs" if unstated else "no CPUs")


def needs(demand: Demand) -> str:
    """Describe a demand in words: `a GPU`, `2 CPUs and 8 GiB`."""
    words = [] if demand.cpus == 1 and demand.gpus else [_count(demand.cpus, "CPU")]
    words += [] if not demand.gpus else ["a GPU"] if demand.gpus == 1 else [_count(demand.gpus, "GPU")]
    words += [f"{demand.memory_gib:g} GiB"] if demand.memory_gib else []
    words += [custom_in_words(name, amount) for name, amount in demand.customs.items()]
    return _in_words(words, "and")


def demands(cells: pl.DataFrame, variants: pl.DataFrame) -> list[tuple[Demand, int]]:
    """List all distinct demands, each with its number of cells.

    Args:
        cells: column variant.
        variants: columns variant, cpus, gpus, memory_gib, custom.
    """
    columns = Demand._fields
    counted = (
        cells.join(variants.select("variant", *columns), on="variant").group_by(*columns, maintain_order=True).len()
    )
    return [(Demand(*demand), count) for *demand, count in counted.iter_rows()]


def custom_in_words(name: str, amount: float) -> str:
    """Describe an amount of a custom resource: `1 of license`, `the accelerator H100`."""
    kind = name.removeprefix(ACCELERATOR)
    return f"the accelerator {kind}" if kind != name else f"{amount:g} of {name}"


def missing_customs(offers: Iterable[Mapping[str, float]], demand: Demand) -> str:
    """Describe the custom resources that a demand requests and no node has in this amount; "" if there are none."""
    nodes = list(offers)
    short = {n: a for n, a in demand.customs.items() if not any(node.get(n, 0.0) >= a for node in nodes)}
    return _in_words([custom_in_words(name, amount) for name, amount in short.items()], "or")


def unmet(demand: Demand, count: int, reason: str, remedies: Sequence[str]) -> str:
    """Format a line about cells that no node can run: their number, their demand, the reason, and the remedies."""
    ways = [*(["use --device cpu"] if demand.gpus else []), "change [resources]", *remedies]
    verb = "cell needs" if count == 1 else "cells need"
    return f"{count:,} {verb} {needs(demand)}{'' if count == 1 else ' each'}; {reason}: {_in_words(ways, 'or')}"


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _in_words(parts: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _none_of(values: Iterable[str]) -> str:
    return f"!in({','.join(sorted(values))})"
