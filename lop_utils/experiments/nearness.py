"""How near do ordinary networks come to the manifolds of cloned and of frozen units, along a stream of tasks?

The stream is that of `experiments.conserved`: random labels of the same digits. Every network has two controls, made
from itself: `random`, each unit's incoming weights and bias replaced by a Gaussian direction of the same length; and
`shuffled`, the entries of each unit's incoming weights permuted among themselves.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pandas as pd
import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments import conserved, continual
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.nearest import frozen_distances, nearest_clone, nearest_pair
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP
from lop_utils.optim.intervention import generators_for
from lop_utils.profiles import check as check_profile
from lop_utils.streams.tasks import members_task

NAME = "nearness"
CONTROLS = ("trained", "random", "shuffled")


@dataclass(frozen=True)
class Config:
    """The stream of `conserved` under `rules`; distances after the tasks in `probes` (0: at initialisation).

    `share`: number of blocks over number of units in every layer, for the distance to a network of clones; `units`: how
    many units of each layer enter the distance to the frozen manifold.
    """

    rules: tuple[str, ...] = ("SGD .1", "Adam")
    probes: tuple[int, ...] = (0, 1, 2, 4, 8, 16)
    share: float = 0.5
    units: int = 16
    stream: conserved.Config = field(default_factory=conserved.Config)

    def __post_init__(self) -> None:
        for rule in self.rules:
            check_choice("rule", rule, conserved.RULES)
        if not self.probes or max(self.probes) > self.stream.tasks or not 0 < self.share < 1 or self.units < 1:
            problem = f"probes {self.probes} of {self.stream.tasks} tasks, share {self.share}, units {self.units}"
            raise UsageError(problem, remedy="probe within the stream, with a share between 0 and 1 and a unit")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    stream = conserved.preset(profile, seed)
    sizes: dict[str, object] = {
        "smoke": {"probes": (0, 2), "units": 4},
        "laptop": {},
        "paper": {"probes": (0, 1, 2, 4, 8, 16, 32, 40), "units": 128},
    }[check_profile(profile)]
    return replace(Config(stream=stream, **sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """One row per (seed, method, step = tasks learned, layer, metric); the layer is "trained", "random" or "shuffled".

    Metrics: pair (`nearest_pair`, relative), clone (`nearest_clone`, relative, from weights and activations), frozen
    (mean over the living units of `frozen_distances` over the length of (w, b)), nearest_frozen (the least of them) and
    silent (share of units at distance 0); frozen ones with the inputs that the trained network's layer has.
    """
    rows: list[tuple] = []
    for rule in progress(config.rules):
        runner = continual.start(conserved.stream_config(config.stream, rule), torch.device(device), method=rule)
        for done in range(config.stream.tasks + 1):
            if done:
                continual.learn(runner, members_task(runner.streams, done - 1), measured=False)
            if done in config.probes:
                x = members_task(runner.streams, max(done - 1, 0)).inputs
                for i, seed in enumerate(config.stream.seeds):
                    found = distances(runner.stack.member(i), x[i].flatten(1), config, seed=seed)
                    rows += [(seed, rule, done, *row) for row in found]
    return tidy(rows, experiment=NAME, arch="mlp", task=f"random_labels {config.stream.source}")


def distances(net: MLP, x: Tensor, config: Config, *, seed: int) -> list[tuple[str, str, float]]:
    """(control, metric, value) of one network on its images (N, d)."""
    net, rows = net.eval(), []
    inputs = [x, *(layer.activation for layer in record(net, x).values())]
    for control in CONTROLS:
        other = net if control == "trained" else controlled(net, control, seed=seed)
        near = nearest_clone(other, config.share, inputs=x)
        frozen = torch.cat([_frozen(layer, h, config.units) for layer, h in zip(other.hidden, inputs, strict=False)])
        living = frozen[frozen > 0]
        rows += [(control, "pair", nearest_pair(other).relative), (control, "clone", near.relative)]
        rows.append((control, "silent", float((frozen == 0).double().mean())))
        if len(living):
            rows += [(control, "frozen", float(living.mean())), (control, "nearest_frozen", float(living.min()))]
    return rows


def _frozen(layer: nn.Module, inputs: Tensor, units: int) -> Tensor:
    """Relative distances to silence of the first `units` units of a layer."""
    w, b = layer.linear.weight.detach()[:units], layer.linear.bias.detach()[:units]
    length = (w.double().square().sum(1) + b.double().square()).sqrt()
    return frozen_distances(w, b, inputs) / length.clamp(min=1e-30).cpu()


@torch.no_grad()
def controlled(net: MLP, control: str, *, seed: int) -> MLP:
    """A copy of `net` whose rows of (weights, bias) are random directions of their length, or shuffled row by row."""
    check_choice("control", control, CONTROLS[1:])
    generator = generators_for(net, seed)[0]  # a network's own seed would bring back its own first weights
    copy = net.resized({})
    copy.load_state_dict(net.state_dict())
    for linear in [*(layer.linear for layer in copy.hidden), copy.head]:
        w, b = linear.weight, linear.bias
        if control == "shuffled":
            order = torch.rand(w.shape, generator=generator).argsort(1)
            w.copy_(w.gather(1, order))
            continue
        both = torch.cat([w, b[:, None]], 1)
        drawn = torch.randn(both.shape, generator=generator)
        drawn *= both.norm(dim=1, keepdim=True) / drawn.norm(dim=1, keepdim=True)
        w.copy_(drawn[:, :-1])
        b.copy_(drawn[:, -1])
    return copy
