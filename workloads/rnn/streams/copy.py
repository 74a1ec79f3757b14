r"""The copy task: a short string of symbols is shown, and must be repeated after a delay (Experiment 4, Table 7).

Sequences of 2 L + D steps follow one another. State and influence are reset before each. A sequence has symbols a_0
... a_{L-1}, drawn evenly and independently from S symbols:

    i = 0 ... L-1          x = one-hot of a_i                  not graded
    i = L ... L+D-1        x = blank                           not graded
    i = L+D ... 2L+D-1     x = "go"                            graded, y = one-hot of a_{i-(L+D)}

So a graded target is the symbol shown L + D steps before. n_in = S + 2 (symbols, blank, "go") and n_out = S, the
classes. Targets of steps that are not graded are zero and never used. The loss is cross entropy. There is one
segment, `all`. The data are drawn from the cell's `stream` generator, so they differ between seeds.

Baseline: `chance` predicts all symbols with equal probability. At the default S = 8, its accuracy is 1/S = .125 and
its cross entropy is log S = 2.079.

The paper says "memorize and reproduce a symbol sequence across a delay, cross-entropy loss only on output phase" and
T = 5. It gives chance as .125, hence S = 8, as in Arjovsky et al. (2016). It leaves open whether T counts the symbols
(as in Mujika et al. 2018), the delay, or both. It also leaves open blanks and cues, the number of sequences, and
whether state and influence are reset between them. Here L = T and D = 0, so every symbol's delay is T. Arjovsky's
task has L = 10 and D = T, but its cue comes one step earlier.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from raysweep.workloads.rnn.streams.stream import Segment, Stream, StreamKind, whole_sequences


def copy(steps: int, rng: np.random.Generator, symbols: int, length: int, delay: int) -> Stream:
    """Build the stream of the copy task.

    Args:
        steps: T, a multiple of 2 length + delay.
        rng: generator of the symbols.
        symbols: S, number of different symbols.
        length: L, symbols per sequence.
        delay: D, blank steps between the last symbol and the first "go".
    """
    period = 2 * length + delay
    count = steps // period
    drawn = rng.integers(symbols, size=(count, length))
    blank, go = symbols, symbols + 1
    shown = np.full((count, period), blank)
    shown[:, :length] = drawn
    shown[:, length + delay :] = go
    targets = np.zeros((count, period, symbols))
    targets[:, length + delay :] = np.eye(symbols)[drawn]
    place = np.tile(np.arange(period), count)
    return Stream(
        inputs=np.eye(symbols + 2)[shown.ravel()],
        targets=targets.reshape(steps, symbols),
        segments=(Segment("all", 0, steps),),
        baselines={"chance": np.zeros((steps, symbols))},
        graded=place >= length + delay,
        begins=place == 0,
    )


def period(settings: Mapping[str, Any]) -> int:
    """Return the number of steps per sequence."""
    return int(2 * settings["length"] + settings["delay"])


COPY = StreamKind(
    copy,
    {"symbols": 8, "length": 5, "delay": 0},
    problems=lambda steps, settings: whole_sequences(steps, period(settings)),
    inputs=lambda settings: settings["symbols"] + 2,
    classes=True,
)
