"""CIFAR-10 from a prepared Parquet file, and Split CIFAR-10: its classes as a sequence of tasks.

Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images". CIFAR-10 has 50,000 training and
10,000 test images of 32 x 32 pixels in ten classes. A prepared file has one row per image. These columns are read:

| column | content |
|---|---|
| `image` | 3,072 bytes: uint8, row by row, R G B of a pixel side by side |
| `label` | 0 to 9 |
| `split` | `train` or `test` |

Data set NAME is the file `NAME.parquet` in `$RAYSWEEP_DATA` (default: `data` in the current folder) or in its
subfolder `cifar10`. The path is never part of a cell; the digest of the file's content is. `workloads.vit.cifar10`
creates the whole set, `cifar10`, from the official archive.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from raysweep.workloads.datasets.dataset import data_folder

if TYPE_CHECKING:
    import pyarrow

SIDE = 32
CLASSES = 10
PIXELS = SIDE * SIDE * 3
SPLITS = ("train", "test")
READ = ("image", "label", "split")
ROWS = 4096
"""Rows read at a time."""
DIGITS = 16
"""Hexadecimal digits of a digest."""

KNOWN = {"cifar10": "e439eaa2f74677f3", "cifar10_subset": "37ecff36803d9dae"}
"""Digests of the data sets in use. Planning needs a digest for every cell, and must not read large files for it."""


@dataclass(frozen=True)
class Images:
    """The images and labels of a data set.

    Args:
        train: (N, 32, 32, 3) uint8.
        train_labels: (N,) uint8.
        test: (M, 32, 32, 3) uint8.
        test_labels: (M,) uint8.
        digest: digest of the four arrays.
        path: the file.
    """

    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]
    digest: str
    path: Path = field(compare=False)


def find(name: str, folder: Path | None = None) -> Path:
    """Find the file of a data set.

    Args:
        name: the data set's name.
        folder: the folder that contains the file, directly or in a subfolder `cifar10`; None: `data_folder()`.

    Raises:
        ValueError: there is no such file.
    """
    folder = data_folder() if folder is None else folder
    folders = (folder, folder / "cifar10")
    for place in folders:
        if (place / f"{name}.parquet").is_file():
            return place / f"{name}.parquet"
    others = sorted({file.stem for place in folders for file in place.glob("*.parquet")})
    present = f"; there are: {', '.join(others)}" if others else ""
    raise ValueError(
        f"no file {name}.parquet in {folder} or {folders[1]}, for data_set {name!r}: set --data-dir or RAYSWEEP_DATA "
        f"to its folder, or run: raysweep data fetch cifar10 (the whole set, data_set 'cifar10'){present}"
    )


def load(name: str, folder: Path | None = None) -> Images:
    """Load a data set from its prepared file.

    Args:
        name: the data set's name.
        folder: as for `find`.

    Raises:
        ValueError: the file does not exist or its content is invalid; the message is one line.
    """
    return read(find(name, folder))


def read(path: Path) -> Images:
    """Read a data set from a prepared file.

    Raises:
        ValueError: the content is invalid; the message is one line.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        missing = [name for name in READ if name not in pq.read_schema(path).names]
        if missing:
            raise ValueError(f"{path}: no column {', '.join(missing)}; not a prepared set of images")
        table = pq.read_table(path, columns=["label", "split"])
        images = _images(path)
        labels = _labels(path, table["label"])
    except (OSError, pyarrow.ArrowException) as error:
        message = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read as a prepared Parquet, it may be cut short: {message}") from error
    if pyarrow.types.is_nested(table["split"].type):
        raise ValueError(f"{path}: split has type {table['split'].type}; valid: text, {' or '.join(SPLITS)}")
    splits = np.array(table["split"].to_pylist(), dtype=np.str_)
    if not np.isin(splits, SPLITS).all():
        raise ValueError(f"{path}: split is {sorted(set(splits.tolist()))}; valid: {', '.join(SPLITS)}")
    parts = {}
    for split in SPLITS:
        here = splits == split
        classes = sorted(set(labels[here].tolist()))
        if classes != list(range(CLASSES)):
            raise ValueError(
                f"{path}: the {split} images have the labels {classes}; valid: 0 to {CLASSES - 1}, all of them"
            )
        parts[split] = (images[here], labels[here].astype(np.uint8))
    return Images(*parts["train"], *parts["test"], digest=digest_of(parts), path=path)


def _images(path: Path) -> npt.NDArray[np.uint8]:
    """Read the images, (N, 32, 32, 3). A few thousand rows are read at a time, so memory holds only one copy."""
    import pyarrow
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        images = np.empty((file.metadata.num_rows, PIXELS), np.uint8)
        done = 0
        for batch in file.iter_batches(ROWS, columns=["image"]):
            column = batch["image"]
            if pyarrow.types.is_nested(column.type):
                raise ValueError(f"{path}: image has type {column.type}; valid: binary, {PIXELS} bytes per row")
            column = column.cast(pyarrow.large_binary())
            sizes = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
            if (sizes != PIXELS).any():
                row = done + int(np.argmax(sizes != PIXELS))
                raise ValueError(f"{path}: the image in row {row} is not {PIXELS} bytes")
            _, offsets, values = column.buffers()
            if len(column):
                first = int(np.frombuffer(offsets, np.int64)[column.offset])
                pixels = np.frombuffer(values, np.uint8, len(column) * PIXELS, first)
                images[done : done + len(column)] = pixels.reshape(-1, PIXELS)
            done += len(column)
    return images.reshape(-1, SIDE, SIDE, 3)


def _labels(path: Path, column: pyarrow.ChunkedArray) -> npt.NDArray[Any]:
    """Convert labels to numbers of the column's type; NaN for nulls."""
    import pyarrow

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    if not any(fits(kind) for fits in (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)):
        raise ValueError(f"{path}: label has type {column.type}; valid: whole numbers, 0 to {CLASSES - 1}")
    labels: npt.NDArray[Any] = column.cast(kind).to_numpy()
    return labels


def digest_of(parts: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> str:
    """Compute a data set's digest: the first 16 hex digits of a SHA-256.

    It covers each split's name, size, labels and images, in order.
    """
    sha = hashlib.sha256()
    for split in SPLITS:
        images, labels = parts[split]
        sha.update(f"{split} {len(labels)}\n".encode())
        sha.update(np.ascontiguousarray(labels).reshape(-1).data)
        sha.update(np.ascontiguousarray(images).reshape(-1).data)
    return sha.hexdigest()[:DIGITS]


def digest(name: str, folder: Path | None = None) -> str:
    """Return the digest that cells record for a data set: from `KNOWN`, otherwise from its file.

    Raises:
        ValueError: the set is not in `KNOWN` and has no readable file.
    """
    if name in KNOWN:
        return KNOWN[name]
    path = find(name, folder).resolve()
    status = path.stat()
    return _file_digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _file_digest(path: Path, changed_ns: int, size: int) -> str:
    """Return a file's digest, which is cached.

    `changed_ns` and `size` are only part of the cache's key, so that a replaced file is read again.
    """
    return read(path).digest


def verify(images: Images, expected: str | None) -> None:
    """Compare the data's digest with `expected`, the digest with which the cell was planned.

    Raises:
        ValueError: the digests differ.
    """
    if images.digest != expected:
        raise ValueError(
            f"{images.path}: digest {images.digest}, expected {expected}; "
            f"restore the file, or set digest = '{images.digest}' to use this one"
        )


def task_classes(tasks: int) -> tuple[tuple[int, ...], ...]:
    """Assign the ten classes to tasks in the order of their numbers: `((0, 1), (2, 3), ...)` for five tasks."""
    each = CLASSES // tasks
    return tuple(tuple(range(i * each, (i + 1) * each)) for i in range(tasks))


def positions(
    labels: npt.NDArray[np.uint8], classes: tuple[int, ...], per_class: int | None = None
) -> npt.NDArray[np.int64]:
    """Find the positions of a task's images, in ascending order.

    Args:
        labels: (N,).
        classes: the task's classes.
        per_class: number of images per class, from the start; None: all.
    """
    places = [np.flatnonzero(labels == label)[:per_class] for label in classes]
    return np.sort(np.concatenate(places)).astype(np.int64)
