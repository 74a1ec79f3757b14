"""The official archive of CIFAR-10 into the prepared Parquet that `raysweep.workloads.vit.data` reads.

Source: https://www.cs.toronto.edu/~kriz/cifar.html, the binary version: six files of 10,000 records of one label byte
and 3,072 bytes, 1,024 red, then green, then blue, row by row. (The Python version holds pickles, which are not read
here.) The archive is checked by its SHA-256 when it is downloaded, and each of its files by its SHA-1 when it is
converted, so that a local copy packed otherwise will do.
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
"""Of each file, without `.bin`, in the order of the prepared rows."""


def fetch(folder: Path, say: Say, mirror: str | None = None, archive: Path | None = None) -> Sequence[Path]:
    """Make `cifar10/cifar10.parquet` in a data folder, unless it is there.

    Args:
        folder: the data folder.
        say: is told of the progress, a line at a time.
        mirror: another place that has the archive, by its own name.
        archive: a local copy of the archive; None: downloaded, 170 MB, and removed once it is converted.

    Returns:
        The prepared file.

    Raises:
        ValueError: the archive does not hold what it should.
        OSError: the download broke off; what came is gone on from.
    """
    prepared = folder / NAME / f"{NAME}.parquet"
    if prepared.is_file():
        say(f"{prepared}: is there")
        return [prepared]
    if archive is not None:
        digest = convert(archive, prepared)
    else:
        url = f"{mirror.rstrip('/')}/{FILE}" if mirror else URL
        fetched = download(url, folder / NAME / FILE, f"sha256:{SHA256}", say)
        digest = convert(fetched, prepared)
        fetched.unlink()
    say(f"{prepared}: digest {digest}")
    return [prepared]


def listing(folder: Path) -> Listing:
    """The prepared files of a data folder that a cell can name."""
    paths = sorted([*filter(_has_images, folder.glob("*.parquet")), *(folder / NAME).glob("*.parquet")])
    rows: list[dict[str, float | int | str | None]] = []
    notes = []
    for path in paths:
        found = read(path)
        if KNOWN.get(path.stem, found.digest) != found.digest:
            notes.append(
                f"{path} is not the {path.stem} that cells ask for (digest {KNOWN[path.stem]}); to use it, give it "
                f"another name, or --set digest={found.digest}"
            )
        known = next((name for name, digest in KNOWN.items() if digest == found.digest), None)
        rows.append(
            {
                "data_set": path.stem,
                "train": len(found.train_labels),
                "test": len(found.test_labels),
                "digest": found.digest,
                "known as": known,
                "path": str(path),
            }
        )
    return Listing(rows, notes)


def _has_images(path: Path) -> bool:
    """Whether a file is meant to be such a set, by its columns; others may lie in the same folder."""
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return set(READ) <= set(pq.read_schema(path).names)
    except (OSError, pyarrow.ArrowException):
        return path.stem.startswith(NAME)  # to be told of


def convert(archive: Path, prepared: Path, sha1: dict[str, str] | None = None) -> str:
    """Write the prepared file, whole or not at all.

    Args:
        archive: the `.tar.gz`.
        prepared: the Parquet to write; its folder is made if need be.
        sha1: of each file; None: those of the release.

    Returns:
        The digest that cells will have.

    Raises:
        ValueError: the archive does not hold what it should; one line.
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
    """Name -> its records, (N, 3073) uint8. Members are read by name; nothing is unpacked to disk."""
    found = {}
    try:
        with tarfile.open(archive) as tar:
            for name, expected in sha1.items():
                member = tar.extractfile(f"{FOLDER}/{name}.bin")
                if member is None:
                    raise ValueError(f"{archive}: {FOLDER}/{name}.bin is no file")
                raw = member.read()
                seen = hashlib.sha1(raw, usedforsecurity=False).hexdigest()
                if seen != expected:
                    raise ValueError(f"{archive}: {name}.bin has the SHA-1 {seen}, expected {expected}; fetch it again")
                found[name] = np.frombuffer(raw, np.uint8).reshape(-1, PIXELS + 1)
    except (OSError, EOFError, KeyError, tarfile.TarError) as error:
        said = str(error).strip("'\"").splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{archive}: is not the archive {FILE}, or cut short: {said}") from error
    return found


DATASET = Dataset(
    title="CIFAR-10, 60,000 images of ten classes (Krizhevsky, 2009)",
    source="https://www.cs.toronto.edu/~kriz/cifar.html; free to use, cite the technical report",
    fetch=fetch,
    listing=listing,
    options=("mirror",),
)
