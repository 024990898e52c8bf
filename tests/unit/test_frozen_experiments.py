import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import frozen, frozen_stream
from lop_utils.figures import frozen as training_figures
from lop_utils.figures import saturation as figures
from lop_utils.manifolds.frozen import silent_units
from lop_utils.metrics.record import record
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.streams.sources import load
from lop_utils.theory.gaussian import rank_recovery_strength
from lop_utils.theory.modulation import modulation_map

COLUMNS = ["experiment", "arch", "seed", "method", "task", "step", "layer", "metric", "value"]


@pytest.fixture(scope="module")
def frame():
    return frozen.run(tiny())


def tiny(**changes):
    return frozen.preset("smoke", **{"steps": 60, "seeds": (0,), "widths": (32, 32)} | changes)


def at_end(frame, metric, layer, arm):
    rows = frame[(frame.metric == metric) & (frame.layer == layer) & (frame.method == arm)]
    return float(rows[rows.step == rows.step.max()]["value"].sum())


def test_killed_units_are_dead_by_the_margin_and_the_others_are_left_alone():
    x = load("digits").inputs.flatten(1)
    net, before = (MLP(MLPConfig(64, (20, 10), 10), seed=0) for _ in range(2))
    frozen.kill(net, x, share=0.3, margin=0.5)
    silent = silent_units(net, x)
    assert silent["hidden.0"][:6].all() and silent["hidden.1"][:3].all()
    z = record(net, x)["hidden.1"].pre_activation
    assert (z.amax(0) / z.std(0))[:3].numpy() == pytest.approx(-0.5, abs=1e-3)
    for now, then in zip(net.hidden, before.hidden, strict=True):
        assert torch.equal(now.linear.weight, then.linear.weight)
    assert torch.equal(net.hidden[0].linear.bias[6:], before.hidden[0].linear.bias[6:])


def test_the_frame_is_tidy_and_the_same_twice(frame):
    assert list(frame) == COLUMNS and frame["value"].notna().all()
    assert not frame.duplicated(COLUMNS[:-1]).any() and set(frame.method) == set(frozen.ARMS)
    assert frame.equals(frozen.run(tiny()))


@pytest.mark.parametrize("arm", ["sgd", "momentum", "adam", "first_fixed"])
def test_dead_units_of_the_first_layer_neither_move_nor_revive(frame, arm):
    assert at_end(frame, "killed", "hidden.0", arm) >= 9
    assert at_end(frame, "moved", "hidden.0", arm) == 0 and at_end(frame, "revived", "hidden.0", arm) == 0


def test_dead_units_revive_above_a_moving_layer_and_only_there(frame):
    assert at_end(frame, "revived", "hidden.1", "sgd") > 0
    assert at_end(frame, "revived", "hidden.1", "first_fixed") == 0
    assert at_end(frame, "moved", "hidden.1", "first_fixed") == 0


def test_optimizer_state_and_decay_move_dead_units_but_common_decay_revives_none(frame):
    assert at_end(frame, "moved", "hidden.0", "adam_warm") > 0
    assert at_end(frame, "moved", "hidden.0", "decay_all") > 0
    assert at_end(frame, "revived", "hidden.0", "decay_all") == 0


def test_unit_strengths_are_those_of_the_theory_and_leave_constant_units_out():
    found = frozen_stream.unit_strengths("tanh", torch.tensor([0.0, 1.0, 3.0]), torch.tensor([2.0, 0.5, 0.0]))
    assert found == pytest.approx([rank_recovery_strength("tanh", a, b, centred=True) for a, b in ((2, 0), (0.5, 1))])


def test_the_stream_is_tidy_and_each_network_of_the_stack_is_trained_as_if_alone():
    small = {"tasks": 1, "steps": 5, "widths": (8, 8), "activations": ("tanh",)}
    both, alone = (frozen_stream.run(frozen_stream.preset("smoke", **small, seeds=s)) for s in ((3, 4), (4,)))
    assert list(both) == COLUMNS and both["value"].notna().all() and not both.duplicated(COLUMNS[:-1]).any()
    second = both[both.seed == 4]["value"].to_numpy()
    assert np.allclose(second, alone["value"], rtol=1e-3, atol=1e-5)


def test_bad_configurations_are_named():
    with pytest.raises(UsageError, match="arm 'sam'"):
        frozen.Config(arms=("sam",))
    with pytest.raises(UsageError, match=r"margin -1"):
        frozen.Config(margin=-1)
    with pytest.raises(UsageError, match="tasks 0"):
        frozen_stream.Config(tasks=0)
    with pytest.raises(UsageError, match="'fast'"):
        frozen_stream.preset("fast")


def test_every_figure_of_the_chapter_draws(frame):
    a, share = np.array([0.5, 1.0, 5.0]), np.array([0.0, 0.1, 0.3])
    families = dict.fromkeys("abcde", (a, share))
    maps = {n: modulation_map(n, [0.5, 2.0], [-1.0, 0.0, 1.0]) for n in ("relu", "tanh")}
    stream = frozen_stream.run(frozen_stream.preset("smoke", tasks=1, steps=2, widths=(4,)))
    columns = {"x": ("gain", a), "y": ("shift", -a)}
    curves = dict.fromkeys(columns, share)
    drawn = [
        training_figures.answer_figure(families, frame),
        training_figures.stream_figure(stream),
        training_figures.saturation_figure(a, dict.fromkeys("wxyz", share)),
        figures.families_figure(columns, curves, curves, curves, curves),
        figures.counterexamples_figure(families),
        figures.maps_figure(maps, shifts={n: n for n in maps}),
        figures.spectrum_figure(a, {1.0: share + 0.1}, share, 2.0),
        figures.gain_figure(1.0, a, {"α": a, "frozen share": share}),
        figures.box_figure({"one": ((1.0, -0.6), -0.2), "two": ((1.0, -0.6), -0.9)}, np.random.rand(5, 2)),
    ]
    for figure in drawn:
        figure.canvas.draw()
        plt.close(figure)
