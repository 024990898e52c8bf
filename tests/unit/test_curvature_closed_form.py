"""The closed form against automatic differentiation, and against the textbook form for one hidden layer."""

import pytest
import torch
from helpers import batch, mlp
from torch import nn

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.curvature import normal_hessian, normal_product
from lop_utils.manifolds.normal_space import normal_space
from lop_utils.manifolds.partition import Partition
from lop_utils.manifolds.unit_blocks import spectrum_of, unit_coordinates, unit_hessians

FACTORS = [2, 3, {"hidden.0": 2, "hidden.1": 3}, {"hidden.1": 2}]


@pytest.mark.parametrize("activation", ["tanh", "gelu", "relu", "sigmoid", "identity"])
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("widths", [(3, 4), (3, 2, 4)])
def test_the_closed_form_has_the_spectrum_of_the_explicit_hessian(activation, factor, widths):
    base = mlp(widths=widths, activation=activation, gain=2.0)
    x, y = batch(base)
    clone = widen(base, factor)
    space = normal_space(clone, Partition.of_clone(clone, factor))
    explicit = torch.linalg.eigvalsh(normal_hessian(clone, space, x, y))
    closed = spectrum_of(unit_hessians(base, factor, x, y))
    assert closed.shape == explicit.shape
    assert (closed - explicit).abs().max() <= 1e-10 * explicit.abs().max()


@pytest.mark.parametrize("factor", FACTORS)
def test_the_closed_forms_blocks_act_as_the_hessian_does(factor):
    base = mlp(widths=(3, 4), gain=2.0)
    x, y = batch(base)
    clone = widen(base, factor)
    space = normal_space(clone, Partition.of_clone(clone, factor))
    vector = torch.randn(space.dimension, generator=torch.Generator().manual_seed(1)).double()
    image = normal_product(clone, space, x, y)(vector)

    def in_units(coordinates):
        moved, direction = widen(base, factor), space.embed(coordinates)
        state = {name: direction.get(name, torch.zeros_like(p)) for name, p in moved.named_parameters()}
        moved.load_state_dict(state)
        return unit_coordinates(moved, factor)

    before, after = in_units(vector), in_units(image)
    for name, hessian in unit_hessians(base, factor, x, y).items():
        assert torch.allclose(hessian.blocks() @ before[name], after[name], atol=1e-12)


def test_one_hidden_layer_and_one_output_agree_with_the_textbook_form():
    """m - 1 copies of [[(a/m) E[e f'' x x'], E[e f' x]], [., 0]], written here from scratch for f = tanh."""
    m, net = 3, mlp(widths=(2,), inputs=4, outputs=1)
    x = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)).double()
    y = torch.randn(20, 1, generator=torch.Generator().manual_seed(1)).double()
    e = (net(x) - y).detach()[:, 0]  # the loss is half the mean square
    x1 = torch.cat([x, torch.ones(20, 1)], dim=1)
    found = []
    for unit in range(2):
        h = torch.tanh(x @ net.hidden[0].linear.weight[unit] + net.hidden[0].linear.bias[unit]).detach()
        f1, f2, a = 1 - h**2, -2 * h * (1 - h**2), net.head.weight[0, unit].detach()
        block = torch.zeros(6, 6).double()
        block[:5, :5] = a / m * (x1.T * (e * f2)) @ x1 / 20
        block[5, :5] = block[:5, 5] = x1.T @ (e * f1) / 20
        found += [torch.linalg.eigvalsh(block)] * (m - 1)
    hessians = unit_hessians(net, m, x, y, loss=lambda f, t: nn.functional.mse_loss(f, t) / 2)
    assert torch.allclose(torch.cat(found).sort().values, spectrum_of(hessians), atol=1e-14)


def test_piecewise_linear_networks_have_a_symmetric_spectrum():
    base = mlp(widths=(4, 3), activation="relu")
    values = spectrum_of(unit_hessians(base, 3, *batch(base)))
    assert torch.allclose(values, -values.flip(0), atol=1e-14) and values.max() > 1e-3


def test_at_a_stationary_point_outgoing_weights_are_orthogonal_to_q():
    base = mlp(widths=(2,), inputs=2, outputs=3)
    x, _ = batch(base, rows=40)
    y = torch.stack([torch.sin(2 * x[:, 0]), x[:, 0] * x[:, 1], torch.cos(x[:, 1])], dim=1)
    minimise(base, x, y)
    blocks = unit_hessians(base, 2, x, y, loss=nn.functional.mse_loss)["hidden.0"].blocks()
    q = blocks[:, 3:, :3]  # (units, outputs, inputs + 1)
    a = base.head.weight.detach().T  # (units, outputs)
    assert torch.einsum("ur,uri->ui", a, q).abs().max() < 1e-6 and (q.flatten(1).norm(dim=1) > 1e-2).all()


def minimise(model, x, y):
    """Full-batch optimum of the mean square, by torch's L-BFGS."""
    options = {"max_iter": 1000, "tolerance_grad": 1e-10, "tolerance_change": 0, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS(model.parameters(), **options)

    def closure():
        optimizer.zero_grad()
        value = nn.functional.mse_loss(model(x), y)
        value.backward()
        return value

    optimizer.step(closure)


def test_what_the_closed_form_does_not_cover_is_refused():
    net = mlp(widths=(4,))
    x, y = batch(net)
    with pytest.raises(UsageError, match="plain MLP"):
        unit_hessians(mlp(widths=(4,), norm="batch"), 2, x, y)
    with pytest.raises(UsageError, match="clones nothing"):
        unit_hessians(net, 1, x, y)
