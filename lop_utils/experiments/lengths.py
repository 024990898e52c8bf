"""How long a configuration is: which of its fields count steps, and the same configuration made shorter.

A field counts steps if it is a whole number with "steps" in its name; `LENGTHS` names the fields of experiments for
which that is not all. Shortened configurations have the shapes, arms, seeds and numbers of probes of the whole, so the
time that they take is a constant plus a part in proportion to the fraction: what `kit.estimate` extrapolates.
"""

import math
from collections.abc import Mapping
from dataclasses import fields, replace

from lop_utils.errors import UsageError

LENGTHS: dict[str, tuple[str, ...]] = {  # experiment -> fields; a dot leads into a configuration inside it
    "as_good_as_fresh": ("base_steps", "escape", "steps", "task_steps"),
    "conserved": ("time", "steps"),
    "curvature_sweep": ("probes",),
    "frozen": ("warm_up", "steps"),
    "league_cost": ("repeats",),
    "more_manifolds": ("time", "steps"),
    "nearness": ("stream.time", "stream.steps"),
    "revival": ("warm_up", "steps", "worn.steps"),
    "stability": ("steps", "switch", "probes"),
}
_INTERVALS = ("every", "measure_every")  # what happens once in so many steps must happen twice in the shortest run
LEAST = 32  # steps of the shortest run


def length_fields(name: str, config: object) -> tuple[str, ...]:
    """The fields of experiment `name` that count steps.

    Raises `UsageError` if none does.

    >>> from lop_utils.experiments import two_tasks
    >>> length_fields("two_tasks", two_tasks.preset("laptop"))
    ('steps',)
    """
    found = LENGTHS.get(name) or tuple(
        field.name for field in fields(config) if "steps" in field.name and type(getattr(config, field.name)) is int
    )
    if not found:
        raise UsageError(f"no field of {name} counts steps", remedy="name one in lop_utils.experiments.lengths")
    return found


def shortest_fraction(name: str, config: object) -> float:
    """The least fraction at which a shortened run still does everything that the whole does, in (0, 1].

    The longest phase has `LEAST` steps, four for each probe, and two of each interval.
    """
    inner: dict[str, list[str]] = {}
    for path in length_fields(name, config):
        inner.setdefault(path.rpartition(".")[0], []).append(path)
    shares = [_share(_get(config, head), [_get(config, path) for path in paths]) for head, paths in inner.items()]
    return min(1.0, max(shares))


def _share(config: object, values: list) -> float:
    """`shortest_fraction` of one configuration from the values of its lengths."""
    probes = getattr(config, "probes", 0)
    least = [LEAST, 4 * (len(probes) if isinstance(probes, tuple) else probes)]
    least += [2 * getattr(config, interval, 0) for interval in _INTERVALS]
    return max(least) / max(max(value, default=0) if isinstance(value, tuple) else math.ceil(value) for value in values)


def shortened(name: str, config: object, fraction: float) -> object:
    """The configuration with every length multiplied by `fraction` and rounded up; all else as it is.

    Raises `UsageError` for a fraction outside (0, 1].

    >>> from lop_utils.experiments import cloning
    >>> short = shortened("cloning", cloning.preset("laptop"), 0.05)
    >>> short.base_steps, short.steps, short.probes
    (50, 200, 41)
    """
    if not 0 < fraction <= 1:
        raise UsageError(f"fraction {fraction} is not in (0, 1]", remedy="give a share of the whole length")
    values = {path: _scaled(_get(config, path), fraction) for path in length_fields(name, config)}
    return _replaced(config, values)


def _scaled(value: object, fraction: float) -> object:
    if isinstance(value, tuple):  # steps of probes: as many, in the same order, each after the one before
        found: list[int] = []
        for step in value:
            found.append(max(_up(fraction * step), found[-1] + 1 if found else 0))
        return tuple(found) if fraction < 1 else value
    return fraction * value if isinstance(value, float) else _up(fraction * value)


def _up(value: float) -> int:
    """Rounded up, but not for the last digit of a product."""
    return math.ceil(round(value, 9))


def _get(config: object, path: str) -> object:
    for name in filter(None, path.split(".")):
        config = getattr(config, name)
    return config


def _replaced(config: object, values: Mapping[str, object]) -> object:
    """All values at once, since configurations check that theirs fit together."""
    changes = {path: value for path, value in values.items() if "." not in path}
    inner: dict[str, dict[str, object]] = {}
    for path, value in values.items():
        head, dot, rest = path.partition(".")
        if dot:
            inner.setdefault(head, {})[rest] = value
    return replace(config, **changes, **{head: _replaced(getattr(config, head), part) for head, part in inner.items()})
