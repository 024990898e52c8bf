"""The yardstick: a linear learner on the same stream, trained by the same SGD on the same samples."""

from collections.abc import Iterator

import numpy as np

from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.online import Window
from lop_utils.training.online_kernel import compiled


@compiled
def _advance(weights, inputs, table, patterns, lr, losses):
    """SGD of weights (inputs + 1,), the last one the bias, on rows of `inputs` (2^fast, inputs) named by `patterns`."""
    for index in range(losses.size):
        x = inputs[patterns[index]]
        error = weights[-1] - table[patterns[index]]
        for i in range(x.size):
            error += weights[i] * x[i]
        losses[index] = error * error
        for i in range(x.size):
            weights[i] -= 2.0 * lr * error * x[i]
        weights[-1] -= 2.0 * lr * error


def learn_linear(stream: BitFlipping, *, steps: int, every: int, lr: float = 0.01) -> Iterator[Window]:
    """Losses of a linear learner that starts at zero; `every` divides the period or is a multiple of it.

    >>> [window.step for window in learn_linear(BitFlipping(), steps=100, every=50)]
    [50, 100]
    """
    weights, total, size = np.zeros(stream.width + 1), 0.0, 0
    for start in range(0, steps, every):
        stop = min(steps, start + every)
        for first, last in stream.parts(start, stop):
            inputs, table = stream.present(first)
            losses = np.empty(last - first)
            _advance(weights, inputs, table, stream.patterns(first, last), lr, losses)
            total, size = total + float(losses.sum()), size + last - first
        yield Window(stop, size, total / size)
        total, size = 0.0, 0
