"""The published sessions of the data set `indy`: names, URLs, checksums, and digests of prepared files."""

from __future__ import annotations

from typing import NamedTuple

RECORD = "3854034"
PUBLISHED = f"https://zenodo.org/records/{RECORD}/files"
"""URL of the published files: version 2 of the Zenodo record (26 May 2020). Version 1 is record 583331."""
DOI = f"10.5281/zenodo.{RECORD}"


class Known(NamedTuple):
    """The digest of a prepared file in bins of 64 ms, and its number of bins."""

    digest: str
    bins: int


KNOWN = {
    "20160407_02": Known("c2af93c54f77b981", 12777),
    "20160411_01": Known("e6f4c2913abb9f48", 14893),
    "20160411_02": Known("6ad73e0ea3dcc876", 13749),
    "20160419_01": Known("5dd266215e4be945", 8187),
    "20160624_03": Known("7dae139bbe459808", 7812),
    "20160630_01": Known("59280c7a750e1331", 22863),
    "20170123_02": Known("cbc9b510a74ee7f0", 9527),
    "20170124_01": Known("a92ebabc572061e4", 9218),
    "20170127_03": Known("f2d74b18c3988fde", 11461),
    "20170131_02": Known("00e01e2a3430163b", 12749),
}
"""The prepared files of our results, by session. With their digests, sweeps can be planned without the files."""

ANOTHER_ORDER = frozenset({"20160630_01", "20170124_01"})
"""Sessions of `KNOWN` whose channels are in another order than their neighbours' (`recordings.order`)."""

MD5 = {
    "20160622_01": "c33d5fff31320d709d23fe445561fb6e",
    "20160630_01": "197413a5339630ea926cbd22b8b43338",
    "20161005_06": "5ea300952642e0fc54245144499db9bb",
    "20170124_01": "ea1721fefe443420a356b4f93f5bb731",
    "20170127_03": "3d77802c59e3e4ebe6778326cfc68c0a",
    "20170131_02": "2790b1c869564afaa7772dbf9e42d784",
    "loco_20170210_03": "4cae63b58c4cb9c8abd44929216c703b",
    "loco_20170215_02": "739b70762d838f3a1f358733c426bb02",
    "loco_20170301_05": "47342da09f9c950050c9213c3df38ea3",
}
"""Session -> MD5 of its original file. For other sessions, Zenodo is queried."""

_DAYS = {
    "201604": "07_02 11_01 11_02 18_01 19_01 20_01 26_01",
    "201606": "22_01 24_03 27_01 30_01",
    "201609": "15_01 16_01 21_01 27_04 27_06 30_02 30_05",
    "201610": "05_06 06_02 07_02 11_03 13_03 14_04 17_02 24_03 25_04 26_03 27_03",
    "201612": "06_02 07_02 12_02 20_02",
    "201701": "23_02 24_01 27_03 31_02",
}
RELEASE = (*(month + day for month, days in _DAYS.items() for day in days.split()), *(s for s in MD5 if "loco" in s))
"""Published sessions: all 37 of monkey Indy, by date, and the three of monkey Loco's ten whose names we know."""


def original_name(session: str) -> str:
    """Return the name of a session's file, as published."""
    return f"{session if session.startswith('loco_') else f'indy_{session}'}.mat"


def date_of(session: str) -> str:
    """Read a session's date from its name, as `YYYY-MM-DD`; "" if the name has no date."""
    digits = session.removeprefix("loco_")[:8]
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:]}" if len(digits) == 8 and digits.isdigit() else ""
