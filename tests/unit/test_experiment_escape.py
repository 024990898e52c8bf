"""The escape experiments: signals of a stack against `record`, arms against lone runs, escape times against theory."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.experiments import cloning, escape, escape_time
from lop_utils.experiments.escape_arms import ARMS, DECAYS, SIGMAS, arm_batches, grouped, noise_name, with_dropout
from lop_utils.experiments.escape_signals import cloning_r2s, loss_and_accuracy, mean_rank, signals
from lop_utils.figures import escape as figures
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import normal_product
from lop_utils.manifolds.normal_space import normal_space
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import ranks
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.models.vit import ViT, ViTConfig

COLUMNS = ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]
NETS = {
    "mlp": lambda s: MLP(MLPConfig(192, (4, 6), 5, norm="layer"), seed=s),
    "cnn": lambda s: CNN(CNNConfig(3, 8, 5, channels=(4, 6), fc=8, norm="batch"), seed=s),
    "vit": lambda s: ViT(ViTConfig(3, 8, 5, patch=4, width=8, depth=1, heads=2, head_dim=4, mlp=8), seed=s),
}


def data(rows=20, seed=0, shape=(3, 8, 8), classes=5):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(rows, *shape, generator=g).double(), torch.randint(classes, (rows,), generator=g)


def tiny(**changes):
    return escape.preset("smoke", **{"base_steps": 25, "steps": 30, "probes": 3, "widths": (8, 8)} | changes)


def value(frame, method, metric, layer="mean", step=None):
    rows = frame[(frame.method == method) & (frame.metric == metric) & (frame.layer == layer)]
    return rows[rows.step == (rows.step.max() if step is None else step)].sort_values("seed")["value"].to_numpy()


@pytest.fixture(scope="module")
def frame():
    return escape.run(tiny())


@pytest.fixture(scope="module")
def timed():
    return escape_time.run(short())


def short(**changes):
    """Large weights and steps, so that something grows soon; thresholds at 1.5 to 20 times sigma^2."""
    sizes = {"lr": 1.0, "gain": 2.0, "widths": (8, 8), "base_steps": 20, "steps": 80, "every": 10, "rows": 100}
    sigmas = tuple((1e-9 / level) ** 0.5 for level in (1.5, 2.5, 4, 6, 10, 20))
    return escape_time.preset("smoke", **sizes | {"threshold": 1e-9, "sigmas": sigmas} | changes)


@pytest.mark.parametrize("arch", NETS)
def test_the_signals_of_a_stack_are_those_that_record_finds_in_its_members(arch):
    x, y = data()
    stack = Stack([NETS[arch](s).double() for s in (0, 1)])
    found = signals(stack, x, y)
    rank = mean_rank(found)
    for i in range(2):
        lone = record(stack.member(i), x, y)
        labels = Partition.of_clone(stack.skeleton, 2).labels
        assert list(found) == list(lone)
        for name, layer in lone.items():
            torch.testing.assert_close(found[name].activation[i], layer.activation, rtol=1e-9, atol=1e-12)
            torch.testing.assert_close(found[name].gradient[i], layer.gradient, rtol=1e-9, atol=1e-12)
            r2 = cloning_r2s(found[name].activation, 2)[i]
            assert float(r2) == pytest.approx(cloning_r2(layer.activation, labels[name]), abs=1e-12)
        expected = np.mean([ranks(layer.activation)["effective_rank_singular_raw"] for layer in lone.values()])
        assert float(rank[i]) == pytest.approx(expected, rel=1e-5)


def test_loss_and_accuracy_in_pieces_are_those_of_the_whole():
    x, y = data(rows=17)
    stack = Stack([NETS["mlp"](s).double() for s in (0, 1)])
    loss, accuracy = loss_and_accuracy(stack, x, y, rows=5)
    for i in range(2):
        outputs = stack.member(i)(x).detach()
        assert float(loss[i]) == pytest.approx(float(nn.functional.cross_entropy(outputs, y)))
        assert float(accuracy[i]) == pytest.approx(float((outputs.argmax(1) == y).double().mean()))
    assert stack.training


def test_every_arm_that_the_cloning_experiment_has_too_comes_out_as_there(frame):
    """Lone networks in a loop against stacks: the same seeds, minibatches and noise, float32."""
    arms = {"base": "base", "clone": "sgd", "noisy_step": noise_name(0.01, 0), "noisy_sgd": noise_name(0.01, 1)}
    config = cloning.preset("smoke", base_steps=25, steps=30, probes=3, widths=(8, 8), arms=(*arms, "fresh"))
    lone = cloning.run(config)
    for theirs, ours in (arms | {"fresh": "fresh"}).items():
        for step in (0, 15, 30):
            loss = value(lone, theirs, "train_loss", "all", step)
            assert value(frame, ours, "train_loss", "all", step) == pytest.approx(loss, rel=1e-4)
    for theirs in ("noisy_step", "noisy_sgd"):
        apart, expected = (1 - value(f, m, "r2", step=30) for f, m in ((frame, arms[theirs]), (lone, theirs)))
        rows = 200 / 1000  # signals of fewer samples
        assert apart == pytest.approx(expected, rel=rows) and (apart > 1e-7).all()


def test_noise_that_treats_copies_alike_keeps_them_to_the_last_bit_and_the_rest_does_not(frame):
    blind = ("sgd", "label noise", "input noise", "SAM")
    for name in ARMS:
        r2 = value(frame, name, "r2")
        if name in blind:
            assert (r2 >= 1 - 1e-12).all(), name
        elif name not in ("fresh", "CBP"):  # CBP has no mature unit so early
            assert (r2 < 1 - 1e-9).all(), name
    losses = {name: value(frame, name, "train_loss", "all").tolist() for name in blind}
    assert len({tuple(v) for v in losses.values()}) == len(blind)  # they do act


def test_continual_backprop_breaks_copies_once_units_are_mature():
    run = escape.run(tiny(steps=160, arms=("CBP",), base=False, widths=(32,), seeds=(0,)))
    assert value(run, "CBP", "r2", step=80)[0] > 1 - 1e-12 and value(run, "CBP", "r2")[0] < 1 - 1e-4


def test_an_arm_does_the_same_whatever_arms_train_beside_it(frame):
    alone = escape.run(tiny(arms=("label noise", noise_name(0.05, 1)), base=False))
    for name in ("label noise", noise_name(0.05, 1)):
        assert value(alone, name, "train_loss", "all") == pytest.approx(
            value(frame, name, "train_loss", "all"), rel=1e-5
        )
    assert set(alone.method) == {"label noise", noise_name(0.05, 1)}


def test_the_frame_is_tidy_and_complete(frame):
    assert list(frame) == COLUMNS and frame.value.notna().all()
    assert not frame.duplicated([c for c in COLUMNS if c != "value"]).any()
    assert set(frame.method) == {"base", *ARMS} and set(frame.step) == {0, 1, 15, 30}
    start = frame[(frame.step == 0) & (frame.metric == "train_loss") & (frame.method != "fresh")]
    assert (start.groupby("seed").value.max() - start.groupby("seed").value.min()).max() < 1e-5


@pytest.mark.parametrize("arch", ["cnn", "vit"])
def test_convolutions_and_transformers_are_confined_and_freed_too(arch):
    shape = {"cnn": {"widths": (4, 4, 8)}, "vit": {"widths": (8, 8, 1, 2, 4), "norm": "layer", "activation": "gelu"}}
    arms = ("sgd", noise_name(0.05, 0), "dropout 0.1")
    changes = {"arch": arch, "source": "patches", "rows": 50, "seeds": (0,), "steps": 8, "base_steps": 5, "lr": 0.05}
    run = escape.run(tiny(arms=arms, curvature=arch == "vit", **changes, **shape[arch]))
    assert value(run, "sgd", "r2")[0] == 1
    assert all(value(run, name, "r2")[0] < 1 - 1e-9 for name in arms[1:])
    if arch == "vit":
        assert value(run, "sgd", "lambda_min", "all")[0] < 0


def test_noise_on_data_is_drawn_by_seed_and_leaves_the_other_arms_alone():
    x, y = torch.zeros(2, 500, 3), torch.zeros(2, 500, dtype=torch.long)
    names = ["sgd", "input noise", "label noise"]
    xs, ys = next(arm_batches(iter([(x, y)]), names, (4, 5), 10))
    assert torch.equal(xs[:2], x) and torch.equal(xs[4:], x) and torch.equal(ys[:4], y.repeat(2, 1))
    assert xs[2:4].std().item() == pytest.approx(0.3, rel=0.05)
    assert (ys[4:] > 0).float().mean().item() == pytest.approx(0.2 * 0.9, abs=0.04)
    assert not torch.equal(xs[2], xs[3]) and not torch.equal(ys[4], ys[5])


def test_arms_share_a_stack_unless_they_change_its_module_or_its_steps():
    groups = grouped(tuple(ARMS))
    assert sorted(name for group in groups for name in group) == sorted(ARMS)
    first = next(group for group in groups if "sgd" in group)
    assert {noise_name(s, d) for s in SIGMAS for d in DECAYS} | {"label noise", "fresh"} <= set(first)
    net = widen(NETS["mlp"](0), 2)
    masked = with_dropout(net, 0.2)
    assert masked.config.dropout == 0.2 and torch.equal(masked.head.weight, net.head.weight)


def test_the_curvature_product_is_the_hessian_on_the_normal_space():
    clone = widen(MLP(MLPConfig(192, (4, 3), 5, activation="tanh"), seed=0).double(), 2)
    space, (x, y) = normal_space(clone, Partition.of_clone(clone, 2)), data()
    v = torch.randn(space.dimension, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    direction = {name: torch.zeros_like(p).detach()[None] for name, p in clone.named_parameters()}
    direction |= {name: part[None] for name, part in space.embed(v).items()}
    found = escape_time.curvature_product(Stack([clone]), x[None], y[None], direction)
    expected = normal_product(clone, space, x, y)(v)
    got = space.coordinates({name: part[0] for name, part in found.items()})
    assert torch.allclose(got, expected, rtol=1e-9, atol=1e-12)
    back = space.embed(got)
    for name, part in found.items():  # nothing leaves the normal space
        assert torch.allclose(part[0], back.get(name, torch.zeros_like(part[0])), atol=1e-12)


def test_the_linear_equation_predicts_the_spread_of_small_kicks_and_their_escape(timed):
    sigma = short().sigmas[-1]
    q = timed[timed.metric == "q"].set_index(["seed", "step"])["value"]
    spread = timed[(timed.metric == "spread") & (timed.layer == "mean") & (timed.method == f"{sigma:g}")]
    measured = spread.set_index(["seed", "step"])["value"]
    both = pd.concat([measured, q], axis=1, keys=["measured", "q"]).dropna()
    assert len(both) > 6 and (both.measured / (sigma**2 * both.q)).to_numpy() == pytest.approx(1, rel=0.02)
    times = figures.escape_times(timed)
    assert len(times) >= 3 and (times.escape / times.escape_predicted).to_numpy() == pytest.approx(1, abs=0.05)


def test_a_crossing_is_exact_for_exponential_growth():
    steps = list(range(0, 100, 10))
    values = [1e-6 * np.exp(0.2 * t) for t in steps]
    assert escape_time.crossing(steps, values, 1e-3) == pytest.approx(np.log(1e3) / 0.2)
    assert escape_time.crossing(steps, values, 1e9) is None and escape_time.crossing([0], [1.0], 0.5) == 0.0


def test_the_figures_draw_what_a_run_gives(frame, timed):
    loss, r2 = figures.at_end(frame, "train_loss"), figures.at_end(frame, "r2", "mean")
    drawn = [
        figures.curves_figure(figures.summary(frame)),
        figures.outcome_figure(loss.sub(loss["base"], axis=0)[["sgd", "CBP", "fresh"]], r2[["sgd", "CBP"]]),
        figures.grid_figure({"loss": pd.DataFrame({"0": {"0.01": 1.0}, "1": {"0.01": 2.0}})}),
        figures.architectures_figure({"mlp": frame, "cnn": frame}, methods=figures.METHODS),
        figures.time_figure({"tanh": timed}, threshold=1e-9),
        figures.size_figure(pd.DataFrame({"entries": [9, 99], "per tensor": [0.1, 1], "global": [1, 2]}), sigma=0.01),
        figures.reasons_figure(
            pd.DataFrame({"network": ["MLP"] * 2, "kick": [1e-3, 2e-3], "growth": [1.0, 2.0], "end": [0.1, 0.2]})
        ),
    ]  # fmt: skip
    assert all(figure.axes for figure in drawn)
    plt.close("all")


@pytest.mark.parametrize(
    ("bad", "text"),
    [
        (lambda: escape.Config(arms=("magic",)), "arm 'magic'"),
        (lambda: escape.Config(arch="rnn"), "architecture 'rnn'"),
        (lambda: escape.Config(seeds=()), "0 seeds"),
        (lambda: escape.preset("fast"), "'fast'"),
        (lambda: escape_time.Config(sigmas=(0.0,)), "sigmas"),
        (lambda: escape_time.Config(every=0), "every 0"),
        (lambda: cloning_r2s(torch.zeros(1, 2, 3), 2), "3 units"),
    ],
)
def test_bad_settings_are_named(bad, text):
    with pytest.raises(UsageError, match=text):
        bad()
