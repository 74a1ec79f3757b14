"""A workload's source as it is recorded: its files, the function, and how to read them. Plain data."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

MAX_FILE, MAX_TOTAL = 2**20, 16 * 2**20
"""Bytes of a file, and of all files, whose content is recorded; of others only the digest is."""


@dataclass(frozen=True)
class SourceFile:
    """A file.

    Args:
        name: its name in the source digest.
        path: its path when the source is unpacked, with / between names.
        module: the full name of the Python module in it; "" for other files, which count as they are.
        sha256: digest of its content.
        content: None if it was too large to record.
    """

    name: str
    path: str
    module: str
    sha256: str
    content: bytes | None

    def text(self) -> str:
        """Its content as text, or a line that says what it is."""
        if self.content is None:
            return f"(not recorded: SHA-256 {self.sha256})\n"
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError:
            return f"({len(self.content):,} bytes that are not text: SHA-256 {self.sha256})\n"


@dataclass(frozen=True)
class Source:
    """The source of a workload.

    Args:
        workload: the workload's name.
        version: its version.
        module: the module of its function; "" for a program.
        roots: names in the module on which a result depends: the function and `Config`.
        files: its files, in the order of the digest.
        mains: modules that run as scripts.
        settings: the sweep's `metrics`, which enter the digest of a program, as JSON.
        inputs: the files that the sweep names in `inputs`.
    """

    workload: str
    version: str
    module: str
    roots: tuple[str, ...]
    files: tuple[SourceFile, ...]
    mains: tuple[str, ...] = ()
    settings: str = ""
    inputs: tuple[SourceFile, ...] = ()

    @cached_property
    def _by_path(self) -> dict[str, SourceFile]:
        return {file.path: file for file in (*self.files, *self.inputs)}

    def file(self, path: str) -> SourceFile | None:
        """The file of this path."""
        return self._by_path.get(path)

    def digest(self) -> str | None:
        """The source digest, as 16 hexadecimal characters; None if a content that it needs was not recorded."""
        contents = {file.name: file.content for file in self.files}
        if None in contents.values():
            return None
        code = digest_of({name: content or b"" for name, content in contents.items()})
        if not self.module:
            code = program_digest(code if self.files else self.version, self.settings)
        return with_inputs(code, inputs_digest({file.path: file.sha256 for file in self.inputs}))


def digest_of(contents: Mapping[str, bytes]) -> str:
    """Digest of source files, given as name -> content, as 16 hexadecimal characters."""
    digest = hashlib.sha256()
    for name, text in contents.items():
        digest.update(name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:16]


def program_digest(code: str, settings: str) -> str:
    """Digest of a program: of the digest of its files (or its version, if it has none) and the sweep's `metrics`."""
    return hashlib.sha256((code + settings).encode()).hexdigest()[:16]


def inputs_digest(inputs: Mapping[str, str]) -> str:
    """Digest of the files that a sweep names in `inputs`, path -> SHA-256; "" if there are none."""
    return hashlib.sha256(json.dumps(sorted(inputs.items())).encode()).hexdigest()[:16] if inputs else ""


def with_inputs(code: str, inputs: str) -> str:
    """The source digest of code that reads files with this digest (`inputs_digest`); without any, that of the code."""
    return hashlib.sha256(f"{code} {inputs}".encode()).hexdigest()[:16] if inputs else code


def source_file(name: str, path: str, content: bytes, module: str = "") -> SourceFile:
    """A file of a source, with its content unless it is too large."""
    digest = hashlib.sha256(content).hexdigest()
    return SourceFile(name, path, module, digest, content if len(content) <= MAX_FILE else None)


def module_name(path: str) -> str:
    """The full name of the module in a file of this path; "" if it is not Python."""
    if not path.endswith(".py"):
        return ""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def encoded(source: Source) -> bytes:
    """The source as JSON. Equal sources have equal texts."""
    total = 0
    document = asdict(source)
    for file in (*document["files"], *document["inputs"]):
        content = file.pop("content")
        total += len(content or b"")
        if content is not None and total <= MAX_TOTAL:
            try:
                file["text"] = content.decode("utf-8")
            except UnicodeDecodeError:
                file["base85"] = base64.b85encode(content).decode()
    return json.dumps(document, sort_keys=True).encode()


def decoded(data: bytes) -> Source:
    """Read a source as `encoded` wrote it.

    Raises:
        ValueError: it is no such document, or the content of a file differs from its digest.
    """
    document = json.loads(data)
    try:
        return Source(
            workload=_text(document["workload"]),
            version=_text(document["version"]),
            module=_text(document["module"]),
            roots=tuple(map(_text, document["roots"])),
            files=tuple(map(_file, document["files"])),
            mains=tuple(map(_text, document["mains"])),
            settings=_text(document["settings"]),
            inputs=tuple(map(_file, document["inputs"])),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _file(entry: Mapping[str, Any]) -> SourceFile:
    content = entry["text"].encode() if "text" in entry else None
    if "base85" in entry:
        content = base64.b85decode(entry["base85"])
    if content is not None and hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ValueError(f"the content of {entry['name']!r} differs from its digest")
    name, path, module, digest = (_text(entry[key]) for key in ("name", "path", "module", "sha256"))
    return SourceFile(name, path, module, digest, content)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not text")
    return value
