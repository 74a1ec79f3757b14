"""Sweep files that build on another one: `base = "other.toml"`. Merges their keys into one self-contained text.

A file overrides its base. Tables such as `[config]` are merged key by key. `[[grid]]` and `[[question]]` blocks, and
all other keys, replace those of the base. `name` and `title` of the base are dropped. If a block of the file has a
setting that is in the base's `[config]`, this setting moves from `[config]` into the file's other blocks.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.sweep.grammar.near_misses import toml_hint
from raysweep.orchestrator.sweep.grammar.settings import flattened
from raysweep.orchestrator.sweep.programs.program_spec import PROGRAM_KEYS
from raysweep.orchestrator.text import short_repr

MAX_BASES = 10
"""Maximum number of files that build on each other, including the first."""
_OWN = ("name", "title", "base")
_WHAT = ("workload", "command", "script")


def parsed(text: str, where: str) -> dict[str, Any]:
    """Parse the text of a sweep file, and return its tables.

    Raises:
        InputError: the text is not TOML; `where` names the file in the message.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}{toml_hint(text, error)}") from None
    except ValueError:
        raise InputError(f"{where}: a number has thousands of digits; integers of a sweep have 64 bits") from None
    except RecursionError:
        raise InputError(f"{where}: nested too deeply to be a sweep") from None


def read_file(path: Path) -> str:
    """Read a sweep file, and return its text with its bases merged into it; without a base, the text of the file.

    Raises:
        OSError, UnicodeDecodeError: the file cannot be read.
        InputError: the file is not TOML, or a base is missing or invalid.
    """
    return with_bases(path.read_text(encoding="utf-8"), path)


def with_bases(text: str, path: Path | None) -> str:
    """Return the text of a sweep with its bases merged into it; without a base, the text itself.

    Args:
        text: the text.
        path: the file that contains the text. Paths of bases are relative to its folder; None: to the current folder.

    Raises:
        InputError: the text is not TOML, or a base is missing or invalid.
    """
    where = str(path) if path else "sweep"
    raw = parsed(text, where)
    if "base" not in raw:
        return text
    name = raw["base"]
    merged, _ = _merged(raw, where, path.parent if path else Path.cwd(), [path.resolve()] if path else [])
    return f"# merged with base {json.dumps(name)}\n{to_toml(merged)}"


def _merged(raw: dict[str, Any], where: str, folder: Path, chain: list[Path]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two versions of the file merged with its bases.

    The first has moved settings from `[config]` of the bases into the file's blocks (`_moved`). The second has all
    settings of the bases in `[config]`. A file with blocks of its own is merged with the second version of its base,
    since its blocks replace those of the base.
    """
    name = raw.pop("base")
    if not isinstance(name, str) or not name.endswith(".toml") or "\0" in name:
        raise InputError(f'{where}: base: {short_repr(name)} is not the path of a sweep file, such as "base.toml"')
    path = Path(folder, name)
    try:
        text, resolved = path.read_text(encoding="utf-8"), path.resolve()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not UTF-8 text"
        raise InputError(f"{where}: base: {path}: {reason}; the path is relative to the sweep file") from None
    if resolved in chain:
        shown = " -> ".join(each.name for each in [*chain, resolved])
        raise InputError(f"{where}: base: the files build on each other in a circle: {shown}; remove one base")
    if len(chain) >= MAX_BASES:
        raise InputError(f"{where}: base: more than {MAX_BASES} files build on each other")
    lower = whole = parsed(text, str(path))
    if "base" in lower:
        lower, whole = _merged(lower, str(path), path.parent, [*chain, resolved])
    blocks = raw.get("grid")
    if isinstance(blocks, list) and isinstance(whole.get("config"), dict):
        return _over(*_moved(whole, raw)), _over(whole, raw)
    return _over(lower, raw), _over(whole, raw)


def _over(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: value for key, value in lower.items() if key not in _OWN}
    if any(key in upper for key in _WHAT):
        left_out = {*_WHAT, *(PROGRAM_KEYS if "workload" in upper else ())}
        result = {key: value for key, value in result.items() if key not in left_out}
    return _deep(result, upper)


def _moved(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Move settings from the base's `[config]` into blocks of the file.

    A setting that any block has is moved into all blocks that do not have it.

    Returns:
        The base and the file, both changed.
    """
    tables = [block for block in upper["grid"] if isinstance(block, dict)]
    varied = {name for block in tables for name in _varied(block)}
    quoted = {key for table in tables for key in table}
    blocks = []
    for block in upper["grid"]:
        if isinstance(block, dict):
            own = _varied(block)
            for name, value in flattened(lower["config"]).items():
                if name in varied and name not in own:
                    block = _with_setting(block, [name] if name in quoted else name.split("."), value)
        blocks.append(block)
    return {**lower, "config": _without(lower["config"], varied)}, {**upper, "grid": blocks}


def _with_setting(block: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """Return the block with one more setting.

    A value that is a list is put into a list of its own, since a list in a block means several values. `path` is the
    name of the setting, split at its dots.
    """
    key, *rest = path
    inner = block.get(key, {})
    if not rest:
        return {**block, key: [value] if isinstance(value, list) else value}
    return {**block, key: _with_setting(inner, rest, value)} if isinstance(inner, dict) else dict(block)


def _varied(block: Mapping[str, Any]) -> set[str]:
    """Return the names of the settings in a block, and of the tables around them: for `a.b.c` also `a.b` and `a`."""
    names = set(flattened(block))
    return names | {".".join(name.split(".")[:i]) for name in names for i in range(1, name.count(".") + 1)}


def _without(config: Mapping[str, Any], names: set[str], prefix: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            if inner := _without(value, names, f"{name}."):
                kept[key] = inner
        elif name not in names:
            kept[key] = value
    return kept


def _deep(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(lower)
    for key, value in upper.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _deep(result[key], value) if both else value
    return result


def to_toml(table: Mapping[str, Any]) -> str:
    """Encode a table as TOML, with each key on one line."""
    return "".join(f"{_text(key)} = {toml_value(value)}\n" for key, value in table.items())


def toml_value(value: Any) -> str:
    """Encode a value as TOML. The encoding is that of JSON, except for tables and infinite numbers.

    Raises:
        TypeError: TOML has no such value.
    """
    value = value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_text(str(key))} = {toml_value(item)}' for key, item in value.items())}}}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, bool | int | str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    if hasattr(value, "isoformat"):  # a date of TOML, which is no setting
        return str(value.isoformat())
    raise TypeError(f"{short_repr(value)} is neither a number, a text, a truth value, a list nor a table of these")


def _text(key: str) -> str:
    return toml_value(key)
