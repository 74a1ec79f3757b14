"""A Ray cluster whose autoscaler starts nodes on this machine: a head without CPUs, and node types from zero.

Ray's own `AutoscalingCluster` cannot be used: it runs `ray stop --force`, which ends every cluster on the machine, and
it needs a file that the wheel lacks. Its provider of fake nodes works with the file that `configuration` makes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import yaml

from tests.faults.head import Head, free_port

HEAD_ID = "f" * 51 + "00000"  # the provider of fake nodes knows the head by it
_FAKE = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD_ID,
    "RAY_CLOUD_INSTANCE_ID": HEAD_ID,
}
_LISTS = (
    "cluster_synced_files rsync_exclude rsync_filter initialization_commands setup_commands head_setup_commands "
    "worker_setup_commands head_start_ray_commands worker_start_ray_commands"
)


def configuration(port: int, types: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A cluster file of fake nodes with every field filled in, as on a head.

    Args:
        port: of the head.
        types: name -> resources, labels, max_workers.
    """
    small = {"object_store_memory": 80 * 2**20}
    worker_types = {
        name: {"node_config": {}, "min_workers": 0, **node_type, "resources": {**small, **node_type["resources"]}}
        for name, node_type in types.items()
    }
    return {
        "cluster_name": "fake",
        "max_workers": 4,
        "idle_timeout_minutes": 0.1,
        "upscaling_speed": 10,
        "provider": {
            "type": "external",  # by type, the second autoscaler looks for a file that the wheel lacks
            "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
            "use_node_id_as_ip": True,
            "gcs_address": f"127.0.0.1:{port}",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "worker_liveness_check": False,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            **worker_types,
        },
        "head_node_type": "ray.head.default",
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in _LISTS.split()},
    }


class AutoscalingCluster(Head):
    """A head, and an autoscaler of fake nodes: Ray's first, or its second, which `ray up` and Kubernetes have.

    See `configuration` for `types`.
    """

    def __init__(self, second: bool = True, **types: dict[str, Any]) -> None:
        port = free_port()
        with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
            file.write(yaml.safe_dump(configuration(port, types)))
        self._file = Path(file.name)
        super().__init__(
            0,
            port,
            more=[f"--autoscaling-config={file.name}"],
            variables=_FAKE | {"RAY_enable_autoscaler_v2": str(int(second))},
        )

    def close(self) -> None:
        """End everything."""
        super().close()
        self._file.unlink()
