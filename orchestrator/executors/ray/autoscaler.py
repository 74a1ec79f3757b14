"""The nodes that a running cluster's autoscaler may start. They are read on the head: Ray's API does not list them.

The autoscaler is Ray's `monitor.py`, a process on the head. It is started with a cluster file to which Ray's node
provider has added the node types. A task pinned to the head finds this process by its command line, and reads the
file.

The node types stay unknown if a version of Ray renames `monitor.py`, `--gcs-address` or `--autoscaling-config`. They
are also unknown on Kubernetes, because the autoscaler runs in a container of its own there.
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
ANSWER_S = 60.0  # for the head to answer
FIRST_REPORT_S = 5.0  # until the first report of an autoscaler that has just started
_STATUS = b"__autoscaling_status"
_MAX_BYTES = 2**20


class Scaling:
    """A running cluster's autoscaler, as the driver sees it.

    Args:
        ray: the Ray module, connected.
        store: the client of the cluster's key-value store.
        answers: returns whether the head answers. A call to a dead head would hang until Ray ends the process.
    """

    def __init__(self, ray: Any, store: Any, answers: Callable[[], bool]) -> None:
        self._ray, self._store, self._answers = ray, store, answers
        self._autoscaler: Autoscaler | None = None
        self._is_final = False
        self._checked_at = -FIRST_REPORT_S

    def find(self) -> Autoscaler | None:
        """Return the autoscaler; None if the cluster has none, or if it has not reported yet.

        Its node types are read only once.
        """
        if self._is_final or time.monotonic() - self._checked_at < FIRST_REPORT_S or not self._answers():
            return self._autoscaler
        self._checked_at = time.monotonic()
        try:
            if not self._runs():
                return None
            self._is_final, config = True, self._ask_head()
        except self._ray.exceptions.RayError:
            return None  # the head has just died: `HealthMonitor` will report it
        else:
            if config is not None:
                self._autoscaler = autoscaler(config) if config else Autoscaler(types_known=False)
        return self._autoscaler

    def news(self) -> str:
        """Describe the nodes that the autoscaler is starting or failed to start; "" if it reports none."""
        if self._autoscaler is None or not self._answers():
            return ""
        try:
            report = self._report()
            return (_v2_in_words(self._status()) if report is None else _v1_in_words(report))[:300]
        except self._ray.exceptions.RayError:
            return ""  # the head has just died

    def _runs(self) -> bool:
        """Tell whether the cluster has an autoscaler.

        Without an autoscaler, Ray's monitor reports each node under a node type of its own.
        """
        report = self._report()
        if report is not None:
            return not all(name.startswith("node_") for name in report.get("active_nodes") or ())
        names: Any = self._ray._raylet  # autoscaler v2 reports only to the head
        key, space = names.GCS_AUTOSCALER_V2_ENABLED_KEY, names.GCS_AUTOSCALER_STATE_NAMESPACE
        return bool(self._store.internal_kv_get(key.encode(), space.encode(), _RPC_S) == b"1")

    def _report(self) -> dict[str, Any] | None:
        """Return the report of version 1 of Ray's autoscaler; None if there is none, as with version 2."""
        value = self._store.internal_kv_get(_STATUS, None, _RPC_S)
        report: dict[str, Any] | None = json.loads(value).get("autoscaler_report") if value else None
        return report

    def _status(self) -> Any:
        """Return the report of version 2 of Ray's autoscaler, a protocol buffer."""
        messages: Any = importlib.import_module("ray.core.generated.autoscaler_pb2")
        reply = messages.GetClusterStatusReply()
        reply.ParseFromString(self._store.get_cluster_status(timeout_s=_RPC_S))
        return reply.autoscaling_state

    def _ask_head(self) -> dict[str, Any] | None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = self._store.get_all_node_info(timeout=_RPC_S, state_filter=0)
        head = next((node.hex() for node, info in nodes.items() if info.is_head_node), None)
        if head is None:
            return None
        on_head = NodeAffinitySchedulingStrategy(node_id=head, soft=False)
        task = self._ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=on_head)(local_configuration)
        try:
            config: dict[str, Any] | None = self._ray.get(
                task.remote(self._store.address.rpartition(":")[2]), timeout=ANSWER_S
            )
        except self._ray.exceptions.RayError:
            return {}  # types unknown: it may start any node
        return config


def _v1_in_words(report: Mapping[str, Any]) -> str:
    starting = [f"{count} x {kind}" for kind, count in (report.get("pending_launches") or {}).items()]
    starting += [f"1 x {kind} ({status})" for _, kind, status in report.get("pending_nodes") or ()]
    availability = (report.get("node_availability_summary") or {}).get("node_availabilities") or {}
    refused = [
        f"{kind}: {(entry.get('unavailable_node_information') or {}).get('description', 'none available')}"
        for kind, entry in availability.items()
        if not entry.get("is_available", True)
    ]
    return _in_words(starting, refused)


def _v2_in_words(state: Any) -> str:
    starting = [f"{request.count} x {request.ray_node_type_name}" for request in state.pending_instance_requests]
    starting += [f"1 x {node.ray_node_type_name}" for node in state.pending_instances]
    refused = [f"{request.ray_node_type_name}: {request.reason}" for request in state.failed_instance_requests]
    return _in_words(starting, refused)


def _in_words(starting: Sequence[str], refused: Sequence[str]) -> str:
    return "; ".join([*([f"starting {', '.join(starting)}"] if starting else []), *refused])


def local_configuration(port: str) -> dict[str, Any] | None:
    """Read the node types of the autoscaler that runs on this machine for the head at `port`.

    Returns:
        The keys about node types in the autoscaler's cluster file; None if it was started without a file; {} if no
        autoscaler runs here.
    """
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if not any(word.endswith("monitor.py") for word in words) or not any(
                word.startswith("--gcs-address=") and word.endswith(f":{port}") for word in words
            ):
                continue
            file = next((w.partition("=")[2] for w in words if w.startswith("--autoscaling-config=")), None)
            return None if file is None else _node_types((entry / "cwd").resolve() / Path(file).expanduser())
        except OSError:
            continue  # the process has ended, or belongs to another user
    return {}


def _node_types(path: Path) -> dict[str, Any]:
    """Read the keys about node types from a cluster file. All other keys are left out, since some hold credentials."""
    import yaml

    with path.open("rb") as file:
        config = yaml.safe_load(file.read(_MAX_BYTES))
    return {
        "max_workers": config.get("max_workers", 0),
        "head_node_type": config.get("head_node_type"),
        "provider": {"type": config.get("provider", {}).get("type")},
        "available_node_types": {
            name: {part: node_type.get(part) for part in ("resources", "labels")}
            | ({"max_workers": node_type["max_workers"]} if "max_workers" in node_type else {})
            for name, node_type in config.get("available_node_types", {}).items()
        },
    }
