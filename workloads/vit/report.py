"""Running a cell of the vision transformer: from the data to metrics and arrays."""

from __future__ import annotations

import numpy as np
import torch

from raysweep.workloads.interface import Cell, Context, Metrics
from raysweep.workloads.vit import metrics
from raysweep.workloads.vit.baselines import Array, Bytes, nearest_mean_scores, ridge_scores
from raysweep.workloads.vit.checkpoint import State
from raysweep.workloads.vit.config import Config
from raysweep.workloads.vit.data import Images, load, positions, task_classes, verify
from raysweep.workloads.vit.training import Run, full_float32, learn, prepare


def train_and_measure(cell: Cell, context: Context) -> Metrics:
    """Train the cell's network, record its arrays, and return its metrics. Needs torch.

    Raises:
        MemoryError: the GPU is out of memory. Torch's own RuntimeError would count as a failure of the cell.
        ValueError: the data differ from those the cell was planned with, or are too few, or torch sees no GPU.
    """
    try:
        return _train_and_measure(cell, context)
    except torch.cuda.OutOfMemoryError as error:
        raise MemoryError(
            "out of GPU memory; give each cell a larger share of the GPU, gpus = ... in [resources], or set a "
            f"smaller batch: {str(error).splitlines()[0] if str(error) else 'no details from torch'}"
        ) from error


def _train_and_measure(cell: Cell, context: Context) -> Metrics:
    config: Config = cell.config
    images = load(config.data_set)
    verify(images, config.digest)
    run = prepare(cell, images, context.device)
    with full_float32():
        state = learn(run, getattr(context, "checkpoint", None), context.progress)
    _record(state, context)
    return summary(run, state) | baselines(images, config)


def summary(run: Run, state: State) -> dict[str, float]:
    """Compute the network's metrics from the state at the end of training."""
    values = {"diverged": float(state.diverged_at is not None)}
    if state.diverged_at is not None:
        values["diverged_at"] = float(state.diverged_at)
    else:
        rows = state.rows
        values["accuracy_average"] = metrics.average_accuracy(rows)
        values["accuracy_new"] = float(np.mean([row[-1] for row in rows]))
        values |= {f"accuracy_task_{i}": value for i, value in enumerate(rows[-1], 1)}
        if len(rows) > 2:
            values["accuracy_later"] = float(np.mean(rows[-1][2:]))
        for name, value in (
            ("forgetting", metrics.forgetting(rows)),
            ("backward_transfer", metrics.backward_transfer(rows)),
        ):
            if value is not None:
                values[name] = value
    for j in range(1, len(state.heads)):
        for i in range(j):
            for name, one, other in (
                ("fisher", state.heads[i].fisher.sum(0), state.heads[j].fisher.sum(0)),
                ("entropy", state.heads[i].entropy, state.heads[j].entropy),
            ):
                value = metrics.spearman(one, other)
                if value is not None:
                    values[f"{name}_spearman_{i + 1}_{j + 1}"] = value
    if state.heads:
        values["images_measured"] = float(min(run.measured(task) for task in range(len(state.heads))))
    if state.seconds > 0:
        values["images_per_s"] = state.images / state.seconds
    if run.device.type == "cuda":
        values["peak_device_mib"] = torch.cuda.max_memory_allocated(run.device) / 2**20
    return values


def baselines(images: Images, config: Config) -> dict[str, float]:
    """Compute average accuracy and forgetting of the baselines, fitted to the same training images task by task."""
    classes = task_classes(config.tasks)
    task_known = config.scenario == "task_incremental"
    values = {"chance_accuracy_average": 1 / len(classes[0]) if task_known else 1 / sum(map(len, classes))}
    for name, score in (("nearest_mean", nearest_mean_scores), ("ridge", ridge_scores)):
        rows = []
        for task in range(config.tasks):
            used = positions(images.train_labels, sum(classes[: task + 1], ()), config.train_per_class)
            scores = score(images.train[used], images.train_labels[used], images.test)
            rows.append([_right(scores, images.test_labels, part, task_known) for part in classes[: task + 1]])
        values[f"{name}_accuracy_average"] = metrics.average_accuracy(rows)
        lost = metrics.forgetting(rows)
        if lost is not None:
            values[f"{name}_forgetting"] = lost
    return values


def _right(scores: Array, labels: Bytes, part: tuple[int, ...], task_known: bool) -> float:
    """Compute the accuracy on a task's images. Only the task's classes compete if `task_known`."""
    here = positions(labels, part)
    competing = scores[here]
    if task_known:
        competing = np.where(np.isin(np.arange(competing.shape[1]), part), competing, -np.inf)
    return float(np.mean(competing.argmax(1) == labels[here]))


def _record(state: State, context: Context) -> None:
    if state.losses:
        context.array("loss", np.array(state.losses, np.float32))
    for i, (row, heads, movement) in enumerate(zip(state.rows, state.heads, state.movement, strict=True), 1):
        context.array(f"accuracy_after_{i}", row)
        context.array(f"fisher_after_{i}", heads.fisher.ravel())
        context.array(f"entropy_after_{i}", heads.entropy.ravel())
        context.array(f"head_movement_{i}", movement.ravel().astype(np.float32))
    if state.kept is not None:
        context.array("kept", state.kept.ravel().astype(np.float32))
