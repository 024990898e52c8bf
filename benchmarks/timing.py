"""What the benchmarks share: times of two calls in turns, and the speed that this machine reaches at its best."""

import time
from collections.abc import Callable
from functools import cache
from statistics import median

import torch

Clock = Callable[[], float]


def seconds(call: Callable[[], object], clock: Clock = time.process_time) -> float:
    """Processor time of a call, or time by another clock."""
    started = clock()
    call()
    return clock() - started


def in_turns(first: Callable[[], object], second: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Medians of the processor time of two calls that take turns, after one call each that does not count."""
    first(), second()
    times = [(seconds(first), seconds(second)) for _ in range(repeats)]
    return median(a for a, _ in times), median(b for _, b in times)


@cache
def peak(dtype: torch.dtype = torch.float32, n: int = 1024) -> float:
    """Floating-point operations a second of one large matrix product on torch's threads; measured once."""
    a = torch.randn(n, n, dtype=dtype)
    a @ a
    return 2 * n**3 / min(seconds(lambda: a @ a, time.perf_counter) for _ in range(5))
