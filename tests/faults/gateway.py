"""The way to an S3 server as a process of its own, which can be killed and frozen, and told to go wrong.

    python -m tests.faults.gateway PORT UPSTREAM LOG

To its clients it is a server that keeps all that it has acknowledged: killed, it takes along the answers, and some of
the requests, that were under way. It obeys lines of JSON on its standard input, and logs each fault that it does.
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
    """A running one, which comes back at the same address.

    Args:
        upstream: port of the S3 server.
        log: a file that gets a line for each fault: what, method.
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

    def tell(self, what: str | int, *methods: str, times: int = 10**9, seconds: float = 1e9) -> None:
        """Do `what` (see `Proxy`) to so many of the next requests of these methods, for so long at most."""
        with contextlib.suppress(BrokenPipeError, ValueError):  # it is killed: that is fault enough
            self._say(what=what, methods=methods, times=times, seconds=seconds)

    def behave(self) -> None:
        """No more faults; what came late is obeyed when this returns."""
        self._say(what="behave")
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "obeyed\n"

    def _say(self, **words: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.thaw()
        self.kill()


class _Faults:
    """What was asked for, and how often it has still to be done."""

    def __init__(self, log: str) -> None:
        self._log = log
        self._asked: list[dict[str, Any]] = []
        self._lock = threading.Lock()

    def add(self, asked: dict[str, Any]) -> None:
        with self._lock:
            self._asked.append({**asked, "until": time.monotonic() + asked["seconds"]})

    def clear(self) -> None:
        with self._lock:
            self._asked.clear()

    def __call__(self, method: str, path: str) -> str | int | None:
        with self._lock:
            for asked in self._asked:
                if method in asked["methods"] and asked["times"] > 0 and time.monotonic() < asked["until"]:
                    asked["times"] -= 1
                    with open(self._log, "a") as file:
                        file.write(f"{asked['what']} {method}\n")
                    return asked["what"]
        return None


def main() -> None:
    port, upstream, log = sys.argv[1:]
    proxy = Proxy(int(upstream), int(port))
    proxy.fault = faults = _Faults(log)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["what"] == "behave":
            faults.clear()
            proxy.release()
            print("obeyed", flush=True)
        elif asked["what"] == "release":
            proxy.release()
        else:
            faults.add(asked)


if __name__ == "__main__":
    main()
