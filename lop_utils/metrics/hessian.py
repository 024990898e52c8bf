"""The rank of the loss's Hessian: how many directions are curved, from products of the Hessian with vectors alone.

H (P, P) is the Hessian of the mean cross-entropy on a batch. Its largest eigenvalues come out of a few steps of
Lanczos' method exactly, so their number is a diagnostic that can be trusted: `hessian_epsilon_rank`. The effective rank
exp(H(p)), p = |eigenvalue| / sum |eigenvalue|, also counts the thousands of small ones. It is exact for tiny networks
and an estimate by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017) for others, one that needs many steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lop_utils.errors import UsageError
from lop_utils.metrics.record import _untouched
from lop_utils.metrics.spectrum import effective_rank

Product = Callable[[Tensor], Tensor]


def hessian_epsilon_rank(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    active: Tensor | None = None,
    epsilon: float = 0.05,
    steps: int = 32,
    seed: int = 0,
) -> int:
    """How many eigenvalues of the Hessian have at least `epsilon` times the size of the largest one.

    inputs (N, ...), targets (N,); `active`: indices or mask of the outputs that the loss is over. Counted among the
    Ritz values of `steps` steps of Lanczos' method: never too many, and at most `steps`. The diagnostic, the rank of
    the Hessian at a task's start up to a tolerance, is that of arXiv:2509.22335, of which the abstract was at hand; to
    take the tolerance relative to the largest eigenvalue is this book's choice.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> 1 <= hessian_epsilon_rank(net, torch.eye(2), torch.tensor([0, 1])) <= 17
    True
    """
    if not 0 < epsilon <= 1 or steps < 1:
        raise UsageError(f"epsilon {epsilon}, {steps} steps", remedy="give 0 < epsilon <= 1 and at least one step")
    with _untouched(model), torch.enable_grad():
        model.eval()
        product, size = _hessian_product(model, inputs, targets, active)
        start = torch.randn(size, generator=torch.Generator().manual_seed(seed))
        found = lanczos_quadrature(product, start.to(inputs), steps=steps)[0].abs()
        return int((found >= epsilon * found.max()).sum()) if found.any() else 0


def hessian_effective_rank(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    active: Tensor | None = None,
    probes: int | None = 2,
    steps: int = 150,
    seed: int = 0,
) -> float:
    """exp(H(p)), p the normalised sizes of the eigenvalues of the Hessian of the mean cross-entropy on this batch.

    Arguments as in `hessian_epsilon_rank`. With `probes` random vectors and `steps` products each this is an estimate;
    on trained MLPs of 90,000 parameters 24 steps scatter tenfold and 150 by some ten percent. `probes=None` computes
    the whole Hessian instead, for networks of at most some thousand parameters. The rank is Roy and Vetterli's.

    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    >>> 1 < hessian_effective_rank(net, torch.eye(2), torch.tensor([0, 1]), probes=None) < 17
    True
    """
    if probes is not None and (probes < 1 or steps < 1):
        raise UsageError(f"{probes} probes of {steps} steps", remedy="give at least one of each, or probes=None")
    with _untouched(model), torch.enable_grad():
        model.eval()
        product, size = _hessian_product(model, inputs, targets, active)
        like = torch.zeros(size, dtype=inputs.dtype, device=inputs.device)
        if probes is None:
            full = torch.stack([product(row) for row in torch.eye(size).to(like)]).double()
            return effective_rank(torch.linalg.eigvalsh((full + full.T) / 2).abs())
        return effective_rank_by_quadrature(product, like, probes=probes, steps=steps, seed=seed)


def effective_rank_by_quadrature(product: Product, like: Tensor, *, probes: int, steps: int, seed: int = 0) -> float:
    """The effective rank of a symmetric operator from its products with vectors, by stochastic Lanczos quadrature.

    product(v) maps (n,) to (n,); `like` (n,) gives size, dtype and device. 0 for the zero operator.

    >>> diagonal = torch.tensor([1.0, 1.0, 1.0, 0.0])  # random signs see a diagonal exactly
    >>> round(effective_rank_by_quadrature(lambda v: diagonal * v, torch.zeros(4), probes=1, steps=4), 3)
    3.0
    """
    generator = torch.Generator().manual_seed(seed)
    size = entropy = 0.0
    for _ in range(probes):
        signs = torch.randint(2, (len(like),), generator=generator) * 2.0 - 1.0
        nodes, weights = lanczos_quadrature(product, signs.to(like), steps=steps)
        found = nodes.abs()
        size += float(weights @ found)  # of tr|H|
        entropy += float(weights @ torch.special.entr(found))  # of -tr(|H| log|H|)
    if size <= 0:
        return 0.0
    return float(torch.exp(torch.tensor((entropy / size) + torch.log(torch.tensor(size / probes)).item())))


def lanczos_quadrature(product: Product, start: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights (k,), float64, with sum_i weights_i f(nodes_i) close to start^T f(H) start.

    Exact for polynomials f of degree below 2 k, k <= `steps`, and for any f once Lanczos' method has run its course.
    """
    norm = float(start.norm())
    basis, alphas, betas = [start / norm], [], []
    for _ in range(min(steps, len(start))):
        w = product(basis[-1])
        alphas.append(float(basis[-1] @ w))
        stack = torch.stack(basis)
        for _ in range(2):  # twice is enough (Kahan & Parlett)
            w = w - stack.T @ (stack @ w)
        beta = float(w.norm())
        scale = max(map(abs, alphas + betas))
        if beta <= 100 * torch.finfo(start.dtype).eps * scale or len(alphas) == min(steps, len(start)):
            break
        betas.append(beta)
        basis.append(w / beta)
    off = torch.diag(torch.tensor(betas[: len(alphas) - 1], dtype=torch.float64), 1)
    values, vectors = torch.linalg.eigh(torch.diag(torch.tensor(alphas, dtype=torch.float64)) + off + off.T)
    return values, norm**2 * vectors[0].square()


def _hessian_product(model: nn.Module, inputs: Tensor, targets: Tensor, active: Tensor | None) -> tuple[Product, int]:
    """v -> H v by differentiating the gradient along v, and the number of parameters; one forward pass for all v."""
    outputs = model(inputs)
    if active is not None:
        outside = torch.ones(outputs.shape[1], dtype=torch.bool, device=outputs.device)
        outside[active] = False
        outputs = outputs.masked_fill(outside, -torch.inf)
    parameters = [p for p in model.parameters() if p.requires_grad]
    loss = nn.functional.cross_entropy(outputs, targets)
    gradients = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
    used = [(p, g) for p, g in zip(parameters, gradients, strict=True) if g is not None and g.requires_grad]
    sizes = [p.numel() for p, _ in used]

    def product(v: Tensor) -> Tensor:
        parts = [part.view_as(p) for part, (p, _) in zip(v.split(sizes), used, strict=True)]
        ahead = torch.autograd.grad(
            [g for _, g in used], [p for p, _ in used], grad_outputs=parts, retain_graph=True, allow_unused=True
        )
        zero = lambda p: torch.zeros_like(p)  # noqa: E731
        return torch.cat([(zero(p) if h is None else h).flatten() for h, (p, _) in zip(ahead, used, strict=True)])

    return product, sum(sizes)
