"""An S3 server on loopback (moto's, in its own process), and a proxy in front of it that injects faults."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

BUCKET = "results-bucket"
SECRET = "hush-hush-2f61c9"  # a fake one; a test looks for it where it must not be
KEY = "AKIAKEYOFTHETESTS"


class Server:
    """moto's server; ends with `close`."""

    def __init__(self, port: int | None = None) -> None:
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until = time.monotonic() + 60
        while True:
            try:
                self.make(BUCKET)
                return
            except OSError:
                assert time.monotonic() < until, "the S3 server did not start"
                assert self.process.poll() is None
                time.sleep(0.05)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make(self, bucket: str) -> None:
        request = urllib.request.Request(f"{self.endpoint}/{bucket}", method="PUT")
        urllib.request.urlopen(request, timeout=10).read()

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def variables(endpoint: str) -> dict[str, str]:
    """The environment that leads there."""
    return {
        "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing where either side has gone, as they are meant to."""
        if not isinstance(sys.exception(), OSError | http.client.HTTPException):
            super().handle_error(request, client_address)


class Proxy:
    """Passes requests on, and counts them by method.

    `fault(method, path)` selects what happens to a request: None (passed on), "drop" (executed, and the connection
    closed without an answer), "reset" (closed, not executed), "cut" (executed, and closed in the middle of the answer),
    "late" (closed, and executed only by `release`), "stall" (executed and answered after `STALL_S`), or a status code.
    """

    STALL_S = 3.0

    def __init__(self, upstream: int, port: int = 0) -> None:
        self.fault: Callable[[str, str], str | int | None] = lambda method, path: None
        self.counts: dict[str, int] = {}
        self.late: list[Callable[[], object]] = []
        one_at_a_time = threading.Lock()  # the server looks whether a name is free and then writes, in two steps
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement of its headers

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.counts[self.command] = proxy.counts.get(self.command, 0) + 1
                what = proxy.fault(self.command, self.path)

                def forward() -> tuple[int, list[tuple[str, str]], bytes]:
                    with one_at_a_time if self.command == "PUT" else contextlib.nullcontext():
                        passed = http.client.HTTPConnection("127.0.0.1", upstream, timeout=30)
                        passed.request(self.command, self.path, body, dict(self.headers))
                        answer = passed.getresponse()
                        response = answer.status, answer.getheaders(), answer.read()
                        passed.close()
                    return response

                if what in {"late", "reset"}:
                    proxy.late += [forward] if what == "late" else []
                    self.close_connection = True
                    return
                if what == "stall":
                    time.sleep(proxy.STALL_S)
                if isinstance(what, int):
                    status, headers = what, []
                    data = f"<Error><Code>AccessDenied</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>".encode()
                else:
                    status, headers, data = forward()
                if what == "drop":
                    self.close_connection = True
                    return
                with contextlib.suppress(OSError):  # the client has disconnected
                    self._answer(status, headers, data, cut=what == "cut")

            def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, cut: bool) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                        self.send_header(name, value)
                length = {n.lower(): v for n, v in headers}.get("content-length", len(data))
                self.send_header("Content-Length", str(length if self.command == "HEAD" else len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data[: len(data) // 2] if cut else data)
                self.close_connection = self.close_connection or cut

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the library's names

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = _Quiet(("127.0.0.1", port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Execute the late requests now."""
        while self.late:
            self.late.pop(0)()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def set_variables(monkeypatch: Any, endpoint: str) -> None:
    """Lead this process and its children there, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables(endpoint).items():
        monkeypatch.setenv(name, value)
