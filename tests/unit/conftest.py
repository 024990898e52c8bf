import sys
from pathlib import Path

import pytest
import torch

from lop_utils.training.side_by_side import allow_processes

sys.path.insert(0, str(Path(__file__).parent))  # helpers.py


@pytest.fixture(autouse=True)
def one_thread_and_process():
    torch.set_num_threads(1)
    allow_processes(1)
