"""The published files of the data set `indy`, MATLAB v7.3: reading, checking, and binning at any width.

The format is HDF5 (h5py; `scipy.io.loadmat` cannot read it). Arrays are transposed relative to MATLAB:

| data set | shape in h5py | content |
|---|---|---|
| `t` | (1, K) | seconds, every 4 ms |
| `finger_pos` | (3, K) or (6, K) | z, -x, -y of the fingertip in cm, then angles |
| `chan_names` | (1, n) | references to text as uint16: "M1 001" to "M1 096", in some files also "S1 001", ... |
| `spikes` | (units, n) | references to (1, m) spike times in seconds; unit 0 holds the unsorted spikes |

An empty entry is stored as its MATLAB dimensions, two uint64, with the attribute `MATLAB_empty`. Spikes before the
behaviour began and after it ended are dropped. Only channels of M1 are used. The spikes of all units of a channel are
counted together.

Bins begin at t[0]; an incomplete last bin is dropped. Positions are interpolated linearly at the bins' edges.
Velocity is the difference of positions divided by the width: the mean velocity within the bin.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from raysweep.workloads.arrays import Array, Indices
from raysweep.workloads.bci.recordings.sessions import DOI, date_of

AREA = "M1"
CHANNELS = 96
MM_PER_CM = 10.0
ROUNDING = 1e-6
"""Largest fraction of the last bin that may be missing, to allow for rounding errors in sums of 4 ms."""
NEEDED = ("t", "finger_pos", "spikes")


def bin_original(path: Path, session: str, bin_ms: int) -> dict[str, np.ndarray]:
    """Bin an original file into the arrays of a prepared file (see `raysweep.workloads.bci.recordings.recording`).

    Args:
        path: the original file.
        session: the session's name.
        bin_ms: width of a bin, milliseconds.

    Raises:
        ValueError: the file is not an original or is truncated, it does not have 96 channels of M1, spikes and
            behaviour do not overlap, or no bin is complete.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in NEEDED if name not in file]
            if missing:
                raise ValueError(f"no {', '.join(missing)}; is it a session of the release?")
            times = np.asarray(file["t"], np.float64).ravel()
            finger = np.asarray(file["finger_pos"], np.float64)
            spikes = _spikes(file)
        edges = _edges(times, bin_ms)
        position = _position(finger, times, edges)
        counts = np.stack([_counts(channel, edges) for channel in spikes], axis=1)
        if not counts.any():
            raise ValueError(_no_overlap(spikes, edges))
    except (OSError, RuntimeError, KeyError) as error:  # h5py's errors for truncated files and other formats
        raise ValueError(f"{path}: cannot be read, it may be cut short: {str(error).splitlines()[0]}") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    width = bin_ms / 1000
    return {
        "counts": counts.astype(np.uint8 if counts.max() <= 255 else np.uint16),
        "t_s": edges[:-1],
        "finger_xy_mm": position.astype(np.float32),
        "finger_vel_mm_s": (np.diff(position, axis=0) / width).astype(np.float32),
        "bin_width_s": np.array(width),
        "session": np.array(session),
        "date": np.array(date_of(session)),
        "source": np.array(f"doi:{DOI} {path.name}"),
    }


def _edges(times: Array, bin_ms: int) -> Array:
    """Compute the edges of the complete bins, (T + 1,), in seconds."""
    if len(times) < 2 or not (np.diff(times) > 0).all():
        raise ValueError("t is not strictly increasing")
    duration = times[-1] - times[0]
    bins = int(duration / (bin_ms / 1000) + ROUNDING)
    if bins == 0:
        raise ValueError(f"bin_ms = {bin_ms} is longer than the session, {1000 * duration:.0f} ms")
    edges: Array = times[0] + np.arange(bins + 1) * (bin_ms / 1000)
    return edges


def _position(finger: Array, times: Array, edges: Array) -> Array:
    """Interpolate the fingertip's x, y at the bins' edges, (T + 1, 2), in mm."""
    if finger.ndim != 2 or finger.shape[0] not in (3, 6) or finger.shape[1] != len(times):
        raise ValueError(f"finger_pos has shape {finger.shape}; valid: (3, {len(times)}) or (6, {len(times)})")
    return np.stack([np.interp(edges, times, -MM_PER_CM * finger[row]) for row in (1, 2)], axis=1)


def _spikes(file: Any) -> list[Array]:
    """Read the spike times of each channel of M1, over all its units, in seconds. They are not sorted."""
    references = file["spikes"]
    channels = references.shape[1]
    if "chan_names" in file:
        names = ["".join(map(chr, np.asarray(file[ref]).ravel())) for ref in np.asarray(file["chan_names"]).ravel()]
        if len(names) != channels:
            raise ValueError(f"chan_names names {len(names)} channels, spikes has {channels}")
    else:
        names = [AREA] * channels
    chosen = [i for i, name in enumerate(names) if name.startswith(AREA)]
    if len(chosen) != CHANNELS:
        raise ValueError(f"{len(chosen)} of its {channels} channels are in {AREA}; valid: {CHANNELS}")
    return [np.concatenate([_times(file[ref]) for ref in references[:, i]]) for i in chosen]


def _times(stored: Any) -> Array:
    """Read the spike times of one unit. An empty MATLAB entry holds its dimensions instead of times."""
    if stored.attrs.get("MATLAB_empty", 0) or stored.dtype.kind != "f":
        return np.zeros(0)
    return np.asarray(stored, np.float64).ravel()


def _counts(times: Array, edges: Array) -> Indices:
    """Count the spikes in each bin, (T,). Spikes outside all bins are dropped."""
    bins = len(edges) - 1
    of = np.searchsorted(edges, times, side="right") - 1
    return np.bincount(of[(of >= 0) & (of < bins)], minlength=bins)


def _no_overlap(spikes: list[Array], edges: Array) -> str:
    every = np.concatenate(spikes)
    recorded = f"spikes from {every.min():.1f} to {every.max():.1f} s" if every.size else "no spikes at all"
    return f"no overlap of spikes and behaviour: {recorded}, behaviour from {edges[0]:.1f} to {edges[-1]:.1f} s"
