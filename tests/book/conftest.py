import os

import pytest
from browser_tools import chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with a fresh profile."""
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


SUMMARIES = pytest.StashKey[list]()  # tables that are printed when all tests have run


@pytest.fixture(scope="session")
def summaries(pytestconfig):
    return pytestconfig.stash.setdefault(SUMMARIES, [])


def pytest_terminal_summary(terminalreporter, config):
    for title, text in config.stash.get(SUMMARIES, []):
        terminalreporter.section(title)
        terminalreporter.write(text)


os.environ.pop("MPLBACKEND", None)  # a backend chosen outside would keep figures out of the notebooks
