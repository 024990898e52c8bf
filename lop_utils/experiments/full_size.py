"""The paper's own continual-learning runs on Tiny ImageNet: their configurations, and what they would need.

`plan` trains the real networks for a few steps on made-up images of the real shape, and says from that how long the
whole would take on this device and how much room it needs. Nothing is downloaded.
"""

import statistics
import time
from dataclasses import dataclass

import torch

from lop_utils.errors import UsageError, check_choice
from lop_utils.experiments.continual import Config, network
from lop_utils.models.stack import Stack
from lop_utils.streams.batches import shared_batches
from lop_utils.streams.external import EXTERNAL
from lop_utils.streams.sources import Source
from lop_utils.training.ensemble import train_ensemble

NAME = "full_size"
TASK_CLASSES, TASKS = 5, 40
BUDGETS = {"text": 500, "code": 500 * (TASK_CLASSES * 500 // 128)}  # steps a task: 500, or 500 epochs of whole batches
SIZES: dict[str, dict[str, object]] = {
    "mlp": {"widths": (128,) * 5},
    "cnn": {"widths": (64, 128, 256, 512)},
    "resnet": {"widths": (64, 128, 256, 512), "blocks": 2},
    "vit": {"widths": (384, 1536, 6, 6, 8), "activation": "gelu", "lr": 1e-4},
}
NORMS = {arch: ("none", "batch", "layer") if arch != "vit" else ("none", "layer") for arch in SIZES}


def configuration(arch: str, *, norm: str = "none", affine: bool = True, budget: str = "text", seed: int = 0) -> Config:
    """The paper's run of one architecture: 40 tasks of 5 classes, Adam, batch 128, 5 seeds.

    budget ``text`` is 500 steps a task, as the paper says; ``code`` is 500 epochs, as its public code launches. The MLP
    is normalised by `norm` like the others; the paper's default for it is batch. Run it with ``continual.run`` after
    ``lop data fetch tiny_imagenet``.

    >>> configuration("vit", norm="layer").lr
    0.0001
    """
    check_choice("architecture", arch, SIZES)
    check_choice("budget", budget, BUDGETS)
    check_choice(f"norm of the {arch}", norm, NORMS[arch])
    return Config(
        stream="class_split",
        settings=(("per_task", TASK_CLASSES),),
        source="tiny_imagenet",
        arch=arch,
        norm=norm,
        affine=affine,
        batch_size=128,
        tasks=TASKS,
        steps=BUDGETS[budget],
        seeds=tuple(range(seed, seed + 5)),
        **SIZES[arch],
    )


@dataclass(frozen=True)
class Plan:
    """What a configuration needs. Bytes: of the data on disk and on the device, of weights with Adam's moments and
    gradients, and of the device's memory at its peak during the dry run (None where it is not counted: on a CPU).

    step_s: median seconds of a training step of all members; hours: of the whole stream at that speed, metrics and
    evaluation left out.
    """

    arch: str
    device: str
    members: int
    parameters: int
    disk_bytes: int
    data_bytes: int
    state_bytes: int
    peak_bytes: int | None
    step_s: float
    steps: int

    @property
    def hours(self) -> float:
        return self.step_s * self.steps / 3600


def plan(config: Config, device: torch.device | str = "cpu", *, steps: int = 5, members: int | None = None) -> Plan:
    """Train `config`'s networks for `steps` steps on random images of Tiny ImageNet's shape and extrapolate.

    `members`: so many seeds at once instead of the configuration's, where memory is short. Raises `UsageError` for
    fewer than 2 steps.
    """
    if steps < 2:
        raise UsageError(f"{steps} steps", remedy="use 2 or more: the first is a warm-up")
    device, seeds = torch.device(device), config.seeds[: members or len(config.seeds)]
    facts = EXTERNAL["tiny_imagenet"].facts
    source = _made_up(facts.shape, facts.classes, device)
    stack = Stack([network(config, source, facts.classes, seed) for seed in seeds], seeds=seeds).to(device)
    optimizer = torch.optim.Adam(stack.parameters(), lr=config.lr, fused=device.type in ("cpu", "cuda"))
    data = shared_batches(source.inputs, source.targets, batch_size=config.batch_size, seeds=seeds)
    times = []
    for _ in range(steps):
        started = time.perf_counter()
        train_ensemble(stack, optimizer, data, steps=1)
        _wait(device)
        times.append(time.perf_counter() - started)
    parameters = sum(p.numel() for p in stack.parameters()) // len(seeds)
    images = facts.train + facts.test
    return Plan(
        arch=config.arch,
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        members=len(seeds),
        parameters=parameters,
        disk_bytes=facts.size,
        data_bytes=4 * images * source.size,
        state_bytes=16 * parameters * len(seeds),  # weight, gradient and two moments of 4 bytes
        peak_bytes=torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None,
        step_s=statistics.median(times[1:]),
        steps=config.tasks * config.steps,
    )


def _made_up(shape: tuple[int, ...], classes: int, device: torch.device) -> Source:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(256, *shape, generator=generator).to(device)
    y = torch.randint(classes, (256,), generator=generator).to(device)
    return Source("made-up images", x, y, x[:0], y[:0], classes, licence="", citation="")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
