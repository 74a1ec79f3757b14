"""What nodes and node types offer, and what cells need of them. Pure, and knows nothing of Ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import polars as pl

NODE_ID, NODE_GROUP = "ray.io/node-id", "ray.io/node-group"
"""Labels that Ray itself gives to nodes."""
FIRST_NODES = 2
"""What an empty cluster's autoscaler is asked for at once, in nodes; what a running one is asked for is its double."""


class Demand(NamedTuple):
    """What one cell needs."""

    cpus: float
    gpus: float
    memory_gib: float | None


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler may start.

    Args:
        name: of the group.
        resources: by Ray's names; memory in bytes.
        most: nodes of it at once.
        labels: that its nodes have.
        open: whether what is not stated may be there all the same: the provider is asked when a node starts.
    """

    name: str
    resources: Mapping[str, float]
    most: int
    labels: Mapping[str, str] = field(default_factory=dict)
    open: bool = False

    def times(self, size: Demand) -> int:
        """How many cells of this size one such node runs at once."""
        return times(self.resources, size, self.open)

    @property
    def has_gpu(self) -> bool:
        """Whether GPUs are stated."""
        return bool(self.resources.get("GPU"))


@dataclass(frozen=True)
class Autoscaler:
    """What an autoscaler may start.

    Args:
        types: those of which it may start a node.
        most: nodes besides the head, at once.
        known: whether its types are; else it may start anything.
    """

    types: tuple[NodeType, ...] = ()
    most: int = 0
    known: bool = True

    def without_gpus(self, size: Demand) -> bool:
        """Whether a node without GPUs can come that runs a cell of this size."""
        return any(not kind.has_gpu and kind.times(size) for kind in self.types)

    def for_cells(self, size: Demand) -> list[NodeType]:
        """The types for cells of this size: those without GPUs where one is needed by none of them."""
        plain = not size.gpus and self.without_gpus(size)
        return [kind for kind in self.types if kind.times(size) and not (plain and kind.has_gpu)]

    def may_run(self, size: Demand) -> bool:
        """Whether it may start a node for a cell of this size; True where its types are not known."""
        return not self.known or bool(self.for_cells(size))

    def wanted(self, size: Demand, now: int) -> int:
        """Slots to ask for beyond those there are, so that it starts nodes: no more than it has, and step by step.

        Args:
            size: of the cells.
            now: slots that running nodes have.
        """
        left, full, largest = self.most, 0, 0
        for each, most in sorted(((k.times(size), k.most) for k in self.for_cells(size)), reverse=True):
            nodes = min(left, most)
            left, full, largest = left - nodes, full + nodes * each, max(largest, each)
        if not self.known:
            full, largest = 2 * now + FIRST_NODES, 1
        return max(0, min(full - now, max(now, FIRST_NODES * largest)))

    def keep_off_gpus(self, size: Demand) -> dict[str, str]:
        """A label selector that keeps cells that need no GPU off this autoscaler's GPU nodes, alive or to come."""
        with_gpus = [kind for kind in self.types if kind.has_gpu]
        if size.gpus or not with_gpus or not self.without_gpus(size):
            return {}
        plain = [kind for kind in self.types if not kind.has_gpu]
        selector = {NODE_GROUP: _none_of(kind.name for kind in with_gpus)}
        for name in with_gpus[0].labels:
            values = {kind.labels.get(name) for kind in with_gpus}
            if None not in values and values.isdisjoint(kind.labels.get(name) for kind in plain):
                selector[name] = _none_of(v for v in values if v is not None)
        return selector


def autoscaler(config: Mapping[str, Any]) -> Autoscaler:
    """What a cluster file (prepared by Ray) lets its autoscaler start.

    Args:
        config: max_workers, head_node_type, provider.type, and available_node_types with their resources, labels
            and max_workers.
    """
    most = int(config.get("max_workers", 0))
    types = []
    for name, about in config["available_node_types"].items():
        on_premise = config.get("provider", {}).get("type") == "local"  # one type, the head's and the workers'
        limit = min(int(about.get("max_workers", most)), most)
        if limit > 0 and (name != config.get("head_node_type") or on_premise):
            resources = {k: float(v) for k, v in (about.get("resources") or {}).items()}
            types.append(NodeType(name, resources, limit, dict(about.get("labels") or {}), open=not resources))
    return Autoscaler(tuple(types), most)


def times(offers: Mapping[str, float], size: Demand, unstated: bool = False) -> int:
    """How many cells of this size fit.

    Args:
        offers: resources by Ray's names; memory in bytes.
        size: of a cell.
        unstated: whether what is not stated counts as enough for one.
    """
    asked = {"CPU": size.cpus, "GPU": size.gpus, "memory": (size.memory_gib or 0.0) * 2**30}
    fits = [offers.get(name, need if unstated else 0.0) / need for name, need in asked.items() if need]
    return int(min(fits, default=math.inf) + 1e-9)


def nodes_to_avoid(
    nodes: Mapping[str, Mapping[str, float]], shunned: set[str], size: Demand, others_may_come: bool = False
) -> set[str]:
    """Ids of nodes that a cell should not go to; never all that could run it.

    Ray puts cells that need no GPU on GPU nodes as on any other, where they take the CPUs that GPU cells need.

    Args:
        nodes: id -> resources, of those alive.
        shunned: those that do not answer.
        size: of the cell.
        others_may_come: whether an autoscaler may start a node without GPUs that can run it.
    """
    with_gpus = set() if size.gpus else {node for node, offers in nodes.items() if offers.get("GPU")}
    if others_may_come:
        return (shunned | with_gpus) & set(nodes)
    for avoided in (shunned | with_gpus, shunned):
        if any(times(offers, size) for node, offers in nodes.items() if node not in avoided):
            return avoided & set(nodes)
    return set()


def selector(avoided: Iterable[str], labels: Mapping[str, str]) -> dict[str, str]:
    """Ray's label selector that keeps off these nodes, and is this besides; empty where any node will do."""
    nodes = sorted(avoided)
    return {**({NODE_ID: _none_of(nodes)} if nodes else {}), **labels}


def largest(nodes: Iterable[Mapping[str, float]]) -> str:
    """The most of each resource that any node offers, in words."""
    offered = list(nodes)
    cpus, gpus, memory = (max((n.get(name, 0.0) for n in offered), default=0.0) for name in ("CPU", "GPU", "memory"))
    return f"{cpus:g} CPUs, {gpus:g} GPUs and {memory / 2**30:.1f} GiB"


def listed(found: Autoscaler) -> str:
    """The node types in a line."""
    return ", ".join(f"{kind.name} ({offer(kind.resources, kind.open)})" for kind in found.types)


def offer(resources: Mapping[str, float], unstated: bool = False) -> str:
    """A node's resources in words."""
    words = [_count(resources[name], name) for name in ("CPU", "GPU") if resources.get(name)]
    words += [f"{resources['memory'] / 2**30:.0f} GiB"] if resources.get("memory") else []
    words += ["more that the provider knows"] if unstated and words else []
    return ", ".join(words) or ("known when a node runs" if unstated else "no CPUs")


def needs(size: Demand) -> str:
    """A cell's needs in words: `a GPU`, `2 CPUs and 8 GiB`."""
    words = [] if size.cpus == 1 and size.gpus else [_count(size.cpus, "CPU")]
    words += [] if not size.gpus else ["a GPU"] if size.gpus == 1 else [_count(size.gpus, "GPU")]
    words += [f"{size.memory_gib:g} GiB"] if size.memory_gib else []
    return _in_words(words, "and")


def sizes(cells: pl.DataFrame, variants: pl.DataFrame) -> list[tuple[Demand, int]]:
    """Each size with how many cells have it.

    Args:
        cells: column variant.
        variants: columns variant, cpus, gpus, memory_gib.
    """
    columns = ("cpus", "gpus", "memory_gib")
    counted = (
        cells.join(variants.select("variant", *columns), on="variant").group_by(*columns, maintain_order=True).len()
    )
    return [(Demand(cpus, gpus, memory), count) for cpus, gpus, memory, count in counted.iter_rows()]


def unmet(size: Demand, count: int, reason: str, remedies: Sequence[str]) -> str:
    """One line on cells that nothing can run: how many, what they need, why not, what to do."""
    ways = [*(["--device cpu"] if size.gpus else []), "change [resources]", *remedies]
    verb = "cell needs" if count == 1 else "cells need"
    return f"{count:,} {verb} {needs(size)}{'' if count == 1 else ' each'}; {reason}: {_in_words(ways, 'or')}"


def _count(number: float, what: str) -> str:
    return f"{number:g} {what}{'' if number == 1 else 's'}"


def _in_words(parts: Sequence[str], last: str) -> str:
    return f" {last} ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _none_of(values: Iterable[str]) -> str:
    return f"!in({','.join(sorted(values))})"
