"""`raysweep data`, and `--data-dir` on the commands that run cells."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

READS = """
    import os

    def run(cell, context):
        with open(os.path.join(os.environ["RAYSWEEP_DATA"], "number.txt"), encoding="utf-8") as file:
            return {"value": float(file.read())}
"""
SWEEP = """
    name = "reads"
    workload = "reads:run"
    seeds = [1]
    [[grid]]
    method = "a"
"""


def recording(folder: Path, session: str) -> None:
    """A small prepared session."""
    rng = np.random.default_rng(0)
    position = np.cumsum(rng.standard_normal((41, 2)), axis=0)
    np.savez(
        folder / f"indy_{session}.npz",
        counts=rng.poisson(2.0, (40, 96)).astype(np.uint8),
        t_s=np.arange(40) * 0.064,
        finger_xy_mm=position,
        finger_vel_mm_s=np.diff(position, axis=0) / 0.064,
        bin_width_s=np.array(0.064),
        date=np.array("2016-06-24"),
    )


def test_list_shows_the_contents_of_a_folder(cli, folder: Path) -> None:
    (folder / "some data").mkdir()
    empty = cli("data", "list", "indy", "--data-dir", "some data")
    assert empty.returncode == 0, empty.stderr
    assert "nothing in" in empty.stdout
    assert "raysweep data fetch indy" in empty.stdout
    recording(folder / "some data", "20160624_03")
    listing = json.loads(cli("data", "list", "indy", "--data-dir", "some data", "--json").stdout)["indy"]
    (row,) = listing["rows"]
    assert (row["session"], row["bins"], row["channels"], row["order"]) == ("20160624_03", 40, 96, "")
    assert "20160624_03" in cli("data", "list", "--data-dir", "some data").stdout


def test_wrong_input_is_one_error_message(cli, folder: Path) -> None:
    (folder / "data").mkdir()
    (folder / "data" / "indy_20160624_03.npz").write_bytes(b"torn")
    for arguments, message in (
        (("list", "indi"), "unknown data set 'indi'; did you mean 'indy'?"),
        (("list", "--data-dir", "nowhere"), "--data-dir nowhere: no such folder"),
        (("list", "indy"), "indy_20160624_03.npz: cannot be read, it may be cut short"),
        (("fetch", "indy"), "which sessions? --sessions 20160624_03,20170131_02, for example"),
        (("fetch", "indy", "--sessions", "20160630_11"), "unknown session '20160630_11'; did you mean '20160630_01'?"),
        (("fetch", "indy", "--sessions", "20160622_01", "--mirror", "ftp://x"), "not an http or https address"),
    ):
        ended = cli("data", *arguments)
        assert ended.returncode == 2, arguments
        assert message in ended.stderr
        assert "Traceback" not in ended.stderr


def test_the_data_folder_reaches_workers_and_no_id(cli, write, folder: Path) -> None:
    write("reads.py", READS)
    write("reads.toml", SWEEP)
    for name, number in (("one", "1"), ("two", "2")):
        (folder / name).mkdir()
        (folder / name / "number.txt").write_text(number)
    for name, store in (("one", "a"), ("two", "b")):
        how = ["--inline"] if store == "b" else []
        launched = cli("launch", "reads.toml", "--data-dir", name, "--store", store, *how, timeout=200)
        assert launched.returncode == 0, launched.stderr
    rows = [
        json.loads(cli("query", "SELECT cell_id, value FROM cells", "--store", s, "--json").stdout)[0] for s in "ab"
    ]
    assert [row["value"] for row in rows] == [1.0, 2.0]
    assert rows[0]["cell_id"] == rows[1]["cell_id"]
    failed = cli("launch", "reads.toml", "--inline", "--store", "c", "--data-dir", ".")
    hint = failed.stdout.partition("resume: ")[2]
    assert hint.startswith("raysweep resume reads.toml ")
    assert "--data-dir ." in hint
    assert "--store c" in hint
    assert cli("plan", "reads.toml", "--data-dir", "nowhere").returncode == 2
