"""The data set `indy`: sessions are downloaded, binned into prepared files, and listed with their channel order.

Files in the data folder: `indy/original/indy_SESSION.mat` as published, `indy/indy_SESSION.npz` in bins of 64 ms,
`indy/indy_SESSION_20ms.npz` in bins of 20 ms.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from raysweep.workloads.bci.recordings.order import neighbours
from raysweep.workloads.bci.recordings.original import bin_original
from raysweep.workloads.bci.recordings.recording import USUAL_MS, load_file, prepared_name, session_of
from raysweep.workloads.bci.recordings.sessions import DOI, MD5, PUBLISHED, RELEASE, original_name
from raysweep.workloads.datasets.dataset import Dataset, Listing
from raysweep.workloads.datasets.download import Say, download
from raysweep.workloads.registry import unknown_name


def fetch(
    folder: Path, say: Say, sessions: str | None = None, bin_ms: int = USUAL_MS, mirror: str | None = None
) -> Sequence[Path]:
    """Download the original files of sessions, check them, and bin them into prepared files.

    Args:
        folder: the data folder.
        say: called with progress, one line per call.
        sessions: names of sessions, separated by commas, or "all".
        bin_ms: width of a bin, milliseconds.
        mirror: URL of a folder with copies of the published files; None: Zenodo.

    Returns:
        The prepared files.

    Raises:
        ValueError: no session is named or one is unknown, a checksum is wrong, or the content is invalid.
        OSError: the connection broke (the next call resumes), or Zenodo does not return its checksums.
    """
    names, source = _names(sessions), (mirror or PUBLISHED).rstrip("/")
    files = []
    for session in names:
        prepared = folder / "indy" / prepared_name(session, bin_ms)
        if prepared.is_file():
            load_file(prepared, session)
            say(f"{prepared.name}: already present")
        else:
            original = folder / "indy" / "original" / original_name(session)
            say(f"{original.name}: from {source}")
            download(f"{source}/{original.name}", original, checksum(session, mirror, say), say)
            prepare(original, prepared, session, bin_ms)
            say(f"{prepared.name}: bins of {bin_ms} ms")
        files.append(prepared)
    return files


def prepare(original: Path, prepared: Path, session: str, bin_ms: int) -> None:
    """Bin the original file of a session into a prepared file, which is moved into place once it is complete."""
    arrays = bin_original(original, session, bin_ms)
    partial = prepared.with_name(prepared.name + ".part")
    with partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    load_file(partial, session)  # validate now, not in a cell months later
    os.replace(partial, prepared)


def checksum(session: str, mirror: str | None, say: Say) -> str | None:
    """Return the checksum of a session's published file; None if it is unknown and a mirror is used.

    Raises:
        OSError: Zenodo does not return its checksums.
    """
    if session in MD5:
        return f"md5:{MD5[session]}"
    if mirror:
        say(f"{original_name(session)}: no known checksum; accepted unchecked")
        return None
    return published_checksums()[original_name(session)]


def published_checksums() -> dict[str, str]:
    """Download the published files' checksums from Zenodo, by file name. Raises OSError if that fails."""
    import pooch
    import requests

    record = pooch.create(path=".", base_url=f"doi:{DOI}/", registry=None)
    try:
        record.load_registry_from_doi()
    except (requests.RequestException, ValueError) as error:
        raise OSError(f"doi:{DOI}: cannot get the checksums from Zenodo: {type(error).__name__}") from error
    checksums: dict[str, str] = record.registry
    return checksums


def listing(folder: Path) -> Listing:
    """List the sessions in a data folder, by date.

    Raises:
        ValueError: a file is not a prepared recording.
    """
    paths = {path.name: path for place in (folder / "indy", folder) for path in place.glob("indy_*.npz")}
    recordings = [load_file(paths[name], session_of(paths[name])) for name in sorted(paths)]
    comparisons = neighbours([recording for recording in recordings if recording.usual])
    rows: list[dict[str, float | int | str | None]] = []
    for recording in recordings:
        comparison = comparisons.get(recording.session) if recording.usual else None
        rates = recording.counts.mean(0) / recording.bin_width_s
        rows.append(
            {
                "session": recording.session,
                "date": recording.date,
                "minutes": round(recording.bins * recording.bin_width_s / 60, 1),
                "bin_ms": round(1000 * recording.bin_width_s),
                "bins": recording.bins,
                "channels": len(rates),
                "silent": int(np.count_nonzero(rates == 0)),
                "rate_hz": round(float(rates.mean()), 1),
                "rate_correlation": None if comparison is None else round(comparison.rate_correlation, 2),
                "transfer_r2": None if comparison is None else round(comparison.transfer, 2),
                "order": "" if comparison is None else "another" if comparison.another_order else "as its neighbours'",
            }
        )
    return Listing(rows, _notes(rows))


def _notes(rows: Sequence[dict[str, float | int | str | None]]) -> list[str]:
    notes = []
    if any(row["order"] for row in rows):
        notes.append(
            "rate_correlation: rank correlation of the channels' rates; transfer_r2: velocity R2 of a ridge decoder "
            "fitted on another session, each z-scored by itself; both: the best over the four nearest sessions present."
        )
    odd = [str(row["session"]) for row in rows if row["order"] == "another"]
    if odd:
        notes.append(
            f"channels in a different order from the neighbouring sessions: {', '.join(odd)}; a pair with such a "
            "session measures relabelling as well as drift"
        )
    return notes


def _names(sessions: str | None) -> Sequence[str]:
    if sessions == "all":
        return RELEASE
    names = [name.strip() for name in (sessions or "").split(",") if name.strip()]
    if not names:
        raise ValueError(
            f"which sessions? --sessions 20160624_03,20170131_02, for example, or all ({len(RELEASE)}, more than 20 GB)"
            f"; known: {', '.join(RELEASE)}"
        )
    for name in names:
        if name not in RELEASE:
            raise ValueError(unknown_name("session", name, RELEASE))
    return names


DATASET = Dataset(
    title="reaching of a macaque, 96 channels of M1 (O'Doherty, Cardoso, Makin and Sabes 2017)",
    source=f"https://doi.org/{DOI}, CC BY 4.0",
    fetch=fetch,
    listing=listing,
    options=("sessions", "bin_ms", "mirror"),
)
