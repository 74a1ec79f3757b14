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

import numpy as np
import numpy.typing as npt

from workloads.datasets.dataset import data_folder

SIDE = 32
CLASSES = 10
PIXELS = SIDE * SIDE * 3
SPLITS = ("train", "test")
READ = ("image", "label", "split")
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
        table = pq.read_table(path, columns=list(READ))
    except (OSError, pyarrow.ArrowException) as error:
        said = str(error).splitlines()[0]
        raise ValueError(f"{path}: cannot be read as a prepared Parquet, it may be cut short: {said}") from error
    raw = table["image"].to_pylist()
    wrong = next((i for i, image in enumerate(raw) if not isinstance(image, bytes) or len(image) != PIXELS), None)
    if wrong is not None:
        raise ValueError(f"{path}: the image in row {wrong} is not {PIXELS} bytes")
    images = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, SIDE, SIDE, 3)
    labels, splits = table["label"].to_numpy(), np.array(table["split"].to_pylist(), dtype=np.str_)
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


def digest_of(parts: dict[str, tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> str:
    """First 16 hex digits of SHA-256 over each split's name, size, labels and images, in order."""
    found = hashlib.sha256()
    for split in SPLITS:
        images, labels = parts[split]
        found.update(f"{split} {len(labels)}\n".encode())
        found.update(np.ascontiguousarray(labels).tobytes())
        found.update(np.ascontiguousarray(images).tobytes())
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
