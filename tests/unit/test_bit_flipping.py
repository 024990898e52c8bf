"""The bit-flipping stream against its definitions, and the experiment built on it."""

from dataclasses import replace

import numpy as np
import pytest

from lop_utils.errors import UsageError
from lop_utils.experiments import bit_flipping as experiment
from lop_utils.experiments.bit_flipping import Arm, Config, preset, run
from lop_utils.streams import counter
from lop_utils.streams.bit_flipping import CONVENTIONS, BitFlipping
from lop_utils.training.online import Method, initial, learn

TINY = {
    "steps": 400, "widths": (3,), "seeds": (0, 1), "period": 100, "every": 50, "measure_every": 200, "checkpoints": 2,
    "fresh_steps": 100, "engine": "torch",
}  # fmt: skip


def literal_target(stream: BitFlipping, x: np.ndarray) -> float:
    """The target as the three texts write it: weighted sums and thresholds, one unit after the other."""
    v, _, out, bias = stream._target
    signs = 2.0 * counter.integers(counter.key(stream.seed, 3), np.arange(stream.units * (stream.bits + 2) + 1), 2) - 1
    v0 = signs[stream.units * stream.bits :][: stream.units]
    total = bias
    for j in range(stream.units):
        pre = sum(v[j, i] * x[i] for i in range(stream.bits)) + v0[j]
        if stream.convention == "as_published":  # m beta - S, S counting the bias weight too, >=
            on = pre >= stream.bits * stream.beta - ((v[j] < 0).sum() + (v0[j] < 0))
        elif stream.convention == "as_coded":  # (m + 1) beta - (S - v0 / 2), >
            on = pre > (stream.bits + 1) * stream.beta - ((v[j] < 0).sum() - 0.5 * v0[j])
        else:  # (m + 1) beta - (m - sum of v + v0) / 2, >
            on = pre > (stream.bits + 1) * stream.beta - (stream.bits - v[j].sum() + v0[j]) / 2
        total += on * out[j]
    return total


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_targets_are_those_of_the_threshold_units_as_the_texts_write_them(convention):
    stream = BitFlipping(seed=5, convention=convention)
    bits = np.random.default_rng(0).integers(0, 2, (40, 20)).astype(float)
    assert stream.target(bits).tolist() == [literal_target(stream, x) for x in bits]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_slow_bits_change_only_when_a_period_ends(convention):
    stream = BitFlipping(seed=1, period=50, convention=convention)
    slow = stream.inputs(0, 1000)[:, :15]
    changes = np.abs(np.diff(slow, axis=0)).sum(1)
    assert not np.delete(changes, np.arange(49, 999, 50)).any()
    at_ends = changes[49::50]
    assert (at_ends == 1).all() if convention != "dohare" else 3 < at_ends.mean() < 11


def test_fast_bits_are_drawn_uniformly_in_every_step():
    stream = BitFlipping(seed=2)
    counts = np.bincount(stream.patterns(0, 64_000), minlength=32)
    assert ((counts - 2000) ** 2 / 2000).sum() < 61.1  # chi squared, 31 degrees of freedom, p = 0.001
    assert np.array_equal(stream.patterns(100, 110), stream.patterns(0, 110)[100:])


def test_inputs_targets_and_the_present_tell_the_same_story():
    for convention in CONVENTIONS:
        stream = BitFlipping(seed=3, period=20, convention=convention)
        x, y = stream.inputs(10, 70), stream.targets(10, 70)
        assert x.shape == (60, stream.width) and set(np.unique(x)) <= {0.0, 1.0}
        assert (x[:, 15] == 1).all() or convention != "as_coded"
        bits = np.delete(x, 15, axis=1) if convention == "as_coded" else x
        assert np.array_equal(stream.target(bits), y)
        inputs, targets = stream.present(35)
        q = stream.patterns(35, 36)[0]
        assert np.array_equal(inputs[q], x[25]) and targets[q] == y[25]


def test_a_sample_of_the_stream_reaches_into_its_future():
    x, y = BitFlipping(seed=0, period=10).sample(10_000, 50)
    assert x.shape == (50, 20) and y.shape == (50,)
    assert len(np.unique(x[:, :15], axis=0)) > 20


def test_impossible_streams_are_refused():
    for bad in ({"convention": "text"}, {"slow": 20}, {"slow": 3}, {"period": 0}):
        with pytest.raises(UsageError):
            BitFlipping(**bad)


def test_the_experiment_gives_tidy_rows_of_every_arm_layer_and_metric():
    frame = run(Config(arms=(Arm("bp"), Arm("cbp", Method(cbp="as_published"))), **TINY))
    assert set(frame["method"]) == {"bp", "cbp", "fresh", "linear"} and set(frame["arch"]) == {"width 3", "linear"}
    losses = frame[(frame["metric"] == "loss") & (frame["method"] == "bp") & (frame["seed"] == 0)]
    assert losses["step"].tolist() == list(range(50, 401, 50))
    fresh = frame[(frame["method"] == "fresh") & (frame["seed"] == 0)]
    assert fresh["step"].tolist() == [150, 200, 350, 400]
    measured = frame[(frame["layer"] == "after") & (frame["metric"] == "effective_rank")]
    assert sorted(set(measured["step"])) == [0, 200, 400]
    assert np.isfinite(frame["value"]).all()


def test_the_same_seed_gives_the_same_frame_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(experiment, "cores", lambda: 1)
    alone = run(Config(**TINY))
    monkeypatch.setattr(experiment, "cores", lambda: 2)
    assert alone.equals(run(Config(**TINY)))


def test_presets_and_bad_configurations():
    assert preset("laptop", seed=3).seeds == tuple(range(3, 13)) and preset("laptop").steps == 5_000_000
    for bad in ({"seeds": ()}, {"measure_every": 15_000}, {"fresh_steps": 2_000_000}, {"convention": "past"}):
        with pytest.raises(UsageError):
            preset("laptop", **bad)


def test_the_whole_stream_is_measured_at_the_end_on_the_same_networks():
    config = Config(**TINY)
    frame = run(replace(config, whole_stream=True))
    extra = frame["layer"].str.endswith(", whole stream")
    assert frame[~extra].reset_index(drop=True).equals(run(config))
    assert set(frame["layer"][extra]) == {"after, whole stream", "before, whole stream"}
    assert set(frame["step"][extra]) == {config.steps}
    arm, width, seed = config.arms[0], config.widths[0], config.seeds[0]
    stream = BitFlipping(seed=seed, period=config.period, convention=config.convention)
    method = replace(arm.method, width=width)
    state = initial(method, stream, seed=seed)
    list(learn(method, stream, state, steps=config.steps, every=config.every, seed=seed, engine="torch"))
    x, _ = stream.sample(config.steps, 1000)
    h = np.maximum(x @ state.w + state.b, 0.0)
    p = np.linalg.svd(h, compute_uv=False)
    p = p[p > 0] / p.sum()
    rows = frame[extra & (frame["seed"] == seed) & (frame["arch"] == f"width {width}") & (frame["method"] == arm.name)]
    rows = rows[(rows["metric"] == "effective_rank") & (rows["layer"] == "after, whole stream")]
    assert rows["value"].item() == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-5)


def test_dead_units_count_after_the_activation_only():
    stream, method = BitFlipping(), Method(width=4)
    from lop_utils.training.online import initial

    state = initial(method, stream, seed=0)
    state.w[:], state.b[:] = 0.0, -1.0
    found = {
        (layer, metric): value for layer, metric, value in experiment.unit_metrics(state, method, *stream.present(0))
    }
    assert found["after", "dead"] == 1 and found["before", "dead"] == 0
    assert found["after", "duplicate"] == 0 and found["before", "duplicate"] == 1
