"""Which optimizers keep cloned units: every update rule, from three kinds of start, in two precisions.

Small tanh networks, full batch, random labels. Each start is built from a doubled base network: the clone itself
(block-constant weights, BC), a clone plus interaction noise Z (equitable, RE and CE, but not BC), and a clone plus
unrestricted noise (not equitable). All networks of one rule train side by side as one stack.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pandas as pd
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lop_utils.errors import UsageError, check_choice
from lop_utils.manifolds.clone import widen
from lop_utils.manifolds.equitable import jitter, labels_of, split
from lop_utils.manifolds.partition import Partition
from lop_utils.models.mlp import MLP, MLPConfig
from lop_utils.optim.clip import clip_by_norm, clip_by_value
from lop_utils.optim.l2_init import L2Init
from lop_utils.optim.lion import Lion
from lop_utils.optim.muon import Muon
from lop_utils.optim.norms import joint_norm, times
from lop_utils.optim.sam import SAM
from lop_utils.optim.sign import SignDescent
from lop_utils.profiles import check as check_profile

NAME = "optimizer_table"
STARTS = ("block-constant", "equitable", "not equitable")
DTYPES = ("float32", "float64")
