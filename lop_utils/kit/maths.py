"""Pages without maths do without the script that sets it, which is the heaviest thing that a page loads.

Sphinx adds it to each page whose source has a formula, also where the formula is in an output that the page does not
show.
"""

import re
from pathlib import Path

_SCRIPT = re.compile(r'\s*<script[^>]*\bsrc="[^"]*/mathjax/[^"]*"[^>]*></script>')
_SETTINGS = re.compile(r"\s*<script>window\.MathJax = .*?</script>", re.DOTALL)
# where MathJax looks (`myst_mathjax_classes`), and widgets, whose labels it sets
_SET = re.compile(
    r'<\w[^>]*\bclass="[^"]*\b(?:math|tex2jax_process|mathjax_process|output_area)\b|<script[^>]*\bjupyter\.widget-view'
)


def leave_out(site: Path) -> list[str]:
    """Take the script of formulas out of every page without one; the names of these pages.

    >>> bool(needed('<span class="math notranslate">')), bool(needed('<p class="mathjax_ignore">'))
    (True, False)
    """
    changed = []
    for page in sorted(site.rglob("*.html")):
        html = page.read_text(encoding="utf-8")
        if _SCRIPT.search(html) and not needed(html):
            page.write_text(_SETTINGS.sub("", _SCRIPT.sub("", html)), encoding="utf-8")
            changed.append(page.relative_to(site).as_posix())
    return changed


def needed(html: str) -> bool:
    """Whether a page has a place in which formulas are set."""
    return bool(_SET.search(html))
