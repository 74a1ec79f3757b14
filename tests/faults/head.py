"""A head started by `ray start --head` on loopback: ports, token and temporary folder of its own."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from raysweep.orchestrator.executors.ray.connection import KEEPALIVE
from tests.command_line import PATHS
from tests.faults.cluster import SETTINGS, command, descendants, signal_to


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def _python_path() -> list[str]:
    return [p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p and p not in PATHS.split(os.pathsep)]


class Head:
    """A running head.

    Args:
        cpus: CPUs that it offers.
        port: of the head.
        console: port of its dashboard and job server; None for a head without.
        more: options for `ray start`.
        variables: of its environment, in addition to those of its drivers.
    """

    def __init__(
        self, cpus: int, port: int, console: int | None = None, more: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        # Short: the names of sockets below it are bounded.
        self._folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
        self.address = f"127.0.0.1:{port}"
        self.environment = {
            **os.environ, **SETTINGS, **KEEPALIVE, "RAY_AUTH_TOKEN": secrets.token_hex(16),
            "PYTHONPATH": os.pathsep.join([PATHS, *_python_path()]),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }  # fmt: skip
        dashboard = ["--include-dashboard=false"] if console is None else [f"--dashboard-port={console}"]
        self._process = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--num-cpus={cpus}",
                "--num-gpus=0", f"--port={port}", "--object-store-memory=83886080", *dashboard,
                f"--temp-dir={self._folder / 'ray'}", "--min-worker-port=0", "--max-worker-port=0",
                "--dashboard-agent-listen-port=0", *more,
            ],
            env=self._own_environment() | dict(variables or {}), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        for needed in (port, console):
            if needed is not None:
                self._wait_for(needed)

    def _own_environment(self) -> dict[str, str]:
        """Without this checkout on the path: jobs must run the uploaded code."""
        return {**self.environment, "PYTHONPATH": os.pathsep.join(_python_path())}

    def _wait_for(self, port: int) -> None:
        until = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert self._process.poll() is None, "the head has ended"
                assert time.monotonic() < until, "the head did not start"
                time.sleep(0.2)
            else:
                return

    def close(self) -> None:
        """End everything."""
        everything = descendants(self._process.pid)
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(40)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in everything:
            if str(self._folder) in command(pid):
                signal_to(pid, signal.SIGKILL)
        shutil.rmtree(self._folder, ignore_errors=True)
