"""Downloads that are checked and that go on where an interrupted one stopped.

Pooch keeps what is there, compares checksums and puts a file in its place only when it is whole. It cannot go on
with half a file, so its downloader is ours: bytes are kept in `NAME.part` beside the file, and the next request asks
for the rest of them (RFC 9110, Sec. 14.2). A server without ranges sends all of it again.
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
"""Without a byte from the server."""
SAY_EVERY = 64 * 2**20

Say = Callable[[str], None]


def download(url: str, path: Path, checksum: str | None, say: Say = lambda line: None) -> Path:
    """The file at `path`, fetched unless it is there with this checksum.

    Args:
        url: http or https.
        path: where it shall lie.
        checksum: `md5:...` or `sha256:...`; None: any content will do.
        say: is told of the progress, a line at a time.

    Raises:
        ValueError: another scheme, a wrong checksum (the file is not kept), or the server's refusal.
        OSError: the connection broke, or the file came short; the bytes so far are kept.
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
                f"{url}: what came is not what was published: {_hashes(str(error), checksum)}; nothing was kept; fetch "
                "it again, or from another place"
            ) from error
        raise
    return path


def _hashes(message: str, checksum: str | None) -> str:
    found = re.findall(r"\b[0-9a-f]{32,128}\b", message)
    got = [digest for digest in found if checksum is None or digest not in checksum]
    return f"expected {checksum}, got {got[0] if got else 'another'}"


def _resuming(path: Path, say: Say) -> Callable[[str, str, Any], None]:
    """A downloader as pooch calls it: (address, file to write, pooch)."""
    part = path.with_name(path.name + ".part")

    def fetch(url: str, output_file: str, _: Any) -> None:
        import requests

        kept = part.stat().st_size if part.exists() else 0
        headers = {"Range": f"bytes={kept}-"} if kept else {}
        try:
            with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as answer:
                if answer.status_code == requests.codes.requested_range_not_satisfiable:
                    whole = _total(answer)
                    if whole != kept:
                        part.unlink()
                        raise OSError(f"{url}: {part} holds {kept:,} bytes of {whole}; removed, fetch again")
                else:
                    _write(url, answer, part, kept, say)
        except requests.RequestException as error:
            have = part.stat().st_size if part.exists() else 0
            raise OSError(
                f"{url}: {_reason(error)}; {have:,} bytes are kept, the same command goes on from there"
            ) from error
        os.replace(part, output_file)

    return fetch


def _write(url: str, answer: Any, part: Path, kept: int, say: Say) -> None:
    if answer.status_code not in (200, 206):
        raise ValueError(f"{url}: the server says {answer.status_code} {answer.reason}; is the name right?")
    going_on = answer.status_code == 206
    whole = _total(answer) if going_on else int(answer.headers.get("Content-Length", -1))
    done = kept if going_on else 0
    said = done
    if going_on:
        say(f"{part.name}: going on from {done:,} bytes")
    with part.open("ab" if going_on else "wb") as file:
        for chunk in answer.iter_content(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if done - said >= SAY_EVERY:
                said = done
                say(f"{part.name}: {done / 1e6:,.0f} MB" + (f" of {whole / 1e6:,.0f}" if whole > 0 else ""))
    if 0 <= whole != done:
        raise OSError(f"{url}: cut short, {done:,} bytes of {whole:,}; the same command goes on from there")


def _total(answer: Any) -> int:
    """Of a `Content-Range`; -1 where the server does not say."""
    found = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _reason(error: Exception) -> str:
    """What broke, without the reprs of the libraries below."""
    name = type(error).__name__
    return {"ConnectionError": "no connection", "ChunkedEncodingError": "the connection broke"}.get(name, name)
