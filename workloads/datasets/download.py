"""Downloads with a checksum that resume after an interruption.

Pooch skips files that exist, compares checksums and moves only complete files into place. It cannot resume a partial
file, so the downloader is ours. `NAME.part` beside the file holds the bytes so far, and the next request asks for the
rest (RFC 9110, Sec. 14.2). A server without range requests sends the whole file again.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHUNK = 2**16
TIMEOUT_S = 60.0
"""Longest wait for the next byte from the server."""
SAY_EVERY = 64 * 2**20

Say = Callable[[str], None]


def download(url: str, path: Path, checksum: str | None, say: Say = lambda line: None) -> Path:
    """Download `url` to the file `path`, unless it exists with this checksum.

    Args:
        url: http or https.
        path: the file to write.
        checksum: `md5:...` or `sha256:...`; None accepts any content.
        say: called with progress, one line per call.

    Raises:
        ValueError: the URL is not http(s), the checksum is wrong (the file is deleted), or the server reports an error.
        OSError: the connection broke or the file is incomplete; the next call resumes.
    """
    import pooch

    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url}: not an http or https address")
    pooch.get_logger().setLevel(logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        pooch.retrieve(url, checksum, fname=path.name, path=path.parent, downloader=_resuming(path, say))
    except ValueError as error:
        if "hash" in str(error):
            raise ValueError(
                f"{url}: wrong checksum: {_hashes(str(error), checksum)}; the file was deleted; fetch it again, or "
                "from another mirror"
            ) from error
        raise
    return path


def _hashes(message: str, checksum: str | None) -> str:
    digests = re.findall(r"\b[0-9a-f]{32,128}\b", message)
    got = [digest for digest in digests if checksum is None or digest not in checksum]
    return f"expected {checksum}, got {got[0] if got else 'another'}"


def _resuming(path: Path, say: Say) -> Callable[[str, str, Any], None]:
    """Build a downloader that resumes: a function of (address, file to write, pooch), as pooch calls it."""
    part = path.with_name(path.name + ".part")

    def fetch(url: str, output_file: str, _: Any) -> None:
        import requests

        start = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={start}-"} if start else {}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
                if answer.status_code == requests.codes.requested_range_not_satisfiable:
                    total = _total(answer)
                    if total != start:
                        part.unlink()
                        raise OSError(f"{url}: {part} had {start:,} bytes of {total}; it was deleted, fetch again")
                else:
                    _write(url, answer, part, start, say)
        except requests.RequestException as error:
            size = part.stat().st_size if part.exists() else 0
            raise OSError(f"{url}: {_reason(error)} after {size:,} bytes; the same command resumes") from error
        os.replace(part, output_file)

    return fetch


def _write(url: str, answer: Any, part: Path, start: int, say: Say) -> None:
    if answer.status_code not in (200, 206):
        raise ValueError(f"{url}: HTTP {answer.status_code} {answer.reason}; check the name and the mirror")
    resumed = answer.status_code == 206
    total = _total(answer) if resumed else int(answer.headers.get("Content-Length", -1))
    done = reported = start if resumed else 0
    if resumed:
        say(f"{part.name}: resuming at {done:,} bytes")
    with part.open("ab" if resumed else "wb") as file:
        for chunk in answer.iter_content(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if done - reported >= SAY_EVERY:
                reported = done
                say(f"{part.name}: {done / 1e6:,.0f} MB" + (f" of {total / 1e6:,.0f}" if total > 0 else ""))
    if 0 <= total != done:
        raise OSError(f"{url}: incomplete, {done:,} bytes of {total:,}; the same command resumes")


def _total(answer: Any) -> int:
    """Read the size of the whole file from a reply's `Content-Range`; -1 if absent."""
    match = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(match[1]) if match else -1


def _reason(error: Exception) -> str:
    """Describe an exception of the library requests in a few words. Its own message contains nested reprs."""
    name = type(error).__name__
    return {"ConnectionError": "no connection", "ChunkedEncodingError": "the connection broke"}.get(name, name)
