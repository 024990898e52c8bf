"""The oracle is the whole Hessian from torch.func on networks small enough to write it down."""

import dataclasses

import pytest
import torch
from helpers import batch, mlp
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import classify, normal_extremes, normal_hessian, normal_product
from lop_utils.manifolds.equitable import distance, jitter, split
from lop_utils.manifolds.normal_space import contrasts, normal_space
from lop_utils.manifolds.partition import Partition
from lop_utils.manifolds.unit_blocks import unit_coordinates
from lop_utils.models.cnn import CNN, CNNConfig
from lop_utils.models.vit import ViT, ViTConfig
from lop_utils.theory.dimensions import cloned_dimensions

FACTORS = [2, 3, {"hidden.0": 2, "hidden.1": 3}, {"hidden.1": 2}]


def cloned(base, factor=2):
    clone = widen(base, factor)
    partition = Partition.of_clone(clone, factor)
    return clone, partition, normal_space(clone, partition)


def whole_hessian(model, x, y, loss=nn.functional.cross_entropy):
    """(parameters, parameters) and the function that flattens a direction in the same order."""
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])

    def objective(vector):
        parts = vector.split([shape.numel() for shape in shapes])
        values = {name: part.view(shape) for name, part, shape in zip(names, parts, shapes, strict=True)}
        return loss(torch.func.functional_call(model, values, (x,)), y)

    def flatten(direction):
        zero = {name: torch.zeros(shape, dtype=flat.dtype) for name, shape in zip(names, shapes, strict=True)}
        return torch.cat([(direction.get(name, zero[name])).flatten() for name in names])

    return torch.func.jacrev(torch.func.grad(objective))(flat), flatten


def basis(space):
    """(dimension,) list of directions in parameter space, one a normal coordinate."""
    return [space.embed(row) for row in torch.eye(space.dimension, dtype=torch.float64)]


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu"])
@pytest.mark.parametrize("factor", FACTORS)
def test_the_restricted_hessian_is_the_whole_one_between_basis_directions(activation, factor):
    clone, _, space = cloned(mlp(widths=(3, 2), inputs=3, activation=activation), factor)
    x, y = batch(clone, rows=12)
    hessian, flatten = whole_hessian(clone, x, y)
    b = torch.stack([flatten(direction) for direction in basis(space)])
    assert torch.allclose(b @ b.T, torch.eye(len(b), dtype=b.dtype), atol=1e-12)
    restricted = normal_hessian(clone, space, x, y, chunk=7)
    assert torch.allclose(restricted, b @ hessian @ b.T, atol=1e-12)


@given(
    widths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    factor=st.integers(2, 3),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, deadline=None)
def test_normal_coordinates_are_those_of_the_imbalances(widths, factor, seed):
    base = mlp(widths=tuple(widths), inputs=3)
    clone, partition, space = cloned(base, factor)
    counted = cloned_dimensions([3, *widths, 3], factor=factor)
    assert space.full_dimension == counted.full and space.dimension == counted.full - counted.re_ce
    jitter(clone, partition, scale=0.1, seed=seed, inside=False)
    weights = {name: p.detach() for name, p in clone.named_parameters()}
    coordinates = space.coordinates(weights)
    assert float(coordinates.norm()) == pytest.approx(distance(clone, partition).equitable_norm)
    by_unit = torch.cat([part.flatten() for part in unit_coordinates(clone, factor).values()])
    assert float(by_unit.norm()) == pytest.approx(float(coordinates.norm()))
    normal = space.embed(coordinates)
    assert torch.allclose(space.coordinates(normal), coordinates, atol=1e-12)
    for name, axes in partition.axis_labels(clone).items():
        parts = split(weights[name], axes.get(0), axes.get(1))
        assert torch.allclose(normal[name], parts.row_imbalance + parts.column_imbalance, atol=1e-12)


def test_contrasts_are_orthonormal_and_sum_to_zero():
    for k in (2, 3, 7):
        c = contrasts(k, like=torch.zeros((), dtype=torch.float64))
        assert torch.allclose(c.T @ c, torch.eye(k - 1, dtype=c.dtype)) and c.sum(0).abs().max() < 1e-14


def equitable(factor=2, activation="tanh"):
    """A network in RE and CE that is not block-constant, and its normal space."""
    clone, partition, space = cloned(mlp(widths=(3, 2), inputs=3, activation=activation, gain=2.0), factor)
    jitter(clone, partition, scale=0.3, seed=0)
    return clone, partition, space


def test_off_block_constant_weights_the_hessian_still_keeps_the_normal_space():
    clone, partition, space = equitable()
    x, y = batch(clone)
    hessian, flatten = whole_hessian(clone, x, y)
    b = torch.stack([flatten(direction) for direction in basis(space)])
    images = b @ hessian  # H is symmetric
    assert (images - images @ b.T @ b).abs().max() < 1e-13 < images.abs().max()
    axes = partition.axis_labels(clone)["hidden.1.linear.weight"]
    noise = torch.randn(4, 6, generator=torch.Generator().manual_seed(3)).double()
    z = flatten({"hidden.1.linear.weight": split(noise, axes[0], axes[1]).interaction})
    assert (hessian @ z).abs().max() < 1e-13


def test_no_output_changes_to_first_order_along_a_normal_direction():
    clone, _, space = equitable()
    x, _ = batch(clone)
    names = {name: p.detach() for name, p in clone.named_parameters()}
    vector = torch.randn(space.dimension, generator=torch.Generator().manual_seed(2)).double()
    direction = space.embed(vector)
    jacobian = torch.func.jacrev(lambda p: torch.func.functional_call(clone, p, (x,)))(names)
    moved = sum((jacobian[name] * step).flatten(2).sum(2) for name, step in direction.items())
    assert moved.abs().max() < 1e-13


def test_curvature_is_proportional_to_the_residual_and_zero_without_one():
    clone, _, space = equitable()
    x, _ = batch(clone)
    outputs = clone(x).detach()
    error = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(5)).double()
    at = {s: normal_hessian(clone, space, x, outputs - s * error, loss=nn.functional.mse_loss) for s in (0.0, 1.0, 3.0)}
    assert at[0.0].abs().max() < 1e-15 and at[1.0].abs().max() > 1e-2
    assert torch.allclose(at[3.0], 3 * at[1.0], atol=1e-13)


def test_readout_directions_have_no_curvature_so_no_clone_is_strictly_stable_or_unstable():
    clone, _, space = equitable()
    x, y = batch(clone)
    hessian = normal_hessian(clone, space, x, y)
    readout = space.indices("head.weight", "column")
    assert len(readout) == 2 * 3 and hessian[readout][:, readout].abs().max() < 1e-14
    assert classify(torch.linalg.eigvalsh(hessian)).kind == "saddle"
    assert len(space.indices("hidden.0.linear.weight", "column")) == 0  # inputs are not cloned


@pytest.mark.parametrize("values, kind", [
    ([1.0, 2.0], "stable"), ([-1.0, -2.0], "unstable"), ([-1.0, 0.0, 1.0], "saddle"), ([0.0, 1e-12], "neutral"),
    ([0.0, 1.0], "semi-stable"), ([-1.0, 0.0], "semi-unstable"), ([1.0, -1e-12], "semi-stable"),
])  # fmt: skip
def test_spectra_are_classified_with_their_tolerance(values, kind):
    found = classify(torch.tensor(values))
    assert found.kind == kind and found.negative + found.zero + found.positive == len(values)
    assert dataclasses.asdict(found)["smallest"] == pytest.approx(min(values))


def test_the_tolerance_is_relative_to_the_largest_curvature_and_absolute():
    values = torch.tensor([-1e-6, 1.0])
    assert classify(values).kind == "saddle" and classify(values, relative=1e-5).kind == "semi-stable"
    assert classify(values, absolute=2.0).kind == "neutral"
    with pytest.raises(UsageError, match="finite"):
        classify(torch.tensor([float("nan")]))


def convolutional():
    return CNN(CNNConfig(1, 8, 3, channels=(2, 3), fc=4, activation="gelu"), seed=0).double()


def transformer():
    return ViT(ViTConfig(1, 8, 3, patch=4, width=4, depth=1, heads=2, head_dim=2, mlp=4), seed=0).double()


@pytest.mark.parametrize("make", [convolutional, transformer])
def test_other_architectures_have_a_normal_hessian_with_the_same_properties(make):
    clone, _, space = cloned(make())
    x = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0)).double()
    before = {name: tensor.clone() for name, tensor in clone.state_dict().items()}
    values = torch.linalg.eigvalsh(normal_hessian(clone, space, x, torch.arange(6) % 3))
    found = normal_extremes(clone, space, x, torch.arange(6) % 3)
    assert found.converged and classify(values).kind == "saddle"
    assert found.smallest == pytest.approx(float(values[0]), rel=0.01)
    assert found.largest == pytest.approx(float(values[-1]), rel=0.01)
    assert all(torch.equal(tensor, before[name]) for name, tensor in clone.state_dict().items())
    perfect = normal_hessian(clone, space, x, clone(x).detach(), loss=nn.functional.mse_loss)
    assert perfect.abs().max() < 1e-14


def test_an_independent_library_agrees():
    curvlinops = pytest.importorskip("curvlinops")
    clone, _, space = equitable()
    x, y = batch(clone)
    names, parameters = zip(*clone.named_parameters(), strict=True)
    operator = curvlinops.HessianLinearOperator(clone, nn.CrossEntropyLoss(), list(parameters), [(x, y)])
    vector = torch.randn(space.dimension, generator=torch.Generator().manual_seed(2)).double()
    direction = space.embed(vector)
    image = operator @ [direction.get(name, torch.zeros_like(p)) for name, p in clone.named_parameters()]
    ours = normal_product(clone, space, x, y)(vector)
    assert torch.allclose(
        space.coordinates(dict(zip(names, (part.detach() for part in image), strict=True))), ours, atol=1e-12
    )


def test_what_cannot_be_done_is_refused_with_the_reason():
    net = mlp(widths=(4,))
    with pytest.raises(UsageError, match="one unit"):
        normal_space(net, Partition({"hidden.0": torch.arange(4)}))
