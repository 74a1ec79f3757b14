"""A proxy to an S3 server in a process of its own, which can be killed, frozen, and made to fail on purpose.

    python -m tests.faults.gateway PORT UPSTREAM LOG

Clients see a server that keeps everything it has acknowledged; when it is killed, answers and some requests in transit
are lost. It reads commands as lines of JSON from its standard input, and logs each fault.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

from tests.conftest import ROOT
from tests.object_store import Proxy, free_port


class Gateway:
    """A running gateway; after `kill`, `start` brings it back at the same address.

    Args:
        upstream: port of the S3 server.
        log: a file with a line for each fault: fault, method.
    """

    def __init__(self, upstream: int, log: str = os.devnull) -> None:
        self.port, self._upstream, self._log = free_port(), upstream, log
        self.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.gateway", str(self.port), str(self._upstream), self._log],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n"

    def kill(self) -> None:
        """kill -9; `start` brings it back."""
        self.process.kill()
        self.process.communicate()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def inject(self, fault: str | int, *methods: str, times: int = 10**9, seconds: float = 1e9) -> None:
        """Inject a fault (see `Proxy`) into the next `times` requests of these methods, for `seconds` at most."""
        with contextlib.suppress(BrokenPipeError, ValueError):  # the gateway is dead, which is a fault already
            self._send(fault=fault, methods=methods, times=times, seconds=seconds)

    def behave(self) -> None:
        """Stop injecting faults, and forward delayed requests before returning."""
        self._send(fault="behave")
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "obeyed\n"

    def _send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.thaw()
        self.kill()


class _Faults:
    """Faults to inject, and how many of each are left."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._pending: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, fault: dict[str, Any]) -> None:
        with self._lock:
            self._pending.append({**fault, "until": time.monotonic() + fault["seconds"]})

    def clear(self) -> None:
        with self._lock:
            self._pending.clear()

    def __call__(self, method: str, path: str) -> str | int | None:
        with self._lock:
            for fault in self._pending:
                if method in fault["methods"] and fault["times"] > 0 and time.monotonic() < fault["until"]:
                    fault["times"] -= 1
                    with open(self._log, "a") as file:
                        file.write(f"{fault['fault']} {method}\n")
                    return fault["fault"]
        return None


def main() -> None:
    port, upstream, log = sys.argv[1:]
    proxy = Proxy(int(upstream), int(port))
    proxy.fault = faults = _Faults(log)
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        if command["fault"] == "behave":
            faults.clear()
            proxy.release()
            print("obeyed", flush=True)
        elif command["fault"] == "release":
            proxy.release()
        else:
            faults.add(command)


if __name__ == "__main__":
    main()
