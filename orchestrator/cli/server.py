"""The web server behind `serve`: the report's page, the state of the launch, SQL, logs and artifacts, by GET only.

It only reads the store. What it sends is guarded by a secret in the address, compared in constant time. The Host header
must name this machine or be an address, so that a stranger's domain that resolves to this machine (DNS rebinding) gets
nothing. Only the page itself can be opened from another site.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import polars as pl

from raysweep.orchestrator.cli.cells import one_cell
from raysweep.orchestrator.cli.terminal.output import finite
from raysweep.orchestrator.cli.watch import event, snapshot
from raysweep.orchestrator.errors import InputError, RaysweepError
from raysweep.orchestrator.query.sql import first_rows
from raysweep.orchestrator.run.output import clean
from raysweep.orchestrator.store.artifacts import read_content
from raysweep.orchestrator.store.live import LiveState
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import printable

MAX_ROWS, QUERY_S, MAX_QUERIES = 500, 30.0, 2
"""Maximum rows of an answer, seconds that a query may take, and queries that run at the same time."""
STATE_S, PAGE_S, FACTOR = 1.0, 5.0, 5.0
"""Least seconds between two readings of the state, and two buildings of the page; or `FACTOR` times what they take."""
MAX_LOG = 200_000
"""Maximum characters of a log; its end is sent."""
MAX_CELLS, MAX_CURVES, POINTS = 12, 4, 120
"""Maximum running cells and curves of each that the state has, and points of a curve."""
_IDLE_S = 20.0


class Site:
    """What the server shows of one store. Its methods may be called by several threads."""

    def __init__(
        self, store: Store, *, named: str, where: str | None = None, metrics: Sequence[str] = (),
        better: str | None = None, title: str | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._named, self._where, self._metrics, self._better, self._title = named, where, metrics, better, title
        self._reading, self._building = threading.Lock(), threading.Lock()
        self._state: tuple[float, dict[str, Any]] = (-1e9, {})  # not before this time again, state
        self._page: tuple[float, str, bytes] = (-1e9, "", b"")  # not before this time again, version, content
        self._queries = threading.Semaphore(MAX_QUERIES)

    def check(self) -> tuple[str, ...]:
        """Read the state once; return warnings.

        Raises:
            InputError: `where` is invalid or selects no cell.
        """
        return snapshot(self._store, self._where)[1]

    def page(self) -> bytes:
        """Return the page. It is built again if the store has changed, but not too often."""
        from raysweep.analysis.report.build import build
        from raysweep.analysis.report.html import to_html

        version = self.state()["version"]
        with self._building:
            again, known, content = self._page
            if known == version or time.monotonic() < again:
                return content
            began = time.monotonic()
            report = build(
                self._store, named=self._named, title=self._title, where=self._where, metric_names=self._metrics,
                better=self._better,
            )  # fmt: skip
            content = to_html(report, served=True, version=version).encode()
            took = time.monotonic() - began
            self._page = (time.monotonic() + max(PAGE_S, FACTOR * took), version, content)
            return content

    def state(self) -> dict[str, Any]:
        """Return progress, running cells with their curves, and failures."""
        with self._reading:
            again, known = self._state
            began = time.monotonic()
            if began < again:
                return known
            moment, _ = snapshot(self._store, self._where)
            state: dict[str, Any] = event(moment)
            names = dict(moment.states.select("cell_id", "name").iter_rows())
            live = {s.cell_id: s for s in self._store.live()} if moment.running else {}
            state["running_cells"] = [
                {"id": cell, "name": printable(names[cell]), "fraction": moment.running[cell],
                 "curves": _curves(live[cell]) if cell in live else {}}
                for cell in [*moment.running][:MAX_CELLS]
            ]  # fmt: skip
            state["failures"] = [
                {**row, "finished_at": str(row["finished_at"]), "name": printable(names.get(row["cell_id"], ""))}
                for row in moment.failures.iter_rows(named=True)
            ]
            state["version"] = f"{state['done']}-{state['failed']}-{state['cells']}-{state['owner'] is not None}"
            self._state = (time.monotonic() + max(STATE_S, FACTOR * (time.monotonic() - began)), state)
            return state

    def answer(self, sql: str) -> dict[str, Any]:
        """Answer a query: columns, rows and total; total is null if there are more rows than `MAX_ROWS`."""
        if not self._queries.acquire(timeout=QUERY_S):
            raise InputError("other queries are running; try again")
        try:
            frame = first_rows(self._store, sql, MAX_ROWS + 1, QUERY_S)
        finally:
            self._queries.release()
        rows = [[_plain(value) for value in row] for row in frame.head(MAX_ROWS).iter_rows()]
        total = frame.height if frame.height <= MAX_ROWS else None
        return {"columns": frame.columns, "rows": rows, "total": total}

    def log(self, cell: str) -> str:
        """Return the end of what a cell has printed, while it runs or afterwards."""
        cell_id = self._cell(cell)
        for state in self._store.live():
            if state.cell_id == cell_id:
                return printable(clean(state.end))
        of_cell = pl.col("cell_id") == cell_id
        ended = self._store.collect(
            lambda: self._store.attempts.filter(of_cell).select("attempt", "log_tail", "traceback").sort("attempt")
        ).rows()
        if not ended:
            return ""
        attempt, tail, traceback = ended[-1]
        texts = self._store.collect(
            lambda: self._store.logs.filter(of_cell & (pl.col("attempt") == attempt)).select("text")
        )["text"].to_list()
        return printable("\n".join(text for text in (texts[-1] if texts else tail, traceback) if text))[-MAX_LOG:]

    def artifacts(self, cell: str) -> list[dict[str, Any]]:
        """List the files of a cell: path, bytes, kind, and whether the content is in the store."""
        cell_id = self._cell(cell)
        rows = self._store.artifacts().filter(pl.col("cell_id") == cell_id).iter_rows(named=True)
        return [
            {"path": printable(row["path"]), "bytes": row["bytes"], "kind": row["kind"],
             "stored": row["sha256"] is not None, "number": number}
            for number, row in enumerate(rows)
        ]  # fmt: skip

    def artifact(self, cell: str, number: int) -> tuple[str, bytes]:
        """Return the name and content of a cell's file, by its number in `artifacts`."""
        rows = self._store.artifacts().filter(pl.col("cell_id") == self._cell(cell)).to_dicts()
        if not 0 <= number < len(rows) or rows[number]["sha256"] is None:
            raise InputError(f"cell {cell}: has no stored file number {number}")
        return rows[number]["path"], read_content(self._store.storage, rows[number])

    def _cell(self, cell: str) -> str:
        return str(one_cell(self._store.known(), cell)["cell_id"])


class Server(ThreadingHTTPServer):
    """A server of a site.

    Args:
        site: what it shows.
        address: host and port; port 0: any free one.
        secret: the first part of each path; None: none.
    """

    daemon_threads = True

    def __init__(self, site: Site, address: tuple[str, int], secret: str | None) -> None:
        self.site, self.secret = site, secret
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach the server."""
        return ipaddress.ip_address(str(self.server_address[0])).is_loopback

    def may_be_named(self, host: str) -> bool:
        """Return whether a Host header names this machine, or is an address rather than a name."""
        name = re.sub(r":\d+$", "", host).strip("[]").lower()
        with contextlib.suppress(ValueError):
            return bool(ipaddress.ip_address(name))
        return name in {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore a connection that broke."""


def server(site: Site, host: str, port: int, secret: str | None) -> Server:
    """Listen on an address.

    Raises:
        OSError: the address is unknown or in use.
    """
    return Server(site, (host, port), secret)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Server
    timeout = _IDLE_S
    server_version, sys_version = "raysweep", ""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Print nothing: addresses contain the secret."""

    def do_GET(self) -> None:
        """Answer a request, or refuse it."""
        address = urlsplit(self.path)
        if not self.server.may_be_named(self.headers.get("Host", "")):
            self._send(403, "text/plain", b"this server is not reached under that name\n")
            return
        parts = address.path.removeprefix("/").split("/")
        if self.server.secret is not None:
            given = parts.pop(0).encode("utf-8", "replace")
            if not hmac.compare_digest(given, self.server.secret.encode()) or not parts:
                self._send(403, "text/plain", b"open the address that `raysweep serve` printed\n")
                return
        name = "/".join(parts)
        if name and self.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            self._send(403, "text/plain", b"not for other sites\n")
            return
        parameters = {key: values[-1] for key, values in parse_qs(address.query).items()}
        try:
            self._answer(name, parameters)
        except (RaysweepError, ValueError) as error:
            self._send(400, "application/json", json.dumps({"problem": str(error)}).encode())
        except FileNotFoundError:
            self._send(503, "application/json", b'{"problem": "the store was changing; try again"}')

    def _answer(self, name: str, parameters: dict[str, str]) -> None:
        site, as_json = self.server.site, "application/json"
        if name == "":
            self._send(200, "text/html", site.page())
        elif name == "state":
            self._send(200, as_json, json.dumps(site.state()).encode())
        elif name == "sql":
            self._send(200, as_json, json.dumps(site.answer(parameters.get("q", ""))).encode())
        elif name == "log":
            self._send(200, "text/plain", site.log(parameters.get("cell", "")).encode())
        elif name == "artifacts":
            self._send(200, as_json, json.dumps(site.artifacts(parameters.get("cell", ""))).encode())
        elif name == "artifact":
            path, content = site.artifact(parameters.get("cell", ""), int(parameters.get("number", "-1")))
            self._send(200, "application/octet-stream", content, path.rpartition("/")[2])
        else:
            self._send(404, "text/plain", b"there is no such page\n")

    def _send(self, status: int, kind: str, content: bytes, file: str | None = None) -> None:
        self.send_response(status)
        text = "; charset=utf-8" if kind.startswith("text") else ""
        headers = {
            "Content-Type": f"{kind}{text}", "Content-Length": str(len(content)), "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "X-Frame-Options": "DENY",
            "Cross-Origin-Resource-Policy": "same-origin",
        }  # fmt: skip
        if file is not None:
            headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(file, safe='')}"
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)


def _curves(state: LiveState) -> dict[str, dict[str, list[float | None]]]:
    """Thin the curves that a running cell has logged: name -> steps and values."""
    thinned = {}
    for name, curve in [*state.curves.items()][:MAX_CURVES]:
        by = -(-len(curve.steps) // POINTS) or 1
        last = len(curve.steps) - 1
        kept = sorted({*range(0, len(curve.steps), by), *([last] if last >= 0 else [])})
        thinned[printable(name)] = {
            "steps": [curve.steps[i] for i in kept], "values": [finite(curve.values[i]) for i in kept],
        }  # fmt: skip
    return thinned


def _plain(value: Any) -> Any:
    """Convert a value of a query to one of JSON's."""
    if isinstance(value, float):
        return finite(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return str(value)
