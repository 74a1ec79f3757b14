r"""The adding problem: the sum of two marked values, asked for at the end (Experiment 4, Table 7).

Sequences of L steps follow one another. State and influence are reset before each. A sequence has two marked steps,
j < k. j is drawn uniformly from its first half (0 ... L // 2 - 1), k from its second (L // 2 ... L - 1):

    x_i = (u_i, 1 if i is j or k, else 0),   u_i uniform on [0, 1)
    y_{L-1} = u_j + u_k, the only target that is graded; the others are zero and never used

n_in = 2, n_out = 1, both dimensionless; 0 <= y < 2. There is one segment, `all`. Windows count graded steps, one per
sequence, so `last_200` covers 200 sequences. The data are drawn from the cell's `stream` generator, so they differ
between seeds.

Baselines: `constant` predicts 1, the expected sum. Its expected mean squared error is 1/6, twice the variance 1/12
of a uniform number. `persistence` predicts the sum of the sequence before, with expected error 1/3.

Left open by the paper: the places of the marks, the number of sequences, and whether state and influence are reset
between them. The halves are those of Arjovsky et al. (2016). Hochreiter and Schmidhuber (1997) put the marks into the
first ten steps and the first half, and mark both ends of a sequence by -1.
"""

from __future__ import annotations

import numpy as np

from raysweep.workloads.rnn.streams.baselines import last_target
from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, whole_sequences


def adding(steps: int, rng: np.random.Generator, length: int) -> Stream:
    """Build the stream of the adding problem.

    Args:
        steps: T, a multiple of length.
        rng: generator of the values, then of the marks.
        length: L, steps per sequence.
    """
    count, half = steps // length, length // 2
    values = rng.random((count, length))
    rows = np.arange(count)
    first = rng.integers(0, half, size=count)
    second = rng.integers(half, length, size=count)
    marks = np.zeros((count, length))
    marks[rows, first] = marks[rows, second] = 1.0
    sums = np.zeros((count, length))
    sums[:, -1] = values[rows, first] + values[rows, second]
    targets = sums.reshape(steps, 1)
    place = np.tile(np.arange(length), count)
    graded = place == length - 1
    return Stream(
        inputs=np.stack([values.ravel(), marks.ravel()], axis=1),
        targets=targets,
        segments=(Segment("all", 0, steps),),
        baselines={"constant": np.ones((steps, 1)), "persistence": last_target(targets, graded)},
        graded=graded,
        begins=place == 0,
    )


ADDING = StreamKind(
    adding,
    {"length": 50},
    problems=lambda steps, settings: (
        whole_sequences(steps, settings["length"])
        if settings["length"] > 1
        else [f"length = {settings['length']} on stream 'adding', which adds two values; valid: 2 or more"]
    ),
    inputs=lambda settings: 2,
)
