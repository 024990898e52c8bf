"""The theme's script of icons, cut down to the icons that the site's pages show.

The theme brings every icon of Font Awesome Free in one script that each page loads: half a megabyte as it is sent, for
a dozen icons. What is left here are those whose names stand in a page or in one of the theme's other scripts, in the
theme's own file, so that there is no second copy of anything to keep up to date.
"""

import hashlib
import re
from pathlib import Path

SCRIPT = "_static/scripts/fontawesome.js"
# "name":[width,height,[other names],"code point","outline" or ["outline","outline"]]
_ICON = re.compile(
    r'(?:"(?P<quoted>[\w-]+)"|(?P<bare>\w+)):\[\d+,\d+,\[(?P<others>[^\]]*)\],'
    r'"[0-9a-f]+",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?'
)
_NAME = re.compile(r"\bfa-([a-z0-9-]+)")
_SHOWN = re.compile(r'<(?:i|span)\b[^>]*\bclass="([^"]*\bfa-(?:solid|regular|brands)\b[^"]*)"')


def trim(site: Path) -> list[str]:
    """Leave in the script of icons only those in use; a line for each problem, then nothing is changed.

    A problem is an icon that a page shows and the script lacks, or a script in which no icon is recognised. A site
    without the script is left as it is.
    """
    script = site / SCRIPT
    if not script.exists():
        return []
    pages = {page: page.read_text(encoding="utf-8") for page in sorted(site.rglob("*.html"))}
    text = script.read_text(encoding="utf-8")
    known = {name for icon in _ICON.finditer(text) for name in names(icon)}
    if not known:
        return [f"{SCRIPT}: no icon is recognised in it"]
    problems = [f"{page.relative_to(site)}: {lacking}" for page in pages for lacking in _lacking(pages[page], known)]
    if problems:
        return problems
    used = _used([*pages.values(), *_scripts(site)])
    kept = _ICON.sub(lambda icon: icon[0] if names(icon) & used else "", text)
    script.write_text(kept, encoding="utf-8")
    digest = hashlib.sha256(kept.encode()).hexdigest()[:20]
    for page, html in pages.items():  # another digest, for browsers that hold an earlier script
        page.write_text(re.sub(r"(/fontawesome\.js\?digest=)\w+", rf"\g<1>{digest}", html), encoding="utf-8")
    return []


def names(icon: re.Match[str]) -> set[str]:
    """All names of an icon of the script.

    >>> sorted(names(_ICON.search('{"circle-half-stroke":[512,512,[9680,"adjust"],"f042","M448 256c0"]}')))
    ['adjust', 'circle-half-stroke']
    """
    return {icon["quoted"] or icon["bare"], *re.findall(r'"([\w-]+)"', icon["others"])}


def _used(texts: list[str]) -> set[str]:
    return {name for text in texts for name in _NAME.findall(text)}


def _scripts(site: Path) -> list[str]:
    """The scripts that may add an icon to a page; the widgets' manager has a font of its own."""
    found = [*site.glob("_static/*.js"), *site.glob("_static/scripts/*.js")]
    return [path.read_text(encoding="utf-8") for path in found if path != site / SCRIPT]


def _lacking(html: str, known: set[str]) -> list[str]:
    """Icons of a page none of whose classes is the name of one."""
    shown = dict.fromkeys(_SHOWN.findall(html))
    return [f'no icon of the theme for "{classes}"' for classes in shown if not known & set(_NAME.findall(classes))]
