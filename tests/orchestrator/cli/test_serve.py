"""`serve`: who may ask what, and what the server answers. `tests/analysis/report/test_served_page.py` opens it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from raysweep import Sweep, launch
from raysweep.orchestrator.cli import server as module
from raysweep.orchestrator.cli.serve import serve
from raysweep.orchestrator.cli.server import Server, Site, server
from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.store.live import Curve, LiveState
from raysweep.orchestrator.store.reader import Store
from tests.conftest import environment

WORKLOAD = """
def run(cell, context):
    print("printed by seed", cell.seed)
    (context.folder / "note.txt").write_text(f"note {cell.seed}")
    if cell.seed == 2:
        raise ValueError("unlucky")
    return {"loss": cell.seed * 0.5}
"""
SWEEP = """
name = "served"
workload = "served:run"
seeds = "0..2"
[resources]
retries = 0
[[grid]]
method = ["a", "b"]
"""
SECRET = "s3cret"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("served")
    (folder / "served.py").write_text(WORKLOAD, encoding="utf-8")
    (folder / "served.toml").write_text(SWEEP, encoding="utf-8")
    sys.modules.pop("served", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        launch(Sweep.load(folder / "served.toml"), folder / "results", inline=True)
    return Store(folder / "results")


@pytest.fixture(scope="module")
def listening(store: Store) -> Iterator[Server]:
    with server(Site(store, named="results"), "127.0.0.1", 0, SECRET) as started:
        thread = threading.Thread(target=started.serve_forever, args=(0.01,))
        thread.start()
        yield started
        started.shutdown()
        thread.join()


class Reply:
    def __init__(self, reply: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, reply.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(listening: Server, path: str, method: str = "GET", **headers: str) -> Reply:
    """Ask under the secret, unless the path begins with a slash."""
    connection = http.client.HTTPConnection("127.0.0.1", listening.server_address[1], timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path if path.startswith("/") else f"/{SECRET}/{path}", headers=named)
    reply = Reply(connection.getresponse())
    connection.close()
    return reply


def sql(listening: Server, text: str) -> Reply:
    return ask(listening, f"sql?q={quote(text)}")


def test_it_listens_on_this_machine_only(listening: Server, store: Store) -> None:
    assert listening.server_address[0] == "127.0.0.1"
    assert listening.is_private
    with server(Site(store, named="results"), "0.0.0.0", 0, None) as public:
        assert not public.is_private


def test_without_the_secret_nothing_is_answered(listening: Server) -> None:
    for path in ("/", "/state", "/wrong/", "/wrong/state", f"/{SECRET}x/state", f"/{SECRET}", "/%73%33cret/"):
        reply = ask(listening, path)
        assert (reply.status, b"<html" in reply.body) == (403, False), path
    assert ask(listening, "state").status == 200


def test_only_addresses_and_names_of_this_machine_are_valid_hosts(listening: Server) -> None:
    for host in ("127.0.0.1", "localhost:8484", "[::1]:8484", "192.168.1.7:80", socket.gethostname()):
        assert ask(listening, "state", Host=host).status == 200, host
    for host in ("evil.example", "localhost.evil.example:8484", "127.0.0.1.nip.example", ""):
        assert ask(listening, "state", Host=host).status == 403, host


def test_other_sites_can_open_the_page_but_not_read_from_it(listening: Server) -> None:
    assert ask(listening, "", Sec_Fetch_Site="cross-site").status == 200  # a link in an e-mail
    for path in ("state", "sql?q=SELECT%201", "log?cell=a"):
        assert ask(listening, path, Sec_Fetch_Site="cross-site").status == 403
    headers = ask(listening, "state", Origin="http://evil.example").headers
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_only_get_is_answered(listening: Server, method: str) -> None:
    assert ask(listening, "state", method).status == 501


def test_paths_lead_to_no_files(listening: Server) -> None:
    for path in ("../../etc/passwd", "..%2f..%2fetc/passwd", "page.css", "cells", "state/"):
        assert ask(listening, path).status == 404, path


def test_the_page_asks_the_server_and_carries_no_rows(listening: Server) -> None:
    reply = ask(listening, "")
    text = reply.body.decode()
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in text
    assert 'data-served="4-2-6-False"' in text
    assert 'id="rows"' not in text
    assert 'id="live"' in text
    assert ask(listening, "").body == reply.body  # not built again


def test_the_state_has_counts_and_failures(listening: Server) -> None:
    state = ask(listening, "state").json
    assert (state["cells"], state["done"], state["failed"], state["owner"]) == (6, 4, 2, None)
    assert state["running_cells"] == []
    assert {row["name"] for row in state["failures"]} == {"served/a/seed=2", "served/b/seed=2"}
    assert state["failures"][0]["error_message"] == "unlucky"


def test_queries_are_answered_by_duckdb(listening: Server) -> None:
    answer = sql(
        listening, "SELECT method, avg(loss), max(finished_at) > '2026-01-01' FROM cells GROUP BY ALL ORDER BY 1"
    )
    assert answer.json["rows"] == [["a", 0.25, True], ["b", 0.25, True]]
    assert sql(listening, "SELECT [1, NULL], 'nan'::DOUBLE, DATE '2026-01-02'").json["rows"] == [
        [[1, None], "nan", "2026-01-02"]
    ]
    long = sql(listening, "SELECT * FROM range(600)").json
    assert (len(long["rows"]), long["total"]) == (500, None)
    assert sql(listening, "EXPLAIN SELECT 1").status == 200


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("SELECT los FROM cells", "loss"),
        ("", "empty"),
        ("DROP TABLE cells", "changes nothing"),
        ("SELECT * FROM read_text('/etc/passwd')", "disabled"),
        ("COPY cells TO '/tmp/cells.csv'", "changes nothing"),
    ],
)
def test_other_queries_are_refused_with_the_reason(listening: Server, text: str, problem: str) -> None:
    reply = sql(listening, text)
    assert reply.status == 400
    assert problem in reply.json["problem"]


def test_an_endless_query_is_stopped(listening: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUERY_S", 0.3)
    reply = sql(listening, "SELECT sum(a.range * b.range) FROM range(100000000) a, range(1000000) b")
    assert reply.json == {"problem": "SQL: stopped after 0.3 s"}


def test_logs_and_files_of_a_cell(listening: Server, store: Store) -> None:
    failed = store.sql("SELECT cell_id FROM cells WHERE seed = 2 AND method = 'a'")["cell_id"][0]
    done = store.sql("SELECT cell_id FROM cells WHERE seed = 1 AND method = 'a'")["cell_id"][0]
    log = ask(listening, f"log?cell={failed[:8]}")
    assert log.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert "printed by seed 2" in log.body.decode()
    assert "ValueError: unlucky" in log.body.decode()
    (file,) = ask(listening, f"artifacts?cell={done}").json
    assert (file["path"], file["bytes"], file["stored"]) == ("note.txt", 6, True)
    content = ask(listening, f"artifact?cell={done}&number={file['number']}")
    assert content.body == b"note 1"
    assert content.headers["Content-Disposition"] == "attachment; filename*=UTF-8''note.txt"
    assert content.headers["Content-Type"] == "application/octet-stream"  # nothing that a browser would run
    for query in ("number=1", "number=-1", "number=x", "path=../../x"):
        assert ask(listening, f"artifact?cell={done}&{query}").status == 400
    assert "no such cell" in ask(listening, "log?cell=zzzz").json["problem"]


def test_curves_of_running_cells_are_thinned_and_keep_their_last_point() -> None:
    state = LiveState("c" * 24, 1, curves={"loss": Curve(range(1000), [float("nan"), *range(999)], [0.0] * 1000)})
    curve = module._curves(state)["loss"]
    assert len(curve["steps"]) <= module.POINTS + 1
    assert (curve["steps"][0], curve["steps"][-1], curve["values"][-1]) == (0, 999, 998)
    json.dumps(curve, allow_nan=False)
    assert module._curves(LiveState("c" * 24, 1, curves={"loss": Curve([], [], [])}))["loss"]["steps"] == []


def test_the_command_refuses_what_it_cannot_do(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no store"):
        serve(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="none of the 6 cells matches"):
        serve(str(store.storage), where="seed = 99", port=0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="give another --port"):
            serve(str(store.storage), port=taken.getsockname()[1])


def test_the_command_prints_its_address_and_ends_at_ctrl_c(store: Store) -> None:
    command = [sys.executable, "-m", "raysweep", "serve", "--store", str(store.storage), "--port", "0"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        address = run.stdout.readline().strip()
        host, _, path = address.removeprefix("http://").partition("/")
        assert len(path) > 20
        connection = http.client.HTTPConnection(host, timeout=30)
        connection.request("GET", f"/{path}state")
        assert json.loads(connection.getresponse().read())["done"] == 4
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=30)
    assert (run.returncode, err) == (130, "interrupted\n")
