"""A Ray cluster of several nodes on this machine, in a process of its own, on loopback, with token authentication.

As a program: starts a head and nodes, prints a line of JSON about them, and obeys lines of JSON on its standard
input (`add`, `kill`, `drain`) until that ends.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.command_line import PATHS, ROOT

SETTINGS = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # loopback
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_worker_niceness": "0",
    "RAY_task_events_report_interval_ms": "0",
}


class NodeDidNotStart(Exception):
    """Ray did not start a new node."""


class Cluster:
    """A head without CPUs and `nodes`, each given as arguments of `ray.init` (num_cpus, num_gpus, labels)."""

    def __init__(self, *nodes: dict[str, Any], quick: bool = True) -> None:
        from raysweep.orchestrator.executors.ray.connection import KEEPALIVE

        self.environment = {
            **os.environ, **SETTINGS, **(KEEPALIVE if quick else {}),
            "RAY_AUTH_TOKEN": secrets.token_hex(16), "PYTHONPATH": PATHS,
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.cluster"], cwd=ROOT, env=self.environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self._stopped: set[int] = set()
        head = self._read()
        self.address: str = head["address"]
        self.gcs: int = head["gcs"]
        self.session: str = head["session"]
        self.nodes: dict[str, int] = {}  # id -> the raylet's process
        for node in nodes:
            self.add(**node)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise AssertionError("the cluster's process has ended")

    def _send(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def add(self, **arguments: Any) -> str:
        """Start a node; its id.

        Raises:
            NodeDidNotStart: as on a machine that has much else to do.
        """
        reply = self._send(add=arguments)
        if "problem" in reply:
            raise NodeDidNotStart(reply["problem"])
        self.nodes[reply["node"]] = reply["raylet"]
        return reply["node"]

    def kill(self, node: str) -> None:
        """Kill -9 a node's raylet; its workers die with it."""
        self._send(kill=node)
        del self.nodes[node]

    def drain(self, node: str, seconds: float) -> None:
        """Drain a node, as SIGTERM to `ray start --block` and autoscalers do."""
        self._send(drain=node, seconds=seconds)

    def workers(self, node: str) -> list[int]:
        """Pids of a node's busy workers."""
        return [pid for pid in children(self.nodes[node]) if command(pid).startswith("ray::work")]

    def freeze(self, node: str) -> list[int]:
        """SIGSTOP a raylet and its descendants; their pids."""
        pids = [self.nodes[node], *descendants(self.nodes[node])]
        for pid in pids:
            signal_to(pid, signal.SIGSTOP)
            self._stopped.add(pid)
        return pids

    def thaw(self) -> None:
        """SIGCONT all frozen processes."""
        for pid in self._stopped:
            signal_to(pid, signal.SIGCONT)
        self._stopped.clear()

    def close(self) -> None:
        """End everything."""
        self.thaw()
        everything = [*descendants(self._process.pid)]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in everything:
            if self.session in command(pid):
                signal_to(pid, signal.SIGKILL)


def signal_to(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """The children of a process, whichever of its threads started them."""
    try:
        texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
        return [int(p) for text in texts for p in text.split()] or _by_parent(pid)
    except OSError:
        return _by_parent(pid)


def _by_parent(parent: int) -> list[int]:
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int((entry / "stat").read_bytes().rpartition(b")")[2].split()[1]) == parent:
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


def descendants(pid: int) -> list[int]:
    below = children(pid)
    return below + [p for child in below for p in descendants(child)]


def _serve() -> None:
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    # With this file, a bare ray.init() on this machine would attach to the cluster under test.
    Path("/tmp/ray/ray_current_cluster").unlink(missing_ok=True)
    head = nodes.head_node
    by_id: dict[str, Any] = {}
    gcs = head.all_processes["gcs_server"][0].process.pid
    print(json.dumps({"address": nodes.address, "gcs": gcs, "session": Path(head.get_session_dir_path()).name}))
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {}
        if "add" in request:
            try:
                node = nodes.add_node(**{"object_store_memory": 80 * 2**20, **request["add"]})
                by_id[node.node_id] = node
                answer = {"node": node.node_id, "raylet": node.all_processes["raylet"][0].process.pid}
            except Exception as error:  # whatever Ray raises, the cluster stays up
                answer = {"problem": repr(error)}
        elif "kill" in request:
            nodes.remove_node(by_id.pop(request["kill"]), allow_graceful=False)
        elif "drain" in request:
            _drain(head, request["drain"], request["seconds"])
        print(json.dumps(answer), flush=True)
    nodes.shutdown()


def _drain(head: Any, node: str, seconds: float) -> None:
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION
    head.get_gcs_client().drain_node(node, reason, "a test", int((time.time() + seconds) * 1000))


if __name__ == "__main__":
    _serve()
