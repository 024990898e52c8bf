"""Learning rates at which training a clone *is* training its base.

Take a clone whose input and output blocks of a layer have k_in and k_out copies. Its backward signal in a block is the
base's divided by k_out, and the base weight that the clone stands for is k_in times the clone's. So under gradient
descent with one rate for all, the base that the clone computes moves at the base's rate times k_in / k_out in a weight
matrix and 1 / k_out in a bias or gain. The rates below divide that out. Adam's update does not scale with the
gradient: there only the factor k_in and the size of epsilon matter.
"""

from collections.abc import Mapping

from torch import nn

from lop_utils.errors import check_choice
from lop_utils.models.spaces import READS, axis_uses, spaces_of


def copies(clone: nn.Module, factor: int | Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """(k_in, k_out) of every parameter: copies on its reading axis and on its writing (or unit-wise) axis."""
    given = {s.name: factor if isinstance(factor, int) else factor.get(s.name, 1) for s in spaces_of(clone)}
    uses, found = axis_uses(clone), {}
    for name, _ in clone.named_parameters():
        k_in = k_out = 1
        for use in uses.get(name, ()):
            if use.role == READS:
                k_in *= given[use.space]
            else:
                k_out *= given[use.space]
        found[name] = (k_in, k_out)
    return found


def matched_groups(
    clone: nn.Module, factor: int | Mapping[str, int], *, lr: float, rule: str = "sgd", eps: float = 1e-8
) -> list[dict]:
    """Parameter groups that make `clone` follow its base trained at rate `lr`, to rounding, for ever.

    rule "sgd" (with or without momentum): lr * k_out / k_in. rule "adam" (Adam, RMSprop): lr / k_in and eps / k_out.

    >>> from lop_utils.models.mlp import MLP, MLPConfig
    >>> net = MLP(MLPConfig(inputs=3, widths=(4,), outputs=2), seed=0)
    >>> [group["lr"] for group in matched_groups(net, 2, lr=0.1)]
    [0.2, 0.2, 0.05, 0.1]
    """
    check_choice("rule", rule, ("sgd", "adam"))
    ks, groups = copies(clone, factor), []
    for name, parameter in clone.named_parameters():
        k_in, k_out = ks[name]
        group = {"params": [parameter], "lr": lr * (k_out / k_in if rule == "sgd" else 1 / k_in)}
        if rule == "adam":
            group["eps"] = eps / k_out
        groups.append(group)
    return groups
