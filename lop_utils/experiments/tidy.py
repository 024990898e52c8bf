"""The one shape in which experiments return their rows."""

from collections.abc import Iterable

import pandas as pd


def tidy(rows: Iterable[tuple], *, experiment: str, arch: str, task: str) -> pd.DataFrame:
    """A tidy frame from rows (seed, method, step, layer, metric, value) of one experiment, architecture and task.

    >>> list(tidy([(0, "sgd", 1, "all", "loss", 0.5)], experiment="cloning", arch="mlp", task="digits"))
    ['experiment', 'arch', 'seed', 'method', 'task', 'step', 'layer', 'metric', 'value']
    """
    frame = pd.DataFrame(rows, columns=["seed", "method", "step", "layer", "metric", "value"])
    frame.insert(0, "experiment", experiment)
    frame.insert(1, "arch", arch)
    frame.insert(4, "task", task)
    return frame
