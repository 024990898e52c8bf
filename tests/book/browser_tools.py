"""A headless Chromium that remembers what a page asked for and complained about."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
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

    def load_images(self) -> None:
        """Have all pictures of the page, those below the fold among them."""
        self.js(LOAD_IMAGES)
        self.wait(lambda: self.js(IMAGES_ARE_IN))

    def unfold(self) -> None:
        """Open all that is folded on the page: solutions, hidden cells, parts of the ledger."""
        self.js("document.querySelectorAll('.bd-content details').forEach(e => { e.open = true; })")

    def leave(self) -> None:
        """Leave the page for a blank one, and be there: the driver returns before, and a navigation that overtakes this
        one is at times never answered."""
        self.driver.get("about:blank")
        self.wait(lambda: self.js("return location.href == 'about:blank' && document.readyState == 'complete'"))

    def js(self, code: str):
        return self.driver.execute_script(code)

    def all(self, css: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def wait(self, condition, *, seconds: float = 60):
        """The first true value of `condition()`, or a TimeoutException."""
        return WebDriverWait(self.driver, seconds, poll_frequency=0.1).until(lambda _: condition())

    def requests(self) -> list[str]:
        """Addresses that pages asked for since this was last called, whether or not they answered."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        started = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return started + [e["params"]["url"] for e in events if e["method"] == "Network.webSocketCreated"]

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
    driver.set_script_timeout(240)  # axe-core takes its time on a long page
    try:
        yield Browser(driver)
    finally:
        driver.quit()
