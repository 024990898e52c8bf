"""A headless Chromium that remembers what a page asked for and complained about."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,1000",
)
LOCAL = ("file:", "data:", "blob:", "about:", "chrome:", "chrome-untrusted:")  # the last two: its own pages
# sphinx-thebe adds its settings to the page twice; the second time is an error that stops nothing
KNOWN = ("Identifier 'THEBE_JS_URL' has already been declared",)
PHONE = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}

SETTLED = """
const done = arguments[arguments.length - 1];
const maths = window.MathJax && MathJax.startup ? MathJax.startup.promise : Promise.resolve();
maths.then(() => setTimeout(() => done(true), 50));
"""
LOAD_IMAGES = "document.querySelectorAll('img[loading=lazy]').forEach(i => { i.loading = 'eager'; })"
IMAGES_ARE_IN = "return [...document.images].every(i => i.complete)"
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


def programs() -> tuple[str, str]:
    """Paths of Chromium and its driver; skips the test where one is absent, unless $LOP_REQUIRE_BROWSER is set."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser and driver:
        return browser, driver
    message = "chromium and chromedriver are needed for this test"
    if os.environ.get("LOP_REQUIRE_BROWSER"):
        pytest.fail(message)
    pytest.skip(message)


class Browser:
    """One window. `requests` and `errors` give what came up since they were last asked."""

    def __init__(self, driver: webdriver.Chrome):
        self.driver = driver

    def load(self, page: Path, *, phone: bool = False) -> None:
        """Open a file, wait until it is loaded and its maths is set."""
        if phone:
            self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
        else:
            self.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        self.leave()  # else, where the page is the same as before, the old one may answer
        self.driver.get(page.resolve().as_uri())
        self.wait(lambda: self.js("return location.protocol == 'file:' && document.readyState == 'complete'"))
        self.driver.execute_async_script(SETTLED)

    def leave(self) -> None:
        """Leave the page for a blank one, and be there: the driver returns before, and a navigation that overtakes this
        one is at times never answered."""
        self.driver.get("about:blank")
        self.wait(lambda: self.js("return location.href == 'about:blank' && document.readyState == 'complete'"))

    def js(self, code: str):
        return self.driver.execute_script(code)

    def all(self, css: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def wait(self, condition, *, seconds: float = 20):
        """The first true value of `condition()`, or a TimeoutException."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: condition())

    def requests(self) -> list[str]:
        """Addresses that pages asked for since this was last called, whether or not they answered."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        started = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return started + [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]

    def outside_requests(self) -> list[str]:
        """Those of the `requests` that leave this machine."""
        return [url for url in self.requests() if not url.startswith(LOCAL)]

    def loaded(self, page: Path) -> set[Path]:
        """All files of this machine that a page asks for on a first visit, its lazy images among them."""
        self.leave()  # what an earlier page still asks for is not this one's
        self.requests()
        self.load(page)
        self.js(LOAD_IMAGES)
        self.wait(lambda: self.js(IMAGES_ARE_IN))
        return {Path(unquote(urlsplit(url).path)) for url in self.requests() if url.startswith("file:")}

    def errors(self) -> list[str]:
        """Console messages of the worst level, uncaught exceptions among them."""
        severe = [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
        return [message for message in severe if not any(known in message for known in KNOWN)]

    def theme(self) -> str:
        return self.js("return document.documentElement.dataset.theme")

    def switch_theme(self, wanted: str) -> bool:
        """Press the page's own theme button until the theme is `wanted`; False if it never is."""
        for _ in range(4):
            if self.theme() == wanted:
                return True
            self.js("[...document.querySelectorAll('.theme-switch-button')].find(b => b.offsetParent)?.click()")
        return self.theme() == wanted


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser with a fresh profile in the folder `profile`."""
    browser, driver_path = programs()
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    driver.set_script_timeout(60)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


def audit(browser: Browser, page: Path) -> list[str]:
    """Everything that is wrong with a page on a desktop and on a phone; empty if nothing is."""
    browser.load(page)
    browser.js(LOAD_IMAGES)
    browser.wait(lambda: browser.js(IMAGES_ARE_IN))
    problems = [*browser.js(LOOK), *_dead_links(browser), *_missing_widgets(browser)]
    if not browser.switch_theme("dark") or not browser.switch_theme("light"):
        problems.append("the theme button does not switch between dark and light")
    browser.load(page, phone=True)
    width = browser.js("return document.documentElement.scrollWidth")
    if width > PHONE["width"]:
        problems.append(f"on a phone the page is {width} pixels wide, not {PHONE['width']}: {browser.js(WIDEST)}")
    browser.js(LOAD_IMAGES)
    browser.wait(lambda: browser.js(IMAGES_ARE_IN))
    problems += browser.js(SMALL) + browser.js(CUT)
    problems += [f"asks for {url}" for url in browser.outside_requests()]
    return problems + [f"console: {message}" for message in browser.errors()]


def _dead_links(browser: Browser) -> list[str]:
    links = browser.js("return [...document.links].map(a => a.href)")
    paths = {unquote(urlsplit(link).path) for link in links if link.startswith("file:")}
    return [f"dead link: {path}" for path in sorted(paths) if not Path(path).exists()]


def _missing_widgets(browser: Browser) -> list[str]:
    try:
        browser.wait(lambda: browser.js(WIDGETS_NOT_DRAWN) == 0)
    except TimeoutException:
        return [f"{browser.js(WIDGETS_NOT_DRAWN)} widgets are not drawn"]
    return []
