"""Footers of Parquet files, read, changed and written back: what a hostile one claims, no library will write.

Thrift's compact protocol, as far as a footer needs it. A struct is a dict of field number -> (kind, value).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
Struct = dict[int, tuple[int, Any]]


def rewrite(path: Path, change: Callable[[Struct], None], more: Callable[[], bytes] = lambda: b"") -> None:
    """Change a file's footer (`FileMetaData` of the Parquet format: 2 schema, 3 num_rows, 4 row_groups, 5 metadata).

    Args:
        path: the file.
        change: what to do to the footer.
        more: returns bytes to put before it; called after `change`.
    """
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer, _ = read_struct(data[-8 - size : -8], 0)
    change(footer)
    new = written(footer)
    path.write_bytes(data[: -8 - size] + more() + new + len(new).to_bytes(4, "little") + b"PAR1")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _to_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _value(data: bytes, at: int, kind: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):
        return None, at
    if kind == BYTE:
        return data[at], at + 1
    if kind in (I16, I32, I64):
        value, at = _varint(data, at)
        return (value >> 1) ^ -(value & 1), at
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    if kind == BINARY:
        size, at = _varint(data, at)
        return data[at : at + size], at + size
    if kind == STRUCT:
        return read_struct(data, at)
    assert kind == LIST, kind
    size, of = data[at] >> 4, data[at] & 15
    at += 1
    if size == 15:
        size, at = _varint(data, at)
    items = []
    for _ in range(size):
        if of in (TRUE, FALSE):
            items.append(data[at])
            at += 1
        else:
            item, at = _value(data, at, of)
            items.append(item)
    return (of, items), at


def read_struct(data: bytes, at: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while data[at]:
        step, kind = data[at] >> 4, data[at] & 15
        at += 1
        if step:
            number += step
        else:
            long, at = _varint(data, at)
            number = (long >> 1) ^ -(long & 1)
        fields[number] = kind, None
        value, at = _value(data, at, kind)
        fields[number] = kind, value
    return fields, at + 1


def _to_bytes(kind: int, value: Any) -> bytes:
    if kind in (TRUE, FALSE):
        return b""
    if kind == BYTE:
        return bytes([value])
    if kind in (I16, I32, I64):
        return _to_varint(value * 2 if value >= 0 else -value * 2 - 1)
    if kind == DOUBLE:
        return bytes(value)
    if kind == BINARY:
        return _to_varint(len(value)) + value
    if kind == STRUCT:
        return written(value)
    of, items = value
    head = bytes([len(items) << 4 | of]) if len(items) < 15 else bytes([0xF0 | of]) + _to_varint(len(items))
    return head + b"".join(bytes([i]) if of in (TRUE, FALSE) else _to_bytes(of, i) for i in items)


def written(fields: Struct) -> bytes:
    out, last = bytearray(), 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _to_bytes(I16, number)
        out += _to_bytes(kind, value)
        last = number
    return bytes([*out, 0])
