"""The continual-learning experiment: members do not feel each other, and its rows say what they claim."""

import math

import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import continual, full_size
from lop_utils.experiments.symptoms import symptoms
from lop_utils.models.mlp import MLP, MLPConfig

SMALL = {"source": "digits", "widths": (12, 10), "tasks": 2, "steps": 15, "fresh": (2,), "diagnosed": ()}
GROUPS = {"stream": "regrouped", "settings": (("groups", 3), ("views", 5))}


def _run(**overrides):
    config = continual.preset("laptop", **(SMALL | GROUPS | overrides))
    return continual.run(config)


def _value(frame, metric, *, seed=0, step=2, layer="all", method=None):
    rows = frame[(frame.metric == metric) & (frame.seed == seed) & (frame.step == step) & (frame.layer == layer)]
    rows = rows[rows.method == method] if method else rows[~rows.method.str.startswith("fresh")]
    assert len(rows) == 1
    return float(rows.value.iloc[0])


def test_a_seed_in_company_does_what_it_does_alone():
    together, alone = _run(seeds=(0, 1, 2)), _run(seeds=(1,))
    merged = together[together.seed == 1].merge(
        alone, on=["method", "step", "layer", "metric"], suffixes=("", "_alone")
    )
    assert len(merged) == len(alone)
    gap = (merged.value - merged.value_alone).abs() / merged.value_alone.abs().clip(lower=1)
    assert gap.max() < 1e-3


def test_the_same_seeds_give_the_same_frame():
    assert _run(seeds=(0, 1)).equals(_run(seeds=(0, 1)))


def test_a_fresh_network_is_trained_on_the_same_task_from_another_start():
    frame = _run(seeds=(0,), tasks=1, fresh=(1,))
    own, fresh = _value(frame, "accuracy", step=1), _value(frame, "accuracy", step=1, method="fresh none")
    assert own != fresh  # same task and batches, other weights
    assert set(frame[frame.method == "fresh none"].step) == {1}


def test_coded_accuracy_is_over_all_outputs_and_never_above_the_published_one():
    split = {"stream": "class_split", "settings": (("per_task", 2),)}
    published, coded = (_run(**split, seeds=(0,), convention=c) for c in ("as_published", "as_coded"))
    for step in (1, 2):
        assert _value(coded, "accuracy", step=step) <= _value(published, "accuracy", step=step)
        assert _value(coded, "loss", step=step) == _value(published, "loss", step=step)
    assert _value(coded, "online_accuracy", step=2) < _value(published, "online_accuracy", step=2)


def test_divergence_is_a_row_and_the_others_go_on():
    frame = _run(seeds=(0, 1), lr=1e30, optimizer="sgd", fresh=())
    assert _value(frame, "diverged", step=2) == 1.0
    assert not len(frame[(frame.metric == "dead") & (frame.step == 2)])
    assert math.isfinite(_value(frame, "accuracy", step=2))


def test_a_kept_head_starts_the_next_task_differently():
    zeroed, kept = (_run(seeds=(0,), head=head, fresh=()) for head in ("zero", "keep"))
    assert _value(zeroed, "loss", step=2) != _value(kept, "loss", step=2)


def test_an_intervention_is_told_of_every_task():
    seen = []
    config = continual.preset("laptop", **SMALL, **GROUPS, seeds=(0,))
    continual.train_stream(config, torch.device("cpu"), install=lambda optimizer, stack: seen.append)
    assert seen == [0, 1]


def test_symptoms_of_a_network_that_is_known():
    net = MLP(MLPConfig(2, (4,), 3), seed=0)
    with torch.no_grad():
        net.hidden[0].linear.weight.copy_(torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 0]]))
        net.hidden[0].linear.bias.copy_(torch.tensor([0.0, 0, 0, -1]))
    x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0]])
    found = {(layer, metric): value for layer, metric, value in symptoms(net, x, torch.tensor([0, 1, 2]))}
    assert found["hidden.0", "dead"] == 0.25  # the last unit
    assert found["hidden.0", "frozen"] == 0.25
    assert found["hidden.0", "duplicate"] == 0.5  # the first two
    assert found["hidden.0", "weight_norm"] == pytest.approx(3**0.5)
    everything = sum(float(p.detach().square().sum()) for p in net.parameters())
    assert found["all", "weight_norm"] == pytest.approx(everything**0.5, rel=1e-6)


@pytest.mark.parametrize("bad", [{"arch": "rnn"}, {"head": "frozen"}, {"tasks": 0}, {"convention": "mine"}])
def test_bad_settings_are_refused(bad):
    with pytest.raises(UsageError):
        continual.preset("laptop", **bad)


def test_the_plan_of_the_papers_size_counts_what_it_says():
    config = full_size.configuration("mlp", norm="none", budget="code")
    found = full_size.plan(config, steps=2, members=1)
    by_hand = 12288 * 128 + 128 + 4 * (128 * 128 + 128) + 128 * 200 + 200
    assert found.parameters == by_hand and found.state_bytes == 16 * by_hand
    assert found.steps == 40 * 500 * 19
    assert found.hours == pytest.approx(found.step_s * found.steps / 3600)
    assert found.data_bytes == 110_000 * 12288 * 4
    with pytest.raises(UsageError, match="batch"):
        full_size.configuration("vit", norm="batch")
    with pytest.raises(UsageError, match="warm-up"):
        full_size.plan(config, steps=1)
