"""Scalars of TensorBoard event files, without TensorBoard.

An event file is a sequence of records: length (8 bytes, little endian), checksum of the length (4), data, checksum of
the data (4). The data is a protocol buffer `Event`, of which these fields are read:

    Event    2: step (varint)  5: summary
    Summary  1: value (repeated)
    Value    1: tag  2: simple_value (float)  8: tensor
    Tensor   1: dtype (1: float, 2: double)  4: content (bytes)  5: float_val (repeated)  6: double_val (repeated)

Checksums are not verified. A file that ends within a record, as after a kill, is read up to there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

_MAX_RECORD = 2**26
_FLOAT, _DOUBLE = 1, 2


def read_events(path: Path) -> Iterator[tuple[str, int, float]]:
    """Yield the scalars of an event file as (tag, step, value)."""
    with path.open("rb") as file:
        while len(head := file.read(12)) == 12:
            size = int.from_bytes(head[:8], "little")
            if size > _MAX_RECORD:
                return
            data = file.read(size + 4)
            if len(data) < size + 4:
                return
            try:
                yield from _scalars(data[:size])
            except (IndexError, ValueError, struct.error):  # damaged
                return


def _scalars(event: bytes) -> Iterator[tuple[str, int, float]]:
    fields = list(_fields(event))
    step = next((value for number, value in fields if number == 2 and isinstance(value, int)), 0)
    step = step - 2**64 if step >= 2**63 else step
    for number, summary in fields:
        if number != 5 or not isinstance(summary, bytes):
            continue
        for kind, item in _fields(summary):
            if kind == 1 and isinstance(item, bytes):
                value = dict(_fields(item))
                number_of = _value(value)
                if number_of is not None and isinstance(tag := value.get(1), bytes):
                    yield tag.decode("utf-8", errors="replace"), step, number_of


def _value(value: dict[int, int | bytes]) -> float | None:
    if isinstance(simple := value.get(2), bytes):
        return float(struct.unpack("<f", simple)[0])
    if not isinstance(tensor := value.get(8), bytes):
        return None
    fields = dict(_fields(tensor))
    for kind, form, packed in ((_FLOAT, "<f", 5), (_DOUBLE, "<d", 6)):
        if fields.get(1) == kind:
            data = fields.get(4) or fields.get(packed)
            return (
                float(struct.unpack(form, data)[0])
                if isinstance(data, bytes) and len(data) == struct.calcsize(form)
                else None
            )
    return None


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protocol buffer as (field number, value). The value is an integer or the field's bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        size = {1: 8, 5: 4}.get(kind)
        if size is None:
            if kind != 2:
                raise ValueError(f"unknown wire type {kind}")
            size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a field ends after its message")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
