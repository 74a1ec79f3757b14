"""A pair of sessions A and B as data for a decoder, and the errors of classical decoders on this pair.

Preprocessing and classical decoders are fitted on A, and applied to B unchanged. The only exception is `ridge_refit`
(see `baselines`). If A and B are the same session, A is its first half and B its second. That is the control without
a gap between sessions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from raysweep.workloads.arrays import Array
from raysweep.workloads.bci.recordings.decoders import VALIDATED, fit_kalman, fit_wiener
from raysweep.workloads.bci.recordings.preprocess import Target, behaviour, fit, scaler
from raysweep.workloads.bci.recordings.recording import Recording, load_file, rebin, verify
from raysweep.workloads.rnn.streams.stream import Segment
from raysweep.workloads.rnn.windows import squared_errors

REFIT_S = 180.0
LATE = "b_late"


class Pair(NamedTuple):
    """The data of sessions A and B after the preprocessing that was fitted on A."""

    inputs_a: Array  # (T_A, k)
    targets_a: Array  # (T_A, 2)
    inputs_b: Array  # (T_B, k)
    targets_b: Array  # (T_B, 2)
    states_a: Array  # (T_A, 4) position and velocity, z-scored
    states_b: Array  # (T_B, 4) the same of B, with A's means and deviations
    refit: int  # bins of B in three minutes
    gap_days: int | None


class Session(NamedTuple):
    """A session, and the prepared file that contains it."""

    name: str
    digest: str | None
    path: Path
    changed_ns: int  # changes when the file is replaced


def session_at(name: str, digest: str | None, path: Path) -> Session:
    """Describe a session and its file. The file's modification time is read, to notice a replaced file."""
    return Session(name, digest, path, path.stat().st_mtime_ns)


class PairSettings(NamedTuple):
    """What the data of a pair depend on: its sessions, and the settings of `pair_of`."""

    a: Session
    b: Session
    bin_ms: int
    components: int
    target: Target
    limit: int | None
    relabel: int | None


@lru_cache(maxsize=4)
def load_pair(settings: PairSettings) -> Pair:
    """Load and preprocess a pair of sessions. A few pairs are cached: each takes megabytes.

    Raises:
        ValueError: a file has changed since the cell was planned, or a session has too few bins.
    """
    recordings = []
    for one, setting in ((settings.a, "digest_a"), (settings.b, "digest_b")):
        recording = load_file(one.path, one.name)
        verify(recording, one.digest, setting)
        recordings.append(rebin(recording, settings.bin_ms))
    return pair_of(recordings[0], recordings[1], settings.components, settings.target, settings.limit, settings.relabel)


@lru_cache(maxsize=1024)
def load_baselines(settings: PairSettings) -> Mapping[str, float]:
    """Compute the `baselines` of a pair of sessions.

    Those of many pairs are cached, as a sweep may run through all its pairs before the next method or rate.

    Raises:
        ValueError: as `load_pair`.
    """
    return baselines(load_pair(settings), settings.target)


def pair_of(
    a: Recording, b: Recording, components: int, target: Target, limit: int | None = None, relabel: int | None = None
) -> Pair:
    """Preprocess two sessions for a decoder.

    Args:
        a: the session to train on; everything is fitted on it.
        b: the session to decode afterwards. If it is the same as `a`, the session's two halves are used.
        components: number of principal components of the counts.
        target: the decoded quantity, velocity or position.
        limit: number of bins used of each session, from its start; None: all.
        relabel: seed of a permutation of B's channels; None: as recorded.

    Raises:
        ValueError: a session has too few bins.
    """
    gap = None if a.day is None or b.day is None else (b.day - a.day).days
    if a.session == b.session:
        half = a.bins // 2
        a, b = part(a, 0, half), part(a, half, a.bins)
    a, b = (part(one, 0, limit or one.bins) for one in (a, b))
    if b.bins < 3:
        raise ValueError(f"{b.bins} bins of {1000 * b.bin_width_s:g} ms in session_b = {b.session!r}; valid: 3 or more")
    counts_b = b.counts
    if relabel is not None:
        counts_b = counts_b[:, np.random.default_rng(relabel).permutation(counts_b.shape[1])]
    transform = fit(a.counts, behaviour(a, target), components)
    states_a, states_b = (
        np.concatenate([behaviour(one, "position"), behaviour(one, "velocity")], axis=1) for one in (a, b)
    )
    scale = scaler(states_a)
    return Pair(
        inputs_a=transform.inputs(a.counts),
        targets_a=transform.targets(behaviour(a, target)),
        inputs_b=transform.inputs(counts_b),
        targets_b=transform.targets(behaviour(b, target)),
        states_a=scale.transform(states_a),
        states_b=scale.transform(states_b),
        refit=round(REFIT_S / b.bin_width_s),
        gap_days=gap,
    )


def part(recording: Recording, start: int, stop: int) -> Recording:
    """Return the bins start <= t < stop of a recording."""
    return replace(
        recording,
        counts=recording.counts[start:stop],
        position_mm=recording.position_mm[start : stop + 1],
        velocity_mm_s=recording.velocity_mm_s[start:stop],
    )


def windows_a(bins: int) -> tuple[Segment, ...]:
    """Return the window `a_end`, the last tenth of session A, which has `bins` bins."""
    return (Segment("a_end", bins - max(1, bins // 10), bins),)


def windows_b(bins: int) -> tuple[Segment, ...]:
    """Return the windows `b_early`, `b_middle` and `b_late`, the thirds of session B, which has `bins` bins."""
    edges = [i * bins // 3 for i in range(4)]
    return tuple(Segment(name, *edges[i : i + 2]) for i, name in enumerate(("b_early", "b_middle", LATE)))


def coordinates(target: Target) -> slice:
    """Return the columns of a state [position; velocity] that hold the decoded quantity."""
    return slice(0, 2) if target == "position" else slice(2, 4)


def baselines(pair: Pair, target: Target) -> dict[str, float]:
    """Compute the errors of the baselines in the last third of session B (`b_late`).

    The baselines are `ridge_frozen`, a Wiener filter fitted on A; `ridge_refit`, a Wiener filter fitted on B's first
    three minutes; `kalman_frozen`, a Kalman filter fitted on A; and `mean`, A's mean.

    Returns:
        `NAME_b_late` -> mean squared error of z-scored targets. `ridge_refit` is absent if B is too short.
    """
    late = windows_b(len(pair.inputs_b))[-1]
    columns = coordinates(target)
    guesses = {
        "ridge_frozen": fit_wiener(pair.inputs_a, pair.targets_a).predict(pair.inputs_b),
        "kalman_frozen": fit_kalman(pair.inputs_a, pair.states_a).predict(pair.inputs_b)[:, columns],
        "mean": np.zeros_like(pair.targets_b),
    }
    if VALIDATED <= pair.refit <= late.start:
        start = slice(0, pair.refit)
        guesses["ridge_refit"] = fit_wiener(pair.inputs_b[start], pair.targets_b[start]).predict(pair.inputs_b)
    return {
        f"{name}_{LATE}": float(squared_errors(predictions, pair.targets_b)[late.start : late.stop].mean())
        for name, predictions in guesses.items()
    }
