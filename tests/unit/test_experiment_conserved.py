"""The conserved quantities over a stream: the exact step law, and what is refused."""

import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import conserved, continual, curvature_sweep, nearness
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.tasks import members_task

SMALL = conserved.Config(samples=60, widths=(6, 5), time=1.0, steps=10, tasks=2, seeds=(3, 4))


@pytest.mark.parametrize("rule", ["SGD .1", "SGD .1, L2"])
def test_one_step_changes_the_level_by_the_squared_rate_times_that_of_the_gradients(rule):
    _, lr, decay = conserved.RULES[rule]
    stack = Stack([MLP(MLPConfig(4, (6, 5), 3), seed=s).double() for s in (0, 1)])
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 20, 4, generator=generator).double(), torch.randint(3, (2, 20), generator=generator)
    optimizer = torch.optim.SGD(stack.parameters(), lr=lr, weight_decay=decay)
    predicted = conserved.Prediction(stack, optimizer)
    for labels in (y, y.flip(1)):  # a task switch changes nothing in the law
        for _ in range(20):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(stack(x).flatten(0, 1), labels.flatten()).backward()
            optimizer.step()
    into, out = conserved.parts(stack.tensors)
    torch.testing.assert_close(into - out, predicted.level, rtol=0, atol=1e-13)


def test_the_parts_of_a_unit_are_its_own_weights():
    net = MLP(MLPConfig(4, (3, 2), 2), seed=0)
    into, out = conserved.parts(Stack([net]).tensors)
    unit = 3 + 1  # second unit of the second layer
    w, b, a = net.hidden[1].linear.weight[1], net.hidden[1].linear.bias[1], net.head.weight[:, 1]
    assert into[0, unit].item() == pytest.approx(float((w.square().sum() + b.square()).detach()), rel=1e-6)
    assert out[0, unit].item() == pytest.approx(float(a.square().sum().detach()), rel=1e-6)


def test_a_run_has_every_rule_and_predicts_sgd_to_rounding():
    frame = conserved.run(SMALL)
    assert set(frame["method"]) == set(conserved.RULES)
    errors = frame[(frame["metric"] == "predicted_error")]
    assert set(errors["method"]) == {"SGD .2", "SGD .1", "SGD .05", "SGD .1, L2"}
    assert errors[errors["method"] == "SGD .1, L2"]["value"].max() < 1e-2


def test_silent_units_are_those_without_a_positive_pre_activation():
    runner = continual.start(conserved.stream_config(SMALL, "SGD .1"), torch.device("cpu"))
    with torch.no_grad():
        runner.stack.tensors["hidden.1.linear.bias"][0, 2] = -100.0
        runner.stack.tensors["hidden.0.linear.bias"][0] = 100.0
    silent = conserved._silent(runner.stack, members_task(runner.streams, 0))
    assert silent[0, 6 + 2] and not silent[0, :6].any()


def test_the_area_under_the_curve_of_perfect_reversed_and_grouped_scores():
    dead = torch.tensor([False, False, True])
    up = torch.tensor([0.0, 1.0, 2.0])
    assert conserved.auc([(up, dead)]) == 1 and conserved.auc([(-up, dead)]) == 0
    assert conserved.auc([(torch.zeros(3), dead)]) == 0.5
    assert conserved.auc([(up, dead), (up + 100, dead), (up, ~dead & dead)]) == 1  # groups are not compared


@pytest.mark.parametrize("change", [{"rules": ("SGD 7",)}, {"time": 0.0}, {"tasks": 0}])
def test_bad_settings_are_refused(change):
    with pytest.raises(UsageError):
        conserved.preset("laptop", **change)


def test_controls_keep_the_lengths_and_are_new_draws():
    net = MLP(MLPConfig(4, (6, 5), 3), seed=0)
    for control in ("random", "shuffled"):
        other = nearness.controlled(net, control, seed=0)
        for mine, its in zip(net.hidden, other.hidden, strict=True):
            a, b = (torch.cat([m.linear.weight, m.linear.bias[:, None]], 1).norm(dim=1) for m in (mine, its))
            torch.testing.assert_close(a, b)
    order = nearness.controlled(net, "shuffled", seed=0).hidden[0].linear.weight[0]
    assert sorted(order.tolist()) == sorted(net.hidden[0].linear.weight[0].tolist())
    assert order.tolist() != sorted(order.tolist())


def test_nearness_measures_every_control_at_every_probe():
    frame = nearness.run(nearness.Config(stream=SMALL, probes=(0, 2), rules=("Adam",), units=3))
    counted = frame[frame["metric"] == "pair"].groupby(["layer", "step"]).size()
    assert set(counted.index) == {(control, step) for control in nearness.CONTROLS for step in (0, 2)}
    assert (counted == 2).all()
    with pytest.raises(UsageError, match="probe"):
        nearness.Config(stream=SMALL, probes=(3,))


def test_the_sweep_has_the_centre_once_and_the_residual_jumps_at_the_switch():
    config = curvature_sweep.preset("smoke", rows=100)
    names = list(curvature_sweep.shapes(config))
    assert names[0] == ("centre", "tanh", 2, 16) and len({name[1:] for name in names}) == len(names)
    frame = curvature_sweep.run(config)
    last = config.probes[-1]
    table = frame[frame["metric"] == "residual"].pivot_table(index=["method", "seed"], columns="step", values="value")
    assert (table[last + 1] > table[last]).all()
    relu = frame[(frame["method"] == "relu 2 x 16") & (frame["metric"] == "trace_share")]["value"]
    assert relu.abs().max() < 1e-9  # piecewise linear: as many ways out as back
    with pytest.raises(UsageError):
        curvature_sweep.preset("laptop", depths=())
