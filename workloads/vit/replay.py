"""A class-balanced replay buffer, which holds positions of images in the training set."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def refill(
    held: Indices, labels: npt.NDArray[np.integer], new: Indices, size: int, rng: np.random.Generator
) -> Indices:
    """Fill the buffer anew after a task.

    Each of the C classes seen gets size // C places, and each of the first size % C classes one more. Earlier
    classes keep their oldest examples. Examples of new classes are drawn at random. A class with fewer examples
    than places has all of its examples in the buffer, and its other places stay empty.

    Args:
        held: the buffer's examples, as positions in the training set, grouped by class in the order of the classes'
            arrival.
        labels: (N,), of the whole training set.
        new: the task's training examples, as positions in the training set.
        size: number of places in the buffer.
        rng: generator of the draws.

    Returns:
        The buffer's new examples, in the form of `held`.
    """
    old_classes, new_classes = (list(dict.fromkeys(labels[part].tolist())) for part in (held, np.sort(new)))
    candidates = {label: held[labels[held] == label] for label in old_classes}
    for label in sorted(set(new_classes) - set(old_classes)):
        candidates[label] = rng.permutation(new[labels[new] == label])
    places, rest = divmod(size, len(candidates))
    chosen = [examples[: places + (i < rest)] for i, examples in enumerate(candidates.values())]
    return np.concatenate([held[:0], *chosen])
