"""The release's originals: MATLAB v7.3 as it lies in HDF5, downloads that break, what `data fetch` makes of them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest

from raysweep.workloads.bci.recordings import indy
from raysweep.workloads.bci.recordings.indy import fetch
from raysweep.workloads.bci.recordings.original import bin_original
from raysweep.workloads.bci.recordings.recording import load
from raysweep.workloads.bci.recordings.sessions import MD5, RELEASE, original_name
from raysweep.workloads.datasets import DATASETS
from raysweep.workloads.datasets.download import download

SESSION = "20161005_06"
BEGIN, SAMPLES = 65.0, 1501  # 6 s of behaviour at 250 Hz


def write(path: Path, areas: tuple[str, ...] = ("M1",), channels: int = 96, units: int = 3, **other) -> Path:
    """A small session of the documented layout: arrays transposed, text and spikes by reference.

    Unit 0 of channel c spikes once, 10 ms into bin c (of 64 ms); unit 1 twice in bin 0 and outside the behaviour;
    unit 2 is empty as MATLAB writes it.
    """
    t = BEGIN + 0.004 * np.arange(SAMPLES)
    arrays = {"t": t[None], "finger_pos": np.stack([0 * t + 1, -(t - BEGIN), -2 * (t - BEGIN)])} | other
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            if values is not None:
                file[name] = values
        names, spikes = [], np.empty((units, len(areas) * channels), h5py.ref_dtype)
        for i, area in enumerate(areas):
            for c in range(channels):
                at = i * channels + c
                file[f"#refs#/n{at}"] = np.array([[ord(x)] for x in f"{area} {c + 1:03}"], np.uint16)
                names.append(file[f"#refs#/n{at}"].ref)
                here = {"M1": c, "S1": 0}[area]
                file[f"#refs#/s{at}_0"] = np.array([[BEGIN + 0.064 * here + 0.01]])
                file[f"#refs#/s{at}_1"] = np.array([[1.0, BEGIN + 0.001, BEGIN + 0.063, BEGIN + 1e3]])
                empty = file.create_dataset(f"#refs#/s{at}_2", data=np.zeros(2, np.uint64))
                empty.attrs["MATLAB_empty"] = np.uint8(1)
                for unit in range(units):
                    spikes[unit, at] = file[f"#refs#/s{at}_{unit}"].ref
        file["chan_names"] = np.array(names, h5py.ref_dtype)[None]
        if "spikes" not in arrays:
            file["spikes"] = spikes
    return path


@pytest.fixture
def original(tmp_path) -> Path:
    return write(tmp_path / original_name(SESSION))


def test_spikes_and_movement_of_an_original(original):
    arrays = bin_original(original, SESSION, 64)
    bins = 93  # 6 s in 64 ms, the rest left out
    expected = np.eye(bins, 96, dtype=np.uint8)
    expected[0] += 2
    np.testing.assert_array_equal(arrays["counts"], expected)  # channels 94 to 96 spike after the last bin
    np.testing.assert_allclose(arrays["t_s"], BEGIN + 0.064 * np.arange(bins))
    # -x and -y in cm, 1 and 2 cm/s, become mm
    np.testing.assert_allclose(arrays["finger_vel_mm_s"], np.full((bins, 2), [10, 20]), rtol=1e-4)
    np.testing.assert_allclose(arrays["finger_xy_mm"][-1], 0.064 * bins * np.array([10, 20]), rtol=1e-6)
    assert (str(arrays["date"]), float(arrays["bin_width_s"])) == ("2016-10-05", 0.064)


@pytest.mark.parametrize("bin_ms", [1, 20, 250])
def test_bins_of_any_width_keep_all_spikes_within(original, bin_ms):
    arrays = bin_original(original, SESSION, bin_ms)
    bins = 6000 // bin_ms
    assert arrays["counts"].shape == (bins, 96)
    within = [c for c in range(96) if 0.064 * c + 0.01 < bins * bin_ms / 1000]
    assert arrays["counts"].sum() == len(within) + 2 * 96
    np.testing.assert_allclose(arrays["finger_vel_mm_s"], np.full((bins, 2), [10, 20]), rtol=1e-2)


def test_channels_of_other_areas_are_left_out(tmp_path, original):
    both = write(tmp_path / "both.mat", ("S1", "M1"), units=5 - 2)
    np.testing.assert_array_equal(
        bin_original(both, SESSION, 64)["counts"], bin_original(original, SESSION, 64)["counts"]
    )
    six = np.zeros((6, SAMPLES))
    six[1:3] = h5py.File(original)["finger_pos"][1:3]
    angles = write(tmp_path / "six.mat", finger_pos=six)
    np.testing.assert_allclose(
        bin_original(angles, SESSION, 64)["finger_vel_mm_s"], bin_original(original, SESSION, 64)["finger_vel_mm_s"]
    )


@pytest.mark.parametrize(
    ("other", "bin_ms", "says"),
    [
        ({"channels": 95}, 64, "95 of its 95 channels are in M1; valid: 96"),
        ({"areas": ("S1",)}, 64, "0 of its 96 channels are in M1; valid: 96"),
        (
            {"t": 2e4 + 0.004 * np.arange(SAMPLES)[None]},
            64,
            "no overlap of spikes and behaviour: spikes from 1.0 to 1065.0",
        ),
        ({}, 7000, "bin_ms = 7000 is longer than the session, 6000 ms"),
        ({"t": None}, 64, "no t; is it a session of the release?"),
        ({"t": np.zeros((1, SAMPLES))}, 64, "t is not strictly increasing"),
        (
            {"finger_pos": np.zeros((2, SAMPLES))},
            64,
            "finger_pos has shape (2, 1501); valid: (3, 1501) or (6, 1501)",
        ),
    ],
)
def test_originals_that_are_refused_in_one_line(tmp_path, other, bin_ms, says):
    path = write(tmp_path / "x.mat", **other)
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        bin_original(path, SESSION, bin_ms)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_originals_that_are_torn(original):
    whole = original.read_bytes()
    for torn in (whole[: len(whole) // 2], b"no HDF5", b""):
        original.write_bytes(torn)
        with pytest.raises(ValueError, match="cannot be read, it may be cut short"):
            bin_original(original, SESSION, 64)


class Server(ThreadingHTTPServer):
    """Serves a folder; may hang up after so many bytes, or not know of ranges."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.hang_up_after, self.ranges = folder, 10**9, True
        self.range_headers: list[str | None] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/")
        range_header = self.headers.get("Range")
        self.server.range_headers.append(range_header)
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        begin = int(re.findall(r"\d+", range_header)[0]) if range_header and self.server.ranges else 0
        if begin >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - begin))
        self.end_headers()
        self.wfile.write(data[begin : begin + self.server.hang_up_after])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    folder = tmp_path / "published"
    folder.mkdir()
    with Server(folder) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def md5(path: Path) -> str:
    return f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}"


@pytest.mark.parametrize("ranges", [True, False])
def test_an_interrupted_download_goes_on(server, tmp_path, ranges):
    published = server.folder / "file.bin"
    published.write_bytes(np.random.default_rng(0).bytes(300_000))
    path = tmp_path / "here" / "file.bin"
    server.hang_up_after, server.ranges = 120_000, ranges
    with pytest.raises(OSError, match=r"the connection broke after .* bytes; the same command resumes|incomplete"):
        download(f"{server.url}/file.bin", path, md5(published))
    kept = path.with_name("file.bin.part").stat().st_size
    assert 0 < kept <= 120_000
    assert not path.exists()
    server.hang_up_after = 10**9
    lines: list[str] = []
    assert download(f"{server.url}/file.bin", path, md5(published), lines.append) == path
    assert path.read_bytes() == published.read_bytes()
    assert server.range_headers == [None, f"bytes={kept}-"]
    assert lines == ([f"file.bin.part: resuming at {kept:,} bytes"] if ranges else [])
    assert [file.name for file in path.parent.iterdir()] == ["file.bin"]
    download(f"{server.url}/file.bin", path, md5(published))
    assert len(server.range_headers) == 2  # nothing is fetched twice


def test_all_but_the_rename_was_done(server, tmp_path):
    published = server.folder / "file.bin"
    published.write_bytes(b"x" * 1000)
    path = tmp_path / "file.bin"
    path.with_name("file.bin.part").write_bytes(b"x" * 1000)
    assert download(f"{server.url}/file.bin", path, md5(published)).read_bytes() == b"x" * 1000
    path.unlink()
    path.with_name("file.bin.part").write_bytes(b"x" * 1001)
    with pytest.raises(OSError, match="had 1,001 bytes of 1000; it was deleted, fetch again"):
        download(f"{server.url}/file.bin", path, md5(published))


def test_downloads_that_are_refused(server, tmp_path):
    (server.folder / "file.bin").write_bytes(b"something else")
    path = tmp_path / "file.bin"
    wanted = "md5:" + "0" * 32
    with pytest.raises(
        ValueError, match=f"expected {wanted}, got {md5(server.folder / 'file.bin')[4:]}; the file was deleted"
    ):
        download(f"{server.url}/file.bin", path, wanted)
    assert list(tmp_path.glob("file*")) == []
    with pytest.raises(ValueError, match="HTTP 404 Not Found; check the name"):
        download(f"{server.url}/other.bin", path, None)
    with pytest.raises(ValueError, match="not an http or https address"):
        download("ftp://127.0.0.1/file.bin", path, None)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match="no connection after 0 bytes"):
        download(f"{server.url}/file.bin", path, None)


def test_fetch_makes_a_session_that_loads(server, tmp_path, monkeypatch):
    published = write(server.folder / original_name(SESSION))
    monkeypatch.setitem(MD5, SESSION, md5(published)[4:])
    lines: list[str] = []
    folder = tmp_path / "data"
    (path,) = fetch(folder, lines.append, sessions=SESSION, mirror=server.url)
    assert path == folder / "indy" / f"indy_{SESSION}.npz"
    recording = load(SESSION, folder=folder)
    np.testing.assert_array_equal(recording.counts, bin_original(published, SESSION, 64)["counts"])
    assert recording.date == "2016-10-05"
    (fine,) = fetch(folder, lines.append, sessions=SESSION, bin_ms=20, mirror=server.url)
    assert (load(SESSION, 20, folder).bins, fine.name) == (300, f"indy_{SESSION}_20ms.npz")
    fetch(folder, lines.append, sessions=SESSION, mirror=server.url)
    assert len(server.range_headers) == 1  # binned from the original that is there
    assert lines[-1] == f"indy_{SESSION}.npz: already present"
    monkeypatch.setitem(MD5, SESSION, "0" * 32)
    path.unlink()
    with pytest.raises(ValueError, match=r"expected md5:0{32}"):
        fetch(folder, lines.append, sessions=SESSION, mirror=server.url)
    assert not path.exists()


def test_sessions_that_cannot_be_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"which sessions\?.* or all \(40, more than 20 GB\)"):
        fetch(tmp_path, print)
    with pytest.raises(ValueError, match="unknown session '20160630_11'; did you mean '20160630_01'"):
        fetch(tmp_path, print, sessions="20160624_03,20160630_11")
    assert list(tmp_path.iterdir()) == []
    assert original_name("20160624_03") == "indy_20160624_03.mat"
    assert original_name("loco_20170210_03") == "loco_20170210_03.mat"
    assert len([session for session in RELEASE if not session.startswith("loco_")]) == 37


def test_checksums_that_we_lack_are_asked_of_the_record(monkeypatch):
    monkeypatch.setattr(indy, "published_checksums", lambda: {"indy_20160624_03.mat": "md5:abc"})
    assert indy.checksum("20160624_03", None, print) == "md5:abc"
    assert indy.checksum("20170131_02", None, print) == f"md5:{MD5['20170131_02']}"
    lines: list[str] = []
    assert indy.checksum("20160624_03", "http://127.0.0.1", lines.append) is None
    assert "no known checksum" in lines[0]


def test_every_data_set_can_be_imported():
    import importlib

    for entry in DATASETS.values():
        module, _, name = entry.partition(":")
        dataset = getattr(importlib.import_module(module), name)
        assert dataset.title
        assert dataset.source
        assert callable(dataset.fetch)
