"""Provenance and cost of the cells: machines, code, packages and hours."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import polars as pl


class Cost(NamedTuple):
    """The cost of ended attempts in hours. The `lost_...` fields cover only the unsuccessful attempts.

    `cpu` and `gpu` are reserved hours (duration times cpus or gpus). `busy` is the processor time used.
    """

    attempts: int
    cpu: float
    busy: float
    gpu: float
    lost_attempts: int
    lost_cpu: float
    lost_gpu: float


def cost(attempts: pl.DataFrame) -> Cost:
    """Sum the cost of the attempts.

    Args:
        attempts: columns status, seconds, cpu_seconds, cpus, gpus.
    """
    hours = attempts.select(
        bad=pl.col("status") != "done",
        cpu=(pl.col("seconds") * pl.col("cpus")).fill_null(0) / 3600,
        busy=pl.col("cpu_seconds").fill_null(0) / 3600,
        gpu=(pl.col("seconds") * pl.col("gpus")).fill_null(0) / 3600,
    )
    bad = hours.filter("bad")
    return Cost(
        hours.height,
        float(hours["cpu"].sum()),
        float(hours["busy"].sum()),
        float(hours["gpu"].sum()),
        bad.height,
        float(bad["cpu"].sum()),
        float(bad["gpu"].sum()),
    )


def machines(attempts: pl.DataFrame) -> pl.DataFrame:
    """Summarize attempts by host and device.

    Columns: host, device, starts, attempts, cpu_hours, gpu_hours (both reserved), first, last (UTC). `starts`
    counts how often Ray was started on the host: once per launch that starts Ray itself, 0 without Ray.
    """
    return (
        attempts.filter(pl.col("host").is_not_null())
        .group_by("host", "device", maintain_order=True)
        .agg(
            starts=pl.col("node_id").drop_nulls().n_unique().cast(pl.Int64),
            attempts=pl.len().cast(pl.Int64),
            cpu_hours=(pl.col("seconds") * pl.col("cpus")).sum() / 3600,
            gpu_hours=(pl.col("seconds") * pl.col("gpus")).sum() / 3600,
            first=pl.col("started_at").min(),
            last=pl.col("finished_at").max(),
        )
        .sort("attempts", descending=True, maintain_order=True)
    )


def code(cells: pl.DataFrame) -> pl.DataFrame:
    """Count the cells by version of the code.

    Columns: workload, workload_version, commit, changes (digest of uncommitted changes), source (source digest),
    cells.

    Args:
        cells: done cells, with workload, workload_version, git_commit, git_dirty, source_digest.
    """
    return (
        cells.group_by("workload", "workload_version", "git_commit", "git_dirty", "source_digest", maintain_order=True)
        .agg(cells=pl.len().cast(pl.Int64))
        .select(
            "workload",
            "workload_version",
            commit=pl.col("git_commit"),
            changes=pl.col("git_dirty"),
            source=pl.col("source_digest"),
            cells=pl.col("cells"),
        )
        .sort("cells", descending=True, maintain_order=True)
    )


def mixed_code(cells: pl.DataFrame) -> pl.DataFrame:
    """List variants whose cells ran different code of the same workload version.

    Columns: experiment, label, codes (the number of different source digests), cells.

    Args:
        cells: done cells, with experiment, variant, label and source_digest.
    """
    return (
        cells.group_by("experiment", "variant", "label", maintain_order=True)
        .agg(codes=pl.col("source_digest").n_unique().cast(pl.Int64), cells=pl.len().cast(pl.Int64))
        .filter(pl.col("codes") > 1)
        .drop("variant")
    )


def packages(cells: pl.DataFrame) -> list[tuple[str, str, int]]:
    """Count the cells that used each version of each package. Returns rows of package, version, number of cells."""
    counts: dict[tuple[str, str], int] = {}
    for text, count in cells.group_by("packages").len().sort("packages").iter_rows():
        versions: dict[str, Any] = json.loads(text) if text else {}
        for name, version in versions.items():
            if name.startswith("_"):  # the digest of the environment
                continue
            counts[name, str(version)] = counts.get((name, str(version)), 0) + count
    return [(name, version, count) for (name, version), count in sorted(counts.items())]
