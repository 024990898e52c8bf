"""Hard rank after a non-linearity: shells of symmetric powers, one for each Hermite coefficient that is not zero.

Let n units have pre-activations <v_i, x>, x standard normal in R^r and |v_i| = 1. The covariance of f's activations is
sum_k c_k^2 C^(k), where C^(k) is the entrywise power of the Gram matrix C, itself the Gram matrix of the symmetric
tensors v_i^(x k), which live in a space of dimension binom(r + k - 1, k). Contracting v^(x k) once gives v^(x (k - 2)),
so a shell contains all lower shells of its parity, and degree k adds binom(r + k - 1, k) - binom(r + k - 3, k - 2) new
dimensions: the spherical harmonics of degree k. The highest even and the highest odd degree present decide the rank.
"""

from math import comb

import numpy as np

from lop_utils.errors import UsageError
from lop_utils.theory.activations import Activation, Function, as_activation
from lop_utils.theory.gaussian import hermite_coefficients, moments
from lop_utils.theory.validate import Array, at_least, finite, within

_HIGHEST = 16  # degree up to which the support is read; one in its top four of a parity stands for endless
_ZERO = 1e-11  # a coefficient below this share of the norm is zero: quadrature leaves about 1e-14


def shell_dimension(rank: int, degree: int) -> int:
    """binom(r + k - 1, k): dimension of the symmetric tensors of degree k over R^r.

    >>> [shell_dimension(10, k) for k in range(4)]
    [1, 10, 55, 220]
    """
    return comb(at_least("rank", rank, 1) + at_least("degree", degree, 0) - 1, degree)


def hadamard_power_rank(rank: int, degree: int, units: int) -> int:
    """Rank of the k-th Hadamard power of a generic n x n Gram matrix of rank r: min(n, binom(r + k - 1, k)).

    >>> hadamard_power_rank(10, 2, 50), hadamard_power_rank(3, 2, 50)
    (50, 6)
    """
    return min(at_least("units", units, 1), shell_dimension(rank, degree))


def new_dimensions(rank: int, degree: int) -> int:
    """Dimensions of shell k that shell k - 2 does not have: the spherical harmonics of degree k in R^r.

    >>> [new_dimensions(10, k) for k in range(4)]
    [1, 10, 54, 210]
    """
    return shell_dimension(rank, degree) - (shell_dimension(rank, degree - 2) if degree > 1 else 0)


def hermite_support(f: Activation | str | Function, order: int = _HIGHEST) -> tuple[int, ...]:
    """The degrees k <= order with c_k != 0, read as |c_k| > 1e-11 ||f||.

    >>> hermite_support("tanh", 5), hermite_support("gelu", 6)
    ((1, 3, 5), (0, 1, 2, 4, 6))
    """
    f = as_activation(f)
    norm = float(np.sqrt(moments(f).second))
    return tuple(np.flatnonzero(np.abs(hermite_coefficients(f, order)) > _ZERO * norm).tolist())


def generic_hard_rank(
    f: Activation | str | Function, rank: int, units: int, *, antipodal_pairs: int = 0, centred: bool = True
) -> int:
    """Hard rank of the covariance of f applied to generic Gaussian data of rank r, of n units of equal variance.

    min(n, even + odd), each the shell dimension of the highest degree of that parity in f's Hermite support (degree 0
    counts only if not `centred`, that is for second moments); degrees of 13 and more count as endless. So any f that is
    not a polynomial reaches n, and many polynomials do. Exception: `antipodal_pairs` of units v, -v, where f enters
    through its even and odd part apart, and each part fills only its own shells. The paper excludes correlation +-1.

    >>> [generic_hard_rank(f, 10, 50) for f in ("relu", lambda z: z**2, "identity")]
    [50, 50, 10]
    >>> [generic_hard_rank(f, 10, 50, antipodal_pairs=25) for f in ("tanh", "relu", "elu")]
    [25, 35, 50]
    """
    n, p = at_least("units", units, 1), at_least("antipodal_pairs", antipodal_pairs, 0)
    if 2 * p > n:
        raise UsageError(f"{p} antipodal pairs need {2 * p} units, there are {n}", remedy="give fewer pairs")
    support = [k for k in hermite_support(f) if k or not centred]
    even, odd = (_parity_dimension(rank, [k for k in support if k % 2 == parity], n) for parity in (0, 1))
    paired = min(p, even) + min(p, odd)
    return paired + min(n - 2 * p, even + odd - paired)


def _parity_dimension(rank: int, degrees: list[int], units: int) -> int:
    if not degrees:
        return 0
    return units if max(degrees) > _HIGHEST - 4 and rank > 1 else shell_dimension(rank, max(degrees))


def hard_rank(values: Array, *, tolerance: float = 1e-6) -> int:
    """How many of the given eigenvalues (or singular values) exceed `tolerance` times the largest.

    >>> hard_rank(np.array([1.0, 0.1, 1e-9]))
    2
    """
    values, tolerance = finite("values", values), float(within("tolerance", tolerance, 0, 1))
    return int((values > tolerance * values.max()).sum()) if values.size else 0


def low_rank_gaussian(
    rank: int, units: int, samples: int, *, scale: float = 1.0, antipodal_pairs: int = 0, seed: int = 0
) -> Array:
    """Rank-r Gaussian pre-activations (samples, units), each unit of population standard deviation `scale`.

    The first 2 * antipodal_pairs units come in pairs u, -u. The paper's own data is this with unit-dependent scales
    near sqrt(r).

    >>> int(np.linalg.matrix_rank(low_rank_gaussian(3, 8, 100)))
    3
    """
    r, n, p = at_least("rank", rank, 1), at_least("units", units, 1), at_least("antipodal_pairs", antipodal_pairs, 0)
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((n, r))
    directions[1 : 2 * p : 2] = -directions[0 : 2 * p : 2]
    directions *= scale / np.linalg.norm(directions, axis=1, keepdims=True)
    return rng.standard_normal((at_least("samples", samples, 2), r)) @ directions.T


def sampled_hard_rank(
    f: Activation | str | Function, pre_activations: Array, *, tolerance: float = 1e-6, centred: bool = True
) -> int:
    """Hard rank, at `tolerance`, of the covariance eigenvalues of f(pre_activations), shape (samples, units).

    >>> sampled_hard_rank("relu", low_rank_gaussian(4, 12, 500))
    12
    """
    h = as_activation(f)(finite("pre_activations", pre_activations))
    h = h - h.mean(0) if centred else h
    return hard_rank(np.maximum(np.linalg.eigvalsh(h.T @ h), 0.0), tolerance=tolerance)
