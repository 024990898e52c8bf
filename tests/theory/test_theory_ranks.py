"""Exact effective ranks against eigenvalues, Monte Carlo and the expansions that they correct."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.theory.activations import as_activation, sine
from lop_utils.theory.gaussian import rank_recovery_strength
from lop_utils.theory.ranks import (
    effective_rank,
    eps_of_effective_rank,
    equicorrelated_effective_rank,
    linear_chain_effective_ranks,
    linear_chain_hard_rank,
    next_order_effective_rank,
    output_effective_rank,
    paper_effective_rank,
    small_excess_rank,
)


@given(st.floats(0, 1), st.integers(2, 40))
def test_the_closed_form_is_the_entropy_of_the_eigenvalues(gap, n):
    matrix = (1 - gap) * np.ones((n, n)) + gap * np.eye(n)
    direct = effective_rank(np.maximum(np.linalg.eigvalsh(matrix), 0))
    assert float(equicorrelated_effective_rank(gap, n)) == pytest.approx(direct, rel=1e-9)


def test_perfect_correlation_has_rank_one_and_none_has_full_rank():
    assert float(equicorrelated_effective_rank(0.0, 7)) == 1.0
    assert float(equicorrelated_effective_rank(1.0, 7)) == pytest.approx(7)


POINTS = [(0.01, 10), (0.1, 10), (0.1, 40), (0.5, 20), (1.0, 30)]


@pytest.mark.parametrize(("eps", "n"), POINTS)
def test_the_exact_effective_rank_is_within_monte_carlo_error(eps, n):
    """Six activations; the sampled spectrum spreads by Marchenko-Pastur, which lowers its entropy by about n/(2N)."""
    rows, repeats, rng = 10_000, 6, np.random.default_rng(7)
    ranks = {name: [] for name in ("relu", "tanh", "gelu", "sigmoid", "selu", "sin3")}
    for _ in range(repeats):
        common, own = rng.standard_normal((rows, 1)), rng.standard_normal((rows, n))
        z = np.sqrt(1 - eps) * common + np.sqrt(eps) * own
        for name, found in ranks.items():
            h = (sine(3.0) if name == "sin3" else as_activation(name))(z)
            h = h - h.mean(0)
            found.append(effective_rank(np.maximum(np.linalg.eigvalsh(h.T @ h), 0)))
    for name, found in ranks.items():
        exact = float(output_effective_rank(sine(3.0) if name == "sin3" else name, eps, n, centred=True))
        error = np.std(found, ddof=1) / np.sqrt(repeats)
        assert abs(np.mean(found) - exact) < 4 * error + exact * n / (2 * rows) + 1e-6, name


def test_the_ledgers_effective_ranks_are_reproduced():
    exact = lambda f, c: float(output_effective_rank(f, 0.1, 100, centred=c))  # noqa: E731
    assert exact("identity", True) == pytest.approx(2.177, abs=5e-4)
    assert exact("relu", False) == pytest.approx(2.040, abs=5e-4)  # un-centred the rank falls
    assert exact("relu", True) == pytest.approx(2.698, abs=5e-4)
    assert exact("tanh", True) == pytest.approx(2.395, abs=5e-4)
    assert [exact("gelu", c) for c in (False, True)] == pytest.approx([2.2370, 2.6185], abs=5e-5)
    assert exact(sine(3.0), True) == pytest.approx(29.3, abs=0.05)
    paper = lambda f, c: float(paper_effective_rank(f, 0.1, 100, centred=c))  # noqa: E731
    assert [paper("relu", True), paper("tanh", False), paper("gelu", True), paper(sine(3.0), True)] == pytest.approx(
        [2.879, 2.444, 2.656, 14.2], abs=6e-3
    )


@pytest.mark.parametrize("f", ["tanh", "gelu", "elu", "erf"])
def test_the_next_order_beats_the_papers_formula_and_converges_faster(f):
    errors = []
    for eps in (1e-3, 1e-5):
        exact = float(output_effective_rank(f, eps, 100, centred=True))
        paper = abs(float(paper_effective_rank(f, eps, 100, centred=True)) - exact)
        order = abs(float(next_order_effective_rank(f, eps, 100, centred=True)) - exact)
        assert order < paper / 3
        errors.append(order / eps**2)
    assert errors[1] < 3 * errors[0]  # the error is eps^2 up to a logarithm


@given(st.floats(1e-9, 1), st.integers(2, 1000))
def test_inverting_the_effective_rank_returns_eps(eps, n):
    rank = float(equicorrelated_effective_rank(eps, n))
    if 1 < rank <= n:
        assert eps_of_effective_rank(rank, n) == pytest.approx(eps, rel=1e-5 if eps < 0.99 else 1e-2)


def test_a_small_excess_rank_grows_by_one_plus_alpha_not_alpha():
    alpha, eta = rank_recovery_strength("erf", centred=False), 0.0125
    eps = eps_of_effective_rank(1 + eta, 10)
    true = float(output_effective_rank("erf", eps, 10, centred=True)) - 1
    assert true == pytest.approx(0.0150, abs=5e-5)
    assert small_excess_rank(alpha, eta, corrected=True) - 1 == pytest.approx(true, rel=0.03)
    assert small_excess_rank(alpha, eta, corrected=False) - 1 == pytest.approx(0.0028, abs=5e-5)


def test_a_linear_chain_only_loses_rank():
    ranks = linear_chain_effective_ranks(64, [1, 2, 4, 8, 16, 32, 64], spectrum="covariance")
    assert all(a > b for a, b in pairwise(ranks))
    assert ranks[0] == pytest.approx(38, abs=1.5) and ranks[-1] < 4
    assert linear_chain_hard_rank([64, 12, 64]) == 12


def test_bad_arguments_are_refused_by_name():
    with pytest.raises(UsageError, match="units = 1"):
        output_effective_rank("relu", 0.1, 1, centred=True)
    for eps in (0.0, -0.1, 1.5, np.nan):
        for call in (output_effective_rank, next_order_effective_rank, paper_effective_rank):
            with pytest.raises(UsageError, match="eps"):
                call("relu", eps, 10, centred=True)
    with pytest.raises(UsageError, match="values contain -1"):
        effective_rank([1.0, -1.0])
    with pytest.raises(UsageError, match="do not rise"):
        linear_chain_effective_ranks(8, [4, 2])
    with pytest.raises(UsageError, match="spectrum"):
        linear_chain_effective_ranks(8, [1], spectrum="both")
    with pytest.raises(UsageError, match="rank = 11"):
        eps_of_effective_rank(11.0, 10)
