"""Speed of online learning on the bit-flipping stream: the compiled engine beside a plain PyTorch loop, in one run.

python benchmarks/online.py [--repeats 5] [--json FILE]

The loop it is compared with is the straightforward one: forward, MSE, backward, optimizer step on single samples in
float32, data prepared beforehand; for CBP besides its bookkeeping in tensor operations. Engines take turns, so that
whatever else the machine does hits all alike; every number is a median over repeats, of processor time for single runs
and of wall time where runs go in parallel. `floor` is the time that a step's additions and multiplications, counted by
hand, would take at the speed of one large float64 matrix product on one thread; `share` is floor over measured.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from joblib import Parallel, delayed
from timing import peak, seconds
from torch import nn

from lop_utils.streams.bit_flipping import BitFlipping
from lop_utils.training.online import Method, initial, learn
from lop_utils.training.online_packed import LANES, learn_together

STREAM = BitFlipping(seed=0)
STEPS = 1_000_000  # a fifth of the paper's; with 200,000 the start of a run, and of threads, is a good part of its time
OPERATIONS = {"SGD": 29, "CBP": 58}  # a unit and step: 13 forward, 16 for its update; 29 for sizes, mean and utility


def plain_loop(width: int, steps: int, *, continual: bool) -> None:
    """A PyTorch loop as one would write it."""
    net = nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, 1))
    optimizer, criterion = torch.optim.SGD(net.parameters(), lr=0.01), nn.MSELoss()
    x = torch.from_numpy(STREAM.inputs(0, steps)).float()
    y = torch.from_numpy(STREAM.targets(0, steps)).float()
    utility, mean, age, owed = torch.zeros(width), torch.zeros(width), torch.zeros(width), 0.0
    for i in range(steps):
        optimizer.zero_grad()
        hidden = net[1](net[0](x[i : i + 1]))
        criterion(net[2](hidden)[0], y[i : i + 1]).backward()
        optimizer.step()
        if continual:
            with torch.no_grad():
                h, out = hidden[0], net[2].weight[0]
                age += 1
                correction = 1 - 0.99**age
                mean.mul_(0.99).add_(0.01 * h)
                worth = (h - mean / correction).abs() * out.abs() / net[0].weight.abs().sum(1)
                utility.mul_(0.99).add_(0.01 * worth)
                mature = age > 100
                owed += 1e-4 * int(mature.sum())
                if owed >= 1:
                    owed -= 1
                    unit = int(torch.where(mature, utility / correction, torch.inf).argmin())
                    net[2].bias += out[unit] * mean[unit] / correction[unit]
                    out[unit] = utility[unit] = mean[unit] = age[unit] = 0
                    nn.init.uniform_(net[0].weight[unit : unit + 1], -0.55, 0.55)
                    net[0].bias[unit] = 0


def compiled(method: Method, steps: int) -> None:
    """The compiled engine on the same stream, windows of one period."""
    state = initial(method, STREAM, seed=0)
    for _ in learn(method, STREAM, state, steps=steps, every=10_000, seed=0, engine="compiled"):
        pass


def packed(group: int, steps: int) -> None:
    """Sixteen runs of width 5 in one thread."""
    method, streams = Method(width=5), [BitFlipping(seed=group * LANES + r) for r in range(LANES)]
    states = [initial(method, stream, seed=0) for stream in streams]
    for _ in learn_together(method, streams, states, steps=steps, every=10_000):
        pass


def single(name: str, width: int, method: Method, *, repeats: int, steps: int) -> dict:
    """Loop and engine in turns; nanoseconds of processor time a step."""
    continual, loop_steps = method.cbp != "none", max(200, steps // 500)
    compiled(method, 20_000)
    plain_loop(width, 100, continual=continual)
    slow, fast = [], []
    for _ in range(repeats):
        slow.append(seconds(lambda: plain_loop(width, loop_steps, continual=continual)) / loop_steps * 1e9)
        fast.append(seconds(lambda: compiled(method, steps)) / steps * 1e9)
    floor = OPERATIONS[name] * width / peak(torch.float64) * 1e9
    return {"what": f"{name}, width {width}", "loop_ns": median(slow), "kernel_ns": median(fast), "floor_ns": floor}


def together(*, repeats: int, steps: int) -> dict:
    """Many runs of width 5 on all cores against the loop on one: nanoseconds of wall time a run and step."""
    cores = os.cpu_count() or 1
    pool, slow, fast = Parallel(n_jobs=cores, prefer="threads"), [], []
    packed(0, 20_000)
    for _ in range(repeats):
        slow.append(seconds(lambda: plain_loop(5, 1_000, continual=False), time.perf_counter) / 1_000 * 1e9)
        wall = seconds(lambda: pool(delayed(packed)(g, steps) for g in range(cores)), time.perf_counter)
        fast.append(wall / (steps * cores * LANES) * 1e9)
    floor = OPERATIONS["SGD"] * 5 / (cores * peak(torch.float64)) * 1e9
    what = f"SGD, width 5, {cores * LANES} runs on {cores} cores"
    return {"what": what, "loop_ns": median(slow), "kernel_ns": median(fast), "floor_ns": floor}


def measured(*, repeats: int, steps: int) -> list[dict]:
    """All comparisons, with ratios."""
    torch.set_num_threads(1)
    rows = []
    for width in (5, 10, 50, 100):
        rows.append(single("SGD", width, Method(width=width), repeats=repeats, steps=steps))
        cbp = Method(width=width, cbp="as_published")
        rows.append(single("CBP", width, cbp, repeats=repeats, steps=steps))
    rows.append(together(repeats=repeats, steps=steps))
    return [
        {**row, "ratio": row["loop_ns"] / row["kernel_ns"], "share": row["floor_ns"] / row["kernel_ns"]} for row in rows
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of the compiled engine in one repeat")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    rows = measured(repeats=options.repeats, steps=options.steps)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, numpy {np.__version__}")
    print(
        f"{'':34}{'PyTorch loop':>14}{'compiled':>12}{'ratio':>10}{'share of floor':>16}   nanoseconds a step, medians"
    )
    for row in rows:
        print(
            f"{row['what']:34}{row['loop_ns']:14,.0f}{row['kernel_ns']:12,.1f}{row['ratio']:10,.0f}{row['share']:16.0%}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
