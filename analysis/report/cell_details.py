"""The data of single cells on the report page: failed cells first, then done ones, up to a size limit."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple

import polars as pl

from raysweep.analysis.report.variants import shared_config
from raysweep.orchestrator.store.artifacts import read_content
from raysweep.orchestrator.store.reader import Store
from raysweep.orchestrator.text import join_first, printable

BYTES = 1_000_000
"""Maximum size of the cells on the page, as JSON; failed cells get at most half of it."""
MAX_CELLS = 2_000
POINTS = 40
MAX_IMAGE, MAX_IMAGES, MAX_FILES = 100_000, 4, 8
"""Maximum bytes of an image; maximum images per cell; maximum file paths listed per cell."""
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TEXT = 4_000
"""Maximum characters of a traceback or log; its end is kept, because the error is there."""


class CellCurve(NamedTuple):
    """A curve of one cell."""

    cell_id: str
    name: str
    steps: list[int]
    values: list[float]


class CellDetails(NamedTuple):
    """The details of single cells, as a JSON document for the page."""

    document: dict[str, Any]
    included: int
    """Number of cells in the document."""
    known: int
    """Number of cells that the report covers."""


def cell_curves(name: str, curves: pl.DataFrame) -> list[CellCurve]:
    """Thin the curves of single cells to at most `POINTS` points.

    Args:
        name: the array's name.
        curves: columns cell_id, step, value, as `curves.series` returns them.
    """
    thinned = []
    for (cell_id,), part in curves.group_by("cell_id", maintain_order=True):
        thin = part.gather_every(-(-part.height // POINTS))
        thinned.append(CellCurve(str(cell_id), name, thin["step"].to_list(), [_short(v) for v in thin["value"]]))
    return thinned


def details(
    store: Store, cells: pl.DataFrame, texts: pl.DataFrame, curves: Sequence[CellCurve], room: int = BYTES
) -> CellDetails:
    """Collect cells with their attempts and curves, up to a size limit.

    Args:
        store: the store with the attempts.
        cells: the report's cells, including the columns variant and label.
        texts: metrics that are text: cell_id, attempt, name, value.
        curves: curves of some of the cells.
        room: the size limit in bytes.
    """
    candidates = _candidates(cells)
    ids = candidates["cell_id"].implode()
    attempts = store.collect(lambda: store.attempts.filter(pl.col("cell_id").is_in(ids)).sort("attempt"))
    tries: dict[str, list[dict[str, Any]]] = {}
    for row in attempts.iter_rows(named=True):
        tries.setdefault(row["cell_id"], []).append(_attempt(row))
    curve_of = {curve.cell_id: curve for curve in curves}
    names: dict[str, dict[str, int]] = {}
    texts_of: dict[tuple[str, int], list[tuple[str, str]]] = {}
    for cell_id, attempt, name, value in texts.filter(pl.col("cell_id").is_in(ids)).iter_rows():
        texts_of.setdefault((cell_id, attempt), []).append((name, value))
    files = _files(store, candidates["cell_id"])
    included, left, bad_left = [], room, room // 2
    for row in candidates.iter_rows(named=True):
        bad = row["status"] != "done"
        of_attempt = texts_of.get((row["cell_id"], row["attempt"]), [])
        entry = _cell(row, tries.get(row["cell_id"], []), curve_of.get(row["cell_id"]), of_attempt, names)
        size = len(json.dumps(entry))
        if size > left or (bad and size > bad_left):
            continue
        if row["cell_id"] in files:
            entry |= _with_images(store, files[row["cell_id"]], (bad_left if bad else left) - size)
            size = len(json.dumps(entry))
        left -= size
        bad_left -= size if bad else 0
        included.append(entry)
    used = candidates.filter(pl.col("variant").is_in([entry["variant"] for entry in included]))
    variants, shared = _variants(used)
    document = {
        "variants": variants,
        "shared": shared,
        "metrics": {printable(experiment): [printable(n) for n in order] for experiment, order in names.items()},
        "cells": included,
    }
    return CellDetails(document, len(included), cells.height)


def _files(store: Store, cells: pl.Series) -> dict[str, list[dict[str, Any]]]:
    """Return the artifacts of each cell: cell id -> rows of the store's artifacts."""
    files: dict[str, list[dict[str, Any]]] = {}
    for row in store.artifacts().filter(pl.col("cell_id").is_in(cells.implode())).iter_rows(named=True):
        files.setdefault(row["cell_id"], []).append(row)
    return files


def _with_images(store: Store, files: Sequence[dict[str, Any]], room: int) -> dict[str, Any]:
    """Return the paths of a cell's artifacts, and its small images as data URLs.

    All URLs of the cell together have at most about `room` bytes.
    """
    paths = [printable(row["path"]) for row in files]
    images = []
    for row in files:
        if row["kind"] not in _IMAGES or row["bytes"] > MAX_IMAGE or row["bytes"] * 4 // 3 > room:
            continue
        content = read_content(store.storage, row)
        images.append(
            {"path": printable(row["path"]), "src": f"data:{row['kind']};base64,{b64encode(content).decode()}"}
        )
        room -= len(images[-1]["src"])
        if len(images) == MAX_IMAGES:
            break
    return {"files": join_first(paths, MAX_FILES), **({"images": images} if images else {})}


def _candidates(cells: pl.DataFrame) -> pl.DataFrame:
    """Choose cells for the page, at most `MAX_CELLS`.

    Failed cells come first. Then come the first done cell of each variant, the second of each variant, and so on.
    """
    tried = cells.filter(pl.col("attempt").is_not_null()).sort("variant", "seed", maintain_order=True)
    tried = tried.with_columns(
        good=pl.col("status") == "done", turn=pl.int_range(pl.len()).over("variant", pl.col("status") == "done")
    )
    return tried.sort("good", "turn", "variant").head(MAX_CELLS)


def _cell(
    row: Mapping[str, Any],
    attempts: list[dict[str, Any]],
    curve: CellCurve | None,
    texts: Sequence[tuple[str, str]],
    names: dict[str, dict[str, int]],
) -> dict[str, Any]:
    order = names.setdefault(row["experiment"], {})
    values: dict[str, float | str] = {}
    for metric in row["metrics"] or ():
        value = metric["value"]  # JSON has no NaN
        values[str(order.setdefault(metric["name"], len(order)))] = _short(value) if isfinite(value) else str(value)
    for name, text in texts:
        values[str(order.setdefault(name, len(order)))] = _end(text) or ""
    entry: dict[str, Any] = {
        "id": row["cell_id"], "variant": row["variant"], "seed": row["seed"], "status": row["status"],
        "metrics": values, "attempts": attempts,
    }  # fmt: skip
    if curve is not None:
        entry["curve"] = {"name": printable(curve.name), "steps": curve.steps, "values": curve.values}
    return entry


def _attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """Convert an attempt to a dictionary for the page, without empty values."""
    error = f"{row['error_type']}: {row['error_message']}" if row["error_type"] else None
    entry = {
        "attempt": row["attempt"],
        "status": row["status"],
        "began": f"{row['started_at']:%Y-%m-%d %H:%M:%S} UTC" if row["started_at"] else None,
        "seconds": None if row["seconds"] is None else _short(row["seconds"]),
        "peak_mib": None if row["peak_rss_mib"] is None else round(row["peak_rss_mib"]),
        "host": row["host"],
        "device": row["device"],
        "commit": row["git_commit"] and row["git_commit"][:10] + (" with changes" if row["git_dirty"] else ""),
        "error": _end(error),
        "traceback": _end(row["traceback"]),
        "printed": _end(row["log_tail"]),
    }
    return {key: value for key, value in entry.items() if value not in (None, "")}


def _variants(used: pl.DataFrame) -> tuple[dict[str, Any], dict[str, Any]]:
    """Describe the variants and their experiments for the page.

    Returns:
        Two maps. The first maps a variant to its description, which contains the part of its config that not all
            variants of its experiment share. The second maps an experiment to the config that all its variants share.
    """
    described: dict[str, Any] = {}
    common: dict[str, Any] = {}
    for (name,), part in used.unique("variant", maintain_order=True).group_by("experiment", maintain_order=True):
        shared, own = shared_config(part["config"].to_list())
        common[printable(name)] = _plain(shared)
        for row, config in zip(part.iter_rows(named=True), own, strict=True):
            texts = {"experiment": name, "label": row["label"], "workload": row["workload"], "method": row["method"]}
            described[str(row["variant"])] = {
                **{key: printable(text) for key, text in texts.items()},
                "version": printable(row["workload_version"]),
                "k": row["k"],
                "config": _plain(config),
            }
    return described, common


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """Replace control characters in a config."""
    return {printable(key): printable(value) if isinstance(value, str) else value for key, value in config.items()}


def _end(text: str | None) -> str | None:
    if not text:
        return None
    text = printable(text)
    return text if len(text) <= _TEXT else "…" + text[-_TEXT:]


def _short(value: float) -> float:
    """Round a number to five significant digits, the page's precision."""
    return float(f"{value:.5g}")
