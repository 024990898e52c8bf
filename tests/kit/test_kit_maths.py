"""The script that sets formulas stays on pages that have some, and on no others."""

import pytest

from lop_utils.kit import maths

SETTINGS = '<script>window.MathJax = {"options": {"processHtmlClass": "math|output_area|jupyter-widgets"}}</script>'
SCRIPT = '<script defer="defer" src="../_static/vendor/mathjax/tex-svg-full.js?v=1"></script>'
OTHER = '<script src="../_static/lop-book.js"></script>'


def page(body):
    return f"<html><head>\n{OTHER}\n{SETTINGS}\n{SCRIPT}\n</head><body>{body}</body></html>"


@pytest.mark.parametrize(
    "body",
    [
        r'<span class="math notranslate">\(x\)</span>',
        r'<div class="output text_latex math notranslate">\(x\)</div>',
        '<script type="application/vnd.jupyter.widget-view+json">{}</script>',
    ],
)
def test_a_page_with_a_formula_or_a_widget_stays_as_it_is(tmp_path, body):
    (tmp_path / "a.html").write_text(page(body))
    assert maths.leave_out(tmp_path) == []
    assert (tmp_path / "a.html").read_text() == page(body)


def test_a_page_without_one_loses_the_script_and_its_settings_and_nothing_else(tmp_path):
    (tmp_path / "book").mkdir()
    body = '<section class="tex2jax_ignore mathjax_ignore"><p>class="math" costs $5.</p></section>'
    (tmp_path / "book/a.html").write_text(page(body))
    assert maths.leave_out(tmp_path) == ["book/a.html"]
    assert (tmp_path / "book/a.html").read_text() == f"<html><head>\n{OTHER}\n</head><body>{body}</body></html>"
    assert maths.leave_out(tmp_path) == []
