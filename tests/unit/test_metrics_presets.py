import numpy as np
import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.metrics.definitions import Dead, Duplicate, Rank
from lop_utils.metrics.presets import BOOK, DOHARE, PAPER, PRESETS, SOKAR, measure, rows
from lop_utils.metrics.record import LayerRecord, record
from lop_utils.metrics.slopes import derivative, slopes


def independent_reading(h, g, slope):
    """Every preset's definitions written again, unit by unit, in numpy; sources in `metrics.presets`."""
    h, g, slope = (np.asarray(x, dtype=np.float64) for x in (h, g, slope))
    units = h.shape[1]
    cosine, pearson = np.zeros((2, units, units))
    for i in range(units):
        for j in range(units):
            a, b = h[:, i], h[:, j]
            if a.any() and b.any():
                cosine[i, j] = a @ b / np.sqrt((a @ a) * (b @ b))
            if a.std() > 1e-12 and b.std() > 1e-12:
                pearson[i, j] = np.corrcoef(a, b)[0, 1]
    size = np.abs(h).mean(0)
    off = ~np.eye(units, dtype=bool)
    s, c = (np.linalg.svd(m, compute_uv=False) for m in (h, h - h.mean(0)))
    entropy_rank = lambda v: np.exp(-sum(p * np.log(p) for p in v / v.sum() if p > 1e-14))  # noqa: E731
    duplicate = ((cosine > 0.95) & off).any(1).mean()
    saturated = np.mean([(np.abs(g[:, j]) / max(size[j], 1e-12) < 1e-4).mean() > 0.99 for j in range(units)])
    return {
        "paper.dead": np.mean([(np.abs(h[:, j]) < 1e-7).mean() > 0.95 for j in range(units)]),
        "paper.duplicate": duplicate,
        "paper.saturated": saturated,
        "paper.effective_rank": entropy_rank(s),
        "paper.stable_rank": (c**2).sum() ** 2 / (c**4).sum(),
        "paper_code.duplicate": np.mean([any(cosine[i, j] > 0.95 for j in range(i + 1, units)) for i in range(units)]),
        "dohare.dead": np.mean([not h[:, j].any() for j in range(units)]),
        "dohare.dormant": np.mean([(h[:, j] != 0).mean() < 0.01 for j in range(units)]),
        "dohare.stable_rank": (np.cumsum(s) / s.sum() < 0.99).sum() + 1,
        "sokar.dormant": (size <= 0.1 * size.mean()).mean(),
        "sokar.dormant_025": (size <= 0.025 * size.mean()).mean(),
        "book.frozen": np.mean([np.abs(slope[:, j]).max() < 1e-6 for j in range(units)]),
        "book.gradient_frozen": np.mean([not (g[:, j] * slope[:, j]).any() for j in range(units)]),
        "book.duplicate": ((np.abs(pearson) > 0.95) & off).any(1).mean(),
        "book.effective_rank": entropy_rank(c),
    }


def troubled_layer(seed):
    """A ReLU layer with dead, rare, copied, mirrored, quiet and always-on units, and a sparse gradient."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(300, 12, generator=generator, dtype=torch.float64)
    z[:, 1] = z[:, 0]
    z[:, 2] = -5 - z[:, 2].abs()
    z[:, 3] -= 2.5
    z[:, 4] *= 0.01
    z[:, 5:7] = 3 + 0.3 * z[:, 5:7]
    z[:, 8] = 6 - z[:, 5]
    gradient = torch.randn(300, 12, generator=generator, dtype=torch.float64) * 10 ** torch.linspace(-7, 0, 12)
    gradient[:, 9] = 0
    return LayerRecord("hidden.0", z, z.relu(), gradient), (z > 0).double()


@pytest.mark.parametrize("seed", range(5))
def test_every_preset_agrees_with_its_definitions_written_out_unit_by_unit(seed):
    layer, slope = troubled_layer(seed)
    found = {f"{name}.{m}": v for name in PRESETS for m, v in measure(layer, name, slope=slope).items()}
    for name, value in independent_reading(layer.activation, layer.gradient, slope).items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_the_code_counts_the_lower_index_of_each_pair_and_m_copies_give_m_minus_one_over_m():
    h = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    for m in (2, 3, 4):
        copies = LayerRecord("hidden.0", None, h.repeat(1, m))
        assert Duplicate(count="lower")(copies) == pytest.approx((m - 1) / m)
        assert Duplicate()(copies) == 1


def test_definitions_that_need_more_than_was_recorded_name_the_layer_and_the_remedy():
    bare = LayerRecord("hidden.3", None, torch.ones(2, 2))
    with pytest.raises(UsageError, match=r"hidden\.3: dL/dh is needed; record the layer with targets"):
        measure(bare, "paper")
    with pytest.raises(UsageError, match=r"hidden\.3: f'\(z\) is needed; pass slope"):
        measure(bare, "book")
    with pytest.raises(UsageError, match=r"hidden\.3: no pre-activations"):
        derivative(nn.ReLU(), bare)


def test_unknown_presets_metrics_and_ranks_are_named():
    for call, text in (
        (lambda: measure(None, "papers"), "'papers'"),
        (lambda: PAPER.only("dorment"), "'dorment'"),
        (lambda: Rank("stable_rank"), "'stable_rank'"),
        (lambda: Duplicate(count="upper")(LayerRecord("a", None, torch.ones(2, 2))), "'upper'"),
        (lambda: rows([], PAPER), "no layer"),
    ):
        with pytest.raises(UsageError, match=text):
            call()


def test_presets_are_hashable_data_and_only_keeps_their_order():
    assert len({hash(preset) for preset in PRESETS.values()}) == len(PRESETS)
    assert BOOK.only("redundancy", "dead").metrics == ("dead", "redundancy")
    assert dict(DOHARE.definitions)["dead"] == Dead(threshold=0.0, share=1.0)


@pytest.mark.parametrize("name", ["relu", "tanh", "sigmoid", "gelu", "elu", "selu", "silu", "softplus", "leaky_relu"])
def test_slopes_are_the_finite_differences_of_the_activation(name):
    net = mlp(activation=name, norm="layer")
    x, _ = batch(net)
    layers = record(net, x)
    for space, slope in slopes(net, layers).items():
        z, f = layers[space].pre_activation, net.hidden[0].activation
        torch.testing.assert_close(slope, (f(z + 1e-6) - f(z - 1e-6)) / 2e-6, rtol=1e-4, atol=1e-6)


def test_rows_hold_every_layer_and_their_mean():
    net = mlp(activation="relu")
    x, y = batch(net)
    layers = record(net, x, y)
    listed = rows(layers, SOKAR)
    values = {(layer, metric): value for layer, metric, value in listed}
    assert [layer for layer, _, _ in listed[::3]] == ["hidden.0", "hidden.1", "mean"]
    for metric in SOKAR.metrics:
        assert values["mean", metric] == (values["hidden.0", metric] + values["hidden.1", metric]) / 2


def test_a_zeroed_head_saturates_and_gradient_freezes_every_unit_but_freezes_none():
    net = mlp(activation="tanh")
    nn.init.zeros_(net.head.weight)
    x, y = batch(net)
    layers = record(net, x, y)
    for name, slope in slopes(net, layers).items():
        assert measure(layers[name], "paper")["saturated"] == 1
        found = measure(layers[name], "book", slope=slope)
        assert (found["frozen"], found["gradient_frozen"]) == (0, 1)
