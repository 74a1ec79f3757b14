"""An S3 server on loopback (moto's, as a process of its own), and a proxy before it that goes wrong on purpose."""

from __future__ import annotations

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


class Proxy:
    """Passes requests on, and counts them by method.

    `fault(method, path)` says what is done with one: None (passed on), "drop" (obeyed, and the connection closed
    without an answer), "late" (obeyed only when `release` is called, and never answered), or a status code.
    """

    def __init__(self, port: int) -> None:
        self.fault: Callable[[str, str], str | int | None] = lambda method, path: None
        self.counts: dict[str, int] = {}
        self.paths: list[tuple[str, str]] = []
        self.late: list[Callable[[], None]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.counts[self.command] = proxy.counts.get(self.command, 0) + 1
                proxy.paths.append((self.command, self.path))
                what = proxy.fault(self.command, self.path)

                def forward() -> tuple[int, list[tuple[str, str]], bytes]:
                    upstream = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                    upstream.request(self.command, self.path, body, dict(self.headers))
                    answer = upstream.getresponse()
                    found = answer.status, answer.getheaders(), answer.read()
                    upstream.close()
                    return found

                if what == "late":
                    proxy.late.append(forward)
                    self.close_connection = True
                    return
                if isinstance(what, int):
                    status, headers = what, []
                    data = f"<Error><Code>AccessDenied</Code><AWSAccessKeyId>{KEY}</AWSAccessKeyId></Error>".encode()
                else:
                    status, headers, data = forward()
                if what == "drop":
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in {"connection", "transfer-encoding", "content-length", "date", "server"}:
                        self.send_header(name, value)
                length = {n.lower(): v for n, v in headers}.get("content-length", len(data))
                self.send_header("Content-Length", str(length if self.command == "HEAD" else len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any  # noqa: N815 - the library's names

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Obey now what came late."""
        for forward in self.late:
            forward()
        self.late.clear()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def set_variables(monkeypatch: Any, endpoint: str) -> None:
    """Lead this process and its children there, and nowhere else."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in variables(endpoint).items():
        monkeypatch.setenv(name, value)
