import math

import numpy as np
import pytest
import torch
from helpers import batch, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import affine_transform
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.optim.gradient_noise import GradientNoise
from lop_utils.streams import sources
from lop_utils.streams.batches import batches
from lop_utils.training.loop import probe_steps, train


def quadratic(lr):
    """One weight w, loss w^2 / 2 x 2: gradient descent gives w_t = (1 - 2 lr)^t exactly."""
    net = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(net.weight)
    data = iter(lambda: (torch.ones(1, 1).double(), torch.zeros(1, 1).double()), None)
    return net, torch.optim.SGD(net.parameters(), lr=lr), data


def test_the_loop_follows_the_closed_form_of_gradient_descent_and_probes_where_asked():
    net, optimizer, data = quadratic(0.1)
    seen = {}
    outcome = train(net, optimizer, data, steps=20, loss=nn.functional.mse_loss,
                    probe=lambda t: seen.update({t: net.weight.item()}), probe_at=[0, 7, 20, 99])  # fmt: skip
    assert list(seen) == [0, 7, 20] and outcome.diverged_at is None and outcome.steps == 20
    for t, weight in seen.items():
        assert weight == pytest.approx(0.8**t, rel=1e-12)


def test_divergence_is_reported_with_its_step_and_not_raised():
    net, optimizer, data = quadratic(1e30)
    outcome = train(net, optimizer, data, steps=100, loss=nn.functional.mse_loss)
    # |w_t| ~ (2e30)^t: the loss w^2 overflows float64's 1.8e308 first at t = 6
    assert outcome.diverged_at == 6 and not math.isfinite(outcome.last_loss)


def test_dropout_follows_the_seed_and_the_global_generator_stays_where_it_was():
    def weights(seed):
        net = mlp(dropout=0.5)
        x, y = batch(net)
        train(net, torch.optim.SGD(net.parameters(), lr=0.1), batches(x, y, batch_size=8, seed=0), steps=5, seed=seed)
        return net.head.weight.detach()

    before = torch.get_rng_state()
    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
    assert torch.equal(before, torch.get_rng_state())


@given(st.integers(1, 10_000), st.integers(1, 60))
def test_probe_steps_hold_both_ends_and_are_no_more_than_asked(steps, count):
    found = probe_steps(steps, count)
    assert found[0] == 0 and found[-1] == steps and found == sorted(set(found)) and len(found) <= max(count, 2)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_every_epoch_visits_each_sample_at_most_once(n, size, seed):
    x = torch.arange(n)
    if size > n:
        with pytest.raises(UsageError, match=f"batch size {size} for {n}"):
            next(batches(x, x, batch_size=size, seed=seed))
        return
    stream = batches(x, x, batch_size=size, seed=seed)
    epoch = torch.cat([next(stream)[0] for _ in range(n // size)])
    assert len(epoch.unique()) == len(epoch) == n // size * size


def test_gradient_noise_has_the_stated_variance_and_decay():
    p, q = nn.Parameter(torch.zeros(200, 200)), nn.Parameter(torch.zeros(50))
    optimizer = torch.optim.SGD([p, q], lr=1.0)
    GradientNoise(optimizer, sigma=0.1, decay=0.5, seed=0)
    for t in range(3):
        p.grad, q.grad = torch.zeros_like(p), torch.full((50,), 3.0)
        p.grad[0, 0] = 2.0
        before = p.detach().clone()
        optimizer.step()
        step = (before - p.detach()).flatten()[1:]
        expected = 0.1 * 0.5**t * 2.0  # its own norm, not q's
        assert step.std().item() == pytest.approx(expected, rel=0.02) and abs(step.mean()) < expected / 50


def test_global_noise_scales_with_the_norm_of_the_whole_gradient():
    p, q = nn.Parameter(torch.zeros(200, 200)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([p, q], lr=1.0)
    GradientNoise(optimizer, sigma=0.1, seed=0, scope="global")
    p.grad, q.grad = torch.zeros_like(p), torch.full((1,), 5.0)
    optimizer.step()
    assert p.detach().std().item() == pytest.approx(0.5, rel=0.02)


def test_zero_decay_is_one_noisy_step_and_the_state_resumes():
    def displacement(steps, decay, resume_at=None):
        p = nn.Parameter(torch.zeros(10))
        optimizer = torch.optim.SGD([p], lr=1.0)
        noise, moves = GradientNoise(optimizer, sigma=1.0, decay=decay, seed=3), []
        for t in range(steps):
            if t == resume_at:
                state = noise.state_dict()
                noise.remove()
                noise = GradientNoise(optimizer, sigma=1.0, decay=decay, seed=99)
                noise.load_state_dict(state)
            p.grad, before = torch.ones(10), p.detach().clone()
            optimizer.step()
            moves.append(before - p.detach())
        return moves

    once = displacement(3, 0.0)
    assert not torch.allclose(once[0], torch.ones(10)) and torch.allclose(once[1], torch.ones(10))
    for a, b in zip(displacement(6, 0.9), displacement(6, 0.9, resume_at=3), strict=True):
        assert torch.equal(a, b)


def test_a_grid_of_noises_in_one_stack_is_every_cell_run_alone():
    cells = [(0.1, 1.0), (0.0, 1.0), (0.3, 0.0), (0.2, 0.5)]
    sigmas, decays = zip(*cells, strict=True)
    gradients = torch.randn(4, 4, 6, 5, generator=torch.Generator().manual_seed(0))  # (steps, members, ...)

    def moves(gradients, **settings):
        p = nn.Parameter(torch.zeros_like(gradients[0]))
        optimizer = torch.optim.SGD([p], lr=1.0)
        GradientNoise(optimizer, **settings)
        for gradient in gradients:
            p.grad = gradient.clone()
            optimizer.step()
        return p.detach()

    together = moves(gradients, sigma=sigmas, decay=decays, seed=[7, 8, 9, 7], stacked=True)
    for i, ((sigma, decay), seed) in enumerate(zip(cells, (7, 8, 9, 7), strict=True)):
        alone = moves(gradients[:, i : i + 1], sigma=sigma, decay=decay, seed=seed, stacked=True)
        assert torch.equal(together[i], alone[0])
        torch.testing.assert_close(moves(gradients[:, i], sigma=sigma, decay=decay, seed=seed), alone[0])
    assert torch.equal(together[1], moves(gradients[:, 1], sigma=0.0, seed=0))
    with pytest.raises(UsageError, match="2 settings for 4 members"):
        moves(gradients, sigma=[0.1, 0.2], seed=0, stacked=True)


@pytest.mark.parametrize(("bad", "text"), [({"sigma": -1}, "sigma -1"), ({"sigma": 1, "decay": 2}, "decay 2")])
def test_bad_noise_is_named(bad, text):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UsageError, match=text):
        GradientNoise(optimizer, seed=0, **bad)


@pytest.mark.parametrize("name", sources.SOURCES)
def test_every_source_is_standardised_labelled_licensed_and_as_recorded(name):
    source = sources.load(name)
    assert source.inputs.mean().abs() < 1e-5 and source.inputs.std().item() == pytest.approx(1, abs=1e-3)
    assert source.inputs.dtype == torch.float32 and source.size == math.prod(source.shape)
    assert sorted(source.targets.unique().tolist()) == list(range(source.classes))
    assert len(source.test_inputs) == len(source.test_targets) > 0 and source.licence and source.citation


def test_train_and_test_samples_of_a_source_are_disjoint():
    for name in sources.SOURCES:
        source = sources.load(name)
        seen = {row.numpy().tobytes() for row in source.inputs.flatten(1)}
        shared = sum(row.numpy().tobytes() in seen for row in source.test_inputs.flatten(1))
        # strongly jittered views are sometimes clipped to one even colour, and then some of them are the same image
        assert shared <= (0.02 * len(source.test_inputs) if name == "patches_jittered" else 0), name


def test_a_linear_classifier_reads_the_digits_labels():
    source = sources.load("digits")
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    stream = batches(source.inputs, source.targets, batch_size=64, seed=0)
    train(net, torch.optim.SGD(net.parameters(), lr=0.1), stream, steps=300)
    assert (net(source.test_inputs).argmax(1) == source.test_targets).double().mean() > 0.9


@pytest.mark.parametrize("corner", [(8, 8), (368, 568), (200, 300)])
def test_views_of_a_window_are_those_of_scipy(corner):
    jitter, g = sources._Jitter(96, 0.96, 24, 1.2, 96, views=6), np.random.default_rng(3)
    photograph = 255 * g.random((427, 640, 3))
    found = sources._views(photograph, corner, np.random.default_rng(5), jitter, 6)
    draw = np.random.default_rng(5)
    for view in found:
        angle, scale = np.deg2rad(draw.uniform(-96, 96)), draw.uniform(0.04, 1.96)
        centre = np.array(corner) + 19.5 + draw.uniform(-24, 24, 2)
        gain, shift = draw.uniform(-0.2, 2.2, 3), draw.uniform(-96, 96, 3)
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        for c in range(3):
            window = affine_transform(
                photograph[..., c], turn, centre - turn @ [19.5, 19.5], (40, 40), order=1, mode="nearest"
            )
            coarse = window.reshape(8, 5, 8, 5).mean((1, 3))
            np.testing.assert_allclose(view[c], np.clip(coarse * gain[c] + shift[c], 0, 255), atol=1e-8)


def test_unknown_and_changed_sources_are_named(monkeypatch):
    with pytest.raises(UsageError, match="source 'cifar' is unknown"):
        sources.load("cifar")
    monkeypatch.setitem(sources.CHECKSUMS, "digits", "0" * 64)
    with pytest.raises(UsageError, match="source digits has checksum"):
        sources.load("digits")


def test_making_a_source_leaves_the_global_generators_alone():
    import random

    import numpy as np

    before = (np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state())
    sources._MAKERS["mnist1d"]()
    assert (before[0] == np.random.get_state()[1]).all() and before[1] == random.getstate()
    assert torch.equal(before[2], torch.get_rng_state())
