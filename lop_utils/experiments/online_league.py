"""The league of interventions on the bit-flipping stream: the same budget of tuning for all, other seeds for the final.

Every method gets `Candidate.settings` of equal number, each run on the tuning seeds; the setting with the least mean
loss over the second half of these runs goes to the final, on other seeds and streams.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import bit_flipping
from lop_utils.experiments.bit_flipping import Arm
from lop_utils.profiles import check as check_profile
from lop_utils.training.online import Method

NAME = "online_league"


@dataclass(frozen=True)
class Candidate:
    """A method under its name, and the settings that it may choose from, as (label, method)."""

    name: str
    settings: tuple[tuple[str, Method], ...]


def _grid(name: str, label: str, methods: dict[object, Method]) -> Candidate:
    return Candidate(name, tuple((f"{label} {value}", method) for value, method in methods.items()))


CANDIDATES = (
    _grid("SGD", "rate", {lr: Method(lr=lr) for lr in (0.03, 0.01, 0.003, 0.001)}),
    _grid("leaky ReLU", "rate", {lr: Method(lr=lr, activation="leaky_relu") for lr in (0.03, 0.01, 0.003, 0.001)}),
    _grid("tanh", "rate", {lr: Method(lr=lr, activation="tanh") for lr in (0.03, 0.01, 0.003, 0.001)}),
    _grid("CBP", "replacement", {r: Method(cbp="as_published", rate=r) for r in (1e-5, 1e-4, 1e-3, 1e-2)}),
    _grid("CBP, as coded", "maturity", {m: Method(cbp="as_coded", maturity=m) for m in (100, 1_000, 10_000, 100_000)}),
    _grid("ReDo", "every", {n: Method(redo_every=n) for n in (1_000, 5_000, 20_000, 100_000)}),
    _grid("L2", "strength", {s: Method(l2=s) for s in (1e-4, 1e-3, 1e-2, 1e-1)}),
    _grid("L2 Init", "strength", {s: Method(l2_init=s) for s in (1e-4, 1e-3, 1e-2, 1e-1)}),
    _grid("shrink and perturb", "shrink", {s: Method(shrink=s, perturb=1 - s) for s in (0.99, 0.95, 0.8, 0.5)}),
    _grid("Noisy SGD", "sigma", {s: Method(gradient_noise=s) for s in (0.003, 0.01, 0.03, 0.1)}),
    _grid("weight noise", "sd", {s: Method(weight_noise=s) for s in (1e-4, 3e-4, 1e-3, 3e-3)}),
    _grid("dropout", "probability", {p: Method(dropout=p) for p in (0.02, 0.05, 0.1, 0.2)}),
)


@dataclass(frozen=True)
class Config:
    """One league: tuning of `candidates` for `tune_steps` steps on `tune_seeds`, final of `steps` steps on `seeds`."""

    width: int = 10
    steps: int = 1_000_000
    tune_steps: int = 500_000
    seeds: tuple[int, ...] = tuple(range(10))
    tune_seeds: tuple[int, ...] = (100, 101, 102)
    fresh_steps: int = 200_000
    period: int = 10_000
    every: int = 10_000
    candidates: tuple[Candidate, ...] = CANDIDATES
    engine: str = "auto"

    def __post_init__(self) -> None:
        if set(self.seeds) & set(self.tune_seeds):
            raise UsageError("a seed is used for tuning and for the final", remedy="choose different seeds")
        if len({len(candidate.settings) for candidate in self.candidates}) != 1:
            raise UsageError("candidates have different numbers of settings", remedy="give every one the same budget")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile: final on seeds `seed`, ..., tuning on seeds `seed + 100`, ..."""
    sizes = {
        "smoke": {"steps": 10_000, "tune_steps": 2_000, "fresh_steps": 4_000, "period": 1_000, "every": 1_000},
        "laptop": {},
        "paper": {"steps": 5_000_000},
    }[check_profile(profile)]
    finals, tuning = (2, 1) if profile == "smoke" else (10, 3)
    seeds = {"seeds": tuple(range(seed, seed + finals)), "tune_seeds": tuple(range(seed + 100, seed + 100 + tuning))}
    return replace(Config(**sizes, **seeds), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """Rows of tuning (task "tuning", layer the setting's label) and final (task "final", the chosen setting's label).

    Methods are the candidates' names, and in the final "fresh" (SGD networks that see the last `fresh_steps` samples
    only) and "linear".
    """
    tuning = _run(config, [(c.name, s) for c in config.candidates for s in c.settings], final=False, progress=progress)
    chosen = chosen_settings(tuning)
    finalists = [(c.name, s) for c in config.candidates for s in c.settings if s[0] == chosen[c.name]]
    final = _run(config, finalists, final=True, progress=progress)
    return pd.concat([tuning, final], ignore_index=True)


def chosen_settings(frame: pd.DataFrame) -> dict[str, str]:
    """The setting of each method with the least mean loss over the second half of the tuning runs.

    A setting with which a single run diverged is worse than all that learn.
    """
    rows = frame[(frame["task"] == "tuning") & (frame["step"] > frame["step"][frame["task"] == "tuning"].max() / 2)]
    means = rows.fillna({"value": np.inf}).groupby(["method", "layer"])["value"].mean()
    return {method: means[method].idxmin() for method in means.index.get_level_values(0).unique()}


def _run(
    config: Config, entries: list[tuple[str, tuple[str, Method]]], *, final: bool, progress: Callable
) -> pd.DataFrame:
    arms = tuple(Arm(f"{name}|{label}", method) for name, (label, method) in entries)
    steps = config.steps if final else config.tune_steps
    runs = bit_flipping.Config(
        steps=steps,
        widths=(config.width,),
        arms=arms,
        seeds=config.seeds if final else config.tune_seeds,
        period=config.period,
        every=config.every,
        measure_every=steps,
        checkpoints=int(final),
        fresh_steps=config.fresh_steps,
        linear=final,
        engine=config.engine,
    )
    frame = bit_flipping.run(runs, progress=progress)
    frame = frame[frame["metric"] == "loss"].reset_index(drop=True)
    named = frame["method"].str.partition("|")
    task = "final" if final else "tuning"
    return frame.assign(experiment=NAME, task=task, method=named[0], layer=named[2].where(named[2] != "", "all"))
