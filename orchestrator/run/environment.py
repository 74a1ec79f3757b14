"""The environment in which a cell ran: Python, processor, GPUs, installed packages, and imported packages."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

KEY = "_environment"
"""Key of the environment's digest in the JSON of the column `packages`. No package has this name."""
_FOLDER = re.compile(r"(.+)-([^-]+)\.dist-info")


class Environment(NamedTuple):
    """The environment of a process.

    Args:
        packages: JSON for the column `packages`: imported package -> version; "python" -> version; `KEY` -> `digest`.
        digest: the digest of `document`, 16 hexadecimal characters.
        document: JSON of the whole environment.
    """

    packages: str
    digest: str
    document: bytes


class _Installed(NamedTuple):
    """An installed package: its normalized name, its version, and its folder of metadata."""

    name: str
    version: str
    folder: str


_known: dict[int, Environment] = {}
"""Cache of the last environment: number of imported modules -> environment."""


def environment() -> Environment:
    """Return the environment of this process, with the packages that it has imported so far."""
    count = len(sys.modules)
    if count not in _known:
        _known.clear()
        _known[count] = _environment()
    return _known[count]


def _environment() -> Environment:
    imported = _imported()
    python = ".".join(str(part) for part in sys.version_info[:3])
    document = {
        "python": python,
        "implementation": platform.python_implementation(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu(),
        "gpus": _gpus(),
        "imported": imported,
        "installed": {package.name: package.version for package in _installed()},
        "from": dict(_urls()),
    }
    text = json.dumps(document, sort_keys=True).encode()
    digest = hashlib.sha256(text).hexdigest()[:16]
    packages = {**imported, "python": python, KEY: digest}
    return Environment(json.dumps(packages, sort_keys=True, separators=(",", ":")), digest, text)


def _imported() -> dict[str, str]:
    """Return the version of each installed package that this process has imported, wholly or in part."""
    installed: dict[str, str] = {}
    with contextlib.suppress(metadata.PackageNotFoundError):
        installed["raysweep"] = metadata.version("raysweep")  # runs from a copy on workers
    tops: dict[str, None] = {}
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top not in tops and _is_installed(module):
            tops[top] = None
    by_name = {package.name: package for package in _installed()}
    rest = set(tops)
    for top in tops:
        if (package := by_name.get(_normal(top))) is not None:
            installed[package.name] = package.version
            rest.discard(top)
    if rest:
        for package in _installed():
            if package.name not in installed and rest & _modules_of(package.folder):
                installed[package.name] = package.version
    return dict(sorted(installed.items()))


def _is_installed(module: Any) -> bool:
    names = getattr(module, "__dict__", {})  # without the `__getattr__` of a module, which may raise anything
    place = names.get("__file__") or next(iter(names.get("__path__") or ()), "")
    return isinstance(place, str) and place.startswith(_places())


@lru_cache(maxsize=1)
def _places() -> tuple[str, ...]:
    """Return the folders of the Python path that contain installed packages."""
    return tuple({f"{os.path.dirname(package.folder)}{os.sep}" for package in _installed()})


@lru_cache(maxsize=1)
def _installed() -> tuple[_Installed, ...]:
    """Return the installed packages, sorted by name. Of several versions, only the importable one is listed."""
    installed: dict[str, _Installed] = {}
    for place in sys.path:
        try:
            names = sorted(os.listdir(place))
        except OSError:
            continue
        for name in names:
            if match := _FOLDER.fullmatch(name):
                package = _Installed(_normal(match[1]), match[2], os.path.join(place, name))
                installed.setdefault(package.name, package)
    return tuple(sorted(installed.values()))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@lru_cache(maxsize=4096)
def _modules_of(folder: str) -> frozenset[str]:
    """Return the top-level modules of an installed package; `folder` holds its metadata."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return frozenset(Path(folder, "top_level.txt").read_text(encoding="utf-8").split())
    tops = set()
    with contextlib.suppress(OSError, UnicodeDecodeError), open(Path(folder, "RECORD"), encoding="utf-8") as lines:
        for line in lines:
            top, slash, _ = line.partition(",")[0].partition("/")
            tops.add(top if slash else top.partition(".")[0])
    return frozenset(tops)


def _urls() -> Iterator[tuple[str, str]]:
    """Yield each package that was not installed from a package index, with the URL that it was installed from."""
    for package in _installed():
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            fields = json.loads(Path(package.folder, "direct_url.json").read_bytes())
            commit = fields.get("vcs_info", {}).get("commit_id", "")
            yield package.name, f"{fields['url']}@{commit}" if commit else str(fields["url"])


@lru_cache(maxsize=1)
def _cpu() -> str:
    """Return the name of the processor's model."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith(("model name", "Model")):
                return line.partition(":")[2].strip()
    return platform.processor()


def _gpus() -> list[str]:
    """Return the models of the GPUs that this process uses; if it uses none, of all GPUs of the machine."""
    torch = sys.modules.get("torch")
    with contextlib.suppress(Exception):
        if torch is not None and torch.cuda.is_initialized():
            return [str(torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]
    return list(_machine_gpus())


@lru_cache(maxsize=1)
def _machine_gpus() -> tuple[str, ...]:
    models = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        with contextlib.suppress(OSError):
            models += re.findall(r"^Model:\s*(.+?)\s*$", file.read_text(errors="replace"), re.MULTILINE)
    return tuple(models)
