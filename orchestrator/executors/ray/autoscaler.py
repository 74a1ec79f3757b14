"""Which nodes a cluster's autoscaler may start: asked of the head, since Ray tells no driver.

Ray's autoscaler is a process on the head that was started with the cluster file, its node types filled in by the
cloud provider. A task that must run on the head reads that file's node types, and nothing else of it. On
Kubernetes the autoscaler runs beside the head, in a container of its own, and its node types stay unknown.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.orchestrator.executors.resources import Autoscaler, autoscaler

_RPC_S = 5.0
ASK_S = 60.0  # that the head has for an answer
SPEAKS_S = 5.0  # in which an autoscaler that has just been started gives a sign of life
_STATUS = b"__autoscaling_status"
_FILE_MOST = 2**20


class Scaling:
    """A cluster's autoscaler, as a driver can learn of it.

    Args:
        ray: the module, connected.
        store: the client of the cluster's key-value store.
        answers: whether the head does: a question to one that is gone would hang, till Ray ends the process.
    """

    def __init__(self, ray: Any, store: Any, answers: Callable[[], bool]) -> None:
        self._ray, self._store, self._answers = ray, store, answers
        self._found: Autoscaler | None = None
        self._asked = False
        self._looked = -SPEAKS_S

    def find(self) -> Autoscaler | None:
        """The autoscaler; None where the cluster has none. The head is asked once, when there is one."""
        if self._asked or time.monotonic() - self._looked < SPEAKS_S or not self._answers():
            return self._found
        self._looked = time.monotonic()
        try:
            if not self._runs():
                return None
            self._asked, said = True, self._ask_head()
        except self._ray.exceptions.RayError:
            return None  # the head went meanwhile: it will be missed
        else:
            if said is not None:
                self._found = autoscaler(said) if said else Autoscaler(known=False)
        return self._found

    def news(self) -> str:
        """What it is at, in words; "" where it says nothing."""
        if self._found is None or not self._answers():
            return ""
        try:
            report = self._report()
            return (_of_second(self._status()) if report is None else _of_first(report))[:300]
        except self._ray.exceptions.RayError:
            return ""  # likewise

    def _runs(self) -> bool:
        """Whether there is any; of a fixed cluster, Ray's monitor reports each node as a type of its own."""
        report = self._report()
        if report is not None:
            return not all(name.startswith("node_") for name in report.get("active_nodes") or ())
        names: Any = self._ray._raylet  # the second autoscaler reports to the head alone
        key, space = names.GCS_AUTOSCALER_V2_ENABLED_KEY, names.GCS_AUTOSCALER_STATE_NAMESPACE
        return bool(self._store.internal_kv_get(key.encode(), space.encode(), _RPC_S) == b"1")

    def _report(self) -> dict[str, Any] | None:
        """What Ray's first autoscaler says of itself; None of the second, and where there is none."""
        value = self._store.internal_kv_get(_STATUS, None, _RPC_S)
        report: dict[str, Any] | None = json.loads(value).get("autoscaler_report") if value else None
        return report

    def _status(self) -> Any:
        """What the second says, a protocol buffer."""
        messages: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")
        reply = messages.GetClusterStatusReply()
        reply.ParseFromString(self._store.get_cluster_status(timeout_s=_RPC_S))
        return reply.autoscaling_state

    def _ask_head(self) -> dict[str, Any] | None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = self._store.get_all_node_info(timeout=_RPC_S, state_filter=0)
        head = next((node.hex() for node, about in nodes.items() if about.is_head_node), None)
        if head is None:
            return None
        there = NodeAffinitySchedulingStrategy(node_id=head, soft=False)
        ask = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(configuration_here)
        try:
            said: dict[str, Any] | None = self._ray.get(
                ask.remote(self._store.address.rpartition(":")[2]), timeout=ASK_S
            )
        except self._ray.exceptions.RayError:
            return {}  # it can't be asked: anything may come
        return said


def _of_first(report: Mapping[str, Any]) -> str:
    starting = [f"{count} x {kind}" for kind, count in (report.get("pending_launches") or {}).items()]
    starting += [f"1 x {kind} ({status})" for _, kind, status in report.get("pending_nodes") or ()]
    availability = (report.get("node_availability_summary") or {}).get("node_availabilities") or {}
    refused = [
        f"{kind}: {(about.get('unavailable_node_information') or {}).get('description', 'none to be had')}"
        for kind, about in availability.items()
        if not about.get("is_available", True)
    ]
    return _in_words(starting, refused)


def _of_second(state: Any) -> str:
    starting = [f"{asked.count} x {asked.ray_node_type_name}" for asked in state.pending_instance_requests]
    starting += [f"1 x {node.ray_node_type_name}" for node in state.pending_instances]
    refused = [f"{asked.ray_node_type_name}: {asked.reason}" for asked in state.failed_instance_requests]
    return _in_words(starting, refused)


def _in_words(starting: Sequence[str], refused: Sequence[str]) -> str:
    return "; ".join([*([f"starting {', '.join(starting)}"] if starting else []), *refused])


def configuration_here(port: str) -> dict[str, Any] | None:
    """The node types of the autoscaler on this machine; {} where none runs here, None where one that starts none does.

    Args:
        port: of the head, to tell clusters apart.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if not any(word.endswith("monitor.py") for word in words) or not any(
                word.startswith("--gcs-address=") and word.endswith(f":{port}") for word in words
            ):
                continue
            named = next((w.partition("=")[2] for w in words if w.startswith("--autoscaling-config=")), None)
            return None if named is None else _node_types((entry / "cwd").resolve() / Path(named).expanduser())
        except OSError:
            continue  # ended meanwhile, or not ours to look at
    return {}


def _node_types(path: Path) -> dict[str, Any]:
    """Of the file, which holds credentials too, only what `cluster_offer.autoscaler` reads."""
    import yaml

    with path.open("rb") as file:
        config = yaml.safe_load(file.read(_FILE_MOST))
    return {
        "max_workers": config.get("max_workers", 0),
        "head_node_type": config.get("head_node_type"),
        "provider": {"type": config.get("provider", {}).get("type")},
        "available_node_types": {
            name: {part: about.get(part) for part in ("resources", "labels")}
            | ({"max_workers": about["max_workers"]} if "max_workers" in about else {})
            for name, about in config.get("available_node_types", {}).items()
        },
    }
