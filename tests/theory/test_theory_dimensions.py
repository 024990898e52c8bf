"""Dimensions against the null spaces of the constraints themselves."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.theory.dimensions import block_dimension, cloned_dimensions, network_dimensions


def constraints(p, q, space):
    """Rows are linear equations on the p*q entries (row-major) of a block."""
    row_sum = np.kron(np.eye(p), np.ones(q))
    column_sum = np.kron(np.ones(p), np.eye(q))
    equal = {"re": np.diff(row_sum, axis=0), "ce": np.diff(column_sum, axis=0), "bc": np.diff(np.eye(p * q), axis=0)}
    equal["re_ce"] = np.vstack([equal["re"], equal["ce"]])
    equal["full"] = np.zeros((0, p * q))
    return equal[space]


@given(st.integers(1, 6), st.integers(1, 6), st.sampled_from(["full", "re", "ce", "re_ce", "bc"]))
def test_a_blocks_dimension_is_the_nullity_of_its_constraints(p, q, space):
    equations = constraints(p, q, space)
    rank = np.linalg.matrix_rank(equations) if equations.size else 0
    assert block_dimension(p, q, space) == p * q - rank


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=2, max_size=4), st.booleans())
@settings(deadline=None)
def test_a_networks_dimension_is_the_sum_over_its_blocks(blocks, bias):
    found = network_dimensions(blocks, bias=bias)
    for space in ("full", "re", "ce", "re_ce", "bc"):
        weights = sum(block_dimension(p, q, space) for below, above in pairwise(blocks) for p in above for q in below)
        biases = sum(sum(layer) if space == "full" else len(layer) for layer in blocks[1:])
        assert getattr(found, space) == weights + bias * biases


def test_the_doubled_network_of_the_paper_has_the_ledgers_dimensions():
    found = cloned_dimensions([3072, *[128] * 5, 10], factor=2)
    assert (found.full, found.re_ce, found.bc) == (1_052_426, 526_218, 460_682)
    assert found.bc / found.full == pytest.approx(0.44, abs=3e-3)


def test_only_hidden_to_hidden_weights_shrink_by_the_square_of_the_factor():
    base, doubled = cloned_dimensions([8, 4, 4, 8], factor=1, bias=False), cloned_dimensions([8, 4, 4, 8], bias=False)
    assert doubled.bc == base.full == base.bc
    assert doubled.full == 2 * 8 * 4 + 4 * 16 + 2 * 8 * 4


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(UsageError, match="space 'rce'"):
        block_dimension(2, 2, "rce")
    with pytest.raises(UsageError, match="rows = 0"):
        block_dimension(0, 2, "re")
    with pytest.raises(UsageError, match="1 layer has no weights"):
        network_dimensions([[1, 2]])
    with pytest.raises(UsageError, match="factor = 0"):
        cloned_dimensions([4, 4], factor=0)
