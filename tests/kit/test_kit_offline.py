"""What counts as a request to another host."""

import pytest

from lop_utils.kit.offline import outside_in_html, outside_requests

REMOTE = "https://cdn.example.org/x"


@pytest.mark.parametrize(
    "html",
    [
        f'<script src="{REMOTE}.js"></script>',
        '<script src="//cdn.example.org/x.js"></script>',
        f"<script async SRC='{REMOTE}.js'></script>",
        f'<link rel="stylesheet" href="{REMOTE}.css">',
        f'<link rel="shortcut icon" href="{REMOTE}.ico">',
        f'<link rel="preconnect" href="{REMOTE}">',
        f'<img alt="" src="{REMOTE}.png"/>',
        f'<img alt="" srcset="a.png 1x, {REMOTE}.png 2x">',
        f'<iframe src="{REMOTE}"></iframe>',
        f'<video poster="{REMOTE}.png"></video>',
        f'<object data="{REMOTE}.svg"></object>',
        f'<svg><use xlink:href="{REMOTE}.svg#a"></use></svg>',
        f'<p style="background: url({REMOTE}.png)">a</p>',
        f"<style>@import '{REMOTE}.css';</style>",
        f"<style>@font-face {{ src: url('{REMOTE}.woff2') }}</style>",
        f'<script type="module">import mermaid from "{REMOTE}.mjs";</script>',
        f'<script>require(["{REMOTE}.js"], f)</script>',
    ],
)
def test_whatever_a_browser_loads_by_itself_from_elsewhere_is_found(html):
    assert len(outside_in_html(f"<html><body>{html}</body></html>")) == 1


@pytest.mark.parametrize(
    "html",
    [
        f'<a href="{REMOTE}">a link</a>',
        f'<link rel="canonical" href="{REMOTE}">',
        '<script src="../_static/x.js?digest=1"></script>',
        '<img alt="" src="data:image/png;base64,AAAA//BB">',
        '<svg xmlns="http://www.w3.org/2000/svg"></svg>',
        f"<script>const url = '{REMOTE}'; // loaded on demand only</script>",
        f"<pre>&lt;script src='{REMOTE}.js'&gt;</pre>",
        '<p style="background: url(a.png)">url(https://in.text.org)</p>',
    ],
)
def test_links_data_and_files_of_the_site_are_no_requests(html):
    assert outside_in_html(f"<html><body>{html}</body></html>") == []


def test_pages_and_style_sheets_of_a_site_are_named(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.html").write_text(f'<img src="{REMOTE}.png"><img src="{REMOTE}.png">')
    (tmp_path / "b.css").write_text(f"@import url({REMOTE}.css); .a {{ background: url(c.png) }}")
    assert list(outside_requests(tmp_path)) == [
        f"{'sub/a.html'} loads <img src={REMOTE}.png> from another host",
        f"b.css loads {REMOTE}.css from another host",
    ]
