"""A small experiment that counts how often it is computed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lop_utils.evidence import store

MODULES = ["lop_utils.errors"]


@dataclass(frozen=True)
class Config:
    rate: float = 0.1
    seed: int = 0


def experiment(config):
    values = np.random.default_rng(config.seed).normal(size=50) * config.rate
    return pd.DataFrame({"seed": config.seed, "step": range(50), "metric": "loss", "value": values})


class Counted:
    """Fetches one experiment and counts how often it is computed."""

    def __init__(self, config=None, modules=MODULES):
        self.config, self.modules, self.runs = config or Config(), modules, 0

    def compute(self):
        self.runs += 1
        return experiment(self.config)

    def fetch(self):
        return store.fetch("toy", self.config, self.compute, device="cpu", modules=self.modules)
