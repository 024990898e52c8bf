"""The streams of the book's chapters on continual learning, by name: chapters that share a setting share its runs."""

from lop_utils.errors import check_choice
from lop_utils.experiments.continual import Config, preset

_SPLIT = {"stream": "class_split", "settings": (("per_task", 5),), "lr": 0.003}
_SMALL = {
    "stream": "regrouped",
    "source": "patches",
    "settings": (("groups", 5), ("views", 1)),
    "lr": 0.01,
    "tasks": 25,
    "measured": 2,
    "fresh": (10, 25),
    "diagnosed": (2, 5, 8, 11, 14, 17, 20, 23),
}
_LARGE = {
    "source": "patches_jittered",
    "measured": 2,
    "fresh": (10, 20, 30, 40),
    "diagnosed": (2, 6, 10, 14, 18, 22, 26, 30, 34, 38),
}
SETTINGS: dict[str, dict[str, object]] = {
    "mlp": _LARGE | {"stream": "regrouped", "settings": (("groups", 5), ("views", 2))},
    "split": _LARGE | _SPLIT,
    "easy": _SPLIT | {"source": "patches", "steps": 160, "measured": 2},
    "cnn": _SMALL | {"arch": "cnn", "widths": (8, 16, 32), "steps": 120},
    "resnet": _SMALL | {"arch": "resnet", "widths": (8, 16), "steps": 100},
    "vit": _SMALL | {"arch": "vit", "widths": (16, 32, 2), "steps": 100, "activation": "gelu"},
}
"""What each setting changes in `continual.Config`."""


def setting(name: str, profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a named setting; `overrides` (a normalisation, say) go on top.

    >>> setting("vit", "laptop", norm="layer").norm
    'layer'
    """
    check_choice("setting", name, SETTINGS)
    return preset(profile, seed, **(SETTINGS[name] | overrides))
