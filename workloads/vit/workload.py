"""Sparse gradient transport in a vision transformer: Experiments 7 and 8 of the paper (Sec. 4.7, 4.8, Tables 10, 11).

A cell trains one network on Split CIFAR-10: five tasks of two classes, one after the other, with a class-balanced
buffer of earlier examples. Its `method` determines which heads gradients go through (`workloads.vit.selection`).
After each task the network is tested on every task so far.

Metrics:

- `accuracy_average` (over all tasks, after the last), `accuracy_task_I`, `accuracy_later` (tasks from the third on),
  `accuracy_new` (each task's accuracy right after its training, mean over tasks), `forgetting`, `backward_transfer`.
  All are absent if training diverged.
- `diverged` (0 or 1). If 1, `diverged_at` is the step.
- `fisher_spearman_I_J`, `entropy_spearman_I_J` (I < J): Spearman's rank correlation of the heads' scores after task I
  with those after task J, within each block, mean over blocks.
- `images_measured`: the number of images on which the heads were scored. If it differs between tasks, the smallest.
- `images_per_s` of training; `peak_device_mib` on a GPU.
- Baselines, which depend only on the data: `chance_accuracy_average`; `accuracy_average` and `forgetting` with the
  prefixes `nearest_mean_` and `ridge_` (`raysweep.workloads.vit.baselines`).

Arrays, flattened:

- `loss`: one value per step.
- `accuracy_after_I`: accuracies on tasks 1 to I.
- `fisher_after_I`: (4, depth, H), for W_q, W_k, W_v, W_o.
- `entropy_after_I`: (depth, H).
- `head_movement_I`: (depth, H), the norm of a step's change of a head's W_q, W_k, W_v, summed over the task's steps.
- `kept`: (depth, H), 1 for the heads chosen by a ranking.

The cell saves a checkpoint after every epoch. All randomness of an epoch follows from seed, task and epoch. So a run
resumed from a checkpoint draws the same random numbers as an uninterrupted run. On a CPU, its results have the same
bits.

Not stated in the paper: optimiser, learning rate, batch, epochs, augmentation, and weight of the replayed examples.
Nor does the paper state whether the task is known at test time (`scenario`). Its accuracies near .4 fit one ten-way
head, the default. `docs/vit.md` explains the choices.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

from raysweep.workloads.interface import Cell, Context, Metrics
from raysweep.workloads.vit.config import Config
from raysweep.workloads.vit.data import CLASSES, SIDE, digest, find
from raysweep.workloads.vit.selection import METHODS, Method

VERSION = "1"
IMAGES_PER_CLASS = 5000
TESTED_PER_CLASS = 1000
REPLAY, REPLAY_BATCH, REPLAY_WEIGHT = 1000, 32, 1.0
"""Defaults of methods that replay: buffer size (the paper's), replayed images per step, weight of their mean loss."""


def settle(method: str, k: int | None, config: Config) -> tuple[int | None, Config]:
    """Fill in defaults that depend on the method. Refuse settings that have no effect or exclude one another.

    Args:
        method: a name in `METHODS`.
        k: the k that the sweep states, or None.
        config: the config; each field has been validated by itself, but not together with the others.

    Returns:
        The recorded k, and the complete config with the data set's digest. k is H for `bptt_ref`, `dense_ref` and
        `no_replay`, 1 for `trace_like`, and as given for the others.

    Raises:
        ValueError: all problems, one per line.
    """
    how = METHODS[method]
    problems = [] if has_torch() else ["the workload 'vit' needs torch, which is not installed: pip install torch"]
    k, problem = _settle_k(method, how, k, config.heads)
    problems += problem
    if CLASSES % config.tasks:
        problems.append(f"tasks = {config.tasks} do not divide the {CLASSES} classes; valid: 1, 2, 5, 10")
    if SIDE % config.patch:
        problems.append(f"patch = {config.patch} does not divide {SIDE} pixels; valid: 1, 2, 4, 8, 16, 32")
    values: dict[str, object] = {}
    staged = ", ".join(name for name, entry in METHODS.items() if entry.staged)
    replaying = "all methods but " + ", ".join(name for name, entry in METHODS.items() if not entry.replay)
    ranking = ", ".join(name for name, entry in METHODS.items() if entry.score)
    cutting = ", ".join(name for name, entry in METHODS.items() if entry.cuts)
    rank_after = config.rank_after or 1
    for name, value, default, used, owners in (
        ("rank_after", config.rank_after, 1, how.score is not None, ranking),
        ("select_from", config.select_from, rank_after + 1, how.staged, staged),
        ("forward_test", config.forward_test, "all_heads", how.transport == "forward", "sparse_forward"),
        ("cut_heads", config.cut_heads if config.cut_heads != "coast" else None, "coast", how.cuts, cutting),
        ("replay", config.replay, REPLAY, how.replay, replaying),
        ("replay_batch", config.replay_batch, REPLAY_BATCH, how.replay, replaying),
        ("replay_weight", config.replay_weight, REPLAY_WEIGHT, how.replay, replaying),
    ):
        if used:
            values[name] = default if value is None else value
        elif value is not None:
            problems.append(f"{name} has no effect on method {method!r}; it belongs to: {owners}")
    places = values.get("replay")
    if isinstance(places, int) and places < CLASSES:
        problems.append(f"replay = {places} places for {CLASSES} classes; valid: {CLASSES} or more")
    first = values.get("select_from")
    if isinstance(first, int):
        if first > config.tasks:
            problems.append(f"select_from = {first} with tasks = {config.tasks}; valid: 2 to {config.tasks}")
        elif how.score and first <= rank_after:
            problems.append(f"select_from = {first} with rank_after = {rank_after}; valid: {rank_after + 1} or more")
    try:
        values["digest"] = config.digest or digest(config.data_set)
    except ValueError as error:
        problems.append(str(error))
    if problems:
        raise ValueError("\n".join(problems))
    return k, config.model_copy(update=values)


def _settle_k(method: str, how: Method, k: int | None, heads: int) -> tuple[int | None, list[str]]:
    fixed = heads if how.k == "all" else how.k
    if fixed is not None:
        return fixed, [] if k in (None, fixed) else [
            f"k = {k} with method {method!r}, which has k = {fixed}; leave k out"
        ]
    if k is None:
        return None, [f"method {method!r} needs k, the number of heads of each block in S; valid: 1 to {heads}"]
    return k, [] if 1 <= k <= heads else [f"k = {k} with {heads} heads; valid: 1 to {heads}"]


@lru_cache(maxsize=1)
def has_torch() -> bool:
    """Tell whether torch is installed, without importing it. Checked once per process."""
    return find_spec("torch") is not None


def cost(method: str, k: int | None, config: Config) -> float:
    """Estimate the relative cost of a cell: the number of images times the multiplications per image."""
    per_class = min(config.train_per_class or IMAGES_PER_CLASS, IMAGES_PER_CLASS)
    share = (config.replay_batch or 0) / config.batch * (config.tasks - 1) / config.tasks
    passes = config.epochs * per_class * CLASSES * (1 + share) + TESTED_PER_CLASS * config.tasks
    tokens = (SIDE // config.patch) ** 2 + 1
    wide = config.heads * config.head_dim
    block = config.embed * (4 * wide + 2 * config.embed * config.mlp_ratio) + 2 * tokens * wide
    return passes * tokens * config.depth * block


def lacks(config: Config) -> str | None:
    """Return a message on how to fetch the data set if its file is missing; None if the file is there."""
    try:
        find(config.data_set)
    except ValueError as error:
        return str(error)
    return None


def run(cell: Cell, context: Context) -> Metrics:
    """Train a network on the tasks in order, record arrays, and return the metrics.

    Raises:
        ValueError: torch is not installed, or the data differ from those the cell was planned with.
    """
    if not has_torch():
        raise ValueError("the workload 'vit' needs torch, which is not installed: pip install torch")
    from raysweep.workloads.vit.report import train_and_measure

    return train_and_measure(cell, context)
