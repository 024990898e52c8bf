"""No metric may return a silent NaN: each gives its documented value or names the layer it refuses."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.metrics.cloning import cloning_r2
from lop_utils.metrics.collapse import neural_collapse
from lop_utils.metrics.presets import PRESETS, measure
from lop_utils.metrics.record import LayerRecord
from lop_utils.metrics.spectrum import ranks, spectrum
from lop_utils.metrics.units import (
    dead_units,
    dormant_units,
    duplicate_groups,
    duplicate_units,
    frozen_units,
    gradient_frozen_units,
    redundancy,
    saturated_units,
    similarity,
)

ON_ACTIVATIONS = {
    "dead": dead_units,
    "dormant": dormant_units,
    "frozen": frozen_units,
    "similarity": similarity,
    "duplicates": duplicate_units,
    "groups": duplicate_groups,
    "redundancy": redundancy,
    "spectrum": spectrum,
    "ranks": ranks,
    "saturated": lambda h, layer: saturated_units(h, torch.ones_like(h), layer=layer),
    "saturated by gradient": lambda g, layer: saturated_units(torch.ones_like(g), g, layer=layer),
    "gradient-frozen": lambda g, layer: gradient_frozen_units(g, torch.ones_like(g), layer=layer),
    "gradient-frozen by slope": lambda d, layer: gradient_frozen_units(torch.ones_like(d), d, layer=layer),
    "collapse": lambda h, layer: neural_collapse(h, torch.arange(len(h)) % 2, layer=layer),
}
BAD = {
    "nan": torch.tensor([[1.0, math.nan], [1.0, 2.0]]),
    "inf": torch.tensor([[1.0, 2.0], [-math.inf, 2.0]]),
    "no rows": torch.zeros(0, 3),
    "no units": torch.zeros(3, 0),
    "one-dimensional": torch.zeros(3),
}


@pytest.mark.parametrize(("metric", "bad"), list(product(ON_ACTIVATIONS, BAD)))
def test_bad_input_is_refused_with_the_layers_name(metric, bad):
    with pytest.raises(UsageError, match=r"layer hidden\.7"):
        ON_ACTIVATIONS[metric](BAD[bad], layer="hidden.7")


def test_cloning_r2_names_the_layer_of_values_that_are_not_finite():
    with pytest.raises(UsageError, match=r"layer hidden\.7"):
        cloning_r2(BAD["nan"], torch.tensor([0, 0]), layer="hidden.7")


def test_gradients_of_another_shape_are_refused_with_the_layers_name():
    for metric in (saturated_units, gradient_frozen_units):
        with pytest.raises(UsageError, match=r"layer hidden\.7: shapes"):
            metric(torch.ones(2, 2), torch.ones(3, 2), layer="hidden.7")


def layer(h, gradient=None):
    return LayerRecord("hidden.7", h, h, torch.ones_like(h) if gradient is None else gradient)


def measured(h, slope=1.0, **kw):
    return {name: measure(layer(h, **kw), name, slope=torch.full_like(h, slope)) for name in PRESETS}


def test_a_layer_of_dead_units_is_dead_dormant_frozen_without_duplicates_and_of_rank_zero():
    found = measured(torch.zeros(20, 4), slope=0.0)
    assert found["paper"] == {"dead": 1, "duplicate": 0, "saturated": 0, "effective_rank": 0, "stable_rank": 0}
    assert found["sokar"] == {"dormant": 1, "dormant_025": 1, "dead": 1}
    assert found["dohare"] == {"dead": 1, "dormant": 1, "effective_rank": 0, "stable_rank": 0}
    assert found["book"] == {
        "dead": 1, "frozen": 1, "gradient_frozen": 1, "duplicate": 0, "redundancy": 0, "effective_rank": 0,
        "participation_ratio": 0,
    }  # fmt: skip


def test_constant_units_are_parallel_but_uncorrelated_and_have_no_centred_rank():
    found = measured(torch.full((20, 4), 0.1) * torch.arange(1, 5))
    assert found["paper"]["duplicate"] == 1 and found["paper"]["effective_rank"] == pytest.approx(1)
    assert found["book"]["duplicate"] == found["book"]["redundancy"] == found["book"]["effective_rank"] == 0


def test_a_single_sample_makes_all_firing_units_parallel_and_none_correlated():
    found = measured(torch.tensor([[1.0, 2.0, -1.0]]))
    assert found["paper"]["duplicate"] == pytest.approx(2 / 3)
    assert found["book"]["duplicate"] == found["book"]["effective_rank"] == 0 and found["paper"]["effective_rank"] == 1


def test_one_unit_has_no_duplicate_and_is_dormant_only_if_it_is_zero():
    found = measured(torch.arange(1.0, 9)[:, None])
    assert found["paper"]["duplicate"] == found["book"]["redundancy"] == found["sokar"]["dormant"] == 0
    assert found["paper"]["effective_rank"] == found["book"]["effective_rank"] == 1
    assert dormant_units(torch.zeros(3, 1)).tolist() == [True]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 6),
    units=st.integers(1, 5),
    values=st.lists(st.sampled_from([0.0, 1.0, -1.0, 1e-30, -3e38, 0.1, 7.0]), min_size=30, max_size=30),
)
def test_whatever_the_finite_activations_every_preset_gives_finite_shares_and_ranks(rows, units, values):
    h = torch.tensor(values[: rows * units]).reshape(rows, units)
    for preset in measured(h, gradient=h.flip(0)).values():
        for name, value in preset.items():
            assert math.isfinite(value) and 0 <= value <= (max(rows, units) if "rank" in name or "ratio" in name else 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 400), st.integers(1, 40), st.integers(0, 999), st.booleans())
def test_constant_rows_have_no_centred_spectrum_at_any_scale(rows, units, seed, single):
    generator = torch.Generator().manual_seed(seed)
    constant = torch.randn(units, generator=generator, dtype=torch.float64) * 10 ** (6 * torch.rand(units) - 3)
    h = (constant.float() if single else constant).expand(rows, units)
    found = spectrum(h)
    assert not found.centred.any()
    torch.testing.assert_close(found.raw[0], h.double().norm(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_ranks_and_similarities_do_not_depend_on_an_extreme_scale(scale):
    h = torch.randn(30, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert ranks(h * scale) == pytest.approx(ranks(h), rel=1e-9)
    torch.testing.assert_close(similarity(h * scale), similarity(h))
