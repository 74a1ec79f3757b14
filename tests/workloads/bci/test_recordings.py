"""Recordings: files, digests, bins; PCA and z-scores fitted on A alone; Wiener and Kalman filters."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from raysweep.workloads.bci.recordings.decoders import fit_kalman, fit_wiener, lagged
from raysweep.workloads.bci.recordings.indy import listing
from raysweep.workloads.bci.recordings.order import _ranks, neighbours, r2
from raysweep.workloads.bci.recordings.preprocess import fit
from raysweep.workloads.bci.recordings.recording import Recording, digest, find, load, rebin, session_of, verify
from raysweep.workloads.bci.recordings.sessions import ANOTHER_ORDER, KNOWN, RELEASE
from tests.workloads.rnn.replay import SHARED


def write(
    folder: Path, session: str = "20160624_03", bins: int = 40, channels: int = 96, seed: int = 0, **other
) -> Path:
    rng = np.random.default_rng(seed)
    position = np.cumsum(rng.standard_normal((bins + 1, 2)), axis=0).astype(np.float32)
    arrays = {
        "counts": rng.poisson(2.0, (bins, channels)).astype(np.uint8),
        "t_s": np.arange(bins) * 0.064,
        "finger_xy_mm": position,
        "finger_vel_mm_s": (np.diff(position, axis=0) / 0.064).astype(np.float32),
        "bin_width_s": np.array(0.064),
        "date": np.array("2016-06-24"),
    } | other
    path = folder / f"indy_{session}.npz"
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})
    return path


def shared() -> Path:
    folder = Path(os.environ.get("RAYSWEEP_SHARED", SHARED)) / "data"
    if not (folder / "indy").is_dir():
        pytest.skip(f"no recordings at {folder}/indy; set RAYSWEEP_SHARED to the folder that holds data/")
    return folder


def test_a_file_is_found_in_the_folder_or_its_subfolder(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    (tmp_path / "indy").mkdir()
    path = write(tmp_path / "indy")
    assert find("20160624_03") == path
    assert find("20160624_03", folder=tmp_path / "indy") == path
    monkeypatch.delenv("RAYSWEEP_DATA")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    write(tmp_path / "data")
    assert find("20160624_03") == Path("data/indy_20160624_03.npz")


def test_what_is_loaded(tmp_path):
    path = write(tmp_path)
    recording = load("20160624_03", folder=tmp_path)
    with np.load(path) as stored:
        np.testing.assert_array_equal(recording.counts, stored["counts"])
        np.testing.assert_array_equal(recording.position_mm, stored["finger_xy_mm"])
        np.testing.assert_array_equal(recording.velocity_mm_s, stored["finger_vel_mm_s"])
    assert (recording.bins, recording.bin_width_s, recording.date) == (40, 0.064, "2016-06-24")


def nan_rows(*rows: int) -> np.ndarray:
    velocity = np.ones((40, 2), np.float32)
    velocity[list(rows)] = np.nan
    return velocity


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"channels": 192}, "counts has shape (40, 192); valid: (bins, 96), the channels of M1"),
        ({"counts": np.zeros((40, 96), np.uint8)}, "no overlap of spikes and behaviour"),
        ({"finger_vel_mm_s": nan_rows(*range(40))}, "no overlap of spikes and behaviour"),
        ({"finger_vel_mm_s": nan_rows(3, 4)}, "behaviour is not finite in 2 of 40 bins"),
        ({"finger_xy_mm": np.zeros((40, 2), np.float32)}, "finger_xy_mm has 40 rows for 40 bins; valid: 41"),
        ({"counts": None}, "no array counts; not a prepared recording"),
        ({"bin_width_s": np.array(0.0)}, "bin_width_s = 0.0"),
    ],
)
def test_files_that_are_refused_in_one_line(tmp_path, other, says):
    path = write(tmp_path, **other)
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        load("20160624_03", folder=tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_unknown_and_broken_files(tmp_path):
    with pytest.raises(
        ValueError, match=r"session '20161005_06': no file .* raysweep data fetch indy --sessions 20161005_06$"
    ):
        load("20161005_06", folder=tmp_path)
    with pytest.raises(ValueError, match="unknown session '20160630_11'; did you mean '20160630_01'"):
        load("20160630_11", folder=tmp_path)
    path = write(tmp_path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match="cut short"):
        load("20160624_03", folder=tmp_path)
    np.save(tmp_path / "x.npy", np.ones(3))
    (tmp_path / "x.npy").rename(path)
    with pytest.raises(ValueError, match="not an archive"):
        load("20160624_03", folder=tmp_path)


def test_a_digest_is_of_the_arrays_that_are_read(tmp_path):
    digests = []
    other_counts = np.ones((40, 96), np.uint8)
    for i, other in enumerate(({}, {"source": np.array("elsewhere")}, {"counts": other_counts})):
        folder = tmp_path / str(i)
        folder.mkdir()
        write(folder, "mine", **other)
        digests.append(load("mine", folder=folder).digest)
        assert digest("mine", folder=folder) == digests[-1]
    assert digests[0] == digests[1] != digests[2]
    assert re.fullmatch("[0-9a-f]{16}", digests[0])
    write(tmp_path / "0", "mine", seed=1)  # another file in the same place
    assert digest("mine", folder=tmp_path / "0") == load("mine", folder=tmp_path / "0").digest != digests[0]


def test_known_sessions_need_no_file_and_other_data_are_refused(tmp_path):
    assert digest("20160624_03", folder=tmp_path) == KNOWN["20160624_03"].digest
    assert set(KNOWN) <= set(RELEASE)
    path = write(tmp_path)
    other = load("20160624_03", folder=tmp_path)
    assert digest("20160624_03", folder=tmp_path) == other.digest  # what is at hand goes before the table
    with pytest.raises(ValueError, match=f"expected {KNOWN['20160624_03'].digest}") as caught:
        verify(other, KNOWN["20160624_03"].digest, "digest_a")
    assert str(path) in str(caught.value)
    assert f"launch again with digest_a = '{other.digest}'" in str(caught.value)
    verify(other, other.digest, "digest_a")


def test_other_widths_have_files_of_their_own(tmp_path):
    usual = write(tmp_path)
    with pytest.raises(
        ValueError, match=r"no file indy_20160624_03_20ms.npz in .* --sessions 20160624_03 --bin-ms 20$"
    ):
        find("20160624_03", 20, tmp_path)
    with pytest.raises(ValueError, match="--bin-ms 20"):
        digest("20160624_03", 20, tmp_path)  # the table is of bins of 64 ms
    assert find("20160624_03", 128, tmp_path) == usual  # merged
    usual.rename(tmp_path / "indy_20160624_03_20ms.npz")
    fine = write(tmp_path, bin_width_s=np.array(0.02)).rename(tmp_path / "indy_20160624_03_20ms.npz")
    write(tmp_path)
    assert find("20160624_03", 20, tmp_path) == fine
    assert load("20160624_03", 20, tmp_path).bin_width_s == 0.02
    assert session_of(fine) == session_of(usual) == "20160624_03"
    assert session_of(Path("indy_loco_20170210_03.npz")) == "loco_20170210_03"


def test_bins_are_merged_in_whole_multiples(tmp_path):
    write(tmp_path, bins=41)
    one = load("20160624_03", folder=tmp_path)
    two = rebin(one, 128)
    assert (two.bins, two.bin_width_s) == (20, 0.128)
    np.testing.assert_array_equal(two.counts[3], one.counts[6] + one.counts[7])
    np.testing.assert_array_equal(two.position_mm, one.position_mm[:41:2])
    np.testing.assert_allclose(two.velocity_mm_s, np.diff(two.position_mm, axis=0) / 0.128, atol=1e-4)
    same = rebin(one, 64)
    np.testing.assert_array_equal(same.counts, one.counts)
    np.testing.assert_array_equal(same.velocity_mm_s, one.velocity_mm_s)
    for bin_ms in (32, 100):
        with pytest.raises(ValueError, match=f"bin_ms = {bin_ms}: .* bins of 64 ms; valid: its whole multiples"):
            rebin(one, bin_ms)
    with pytest.raises(ValueError, match="is longer than session '20160624_03', 2624 ms"):
        rebin(one, 64 * 42)


def test_components_are_those_of_the_covariance():
    rng = np.random.default_rng(0)
    counts = rng.poisson(3.0, (300, 12)) @ rng.uniform(0, 1, (12, 12))
    movement = rng.standard_normal((300, 2)) * [3.0, 0.5] + 7
    transform = fit(counts, movement, 5)
    values, vectors = np.linalg.eigh(np.cov(counts.T))
    for i, component in enumerate(transform.components.components_):
        assert abs(component @ vectors[:, -1 - i]) == pytest.approx(1, abs=1e-9)
        assert component[np.argmax(np.abs(component))] > 0
    inputs, targets = transform.inputs(counts), transform.targets(movement)
    np.testing.assert_allclose(np.cov(inputs.T, ddof=0), np.eye(5), atol=1e-9)  # uncorrelated, variance 1
    np.testing.assert_allclose((inputs.mean(0), inputs.std(0)), (np.zeros(5), np.ones(5)), atol=1e-12)
    np.testing.assert_allclose((targets.mean(0), targets.std(0)), (np.zeros(2), np.ones(2)), atol=1e-12)
    np.testing.assert_allclose(transform.input_scaler.scale_**2, values[::-1][:5] * 299 / 300)


@pytest.mark.slow
def test_components_do_not_depend_on_threads():
    """Nor on what was loaded before: SciPy's BLAS, which fits them, is loaded by the first fit."""
    code = """
import sys
from threadpoolctl import threadpool_limits
if sys.argv[1] == "loaded":
    import sklearn.decomposition
from raysweep.workloads.bci.recordings.preprocess import fit
import numpy as np
rng = np.random.default_rng(0)
counts = rng.poisson(2.0, (6000, 96)).astype(float)
with threadpool_limits(1):
    transform = fit(counts, counts[:, :2], 40)
    print(hash(transform.inputs(counts).tobytes()))
"""
    outputs = set()
    for argument, threads in (("loaded", "1"), ("fresh", "2")):
        environment = os.environ | {"OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": "0"}
        command = [sys.executable, "-c", code, argument]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        outputs.add(ended.stdout)
    assert len(outputs) == 1


def test_silent_channels_and_too_many_components():
    rng = np.random.default_rng(0)
    counts = np.zeros((50, 8))
    counts[:, :3] = rng.poisson(2.0, (50, 3))
    inputs = fit(counts, rng.standard_normal((50, 2)), 6).inputs(counts)
    np.testing.assert_allclose(inputs.std(0), [1, 1, 1, 0, 0, 0], atol=1e-6)
    with pytest.raises(ValueError, match="components = 9 with 50 bins and 8 channels; valid: at most 8"):
        fit(counts, np.zeros((50, 2)), 9)


def test_lags_reach_back_and_no_further():
    inputs = np.arange(1.0, 7.0).reshape(3, 2)
    expected = [[1, 2, 0, 0], [3, 4, 1, 2], [5, 6, 3, 4]]
    np.testing.assert_array_equal(lagged(inputs, 2), expected)


def test_a_wiener_filter_finds_a_linear_map():
    rng = np.random.default_rng(1)
    inputs = rng.standard_normal((2000, 3))
    weights = rng.standard_normal((6, 2))
    targets = lagged(inputs, 2) @ weights + 5
    wiener = fit_wiener(inputs, targets, 2)
    assert wiener.penalty == 1e-3  # no noise: the least
    np.testing.assert_allclose(wiener.predict(inputs), targets, atol=0.05)
    # by hand: with the penalty as extra rows of data, ordinary least squares
    features = lagged(inputs, 2)
    rows = np.concatenate([features - features.mean(0), np.sqrt(1e-3 * 2000) * np.eye(6)])
    padded = np.concatenate([targets - targets.mean(0), np.zeros((6, 2))])
    np.testing.assert_allclose(wiener.weights, np.linalg.lstsq(rows, padded, rcond=None)[0], atol=1e-12)
    noise = fit_wiener(inputs, rng.standard_normal((2000, 2)), 2)
    assert noise.penalty > wiener.penalty


def test_the_kalman_filter_is_the_conditional_mean():
    # the posterior of the whole Gaussian path given x_1..x_T, built as one big vector, must agree at its last step
    rng = np.random.default_rng(2)
    steps, size, seen = 5, 4, 6
    path = rng.standard_normal((400, size)).cumsum(0) * 0.1
    kalman = fit_kalman(path @ rng.standard_normal((size, seen)) + 0.3 * rng.standard_normal((400, seen)), path)
    A, W, H, Q = kalman.dynamics, kalman.drive, kalman.observation, kalman.noise
    blocks = [[np.zeros((size, size))] * steps for _ in range(steps)]
    covariance = kalman.spread
    for t in range(steps):
        if t:
            covariance = A @ covariance @ A.T + W
        carried = covariance
        for s in range(t, steps):
            blocks[s][t], blocks[t][s] = carried, carried.T
            carried = A @ carried
    prior = np.block(blocks)
    observe, noise = np.kron(np.eye(steps), H), np.kron(np.eye(steps), Q)
    inputs = rng.standard_normal((steps, seen))
    gain = prior @ observe.T @ np.linalg.inv(observe @ prior @ observe.T + noise)
    expected = (gain @ (inputs - kalman.input_mean).ravel())[-size:] + kalman.mean
    np.testing.assert_allclose(kalman.predict(inputs)[-1], expected, atol=1e-9)


def session_like(name: str, day: str, order: np.ndarray, seed: int) -> Recording:
    """A session of one brain: the same rates and tuning in each, its channels in this order."""
    brain, rng = np.random.default_rng(0), np.random.default_rng(seed)
    velocity = rng.standard_normal((1000, 2))
    rates = np.maximum(brain.uniform(0.5, 6, 96) + velocity @ (0.8 * brain.standard_normal((2, 96))), 0)
    position = np.concatenate([np.zeros((1, 2)), velocity.cumsum(0)])
    counts = rng.poisson(rates).astype(float)[:, order]
    return Recording(name, day, 0.064, counts, position, velocity, name, Path(name))


def test_another_order_is_seen_by_rates_and_by_transfer():
    same, other = np.arange(96), np.random.default_rng(8).permutation(96)
    days = [f"2016-06-{day:02}" for day in (1, 2, 4, 20)]
    sessions = [session_like(f"s{i}", day, other if i == 2 else same, i) for i, day in enumerate(days)]
    comparisons = neighbours(sessions)
    assert [name for name, comparison in comparisons.items() if comparison.another_order] == ["s2"]
    assert comparisons["s0"].rate_correlation > 0.9
    assert comparisons["s0"].transfer > 0.5
    assert comparisons["s2"].transfer < 0
    assert neighbours(sessions[:1]) == {}
    # the rank correlation is that of scipy, ties and all
    rates = np.round(np.random.default_rng(3).uniform(0, 9, (96, 2)))
    assert np.corrcoef(_ranks(rates[:, 0]), _ranks(rates[:, 1]))[0, 1] == pytest.approx(spearmanr(rates).statistic)


def test_a_session_of_the_release_in_another_order(tmp_path):
    for session in ("20170123_02", "20170124_01", "20170127_03"):
        (tmp_path / f"indy_{session}.npz").symlink_to(find(session, folder=shared()))
    assert [row["order"] for row in listing(tmp_path).rows] == ["as its neighbours'", "another", "as its neighbours'"]


@pytest.mark.slow
def test_the_release_has_two_sessions_in_another_order():
    rows = {str(row["session"]): row for row in listing(shared()).rows}
    assert {name for name, row in rows.items() if row["order"] == "another"} == ANOTHER_ORDER
    assert {name: row["bins"] for name, row in rows.items()} == {name: of.bins for name, of in KNOWN.items()}
    assert rows["20160411_01"]["rate_correlation"] > 0.9
    assert (rows["20170131_02"]["silent"], rows["20160411_01"]["silent"]) == (0, 7)


def test_shared_files_have_the_digests_of_the_table():
    folder = shared()
    for session in ("20160419_01", "20170131_02"):
        recording = load(session, folder=folder)
        assert (recording.digest, recording.bins) == KNOWN[session]


def by_a(columns: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Z-scored by another session."""
    deviation = a.std(0)
    return (columns - a.mean(0)) / np.where(deviation > 0, deviation, 1.0)


@pytest.mark.parametrize("session", ["20160624_03", "20170131_02"])
def test_ridge_decodes_velocity_within_a_session(session):
    recording = load(session, folder=shared())
    first = int(0.8 * recording.bins)  # as these figures are known
    inputs = by_a(recording.counts, recording.counts[:first])
    decoder = fit_wiener(inputs[:first], recording.velocity_mm_s[:first], 13)
    assert 0.34 < r2(decoder.predict(inputs)[first:], recording.velocity_mm_s[first:]) < 0.72


def test_ridge_across_seven_months_fails_unless_rescaled():
    a, b = (load(session, folder=shared()) for session in ("20160624_03", "20170131_02"))
    decoder = fit_wiener(by_a(a.counts, a.counts), a.velocity_mm_s, 13)
    assert -2.0 < r2(decoder.predict(by_a(b.counts, a.counts)), b.velocity_mm_s) < 0.0
    assert 0.2 < r2(decoder.predict(by_a(b.counts, b.counts)), b.velocity_mm_s) < 0.5


@pytest.mark.slow
def test_ridge_transfers_within_a_day():
    a, b = (load(session, folder=shared()) for session in ("20160411_01", "20160411_02"))
    decoder = fit_wiener(by_a(a.counts, a.counts), a.velocity_mm_s, 13)
    assert 0.45 < r2(decoder.predict(by_a(b.counts, a.counts)), b.velocity_mm_s) < 0.7


def test_nothing_heavy_is_imported():
    heavy = ("torch", "ray", "numba", "scipy", "sklearn", "h5py", "pooch", "requests")
    modules = "raysweep.workloads.bci, raysweep.workloads.bci.recordings.indy"
    code = f"import sys; import {modules}; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout == "[]\n"
