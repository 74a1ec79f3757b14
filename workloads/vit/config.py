"""The settings of a cell of the vision transformer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from raysweep.workloads.interface import AddedLater


class Config(BaseModel):
    """The settings of a cell: data, network, learning and measurement."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    data_set: str = Field(default="cifar10", pattern=r"^\w+$", description="name of a prepared file, without .parquet")
    digest: str | None = Field(default=None, description="digest of the images; None: from our table or the file")
    train_per_class: int | None = Field(
        default=None, ge=1, description="number of first images used of each class; None: all"
    )
    tasks: int = Field(default=5, ge=1, description="divides the ten classes")
    scenario: Literal["class_incremental", "task_incremental"] = "class_incremental"

    heads: int = Field(default=12, ge=1)
    head_dim: int = Field(default=16, ge=1)
    embed: int = Field(default=192, ge=1)
    depth: int = Field(default=4, ge=1)
    mlp_ratio: float = Field(default=4.0, gt=0)
    patch: int = Field(default=4, ge=1, description="pixels, divides 32")

    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    clip: float | None = Field(default=1.0, ge=0, description="greatest norm of the gradient; 0: no clip")
    batch: int = Field(default=32, ge=1, description="images of the task per step")
    epochs: int = Field(default=5, ge=1, description="epochs per task")
    augment: bool = Field(default=True, description="flips, and shifts of up to 4 pixels")
    replay: int | None = Field(default=None, ge=1, description="examples in the replay buffer; at least one per class")
    replay_batch: int | None = Field(
        default=None, ge=1, description="replayed images per step, at most as many as the buffer holds"
    )
    replay_weight: float | None = Field(
        default=None, ge=0, description="weight of their mean loss relative to the task's"
    )
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="bf16: training and tests, except the logits; float32 does not use TF32 on a GPU"
    )
    compile: bool = False

    rank_after: int | None = Field(default=None, ge=1, description="task after which heads are ranked")
    select_from: int | None = Field(default=None, ge=2, description="first task with a selection of heads")
    forward_test: Literal["all_heads", "random_heads"] | None = Field(
        default=None, description="of sparse_forward: active heads in tests"
    )
    cut_heads: Annotated[Literal["coast", "still"], AddedLater("coast")] = Field(
        default="coast",
        description="heads outside S in a step: moved by the optimiser's moments and weight decay, or unchanged",
    )
    measured_images: int = Field(
        default=500, ge=1, description="images per task, at most, for Fisher information and entropy"
    )
