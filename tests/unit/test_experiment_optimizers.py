import math

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch
from helpers import descend

from lop_utils.errors import UsageError
from lop_utils.experiments import modules_table, more_manifolds, optimizer_table
from lop_utils.experiments import optimizer_outcomes as reading
from lop_utils.experiments.stacks import Stack, distances
from lop_utils.experiments.update_rules import NOISE, RULES
from lop_utils.figures import optimizers as figures
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import distance, jitter
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.record import record
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.resnet import ResNet, ResNetConfig
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.optim.muon import Muon


@pytest.fixture(scope="module")
def frame():
    return optimizer_table.run(optimizer_table.preset("smoke", seed=3))


@pytest.fixture(scope="module")
def outcomes(frame):
    return reading.outcomes(frame)


@pytest.fixture(scope="module")
def rounding():
    return optimizer_table.run(optimizer_table.preset("smoke", seed=1, rules=("adam",), steps=300))


@pytest.fixture(scope="module")
def more():
    return more_manifolds.run(more_manifolds.preset("smoke", seed=3))


def stack_of(activation="tanh", seeds=(0, 1)):
    return [MLP(MLPConfig(4, (3, 3), 2, activation=activation), seed=s).double() for s in seeds]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_stack_trains_every_network_as_if_it_were_alone(activation):
    nets = stack_of(activation)
    x = torch.randn(2, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = torch.randint(2, (2, 9), generator=torch.Generator().manual_seed(1))
    stack = Stack(nets)
    *_, last = RULES["momentum"].train(stack, x, y, steps=5, seed=0)
    for i, net in enumerate(nets):
        descend(net, x[i], y[i], steps=5, lr=0.02, momentum=0.9)
        torch.testing.assert_close(last.network(i)(x[i]), net(x[i]), rtol=1e-12, atol=1e-13)


def test_the_distances_of_a_stack_are_those_of_its_networks():
    nets = [widen(net, 2) for net in stack_of()]
    partition = Partition.of_clone(nets[0], 2)
    stack = Stack(nets)
    start, states = stack.tensors(), [{k: v.clone() for k, v in net.state_dict().items()} for net in nets]
    for i, net in enumerate(nets):
        jitter(net, partition, scale=0.1, seed=i, inside=False)
    found = distances(Stack(nets), partition.axis_labels(nets[0]), start)
    for i, net in enumerate(nets):
        single = distance(net, partition, reference=states[i])
        assert found["off_manifold"][i].item() == pytest.approx(single.block_constant_max, rel=1e-12)
        assert found["off_equitable"][i].item() == pytest.approx(single.equitable_max, rel=1e-12)


def test_every_cell_of_the_table_is_as_the_theorem_predicts(outcomes):
    assert len(outcomes) == len(RULES) * 5 * 2  # five cells of start and manifold, two precisions
    assert outcomes[~outcomes["agrees"]].empty, outcomes[~outcomes["agrees"]]


def test_the_three_tiers_are_told_apart_by_the_equitable_start(outcomes):
    cells = outcomes[(outcomes["task"] == "equitable") & (outcomes["layer"] == "float64")]
    got = cells.pivot(index="method", columns="metric", values="early")
    assert got.loc["adam"].max() <= 1e-13
    assert got.loc["adamw", "off_equitable"] <= 1e-13 and got.loc["adamw", "off_manifold"] >= 1e-4
    assert got.loc["adam_l2"].min() >= 1e-3


def test_adam_with_a_penalty_keeps_equity_in_doubled_networks():
    config = optimizer_table.preset(
        "smoke", rules=("adam_l2",), starts=("equitable",), widths=(4, 4), factor=2, steps=10, dtypes=("float64",)
    )
    ends = optimizer_table.run(config).query("step == 10").groupby("metric")["value"].max()
    assert ends["off_manifold"] >= 1e-3 and ends["off_equitable"] <= 1e-13


def test_decoupled_decay_shrinks_z_by_one_factor_a_step(frame):
    sgd, adamw = 1 - 0.05 * 0.01, 1 - 0.01 * 0.1
    assert max(reading.shrinkage_error(frame, rule="sgd_l2", factor=sgd)) <= 1e-12
    assert max(reading.shrinkage_error(frame, rule="adamw", factor=adamw)) <= 1e-12
    assert min(reading.shrinkage_error(frame, rule="adam_l2", factor=1 - 0.01 * 0.01)) >= 1e-3


def test_extremes_separate_kept_from_leaving_cells(frame):
    kept = reading.extremes(frame, "kept", rules=list(RULES), aggregate="max")
    leaving = reading.extremes(frame, "leaves", rules=list(RULES), aggregate="min")
    assert len(kept) == len(leaving) == 2 and max(kept) < 1e-8 < min(leaving)


def test_rounding_grows_at_one_rate_in_both_precisions(rounding):
    slopes = reading.escape_slopes(rounding)
    assert len(slopes) and slopes["ratio"].between(0.7, 1.4).all()
    assert (slopes["float64"] > 0.01).all() and (slopes["decades"] - math.log10(2**29)).abs().max() < 1.5
    with pytest.raises(UsageError, match="both precisions"):
        reading.escape_slopes(rounding[rounding["layer"] == "float32"])


def test_slopes_of_made_up_exponentials_are_recovered():
    rows = [
        {"method": "adam", "seed": 0, "task": "equitable", "metric": "off_manifold", "layer": d, "step": t, "value": v}
        for t in range(0, 100, 10)
        for d, v in (("float64", 1e-14 * math.exp(0.05 * t)), ("float32", 2e-6 * math.exp(0.06 * t)))
    ]
    row = reading.escape_slopes(pd.DataFrame(rows)).iloc[0]
    assert (row["float64"], row["float32"], row["ratio"]) == pytest.approx((0.05, 0.06, 1.2))


def test_the_table_is_deterministic_and_tidy(frame):
    again = optimizer_table.run(optimizer_table.preset("smoke", seed=3, rules=("dropout", "gradient_noise")))
    keys = ["method", "task", "layer", "seed", "metric", "step"]
    both = again.merge(frame, on=keys, suffixes=("", "_2"))
    assert len(both) == len(again) and (both["value"] == both["value_2"]).all()
    assert not frame.duplicated(keys).any() and frame["value"].notna().all()


def test_every_module_keeps_or_breaks_clones_as_predicted():
    config = modules_table.preset("smoke", seed=2, steps=12, start="block-constant")
    last = modules_table.run(config).query("metric == 'off_manifold' and step == 12")
    for (case, _), rows in last.groupby(["arch", "method"]):
        kept = modules_table.CASES[case].kept
        assert (rows["value"].max() <= 1e-10) if kept else (rows["value"].min() >= 1e-5), case
    equitable = modules_table.run(modules_table.preset("smoke", seed=2, steps=10))
    kept = [case for case, row in modules_table.CASES.items() if row.kept]
    assert equitable.query("metric == 'off_manifold' and arch in @kept")["value"].max() <= 1e-9
    assert equitable.query("metric == 'change'")["value"].min() > 1e-4
    html = figures.modules_table(last, equitable)
    assert html.html.count('scope="row"') == len(modules_table.CASES)


def test_mirrored_and_proportional_units_are_kept_by_the_rules_said_to(more):
    at = more[(more["metric"] == "deviation") & (more["step"] == 10)]
    for (rule, manifold), rows in at.groupby(["method", "task"]):
        if more_manifolds.kept(rule, manifold):
            assert rows["value"].max() <= 1e-11, (rule, manifold)
        else:
            assert rows["value"].min() >= 1e-5, (rule, manifold)


def test_adams_first_step_leaves_proportionality_by_rate_times_one_minus_ratio(more):
    first = more.query("method == 'adam' and task == 'proportional' and step == 1")["value"]
    assert first.tolist() == pytest.approx([0.01 * 0.7] * 2, rel=1e-3)


def test_the_levels_drift_by_rate_squared_times_the_level_of_the_gradients(more):
    level = more[more["task"] == "level set"].pivot(index=["seed", "method"], columns="metric", values="value")
    assert (level["drift"] / level["predicted_drift"] - 1).abs().max() <= 1e-7
    by_rate = level["drift"].unstack()
    assert ((by_rate["0.1"] / by_rate["0.01"] / 10).between(0.8, 1.25)).all()


def test_the_tables_show_every_rule_and_flag_what_was_not_predicted(outcomes, more):
    shown = figures.outcome_table(outcomes, steps=20)
    assert shown.html.count('scope="row"') == len(RULES) and "not as predicted" not in shown.html
    wrong = outcomes.assign(agrees=outcomes["method"] != "adam")
    assert figures.outcome_table(wrong, steps=20).html.count("not as predicted") == 4
    deviations = figures.deviations_table(more)
    assert deviations.html.count('scope="row"') == len(RULES) and "not as predicted" not in deviations.html
    assert "span" not in repr(deviations)


def test_the_figures_draw_every_seed_and_the_shifted_curve(rounding, more):
    figure = figures.escapes_figure(rounding, seed=1)
    assert len(figure.axes[2].lines) == 2 * 2 + 1
    drift = figures.drift_figure(more)
    assert len(drift.axes[0].lines) == 2 + 1
    plt.close("all")


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: optimizer_table.Config(rules=("sgdm",)), "rule 'sgdm'"),
        (lambda: optimizer_table.Config(starts=("clone",)), "start 'clone'"),
        (lambda: optimizer_table.Config(dtypes=("float16",)), "dtype 'float16'"),
        (lambda: optimizer_table.Config(steps=5), "5 steps"),
        (lambda: modules_table.Config(cases=("lstm",)), "case 'lstm'"),
        (lambda: modules_table.Config(start="outside"), "start 'outside'"),
        (lambda: more_manifolds.Config(ratio=1.0), "ratio 1.0"),
        (lambda: modules_table.Probe(seed=0).resized({"hidden.0": 2}), "partitioned, not widened"),
        (lambda: Stack([MLP(MLPConfig(2, (2,), 2, activation="gelu"), seed=0)]), "stack of"),
    ],
)
def test_impossible_settings_are_named(make, text):
    with pytest.raises(UsageError, match=text):
        make()


ARCHITECTURES = {
    "mlp": lambda: MLP(MLPConfig(192, (4, 4), 3, activation="tanh"), seed=0),
    "cnn": lambda: CNN(CNNConfig(3, 8, 3, channels=(2, 4), fc=4, activation="tanh"), seed=0),
    "resnet": lambda: ResNet(ResNetConfig(3, 3, stages=(4,), blocks=(1,)), seed=0),
    "vit": lambda: ViT(ViTConfig(3, 8, 3, patch=4, width=4, depth=1, heads=2, head_dim=2, mlp=4), seed=0),
}
KEEPING = {
    "momentum": lambda ps: [torch.optim.SGD(ps, lr=0.01, momentum=0.9, weight_decay=1e-3)],
    "rmsprop": lambda ps: [torch.optim.RMSprop(ps, lr=1e-4)],
    "adamw": lambda ps: [torch.optim.AdamW(ps, lr=1e-3)],
    "adam_l2": lambda ps: [torch.optim.Adam(ps, lr=1e-3, weight_decay=1e-3)],
    "muon": lambda ps: [
        Muon([p for p in ps if p.ndim == 2], lr=1e-3),
        torch.optim.SGD([p for p in ps if p.ndim != 2], lr=1e-2),
    ],
}


@pytest.mark.slow
@pytest.mark.parallel
@pytest.mark.parametrize("rule", KEEPING)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_clones_of_every_architecture_stay_clones_for_a_thousand_steps(arch, rule):
    clone = widen(ARCHITECTURES[arch]().double(), 2)
    start = {name: p.detach().clone() for name, p in clone.named_parameters()}
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(16, 3, 8, 8, generator=generator).double()
    y = torch.randint(3, (16,), generator=generator)
    optimizers = KEEPING[rule](list(clone.parameters()))
    for _ in range(1000):
        clone.zero_grad()
        torch.nn.functional.cross_entropy(clone(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
    partition = Partition.of_clone(clone, 2)
    assert distance(clone, partition, reference=start).block_constant_max <= 1e-9
    assert (clone.head.weight - start["head.weight"]).abs().max() > 1e-2
    layers = record(clone, x, y, training=True)
    for name, layer in layers.items():
        for signal in (layer.activation, layer.gradient):
            assert cloning_r2(signal, partition.labels[name]) >= 1 - 1e-9


def test_no_rule_without_noise_is_left_out_of_the_predictions():
    tiers = {rule: RULES[rule].tier for rule in RULES}
    assert {rule for rule, tier in tiers.items() if tier == NOISE} == {"gradient_noise", "dropout"}
