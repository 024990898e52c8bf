import pytest
import torch
from helpers import batch, descend, mlp
from hypothesis import given, settings
from hypothesis import strategies as st

from lop_utils.errors import UsageError
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import distance, is_equitable, jitter, split
from lop_utils.manifolds.partition import Partition
from lop_utils.metrics.record import record


@st.composite
def matrices(draw):
    """A random matrix with random labels of its rows and columns."""
    rows = draw(st.lists(st.integers(0, 2), min_size=1, max_size=7))
    columns = draw(st.lists(st.integers(0, 2), min_size=1, max_size=7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    w = torch.randn(len(rows), len(columns), generator=generator, dtype=torch.float64)
    return w, torch.tensor(rows), torch.tensor(columns)


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_the_four_parts_add_up_and_are_orthogonal(case):
    w, rows, columns = case
    parts = vars(split(w, rows, columns))
    torch.testing.assert_close(sum(parts.values()), w)
    tensors = list(parts.values())
    for i in range(4):
        for j in range(i):
            assert abs(float((tensors[i] * tensors[j]).sum())) <= 1e-12


def naive_sums(w, rows, columns, along):
    """Row (along=1) or column sums of every block, by loops: a dict block -> list of sums."""
    found = {}
    for r in rows.unique().tolist():
        for c in columns.unique().tolist():
            block = w[rows == r][:, columns == c]
            found[r, c] = block.sum(along)
    return found


@settings(max_examples=60, deadline=None)
@given(matrices())
def test_removing_an_imbalance_equalises_the_sums_of_every_block(case):
    w, rows, columns = case
    parts = split(w, rows, columns)
    for sums in naive_sums(w - parts.row_imbalance, rows, columns, 1).values():
        assert float(sums.max() - sums.min()) <= 1e-12
    for sums in naive_sums(w - parts.column_imbalance, rows, columns, 0).values():
        assert float(sums.max() - sums.min()) <= 1e-12
    for along in (0, 1):
        for sums in naive_sums(parts.interaction, rows, columns, along).values():
            assert float(sums.abs().max()) <= 1e-12


@pytest.mark.parametrize(("p", "q"), [(2, 3), (4, 4), (5, 2), (1, 3)])
def test_the_dimensions_of_the_four_spaces_of_a_block_are_the_formulas(p, q):
    basis = torch.eye(p * q, dtype=torch.float64).view(p * q, p, q)
    one = (torch.zeros(p, dtype=torch.long), torch.zeros(q, dtype=torch.long))
    parts = [vars(split(w, *one)) for w in basis]

    def dimension(*names):
        return int(torch.linalg.matrix_rank(torch.stack([sum(part[n] for n in names).flatten() for part in parts])))

    assert dimension("block_constant") == 1
    assert dimension("block_constant", "interaction") == (p - 1) * (q - 1) + 1
    assert dimension("block_constant", "interaction", "column_imbalance") == p * q - p + 1  # RE
    assert dimension("block_constant", "interaction", "row_imbalance") == p * q - q + 1  # CE


def test_is_equitable_tells_rows_from_columns():
    block = torch.tensor([[1.0, 3.0], [0.0, 4.0]])  # row sums 4, 4; column sums 1, 7
    labels = torch.tensor([0, 0])
    assert is_equitable(block, labels, labels, tolerance=1e-6) == (True, False)
    assert is_equitable(block.T, labels, labels, tolerance=1e-6) == (False, True)


def test_kernels_are_split_tap_by_tap_and_vectors_have_no_columns():
    kernel = torch.randn(4, 6, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows, columns = torch.arange(4) % 2, torch.arange(6) % 3
    whole = split(kernel, rows, columns).interaction
    for a in range(3):
        for b in range(3):
            torch.testing.assert_close(whole[..., a, b], split(kernel[..., a, b], rows, columns).interaction)
    with pytest.raises(UsageError, match="no columns"):
        split(torch.zeros(3), None, torch.tensor([0, 0, 1]))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_sgd_from_a_block_constant_start_stays_on_the_manifold(norm, activation):
    net = mlp(norm=norm, activation=activation)
    clone = widen(net, 2)
    start = {name: tensor.clone() for name, tensor in clone.state_dict().items()}
    descend(clone, *batch(net), steps=1000, lr=0.05)
    found = distance(clone, Partition.of_clone(clone, 2), reference=start)
    assert (clone.head.weight - start["head.weight"]).abs().max() > 0.1  # it did train
    assert found.block_constant_max <= 1e-12 and found.equitable_max <= 1e-12


def test_sgd_from_an_equitable_start_moves_only_block_constantly_for_a_hundred_steps():
    net = mlp()
    clone = widen(net, 2)
    jitter(clone, Partition.of_clone(clone, 2), scale=0.2, seed=0)
    start = {name: tensor.clone() for name, tensor in clone.state_dict().items()}
    assert distance(clone, Partition.of_clone(clone, 2)).block_constant_max > 0.1
    descend(clone, *batch(net), steps=100, lr=0.05)
    found = distance(clone, Partition.of_clone(clone, 2), reference=start)
    assert found.block_constant_max <= 1e-12 and found.equitable_max <= 1e-12


def test_sgd_from_outside_the_equitable_set_leaves_at_once():
    net = mlp()
    clone = widen(net, 2)
    jitter(clone, Partition.of_clone(clone, 2), scale=0.2, seed=0, inside=False)
    start = {name: tensor.clone() for name, tensor in clone.state_dict().items()}
    descend(clone, *batch(net), steps=1, lr=0.05)
    assert distance(clone, Partition.of_clone(clone, 2), reference=start).block_constant_max > 1e-5


def test_equal_signals_need_rows_forward_and_rows_and_columns_backward():
    net = mlp()
    clone = widen(net, 2)
    partition, (x, y) = Partition.of_clone(clone, 2), batch(net)

    def spreads():
        layers = record(clone, x, y)
        halves = [(layer.activation.chunk(2, 1), layer.gradient.chunk(2, 1)) for layer in layers.values()]
        forward = max(float((h[0] - h[1]).abs().max()) for h, _ in halves)
        return forward, max(float((g[0] - g[1]).abs().max()) for _, g in halves)

    jitter(clone, partition, scale=0.3, seed=0)
    assert max(spreads()) <= 1e-14
    weight = clone.hidden[1].linear.weight
    labels = partition.axis_labels(clone)["hidden.1.linear.weight"]
    noise = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # columns out of balance, rows still equitable
        weight += split(noise, labels[0], labels[1]).column_imbalance
    forward, backward = spreads()
    assert forward <= 1e-14 and backward > 1e-4


def test_the_distance_is_that_of_parameters_only():
    clone = widen(mlp(norm="batch"), 2)
    clone.hidden[0].norm.running_mean += torch.arange(12)
    assert distance(clone, Partition.of_clone(clone, 2)).block_constant_max == 0
    with torch.no_grad():
        clone.hidden[0].norm.weight[0] += 1
    assert distance(clone, Partition.of_clone(clone, 2)).block_constant_max == pytest.approx(0.5)
    assert distance(clone, Partition({})).block_constant_max == 0
