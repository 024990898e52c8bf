import dataclasses

import pytest
import torch

from lop_utils.errors import UsageError
from lop_utils.experiments import stability
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import normal_hessian
from lop_utils.manifolds.normal_space import normal_space
from lop_utils.manifolds.partition import Partition
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.streams.sources import load


def spectra(**changes):
    return stability.preset("smoke", widths=(5, 4), activations=("tanh", "relu"), **changes)


def escape(**changes):
    return stability.preset("smoke", escape=True, widths=(6, 6), switch=60, steps=100, window=20, **changes)


@pytest.fixture(scope="module")
def probed():
    return stability.run(spectra())


@pytest.fixture(scope="module")
def tracked():
    return stability.run(escape(scale=1e-9))


def wide(frame):
    return frame.pivot_table("value", ["method", "seed", "step"], "metric")


def test_the_frame_is_tidy_and_the_same_twice(probed):
    key = ["experiment", "arch", "method", "seed", "task", "step", "layer", "metric"]
    assert set(probed) == {*key, "value"} and not probed.duplicated(key).any() and probed.value.notna().all()
    assert probed.equals(stability.run(spectra()))


def test_the_probes_at_the_start_are_those_of_the_explicit_hessian(probed):
    config = spectra()
    source = load(config.source)
    x, y = source.inputs[: config.rows].flatten(1).double(), source.targets[: config.rows]
    base = MLP(MLPConfig(source.size, config.widths, 10, activation="tanh"), seed=0).to(x)
    clone = widen(base, 2)
    space = normal_space(clone, Partition.of_clone(clone, 2))
    values = torch.linalg.eigvalsh(normal_hessian(clone, space, x, y))
    row = wide(probed).loc[("tanh", 0, 0)]
    assert row.lambda_min == pytest.approx(float(values[0])) and row.lambda_max == pytest.approx(float(values[-1]))
    assert row.trace == pytest.approx(float(values.sum())) and row.negative + row.zero + row.positive == len(values)


def test_relu_spectra_have_no_trace_and_the_switch_raises_the_residual(probed):
    rows = wide(probed)
    assert (rows.loc["relu"].trace.abs() < 1e-9).all() and (rows.loc["relu"].lambda_max > 1e-3).all()
    for method in ("tanh", "relu"):
        levels = rows.loc[method].groupby("step").residual.mean()
        assert levels[60] > levels[59]


@pytest.mark.parametrize("method", stability.ACTIVATIONS)
def test_the_measured_distance_follows_the_product_of_the_bases_hessians(tracked, method):
    rows = wide(tracked[tracked.metric.isin(["distance", "predicted"])]).loc[method]
    assert ((rows.distance / rows.predicted - 1).abs() < 1e-4).all()
    assert (rows.distance.groupby("seed").agg(lambda d: abs(d.iloc[-1] - 1)) > 0.01).all()


def test_windows_give_rates_and_both_smallest_eigenvalues(tracked):
    rows = wide(tracked[tracked.metric.isin(["rate", "lambda_now", "lambda_mean"])])
    assert sorted(rows.reset_index().step.unique()) == [40, 60, 80, 100]
    assert (rows.lambda_mean < 0).all() and (rows.lambda_now < 0).all()
    assert (rows.rate <= -rows.lambda_mean * 1.2 + 0.05).all()  # nothing grows faster than the steepest direction


def test_presets_scale_and_take_overrides():
    assert stability.preset("laptop", seed=7).seeds == (7, 8, 9, 10, 11)
    assert stability.preset("laptop", escape=True).track_from == 600
    assert stability.preset("smoke", lr=0.5).lr == 0.5 and dataclasses.is_dataclass(stability.preset("paper"))


def test_bad_configurations_are_named():
    with pytest.raises(UsageError, match="'fast'"):
        stability.preset("fast")
    with pytest.raises(UsageError, match="factor 1"):
        stability.Config(factor=1)
    with pytest.raises(UsageError, match="100 steps"):
        stability.Config(steps=100, switch=50, probes=(200,))
    with pytest.raises(UsageError, match="multiple"):
        stability.Config(window=15)
