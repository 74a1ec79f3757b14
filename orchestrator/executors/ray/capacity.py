"""What a cluster offers: by its file, or by what runs at an address."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from raysweep.orchestrator.executors.ray.cluster_file import ClusterFile
from raysweep.orchestrator.executors.ray.executor import RayExecutor, check_address
from raysweep.orchestrator.executors.resources import Autoscaler, Demand, largest, listed, times, unmet


@dataclass(frozen=True)
class Offer:
    """Nodes that are there, and what may start more; None where nothing does."""

    nodes: list[dict[str, float]]
    scaling: Autoscaler | None

    def problems(self, asked: Sequence[tuple[Demand, int]], remedies: Sequence[str]) -> list[str]:
        """A line for each size of cells that can run nowhere.

        Args:
            asked: sizes, and how many cells have them.
            remedies: what to do, besides changing what cells ask for.
        """
        found = []
        for size, count in asked:
            if any(times(node, size) for node in self.nodes) or (self.scaling and self.scaling.may_run(size)):
                continue
            found.append(unmet(size, count, self._why_not(size), remedies))
        return found

    def _why_not(self, size: Demand) -> str:
        kinds = self.scaling.types if self.scaling else ()
        if size.gpus and not any(kind.has_gpu for kind in kinds) and not any(n.get("GPU") for n in self.nodes):
            return "no node type has one" if self.scaling else "no node has one"
        reasons = [f"the largest node offers {largest(self.nodes)}"] if self.nodes else []
        if self.scaling is not None:
            reasons.append(f"no node type is large enough: {listed(self.scaling) or 'there is none'}")
        return "; ".join(reasons)


def of_file(file: ClusterFile) -> Offer:
    """What a cluster file's nodes will offer; its head, where it runs cells."""
    return Offer([{"CPU": file.head_cpus}] if file.head_cpus else [], file.offer)


def of_cluster(address: str) -> Offer:
    """What runs at an address.

    Raises:
        InputError: nothing answers there.
        ClusterUnavailable: it does not let us in.
    """
    check_address(address)
    executor = RayExecutor(address)
    try:
        scaling = executor.autoscaler(patient=True)
        nodes = executor.nodes()
    finally:
        executor.close()
    keep = ("CPU", "GPU", "memory")
    return Offer([{name: node[name] for name in keep if name in node} for node in nodes], scaling)
