"""Fixtures and a small sweep for all tests."""

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
    """A new current folder for the test, with a space in its name."""
    path = tmp_path / "a folder"
    path.mkdir()
    monkeypatch.chdir(path)
    monkeypatch.delenv("RAYSWEEP_STORE", raising=False)
    yield path
    command_line.forget_users()  # another test may write another module of the same name
    sys.path[:] = [entry for entry in sys.path if entry != str(path)]


@pytest.fixture
def write(folder: Path) -> Callable[..., Path]:
    """A function that writes dedented text to a file in the folder."""

    def put(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return put


@pytest.fixture
def cli(folder: Path) -> Callable[..., Ended]:
    """A function that runs a command line in the folder: in this process, or in a separate one if it may start Ray."""

    def run(*arguments: str, timeout: float = 90) -> Ended:
        is_apart = command_line.starts_ray(arguments)
        return (command_line.in_own_process if is_apart else command_line.in_this_process)(arguments, folder, timeout)

    return run


@pytest.fixture
def cli_process(folder: Path) -> Callable[..., Ended]:
    """A function that runs a command line in the folder in a separate process, for tests about that process."""

    def run(*arguments: str, timeout: float = 90) -> Ended:
        return command_line.in_own_process(arguments, folder, timeout)

    return run


@pytest.fixture(scope="session")
def s3_server() -> Iterator[Server]:
    """A real S3 server on loopback, shared by all tests of the session."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a new store in a bucket; environment variables point to its server."""
    set_variables(monkeypatch, s3_server.endpoint)
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/a store"


@pytest.fixture
def proxy(s3_server: Server, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy that injects faults between client and S3 server; environment variables point to the proxy."""
    proxy = Proxy(s3_server.port)
    set_variables(monkeypatch, proxy.endpoint)
    yield proxy
    proxy.close()


@pytest.fixture(scope="session")
def azure_server() -> Iterator[AzureServer]:
    """A real Azure Blob Storage server on loopback, shared by all tests of the session."""
    if PROGRAM is None:
        pytest.skip("azurite-blob is not on the path (npm install azurite)")
    server = AzureServer()
    yield server
    server.close()


@pytest.fixture
def az(azure_server: AzureServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a new store in a container; environment variables point to its server."""
    azure_server.set_variables(monkeypatch)
    return f"az://{CONTAINER}/{secrets.token_hex(4)}/a store"


@pytest.fixture(params=["local", "s3", *([pytest.param("az", marks=pytest.mark.slow)] if PROGRAM else [])])
def place(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Location of the store that a test calls `results`: a folder, or an object store."""
    if request.param == "local":
        return "results"
    from raysweep.orchestrator.store import reader
    from raysweep.orchestrator.store.storage import storage

    url: str = request.getfixturevalue(request.param)
    monkeypatch.setenv("RAYSWEEP_STORE", url)
    monkeypatch.setattr(reader, "open_storage", lambda path: storage.open_storage(url if path == "results" else path))
    return url
