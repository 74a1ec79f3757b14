"""The training of a cell: tasks, epochs, tests, rankings of heads, and a checkpoint after every epoch.

Randomness of task t and epoch e comes from `SeedSequence([seed, code, t + 1, e + 1])`, with one code per purpose. So a
checkpoint needs no random state. Another k or another selection of heads changes neither the order of the images nor
their shifts. A method without a buffer (`no_replay`) has the same order, but other shifts from the second task on,
since it draws for fewer images per step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from raysweep.workloads.interface import Cell, Checkpoint
from raysweep.workloads.seeds import CODES, generators
from raysweep.workloads.vit.checkpoint import State, restore, saved
from raysweep.workloads.vit.config import Config
from raysweep.workloads.vit.data import CLASSES, Images, positions, task_classes
from raysweep.workloads.vit.fisher import cross_entropies, measure
from raysweep.workloads.vit.hold import hold
from raysweep.workloads.vit.inputs import network_input
from raysweep.workloads.vit.model import Shape, Transport, build
from raysweep.workloads.vit.movement import moved, weights
from raysweep.workloads.vit.replay import refill
from raysweep.workloads.vit.selection import METHODS, draw, ranked

TEST_BATCH = 250
Indices = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Run:
    """A cell, and its data on the network's device."""

    cell: Cell
    config: Config
    device: torch.device
    labels: np.ndarray[Any, np.dtype[np.uint8]]
    test_labels: np.ndarray[Any, np.dtype[np.uint8]]
    train: Tensor
    train_targets: Tensor  # `labels` as int64 on the device
    test: Tensor
    test_targets: Tensor
    classes: tuple[tuple[int, ...], ...]

    def rng(self, purpose: str, task: int, epoch: int = 0) -> np.random.Generator:
        """Create the random generator of a purpose, task and epoch."""
        return np.random.default_rng(np.random.SeedSequence([self.cell.seed, CODES[purpose], task + 1, epoch + 1]))

    def positions(self, task: int) -> Indices:
        """Return the positions of a task's training images."""
        return positions(self.labels, self.classes[task], self.config.train_per_class)

    def measured(self, task: int) -> int:
        """Return the number of a task's images on which heads are measured.

        It is the requested number, or all images if there are fewer.
        """
        return min(self.config.measured_images, len(self.positions(task)))

    def at(self, which: Indices) -> Tensor:
        """Copy positions to the device, as a tensor."""
        return torch.from_numpy(which).to(self.device)

    def autocast(self) -> AbstractContextManager[Any]:
        """Return torch's autocast to bfloat16 if the config requests it; otherwise a context without effect."""
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)


@contextmanager
def full_float32() -> Iterator[None]:
    """Disable TF32 in cuDNN during a `with` block.

    TF32 would round the inputs of a convolution (here the patches) to 10 bits.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before  # the setting is global to the process


def prepare(cell: Cell, images: Images, device: str) -> Run:
    """Put the data on the network's device, as uint8, which takes a quarter of the memory of float32.

    Raises:
        ValueError: the device is a GPU and torch sees none, or `train_per_class` exceeds the data.
    """
    config: Config = cell.config
    fewest = int(np.bincount(images.train_labels, minlength=CLASSES).min())
    if config.train_per_class is not None and config.train_per_class > fewest:
        raise ValueError(
            f"train_per_class = {config.train_per_class}, but {images.path} has a class with {fewest} training images; "
            f"valid: up to {fewest}, or leave it out for all"
        )
    target = torch.device(device)
    if target.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                f"the cell has a GPU, but torch {torch.__version__} does not see it; install a build of torch for the "
                "GPU's driver, or launch with --device cpu"
            )
        torch.cuda.reset_peak_memory_stats(target)

    def stored(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))).to(target)

    def targets(labels: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64)).to(target)

    return Run(
        cell=cell,
        config=config,
        device=target,
        labels=images.train_labels,
        test_labels=images.test_labels,
        train=stored(images.train),
        train_targets=targets(images.train_labels),
        test=stored(images.test),
        test_targets=targets(images.test_labels),
        classes=task_classes(config.tasks),
    )


def begin(run: Run) -> State:
    """Create the state before training: the seed's initial weights, and an optimiser that all tasks share."""
    config = run.config
    shape = Shape(config.heads, config.head_dim, config.embed, config.depth, config.mlp_ratio, config.patch)
    seed = int(generators(run.cell.seed).weights.integers(2**62))
    model = build(shape, seed).to(run.device)
    parameters = model.parameters()
    optimizer: torch.optim.Optimizer
    if config.optimizer == "adamw":
        optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    else:
        optimizer = torch.optim.SGD(parameters, lr=config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    moving = torch.zeros(shape.depth, shape.heads, dtype=torch.float64, device=run.device)
    return State(model, optimizer, moving)


def learn(run: Run, checkpoint: Checkpoint | None, progress: Callable[[float], None]) -> State:
    """Train from the checkpoint, or from the start, until all tasks are done or training diverges.

    If `checkpoint` is given, the state is saved to it after every epoch.
    """
    state = begin(run)
    data = checkpoint.load() if checkpoint is not None else None
    if data is not None:
        restore(data, state, run.cell)
    tasks, epochs = run.config.tasks, run.config.epochs
    while state.task < tasks and state.diverged_at is None:
        began = time.perf_counter()
        one_epoch(run, state)
        if run.device.type == "cuda":
            torch.cuda.synchronize(run.device)
        state.seconds += time.perf_counter() - began
        state.epoch += 1
        if state.epoch == epochs and state.diverged_at is None:
            end_task(run, state)
            state.task, state.epoch = state.task + 1, 0
        if checkpoint is not None:
            checkpoint.save(saved(state, run.cell))
        progress((state.task * epochs + state.epoch) / (tasks * epochs))
    return state


def one_epoch(run: Run, state: State) -> None:
    """Train on every image of the task once, in the epoch's random order.

    If a loss is not finite, `state.diverged_at` is set to the first such step, and the losses from this step on are
    not recorded. If all losses are finite but a parameter is not after the epoch, `state.diverged_at` is set to the
    step after the epoch's last.
    """
    config, model, optimizer = run.config, state.model, state.optimizer
    order_rng, mask_rng, shift_rng = (run.rng(name, state.task, state.epoch) for name in ("stream", "mask", "noise"))
    order = order_rng.permutation(run.positions(state.task))
    network: Callable[..., Tensor] = torch.compile(model) if config.compile else model
    allowed = competing(run)
    device_losses: list[Tensor] = []
    model.train()
    for start in range(0, len(order), config.batch):
        new = order[start : start + config.batch]
        old = state.held[:0]
        if len(state.held) and config.replay_batch:
            old = order_rng.choice(state.held, min(config.replay_batch, len(state.held)), replace=False)
        which = run.at(np.concatenate([new, old]))
        x, y = network_input(run.train, which, shift_rng if config.augment else None), run.train_targets[which]
        kept, transport = subset(run, state, mask_rng)
        with run.autocast():
            logits = network(x, kept, transport)
        loss = _loss(logits.float(), y, len(new), allowed, config.replay_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        before = weights(model)
        with nullcontext() if kept is None or config.cut_heads == "coast" else hold(model, optimizer, kept):
            optimizer.step()
        state.moving += moved(model, before)
        state.images += len(which)
        device_losses.append(loss.detach())
    losses: list[float] = torch.stack(device_losses).double().cpu().tolist()
    diverged = next((i for i, value in enumerate(losses) if not math.isfinite(value)), None)
    if diverged is not None:
        state.diverged_at = len(state.losses) + diverged
    state.losses += losses[:diverged]
    # Each loss precedes its step: the effect of the last step shows only in the parameters.
    if diverged is None and not bool(torch.stack([part.isfinite().all() for part in model.parameters()]).all()):
        state.diverged_at = len(state.losses)


def subset(run: Run, state: State, rng: np.random.Generator) -> tuple[Tensor | None, Transport]:
    """Choose the heads of a forward pass.

    Returns:
        Mask (depth, H) of the heads in each block's set S, or None for all heads; and what the other heads lose.
    """
    config, how = run.config, METHODS[run.cell.method]
    staged = how.staged and config.select_from is not None and state.task + 1 < config.select_from
    if how.transport is None or staged:
        return None, "gradient"
    mask = state.kept
    if how.score is None:
        if run.cell.k is None:
            raise ValueError(f"method {run.cell.method!r} without k")
        mask = draw(rng, config.depth, config.heads, run.cell.k)
    if mask is None:
        raise ValueError(
            f"no ranking of heads in task {state.task + 1}; heads are ranked after task {config.rank_after}"
        )
    return torch.from_numpy(mask).to(run.device), how.transport


def competing(run: Run) -> Tensor | None:
    """Return a mask (10, 10) whose row c marks the classes that compete with class c; None if all classes compete.

    In task-incremental learning, only classes of the same task compete.
    """
    if run.config.scenario == "class_incremental":
        return None
    same = torch.zeros(CLASSES, CLASSES, dtype=torch.bool)
    for classes in run.classes:
        same[torch.tensor(classes)[:, None], torch.tensor(classes)] = True
    return same.to(run.device)


def _loss(logits: Tensor, y: Tensor, new: int, allowed: Tensor | None, weight: float | None) -> Tensor:
    """Compute the mean loss of the task's images (the first `new`) plus `weight` times that of the replayed ones."""
    losses = cross_entropies(logits, y, allowed)
    loss = losses[:new].mean()
    if len(losses) > new and weight:
        loss = loss + weight * losses[new:].mean()
    return loss


def end_task(run: Run, state: State) -> None:
    """Finish a task: test, measure the heads, rank them if due, and refill the replay buffer."""
    config, task = run.config, state.task
    how = METHODS[run.cell.method]
    state.model.eval()
    mask_rng = run.rng("mask", task, config.epochs)
    state.rows.append([accuracy(run, state, i, mask_rng) for i in range(task + 1)])
    here = run.positions(task)
    sample = np.sort(run.rng("noise", task, config.epochs).choice(here, run.measured(task), replace=False))
    which = run.at(sample)
    x, y = network_input(run.train, which, None), run.train_targets[which]
    heads = measure(state.model, x, y, competing(run))
    state.heads.append(heads)
    state.movement.append(state.moving.cpu().numpy().copy())
    state.moving.zero_()
    if how.score is not None and task + 1 == config.rank_after and run.cell.k is not None:
        state.kept = ranked(heads.fisher.sum(0) if how.score == "fisher" else heads.entropy, run.cell.k, how.most)
    if config.replay:
        state.held = refill(state.held, run.labels, here, config.replay, run.rng("stream", task, config.epochs))


def accuracy(run: Run, state: State, task: int, rng: np.random.Generator) -> float:
    """Compute the accuracy on a task's test images, with all heads unless `forward_test` is `random_heads`.

    Args:
        run: the cell and its data.
        state: the state, whose network is in evaluation mode.
        task: the task, from 0.
        rng: generator of random heads.
    """
    config = run.config
    where = run.at(positions(run.test_labels, run.classes[task]))
    allowed = competing(run)
    correct = 0
    with torch.inference_mode(), run.autocast():
        for start in range(0, len(where), TEST_BATCH):
            part = where[start : start + TEST_BATCH]
            y = run.test_targets[part]
            kept = None
            if config.forward_test == "random_heads" and run.cell.k is not None:
                kept = torch.from_numpy(draw(rng, config.depth, config.heads, run.cell.k)).to(run.device)
            logits = state.model(network_input(run.test, part, None), kept, "forward")
            if allowed is not None:
                logits = logits.masked_fill(~allowed[y], -math.inf)
            correct += int((logits.argmax(1) == y).sum())
    return correct / len(where)
