"""CIFAR-10 from a prepared Parquet file, and Split CIFAR-10: its classes as a sequence of tasks.

Source: Krizhevsky (2009), "Learning multiple layers of features from tiny images"; 50,000 training and 10,000 test
images of 32 x 32 pixels in ten classes. A prepared file has a row an image; of its columns these are read:

| column | what |
|---|---|
| `image` | 3,072 bytes: uint8, row by row, R G B of a pixel side by side |
| `label` | 0 to 9 |
| `split` | `train` or `test` |

Data set NAME is the file `NAME.parquet` in `$RAYSWEEP_DATA` (default `data`, in the current folder) or its subfolder
`cifar10`. The folder never is part of a cell; what the file holds is, by its digest. `workloads.vit.cifar10` makes the
whole set, `cifar10`, out of the official archive.
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
"""Images read at a time."""
DIGITS = 16
"""Hexadecimal digits kept of a digest."""

KNOWN = {"cifar10": "e439eaa2f74677f3", "cifar10_subset": "37ecff36803d9dae"}
"""Digests of files as we know them: a plan needs one for every cell and must not read files of megabytes for it."""


@dataclass(frozen=True)
class Images:
    """A data set.

    Args:
        train: (N, 32, 32, 3) uint8.
        train_labels: (N,) uint8.
        test: (M, 32, 32, 3) uint8.
        test_labels: (M,) uint8.
        digest: of all four.
        path: the file.
    """

    train: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.uint8]
    test: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.uint8]
    digest: str
    path: Path = field(compare=False)


def find(name: str, folder: Path | None = None) -> Path:
    """The file of a data set.

    Args:
        name: its name.
        folder: holds the file itself or in a subfolder `cifar10`; None: `data_folder()`.

    Raises:
        ValueError: no such file.
    """
    folder = data_folder() if folder is None else folder
    places = (folder, folder / "cifar10")
    for place in places:
        if (place / f"{name}.parquet").is_file():
            return place / f"{name}.parquet"
    others = sorted({file.stem for place in places for file in place.glob("*.parquet")})
    there = f"; there are: {', '.join(others)}" if others else ""
    raise ValueError(
        f"no file {name}.parquet in {folder} or {places[1]}, for data_set {name!r}: name the folder that holds it by "
        f"--data-dir or RAYSWEEP_DATA, or raysweep data fetch cifar10 (the whole set, data_set 'cifar10'){there}"
    )


def load(name: str, folder: Path | None = None) -> Images:
    """A data set from its prepared file.

    Args:
        name: its name.
        folder: as for `find`.

    Raises:
        ValueError: no such file, or it does not hold what it should; one line.
    """
    return read(find(name, folder))


def read(path: Path) -> Images:
    """A data set from a file.

    Raises:
        ValueError: it does not hold what it should; one line.
    """
    import pyarrow
    import pyarrow.parquet as pq

    try:
        lacking = [name for name in READ if name not in pq.read_schema(path).names]
        if lacking:
            raise ValueError(f"{path}: no column {', '.join(lacking)}; it is no prepared set of images")
        table = pq.read_table(path, columns=["label", "split"])
        images = _images(path)
        labels = _labels(path, table["label"])
    except (OSError, pyarrow.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read as a prepared Parquet, it may be cut short: {said}") from error
    if pyarrow.types.is_nested(table["split"].type):
        raise ValueError(f"{path}: split is of type {table['split'].type}; valid: text, {' or '.join(SPLITS)}")
    splits = np.array(table["split"].to_pylist(), dtype=np.str_)
    if not np.isin(splits, SPLITS).all():
        raise ValueError(f"{path}: split is {sorted(set(splits.tolist()))}; valid: {', '.join(SPLITS)}")
    parts = {}
    for split in SPLITS:
        here = splits == split
        found = sorted(set(labels[here].tolist()))
        if found != list(range(CLASSES)):
            raise ValueError(
                f"{path}: the {split} images have the labels {found}; valid: 0 to {CLASSES - 1}, all of them"
            )
        parts[split] = (images[here], labels[here].astype(np.uint8))
    return Images(*parts["train"], *parts["test"], digest=digest_of(parts), path=path)


def _images(path: Path) -> npt.NDArray[np.uint8]:
    """The images, (N, 32, 32, 3), a few thousand rows at a time: the whole set is held once, and no object an image."""
    import pyarrow
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        found = np.empty((file.metadata.num_rows, PIXELS), np.uint8)
        done = 0
        for batch in file.iter_batches(ROWS, columns=["image"]):
            column = batch["image"]
            if pyarrow.types.is_nested(column.type):
                raise ValueError(f"{path}: image is of type {column.type}; valid: binary, {PIXELS} bytes a row")
            column = column.cast(pyarrow.large_binary())
            sizes = pc.fill_null(pc.binary_length(column), -1).to_numpy(zero_copy_only=False)
            if (sizes != PIXELS).any():
                row = done + int(np.argmax(sizes != PIXELS))
                raise ValueError(f"{path}: the image in row {row} is not {PIXELS} bytes")
            _, offsets, values = column.buffers()
            if len(column):
                first = int(np.frombuffer(offsets, np.int64)[column.offset])
                pixels = np.frombuffer(values, np.uint8, len(column) * PIXELS, first)
                found[done : done + len(column)] = pixels.reshape(-1, PIXELS)
            done += len(column)
    return found.reshape(-1, SIDE, SIDE, 3)


def _labels(path: Path, column: pyarrow.ChunkedArray) -> npt.NDArray[Any]:
    """As numbers, whatever they are; not a number where there is none."""
    import pyarrow

    kind = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    if not any(fits(kind) for fits in (pyarrow.types.is_integer, pyarrow.types.is_floating, pyarrow.types.is_decimal)):
        raise ValueError(f"{path}: label is of type {column.type}; valid: whole numbers, 0 to {CLASSES - 1}")
    labels: npt.NDArray[Any] = column.cast(kind).to_numpy()
    return labels


def digest_of(parts: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> str:
    """First 16 hex digits of SHA-256 over each split's name, size, labels and images, in order."""
    found = hashlib.sha256()
    for split in SPLITS:
        images, labels = parts[split]
        found.update(f"{split} {len(labels)}\n".encode())
        found.update(np.ascontiguousarray(labels).reshape(-1).data)
        found.update(np.ascontiguousarray(images).reshape(-1).data)
    return found.hexdigest()[:DIGITS]


def digest(name: str, folder: Path | None = None) -> str:
    """What a cell says of a data set: as tabled, or of the file where the set is not in the table.

    Raises:
        ValueError: the set is not in the table and has no file that can be read.
    """
    if name in KNOWN:
        return KNOWN[name]
    path = find(name, folder).resolve()
    status = path.stat()
    return _file_digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=16)
def _file_digest(path: Path, changed_ns: int, size: int) -> str:
    """Computed once a file, not once a cell; the last two arguments tell another file in its place."""
    return read(path).digest


def verify(images: Images, expected: str | None) -> None:
    """Refuse data other than those that a cell was planned for.

    Raises:
        ValueError: they differ.
    """
    if images.digest != expected:
        raise ValueError(
            f"{images.path}: its images have the digest {images.digest}, expected {expected}; "
            f"put the file right, or set digest = '{images.digest}' to use this one"
        )


def task_classes(tasks: int) -> tuple[tuple[int, ...], ...]:
    """The classes of each task, in the order of their numbers: `((0, 1), (2, 3), ...)` with five."""
    each = CLASSES // tasks
    return tuple(tuple(range(i * each, (i + 1) * each)) for i in range(tasks))


def positions(
    labels: npt.NDArray[np.uint8], classes: tuple[int, ...], per_class: int | None = None
) -> npt.NDArray[np.int64]:
    """Where a task's images stand, in order.

    Args:
        labels: (N,).
        classes: the task's.
        per_class: the first so many of each class; None: all.
    """
    found = [np.flatnonzero(labels == label)[:per_class] for label in classes]
    return np.sort(np.concatenate(found)).astype(np.int64)
