"""What normalisation leaves free: how fast weights grow on a stream, and how little a step then turns them.

Behind a normalisation the length of a layer's weights has no effect on the function: only their direction counts. The
gradient is then orthogonal to the weights, every step makes them longer, and steps of equal length turn them less and
less. Sources: van Laarhoven 2017; Arora, Li & Lyu 2019; for streams of tasks Lyle et al. 2024, whose remedy, bringing
the weights back to their first length, is the arm `rescaled` (done here at the start of each task).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments import continual
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import RANK_METRICS, spectrum
from lop_utils.models.mlp import MLP
from lop_utils.models.stack import Stack
from lop_utils.profiles import check as check_profile
from lop_utils.streams.sources import load
from lop_utils.streams.tasks import make_stream
from lop_utils.training.side_by_side import side_by_side

NAME = "normalization"


@dataclass(frozen=True)
class Arm:
    """A normalisation, with gain and shift or without; `rescaled`: weights get their first length back at each task."""

    norm: str
    rescaled: bool = False
    affine: bool = True


ARMS = {
    "none": Arm("none"),
    "batch": Arm("batch"),
    "layer": Arm("layer"),
    "none rescaled": Arm("none", rescaled=True),
    "batch rescaled": Arm("batch", rescaled=True),
    "layer rescaled": Arm("layer", rescaled=True),
    "batch without affine": Arm("batch", affine=False),
    "layer without affine": Arm("layer", affine=False),
}


@dataclass(frozen=True)
class Config:
    """MLPs on `tasks` regroupings of `source`, `steps` Adam steps each; a step is measured every `every` steps.

    Every task begins with new moments of Adam, in all arms: old ones would belong to another scale of the weights.
    """

    arms: tuple[str, ...] = tuple(ARMS)
    source: str = "patches_jittered"
    views: int = 1
    widths: tuple[int, ...] = (64, 64, 64, 64, 64)
    lr: float = 0.003
    tasks: int = 24
    steps: int = 120
    every: int = 20
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)

    def __post_init__(self) -> None:
        for arm in self.arms:
            check_choice("arm", arm, ARMS)
        if not 1 <= self.every <= self.steps or min(self.tasks, len(self.seeds)) < 1:
            problem = f"tasks {self.tasks}, steps {self.steps}, every {self.every}, {len(self.seeds)} seeds"
            raise UsageError(problem, remedy="give at least 1 task and seed, and 1 <= every <= steps")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ..."""
    sizes = {
        "smoke": {"tasks": 3, "steps": 20, "seeds": (seed, seed + 1)},
        "laptop": {"seeds": tuple(range(seed, seed + 5))},
        "paper": {"widths": (128,) * 5, "tasks": 40, "steps": 500, "seeds": tuple(range(seed, seed + 5))},
    }[check_profile(profile)]
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All arms; one row per (seed, method, step, layer, metric), method the arm and step the number of the task.

    Layer "all": online_accuracy, accuracy, loss, ... as in `experiments.continual`. By hidden layer and as their mean:
    turn (angle in radians between a layer's weights before and after a step, mean over the task's measured steps),
    radial (|cosine| between weights and their gradient, mean), length (of the weights at the task's end), and at the
    task's end what `activity` finds.
    """
    parts = [(config, arm, torch.device(device)) for arm in config.arms]
    found = side_by_side(_train, parts, device=device, progress=progress)
    return tidy(chain.from_iterable(found), experiment=NAME, arch="mlp", task=f"regrouped {config.source}")


def _train(config: Config, name: str, device: torch.device) -> list[tuple]:
    arm, meters = ARMS[name], []
    stream = continual.Config(
        source=config.source, settings=(("groups", 5), ("views", config.views)), widths=config.widths, norm=arm.norm,
        affine=arm.affine, lr=config.lr, tasks=config.tasks, steps=config.steps, measured=config.tasks, fresh=(),
        seeds=config.seeds,
    )  # fmt: skip
    source = load(config.source, device)
    images = make_stream("regrouped", source, groups=5, views=config.views, seed=0).task(0).inputs  # always the same

    def install(optimizer: Optimizer, stack: Stack) -> Callable[[int], None]:
        meter = Meter(stack, optimizer, images, every=config.every)
        meters.append(meter)
        first = lengths(stack)

        def at_task(index: int) -> None:
            if index:
                meter.close(index)
            optimizer.state.clear()
            if index and arm.rescaled:
                rescale(stack, first)

        return at_task

    rows = continual.train_stream(stream, device, method=name, install=install)
    meters[0].close(config.tasks)
    measured = [(config.seeds[i], name, *rest) for i, *rest in meters[0].rows]
    return [row for row in rows if row[3] == "all"] + measured


def free_groups(skeleton: nn.Module) -> list[tuple[str, ...]]:
    """Names of each hidden layer's parameters whose common length a normalisation behind them takes out.

    Weight and bias for layer normalisation; the weight alone for batch normalisation, which takes the bias out
    altogether, and for none, to compare. Raises `UsageError` for networks other than MLPs.

    >>> from lop_utils.models.mlp import MLPConfig
    >>> free_groups(MLP(MLPConfig(3, (4,), 2, norm="layer"), seed=0))
    [('hidden.0.linear.weight', 'hidden.0.linear.bias')]
    """
    if not isinstance(skeleton, MLP):
        raise UsageError(f"weight lengths of a {type(skeleton).__name__}", remedy="use an MLP")
    parts = ("weight", "bias") if skeleton.config.norm == "layer" else ("weight",)
    return [tuple(f"hidden.{i}.linear.{part}" for part in parts) for i in range(len(skeleton.hidden))]


def joined(tensors: Mapping[str, Tensor], names: Sequence[str]) -> Tensor:
    """The named tensors (members, ...) of a stack as one vector a member: (members, values), a copy."""
    return torch.cat([tensors[name].detach().flatten(1) for name in names], dim=1)


def lengths(stack: Stack) -> Tensor:
    """Euclidean lengths of the groups of `free_groups`, (layers, members)."""
    return torch.stack([joined(stack.tensors, group).norm(dim=1) for group in free_groups(stack.skeleton)])


def turned(before: Tensor, after: Tensor) -> Tensor:
    """Angle in radians between rows, (members, n) each -> (members,); exact for small angles too.

    2 arctan(|u - v| / |u + v|) for the unit vectors u, v (Kahan): the arccosine of the cosine loses half of the digits.

    >>> turned(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]])).round(decimals=4)
    tensor([0.7854], dtype=torch.float64)
    """
    u, v = (nn.functional.normalize(x.double(), dim=1) for x in (before, after))
    return 2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1))


@torch.no_grad()
def rescale(stack: Stack, wanted: Tensor) -> None:
    """Give the hidden layers' weights the lengths `wanted` (layers, members), and all else the scale that follows.

    Behind a normalisation the function stays; a batch norm's running statistics follow. Without one a layer's factor
    reaches all layers after it, so that biases get the product of the factors so far: in a ReLU network all hidden
    units then keep their activity up to a common factor, and only the features' scale changes. The head is left as it
    is.
    """
    factors, tensors = wanted / lengths(stack), stack.tensors
    reached = factors.cumprod(0) if stack.skeleton.config.norm == "none" else factors
    for i, (factor, scale) in enumerate(zip(factors, reached, strict=True)):
        tensors[f"hidden.{i}.linear.weight"].mul_(factor[:, None, None])
        tensors[f"hidden.{i}.linear.bias"].mul_(scale[:, None])
        for statistic, power in (("running_mean", 1), ("running_var", 2)):
            if f"hidden.{i}.norm.{statistic}" in tensors:
                tensors[f"hidden.{i}.norm.{statistic}"].mul_(factor[:, None] ** power)


@dataclass
class Meter:
    """Watches the hidden layers' weights in every `every`-th step of an optimizer; `close` makes rows of what it saw.

    rows: (member, step, layer, metric, value). `images` (N, ...) are those on which activity is measured.
    """

    stack: Stack
    optimizer: Optimizer
    images: Tensor
    every: int
    rows: list[tuple] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = free_groups(self.stack.skeleton)
        self._taken, self._before = 0, []
        self._turns: list[Tensor] = []
        self._cosines: list[Tensor] = []
        self.optimizer.register_step_pre_hook(self._look)
        self.optimizer.register_step_post_hook(self._compare)

    def _look(self, *_: object) -> None:
        if (self._taken + 1) % self.every == 0:
            tensors = self.stack.tensors
            gradients = {name: tensors[name].grad for group in self.groups for name in group}
            self._before = [joined(tensors, group) for group in self.groups]
            pairs = zip(self._before, (joined(gradients, group) for group in self.groups), strict=True)
            cosines = [nn.functional.cosine_similarity(w.double(), g.double(), dim=1, eps=1e-30) for w, g in pairs]
            self._cosines.append(torch.stack(cosines).abs())

    def _compare(self, *_: object) -> None:
        if self._before:
            after = [joined(self.stack.tensors, group) for group in self.groups]
            self._turns.append(torch.stack([turned(w, v) for w, v in zip(self._before, after, strict=True)]))
            self._before = []
        self._taken += 1

    def state_dict(self) -> dict:
        """What was seen so far."""
        return {"rows": self.rows, "taken": self._taken, "turns": self._turns, "cosines": self._cosines}

    def load_state_dict(self, state: dict) -> None:
        """Go on from `state_dict()`."""
        self.rows, self._taken = list(state["rows"]), state["taken"]
        self._turns, self._cosines = list(state["turns"]), list(state["cosines"])

    def close(self, step: int) -> None:
        """Rows for the steps since the last call, as those of task `step`, and of the activity now."""
        seen = {"turn": torch.stack(self._turns).mean(0), "radial": torch.stack(self._cosines).mean(0)}
        seen |= {"length": lengths(self.stack)} | activity(self.stack, self.images)
        for metric, values in seen.items():  # (layers, members)
            named = [(f"hidden.{i}", row) for i, row in enumerate(values)] + [("mean", values.mean(0))]
            for layer, row in named:
                self.rows += [(i, step, layer, metric, float(value)) for i, value in enumerate(row)]
        self._turns.clear()
        self._cosines.clear()


def activity(stack: Stack, images: Tensor) -> dict[str, Tensor]:
    """What the hidden layers of a stack of MLPs do with `images`, in evaluation mode; (layers, members) each.

    pre_activation_sd: mean over units of the standard deviation over images; dead: share of units that are not positive
    on any image; effective_rank: of the activations (singular values, raw).
    """
    found: dict[str, list[list[float]]] = {name: [] for name in ("pre_activation_sd", "dead", "effective_rank")}
    for i in range(stack.members):
        rows: dict[str, list[float]] = {name: [] for name in found}
        for layer in record(stack.member(i), images).values():
            z, h = layer.pre_activation, layer.activation  # (N, units)
            rows["pre_activation_sd"].append(float(z.std(0).mean()))
            rows["dead"].append(float((z <= 0).all(0).float().mean()))
            rows["effective_rank"].append(RANK_METRICS["effective_rank_singular_raw"](spectrum(h, layer=layer.name)))
        for name, values in rows.items():
            found[name].append(values)
    return {name: torch.tensor(values).T for name, values in found.items()}
