"""Conversion of CIFAR-10's official archive to the Parquet file that `raysweep.workloads.vit.data` reads.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, the binary version. It has six files of 10,000 records. A record is
one label byte and 3,072 bytes: 1,024 red, then green, then blue, row by row. (The Python version holds pickles, which
are not read here.) A downloaded archive is checked by SHA-256. A local archive may be repacked, as each file is checked
by SHA-1 when it is converted.
"""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raysweep.workloads.datasets.dataset import Dataset, Listing
from raysweep.workloads.datasets.download import Say, download
from raysweep.workloads.vit.data import KNOWN, PIXELS, READ, SIDE, read

NAME = "cifar10"
FILE = "cifar-10-binary.tar.gz"
URL = f"https://www.cs.toronto.edu/~kriz/{FILE}"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
FOLDER = "cifar-10-batches-bin"
SHA1 = {
    "data_batch_1": "aadd24acce27caa71bf4b10992e9e7b2d74c2540",
    "data_batch_2": "c0ba65cce70568cd57b4e03e9ac8d2a5367c1795",
    "data_batch_3": "1dd00a74ab1d17a6e7d73e185b69dbf31242f295",
    "data_batch_4": "aab85764eb3584312d3c7f65fd2fd016e36a258e",
    "data_batch_5": "26e2849e66a845b7f1e4614ae70f4889ae604628",
    "test_batch": "67eb016db431130d61cd03c7ad570b013799c88c",
}
"""File name without `.bin` -> SHA-1. The prepared rows are in the order of these files."""


def fetch(folder: Path, say: Say, mirror: str | None = None, archive: Path | None = None) -> Sequence[Path]:
    """Create `cifar10/cifar10.parquet` in a data folder, unless it exists.

    Args:
        folder: the data folder.
        say: called with progress, one line per call.
        mirror: URL of a folder that contains `cifar-10-binary.tar.gz`; None: the official site.
        archive: a local copy of the archive; None: download it (170 MB), and delete it after conversion.

    Returns:
        The prepared file.

    Raises:
        ValueError: the archive's content is invalid.
        OSError: the download was interrupted; the next call resumes.
    """
    prepared = folder / NAME / f"{NAME}.parquet"
    if prepared.is_file():
        say(f"{prepared}: already present")
        return [prepared]
    if archive is not None:
        digest = convert(archive, prepared)
    else:
        url = f"{mirror.rstrip('/')}/{FILE}" if mirror else URL
        downloaded = download(url, folder / NAME / FILE, f"sha256:{SHA256}", say)
        digest = convert(downloaded, prepared)
        downloaded.unlink()
    say(f"{prepared}: digest {digest}")
    return [prepared]


def listing(folder: Path) -> Listing:
    """List the prepared data sets in a data folder. Each is usable as a cell's `data_set`."""
    paths = sorted([*filter(_has_images, folder.glob("*.parquet")), *(folder / NAME).glob("*.parquet")])
    rows: list[dict[str, float | int | str | None]] = []
    notes = []
    for path in paths:
        images = read(path)
        if KNOWN.get(path.stem, images.digest) != images.digest:
            notes.append(
                f"{path} is not the {path.stem} that cells use: its digest is {images.digest}, theirs is "
                f"{KNOWN[path.stem]}. To use this file, rename it, or give --set digest={images.digest}"
            )
        known_as = next((name for name, digest in KNOWN.items() if digest == images.digest), None)
        rows.append(
            {
                "data_set": path.stem,
                "train": len(images.train_labels),
                "test": len(images.test_labels),
                "digest": images.digest,
                "known as": known_as,
                "path": str(path),
            }
        )
    return Listing(rows, notes)


def _has_images(path: Path) -> bool:
    """Tell whether a Parquet file has the columns of a prepared data set. The folder may contain other files.

    An unreadable file counts if its name begins with `cifar10`, so that `listing` reports it.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return set(READ) <= set(pq.read_schema(path).names)
    except (OSError, pyarrow.ArrowException):
        return path.stem.startswith(NAME)  # unreadable, so that `listing` reports it


def convert(archive: Path, prepared: Path, sha1: dict[str, str] | None = None) -> str:
    """Convert an archive to the prepared file, which is moved into place once it is complete.

    Args:
        archive: the `.tar.gz`.
        prepared: the Parquet file to write; its folder is created if missing.
        sha1: SHA-1 of each file; None: those of the release.

    Returns:
        The digest that cells record.

    Raises:
        ValueError: the archive's content is invalid; the message is one line.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = []
    for name, records in _batches(archive, SHA1 if sha1 is None else sha1).items():
        images = records[:, 1:].reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1).reshape(-1, PIXELS)
        tables.append(
            pa.table(
                {
                    "image": pa.array([image.tobytes() for image in images], pa.large_binary()),
                    "label": pa.array(records[:, 0], pa.uint8()),
                    "split": pa.array(["test" if name == "test_batch" else "train"] * len(records), pa.large_string()),
                    "batch": pa.array([name] * len(records), pa.large_string()),
                    "index": pa.array(np.arange(len(records)), pa.int32()),
                }
            )
        )
    prepared.parent.mkdir(parents=True, exist_ok=True)
    unfinished = prepared.with_name(f".{prepared.name}.{os.getpid()}")
    try:
        pq.write_table(pa.concat_tables(tables), unfinished, compression="zstd")
        digest = read(unfinished).digest
        os.replace(unfinished, prepared)
    finally:
        unfinished.unlink(missing_ok=True)
    return digest


def _batches(archive: Path, sha1: dict[str, str]) -> dict[str, np.ndarray[tuple[int, int], np.dtype[np.uint8]]]:
    """Read the archive's files: name -> records, (N, 3073) uint8. Nothing is unpacked to disk."""
    batches = {}
    try:
        with tarfile.open(archive) as tar:
            for name, expected in sha1.items():
                member = tar.extractfile(f"{FOLDER}/{name}.bin")
                if member is None:
                    raise ValueError(f"{archive}: {FOLDER}/{name}.bin is not a file")
                raw = member.read()
                digest = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
                if digest != expected:
                    raise ValueError(f"{archive}: {name}.bin has SHA-1 {digest}, expected {expected}; fetch it again")
                batches[name] = np.frombuffer(raw, np.uint8).reshape(-1, PIXELS + 1)
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        message = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{archive}: not the archive {FILE}, or cut short: {message}") from error
    return batches


DATASET = Dataset(
    title="CIFAR-10, 60,000 images of ten classes (Krizhevsky, 2009)",
    source="https://www.cs.toronto.edu/~kriz/cifar.html; free to use, cite the technical report",
    fetch=fetch,
    listing=listing,
    options=("mirror",),
)
