"""The theme's script of icons keeps what the pages show, and nothing else."""

import importlib.util
import re
from pathlib import Path

import pytest

from lop_utils.kit import icons

THEIRS = Path(importlib.util.find_spec("pydata_sphinx_theme").origin).parent / "theme/pydata_sphinx_theme/static"


@pytest.fixture
def site(tmp_path):
    """A site of one page with two icons, one of them under its other name, and the theme's own script."""
    script = tmp_path / icons.SCRIPT
    script.parent.mkdir(parents=True)
    script.write_bytes((THEIRS / "scripts/fontawesome.js").read_bytes())
    (script.parent / "theme.js").write_text("e.innerHTML = '<i class=\"fa-solid fa-xmark\"></i>';")
    shown = '<i class="fa-solid fa-adjust fa-lg"></i><span class="fa-brands fa-github"></span>'
    address = "_static/scripts/fontawesome.js?digest=0123abcd"
    (tmp_path / "a.html").write_text(f'<script src="{address}"></script>{shown}')
    return tmp_path


def left(site):
    """The icons of the script, by all their names."""
    text = (site / icons.SCRIPT).read_text()
    return {name for icon in icons._ICON.finditer(text) for name in icons.names(icon)}


def test_every_icon_of_the_theme_is_recognised():
    text = (THEIRS / "scripts/fontawesome.js").read_text()
    marks = len(re.findall(r'\],"[0-9a-f]+",["\[]', text))  # its code point, in quotes after its other names
    assert len(icons._ICON.findall(text)) == marks > 1000


def test_icons_of_pages_and_of_scripts_stay_under_all_their_names_and_no_others(site):
    assert icons.trim(site) == []
    assert {"adjust", "circle-half-stroke", "github", "xmark"} <= left(site)
    assert len(left(site)) < 20 and "calendar" not in left(site)
    assert (site / icons.SCRIPT).stat().st_size < 90_000


def test_what_is_no_icon_stays_in_the_script_as_it_is(site):
    before = icons._ICON.sub("", (site / icons.SCRIPT).read_text())
    icons.trim(site)
    assert icons._ICON.sub("", (site / icons.SCRIPT).read_text()) == before


def test_a_page_asks_for_the_new_script_not_for_one_that_a_browser_still_has(site):
    icons.trim(site)
    (digest,) = re.findall(r"fontawesome\.js\?digest=(\w+)", (site / "a.html").read_text())
    assert digest != "0123abcd"
    (site / "a.html").write_text((site / "a.html").read_text().replace("fa-github", "fa-adjust"))
    icons.trim(site)
    assert digest not in (site / "a.html").read_text()


def test_an_icon_that_the_theme_lacks_is_named_and_nothing_is_cut(site):
    (site / "b.html").write_text('<i class="fa-solid fa-plastisity"></i>')
    assert icons.trim(site) == ['b.html: no icon of the theme for "fa-solid fa-plastisity"']
    assert "calendar" in left(site)


def test_a_script_of_another_form_is_a_problem_and_a_site_without_one_is_none(site):
    (site / icons.SCRIPT).write_text("var icons = 'elsewhere';")
    assert icons.trim(site) == ["_static/scripts/fontawesome.js: no icon is recognised in it"]
    (site / icons.SCRIPT).unlink()
    assert icons.trim(site) == []
