"""Shortened configurations: valid for every experiment, of the same shapes, shorter in proportion."""

import dataclasses
import importlib
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.experiments import cloning, lengths, two_tasks
from lop_utils.kit import experiments

NAMES = list(experiments.known().items())


@pytest.mark.parametrize(("name", "module"), NAMES)
@pytest.mark.parametrize("profile", ["smoke", "laptop", "paper"])
def test_every_experiment_can_be_shortened_and_only_its_lengths_change(name, module, profile):
    config = importlib.import_module(module).preset(profile)
    fraction = lengths.shortest_fraction(name, config)
    assert 0 < fraction <= 1
    heads = {path.partition(".")[0] for path in lengths.length_fields(name, config)}
    for share in (fraction, min(1.0, 2 * fraction)):
        short = lengths.shortened(name, config, share)  # raises where the lengths do not fit together
        for field in dataclasses.fields(config):
            if field.name not in heads:
                assert getattr(short, field.name) == getattr(config, field.name)
            if isinstance(getattr(config, field.name), tuple):
                assert len(getattr(short, field.name)) == len(getattr(config, field.name))
        for path in lengths.length_fields(name, config):
            whole, part = attrgetter(path)(config), attrgetter(path)(short)
            if isinstance(whole, float):
                assert part == pytest.approx(share * whole)
            elif isinstance(whole, int):
                assert -1e-6 <= part - share * whole <= 1
            else:
                assert -1e-6 <= part[-1] - share * whole[-1] <= len(whole) and list(part) == sorted(set(part))
    assert lengths.shortened(name, config, 1.0) == config


def test_every_name_with_lengths_of_its_own_is_an_experiment():
    assert set(lengths.LENGTHS) <= set(dict(NAMES))


@settings(deadline=None)
@given(st.integers(1, 10**6), st.floats(1e-6, 1.0))
def test_a_length_is_in_proportion_within_one_step(steps, fraction):
    config = dataclasses.replace(two_tasks.preset("laptop"), steps=steps)
    short = lengths.shortened("two_tasks", config, fraction)
    assert 1 <= short.steps <= steps and abs(short.steps - fraction * steps) <= 1


def test_a_fraction_that_is_none_is_named():
    for fraction in (0.0, 1.5, -1.0):
        with pytest.raises(UsageError, match="is not in"):
            lengths.shortened("cloning", cloning.preset("laptop"), fraction)
