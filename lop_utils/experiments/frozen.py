"""Do dead units come back? Units of both hidden layers are killed, the network is trained, the dead are counted.

Source: arXiv:2510.00304, the proposition on frozen units. A unit is killed by its bias, which is lowered until its
largest pre-activation over the training inputs is `margin` standard deviations below zero; first layer first, so that
the units of the second are dead given the first. Every arm then trains on the same fixed data.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor
from torch.optim import SGD, Adam, Optimizer

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tidy import tidy
from lop_utils.manifolds.frozen import moved_by, revived_units, silent_units
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.profiles import check as check_profile
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import Source, load
from lop_utils.training.loop import probe_steps, train

NAME = "frozen"


@dataclass(frozen=True)
class Arm:
    """How one arm trains: how its optimizer is made, and whether that ran before the units were killed (`warm`)."""

    make: Callable[[MLP], Optimizer]
    warm: bool = False


def _sgd_decay(*, biases: float, weights: float) -> Callable[[MLP], Optimizer]:
    def make(net: MLP) -> Optimizer:
        groups = [([p for p in net.parameters() if p.ndim == n], decay) for n, decay in ((1, biases), (2, weights))]
        return SGD([{"params": params, "weight_decay": decay} for params, decay in groups], lr=0.1)

    return make


ARMS: Mapping[str, Arm] = {
    "sgd": Arm(lambda net: SGD(net.parameters(), lr=0.1)),
    "momentum": Arm(lambda net: SGD(net.parameters(), lr=0.02, momentum=0.9)),
    "adam": Arm(lambda net: Adam(net.parameters(), lr=0.003)),
    "first_fixed": Arm(lambda net: SGD([*net.hidden[1].parameters(), *net.head.parameters()], lr=0.1)),
    "momentum_warm": Arm(lambda net: SGD(net.parameters(), lr=0.02, momentum=0.9), warm=True),
    "adam_warm": Arm(lambda net: Adam(net.parameters(), lr=0.003), warm=True),
    "decay_all": Arm(_sgd_decay(biases=0.01, weights=0.01)),
    "decay_biases": Arm(_sgd_decay(biases=0.01, weights=0.0)),
}
"""sgd, momentum, adam: from a fresh state. first_fixed: SGD, first hidden layer not trained. *_warm: state from before
the killing is kept. decay_all, decay_biases: SGD with an L2 penalty on all parameters, or on the biases alone."""


@dataclass(frozen=True)
class Config:
    """`seeds` x `arms` runs of `steps` steps on one source, with `share` of the units of each hidden layer killed."""

    source: str = "digits"
    widths: tuple[int, int] = (64, 64)
    share: float = 0.3
    margin: float = 0.1
    batch_size: int = 64
    warm_up: int = 20
    steps: int = 300
    probes: int = 11
    arms: tuple[str, ...] = tuple(ARMS)
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if not 0 < self.share < 1 or self.margin <= 0 or len(self.widths) != 2 or not self.seeds:
            problem = f"share {self.share}, margin {self.margin}, widths {self.widths}, {len(self.seeds)} seeds"
            raise UsageError(problem, remedy="give 0 < share < 1, margin > 0, two widths and a seed")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"warm_up": 5, "steps": 20, "probes": 2, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128, 128), "steps": 20_000, "probes": 41, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs; one row per (seed, method, step, layer, metric), method an arm, layer hidden.0 or hidden.1.

    Metrics: killed (units dead on every training input at step 0), revived (those of them that fire on one now), moved
    (largest change of their incoming weights and biases); for layer "all" train_loss.
    """
    source = load(config.source, device)
    rows = [
        row for seed in progress(config.seeds) for arm in config.arms for row in _run_arm(config, source, arm, seed)
    ]
    return tidy(rows, experiment=NAME, arch="mlp", task=config.source)


@torch.no_grad()
def kill(net: MLP, inputs: Tensor, *, share: float, margin: float) -> None:
    """Lower the biases of the first `share` of the units of each hidden layer, layer by layer, until they are dead.

    Afterwards the largest pre-activation of such a unit over `inputs` is `margin` times its standard deviation below 0.
    """
    for name, layer in zip(record(net, inputs), net.hidden, strict=True):
        z = record(net, inputs, spaces=[name])[name].pre_activation  # (N, units), layers below killed already
        some = slice(0, round(share * z.shape[1]))
        layer.linear.bias[some] -= (z.amax(0) + margin * z.std(0))[some]


def _run_arm(config: Config, source: Source, arm: str, seed: int) -> list[tuple]:
    net = MLP(MLPConfig(source.size, config.widths, source.classes), seed=seed).to(source.inputs.device)
    x, y = source.inputs.flatten(1), source.targets
    optimizer = ARMS[arm].make(net)
    stream = batches(x, y, batch_size=config.batch_size, seed=seed)
    train(net, optimizer, stream, steps=config.warm_up, seed=seed)
    kill(net, x, share=config.share, margin=config.margin)
    if not ARMS[arm].warm:
        optimizer = ARMS[arm].make(net)
    silent, start = silent_units(net, x), {name: p.clone() for name, p in net.state_dict().items()}
    rows: list[tuple] = []

    def probe(step: int) -> None:
        loss = float(torch.nn.functional.cross_entropy(net(x).detach(), y))
        rows.append((seed, arm, step, "all", "train_loss", loss))
        revived, moved = revived_units(net, x, silent), moved_by(net, silent, start)
        for name, mask in silent.items():
            values = {"killed": int(mask.sum()), "revived": revived[name], "moved": moved[name]}
            rows.extend((seed, arm, step, name, metric, float(value)) for metric, value in values.items())

    due = probe_steps(config.steps, config.probes)
    train(net, optimizer, stream, steps=config.steps, seed=seed + 1, probe=probe, probe_at=due)
    return rows
