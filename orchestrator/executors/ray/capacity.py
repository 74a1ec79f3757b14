"""The nodes that a cluster has or may start, read from its file or from the running cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysweep.orchestrator.executors.ray.cluster_file import ClusterFile
from raysweep.orchestrator.executors.ray.connection import check_address
from raysweep.orchestrator.executors.ray.executor import RayExecutor
from raysweep.orchestrator.executors.resources import (
    Autoscaler,
    Demand,
    largest,
    listed,
    missing_customs,
    slots_of,
    unmet,
)


@dataclass(frozen=True)
class Offer:
    """The nodes that a cluster offers.

    Args:
        nodes: Ray's name of a resource -> amount, for each node.
        scaling: the cluster's autoscaler, which may start more nodes; None without one.
    """

    nodes: list[dict[str, float]]
    scaling: Autoscaler | None

    def problems(self, demands: Sequence[tuple[Demand, int]], remedies: Sequence[str]) -> list[str]:
        """Report each demand that no node can meet, one per line.

        Args:
            demands: each demand, with the number of cells that have it.
            remedies: what the user can do besides changing the cells' resources.
        """
        return [
            unmet(demand, count, self._why_not(demand), remedies)
            for demand, count in demands
            if not any(slots_of(node, demand) for node in self.nodes)
            and not (self.scaling and self.scaling.may_run(demand))
        ]

    def _why_not(self, demand: Demand) -> str:
        kinds = self.scaling.types if self.scaling else ()
        if demand.gpus and not any(kind.has_gpu for kind in kinds) and not any(n.get("GPU") for n in self.nodes):
            return "no node type has one" if self.scaling else "no node has one"
        missing = missing_customs(self.nodes, demand)
        reasons = [f"no node offers {missing}" if missing else f"the largest node offers {largest(self.nodes)}"]
        reasons = reasons if self.nodes else []
        if self.scaling is not None:
            reasons.append(f"no node type is large enough: {listed(self.scaling) or 'none is defined'}")
        return "; ".join(reasons)


def of_file(file: ClusterFile) -> Offer:
    """Return the nodes of a cluster file: the head if it runs cells, and those that the autoscaler may start."""
    return Offer([{"CPU": file.head_cpus}] if file.head_cpus else [], file.offer)


def of_cluster(address: str) -> Offer:
    """Return the nodes of a running cluster, and those that its autoscaler may start.

    Raises:
        InputError: nothing answers at the address.
        ClusterUnavailable: the cluster refuses the connection.
    """
    check_address(address)
    executor = RayExecutor(address)
    try:
        scaling = executor.autoscaler(wait=True)
        nodes = executor.nodes()
    finally:
        executor.close()
    return Offer([{name: amount for name, amount in node.items() if _is_kept(name)} for node in nodes], scaling)


def _is_kept(name: str) -> bool:
    """Return whether cells may demand this resource; they may not demand Ray's internal resources."""
    return name in ("CPU", "GPU", "memory") or not (name.startswith("node:") or name == "object_store_memory")
