"""One visit to a page: on a desktop in both themes, then on a phone, and everything that is wrong with it."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from accessibility import examine, lines
from browser_tools import PHONE, Browser
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.keys import Keys

from lop_utils.kit.survey import files, sent, weight

LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "chrome-untrusted:")  # the last two: its own pages
# what is wrong with the page as it stands; `.math` is what Sphinx writes for every formula
LOOK = """
const say = (what, css, wrong, name) => [...document.querySelectorAll(css)].filter(wrong)
  .map(e => what + ': ' + name(e).trim().slice(0, 80));
return [
  ...say('maths not set', '.math', e => !e.querySelector('mjx-container'), e => e.textContent),
  ...say('maths error', '[data-mml-node=merror]', e => true, e => e.textContent),
  ...say('icon missing', 'svg.svg-inline--fa', e => e.querySelector('animate') || !e.querySelector('path[d]'),
    e => e.getAttribute('class')),
  ...say('image does not load', 'img[src]', e => !e.naturalWidth, e => e.getAttribute('src')),
];
"""
WIDGETS_NOT_DRAWN = """
return [...document.querySelectorAll("script[type='application/vnd.jupyter.widget-view+json']")]
  .filter(s => !s.parentElement.querySelector('.jupyter-widgets')).length;
"""
HANDLES_WITHOUT_NAME = "return document.querySelectorAll('.noUi-handle:not([aria-label])').length"
# pictures whose words nobody can read: narrower than a phone's screen though made for a page
SMALL = """
return [...document.querySelectorAll('.bd-content figure img')]
  .filter(i => i.naturalWidth >= 600 && i.getBoundingClientRect().width < 600)
  .map(i => 'on a phone ' + Math.round(i.getBoundingClientRect().width) + ' pixels wide: ' + i.alt.slice(0, 60));
"""
# formulas wider than the screen whose end cannot be scrolled to
CUT = """
return [...document.querySelectorAll('.math')]
  .filter(e => !/auto|scroll/.test(getComputedStyle(e).overflowX) &&
    e.scrollWidth > e.clientWidth + (getComputedStyle(e).overflowX == 'visible' ? 8 : 1))
  .map(e => 'on a phone a formula is cut off: ' + e.parentElement.textContent.trim().slice(0, 60));
"""
WIDEST = """
let worst = document.body, right = 0;
for (const e of document.querySelectorAll('body *')) {
  const r = e.getBoundingClientRect().right;
  if (r > right) { right = r; worst = e; }
}
return worst.tagName + '.' + worst.className + ' ends at ' + Math.round(right);
"""
VISIBLE = "return [...arguments[0].querySelectorAll('img')].findIndex(i => i.offsetParent)"


@dataclass(frozen=True)
class Visit:
    """`problems`: a line each; `objections`: the rules of axe-core that are broken, both themes together, see
    `accessibility.examine`; `loaded`: the files of this machine that the desktop's page asked for, lazy images too."""

    problems: list[str]
    objections: list[dict]
    loaded: set[Path]

    def unweighed(self, page: Path) -> list[str]:
        """What the page loads beyond its weight in the build's table."""
        if sum(map(sent, self.loaded)) <= weight(page):
            return []
        return [f"loads what is not weighed: {path}" for path in sorted(self.loaded - files(page))]


def visit(browser: Browser, page: Path) -> Visit:
    """Look at a page in every way there is. Loading it is what takes time, so it is loaded twice and no more."""
    browser.leave()
    browser.requests()  # what an earlier page still asked for is not this one's
    browser.load(page)
    browser.unfold()
    browser.load_images()
    asked = browser.requests()
    problems = [*browser.js(LOOK), *_dead_links(browser), *_missing_widgets(browser)]
    objections = []
    for theme in ("dark", "light"):
        if browser.switch_theme(theme):
            objections += examine(browser)
        else:
            problems.append(f"the theme button does not switch to {theme}")
    problems += lines(objections) + _stuck_sliders(browser)
    browser.load(page, phone=True)
    browser.unfold()
    width = browser.js("return document.documentElement.scrollWidth")
    if width > PHONE["width"]:
        problems.append(f"on a phone the page is {width} pixels wide, not {PHONE['width']}: {browser.js(WIDEST)}")
    browser.load_images()
    problems += browser.js(SMALL) + browser.js(CUT)
    problems += [f"asks for {url}" for url in asked + browser.requests() if not url.startswith(LOCAL)]
    problems += [f"console: {message}" for message in browser.errors()]
    loaded = {Path(unquote(urlsplit(url).path)) for url in asked if url.startswith("file:")}
    return Visit(problems, objections, loaded)


def _dead_links(browser: Browser) -> list[str]:
    links = browser.js("return [...document.links].map(a => a.href)")
    paths = {unquote(urlsplit(link).path) for link in links if link.startswith("file:")}
    return [f"dead link: {path}" for path in sorted(paths) if not Path(path).exists()]


def _missing_widgets(browser: Browser) -> list[str]:
    problems = []
    for code, what in ((WIDGETS_NOT_DRAWN, "widgets are not drawn"), (HANDLES_WITHOUT_NAME, "sliders have no name")):
        try:
            browser.wait(lambda code=code: browser.js(code) == 0)
        except TimeoutException:
            problems.append(f"{browser.js(code)} {what}")
    return problems


def _stuck_sliders(browser: Browser) -> list[str]:
    """Explorables that do not show another picture when their slider moves."""
    stuck = []
    for box in browser.all(".lop-explorable"):
        slider = box.find_element("css selector", "input")
        before = browser.driver.execute_script(VISIBLE, box)
        at_end = slider.get_attribute("value") == slider.get_attribute("max")
        slider.send_keys(Keys.ARROW_LEFT if at_end else Keys.ARROW_RIGHT)
        after = browser.driver.execute_script(VISIBLE, box)
        if before < 0 or after < 0 or before == after:
            stuck.append(f"a slider moves and the picture stays: {box.get_attribute('aria-label')}")
    return stuck
