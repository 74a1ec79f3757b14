"""Stores in a bucket, where answers get lost: nothing is lost or doubled, and messages repeat no secrets."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from raysweep.orchestrator.errors import InputError, StoreBusy, StoreDenied, StoreUnreachable, StoreWriteFailed
from raysweep.orchestrator.launch.launch import launch
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.store.storage import object as object_storage
from raysweep.orchestrator.store.storage.address import parse
from raysweep.orchestrator.store.storage.diagnosis import diagnose
from raysweep.orchestrator.store.storage.object import ObjectStorage
from raysweep.orchestrator.store.storage.storage import open_storage
from raysweep.orchestrator.sweep.spec import Sweep
from tests.conftest import SWEEP, TINY, environment
from tests.faults.gateway import Gateway
from tests.object_store import KEY, SECRET, Proxy, Server, free_port, set_variables
from tests.orchestrator.store.altered_launch import ALTERED

NAME = "cells/00000000-00000000.parquet"


def once(method: str, what: str | int) -> Callable[[str, str], str | int | None]:
    left = [what]
    return lambda got, path: left.pop() if left and got == method else None


@pytest.mark.parametrize("kind", ["s3", pytest.param("az", marks=pytest.mark.slow)])
def test_files_come_and_go(kind: str, request: pytest.FixtureRequest) -> None:
    storage = open_storage(request.getfixturevalue(kind))
    assert (storage.exists(), storage.read("a"), storage.names("cells")) == (False, None, [])
    assert storage.create("cells/b", b"1") is True
    assert storage.create("cells/b", b"2") is False
    assert storage.create("cells/a", b"") is True
    storage.replace("cells/c", b"x" * 100_000)
    assert storage.names("cells") == ["a", "b", "c"]
    assert storage.names("") == ["cells"]
    assert [storage.size(f"cells/{name}") for name in "abc"] == [0, 1, 100_000]
    for name, begin, end in (("c", 0, 3), ("c", 10, 99_999), ("b", 0, 5)):
        with storage.open(f"cells/{name}") as file:
            file.seek(begin)
            assert file.read(end - begin) == storage.read(f"cells/{name}")[begin:end]
    with storage.open("cells/a") as file:
        assert file.size() == 0
    for absent in (storage.open, storage.size):
        with pytest.raises(FileNotFoundError):
            absent("cells/none")
    storage.delete("cells/none")
    storage.delete_folder("cells")
    assert storage.exists() is False


def test_large_files_are_read_in_pieces(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "PIECE", 1000)
    monkeypatch.setattr(object_storage, "WHOLE", 1000)
    monkeypatch.setattr(object_storage, "TAIL", 100)
    data = os.urandom(12_345)
    storage = open_storage(s3)
    storage.create(NAME, data)
    assert storage.read(NAME) == data
    with storage.open(NAME) as file:
        assert file.read() == data
        file.seek(7)
        assert file.read(12_300) == data[7:12_307]


def test_a_write_whose_answer_got_lost_is_recognised_as_our_own(s3: str, proxy: Proxy) -> None:
    storage = open_storage(s3)
    proxy.fault = once("PUT", "drop")
    assert storage.create(NAME, b"ours") is True
    assert proxy.counts["PUT"] == 2
    proxy.fault = once("PUT", "drop")
    assert open_storage(s3).create(NAME, b"another's") is False
    assert storage.read(NAME) == b"ours"


@pytest.mark.parametrize("status", [500, 503])
def test_a_request_is_repeated_after_a_server_error(s3: str, proxy: Proxy, status: int) -> None:
    storage = open_storage(s3)
    proxy.fault = once("PUT", status)
    assert storage.create(NAME, b"1") is True
    proxy.fault = once("GET", status)
    assert storage.read(NAME) == b"1"


def test_a_write_that_is_executed_late_doubles_nothing(s3: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "PATIENCE_S", 0.1)
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.05)
    storage = open_storage(s3)
    storage.exists()
    proxy.fault = lambda method, path: "late" if method == "PUT" else None
    with pytest.raises(StoreWriteFailed, match=f"cannot write {NAME}: 127.0.0.1.* closes connections"):
        storage.create(NAME, b"ours")
    proxy.fault = lambda method, path: None
    with pytest.raises(StoreWriteFailed, match="it is unknown whether an earlier write"):  # and not under the next name
        storage.create(NAME, b"other rows")
    assert open_storage(s3).create(NAME, b"a seal") is True  # of the next owner, which comes first
    proxy.release()
    assert storage.read(NAME) == b"a seal"
    assert storage.create(NAME, b"ours") is False


def test_a_write_that_was_executed_late_counts_as_done(s3: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "PATIENCE_S", 0.1)
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.05)
    storage = open_storage(s3)
    storage.exists()
    proxy.fault = lambda method, path: "late" if method == "PUT" else None
    with pytest.raises(StoreWriteFailed):
        storage.create(NAME, b"ours")
    proxy.fault = lambda method, path: None
    proxy.release()
    assert storage.create(NAME, b"ours") is True
    assert storage.create("cells/next", b"more") is True


def test_access_that_ends_meanwhile_is_not_an_input_error(s3: str, proxy: Proxy) -> None:
    storage = open_storage(s3)
    storage.create(NAME, b"1")
    proxy.fault = lambda method, path: 403
    with pytest.raises(StoreWriteFailed, match="access is denied") as refused:
        storage.create("cells/2", b"2")
    assert KEY not in str(refused.value)  # which the server's words repeat
    with pytest.raises(StoreDenied):
        open_storage(s3).create("cells/2", b"2")


# Messages


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3:/bucket/x", "for an object store write s3://BUCKET/PREFIX"),
        ("s3://", "has no bucket"),
        ("s3:///x", "has no bucket"),
        ("s3://buck!et/x", "bucket's name is invalid"),
        ("s3://bucket/a//b", "invalid prefix"),
        ("s3://bucket/../b", "invalid prefix"),
        ("s3://bucket/a%20b", "invalid prefix"),
        ("ftp://host/x", "give a folder, s3://BUCKET/PREFIX, gs://"),
        (f"s3://{KEY}:{SECRET}@bucket/x", "set credentials by AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/x?secret={SECRET}", "set credentials by AWS_ACCESS_KEY_ID"),
        (f"s3:{KEY}:{SECRET}@bucket", "for an object store write"),
        (f"s3://bucket:{SECRET}/x", "bucket's name is invalid"),
        (f"az://bucket/x;AccountKey={SECRET}", "invalid prefix"),
    ],
)
def test_invalid_addresses_are_refused(location: str, message: str) -> None:
    with pytest.raises(InputError) as refused:
        open_storage(location)
    assert message in str(refused.value)
    assert SECRET not in str(refused.value)
    assert KEY not in str(refused.value)


def test_plain_http_must_be_allowed(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ALLOW_HTTP")
    with pytest.raises(InputError, match="AWS_ALLOW_HTTP=true"):
        open_storage(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{KEY}:{SECRET}@host")
    with pytest.raises(InputError, match="AWS_ENDPOINT_URL: not a valid endpoint") as refused:
        open_storage(s3)
    assert SECRET not in str(refused.value)
    for odd in ("http://[::1", "http://127.0.0.1:99999", "https://host:abc", "host:9000", "https://", "ftp://host"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", odd)
        with pytest.raises(InputError, match="AWS_ENDPOINT_URL: not a valid endpoint"):
            open_storage(s3)
    for fine in ("https://host", "https://host:9000/", "https://[::1]:9000", "HTTPS://a-b.example/path"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", fine)
        assert "bucket" in str(open_storage("s3://bucket/x"))


def test_without_the_package_it_is_named(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("object", "diagnosis"):
        monkeypatch.delitem(sys.modules, f"raysweep.orchestrator.store.storage.{module}", raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(InputError, match=r"raysweep\[objects\]"):
        open_storage(s3)


def test_servers_that_do_not_answer_are_reported_soon(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_storage, "FIRST_S", 0.1)
    monkeypatch.setattr(object_storage, "PAUSE_S", 0.05)
    for endpoint, reason in (
        (f"http://127.0.0.1:{free_port()}", "nothing answers at 127.0.0.1"),
        ("http://no-such-host.invalid", "no-such-host.invalid is not a known host"),
        (os.environ["AWS_ENDPOINT_URL"].replace("http", "https"), "speak TLS"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        with pytest.raises(StoreUnreachable, match=reason) as refused:
            Store(s3)
        assert refused.value.exit_code == 2


def test_no_bucket_no_access_no_credentials(s3: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="there is no such bucket"):
        Store("s3://absent-bucket/x")
    proxy.fault = lambda method, path: 403
    with pytest.raises(InputError, match="access is denied"):
        Store(s3)
    diagnosis = diagnose(OSError("Error performing PUT http://169.254.169.254/latest/api/token in 2 ms"), 20.0)
    assert (diagnosis.kind, diagnosis.reason[:26]) == ("denied", "no credentials were found;")


def test_kinds_of_storage_are_those_of_the_schemes(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    from raysweep.orchestrator.store.storage import storage

    assert tuple(object_storage.KINDS) == storage.SCHEMES
    assert parse("gs://b/a b/c/") == ("gs", "b", "a b/c")
    assert ObjectStorage("s3://bucket/").location == "s3://bucket"
    with pytest.raises(StoreDenied, match="AZURE_STORAGE_ACCOUNT_NAME"):
        ObjectStorage("az://container")


# By commands


@pytest.mark.slow
def test_all_commands_work_and_no_secret_is_kept(s3: str, write, folder: Path, cli) -> None:
    write("tiny.py", TINY)
    write("tiny.toml", SWEEP)
    outputs = []
    for words in (
        ["launch", "tiny.toml", "--inline"], ["launch", "tiny.toml", "--inline"], ["status"], ["resume", "--inline"],
        ["query", "SELECT count(*) AS n, sum(value) AS s FROM cells"], ["store", "check"], ["store", "compact"],
        ["export", "--output", "all.csv"], ["report", "-o", "report.html"],
    ):  # fmt: skip
        ended = cli(*words, "--store", s3)
        assert ended.returncode == 0, (words, ended.stdout, ended.stderr)
        outputs.append(ended.stdout + ended.stderr)
    assert "24" in outputs[4]
    assert not (folder / "results").exists()
    storage = open_storage(s3)
    objects = [storage.read(f"{at}/{name}") or b"" for at in storage.names("") for name in storage.names(at)]
    assert len(objects) > 6
    pages = [path.read_bytes() for path in folder.glob("*.*")]
    for data in [*objects, *pages, *(text.encode() for text in outputs)]:
        assert SECRET.encode() not in data
        assert KEY.encode() not in data


SLOW = """
    import os, time

    def run(cell, context):
        time.sleep(0 if os.path.exists("hurry") else 0.05)
        return {"value": cell.seed / 7}
"""
CELLS = 120
SLOW_SWEEP = f'name="d"\nworkload="slow:run"\nseeds="0..{CELLS - 1}"\n[[grid]]\nmethod="m"\n'


@pytest.fixture
def start(write, folder: Path, s3: str) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Begins a launch of `SLOW` with small commits, whose patience is seconds, as if on the machine of this name."""
    write("slow.py", SLOW)
    write("d.toml", SLOW_SWEEP)
    begun: list[subprocess.Popen[str]] = []

    def begin(*words: str, machine: str = "") -> subprocess.Popen[str]:
        begun.append(subprocess.Popen(
            [*ALTERED, f"machine:{machine}", "launch", "d.toml", "--inline", "--store", s3, *words], cwd=folder,
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        ))  # fmt: skip
        return begun[-1]

    yield begin
    for driver in begun:
        if driver.poll() is None:
            driver.kill()
            driver.communicate()


@pytest.fixture
def gateway(s3_server: Server, s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gateway]:
    gateway = Gateway(s3_server.port)
    set_variables(monkeypatch, gateway.endpoint)
    yield gateway
    gateway.close()


def rows(s3: str) -> list[str]:
    store = Store(s3)
    return store.collect(lambda: store.cells.select("cell_id"))["cell_id"].to_list() if store.exists() else []


def wait_for_rows(s3: str, some: int, seconds: float = 60) -> list[str]:
    until = time.monotonic() + seconds
    while len(ids := rows(s3)) < some:
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)
    assert len(ids) < CELLS, "too late"
    return ids


def finish(s3: str, folder: Path) -> None:
    (folder / "hurry").touch()
    assert launch(Sweep.load("d.toml"), s3, inline=True).done == CELLS


def check_whole(s3: str, seen: list[str]) -> None:
    store = Store(s3)
    assert store.check() == []
    now = rows(s3)
    assert set(seen) <= set(now)
    totals = store.sql("SELECT count(*), count(DISTINCT cell_id), sum(abs(value - seed / 7)) FROM cells").row(0)
    assert totals == (CELLS, CELLS, 0.0)


def test_a_killed_launch_loses_nothing_and_a_second_one_is_refused(s3: str, start, folder: Path) -> None:
    driver = start()
    seen = wait_for_rows(s3, 10)
    with pytest.raises(StoreBusy, match=f"pid {driver.pid}") as refused:
        launch(Sweep.load("d.toml"), s3, inline=True)
    assert refused.value.exit_code == 3
    driver.kill()
    driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    finish(s3, folder)
    check_whole(s3, seen)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [Gateway.freeze, Gateway.kill])
def test_a_store_that_is_gone_for_a_while_delays_a_launch(stop, gateway: Gateway, s3: str, start, folder: Path) -> None:
    driver = start()
    seen = wait_for_rows(s3, 10)
    stop(gateway)
    (folder / "hurry").touch()
    time.sleep(2.5)
    gateway.start() if stop is Gateway.kill else gateway.thaw()
    output, _ = driver.communicate(timeout=90)
    assert driver.returncode == 0, output
    check_whole(s3, seen)


@pytest.mark.slow
@pytest.mark.parametrize("stop", [Gateway.freeze, Gateway.kill])
def test_a_store_that_is_gone_for_long_ends_a_launch_that_goes_on_later(
    stop, gateway: Gateway, s3: str, start, folder: Path
) -> None:
    driver = start()
    seen = wait_for_rows(s3, 10)
    stop(gateway)
    stopped = time.monotonic()
    output, _ = driver.communicate(timeout=60)
    assert driver.returncode == 1, output
    assert time.monotonic() - stopped < 30
    assert f"store {s3}: cannot write" in output
    assert ("no answer from" in output) if stop is Gateway.freeze else ("connection refused" in output)
    assert "Traceback" not in output
    gateway.start() if stop is Gateway.kill else gateway.thaw()
    finish(s3, folder)
    check_whole(s3, seen)


@pytest.mark.slow
def test_a_launch_frozen_for_longer_than_its_lease_writes_nothing_more(s3: str, start, folder: Path) -> None:
    frozen = start(machine="one")
    seen = wait_for_rows(s3, 10)
    frozen.send_signal(signal.SIGSTOP)
    (folder / "hurry").touch()
    other = start("--wait", machine="another")  # sees two seconds of silence
    output, _ = other.communicate(timeout=60)
    assert other.returncode == 0, output
    check_whole(s3, seen)
    before = {n: Store(s3).storage.names(n) for n in ("cells", "attempts", "arrays")}
    frozen.send_signal(signal.SIGCONT)
    output, _ = frozen.communicate(timeout=60)
    assert frozen.returncode == 3, output
    assert "a later launch took it over while this one (epoch 0) was paused" in output
    assert "Traceback" not in output
    assert {n: Store(s3).storage.names(n) for n in before} == before
    check_whole(s3, seen)
