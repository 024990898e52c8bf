"""A tiny book, built with the project's own configuration, works from `file://` without a network."""

import re
import shutil

import pytest
import tiny_book
from accessibility import dead_anchors, structure, table, violations
from browser_tools import programs
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from visit import Visit, visit

from lop_utils.errors import UsageError
from lop_utils.kit import icons, pdf
from lop_utils.kit.survey import weight

pytestmark = [pytest.mark.slow, pytest.mark.parallel, pytest.mark.browser]
SHOWN = "return [...document.querySelectorAll('.jupyter-widgets img')].filter(i => i.offsetParent).map(i => i.src)"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Folder of the pages: notebook executed before, warnings are errors, icons cut, nothing executed by the build."""
    programs()
    folder = tiny_book.write(tmp_path_factory.mktemp("tiny"), executed=True)
    config = folder / "_config.yml"
    text = config.read_text()
    assert "execute_notebooks: auto" in text
    config.write_text(text.replace("execute_notebooks: auto", 'execute_notebooks: "off"'))
    built = tiny_book.build(folder, "-W", "-n", "--keep-going")
    assert built.returncode == 0, built.stdout[-2000:] + built.stderr[-4000:]
    assert icons.trim(folder / "_build/html") == []
    return folder / "_build/html"


@pytest.mark.parametrize("name", ["book/intro", "book/maths", "book/notebook", "book/references", "genindex", "search"])
def test_a_page_is_whole_on_a_desktop_and_on_a_phone_and_asks_nothing_of_the_network(site, browser, name):
    page = site / f"{name}.html"
    seen = visit(browser, page)
    assert seen.problems + seen.unweighed(page) == []
    assert {page.resolve(), (site / icons.SCRIPT).resolve()} < seen.loaded


def test_maths_is_set_in_prose_and_in_equations(site, browser):
    browser.load(site / "book/maths.html")
    assert len(browser.all("mjx-container")) >= 4
    assert len(browser.all("mjx-container[display=true]")) == 2


def test_the_slider_changes_the_picture_without_a_kernel_and_its_label_is_set(site, browser):
    browser.load(site / "book/notebook.html")
    handle = browser.wait(lambda: browser.all(".noUi-handle"))[0]
    assert browser.wait(lambda: browser.all(".widget-label mjx-container"))
    (before,) = browser.wait(lambda: browser.js(SHOWN))
    handle.send_keys(Keys.ARROW_RIGHT)
    browser.wait(lambda: browser.js(SHOWN) not in ([], [before]))
    assert browser.driver.find_element(By.CSS_SELECTOR, ".widget-readout").text == "1"
    assert browser.errors() == []


def test_the_play_button_moves_the_slider(site, browser):
    browser.load(site / "book/notebook.html")
    browser.wait(lambda: browser.all(".widget-play button"))[0].click()
    browser.wait(lambda: browser.driver.find_element(By.CSS_SELECTOR, ".widget-readout").text == "2")
    assert browser.errors() == []


VISIBLE = "return [...document.querySelectorAll('.lop-explorable img')].findIndex(i => i.offsetParent)"


def test_an_explorable_follows_the_keys_and_plays_to_its_end_without_a_kernel(site, browser):
    browser.load(site / "book/notebook.html")
    slider = browser.wait(lambda: browser.all(".lop-explorable input"))[0]
    assert browser.js(VISIBLE) == 0
    slider.send_keys(Keys.ARROW_RIGHT)
    assert browser.js(VISIBLE) == 1
    assert slider.get_attribute("aria-valuetext") == browser.all(".lop-explorable output")[0].text == "2"
    button = browser.all(".lop-explorable button")[0]
    button.click()
    assert button.get_attribute("aria-label") == "pause"
    browser.wait(lambda: browser.js(VISIBLE) == 2)
    browser.wait(lambda: button.get_attribute("aria-label") == "play")
    assert browser.errors() == []


def test_a_figure_lies_on_a_light_card_in_the_dark_theme(site, browser):
    browser.load(site / "book/notebook.html")
    assert browser.switch_theme("dark")
    style = browser.js(
        "const s = getComputedStyle(document.querySelector('figure img')); return [s.backgroundColor, s.filter]"
    )
    page = browser.js("return getComputedStyle(document.body).backgroundColor")
    brightness = [sum(int(c) for c in colour.strip("rgba()").split(",")[:3]) / 765 for colour in (style[0], page)]
    assert brightness[0] > 0.9 and brightness[1] < 0.2 and style[1] == "none"


def test_the_icons_that_are_left_are_drawn_and_one_that_is_cut_out_is_missed(site, browser, tmp_path):
    browser.load(site / "book/notebook.html")
    assert len(browser.all("svg.svg-inline--fa path[d]")) > 8 and not browser.all("svg.svg-inline--fa animate")
    copy = shutil.copytree(site, tmp_path / "html")
    script = copy / icons.SCRIPT
    script.write_text(script.read_text().replace('"magnifying-glass":', '"another-glass":'))
    assert {p.split(":")[0] for p in visit(browser, copy / "book/maths.html").problems} == {"icon missing"}


def test_a_visit_sees_what_is_wrong_with_a_bad_page(tmp_path, browser):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html><head><meta name='viewport' content='width=device-width'></head><body>"
        "<img src='https://figures.invalid/a.png'><a href='gone.html'>gone</a><span class='math'>\\(x\\)</span>"
        "<div class='bd-content'><figure><img style='width: 300px' alt='small print' src='data:image/svg+xml,"
        "%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 width=%22900%22 height=%229%22/%3E'></figure></div>"
        "<p>So <span class='math' style='display: block; overflow: hidden; width: 200px; white-space: nowrap'>"
        "a very long formula that ends where nobody can see it, far to the right of the screen</span></p>"
        "<div class='lop-explorable' aria-label='noise'><input type='range' max='1'><img alt='' src='data:,x'></div>"
        "<div style='width: 900px'>wide</div><script>throw new Error('broken script')</script></body></html>"
    )
    (tmp_path / "heavy.js").write_text("0" * 1000)
    seen = visit(browser, bad)
    found = "\n".join(seen.problems)
    for part in ("asks for https://figures.invalid", "dead link", "maths not set", "pixels wide", "broken script"):
        assert part in found
    assert "image does not load" in found and "theme button" in found
    assert "a slider moves and the picture stays: noise" in found
    assert seen.unweighed(bad) == []
    heavy = Visit([], [], seen.loaded | {tmp_path / "heavy.js"}).unweighed(bad)
    assert heavy == [f"loads what is not weighed: {tmp_path / 'heavy.js'}"]
    assert "on a phone 300 pixels wide: small print" in found and "a formula is cut off: So a very long" in found


def test_stripped_notebooks_do_not_pass_as_executed_ones(tmp_path):
    folder = tiny_book.write(tmp_path, executed=False)
    config = folder / "_config.yml"
    config.write_text(config.read_text().replace("execute_notebooks: auto", 'execute_notebooks: "off"'))
    assert tiny_book.build(folder, "-W", "-n", "--keep-going").returncode != 0


def test_the_checks_of_accessibility_see_what_is_wrong_with_a_bad_page(tmp_path, browser):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<html><head><title>x</title></head><body><article><h1>a</h1><h3>b</h3><h1>c</h1><img src='data:,x'>"
        "<button></button><p style='color: #999; background: #fff'>pale</p><a href='#gone'>gone</a>"
        "<a href='bad.html#gone'>gone too</a></article></body></html>"
    )
    assert structure(bad) == [
        "the page names no language",
        "2 headings of the first rank",
        "a heading of rank 3 follows one of rank 1",
        "image without a text: data:,x",
    ]
    assert dead_anchors(bad, {}) == ["no such place: #gone", "no such place: bad.html#gone"]
    assert weight(bad) < 1000
    browser.driver.get(bad.as_uri())
    rules = {line.split(" ")[0] for line in violations(browser)}
    assert {"button-name", "color-contrast", "image-alt", "html-has-lang"} <= rules


def test_the_table_of_objections_counts_elements_by_page_and_impact():
    found = {
        "a.html": [
            {"id": "one", "impact": "serious", "nodes": ["x", "y"]},
            {"id": "two", "impact": "minor", "nodes": []},
        ],
        "b.html": [{"id": "one", "impact": "serious", "nodes": ["x"]}],
        "c.html": [],
    }
    assert [line.split() for line in table(found).splitlines()] == [
        ["page", "critical", "serious", "moderate", "minor", "rules"],
        ["a.html", "0", "2", "0", "1", "one,", "two"],
        ["b.html", "0", "1", "0", "0", "one"],
        ["c.html", "0", "0", "0", "0"],
        ["all", "pages", "0", "3", "0", "1", "one,", "two"],
    ]


def test_the_pages_become_one_document_whose_links_stay_inside_and_whose_pdf_holds_them_all(
    site, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOP_BOOK", str(site.parents[1]))
    documents = ["book/intro", "book/maths", "book/notebook", "book/references"]
    page = pdf.one_page(site, documents)
    (tmp_path / "all.html").write_text(page)
    assert dead_anchors(tmp_path / "all.html", {}) == []
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and "book-maths--eq-rank" in page.replace("equation-", "")
    assert 'href="#book-maths"' in page and "lop-explorable" not in page and "MathJax" in page
    for src in re.findall(r'<img[^>]* src="([^"]+)"', page):
        assert src.startswith("data:") or (site / src).is_file(), src
    assert pdf.write(tmp_path / "book.pdf", site) == len(documents)
    data = (tmp_path / "book.pdf").read_bytes()
    assert data.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", data)) >= len(documents)
    assert not list(site.glob("print-*.html"))


def test_a_site_that_lacks_a_page_is_not_printed(site, tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_BOOK", str(site.parents[1]))
    with pytest.raises(UsageError, match=r"the site lacks book/intro\.html; run: lop build"):
        pdf.write(tmp_path / "book.pdf", tmp_path)
