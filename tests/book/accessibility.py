"""axe-core over a page, anchors that exist, headings in order."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

from browser_tools import Browser

from lop_utils.kit.survey import parsed

OBJECTIONS = "objections of axe-core"  # the name under which a test reports them: a page and what `examine` found
AXE = Path(__file__).with_name("vendor") / "axe.min.js"
# what the theme and the notebook layer write themselves and no page of ours can change, each with its reason
THEIRS = {
    ".theme-switch-button": "names itself anew at every switch; what axe takes for its text are the names of icons",
}
_STILL = """
const style = document.createElement('style');
style.textContent = '* { transition: none !important; animation: none !important; }';
document.head.append(style);
"""
_RUN = """
const done = arguments[arguments.length - 1];
axe.run({exclude: arguments[0].map(css => [css])}, {resultTypes: ['violations'], preload: false}).then(
  found => done(found.violations.map(v => ({
    id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.map(n => n.target.join(' ') + ' | ' + n.html.slice(0, 160))
  }))), reason => done([{id: 'axe', impact: 'critical', help: String(reason), nodes: []}]));
"""


IMPACTS = ("critical", "serious", "moderate", "minor")


def examine(browser: Browser) -> list[dict]:
    """What axe-core objects to on the page that is open: rules with their impact and elements."""
    browser.driver.execute_script(_STILL + AXE.read_text(encoding="utf-8"))  # colours on their way are no colours
    return browser.driver.execute_async_script(_RUN, list(THEIRS))


def violations(browser: Browser, *, impacts: Iterable[str] = ("serious", "critical")) -> list[str]:
    """Those of these impacts; a line for each rule and element."""
    return lines(examine(browser), impacts=impacts)


def lines(found: list[dict], *, impacts: Iterable[str] = ("serious", "critical")) -> list[str]:
    return [f"{v['id']} ({v['help']}): {node}" for v in found if v["impact"] in impacts for node in v["nodes"] or [""]]


def table(found: Mapping[str, list[dict]]) -> str:
    """How many elements axe-core objects to, page by page and by impact, with the rules, and in all."""
    width = max(map(len, [*found, "all pages"]))
    made = [f"{'page':{width}}" + "".join(f"{impact:>10}" for impact in IMPACTS) + "  rules"]
    for name, rules in {**found, "all pages": [rule for page in found.values() for rule in page]}.items():
        counts = Counter(v["impact"] for v in rules for _ in v["nodes"] or [""])
        named = ", ".join(sorted({v["id"] for v in rules}))
        made.append(f"{name:{width}}" + "".join(f"{counts[i]:10}" for i in IMPACTS) + f"  {named}".rstrip())
    return "\n".join(made) + "\n"


def dead_anchors(page: Path, ids: dict[Path, set[str]]) -> list[str]:
    """Links of a page to places that do not exist, on it or on another page of the site; `ids` is filled on the way."""
    problems = []
    for link in parsed(page).links:
        parts = urlsplit(link)
        if parts.scheme or parts.netloc or not parts.fragment:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page.resolve()
        if target.suffix != ".html":
            continue
        if target not in ids:
            ids[target] = parsed(target).ids if target.exists() else set()
        if unquote(parts.fragment) not in ids[target]:
            problems.append(f"no such place: {link}")
    return sorted(set(problems))


def structure(page: Path) -> list[str]:
    """What is wrong with headings, language and images' texts."""
    found = parsed(page)
    problems = [] if found.language else ["the page names no language"]
    if found.headings.count(1) != 1:
        problems.append(f"{found.headings.count(1)} headings of the first rank")
    problems += [f"a heading of rank {b} follows one of rank {a}" for a, b in found.jumps]
    return problems + [f"image without a text: {src[:80]}" for src in found.unnamed]
