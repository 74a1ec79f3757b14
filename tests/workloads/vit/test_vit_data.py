"""CIFAR-10: the official archive to the prepared file and back, tasks, inputs, and what needs no network."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysweep.workloads.vit import cifar10
from raysweep.workloads.vit.baselines import nearest_mean_scores, ridge_scores
from raysweep.workloads.vit.data import KNOWN, digest, find, load, positions, read, task_classes, verify
from tests.conftest import ROOT
from tests.workloads.vit.vit_cells import write_images

PLACES = {f"data_batch_{i}": range(20 * (i - 1), 20 * i) for i in range(1, 6)} | {"test_batch": range(100, 120)}


def official(path: Path, seed: int = 0) -> tuple[np.ndarray, np.ndarray, dict[str, str]]:
    """An archive laid out as the official one, of 20 images a file; images (120, 32, 32, 3), labels, SHA-1s."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, size=(120, 32, 32, 3), dtype=np.uint8)
    labels = np.tile(np.arange(10, dtype=np.uint8), 12)
    sha1 = {}
    with tarfile.open(path, "w") as tar:
        for name, place in PLACES.items():
            records = b"".join(
                bytes([labels[i]]) + b"".join(images[i, :, :, c].tobytes() for c in range(3)) for i in place
            )
            sha1[name] = hashlib.sha1(records, usedforsecurity=False).hexdigest()
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            member.size = len(records)
            tar.addfile(member, io.BytesIO(records))
    return images, labels, sha1


def test_the_archive_comes_back_pixel_by_pixel(tmp_path):
    images, labels, sha1 = official(tmp_path / "a.tar.gz")
    prepared = tmp_path / "data" / "cifar10" / "cifar10.parquet"
    digest = cifar10.convert(tmp_path / "a.tar.gz", prepared, sha1)
    data = load("cifar10", tmp_path / "data")
    np.testing.assert_array_equal(data.train, images[:100])
    np.testing.assert_array_equal(data.test, images[100:])
    np.testing.assert_array_equal(data.train_labels, labels[:100])
    np.testing.assert_array_equal(data.test_labels, labels[100:])
    assert data.digest == digest
    table = pq.read_table(prepared)
    assert table["batch"].to_pylist()[::20] == list(PLACES)
    assert table["index"].to_pylist() == list(range(20)) * 6
    assert [p.name for p in prepared.parent.iterdir()] == ["cifar10.parquet"]


def test_a_changed_file_is_refused_and_leaves_nothing(tmp_path):
    _, _, sha1 = official(tmp_path / "a.tar.gz")
    prepared = tmp_path / "out" / "x.parquet"
    with pytest.raises(ValueError, match=r"data_batch_3.bin has SHA-1 \w{40}, expected 0+; fetch it again"):
        cifar10.convert(tmp_path / "a.tar.gz", prepared, sha1 | {"data_batch_3": "0" * 40})
    assert not prepared.exists()


def test_another_archive_is_refused_in_one_line(tmp_path):
    official(tmp_path / "whole.tar.gz")
    whole = (tmp_path / "whole.tar.gz").read_bytes()
    for name, data in (("cut", whole[:5000]), ("text", b"<html>not found</html>"), ("empty", b"")):
        path = tmp_path / f"{name}.tar.gz"
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"not the archive cifar-10-binary\.tar\.gz, or cut short") as caught:
            cifar10.convert(path, tmp_path / "x.parquet")
        assert "\n" not in str(caught.value)
    with tarfile.open(tmp_path / "other.tar", "w"):
        pass
    with pytest.raises(ValueError, match=r"filename 'cifar-10-batches-bin/data_batch_1.bin' not found"):
        cifar10.convert(tmp_path / "other.tar", tmp_path / "x.parquet")


def test_fetch_converts_once(tmp_path, monkeypatch):
    _, _, sha1 = official(tmp_path / "a.tar.gz")
    monkeypatch.setattr(cifar10, "SHA1", sha1)
    lines = []
    (prepared,) = cifar10.fetch(tmp_path / "data", lines.append, archive=tmp_path / "a.tar.gz")
    assert find("cifar10", tmp_path / "data") == prepared
    assert cifar10.fetch(tmp_path / "data", lines.append, archive=tmp_path / "absent") == [prepared]
    assert lines == [f"{prepared}: digest {read(prepared).digest}", f"{prepared}: already present"]
    listing = cifar10.listing(tmp_path / "data")
    (row,) = listing.rows
    assert (row["data_set"], row["train"], row["test"], row["known as"]) == ("cifar10", 100, 20, None)
    (note,) = listing.notes
    assert note.startswith(f"{prepared} is not the cifar10 that cells use")
    assert KNOWN["cifar10"] in note


def test_every_set_that_a_cell_can_name_is_listed(tmp_path):
    write_images(tmp_path / "mine.parquet")
    write_images(tmp_path / "cifar10" / "part.parquet")
    pq.write_table(pa.table({"spikes": [1]}), tmp_path / "recording.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    listing = cifar10.listing(tmp_path)
    assert [row["data_set"] for row in listing.rows] == ["part", "mine"]
    assert not listing.notes


def test_fetch_downloads_the_official_archive_and_checks_it(tmp_path, monkeypatch):
    _, _, sha1 = official(tmp_path / "a.tar.gz")
    monkeypatch.setattr(cifar10, "SHA1", sha1)
    downloads = []

    def served(url, path, checksum, say):
        downloads.append((url, checksum))
        path.parent.mkdir(parents=True)
        return (tmp_path / "a.tar.gz").rename(path)

    monkeypatch.setattr(cifar10, "download", served)
    (prepared,) = cifar10.fetch(tmp_path / "data", lambda line: None)
    assert downloads == [
        (
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        )
    ]
    assert [path.name for path in prepared.parent.iterdir()] == ["cifar10.parquet"]


def test_the_subset_at_hand_has_the_digest_in_the_table(subset):
    data = read(subset)
    assert data.digest == KNOWN["cifar10_subset"]
    assert np.bincount(data.train_labels).tolist() == [1000] * 10
    assert np.bincount(data.test_labels).tolist() == [200] * 10


@pytest.fixture
def subset() -> Path:
    """The prepared subset, where it lies."""
    import os

    shared = Path(os.environ.get("RAYSWEEP_SHARED", ROOT.parent / "shared"))
    path = shared / "data" / "cifar10" / "cifar10_subset.parquet"
    if not path.is_file():
        pytest.skip(f"no prepared subset at {path}; set RAYSWEEP_SHARED to the folder that holds data/")
    return path


def test_where_files_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("RAYSWEEP_DATA", str(tmp_path))
    write_images(tmp_path / "large.parquet")
    with pytest.raises(ValueError, match=r"no file tiny.parquet in .*--data-dir or RAYSWEEP_DATA.*; there are: large"):
        find("tiny")
    write_images(tmp_path / "cifar10" / "tiny.parquet")
    assert find("tiny") == tmp_path / "cifar10" / "tiny.parquet"
    write_images(tmp_path / "tiny.parquet", seed=2)
    assert find("tiny") == tmp_path / "tiny.parquet"
    one = digest("tiny")
    write_images(tmp_path / "tiny.parquet", seed=3, train=9)
    assert digest("tiny") != one
    assert digest("cifar10_subset") == KNOWN["cifar10_subset"]  # needs no file


def test_the_digest_is_of_what_is_read(tmp_path):
    one = read(write_images(tmp_path / "a.parquet"))
    table = pq.read_table(tmp_path / "a.parquet")
    pq.write_table(table.append_column("more", pa.array([1] * len(table))), tmp_path / "b.parquet", compression="gzip")
    assert read(tmp_path / "b.parquet").digest == one.digest
    changed = table["label"].to_pylist()
    changed[0] = (changed[0] + 1) % 10
    pq.write_table(table.set_column(1, "label", pa.array(changed, pa.uint8())), tmp_path / "c.parquet")
    other = read(tmp_path / "c.parquet")
    assert other.digest != one.digest
    with pytest.raises(ValueError, match=f"digest {other.digest}, expected {one.digest}"):
        verify(other, one.digest)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("image", [b"short"], "the image in row 0 is not 3072 bytes"),
        ("image", [None], "the image in row 0 is not 3072 bytes"),
        ("label", ["0"], "label has type string; valid: whole numbers, 0 to 9"),
        ("label", [[0]], r"label has type list<.*>; valid: whole numbers"),
        ("label", [{"a": 0}], r"label has type struct<.*>; valid: whole numbers"),
        ("label", [None], r"images have the labels \[.*nan.*\]; valid"),
        ("label", [0.5], r"images have the labels \[.*0.5.*\]; valid"),
        ("split", [["train"]], r"split has type list<.*>; valid: text, train or test"),
        ("split", [1], r"split is \['1'\]; valid: train, test"),
        ("image", [[0] * 3072], r"image has type list<.*>; valid: binary, 3072 bytes per row"),
        ("image", ["x"], "the image in row 0 is not 3072 bytes"),
        ("split", ["valid"], r"split is \['test', 'train', 'valid'\]; valid: train, test"),
        ("label", [10], r"the (train|test) images have the labels \[.*10\]; valid: 0 to 9, all of them"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, column, values, message):
    table = pq.read_table(write_images(tmp_path / "a.parquet"))
    at = table.column_names.index(column)
    changed = values + table[column].to_pylist()[1:]
    if type(values[0]) not in (type(changed[1]), type(None)) and not isinstance(values[0], float):
        changed = values * len(table)  # a column is of one type
    pq.write_table(table.set_column(at, column, pa.array(changed)), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path / "b.parquet")
    assert "\n" not in str(caught.value)


def test_images_are_read_in_parts_whatever_their_column_is(tmp_path, monkeypatch):
    from raysweep.workloads.vit import data

    whole = read(write_images(tmp_path / "a.parquet"))
    table = pq.read_table(tmp_path / "a.parquet")
    monkeypatch.setattr(data, "ROWS", 7)
    for i, kind in enumerate((pa.large_binary(), pa.binary(), pa.binary(3072), pa.dictionary(pa.int32(), pa.binary()))):
        raw = table["image"].combine_chunks()
        column = raw.cast(pa.binary()).dictionary_encode() if pa.types.is_dictionary(kind) else raw.cast(kind)
        changed = table.set_column(table.column_names.index("image"), "image", column)
        pq.write_table(changed, tmp_path / f"{i}.parquet", row_group_size=50)
        images = read(tmp_path / f"{i}.parquet")
        np.testing.assert_array_equal(images.train, whole.train)
        assert images.digest == whole.digest == digest_of_bytes(whole)
    images = table["image"].to_pylist()
    images[23] = images[23][:-1]
    pq.write_table(table.set_column(0, "image", pa.array(images)), tmp_path / "short.parquet")
    with pytest.raises(ValueError, match="the image in row 23 is not 3072 bytes"):
        read(tmp_path / "short.parquet")


def digest_of_bytes(images) -> str:
    sha = hashlib.sha256()
    for split, pixels, labels in (
        ("train", images.train, images.train_labels),
        ("test", images.test, images.test_labels),
    ):
        sha.update(f"{split} {len(labels)}\n".encode() + labels.tobytes() + pixels.tobytes())
    return sha.hexdigest()[:16]


def test_no_parquet_and_no_column_are_said_in_one_line(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="cannot be read as a prepared Parquet") as caught:
        read(tmp_path / "a.parquet")
    assert "\n" not in str(caught.value)
    pq.write_table(pa.table({"image": [b""], "label": [1]}), tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="no column split"):
        read(tmp_path / "b.parquet")


def test_tasks_and_their_positions():
    assert task_classes(5) == ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))
    assert task_classes(1) == (tuple(range(10)),)
    labels = np.array([1, 0, 2, 1, 0, 1], np.uint8)
    assert positions(labels, (0, 1)).tolist() == [0, 1, 3, 4, 5]
    assert positions(labels, (0, 1), 1).tolist() == [0, 1]


def test_network_inputs_are_the_pixels_flipped_and_shifted(one_thread):
    torch = pytest.importorskip("torch")
    from raysweep.workloads.vit.inputs import SHIFT, network_input

    rng = np.random.default_rng(0)
    stored = torch.from_numpy(rng.integers(1, 256, size=(5, 3, 32, 32), dtype=np.uint8))
    which = torch.tensor([3, 1, 3])
    plain = network_input(stored, which, None)
    torch.testing.assert_close(plain, stored[[3, 1, 3]].float() / 127.5 - 1)
    seen = set()
    for seed in range(25):
        moved = network_input(stored, which, np.random.default_rng(seed))
        draws = np.random.default_rng(seed)
        shifts, flips = draws.integers(-SHIFT, SHIFT + 1, size=(2, 3)), draws.random(3) < 0.5
        for i in range(3):
            image = torch.flip(plain[i], (-1,)) if flips[i] else plain[i]
            padded = torch.nn.functional.pad(image, (SHIFT,) * 4)
            # A flipped image moves the other way: columns are counted before the flip.
            down, right = SHIFT + shifts[0, i], SHIFT + (-shifts[1, i] if flips[i] else shifts[1, i])
            torch.testing.assert_close(moved[i], padded[:, down : down + 32, right : right + 32])
            seen.add((bool(flips[i]), int(shifts[0, i]), int(shifts[1, i])))
    assert {flip for flip, _, _ in seen} == {False, True}
    assert {down for _, down, _ in seen} == set(range(-SHIFT, SHIFT + 1))


def test_ridge_tells_apart_what_is_linear_in_the_pixels():
    """Each class lights a place of its own: 400 training and 100 test images."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(10, dtype=np.uint8), 50))
    images = rng.integers(0, 200, size=(500, 32, 32, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[:4, 3 * label : 3 * label + 4] += 55
    scores = ridge_scores(images[:400], labels[:400], images[400:])
    assert scores.shape == (100, 10)
    assert (scores.argmax(1) == labels[400:]).mean() > 0.8
    np.testing.assert_allclose(ridge_scores(images[:400], labels[:400], images[400:410]), scores[:10])


def test_images_are_numbers_a_few_at_a_time_and_scores_the_same(tmp_path, monkeypatch):
    from raysweep.workloads.vit import baselines

    images = read(write_images(tmp_path / "a.parquet"))
    given = images.train, images.train_labels, images.test
    for score in (nearest_mean_scores, ridge_scores):
        monkeypatch.setattr(baselines, "CHUNK", 1000)
        at_once = score(*given)
        monkeypatch.setattr(baselines, "CHUNK", 7)
        np.testing.assert_allclose(score(*given), at_once, atol=1e-12)


@pytest.mark.parametrize("scenario", ["class_incremental", "task_incremental"])
def test_baselines_forget_by_the_accuracies_after_each_task(tmp_path, scenario):
    """Sums over images lose none, and yet a class is told apart worse once others compete."""
    pytest.importorskip("torch")
    from raysweep.workloads.vit import Config, metrics
    from raysweep.workloads.vit.report import baselines

    images = read(write_images(tmp_path / "a.parquet", train=12, test=6))
    measured = baselines(images, Config(tasks=5, scenario=scenario))
    for name, score in (("nearest_mean", nearest_mean_scores), ("ridge", ridge_scores)):
        rows = []
        for seen in range(2, 12, 2):
            mine = images.train_labels < seen
            scores = score(images.train[mine], images.train_labels[mine], images.test)
            row = []
            for first in range(0, seen, 2):
                here = images.test_labels // 2 == first // 2
                competing = slice(first, first + 2) if scenario == "task_incremental" else slice(0, 10)
                row.append(np.mean(scores[here, competing].argmax(1) + competing.start == images.test_labels[here]))
            rows.append(row)
        assert measured[f"{name}_accuracy_average"] == pytest.approx(np.mean(rows[-1]))
        assert measured[f"{name}_forgetting"] == pytest.approx(metrics.forgetting(rows))
    assert "ridge_forgetting" not in baselines(images, Config(tasks=1))


def test_nearest_mean_is_the_class_of_the_nearest_mean(tmp_path):
    images = read(write_images(tmp_path / "a.parquet"))
    scores = nearest_mean_scores(images.train, images.train_labels, images.test)
    flat = images.train.reshape(-1, 3072).astype(float)
    means = np.stack([flat[images.train_labels == label].mean(0) for label in range(10)])
    apart = ((images.test.reshape(-1, 1, 3072).astype(float) - means) ** 2).sum(-1)
    np.testing.assert_array_equal(scores.argmax(1), apart.argmin(1))
    shuffled = np.random.default_rng(0).permutation(len(flat))
    again = nearest_mean_scores(images.train[shuffled], images.train_labels[shuffled], images.test)
    np.testing.assert_allclose(scores, again, atol=1e-8)  # whatever the order of the tasks
    unseen = nearest_mean_scores(images.train, np.minimum(images.train_labels, 8), images.test)
    assert (unseen[:, 9] == -np.inf).all()
