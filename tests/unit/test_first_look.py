"""The front page's experiment and its figures."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import bit_flipping, first_look
from lop_utils.figures import front
from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.online import Method, initial, learn


def test_a_look_is_what_the_network_is_at_that_step():
    first, second = first_look.looks([10_000, 30_000], seed=3, width=4)
    method, stream = Method(width=4), BitFlipping(seed=3)
    state = initial(method, stream, seed=3)
    list(learn(method, stream, state, steps=30_000, every=30_000, seed=3))
    inputs, targets = stream.present(29_999)
    np.testing.assert_allclose(second.answer, state.predict(inputs, method), rtol=1e-9)
    assert second.error == pytest.approx(np.mean((state.predict(inputs, method) - targets) ** 2))
    assert (first.step, first.lived, second.lived) == (10_000, 10_000, 20_000)


def test_a_silent_unit_is_zero_on_all_inputs():
    hidden = np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    look = first_look.Look(10, hidden, np.ones(2), np.zeros(2), np.ones(2), 10)
    assert (look.silent, look.error, look.fresh_error) == (1, 1.0, 0.0)


@pytest.mark.parametrize("steps", [[], [5], [20_000, 10_000], [10_000, 10_000], [0]])
def test_steps_that_are_no_growing_ends_of_periods_are_refused(steps):
    with pytest.raises(UsageError, match="growing multiples"):
        first_look.looks(steps, seed=0, width=2)


def test_the_figures_show_every_line_and_name_every_axis():
    config = bit_flipping.Config(
        steps=200_000, widths=(4,), arms=(bit_flipping.BP,), seeds=(0, 1), measure_every=100_000, checkpoints=2,
        fresh_steps=20_000,
    )  # fmt: skip
    errors = front.error_curves(bit_flipping.run(config))
    assert set(errors["method"]) == {"bp", "linear", "fresh"} and (errors["low"] <= errors["high"]).all()
    looks = first_look.looks([10_000, 200_000], seed=0, width=4)
    opening = front.opening_figure(errors, looks)
    frame = front.look_figure(errors, looks[1], top=front.darkest(looks), limits=front.limits(looks))
    assert len(opening.axes) == 3 and len(frame.axes) == 3
    assert all(ax.get_xlabel() and (ax.get_ylabel() or ax is not frame.axes[0]) for ax in frame.axes)
    low, high = front.limits(looks)
    assert low < min(look.answer.min() for look in looks) and high > max(look.target.max() for look in looks)
    plt.close("all")
