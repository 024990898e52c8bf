"""Parts of an experiment on several cores: what comes out is what comes out one after another."""

import os

import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from lop_utils.errors import UsageError
from lop_utils.experiments import cloning, escape, league, recovery, revival
from lop_utils.training import side_by_side as module
from lop_utils.training.side_by_side import allow_processes, cores_lent, side_by_side


@pytest.fixture
def two_processes():
    allow_processes(2)


def where(number: int) -> tuple[int, int, int, int]:
    return number, os.getpid(), torch.get_num_threads(), module._allowed


def fails(number: int) -> int:
    if number == 1:
        raise UsageError("part 1 is bad", remedy="leave it out")
    return number


def test_one_process_is_this_one_and_the_order_is_kept():
    found = side_by_side(where, [(i,) for i in range(3)])
    assert [number for number, *_ in found] == [0, 1, 2]
    assert {pid for _, pid, *_ in found} == {os.getpid()}


def test_a_run_that_is_lent_cores_gets_them_for_torch_and_one_thread_for_numpy():
    blas = lambda: {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}  # noqa: E731
    with threadpool_limits(2, user_api="blas"):
        before = torch.get_num_threads(), blas()
        with pytest.raises(KeyError), cores_lent(2):
            assert (torch.get_num_threads(), module._allowed, blas()) == (2, 2, {1})
            raise KeyError
        assert (torch.get_num_threads(), blas()) == before and before[1] == {2}


def test_progress_sees_every_part_and_errors_come_through():
    seen = []
    side_by_side(where, [(i,) for i in range(3)], progress=lambda parts: (seen.append(part) or part for part in parts))
    assert seen == [(0,), (1,), (2,)]
    with pytest.raises(UsageError, match="part 1 is bad"):
        side_by_side(fails, [(0,), (1,)])


@pytest.mark.parametrize("count", [0, -1])
def test_less_than_one_process_is_refused(count):
    with pytest.raises(UsageError, match=f"{count} processes"):
        allow_processes(count)


@pytest.mark.slow
def test_processes_have_one_thread_and_start_none_of_their_own(two_processes):
    found = side_by_side(where, [(i,) for i in range(6)])
    assert [number for number, *_ in found] == list(range(6))
    assert os.getpid() not in {pid for _, pid, *_ in found}
    assert {(threads, allowed) for *_, threads, allowed in found} == {(1, 1)}
    with pytest.raises(UsageError, match="part 1 is bad"):
        side_by_side(fails, [(0,), (1,), (2,)])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "changes"),
    [
        (cloning, {}),
        (escape, {"arms": ("sgd", "label noise", "dropout 0.1"), "curvature": False}),
        (league, {"entrants": ("none", "dropout", "cbp", "upgd")}),
        (recovery, {}),
        (revival, {}),
    ],
    ids=lambda value: getattr(value, "NAME", ""),
)
def test_two_processes_give_the_frame_of_one_to_the_last_bit(experiment, changes):
    config = experiment.preset("smoke", seed=0, **changes)
    alone = experiment.run(config)
    allow_processes(2)
    spread = experiment.run(config)
    pd.testing.assert_frame_equal(alone, spread, check_exact=True)
