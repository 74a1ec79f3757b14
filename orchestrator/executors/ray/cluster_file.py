"""Ray's cluster launcher file: validated offline, by Ray's own code, with the line of each error."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raysweep.orchestrator.errors import InputError
from raysweep.orchestrator.executors.ray.executor import KEEPALIVE
from raysweep.orchestrator.executors.resources import Autoscaler, NodeType, autoscaler
from raysweep.orchestrator.text import short_repr

MAX_BYTES = 2**20
_ASKS_PROVIDER = {"aws"}
"""Providers whose machines' resources Ray looks up when they are not stated."""


@dataclass(frozen=True)
class ClusterFile:
    """A valid file.

    Args:
        path: of it.
        provider: aws, gcp, local, ...
        offer: the nodes that may come.
        head_cpus: that the head offers to cells; None where it is not stated.
        advice: what is allowed, and likely to be regretted.
    """

    path: str
    provider: str
    offer: Autoscaler
    head_cpus: float | None
    advice: tuple[str, ...]


def read(path: str) -> ClusterFile:
    """Read and validate a file, without asking any provider.

    Raises:
        InputError: all that is wrong with it, as far as Ray can say it at once: each with file, line and key.
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
    except (ValueError, RecursionError) as error:  # a date that is none, nesting without end
        raise InputError(f"{path}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise InputError(
            f"{path}: a cluster file is a mapping that begins with cluster_name; this is {short_repr(raw)}"
        )
    prepared, problem = _prepared(raw)
    problems = [_line(path, root, keys, said) for keys, said in _schema_errors(raw if prepared is None else prepared)]
    if prepared is None and not problems:
        problems = [f"{path}: {problem}"]
    if prepared is None or problems:
        raise InputError(problems)
    found = _semantic_error(prepared)
    if found is not None:
        raise InputError(f"{path}: {found}")
    return _summary(path, prepared)


def _text(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path}: larger than 1 MiB: no cluster file")
        return content.decode("utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: {error.strerror}; name a cluster file, as in `raysweep cluster check FILE`"
        ) from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not text in UTF-8") from None


def _prepared(raw: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The file with Ray's defaults filled in; or None, and what Ray said."""
    from ray.autoscaler._private.util import prepare_config

    provider = raw.get("provider")
    if not isinstance(provider, dict) or not isinstance(provider.get("type"), str):
        return None, "provider.type: is missing; Ray knows aws, gcp, azure, local and others"
    try:
        with _quiet() as said:
            prepared: dict[str, Any] = prepare_config(copy.deepcopy(dict(raw)))
    except NotImplementedError:
        return None, f"provider.type: {short_repr(provider['type'])} is none of Ray's; such as aws, gcp, azure, local"
    except Exception as error:  # Ray's own reading of it: a KeyError, an AttributeError, click's
        message = getattr(error, "message", None) or str(error)
        return None, f"Ray refuses it: {message if message else said.getvalue().strip()} ({type(error).__name__})"
    return prepared, ""


def _schema_errors(config: Mapping[str, Any]) -> Iterator[tuple[Sequence[str | int], str]]:
    """Where the file is not as Ray's schema says, all at once: path of keys, what."""
    import jsonschema
    import ray.autoscaler

    schema = json.loads((Path(ray.autoscaler.__path__[0]) / "ray-schema.json").read_text(encoding="utf-8"))
    for error in jsonschema.Draft7Validator(schema).iter_errors(config):
        path = [*error.absolute_path]
        if error.validator == "additionalProperties":
            known = ", ".join(sorted(error.schema.get("properties", ())))
            allowed = set(error.schema.get("properties", ()))
            for name in sorted(set(map(str, error.instance)) - allowed):
                yield [*path, name], f"no such key; known here: {known}"
        elif error.validator == "type":
            wanted = error.validator_value
            wanted = wanted if isinstance(wanted, str) else " or ".join(wanted)
            yield path, f"{short_repr(error.instance)} is no {wanted}"
        else:
            yield path, error.message


def _semantic_error(prepared: Mapping[str, Any]) -> str | None:
    """What Ray refuses beyond its schema."""
    from ray.autoscaler._private.util import validate_config

    try:
        with _quiet():
            validate_config(copy.deepcopy(dict(prepared)))
    except Exception as error:
        return f"Ray refuses it: {str(error) or type(error).__name__}"
    return None


def _summary(path: str, prepared: Mapping[str, Any]) -> ClusterFile:
    provider = str(prepared["provider"]["type"])
    offer = autoscaler(prepared)
    if provider in _ASKS_PROVIDER:  # what is not stated is looked up; GPUs count as none, lest one be promised
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
        yield "the head may run cells, beside the launch and Ray's books: give it resources: {CPU: 0}"
    if "autoscaling-config" not in head:
        yield "head_start_ray_commands: without --autoscaling-config=~/ray_bootstrap_config.yaml no node ever comes"
    if "RAY_AUTH_MODE=token" not in every:
        yield (
            "Ray's token authentication is off: put RAY_AUTH_MODE=token into the environment of each `ray start`, and "
            "~/.ray/auth_token into file_mounts"
        )
    if "dashboard-host=0.0.0.0" in head or "dashboard-host 0.0.0.0" in head:
        yield (
            "head_start_ray_commands: --dashboard-host=0.0.0.0 lets whoever reaches the head run jobs; use 127.0.0.1, "
            "and `ray dashboard FILE`"
        )
    missing = [name for name in KEEPALIVE if name not in every]
    if missing:
        yield f"a frozen node is missed after minutes only: `ray start` needs {_assigned(missing)} in its environment"


def _assigned(names: Iterable[str]) -> str:
    return " ".join(f"{name}={KEEPALIVE[name]}" for name in names)


def _line(path: str, root: Any, keys: Sequence[str | int], said: str) -> str:
    """`file:line: key.key: what`; the line of the nearest key that the file itself has."""
    node, line = root, 1
    for key in keys:
        entries = getattr(node, "value", None)
        if not isinstance(entries, list):
            break
        if isinstance(key, int):
            found = (entries[key], entries[key]) if key < len(entries) else None
        else:
            found = next((e for e in entries if isinstance(e, tuple) and str(e[0].value) == str(key)), None)
        if found is None or isinstance(found[0], tuple):
            break
        line, node = found[0].start_mark.line + 1, found[1]
    where = ".".join(map(str, keys))
    return f"{path}:{line}: {f'{where}: ' if where else ''}{said}"


@contextlib.contextmanager
def _quiet() -> Iterator[io.StringIO]:
    """Keep what Ray says to a terminal."""
    logger = logging.getLogger("ray")
    before, said = logger.level, io.StringIO()
    logger.setLevel(logging.ERROR)
    inner = logging.getLogger("ray.autoscaler._private.util")
    inner_before = inner.level
    inner.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            yield said
    finally:
        logger.setLevel(before)
        inner.setLevel(inner_before)
