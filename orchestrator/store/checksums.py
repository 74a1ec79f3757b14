"""Checksums (CRC-32) and name in a segment's footer. They reveal any damage before the file is interpreted.

Parquet's own page checksums cover neither page headers nor the footer, and polars does not verify them. A
segment's footer therefore contains two checksums. One covers all bytes before the footer. The other covers the
footer, with zeros in place of its own digits. The footer also contains the segment's name, which reveals
exchanged files. Segments of versions before 0.1.0 have no checksums and no name.
"""

from __future__ import annotations

import re
import zlib

KEY = b"raysweep.crc32"
MARK = b"raysweep.checksums"
"""Key in the schema of segments with checksums. If a file has this key but no checksums, they have been erased."""
BLANK = b"pages=00000000 footer=00000000"
"""Placeholder for the checksums. It is the value of `KEY` in a footer until `fill_in` has computed them."""
NAME = b"raysweep.name"
BLANK_NAME = b"EEEEEEEE-NNNNNNNN.parquet"
"""Placeholder for the file's name. The value of `NAME` in a footer is the folder, a slash, and the file's name."""
_ENTRY = re.compile(re.escape(KEY) + rb"\x18\x1epages=([0-9a-f]{8}) footer=([0-9a-f]{8})")
"""The checksums as Parquet encodes them: the key, a field header, the length (30), and the value."""


def fill_in(segment: memoryview, name: str) -> None:
    """Write the file's name and both checksums into the footer of an encoded segment."""
    start = len(segment) - 8 - int.from_bytes(segment[-8:-4], "little")
    footer = bytes(segment[start:])
    place = start + footer.rindex(BLANK_NAME)
    segment[place : place + len(BLANK_NAME)] = name.encode()
    value = start + footer.rindex(BLANK)
    segment[value + 6 : value + 14] = b"%08x" % zlib.crc32(segment[:start])
    segment[value + 22 : value + 30] = b"%08x" % zlib.crc32(segment[start:])


def check_footer(footer: bytes) -> int | None:
    """Verify a footer's checksum. `footer` also includes the bytes after it, to the end of the file.

    Returns:
        The checksum of all bytes before the footer; None if an older version wrote the segment.

    Raises:
        ValueError: the footer is damaged.
    """
    entries = list(_ENTRY.finditer(footer))
    if not entries:
        if KEY in footer or BLANK[:6] in footer:
            raise ValueError("the checksums in its footer are damaged")
        return None
    pages, own = entries[-1].groups()
    if zlib.crc32(footer[: entries[-1].start(2)] + b"0" * 8 + footer[entries[-1].end(2) :]) != int(own, 16):
        raise ValueError("its footer is damaged (checksum mismatch)")
    return int(pages, 16)
