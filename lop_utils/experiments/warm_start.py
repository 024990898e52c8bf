"""Warm starts: a network that has learned half of the data goes on with all of them, beside one that starts anew.

Source: Ash & Adams 2020: warm-started networks fit as well and generalise worse. Shrink and perturb, their remedy,
multiplies all weights and adds a little of a newly initialised network before the second half.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd
import torch

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tension import RAW
from lop_utils.experiments.tension_data import accuracy, repeated
from lop_utils.experiments.tension_settings import SETTINGS, networks, regularise
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import RANK_METRICS
from lop_utils.models.mlp import MLP
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import member_batches
from lop_utils.streams.sources import load
from lop_utils.training.ensemble import train_ensemble

NAME = "warm_start"
METHODS = ("half", "warm", "shrunk", "fresh", "fresh, longer")
_NEW_SEEDS = 10_000  # the networks that shrink and perturb mixes in


@dataclass(frozen=True)
class Config:
    """`settings` (names of `tension.SETTINGS`, on in both phases) x `methods` (of `METHODS`) x `seeds`.

    `samples` training images, all others of the source are for testing; the first half of them is learned for
    `steps_half` minibatches, all of them for `steps`. shrink, perturb: w <- shrink w + perturb w_new.
    """

    source: str = "mnist1d"
    depth: int = 3
    samples: int = 1000
    batch_size: int = 30
    lr: float = 0.001
    steps_half: int = 1000
    steps: int = 1500
    shrink: float = 0.4
    perturb: float = 0.1
    settings: tuple[str, ...] = ("usual", "decay 1")
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for name in self.settings:
            check_choice("setting", name, SETTINGS)
        for name in self.methods:
            check_choice("method", name, METHODS)
        knobs = {SETTINGS[name].knob for name in self.settings}
        if not self.seeds or not knobs or knobs & {"width", "length", "noise"}:
            remedy = "give seeds, and settings of initial scale, decay or l2"
            raise UsageError(f"seeds {self.seeds} and settings {self.settings}", remedy=remedy)


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes: dict[str, object] = {
        "smoke": {"steps_half": 20, "steps": 30, "settings": ("usual", "decay 1"), "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 10))},
        "paper": {"steps_half": 4000, "steps": 4000, "seeds": tuple(range(seed, seed + 20))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (seed, method, task, metric); task is the setting's name, layer "all", step of the method's last run.

    Methods: half (after the first phase), warm and shrunk (then all images), fresh (all images from the start, as many
    steps as warm has on them), and fresh, longer (as many as warm has altogether). Metrics: test_accuracy, accuracy on
    what it learned, and RAW (mean of the hidden layers, on all training images).
    """
    phases, wanted = _Phases(config, torch.device(device)), set(config.methods)
    half = phases.train(phases.new(), images=config.samples // 2, ends=[config.steps_half])[0]
    found = {"half": half}
    if wanted & {"fresh", "fresh, longer"}:  # one run, looked at twice
        ends = [config.steps, config.steps + config.steps_half]
        found["fresh"], found["fresh, longer"] = phases.train(phases.new(), images=config.samples, ends=ends)
    starts = {"warm": half, "shrunk": list(map(phases.shrink, half, phases.new(shift=_NEW_SEEDS)))}
    for method in progress([name for name in config.methods if name in starts]):
        found[method] = phases.train(starts[method], images=config.samples, ends=[config.steps])[0]
    frames = []
    for i, setting in enumerate(config.settings):
        rows = [row for method in config.methods for row in phases.rows(method, found[method], i)]
        frames.append(tidy(rows, experiment=NAME, arch="mlp", task=setting))
    return pd.concat(frames, ignore_index=True)


class _Phases:
    """The data of every seed and what is done with them; members of a stack are settings x seeds."""

    def __init__(self, config: Config, device: torch.device):
        source = load(config.source, device)
        self.config, self.size, self.device = config, source.size, device
        self.settings = [SETTINGS[name] for name in config.settings]
        x, y = torch.cat([source.inputs, source.test_inputs]), torch.cat([source.targets, source.test_targets])
        if config.samples >= len(x):
            raise UsageError(f"{config.samples} training images of {len(x)}", remedy="leave some for testing")
        orders = [torch.randperm(len(x), generator=torch.Generator().manual_seed(seed)) for seed in config.seeds]
        rows = torch.stack(orders).to(device)
        self.x, self.y = x[rows], y[rows]  # (seeds, N, ...)

    def new(self, *, shift: int = 0) -> list[MLP]:
        """Newly initialised networks of all members."""
        seeds = [seed + shift for seed in self.config.seeds]
        nets = [networks(setting, self.size, seeds=seeds, depth=self.config.depth) for setting in self.settings]
        return [net.to(self.device) for group in nets for net in group]

    @torch.no_grad()
    def shrink(self, net: MLP, new: MLP) -> MLP:
        """`new` becomes shrink * net + perturb * new."""
        for p, q in zip(net.parameters(), new.parameters(), strict=True):
            q.mul_(self.config.perturb).add_(p, alpha=self.config.shrink)
        return new

    def train(self, nets: list[MLP], *, images: int, ends: Iterable[int]) -> list[list[MLP]]:
        """Copies of `nets` after each of the step numbers `ends` on the first so many images, with a new optimizer."""
        config, stack, kept = self.config, Stack(nets), {}
        optimizer = torch.optim.Adam(stack.parameters(), lr=config.lr, fused=True)
        regularise(optimizer, [setting for setting in self.settings for _ in config.seeds])
        x, y = (repeated(part[:, :images], len(self.settings)) for part in (self.x, self.y))
        seeds = config.seeds * len(self.settings)
        stream = member_batches(x, y, batch_size=config.batch_size, seeds=seeds)

        def keep(step: int) -> None:
            kept[step] = stack.unstacked()

        ends = list(ends)
        train_ensemble(stack, optimizer, stream, steps=max(ends), probe=keep, probe_at=ends)
        return [kept[end] for end in ends]

    def rows(self, method: str, nets: list[MLP], setting: int) -> list[tuple]:
        """(seed, method, step, layer, metric, value) of the networks of one setting."""
        config, found = self.config, []
        images = config.samples // 2 if method == "half" else config.samples
        step = {"half": config.steps_half, "fresh, longer": config.steps + config.steps_half}.get(method, config.steps)
        for i, seed in enumerate(config.seeds):
            net, x, y = nets[setting * len(config.seeds) + i], self.x[i], self.y[i]
            layers = record(net, x[: config.samples]).values()
            ranks = [RANK_METRICS[RAW](layer.spectrum) for layer in layers]
            values = {"test_accuracy": accuracy(net, x[config.samples :], y[config.samples :])}
            values |= {"accuracy": accuracy(net, x[:images], y[:images]), RAW: sum(ranks) / len(ranks)}
            found += [(seed, method, step, "all", name, value) for name, value in values.items()]
        return found
