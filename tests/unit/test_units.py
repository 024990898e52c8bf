import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.metrics.cloning import block_mean, cloning_r2, cloning_r2_as_coded
from lop_utils.metrics.units import (
    dead_units,
    dormant_units,
    duplicate_groups,
    duplicate_units,
    frozen_units,
    redundancy,
    saturated_units,
    similarity,
)


def gaussian(rows, units, seed=0):
    return torch.randn(rows, units, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_unit_that_fires_on_up_to_one_row_in_twenty_counts_as_dead_in_the_papers_sense_only():
    h = torch.zeros(100, 3)
    h[:4, 0] = 1.0  # fires on 4 of 100
    h[:5, 1] = 1.0  # on 5: silent on exactly 95%, not on more
    assert dead_units(h).tolist() == [True, False, True]
    assert dead_units(h, threshold=0, share=1).tolist() == [False, False, True]


def test_dormancy_compares_with_the_layers_mean():
    h = torch.tensor([[1.0, 0.1, 0.0], [1.0, 0.1, 0.0]])  # mean |h| = 1.1 / 3
    assert dormant_units(h, tau=0.1).tolist() == [False, False, True]
    assert dormant_units(h, tau=0.3).tolist() == [False, True, True]
    assert dormant_units(torch.zeros(2, 2)).tolist() == [True, True]


def test_frozen_needs_every_row_saturated_needs_almost_all():
    d = torch.tensor([[0.0, 0.0], [0.0, 1e-3]])
    assert frozen_units(d).tolist() == [True, False]
    h, g = torch.ones(200, 2), torch.zeros(200, 2)
    g[0, 0] = g[:3, 1] = 1.0
    assert saturated_units(h, g).tolist() == [True, False]


def test_saturation_depends_on_how_the_loss_is_averaged():
    h, g = torch.ones(10, 1), torch.full((10, 1), 1e-3)
    assert not saturated_units(h, g) and saturated_units(h, g / 100)


def test_relu_of_independent_units_has_cosine_one_over_pi():
    h = gaussian(200_000, 2).relu()
    assert similarity(h)[0, 1] == pytest.approx(1 / torch.pi, abs=0.005)
    assert similarity(h, centred=True)[0, 1] == pytest.approx(0, abs=0.01)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_m_fold_copies_have_redundancy_m_minus_one_over_m(units, m, seed):
    h = gaussian(200, units, seed).repeat(1, m)
    assert redundancy(h) == pytest.approx((m - 1) / m)
    assert duplicate_units(h).all() == (m > 1)
    groups = duplicate_groups(h * torch.where(torch.arange(units * m) % 2 == 0, 1.0, -3.0) + 5)  # sign, scale, offset
    assert len(groups.unique()) == units


def test_silent_and_constant_units_are_nobodys_duplicates():
    h = torch.stack([torch.zeros(5), torch.zeros(5), torch.arange(5.0)], 1)
    assert duplicate_units(h).tolist() == [False] * 3 and redundancy(h) == 0
    constant = torch.full((7, 2), 0.1)
    assert similarity(constant, centred=True).abs().max() == 0


def test_a_share_outside_zero_to_one_is_named():
    with pytest.raises(UsageError, match=r"share 1\.5"):
        dead_units(torch.zeros(2, 2), share=1.5)


def test_perfect_clones_have_r2_one_and_k_independent_units_one_over_k():
    labels = torch.arange(4).repeat(3)
    assert cloning_r2(gaussian(50, 4).repeat(1, 3), labels) == 1
    found = cloning_r2(gaussian(200_000, 12), labels)
    assert found == pytest.approx(1 / 3, abs=0.01)


@pytest.mark.parametrize("a", [0.0, 0.5, 2.0])
def test_r2_of_a_noisy_pair_is_the_variance_share(a):
    """s = m + a e, s' = m - a e with unit-variance m and e: the block mean explains 1 / (1 + a^2)."""
    m, e = gaussian(300_000, 2).T
    found = cloning_r2(torch.stack([m + a * e, m - a * e], 1), torch.tensor([0, 0]))
    assert found == pytest.approx(1 / (1 + a * a), abs=0.01)


def test_an_offset_between_copies_counts_and_a_silent_layer_scores_one():
    s = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    # block mean over time and units 2.5: residual 4 x 0.5^2 = 1, total 1.5^2 + 0.5^2 + 0.5^2 + 1.5^2 = 5
    assert cloning_r2(s, torch.tensor([0, 0])) == pytest.approx(1 - 1 / 5, abs=1e-12)
    assert cloning_r2(torch.zeros(3, 2), torch.tensor([0, 0])) == 1
    with pytest.raises(UsageError, match="layer head"):
        cloning_r2(s, torch.tensor([0, 0, 1]), layer="head")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 99))
def test_block_means_agree_with_a_loop(labels, seed):
    w, labels = gaussian(len(labels), 3, seed), torch.tensor(labels)
    expected = torch.stack([w[labels == label].mean(0) for label in labels])
    torch.testing.assert_close(block_mean(w, labels, 0), expected)
    torch.testing.assert_close(block_mean(w.T, labels, 1), expected.T)


def test_the_codes_r2_is_one_for_perfect_clones_and_agrees_with_loops_otherwise():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    assert cloning_r2_as_coded(gaussian(20, 3).repeat(1, 2), labels) == 1
    s = gaussian(40, 6)
    ratios = [row[labels == b].std() / (row.std() + 1e-10) for row in s for b in range(3)]
    assert cloning_r2_as_coded(s, labels) == pytest.approx(1 - float(torch.stack(ratios).mean()), rel=1e-12)


def test_the_codes_r2_of_many_noisy_pairs_falls_linearly_in_the_noise():
    """Pairs m ± a e: sd within a pair is sqrt(2) a abs(e), over many units sqrt(1 + a^2); E abs(e) = sqrt(2 / pi)."""
    m, e, a = gaussian(500, 800, 1), gaussian(500, 800, 2), 0.1
    found = cloning_r2_as_coded(torch.cat([m + a * e, m - a * e], 1), torch.arange(800).repeat(2))
    assert found == pytest.approx(1 - 2 * a / (torch.pi * (1 + a * a)) ** 0.5, abs=2e-3)
    with pytest.raises(UsageError, match="smallest block 1"):
        cloning_r2_as_coded(m[:, :2], torch.tensor([0, 1]))
