"""The bit-flipping experiment: does a network that never stops learning go on learning as well as it did?

Source: arXiv:2510.00304, the bit-flipping experiment, after Dohare et al. 2024: 5 million samples, one at a time, a
network of one hidden layer, plain SGD against continual backpropagation and other methods; beside them a linear learner
and, at checkpoints, networks that start anew and see the same last samples.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.tidy import tidy
from lop_utils.metrics.presets import BOOK, PAPER, measure
from lop_utils.metrics.record import LayerRecord
from lop_utils.profiles import check as check_profile
from lop_utils.streams.bit_flipping import CONVENTIONS, BitFlipping
from lop_utils.training.checkpoint import Place, current
from lop_utils.training.cores import a_core, cores
from lop_utils.training.online import ENGINES, Method, State, initial, learn
from lop_utils.training.online_linear import learn_linear

NAME = "bit_flipping"
_DIVERGED = 1e100  # squares still are numbers
_PAPER, _BOOK = PAPER.only("dead", "duplicate", "saturated", "effective_rank"), BOOK.only("dead", "effective_rank")


@dataclass(frozen=True)
class Arm:
    """One method under the name it has in figures; its width is set by the experiment."""

    name: str
    method: Method = field(default_factory=Method)


BP, CBP = Arm("bp"), Arm("cbp", Method(cbp="as_published"))
CBP_AS_CODED = Arm("cbp_as_coded", Method(cbp="as_coded"))
CBP_DOHARE = Arm("cbp_dohare", Method(cbp="dohare"))


@dataclass(frozen=True)
class Config:
    """`seeds` x `widths` x `arms` runs of `steps` steps on streams of one convention; a seed is stream and learner.

    Losses are means over `every` steps; unit metrics are taken every `measure_every` steps, on all inputs of the
    present, and with `whole_stream` at the end also on 1,000 inputs from anywhere in the stream, as the public code.
    Beside the arms: "linear", and "fresh" networks that start anew `fresh_steps` before each of `checkpoints` equally
    spaced steps (0: none).
    """

    steps: int = 5_000_000
    widths: tuple[int, ...] = (5, 10, 50, 100)
    arms: tuple[Arm, ...] = (BP, CBP)
    seeds: tuple[int, ...] = tuple(range(10))
    convention: str = "as_published"
    period: int = 10_000
    every: int = 10_000
    measure_every: int = 50_000
    whole_stream: bool = False
    checkpoints: int = 5
    fresh_steps: int = 200_000
    linear: bool = True
    engine: str = "auto"

    def __post_init__(self) -> None:
        check_choice("convention", self.convention, CONVENTIONS)
        check_choice("engine", self.engine, ENGINES)
        if not (self.seeds and self.arms and self.widths) or self.measure_every % self.every:
            problem = f"{len(self.seeds)} seeds, measure_every {self.measure_every}, every {self.every}"
            raise UsageError(problem, remedy="have a seed, an arm, a width; measure_every a multiple of every")
        if self.checkpoints and self.fresh_steps > self.steps // self.checkpoints:
            problem = f"fresh_steps {self.fresh_steps} do not fit before a checkpoint"
            raise UsageError(problem, remedy="use fewer checkpoints, 0 for none")


def preset(profile: str, seed: int = 0, **overrides: object) -> Config:
    """The configuration of a profile, with seeds `seed`, `seed + 1`, ...; laptop is as long as the paper."""
    sizes = {
        "smoke": {
            "steps": 20_000, "widths": (5, 10), "seeds": (seed, seed + 1), "period": 1_000, "every": 1_000,
            "measure_every": 5_000, "checkpoints": 2, "fresh_steps": 4_000,
        },
        "laptop": {"seeds": tuple(range(seed, seed + 10))},
        "paper": {"seeds": tuple(range(seed, seed + 10)), "measure_every": 10_000},
    }[check_profile(profile)]  # fmt: skip
    return replace(Config(**sizes), **overrides)


def run(config: Config, device: torch.device | str = "cpu", progress: Callable = iter) -> pd.DataFrame:
    """All runs of `config`, on the CPU whatever the device; arch is "width 5" and so on, task the convention.

    Metrics: loss (layer "all"; step is the end of its window); layer "after" the activation: effective_rank (singular
    values, not centred), duplicate, dead, saturated as in the paper, dead_exact, effective_rank_centred; layer "before"
    it: effective_rank, duplicate, dead; layer "all": incoming, outgoing (mean sizes of the weights). On inputs of the
    whole stream the layers are "after, whole stream" and "before, whole stream". A network that has diverged has only
    "diverged", 1, in layer "all", beside losses that are not finite.

    The runs are spread over the cores by threads: the compiled engine works without the interpreter's lock, and threads
    share one compilation, where processes would each load and import everything first.
    """
    place = partial(current().place, NAME, config)  # asked here, in the thread that the checkpoints belong to
    jobs = [
        delayed(_on_a_core)(_run, config, arm, width, seed, place(arm, width, seed))
        for width in config.widths
        for arm in config.arms
        for seed in config.seeds
    ]
    jobs += [
        delayed(_on_a_core)(_fresh, config, width, seed, place("fresh", width, seed))
        for width in config.widths
        for seed in config.seeds
        if config.checkpoints
    ]
    jobs += [delayed(_on_a_core)(_linear, config, seed) for seed in config.seeds if config.linear]
    found = Parallel(n_jobs=cores(), prefer="threads")(progress(jobs))
    frames = [tidy(rows, experiment=NAME, arch=arch, task=config.convention) for arch, rows in found]
    return pd.concat(frames, ignore_index=True)


def _on_a_core(function: Callable, *call: object) -> tuple[str, list[tuple]]:
    with a_core():
        return function(*call)


def _stream(config: Config, seed: int) -> BitFlipping:
    return BitFlipping(seed=seed, period=config.period, convention=config.convention)


def _run(config: Config, arm: Arm, width: int, seed: int, kept: Place) -> tuple[str, list[tuple]]:
    """One run: rows of losses and unit metrics."""
    stream, method = _stream(config, seed), replace(arm.method, width=width)
    state, rows = initial(method, stream, seed=seed), []
    before = kept.load()
    if before is not None:
        state, rows = State(**before["state"]), before["rows"]

    def measured(step: int) -> None:
        x, y = stream.present(max(step - 1, 0))
        rows.extend((seed, arm.name, step, *row) for row in unit_metrics(state, method, x, y))

    if before is None:
        measured(0)
    for window in learn(method, stream, state, steps=config.steps, every=config.every, seed=seed, engine=config.engine):
        rows.append((seed, arm.name, window.step, "all", "loss", window.loss))
        if window.step % config.measure_every == 0 or window.step == config.steps:
            measured(window.step)
        kept.save(lambda: {"state": vars(state), "rows": rows}, last=window.step == config.steps)
    if config.whole_stream:
        for layer, *row in unit_metrics(state, method, *_anywhere(stream, config.steps)):
            if layer != "all":
                rows.append((seed, arm.name, config.steps, f"{layer}, whole stream", *row))
    return f"width {width}", rows


@lru_cache(maxsize=16)
def _anywhere(stream: BitFlipping, steps: int) -> tuple[np.ndarray, np.ndarray]:
    return stream.sample(steps, 1000)


def _fresh(config: Config, width: int, seed: int, kept: Place) -> tuple[str, list[tuple]]:
    """Networks that start `fresh_steps` before each checkpoint; their loss in all windows."""
    stream, method = _stream(config, seed), Method(width=width)
    rows, done = kept.load() or ([], 0)
    for number in range(done + 1, config.checkpoints + 1):
        end, own = config.steps * number // config.checkpoints, seed + 1_000 * number
        state = initial(method, stream, seed=own, step=end - config.fresh_steps)
        windows = learn(method, stream, state, steps=end, every=config.every, seed=own, engine=config.engine)
        rows += [(seed, "fresh", window.step, "all", "loss", window.loss) for window in windows]
        kept.save(partial(tuple, (rows, number)), last=number == config.checkpoints)
    return f"width {width}", rows


def _linear(config: Config, seed: int) -> tuple[str, list[tuple]]:
    windows = learn_linear(_stream(config, seed), steps=config.steps, every=config.every)
    return "linear", [(seed, "linear", window.step, "all", "loss", window.loss) for window in windows]


def unit_metrics(state: State, method: Method, x: np.ndarray, y: np.ndarray) -> list[tuple[str, str, float]]:
    """(layer, metric, value) of a network on inputs x (n, inputs) and targets y (n,); see `run`."""
    z, h = (torch.from_numpy(values) for values in state.hidden(x, method))
    error = h @ torch.from_numpy(state.v) + state.c[0] - torch.from_numpy(y)
    gradient = 2 / len(y) * error[:, None] * torch.from_numpy(state.v)
    if not all(bool((values.abs() < _DIVERGED).all()) for values in (z, h, gradient)):
        return [("all", "diverged", 1.0)]
    after, before = LayerRecord("after", z, h, gradient), LayerRecord("before", z, z, gradient)
    found = [("after", metric, value) for metric, value in measure(after, _PAPER).items()]
    found += [("after", f"{metric}_book", value) for metric, value in measure(after, _BOOK).items()]
    found += [("before", metric, value) for metric, value in measure(before, _PAPER).items() if metric != "saturated"]
    sizes = {"incoming": state.w, "outgoing": state.v}
    return found + [("all", name, float(np.abs(values).mean())) for name, values in sizes.items()]
