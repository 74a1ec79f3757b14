"""What every test may use."""

from __future__ import annotations

import secrets
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import command_line
from tests.azure_store import CONTAINER, PROGRAM, AzureServer
from tests.command_line import RAYSWEEP as RAYSWEEP
from tests.command_line import Ended
from tests.command_line import environment as environment
from tests.object_store import BUCKET, Proxy, Server, set_variables

ROOT = command_line.ROOT

SWEEP = """
name = "tiny"
workload = "tiny:run"
seeds = "0..3"
[[grid]]
method = ["a", "b"]
"""

TINY = """
    def run(cell, context):
        context.array("curve", [1.0, 2.0])
        return {"value": cell.seed * 2.0}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own, with a space in its name, as the current one."""
    path = tmp_path / "a folder"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.delenv("RAYSWEEP_STORE", raising=False)
    yield path
    command_line.forget_users()  # another test's module of the same name is another one
    sys.path[:] = [entry for entry in sys.path if entry != str(path)]


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """Write a file of the folder, dedented."""

    def put(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return put


@pytest.fixture
def cli(folder: Path) -> Callable[..., Ended]:
    """Run a command line in the folder: in this process, or in one of its own if it may start Ray."""

    def run(*arguments: str, timeout: float = 90) -> Ended:
        is_apart = command_line.starts_ray(arguments)
        return (command_line.in_own_process if is_apart else command_line.in_this_process)(arguments, folder, timeout)

    return run


@pytest.fixture
def cli_process(folder: Path) -> Callable[..., Ended]:
    """Run a command line in the folder as a process of its own, where the process is the point of the test."""

    def run(*arguments: str, timeout: float = 90) -> Ended:
        return command_line.in_own_process(arguments, folder, timeout)

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server on loopback, of this session."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new place in a bucket, to which the environment leads."""
    set_variables(monkeypatch, s3_server.endpoint)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/a store"


@pytest.fixture
def proxy(s3_server: Server, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A way to that server that goes wrong on purpose; the environment leads over it."""
    proxy = Proxy(s3_server.port)
    set_variables(monkeypatch, proxy.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """A real server of Azure's blobs on loopback, of this session."""
    if PROGRAM is None:
        pytest.skip("azurite-blob is not on the path (npm install azurite)")
    server = AzureServer()
    yield server
    server.close()


@pytest.fixture
def az(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new place in a container, to which the environment leads."""
    azure_server.set_variables(monkeypatch)
    return f"az://{CONTAINER}/{secrets.token_hex(4)}/a store"


@pytest.fixture(params=["local", "s3", *([pytest.param("az", marks=pytest.mark.slow)] if PROGRAM else [])])
def place(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where the store that a test calls `results` lies: in its folder, or in a bucket."""
    if request.param == "local":
        return "results"
    from raysweep.orchestrator.store import reader
    from raysweep.orchestrator.store.storage import storage

    url: str = request.getfixturevalue(request.param)
    monkeypatch.setenv("RAYSWEEP_STORE", url)
    monkeypatch.setattr(reader, "open_storage", lambda path: storage.open_storage(url if path == "results" else path))
    return url
