"""The file of Ray's cluster launcher. Ray's own code validates it offline; each error is reported with its line."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.ray.connection import KEEPALIVE, quiet
from raysweep.orchestrator.executors.resources import Autoscaler, NodeType, autoscaler
from raysweep.orchestrator.text import short_repr
from raysweep.workloads.registry import nearest

MAX_BYTES = 2**20
_RESOURCES_FROM_PROVIDER = {"aws"}
"""Providers whose node resources Ray looks up if the file does not state them."""


@dataclass(frozen=True)
class ClusterFile:
    """A valid cluster file.

    Args:
        path: path of the file.
        provider: aws, gcp, local, ...
        offer: the nodes that may be started.
        head_cpus: CPUs that the head offers to cells; None if not stated.
        advice: warnings about settings that are valid but likely a mistake.
    """

    path: str
    provider: str
    offer: Autoscaler
    head_cpus: float | None
    advice: tuple[str, ...]


def read(path: str) -> ClusterFile:
    """Read and validate a file, offline.

    Raises:
        InputError: the file cannot be read or is invalid; one line per problem, with file, line and key.
    """
    text = _text(path)
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise InputError(f"{path}{line}: not YAML: {getattr(error, 'problem', None) or error}") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deeply to be a cluster file") from None
    except ValueError as error:  # an invalid date
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise InputError(f"{path}: expected a mapping that begins with cluster_name, got {short_repr(raw)}")
    prepared, problem = _prepared(raw)
    problems = [
        _line(path, root, keys, message) for keys, message in _schema_errors(raw if prepared is None else prepared)
    ]
    if prepared is None and not problems:
        problems = [f"{path}: {problem}"]
    if prepared is None or problems:
        raise InputError(problems)
    _refuse_unusable(path, prepared)
    return _summary(path, prepared)


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than 1 MiB, the limit for a cluster file")
        return content.decode("utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; pass a cluster file, as in `raysweep cluster check FILE`"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8") from None


def _prepared(raw: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """Fill in Ray's defaults in a cluster file. Returns (completed file, ""), or (None, the problem)."""
    from ray.autoscaler._private.util import prepare_config

    provider = raw.get("provider")
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        return None, "provider.type: missing; Ray has aws, gcp, azure, local and others"
    try:
        with _quiet() as output:
            prepared: dict[str, Any] = prepare_config(copy.deepcopy(dict(raw)))
    except NotImplementedError:
        kind = short_repr(provider["type"])
        return None, f"provider.type: Ray has no {kind}; it has aws, gcp, azure, local and others"
    except Exception as error:  # such as Ray's KeyError, AttributeError or an error of click
        message = getattr(error, "message", None) or str(error)
        return None, f"Ray refuses it: {message if message else output.getvalue().strip()} ({type(error).__name__})"
    return prepared, ""


def _schema_errors(config: Mapping[str, Any]) -> Iterator[tuple[Sequence[str | int], str]]:
    """Yield each violation of Ray's schema as (path of keys, message)."""
    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__path__[0]) / "ray-schema.json").read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        path = [*error.absolute_path]
        if error.validator == "additionalProperties":
            allowed = set(error.schema.get("properties", ()))
            for i, name in enumerate(sorted(set(map(str, error.instance)) - allowed)):
                near = nearest(name, sorted(allowed))
                valid = f"; valid here: {', '.join(sorted(allowed))}" if i == 0 else ""  # once, as it is long
                yield [*path, name], f"unknown key; did you mean {near}?" if near else f"unknown key{valid}"
        elif error.validator == "required":
            for name in error.validator_value:
                if name not in error.instance:
                    yield [*path, name], "missing"
        elif error.validator == "type":
            wanted = error.validator_value
            wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
            yield path, f"expected {wanted}, got {short_repr(error.instance)}"
        else:
            yield path, error.message


def _refuse_unusable(path: str, prepared: Mapping[str, Any]) -> None:
    """Raise InputError if Ray would refuse the file although it conforms to Ray's schema."""
    from ray.autoscaler._private.util import validate_config

    try:
        with _quiet():
            validate_config(copy.deepcopy(dict(prepared)))
    except Exception as error:
        raise InputError(f"{path}: Ray refuses it: {str(error) or type(error).__name__}") from None


def _summary(path: str, prepared: Mapping[str, Any]) -> ClusterFile:
    provider = str(prepared["provider"]["type"])
    offer = autoscaler(prepared)
    if provider in _RESOURCES_FROM_PROVIDER:  # their resources are known only when a node starts
        offer = Autoscaler(tuple(_looked_up(kind) for kind in offer.types), offer.most)
    head = prepared["available_node_types"][prepared["head_node_type"]].get("resources") or {}
    start = " ".join(prepared["head_start_ray_commands"])
    cpus = 0.0 if "--num-cpus=0" in start else head.get("CPU")
    return ClusterFile(path, provider, offer, cpus, tuple(_advice(prepared, cpus)))


def _looked_up(kind: NodeType) -> NodeType:
    stated = {"CPU", "memory"} <= set(kind.resources)
    return kind if stated else NodeType(kind.name, kind.resources, kind.most, kind.labels, open=True)


def _advice(prepared: Mapping[str, Any], head_cpus: float | None) -> Iterator[str]:
    head = " ".join(prepared["head_start_ray_commands"])
    parts = ("initialization_commands", "setup_commands", "head_start_ray_commands", "worker_start_ray_commands")
    every = " ".join(str(command) for part in parts for command in prepared.get(part) or ())
    if head_cpus != 0:
        yield "the head may run cells beside the launch and Ray's control store: give it resources: {CPU: 0}"
    if "autoscaling-config" not in head:
        yield "head_start_ray_commands: without --autoscaling-config=~/ray_bootstrap_config.yaml no node is started"
    if "RAY_AUTH_MODE=token" not in every:
        yield (
            "Ray's token authentication is off: put RAY_AUTH_MODE=token into the environment of each `ray start`, and "
            "~/.ray/auth_token into file_mounts"
        )
    if "dashboard-host=0.0.0.0" in head or "dashboard-host 0.0.0.0" in head:
        yield (
            "head_start_ray_commands: --dashboard-host=0.0.0.0 lets anyone who reaches the head run jobs; use "
            "127.0.0.1 and `ray dashboard FILE`"
        )
    missing = [name for name in KEEPALIVE if name not in every]
    if missing:
        assigned = " ".join(f"{name}={KEEPALIVE[name]}" for name in missing)
        yield f"a frozen node is noticed only after minutes: `ray start` needs {assigned} in its environment"


def _line(path: str, root: Any, keys: Sequence[str | int], message: str) -> str:
    """Format `file:line: key.key: message`. If the key is missing, the line is that of its closest existing parent."""
    node, line = root, 1
    for key in keys:
        entries = getattr(node, "value", None)
        if not isinstance(entries, list):
            break
        if isinstance(key, int):
            entry = (entries[key], entries[key]) if key < len(entries) else None
        else:
            entry = next((e for e in entries if isinstance(e, tuple) and str(e[0].value) == str(key)), None)
        if entry is None or isinstance(entry[0], tuple):
            break
        line, node = entry[0].start_mark.line + 1, entry[1]
    where = ".".join(map(str, keys))
    return f"{path}:{line}: {f'{where}: ' if where else ''}{message}"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Capture what Ray prints inside the block."""
    output = io.StringIO()
    with (
        quiet("ray", "ray.autoscaler._private.util"),
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        yield output
