"""Speed of what surrounds the mathematics: stacks against lone networks, metrics against training, the store.

python benchmarks/training.py [--repeats 5] [--json FILE]

Every line is a ratio of two medians measured in turns in this one run, on one thread: five networks trained as a stack
against one after another by the same code; the symptoms of a task against its training; a stored result against its
computation. `floor` is the time that the stack's matrix products alone would take at the speed that this machine
reaches on one large product; `share` says how much of the measured time that is.
"""

import argparse
import json
import os
import platform
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from timing import in_turns, peak

from lop_utils.evidence import store
from lop_utils.experiments import cloning, continual
from lop_utils.experiments.continual_settings import setting
from lop_utils.experiments.symptoms import symptoms
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.models.stack import Stack
from lop_utils.streams.tasks import members_task
from lop_utils.training.ensemble import train_ensemble

MEMBERS, STEPS, BATCH, INPUTS, WIDTHS = 5, 200, 50, 192, (128,) * 5


def train(members: int) -> None:
    """`members` MLPs as one stack, foreach Adam, on random images."""
    stack = Stack([MLP(MLPConfig(INPUTS, WIDTHS, 5), seed=s) for s in range(members)])
    optimizer = torch.optim.Adam(stack.parameters(), foreach=True)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(members, BATCH, INPUTS, generator=generator)
    y = torch.randint(5, (members, BATCH), generator=generator)
    train_ensemble(stack, optimizer, iter([(x, y)] * STEPS), steps=STEPS)


def ensemble(repeats: int) -> dict:
    alone, together = in_turns(lambda: [train(1) for _ in range(MEMBERS)], lambda: train(MEMBERS), repeats)
    sizes = (INPUTS, *WIDTHS, 5)
    multiplications = sum(a * b for a, b in pairwise(sizes)) * BATCH * MEMBERS * STEPS
    floor = 6 * multiplications / peak()  # a multiplication and an addition, forward and twice backward
    what = f"{MEMBERS} MLPs as a stack, {STEPS} steps"
    return {"what": what, "plain_s": alone, "ours_s": together, "floor_s": floor}


def metrics(repeats: int) -> dict:
    """Training of one task of the book's stream against the symptoms of its end, for five networks."""
    config = replace(setting("mlp", "laptop"), tasks=1, fresh=(), diagnosed=())
    runner = continual.start(config, torch.device("cpu"))
    task = members_task(runner.streams, 0)

    def measure() -> None:
        for i in range(len(config.seeds)):
            x, y = task.inputs[i, : config.samples], task.targets[i, : config.samples]
            symptoms(runner.stack.member(i), x, y, active=task.active[i])

    training, measuring = in_turns(lambda: continual.learn(runner, task, measured=False), measure, repeats)
    return {"what": "a task's training / its symptoms", "plain_s": training, "ours_s": measuring}


def stored(repeats: int) -> dict:
    """Computing a small cloning experiment against fetching it."""
    config = cloning.preset("smoke", arms=("base", "clone"))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LOP_RESULTS"] = folder
        compute = lambda: cloning.run(config)  # noqa: E731
        fetch = lambda: store.fetch("cloning", config, compute, device="cpu", modules=[cloning.__name__])  # noqa: E731
        computing, fetching = in_turns(compute, fetch, repeats)
    return {"what": "a small experiment / from the store", "plain_s": computing, "ours_s": fetching}


def measured(repeats: int) -> list[dict]:
    """All comparisons, with ratios and shares of the floor."""
    torch.set_num_threads(1)
    threadpool_limits(1)
    rows = [ensemble(repeats), metrics(repeats), stored(repeats)]
    for row in rows:
        row["ratio"] = row["plain_s"] / row["ours_s"]
        if "floor_s" in row:
            row["share"] = row["floor_s"] / row["ours_s"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    rows = measured(options.repeats)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
    print(f"{'':40}{'plain, s':>10}{'ours, s':>10}{'ratio':>8}{'share of floor':>16}")
    for row in rows:
        share = f"{row['share']:.0%}" if "share" in row else ""
        print(f"{row['what']:40}{row['plain_s']:10.3f}{row['ours_s']:10.3f}{row['ratio']:8.1f}{share:>16}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
