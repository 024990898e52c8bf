import pytest

from lop_utils.side_by_side import allow_processes


@pytest.fixture(autouse=True)
def one_process():
    """A chapter that a test opens at the laptop profile allows its process more; the next test starts with one."""
    yield
    allow_processes(1)
