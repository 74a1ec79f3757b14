"""Verdicts on the claims of the paper and of its follow-up, with the claimed number, our number and its interval.

`render(ledger(source), "text")` returns the printable ledger. Rules: `docs/verdicts.md`. One module per claim family.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from raysweep.analysis.cells.notes import origins
from raysweep.analysis.cells.source import Source
from raysweep.analysis.claims import (
    chaos,
    decay,
    decoding,
    follow_up,
    heads,
    lstm,
    reference,
    scale,
    selection,
    sine,
    sparse_error,
    spectra,
)
from raysweep.analysis.claims.claim import SOURCES, Claim, Line
from raysweep.analysis.claims.load import Reader, load
from raysweep.analysis.claims.render import RENDERERS, render
from raysweep.analysis.claims.rounding import judged_again, roundings
from raysweep.analysis.claims.verdict import NOT_REPRODUCED, VERDICTS, command, conclude, judge, pooled, settle
from raysweep.orchestrator.errors import InputError
from raysweep.workloads.registry import Registry

__all__ = ["CLAIMS", "RENDERERS", "SCHEMA", "SOURCES", "VERDICTS", "Claim", "Line", "ledger", "named", "render"]

CLAIMS: Registry[Claim] = Registry(
    "claim",
    {
        "E1-recovery": sine.recovery,
        "E1-step": sine.step,
        "E1-bptt1": sine.bptt1,
        "E1-tbptt": sine.tbptt,
        "E2-lorenz64": chaos.lorenz64,
        "E2-lorenz128": chaos.lorenz128,
        "E2-multisine": chaos.multisine,
        "E2-uoro": chaos.uoro,
        "E3-selection": selection.selection,
        "E3-fisher": selection.fisher,
        "E4-copy": sparse_error.copy,
        "E4-adding": sparse_error.adding,
        "E5-lstm": lstm.lstm,
        "E5-lorenz": lstm.lorenz,
        "E6-n256": scale.n256_claim,
        "E6-n512": scale.n512,
        "E7-threshold": heads.threshold,
        "E7-forward": heads.forward_claim,
        "E7-forgetting": heads.forgetting,
        "E8-fisher": heads.fisher,
        "E8-timing": heads.timing,
        "E9-bci": decoding.bci,
        "S-condition": spectra.condition,
        "S-collapse": spectra.collapse,
        "S-n256": spectra.scale,
        "S-cosine": spectra.cosine,
        "S-magnitude": spectra.magnitude,
        "SGD": sine.sgd,
        "V-reference": reference.reference,
        "F-decay0": decay.decay0,
        "F-decaysweep": decay.sweep,
        "F-bci": follow_up.bci,
        "F-n1024": follow_up.large,
    },
)
"""Id -> claim: the paper's claims in its order, then the others."""


def named(names: Sequence[str]) -> frozenset[str]:
    """Return the ids of the claims that begin with one of the names (`E7`: Experiment 7); all ids if none is given.

    Raises:
        InputError: no claim's id begins with one of the names; the message lists all ids.
    """
    matches = {name: [key for key in CLAIMS if key.lower().startswith(name.lower())] for name in names}
    unknown = " or ".join(repr(name) for name, keys in matches.items() if not name or not keys)
    if unknown:
        raise InputError(f"no claim begins with {unknown}; name them by id or its beginning (E7): {', '.join(CLAIMS)}")
    return frozenset(key for keys in matches.values() for key in keys) if names else frozenset(CLAIMS)


SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.String,
    "part": pl.String,
    "says": pl.String,
    "source": pl.String,
    "where": pl.String,
    "claimed": pl.String,
    "ours": pl.Float64,
    "lower": pl.Float64,
    "upper": pl.Float64,
    "unit": pl.String,
    "n": pl.Int64,
    "seeds": pl.List(pl.Int64),
    "verdict": pl.String,
    "alone": pl.String,
    "why": pl.String,
    "p": pl.Float64,
    "p_holm": pl.Float64,
    "decay_0": pl.Float64,
    "naive": pl.Float64,
    "metric": pl.String,
    "sweep": pl.String,
    "cells": pl.Int64,
    "command": pl.String,
    "notes": pl.List(pl.String),
    "paper_lower": pl.Float64,
    "paper_upper": pl.Float64,
    "claim_verdict": pl.String,
    "roundings": pl.List(pl.String),
}


def ledger(source: Source) -> pl.DataFrame:
    """Judge all claims. Return a frame with one row for each line (`Line`) of a claim. Columns: `SCHEMA`.

    - `source`: a key of `SOURCES`; `where`: the place in that source; `claimed`: the number claimed there.
    - `ours`, `lower`, `upper`: our number and its interval in `unit`, or null.
    - `paper_lower`, `paper_upper`: the interval of the paper's own seeds.
    - `alone`: the verdict without Holm's correction for the claim's other lines.
    - `claim_verdict`: the verdict on the whole claim.
    - `roundings`: the verdict under each rounding of `paper/rounding`; empty if the line was not judged so.
    - `decay_0`, `naive`: baselines in the unit of `metric`.
    - `cells`: the number of cells that the line needs.
    - `notes`: settings that differ from the sweep's file, and cells left out; the same for all lines of a sweep.
    """
    lines = [(claim, line) for claim in CLAIMS.values() for line in claim.lines]
    reader = Reader(source)
    loaded = [load(reader, line.cells) for _, line in lines]
    judged = [judge(line, data) for (_, line), data in zip(lines, loaded, strict=True)]
    narrowing: dict[str, str] = {}
    for data in reversed(loaded):
        narrowing |= data.narrowing
    notes = origins(part for data in loaded for part in data.parts)
    among = roundings(source)
    rows: list[dict[str, Any]] = []
    for i, (claim, line) in enumerate(lines):
        # A claim is the conjunction of its lines: Holm's correction is for refuting any of them.
        tests = [j for j, (other, tested) in enumerate(lines) if other is claim and pooled(tested)]
        refuting = [p if judged[j].verdict == NOT_REPRODUCED and (p := judged[j].p) is not None else 1.0 for j in tests]
        verdict, alone, why, adjusted = settle(judged[i], refuting, tests.index(i) if i in tests else 0)
        if line.aside is not None and loaded[i].lacking is None:
            beside = load(reader, line.aside_cells)
            why += "" if beside.lacking is not None else f". {line.aside(beside.columns)}"
        rounded = judged_again(line, among)
        why += f". {rounded}" if rounded.verdicts else ""
        data, seeds = loaded[i], list(loaded[i].seeds)
        rows.append(
            {
                "id": claim.id,
                "part": line.part,
                "says": line.says,
                "source": line.source or claim.source,
                "where": claim.where,
                "claimed": line.paper,
                "ours": judged[i].ours,
                "lower": judged[i].lower,
                "upper": judged[i].upper,
                "unit": line.unit,
                "paper_lower": judged[i].paper[0],
                "paper_upper": judged[i].paper[1],
                "n": len(seeds),
                "seeds": seeds,
                "verdict": verdict,
                "alone": alone,
                "why": why,
                "p": judged[i].p,
                "p_holm": adjusted,
                "decay_0": data.decay_0,
                "naive": data.naive,
                "metric": line.cells[0].metric if line.cells else None,
                "sweep": " ".join(dict.fromkeys(cells.sweep for cells in line.cells)) or None,
                "cells": data.expected,
                "command": command(line, data, narrowing, source.at),
                "roundings": list(rounded.verdicts),
                "notes": [note for sweep, own in origins(data.parts).items() for note in notes.get(sweep, own)],
            }
        )
    verdicts = {claim.id: [row["verdict"] for row in rows if row["id"] == claim.id] for claim in CLAIMS.values()}
    for row in rows:
        row["claim_verdict"] = conclude(CLAIMS[str(row["id"])], verdicts[str(row["id"])])
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")
