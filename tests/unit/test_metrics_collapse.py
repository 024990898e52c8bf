import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.metrics.collapse import neural_collapse


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def simplex(classes, units, seed=0):
    """K unit vectors with pairwise cosine -1 / (K - 1) in general position, shape (K, units)."""
    frame = (torch.eye(classes, dtype=torch.float64) - 1 / classes) * (classes / (classes - 1)) ** 0.5
    return frame @ torch.linalg.qr(gaussian(units, classes, seed=seed))[0].T


@pytest.mark.parametrize(("classes", "radius", "noise"), [(3, 1.0, 0.3), (10, 2.0, 0.5)])
def test_a_simplex_with_isotropic_noise_has_the_nc1_of_its_formula(classes, radius, noise):
    """S_B = a^2 / (K - 1) on the span of the means and S_W = s^2 I, so NC1 = s^2 (K - 1)^2 / (K a^2)."""
    labels = torch.arange(classes).repeat(20_000)
    h = radius * simplex(classes, 20)[labels] + noise * gaussian(len(labels), 20, seed=1) + 5
    expected = noise**2 * (classes - 1) ** 2 / (classes * radius**2)
    found = neural_collapse(h, labels)
    assert found.nc1 == pytest.approx(expected, rel=0.02)
    assert found.nc2_norms < 0.02 and found.nc2_angles < 0.02


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 5), st.integers(1, 8), st.integers(0, 99))
def test_nc1_agrees_with_the_pseudo_inverse_written_out(classes, units, seed):
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (40,))])
    h = gaussian(len(labels), units, seed=seed) + labels[:, None] * gaussian(1, units, seed=seed + 1)
    means = torch.stack([h[labels == c].mean(0) for c in range(classes)])
    within = sum(torch.outer(r, r) for r in h - means[labels]) / len(h)
    between = sum(torch.outer(m, m) for m in means - means.mean(0)) / classes
    expected = float(torch.trace(within @ torch.linalg.pinv(between, rtol=1e-14))) / classes
    assert neural_collapse(h, labels).nc1 == pytest.approx(expected, rel=1e-5)


def test_a_collapsed_layer_with_its_own_means_as_head_scores_zero_everywhere():
    labels = torch.arange(4).repeat(5)
    means = 3 * simplex(4, 9)
    found = neural_collapse(means[labels], labels, head=(2 * means, torch.zeros(4)))
    assert max(found.nc1, found.nc2_norms, found.nc2_angles, found.nc3, found.nc4) < 1e-7


def test_a_head_that_prefers_another_class_disagrees_with_the_nearest_mean():
    labels = torch.arange(4).repeat(5)
    means = simplex(4, 9)
    found = neural_collapse(means[labels], labels, head=(means.roll(1, 0), torch.zeros(4)))
    assert found.nc4 == 1 and found.nc3 > 1


@pytest.mark.parametrize("h", [torch.zeros(6, 3), torch.full((6, 3), 0.1), torch.arange(3.0).repeat(6, 1)])
def test_where_nothing_separates_the_classes_nc1_and_nc2_are_infinite(h):
    found = neural_collapse(h, torch.arange(6) % 2, head=(torch.ones(2, 3), torch.zeros(2)))
    assert found.nc1 == found.nc2_norms == found.nc2_angles == math.inf
    assert found.nc3 >= 0 and 0 <= found.nc4 <= 1


def test_one_sample_a_class_is_collapsed_and_a_zeroed_head_infinitely_far_from_the_means():
    found = neural_collapse(gaussian(3, 5), torch.arange(3), head=(torch.zeros(3, 5), torch.zeros(3)))
    assert found.nc1 == 0 and found.nc3 == math.inf


def test_one_class_wrong_labels_and_a_foreign_head_are_refused_with_the_layers_name():
    h, y = gaussian(4, 3), torch.tensor([0, 0, 1, 1])
    with pytest.raises(UsageError, match=r"layer hidden\.1: 1 class"):
        neural_collapse(h, torch.zeros(4), layer="hidden.1")
    with pytest.raises(UsageError, match=r"layer hidden\.1: labels of shape"):
        neural_collapse(h, y[:2], layer="hidden.1")
    for head, labels in (((torch.ones(3, 3), torch.zeros(3)), y), ((torch.ones(2, 3), torch.zeros(2)), y + 1)):
        with pytest.raises(UsageError, match=r"layer hidden\.1: head"):
            neural_collapse(h, labels, head=head, layer="hidden.1")
