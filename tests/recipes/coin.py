"""A coin thrown `steps` times: the share of heads."""

from __future__ import annotations

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from raysweep.workloads.interface import Cell, Context, Metrics

VERSION = "1"
METHODS = ("fair", "bent")


class Config(BaseModel):
    """Settings of a cell."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int = Field(default=100, ge=1)


def run(cell: Cell, context: Context) -> Metrics:
    """Throw it."""
    share = 0.5 if cell.method == "fair" else 0.9
    heads = np.random.default_rng(cell.seed).random(cell.config.steps) < share
    context.array("heads", heads.cumsum() / (1 + np.arange(len(heads))))
    return {"heads": float(heads.mean())}
