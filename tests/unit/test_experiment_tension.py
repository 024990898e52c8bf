"""The tension and warm-start experiments: tasks, knobs member by member, rescaling, and how their frames are read."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from lop_utils.errors import UsageError
from lop_utils.experiments import tension, warm_start
from lop_utils.experiments.tension_data import HalvedTasks
from lop_utils.experiments.tension_settings import SETTINGS, Setting, networks, regularise, rescaled
from lop_utils.experiments.tension_table import contrast, correlations, loss_to_fresh, of_knobs, over_settings, table
from lop_utils.figures import tension as figures
from lop_utils.figures.style import use
from lop_utils.metrics.record import record
from lop_utils.metrics.spectrum import ranks
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.batches import batches
from lop_utils.streams.sources import load

SMALL = {"steps": 12, "steps_b": 6, "steps_random": 6, "samples": 60}
SHORT = SMALL | {"steps": 40}


@pytest.fixture(scope="module")
def frame():
    return tension.run(tension.preset("smoke", seed=3, **SHORT))


@pytest.fixture(scope="module")
def rows(frame):
    return table(frame)


# Tasks


def test_a_and_b_share_no_class_and_no_image_and_tests_share_none_with_training():
    source, seeds = load("digits"), (0, 1)
    tasks = HalvedTasks(source, samples=300, seeds=seeds)
    everything = torch.cat([source.inputs, source.test_inputs]).flatten(1)
    labels = torch.cat([source.targets, source.test_targets])
    for i in range(len(seeds)):
        own = {}
        for name, part in (("A", tasks.A), ("B", tasks.B)):
            assert part[0][i].shape[0] == 300 and part[1][i].unique().tolist() == list(range(5))
            at = torch.cdist(part[0][i].flatten(1), everything).argmin(1)
            own[name] = set(labels[at].tolist())
            mapping = {(int(new), int(old)) for new, old in zip(part[1][i], labels[at], strict=True)}
            assert len(mapping) == 5  # one new label a class
            assert float(torch.cdist(part[0][i].flatten(1), part[2][i].flatten(1)).min()) > 0
        assert own["A"].isdisjoint(own["B"]) and len(own["A"] | own["B"]) == 10


def test_noisy_labels_grow_with_the_share_and_touch_no_others():
    tasks = HalvedTasks(load("digits"), samples=500, seeds=(0,))
    clean, some, most = tasks.noisy([0.0, 0.3, 0.9])
    assert torch.equal(clean, tasks.A[1][0])
    changed, later = some != clean, most != clean
    assert 0.15 < float(changed.float().mean()) < 0.33  # four in five of 0.3
    assert bool((later | ~changed).all()) and bool((most[changed] == some[changed]).all())


def test_too_many_training_images_are_refused():
    with pytest.raises(UsageError, match=r"2000 of \d+ images of half of the classes of digits"):
        HalvedTasks(load("digits"), samples=2000, seeds=(0,))


# Knobs


@pytest.mark.parametrize("name", ["decay 1", "l2 0.003", "scale 2", "noise 0.4", "length 4"])
def test_a_member_learns_as_a_network_of_torchs_own_optimizer_would_alone(name):
    setting, config = SETTINGS[name], tension.preset("smoke", seed=5, **SMALL)
    data = HalvedTasks(load("digits"), samples=config.samples, seeds=config.seeds)
    found = tension._learned(config, data, ["usual", "scale 0.5", name])[name][1]
    net = networks(setting, data.size, seeds=[6])[0]
    with torch.no_grad():
        for p in net.head.parameters():
            p.zero_()
    kind = torch.optim.AdamW if setting.decay else torch.optim.Adam
    optimizer = kind(net.parameters(), lr=config.lr, weight_decay=setting.decay or setting.l2)
    stream = batches(data.A[0][1], data.noisy([setting.noise])[1], batch_size=config.batch_size, seed=6)
    for _ in range(round(config.steps * setting.length)):
        x, y = next(stream)
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x)[:, :5], y).backward()
        optimizer.step()
    for (key, p), q in zip(net.named_parameters(), found.parameters(), strict=True):
        rows = slice(0, 5) if key.startswith("head") else slice(None)
        assert torch.allclose(p[rows], q[rows], atol=2e-5), key


def test_regularising_leaves_the_other_members_alone():
    nets = [MLP(MLPConfig(3, (4,), 2), seed=0) for _ in range(2)]
    stack = Stack(nets)
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1)
    regularise(optimizer, [Setting(), Setting(decay=1.0, l2=2.0)])
    before = {name: value.clone() for name, value in stack.tensors.items()}
    for p in stack.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, value in stack.tensors.items():
        assert torch.equal(value[0], before[name][0])
        assert torch.allclose(value[1], before[name][1] * (0.9 - 0.2), atol=1e-7)


def test_every_knob_turns_its_own_field_and_no_other():
    usual = Setting()
    for name, setting in SETTINGS.items():
        differing = [
            f for f in ("scale", "decay", "l2", "noise", "width", "length") if getattr(setting, f) != getattr(usual, f)
        ]
        assert differing == ([] if name == "usual" else [setting.knob])
        if differing:
            assert getattr(setting, setting.knob) == setting.value


def test_rescaling_gives_the_norms_of_one_network_and_the_ranks_of_the_other():
    x = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    net, like = (MLP(MLPConfig(6, (10, 9), 2, gain=g), seed=s) for g, s in ((1.0, 0), (4.0, 1)))
    moved = rescaled(net, like)
    for a, b in zip(moved.hidden, like.hidden, strict=True):
        assert torch.allclose(a.linear.weight.norm(), b.linear.weight.norm())
    for name, layer in record(net, x).items():
        scaled = record(moved, x)[name].activation
        factor = scaled.norm() / layer.activation.norm()
        assert float(factor) > 1.5 and torch.allclose(scaled, factor * layer.activation, rtol=1e-4, atol=1e-5)
        for metric, value in ranks(layer.activation).items():
            assert ranks(scaled)[metric] == pytest.approx(value, rel=1e-3), metric


# Frames


def test_the_frame_is_tidy_complete_and_the_same_again(frame):
    config = tension.preset("smoke", seed=3, **SHORT)
    again = tension.run(config)
    pd.testing.assert_frame_equal(frame, again)
    assert not frame.duplicated(["seed", "method", "task", "step", "layer", "metric"]).any()
    assert np.isfinite(frame["value"]).all()
    assert set(frame["task"]) == {"A", "B", "random"} and set(frame["seed"]) == {3, 4}


def test_fresh_networks_have_learned_nothing_and_learned_ones_have(rows):
    fresh, learned = (rows[(rows["kind"] == kind) & (rows["setting"] == "usual")] for kind in ("fresh", "learned"))
    assert float(fresh["test_a"].max()) < 0.5 < float(learned["test_a"].min())


def test_settings_that_share_a_start_share_its_numbers(rows):
    fresh = rows[rows["kind"] == "fresh"].set_index(["setting", "seed"])
    for name in ("decay 1", "l2 0.003", "noise 0.4"):
        assert fresh.loc[name]["online_b"].equals(fresh.loc["usual"]["online_b"])
    assert not fresh.loc["scale 2"]["online_b"].equals(fresh.loc["usual"]["online_b"])


def test_rescaled_networks_keep_rank_and_test_accuracy_nearly_and_share_norms(rows):
    wide = rows[rows["knob"] != "width"].pivot(index=["seed", "setting"], columns="kind", values="rank")
    assert np.allclose(wide["rescaled"], wide["learned"], rtol=1e-4)


def test_correlations_are_scipys_seed_by_seed(rows):
    learned = rows[rows["kind"] == "learned"]
    found = correlations(learned, "rank", "online_random")
    for seed, part in learned.groupby("seed"):
        assert found[seed] == pytest.approx(spearmanr(part["rank"], part["online_random"]).statistic)


def test_a_partial_correlation_is_that_of_the_residuals():
    rng = np.random.default_rng(0)
    g = rng.permutation(30).astype(float)
    x, y = g + 10 * rng.standard_normal(30), g + 10 * rng.standard_normal(30)
    rows = pd.DataFrame({"seed": 0, "setting": range(30), "x": x, "y": y, "g": g})
    rx, ry, rg = (pd.Series(v).rank() for v in (x, y, g))
    residual = [r - np.polyval(np.polyfit(rg, r, 1), rg) for r in (rx, ry)]
    assert correlations(rows, "x", "y", given="g")[0] == pytest.approx(np.corrcoef(*residual)[0, 1])
    low, high = over_settings(rows, "x", "y", given="g", resamples=200)
    assert low < correlations(rows, "x", "y", given="g")[0] < high


def test_too_few_settings_and_unknown_ones_are_refused(rows):
    with pytest.raises(UsageError, match="2 settings"):
        correlations(of_knobs(rows, ["noise"]), "rank", "test_a")
    with pytest.raises(UsageError, match="setting 'decay 7' was not run"):
        contrast(rows, "decay 7", "rank")


def test_contrast_and_gap_pair_by_seed(rows):
    by = rows.set_index(["kind", "setting", "seed"])["online_b"]
    seed = 4
    assert contrast(rows, "scale 2", "online_b")[seed] == by["learned", "scale 2", seed] - by["learned", "usual", seed]
    assert (
        loss_to_fresh(rows, "decay 1", "online_b")[seed] == by["fresh", "usual", seed] - by["learned", "decay 1", seed]
    )


# Warm start


@pytest.fixture(scope="module")
def warm():
    return warm_start.run(warm_start.preset("smoke", seed=3))


def test_warm_starts_report_every_method_and_their_steps(warm):
    assert set(warm["method"]) == set(warm_start.METHODS) and np.isfinite(warm["value"]).all()
    steps = warm.drop_duplicates("method").set_index("method")["step"]
    assert steps.to_dict() == {"half": 20, "warm": 30, "shrunk": 30, "fresh": 30, "fresh, longer": 50}


def test_methods_left_out_change_nothing_for_the_others(warm):
    alone = warm_start.run(warm_start.preset("smoke", seed=3, methods=("shrunk",)))
    both = warm[warm["method"] == "shrunk"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both)


def test_without_shrinking_and_perturbing_a_shrunk_start_is_a_warm_start():
    plain = warm_start.run(warm_start.preset("smoke", seed=3, shrink=1.0, perturb=0.0))
    wide = plain.pivot(index=["task", "seed", "metric"], columns="method", values="value")
    assert np.allclose(wide["shrunk"], wide["warm"], atol=1e-6)


def test_a_start_shrunk_to_a_new_network_alone_forgets_the_first_half(warm):
    forgotten = warm_start.run(warm_start.preset("smoke", seed=3, shrink=0.0, perturb=1.0))
    shifted = warm_start.run(warm_start.preset("smoke", seed=3, shrink=0.0, perturb=1.0, steps_half=5))
    pick = lambda f: f[f["method"] == "shrunk"]["value"].to_numpy()  # noqa: E731
    assert np.allclose(pick(forgotten), pick(shifted), atol=1e-6)


@pytest.mark.parametrize("settings", [(), ("width 32",), ("noise 0.4",)])
def test_settings_that_a_warm_start_cannot_use_are_refused(settings):
    with pytest.raises(UsageError, match="initial scale, decay or l2"):
        warm_start.Config(settings=settings)


@pytest.mark.parametrize("module", [tension, warm_start])
def test_unknown_settings_and_profiles_are_refused(module):
    with pytest.raises(UsageError, match="setting 'x' is unknown"):
        module.preset("smoke", settings=("x",))
    with pytest.raises(UsageError, match="profile"):
        module.preset("fast")
    with pytest.raises(UsageError, match="method 'cold' is unknown"):
        warm_start.preset("smoke", methods=("cold",))


def test_the_knob_figure_shows_means_and_ranges_of_what_seeds_differ_from_their_own_level(rows):
    figure = figures.knob_figure(figures.knob_spreads({"digits": rows}), "noise")
    learned = rows[(rows["kind"] == "learned") & rows["knob"].isin(["none", "noise"])]
    values = sorted(learned["value"].where(learned["knob"] == "noise", 0.0).unique())
    for ax, measure in zip(figure.axes, ("rank", *figures.MEASURES), strict=True):
        left = {value: [] for value in values}
        for _, seed in learned.groupby("seed"):
            for _, row in seed.iterrows():
                at = row["value"] if row["knob"] == "noise" else 0.0
                left[at].append(row[measure] - seed[measure].mean() + learned[measure].mean())
        number = [line.get_linestyle() for line in ax.lines].index("-")
        line, band = ax.lines[number], ax.collections[number].get_paths()[0].get_extents()
        assert line.get_ydata() == pytest.approx([np.mean(left[value]) for value in values])
        assert band.y0 == pytest.approx(min(map(min, left.values())))
        assert band.y1 == pytest.approx(max(map(max, left.values())))
        assert [tick.get_text() for tick in ax.get_xticklabels()] == [f"{value:g}" for value in values]
    assert len(figure.axes[1].lines) == 1  # fresh networks have not learned A
    figures.plt.close(figure)


def test_all_figures_draw(rows, warm):
    use()
    tables = {"digits": rows, "mnist1d": rows}
    drawn = [figures.answer_figure(tables), figures.trade_figure(tables), figures.gap_figure(tables)]
    drawn += [figures.norm_figure(tables), figures.warm_figure(warm)]
    drawn += [figures.knob_figure(figures.knob_spreads(tables), knob) for knob in figures.USUAL]
    assert all(len(figure.axes) for figure in drawn)
    figures.plt.close("all")
