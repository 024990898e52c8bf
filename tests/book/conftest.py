import os

import pytest
from browser_tools import chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with a fresh profile."""
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


os.environ.pop("MPLBACKEND", None)  # a backend chosen outside would keep figures out of the notebooks
