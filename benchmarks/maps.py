"""Speed of alpha maps: rank recovery strengths over a grid of gains and offsets, beside `scipy.integrate.quad`.

python benchmarks/maps.py [--repeats 5]

The plain side is what the definition says: three adaptive integrals at every point of the grid. Both sides take turns
on one thread, their values are compared, and the ratio is that of the medians of processor time.
"""

import argparse
from functools import partial

import numpy as np
from scipy.integrate import quad
from timing import in_turns

from lop_utils.theory.activations import as_activation
from lop_utils.theory.gaussian import both_strengths

ACTIVATIONS, SIDE, AGREED = ("relu", "tanh", "gelu"), 12, 1e-5


def grid(side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """Gains and offsets, (side * side,) each; offsets to twice the gain, beyond which `quad` lacks digits."""
    a, k = np.meshgrid(np.geomspace(0.3, 3.0, side), np.linspace(-2.0, 2.0, side))
    return a.ravel(), (a * k).ravel()


def plain(name: str, gains: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Centred strengths E h'^2 / Var h - 1 of h(Z) = f(a Z + b), integrated point by point."""
    activation, found = as_activation(name), []
    for a, b in zip(gains, offsets, strict=True):
        kinks = [k for k in (activation.points - b) / a if abs(k) < 10]

        def mean(g, a=a, b=b, kinks=kinks):
            value = lambda z: float(g(np.array([a * z + b]))[0]) * np.exp(-z * z / 2)  # noqa: E731
            return quad(value, -10, 10, points=kinks or None, limit=200)[0] / np.sqrt(2 * np.pi)

        first, second = mean(activation.f), mean(lambda u: activation.f(u) ** 2)
        slope = mean(lambda u, a=a: (a * activation.df(u)) ** 2)
        found.append(slope / (second - first**2) - 1)
    return np.array(found)


def measured(repeats: int, side: int = SIDE) -> list[dict]:
    """A row for each activation; raises `ValueError` where the two sides disagree."""
    rows, (a, b) = [], grid(side)
    for name in ACTIVATIONS:
        difference = np.abs(plain(name, a, b) / both_strengths(name, a, b)[1] - 1).max()
        if not difference < AGREED:
            raise ValueError(f"alpha maps of {name} differ by {difference:.1e}")
        slow, fast = in_turns(partial(plain, name, a, b), partial(both_strengths, name, a, b), repeats)
        what = f"alpha map of {name}, {side} x {side}"
        rows.append({"what": what, "plain_s": slow, "ours_s": fast, "ratio": slow / fast, "difference": difference})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    for row in measured(parser.parse_args().repeats):
        print(f"{row['what']:34}{row['plain_s']:9.3f} s{row['ours_s']:9.4f} s{row['ratio']:9.1f}")


if __name__ == "__main__":
    main()
