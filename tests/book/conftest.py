import os
from pathlib import Path

import pytest
from accessibility import OBJECTIONS, table
from browser_tools import chromium


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless Chromium with a fresh profile."""
    with chromium(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


def pytest_terminal_summary(terminalreporter):
    """What axe-core objected to, page by page; the tests may have run in several processes."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    found = dict(value for report in reports for name, value in report.user_properties if name == OBJECTIONS)
    if found:
        text, target = table(dict(sorted(found.items()))), Path("_build/accessibility.txt")
        target.parent.mkdir(exist_ok=True)
        target.write_text(text, encoding="utf-8")
        terminalreporter.section(f"accessibility by axe-core, elements in both themes ({target})")
        terminalreporter.write(text)


os.environ.pop("MPLBACKEND", None)  # a backend chosen outside would keep figures out of the notebooks
