"""Recovery: every remedy starts from the same worn networks, is what it says, and is compared with fresh ones."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import recovery
from lop_utils.experiments.continual import Config as StreamConfig
from lop_utils.experiments.continual import run as run_stream
from lop_utils.experiments.normalization import lengths
from lop_utils.experiments.recovery_remedies import REMEDIES, silent_masks
from lop_utils.figures import recovery as figures
from lop_utils.streams.tasks import members_task

TINY = {"widths": (12, 12), "steps": 20}
FEW = ("noisy step", "all three", "dropout", "reinitialised")


def tiny(**changes):
    return recovery.preset("smoke", seed=3, **(TINY | changes))


@pytest.fixture(scope="module")
def worn():
    return recovery.wear(tiny(), torch.device("cpu"))


@pytest.fixture(scope="module")
def frame():
    return recovery.run(tiny(remedies=FEW))


def test_the_untreated_networks_are_those_of_one_uninterrupted_stream(frame):
    stream = StreamConfig(
        settings=(("groups", 5), ("views", 1)), source="patches", widths=(12, 12), lr=tiny().lr, batch_size=50,
        steps=20, tasks=4, measured=4, fresh=(), seeds=(3, 4),
    )  # fmt: skip
    whole = run_stream(stream)
    pick = lambda rows: rows[rows["metric"] == "loss"].sort_values(["seed", "step"])["value"].tolist()  # noqa: E731
    assert pick(frame[frame["method"] == "worn"]) == pick(whole)


def test_a_copy_shares_nothing_with_the_worn_networks(worn):
    before = {name: tensor.clone() for name, tensor in worn.stack.tensors.items()}
    moments = [state["exp_avg"].clone() for state in worn.optimizer.state.values()]
    for name in ("worn", "shrink and perturb", "L2"):
        recovery.learn_timed(tiny(), recovery.treated(tiny(), worn, name), 2)
    assert all(torch.equal(before[name], tensor) for name, tensor in worn.stack.tensors.items())
    after = [state["exp_avg"] for state in worn.optimizer.state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))


def test_remedies_change_what_they_name_and_leave_the_rest(worn):
    changed = lambda runner: {n for n, t in runner.stack.tensors.items() if not torch.equal(t, worn.stack.tensors[n])}  # noqa: E731
    treated = {name: recovery.treated(tiny(), worn, name) for name in REMEDIES}
    for name in ("Adam reset", "dropout", "L2", "ReDo", "CBP", "gradient noise", "noisy step", "weight noise"):
        assert not changed(treated[name]), name
    assert len(treated["Adam reset"].optimizer.state) == 0
    assert treated["dropout"].stack.skeleton.config.dropout == 0.03
    assert treated["L2"].optimizer.param_groups[0]["weight_decay"] == 1e-3
    assert all(name.startswith("hidden") for name in changed(treated["rescaled"]))
    images = members_task(worn.streams, 2).inputs
    new = lengths(recovery.start(worn.config, images.device).stack)
    assert torch.allclose(lengths(treated["rescaled"].stack), new)
    assert torch.allclose(lengths(treated["all three"].stack), new) and not treated["all three"].optimizer.state
    assert changed(treated["reinitialised"]) == set(worn.stack.tensors)


def test_resetting_the_dead_wakes_dead_units_and_moves_no_other(worn):
    runner = recovery.treated(tiny(), worn, "worn")
    images = members_task(runner.streams, 2).inputs
    with torch.no_grad():
        runner.stack.tensors["hidden.0.linear.bias"][:, :5] = -1000.0
    before = runner.stack.tensors["hidden.0.linear.weight"].clone()
    silent = silent_masks(runner.stack, images)["hidden.0"]
    REMEDIES["dead reset"].apply(runner, images)
    rows = (runner.stack.tensors["hidden.0.linear.weight"] != before).any(2)
    assert silent[:, :5].all() and torch.equal(rows, silent)
    assert not silent_masks(runner.stack, images)["hidden.0"][:, :5].all()


def test_steps_to_threshold_are_read_off_the_learning_curve(frame):
    config = tiny()
    for (_, method, step), rows in recovery.further_rows(frame).groupby(["seed", "method", "step"]):
        curve = rows[rows["metric"] == "learning_accuracy"]["value"].tolist()
        reached = [i for i, value in enumerate(curve) if value >= config.threshold]
        right = (reached[0] + 1 if reached else len(curve) + 1) * config.every
        assert rows.loc[rows["metric"] == "steps_to_threshold", "value"].item() == right, (method, step)
        assert curve[-1] == pytest.approx(rows.loc[rows["metric"] == "accuracy", "value"].item())


def test_gaps_are_fresh_minus_method_over_the_further_tasks_by_seed():
    rows = [
        (seed, method, step, "all", "accuracy", value)
        for seed in (0, 1)
        for method, steps in {"worn": {1: 0.9, 2: 0.2, 3: 0.4}, "fresh": {2: 0.8, 3: 0.6}}.items()
        for step, value in steps.items()
    ]
    frame = pd.DataFrame(rows, columns=["seed", "method", "step", "layer", "metric", "value"])
    assert recovery.gaps(frame)["value"].tolist() == pytest.approx([0.4, 0.4])


def test_the_same_seed_gives_the_same_frame_and_other_remedies_change_nothing(frame):
    again = recovery.run(tiny(remedies=("dropout",)))
    pick = lambda rows: rows[rows["method"].isin(["dropout", "fresh"])].reset_index(drop=True)  # noqa: E731
    pd.testing.assert_frame_equal(pick(again), pick(frame))


def test_figures_show_every_method(frame):
    figure = figures.gap_figure(frame, {"accuracy": "gap", "steps_to_threshold": "steps"})
    shown = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert shown == {figures.label(name) for name in ("worn", *FEW)}
    assert len(figures.stream_figure(frame, FEW[:2]).axes) == 2
    table = figures.state_table(frame)
    assert len(table) == 6 and table.notna().to_numpy().all()
    plt.close("all")


@pytest.mark.parametrize("bad", [{"remedies": ("prayer",)}, {"every": 0}, {"further": 0}])
def test_bad_configurations_are_refused(bad):
    with pytest.raises(UsageError):
        recovery.preset("smoke", **bad)
