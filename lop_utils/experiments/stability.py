"""Stability of the cloned networks: the normal Hessian along training, and the escape that it predicts.

A base network learns one task and then, after a switch of labels, another. At some steps the Hessian on the normal
space of its k-fold clone is computed in closed form. From `track_from` on a perturbed clone is trained beside it: its
measured distance from RE and CE is compared, step by step, with the product of (I - lr H_t) over the minibatches, for
which only the base is used. Source: the question on curvature normal to the manifold in arXiv:2510.00304.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import classify
from lop_utils.manifolds.equitable import jitter
from lop_utils.manifolds.partition import Partition
from lop_utils.manifolds.rates import copies
from lop_utils.manifolds.unit_blocks import spectrum_of, unit_coordinates, unit_hessians
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import load

NAME = "stability"
ACTIVATIONS = ("tanh", "gelu", "relu")


@dataclass(frozen=True)
class Config:
    """`seeds` x `activations` base networks, `switch` steps on the first task, then up to step `steps` on the second.

    The second task has the classes of the first under a random permutation. `probes` are the steps at which the normal
    spectrum of the `factor`-fold clone is computed, on `rows` samples of the task of that step. Tracking starts at
    `track_from` (None: no tracking) with a perturbation of every weight of the clone of standard deviation `scale`, and
    ends with the run; distances are noted every `every` steps, growth rates taken over windows of `window` steps.
    Plain SGD in float64: the clone at rate `lr`, the base at the rates that make it the clone's quotient.
    """

    source: str = "digits"
    widths: tuple[int, ...] = (16, 16)
    activations: tuple[str, ...] = ACTIVATIONS
    factor: int = 2
    lr: float = 0.2
    batch_size: int = 128
    switch: int = 1000
    steps: int = 1500
    probes: tuple[int, ...] = (0, 20, 50, 100, 200, 400, 700, 999, 1000, 1020, 1050, 1100, 1200, 1500)
    rows: int = 1000
    track_from: int | None = None
    scale: float = 1e-12
    window: int = 100
    every: int = 10
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        if self.factor < 2 or not self.seeds or not self.activations:
            problem = f"factor {self.factor}, {len(self.seeds)} seeds, {len(self.activations)} activations"
            raise UsageError(problem, remedy="use factor >= 2, a seed and an activation")
        if self.window % self.every:
            raise UsageError(f"window {self.window}, every {self.every}", remedy="make the window a multiple of every")
        if not 0 <= self.switch <= self.steps or max((*self.probes, self.track_from or 0)) > self.steps:
            problem = f"switch {self.switch}, probes {self.probes}, tracking from {self.track_from}, {self.steps} steps"
            raise UsageError(problem, remedy="keep all of them between 0 and steps")


def preset(profile: str, seed: int = 0, *, escape: bool = False, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ...; `escape`: the run with tracking.

    Spectra are followed on digits, which the base learns to a small loss; escapes on MNIST-1D, which it does not.
    """
    few = check_profile(profile) == "smoke"
    config = Config(seeds=tuple(range(seed, seed + (2 if few else 5))))
    if escape:
        config = replace(
            config, source="mnist1d", widths=(16, 16, 16), switch=1000, steps=1300, track_from=600, probes=()
        )
    if few and escape:
        config = replace(config, switch=40, steps=60, track_from=20, window=10)
    elif few:
        config = replace(config, switch=60, steps=100, probes=(0, 30, 59, 60, 100))
    if profile == "paper":
        config = replace(config, widths=(64,) * len(config.widths), seeds=tuple(range(seed, seed + 10)))
    return replace(config, **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs of `config`, one row per (seed, method, step, layer, metric); the method is the activation.

    At probes, layer "all": train_loss, residual (rms over samples of the norm of dL/d outputs), lambda_min, lambda_max,
    trace, negative, zero, positive. While tracking: distance and predicted (both divided by the distance at the start)
    and, at the end of each window, rate (log growth a step, divided by lr), lambda_now (smallest eigenvalue on the rows
    at the start of the window) and lambda_mean (smallest eigenvalue of the Hessian averaged over the window).
    """
    source, rows = load(config.source, device), []
    x = source.inputs.flatten(1).double()
    for seed in progress(config.seeds):
        relabel = torch.randperm(source.classes, generator=torch.Generator().manual_seed(seed)).to(x.device)
        for activation in config.activations:
            shape = MLPConfig(source.size, config.widths, source.classes, activation=activation)
            base = MLP(shape, seed=seed).to(x)
            timeline = _Timeline(config, base, x, source.targets, relabel[source.targets], seed)
            rows += [(seed, activation, *row) for row in timeline.run()]
    frame = pd.DataFrame(rows, columns=["seed", "method", "step", "metric", "value"])
    frame.insert(0, "experiment", NAME)
    frame.insert(1, "arch", "mlp")
    frame.insert(4, "task", config.source)
    frame.insert(6, "layer", "all")
    return frame


@dataclass
class _Timeline:
    """One base network from step 0 to the end, with its probes and its tracked clone."""

    config: Config
    base: MLP
    x: Tensor
    first: Tensor
    second: Tensor
    seed: int
    rows: list[tuple[int, str, float]] = field(default_factory=list)

    def run(self) -> list[tuple[int, str, float]]:
        """(step, metric, value) of the whole run."""
        config, tracker, rates = self.config, None, _quotient_rates(self.config, self.base)
        both = torch.stack([self.first, self.second], dim=1)
        stream = batches(self.x, both, batch_size=config.batch_size, seed=self.seed)
        for step in range(config.steps + 1):
            if step in config.probes:
                self._probe(step)
            if step == config.track_from:
                tracker = _Tracker(config, self.base, self.seed)
            if tracker is not None:
                self._follow(tracker, step)
            if step < config.steps:
                x, targets = next(stream)
                y = targets[:, int(step >= config.switch)]
                if tracker is not None:
                    tracker.step(self.base, x, y)
                _descend(self.base, x, y, rates)
        return self.rows

    def _task(self, step: int) -> tuple[Tensor, Tensor]:
        """The rows on which the Hessian is probed, with the labels of the task of this step."""
        rows = slice(self.config.rows)
        return self.x[rows], (self.first if step < self.config.switch else self.second)[rows]

    def _probe(self, step: int) -> None:
        x, y = self._task(step)
        with torch.no_grad():
            outputs = self.base(x)
            residual = outputs.softmax(1) - nn.functional.one_hot(y, outputs.shape[1])
            loss = nn.functional.cross_entropy(outputs, y)
        values = spectrum_of(unit_hessians(self.base, self.config.factor, x, y))
        found = classify(values)
        measured = {
            "train_loss": float(loss),
            "residual": float(residual.square().sum(1).mean().sqrt()),
            "lambda_min": found.smallest,
            "lambda_max": found.largest,
            "trace": float(values.sum()),
            "negative": found.negative,
            "zero": found.zero,
            "positive": found.positive,
        }
        self.rows += [(step, metric, value) for metric, value in measured.items()]

    def _follow(self, tracker: "_Tracker", step: int) -> None:
        since = step - self.config.track_from
        if since % self.config.every:
            return
        measured, predicted = tracker.distances()
        self.rows += [(step, "distance", measured), (step, "predicted", predicted)]
        if since % self.config.window == 0:
            if since:
                self.rows += [(step, metric, value) for metric, value in tracker.close_window(measured).items()]
            now = spectrum_of(unit_hessians(self.base, self.config.factor, *self._task(step)))
            tracker.open_window(measured, float(now[0]))


class _Tracker:
    """A perturbed clone that is trained, and the linear prediction of its normal coordinates from the base alone."""

    def __init__(self, config: Config, base: MLP, seed: int):
        self.config, self.count, self.sums = config, 0, {}
        self.clone = widen(base, config.factor)
        jitter(self.clone, Partition.of_clone(self.clone, config.factor), scale=config.scale, seed=seed, inside=False)
        self.predicted = unit_coordinates(self.clone, config.factor)
        self.start = _norm(self.predicted)
        self.rates = [config.lr] * len(list(self.clone.parameters()))

    def step(self, base: MLP, x: Tensor, y: Tensor) -> None:
        """One SGD step of the clone, and one factor I - lr H of the prediction, for the same minibatch."""
        for name, hessian in unit_hessians(base, self.config.factor, x, y).items():
            blocks = hessian.blocks()
            self.predicted[name] = self.predicted[name] - self.config.lr * blocks @ self.predicted[name]
            self.sums[name] = self.sums.get(name, 0) + blocks
        self.count += 1
        _descend(self.clone, x, y, self.rates)

    def distances(self) -> tuple[float, float]:
        """Measured and predicted distance from RE and CE, divided by the distance at the start."""
        return _norm(unit_coordinates(self.clone, self.config.factor)) / self.start, _norm(self.predicted) / self.start

    def open_window(self, distance: float, lambda_now: float) -> None:
        self.opened, self.lambda_now, self.count, self.sums = distance, lambda_now, 0, {}

    def close_window(self, distance: float) -> dict[str, float]:
        smallest = min(float(torch.linalg.eigvalsh(total / self.count).min()) for total in self.sums.values())
        rate = math.log(distance / self.opened) / self.count / self.config.lr
        return {"rate": rate, "lambda_now": self.lambda_now, "lambda_mean": smallest}


def _norm(coordinates: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(part.square().sum()) for part in coordinates.values()))


def _quotient_rates(config: Config, base: MLP) -> list[float]:
    """Rates at which training `base` is training its clone at rate lr for every weight: lr k_in / k_out."""
    return [config.lr * k_in / k_out for k_in, k_out in copies(base, config.factor).values()]


def _descend(model: MLP, x: Tensor, y: Tensor, rates: list[float]) -> None:
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(nn.functional.cross_entropy(model(x), y), parameters)
    with torch.no_grad():
        for parameter, gradient, rate in zip(parameters, gradients, rates, strict=True):
            parameter -= rate * gradient
