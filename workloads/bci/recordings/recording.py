"""Prepared recordings of reaching movements, `indy_SESSION.npz`: loading, digests, and merging of bins.

Source: O'Doherty, Cardoso, Makin and Sabes (2017), "Nonhuman primate reaching with multichannel sensorimotor cortex
electrophysiology", Zenodo 583331 and 3854034, CC BY 4.0. It has 37 sessions of one macaque ("Indy") with a 96-channel
array in M1, and ten of another. A prepared file holds one session in bins. These of its arrays are read:

| array | shape | content |
|---|---|---|
| `counts` | (T, 96) | threshold crossings of a channel in a bin, over all its units |
| `t_s` | (T,) | start of a bin, seconds |
| `finger_xy_mm` | (T + 1, 2) | position of the fingertip at the bins' edges |
| `finger_vel_mm_s` | (T, 2) | mean velocity within a bin |
| `bin_width_s` | () | width of a bin |
| `date` | () | `YYYY-MM-DD`; optional |

`indy_SESSION.npz` has bins of 64 ms, `indy_SESSION_20ms.npz` of 20. Files are searched in the data folder
(`workloads.datasets.dataset`) and its subfolder `indy`. The path is never part of a cell; the digest of the arrays is.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import zipfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.original import CHANNELS
from raysweep.workloads.bci.recordings.sessions import KNOWN, RELEASE
from raysweep.workloads.datasets.dataset import data_folder
from raysweep.workloads.registry import unknown_name

USUAL_MS = 64
"""Width of bins in ms, if the file's name states no width."""
DIGITS = 16
"""Hexadecimal digits of a digest."""
READ = ("counts", "t_s", "finger_xy_mm", "finger_vel_mm_s", "bin_width_s")


@dataclass(frozen=True)
class Recording:
    """One session of a recording, in bins.

    Args:
        session: the session's name, such as `20160624_03`.
        date: `YYYY-MM-DD`, or "".
        bin_width_s: width of a bin, seconds.
        counts: (T, 96) float64, spikes per bin.
        position_mm: (T + 1, 2) float64, at the bins' edges.
        velocity_mm_s: (T, 2) float64, mean within a bin.
        digest: digest of the file's arrays (`digest_of`).
        path: the file.
    """

    session: str
    date: str
    bin_width_s: float
    counts: Array
    position_mm: Array
    velocity_mm_s: Array
    digest: str
    path: Path = field(compare=False)

    @property
    def bins(self) -> int:
        """The number of bins, T."""
        return len(self.counts)

    @property
    def day(self) -> datetime.date | None:
        """The date of the recording, or None."""
        return datetime.date.fromisoformat(self.date) if self.date else None

    @property
    def usual(self) -> bool:
        """Whether the bins have the usual width, `USUAL_MS`."""
        return round(1000 * self.bin_width_s) == USUAL_MS


def prepared_name(session: str, bin_ms: int) -> str:
    """Return the file name of a prepared session."""
    return f"indy_{session}.npz" if bin_ms == USUAL_MS else f"indy_{session}_{bin_ms}ms.npz"


def session_of(path: Path) -> str:
    """Read the session's name from the file name of a prepared session."""
    return re.sub(r"_\d+ms$", "", path.name.removesuffix(".npz").removeprefix("indy_"))


def find(session: str, bin_ms: int = USUAL_MS, folder: Path | None = None) -> Path:
    """Find the file of a session: with bins of `bin_ms`, or with bins of `USUAL_MS` that can be merged to this width.

    Args:
        session: the session's name.
        bin_ms: width of a bin, milliseconds.
        folder: the folder that contains the file, directly or in a subfolder `indy`; None: `data_folder()`.

    Raises:
        ValueError: there is no suitable file, or the session is unknown.
    """
    folder = data_folder() if folder is None else folder
    names = dict.fromkeys(prepared_name(session, width) for width in (bin_ms, USUAL_MS) if bin_ms % width == 0)
    for path in (folder / "indy" / name if sub else folder / name for name in names for sub in (False, True)):
        if path.is_file():
            return path
    if session not in RELEASE:
        raise ValueError(
            f"{unknown_name('session', session, RELEASE)}; and no file {prepared_name(session, bin_ms)} in {folder}"
        )
    raise ValueError(
        f"session {session!r}: no file {' or '.join(names)} in {folder} or {folder / 'indy'}; set --data-dir or "
        f"RAYSWEEP_DATA to its folder, or run: raysweep data fetch indy --sessions {session}"
        + ("" if bin_ms == USUAL_MS else f" --bin-ms {bin_ms}")
    )


def load(session: str, bin_ms: int = USUAL_MS, folder: Path | None = None) -> Recording:
    """Load a session from its prepared file, in bins of `bin_ms` milliseconds. Arguments as for `find`.

    Raises:
        ValueError: the session is unknown, the file is missing or invalid, or bins cannot be merged to `bin_ms`.
    """
    return rebin(load_file(find(session, bin_ms, folder), session), bin_ms)


def load_file(path: Path, session: str) -> Recording:
    """Load a session from a prepared file, in the file's own bins.

    Raises:
        ValueError: the content is invalid; the message is one line.
    """
    arrays = _arrays(path)
    counts, position, velocity = (arrays[name] for name in ("counts", "finger_xy_mm", "finger_vel_mm_s"))
    width = float(arrays["bin_width_s"])
    if counts.ndim != 2 or counts.shape[1] != CHANNELS:
        raise ValueError(f"{path}: counts has shape {counts.shape}; valid: (bins, {CHANNELS}), the channels of M1")
    bins = len(counts)
    for name, rows in (("t_s", bins), ("finger_vel_mm_s", bins), ("finger_xy_mm", bins + 1)):
        if len(arrays[name]) != rows:
            raise ValueError(f"{path}: {name} has {len(arrays[name])} rows for {bins} bins; valid: {rows}")
    if position.shape[1:] != (2,) or velocity.shape[1:] != (2,):
        raise ValueError(f"{path}: behaviour has shapes {position.shape} and {velocity.shape}; valid: (rows, 2)")
    if not width > 0:
        raise ValueError(f"{path}: bin_width_s = {width}; valid: above 0")
    finite = np.isfinite(velocity).all(1) & np.isfinite(position[1:]).all(1) & np.isfinite(position[:-1]).all(1)
    if not counts[finite].any():
        raise ValueError(f"{path}: no overlap of spikes and behaviour: no bin has both")
    if not finite.all():
        raise ValueError(f"{path}: behaviour is not finite in {np.count_nonzero(~finite)} of {bins} bins")
    return Recording(
        session=session,
        date=str(arrays["date"]) if "date" in arrays else "",
        bin_width_s=width,
        counts=counts.astype(np.float64),
        position_mm=position.astype(np.float64),
        velocity_mm_s=velocity.astype(np.float64),
        digest=digest_of(arrays),
        path=path,
    )


def digest_of(arrays: dict[str, np.ndarray]) -> str:
    """Compute the digest of a prepared file's arrays in `READ`: the first 16 hex digits of a SHA-256.

    It covers each array's name, type, shape and bytes.
    """
    sha = hashlib.sha256()
    for name in READ:
        array = np.ascontiguousarray(arrays[name])
        little = array.astype(array.dtype.newbyteorder("<"))
        sha.update(f"{name} {little.dtype.str} {array.shape}\n".encode())
        sha.update(little.tobytes())
    return sha.hexdigest()[:DIGITS]


def digest(session: str, bin_ms: int = USUAL_MS, folder: Path | None = None) -> str:
    """Return the digest that cells record for a session: from its file, or from `KNOWN` if there is no file.

    Raises:
        ValueError: the file is invalid; or there is none, and `KNOWN` has no data for the session and width.
    """
    try:
        path = find(session, bin_ms, folder).resolve()
    except ValueError:
        if session not in KNOWN or bin_ms % USUAL_MS:
            raise
        return KNOWN[session].digest
    status = path.stat()
    return _file_digest(path, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=256)
def _file_digest(path: Path, changed_ns: int, size: int) -> str:
    """Return a file's digest, which is cached.

    `changed_ns` and `size` are only part of the cache's key, so that a replaced file is read again.
    """
    return digest_of(_arrays(path))


def verify(recording: Recording, expected: str | None, setting: str) -> None:
    """Raise an error if the data differ from those with which the cell was planned.

    Args:
        recording: the loaded session.
        expected: the cell's digest.
        setting: the config field that holds the digest, for the message.

    Raises:
        ValueError: the digests differ.
    """
    if recording.digest != expected:
        raise ValueError(
            f"{recording.path}: digest {recording.digest}, expected {expected}: the cell was planned with other data; "
            f"restore that file, or launch again with {setting} = '{recording.digest}'"
        )


def rebin(recording: Recording, bin_ms: int) -> Recording:
    """Merge a session's bins into wider ones. An incomplete last bin is dropped.

    Counts are summed, velocities averaged (both exact), and positions taken at the new edges.

    Raises:
        ValueError: the new width is not a multiple of the file's, or no bin is complete.
    """
    width_ms = recording.bin_width_s * 1000
    factor = round(bin_ms / width_ms)
    if factor < 1 or abs(factor * width_ms - bin_ms) > 1e-6 * width_ms:
        raise ValueError(
            f"bin_ms = {bin_ms}: {recording.path} has bins of {width_ms:g} ms; valid: its whole multiples; for other "
            f"bins: raysweep data fetch indy --sessions {recording.session} --bin-ms {bin_ms}"
        )
    bins = recording.bins // factor
    if bins == 0:
        raise ValueError(
            f"bin_ms = {bin_ms} is longer than session {recording.session!r}, {recording.bins * width_ms:g} ms"
        )
    used = bins * factor
    return Recording(
        session=recording.session,
        date=recording.date,
        bin_width_s=recording.bin_width_s * factor,
        counts=recording.counts[:used].reshape(bins, factor, -1).sum(1),
        position_mm=recording.position_mm[: used + 1 : factor],
        velocity_mm_s=recording.velocity_mm_s[:used].reshape(bins, factor, 2).mean(1),
        digest=recording.digest,
        path=recording.path,
    )


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            if isinstance(stored, np.ndarray):
                raise ValueError("not an archive of arrays (.npz)")
            arrays = {name: stored[name] for name in (*READ, "date") if name in stored.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: cannot be read, it may be cut short: {error}") from error
    missing = [name for name in READ if name not in arrays]
    if missing:
        raise ValueError(f"{path}: no array {', '.join(missing)}; not a prepared recording")
    return arrays
