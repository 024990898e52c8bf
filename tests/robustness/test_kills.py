"""kill -9 while `lop experiment` runs: the same command afterwards gives the same results, bit for bit."""

import itertools
import random
import shutil

import pytest
from harsh import Child, command, killing_at

SEED, MOMENTS = 20251130, 50


def resumed(grid, tally, case, killed):
    """Count one kill: nothing half-written is taken for a result, and the command given again completes the grid."""
    harmless = not grid.half_written()
    code = Child(command).code()
    well = harmless and code == 0 and grid.whole()
    tally(case, "lost" if not well else "detected" if killed else "harmless", f"exit code {code}")


@pytest.mark.slow
def test_killed_at_a_random_moment_a_grid_goes_on_to_the_same_results(grid, results, tally):
    rng, limit, hits = random.Random(SEED), grid.seconds, 0
    for _ in range(2 * MOMENTS):
        moment = rng.uniform(0.0, limit)
        killed = Child(command).kill_after(moment)
        if not killed:
            limit = moment  # it had ended by then: the next ones come earlier
        resumed(grid, tally, "kill -9 at a random moment", killed)
        shutil.rmtree(results)
        hits += killed
        if hits == MOMENTS:
            return
    pytest.fail(f"only {hits} of {2 * MOMENTS} kills came in time")


@pytest.mark.parametrize("every", [16, pytest.param(3, marks=pytest.mark.slow)])
def test_killed_before_any_operation_on_a_file_a_grid_goes_on_to_the_same_results(grid, results, tally, every):
    for operation in itertools.count(0, every):

        def work(operation=operation):
            killing_at(operation, results)
            return command()

        code = Child(work).code()
        assert code in (-9, 0), (operation, code)
        if code == 0:  # there are not so many
            assert operation > 20
            return
        resumed(grid, tally, "kill -9 before a file operation", True)
        shutil.rmtree(results)
