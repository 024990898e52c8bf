"""What an experiment would take on this machine: hours and memory, from a few short runs or from a stored one.

Short runs (`experiments.lengths.shortened`) have the shapes of the whole. Their length is doubled until the time grows
with it by more than the clock's jitter; the rest is extrapolated along the line through the last three. The range says
how far the slopes between neighbouring runs differ. It knows nothing of what else the machine may do meanwhile.
"""

import importlib
import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from lop_utils.evidence import store
from lop_utils.experiments import lengths
from lop_utils.kit import experiments

ALLOWANCE = 20.0  # seconds of short runs for one experiment
_GROWN = 1.3  # the last run's time over the first one's at which doubling may stop


@dataclass(frozen=True)
class Estimate:
    """What one experiment takes at a profile. `how`: measured, stored or failed; then `note` says more.

    seconds, low, high: time of the whole run on a machine that does nothing else (see `timed`). memory_bytes: the most
    that was in use during the short runs, of the process on a CPU, of the device's allocator on CUDA; None where it is
    not known. Where `note` says that fewer seeds were run, it is the memory of those.
    """

    name: str
    how: str
    seconds: float
    low: float
    high: float
    memory_bytes: int | None
    note: str = ""

    @property
    def hours(self) -> float:
        return self.seconds / 3600


def extrapolate(points: Sequence[tuple[float, float]]) -> tuple[float, float, float]:
    """Seconds at fraction 1, with the low and high end, from (fraction, seconds) in rising order, at least two.

    The line goes through the last three: T + s (1 - f), f and T the last point, s the slope between the outer two; the
    ends take the slopes between neighbours. Slopes below 0 count as 0.

    >>> extrapolate([(0.1, 3.0), (0.2, 4.0), (0.4, 6.0)])
    (12.0, 12.0, 12.0)
    """
    *_, (fraction, seconds) = points = points[-3:]
    pairs = [(points[0], points[-1]), *itertools.pairwise(points)]
    slopes = [max(0.0, (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairs]
    found = [seconds + slope * (1 - fraction) for slope in slopes]
    return found[0], min(found), max(found)


def measure(clock: Callable[[float, int], float], *, least: float, seeds: int, allowance: float) -> dict:
    """Points of short runs and what follows: {seconds, low, high, note}.

    clock(fraction, seeds) runs and returns seconds; `least`: the smallest fraction; `seeds`: how many the whole has. If
    one seed takes long, one and two are timed instead of all, and seeds are extrapolated linearly as well. The first
    run of a process (compiling, loading data) is timed apart and its excess added once.
    """
    first = clock(least, 1)
    again = clock(least, 1)
    few = seeds > 2 and again * seeds > allowance / 6
    used = 1 if few else seeds
    points = [(least, again if used == 1 else clock(least, used))]
    spent = first + again + points[0][1]
    while points[-1][0] < 1 and (len(points) < 3 or points[-1][1] < _GROWN * points[0][1]):
        if len(points) >= 2 and spent + 2 * points[-1][1] > allowance:
            break
        fraction = min(1.0, 2 * points[-1][0])
        points.append((fraction, clock(fraction, used)))
        spent += points[-1][1]
    factor = 1.0
    if few:
        factor = 1 + (seeds - 1) * max(0.0, clock(points[-1][0], 2) / points[-1][1] - 1)
    ends = extrapolate(points) if len(points) > 1 else (points[0][1],) * 3
    startup = max(0.0, first - again)
    seconds, low, high = (factor * end + startup for end in ends)
    shown = f"{len(points)} runs of up to {points[-1][0]:.2%} of the length"
    return {
        "seconds": seconds, "low": low, "high": high,
        "note": f"{shown}, one seed and two of {seeds}" if few else shown,
    }  # fmt: skip


def timed(work: Callable[[], object], device: str) -> float:
    """Seconds that `work` takes; on a CPU the lesser of clock and processor time: other programs do not count."""
    started = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    clock, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    return min(clock, processor) if device == "cpu" else clock


def in_process(name: str, profile: str, device: str, allowance: float) -> dict:
    """`measure` for an experiment at a profile, with its peak memory; nothing is stored."""
    import resource  # which Windows lacks

    (run,) = experiments.grid(name, profile, device=device)
    module, config = importlib.import_module(run.module), run.config
    threads = 1 if device == "cpu" and profile != "paper" else os.cpu_count() or 1  # as the chapters do
    torch.set_num_threads(threads)

    def clock(fraction: float, seeds: int) -> float:
        short = lengths.shortened(name, config, fraction)
        if hasattr(short, "seeds"):
            short = replace(short, seeds=short.seeds[:seeds])
        return timed(lambda: module.run(short, device), device)

    seeds = len(getattr(config, "seeds", (0,)))
    found = measure(clock, least=lengths.shortest_fraction(name, config), seeds=seeds, allowance=allowance)
    unit = 1 if sys.platform == "darwin" else 1024
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    found["note"] += f", {threads} thread{'s' if threads > 1 else ''}"
    return found | {"memory_bytes": torch.cuda.max_memory_allocated() if device == "cuda" else used}


def estimate(name: str, profile: str, *, device: str, allowance: float = ALLOWANCE) -> Estimate:
    """What experiment `name` takes at `profile`: the stored run's own wall time, or short runs in a process of its own.

    A process that takes six times its `allowance` (seconds), or fails, gives how = failed. Raises `UsageError` for an
    unknown name or profile.
    """
    (run,) = experiments.grid(name, profile, device=device)
    stored = store.peek(run.name, run.config, device=device, modules=[run.module])
    if stored is not None:
        made = stored.provenance
        note = f"stored run of {made['date'][:10]} on {made['device_name']}, {made['threads']} threads"
        return Estimate(name, "stored", made["wall_s"], made["wall_s"], made["wall_s"], None, note)
    code = f"from lop_utils.kit import estimate as e; e.main({name!r}, {profile!r}, {device!r}, {allowance!r})"
    limit = 60 + 6 * allowance
    nothing = Estimate(name, "failed", float("nan"), float("nan"), float("nan"), None)
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return replace(nothing, note=f"the shortest runs take more than {limit:.0f} s")
    if done.returncode:
        return replace(nothing, note=(done.stderr.strip().splitlines() or ["no message"])[-1])
    return Estimate(name, "measured", **json.loads(done.stdout.splitlines()[-1]))


def main(name: str, profile: str, device: str, allowance: float) -> None:
    """Measure and print the result as the last line of standard output, in JSON."""
    sys.stdout.write(json.dumps(in_process(name, profile, device, allowance)) + "\n")


def as_row(found: Estimate) -> dict[str, object]:
    """An estimate as plain data."""
    return asdict(found) | {"hours": found.hours}
