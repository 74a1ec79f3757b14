"""A workload's source as the store records it: its files, the name of its function, and its digest. Plain data."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

MAX_FILE, MAX_TOTAL = 2**20, 16 * 2**20
"""Maximum bytes of content to record: of one file, and of all files. Beyond that, only digests are recorded."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a recorded source.

    Args:
        name: its name in the source digest.
        path: its relative path in the unpacked source, with / as separator.
        module: the full name of the Python module in it; "" for any other file. Such a file is compared byte by byte.
        sha256: digest of its content.
        content: its content; None if it was too large to record.
    """

    name: str
    path: str
    module: str
    sha256: str
    content: bytes | None

    def text(self) -> str:
        """Return the content as text, or one line that describes it if it is binary or was not recorded."""
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
        version: the workload's version.
        module: the module of its function; "" for a program.
        roots: names in the module on which a result depends: the function and `Config`.
        files: its files, in the order of the digest.
        mains: modules that run as scripts.
        settings: the sweep's `metrics` as JSON, which are part of a program's digest.
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
        """Return the source file or input file with this path; None if there is none."""
        return self._by_path.get(path)

    def digest(self) -> str | None:
        """Return the source digest, 16 hexadecimal characters; None if the content of a file was not recorded."""
        contents = {file.name: file.content for file in self.files}
        if None in contents.values():
            return None
        code = digest_of({name: content or b"" for name, content in contents.items()})
        if not self.module:
            code = program_digest(code if self.files else self.version, self.settings)
        return with_inputs(code, inputs_digest({file.path: file.sha256 for file in self.inputs}))


def digest_of(contents: Mapping[str, bytes]) -> str:
    """Return the digest of source files, 16 hexadecimal characters; `contents` maps names to contents."""
    digest = hashlib.sha256()
    for name, text in contents.items():
        digest.update(name.encode() + b"\0" + text + b"\0")
    return digest.hexdigest()[:16]


def program_digest(code: str, settings: str) -> str:
    """Return the digest of a program.

    Args:
        code: the digest of its files; its version if it has no files.
        settings: the sweep's `metrics` as JSON.
    """
    return hashlib.sha256((code + settings).encode()).hexdigest()[:16]


def inputs_digest(inputs: Mapping[str, str]) -> str:
    """Return the digest of the files that a sweep names in `inputs`, given as path -> SHA-256; "" if there are none."""
    return hashlib.sha256(json.dumps(sorted(inputs.items())).encode()).hexdigest()[:16] if inputs else ""


def with_inputs(code: str, inputs: str) -> str:
    """Return the source digest of code together with its input files.

    Args:
        code: the digest of the code alone.
        inputs: the digest of the input files (`inputs_digest`); if it is "", `code` is returned.
    """
    return hashlib.sha256(f"{code} {inputs}".encode()).hexdigest()[:16] if inputs else code


def source_file(name: str, path: str, content: bytes, module: str = "") -> SourceFile:
    """Build the record of a source file; a file above `MAX_FILE` is recorded without its content."""
    digest = hashlib.sha256(content).hexdigest()
    return SourceFile(name, path, module, digest, content if len(content) <= MAX_FILE else None)


def module_name(path: str) -> str:
    """Return the full name of the Python module in the file at this path; "" for a file of another type."""
    if not path.endswith(".py"):
        return ""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def encoded(source: Source) -> bytes:
    """Encode a source as JSON. Equal sources have equal encodings."""
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
    """Decode a source from the JSON that `encoded` wrote.

    Raises:
        ValueError: `data` is not a valid record of a source, or a file's content differs from its digest.
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
