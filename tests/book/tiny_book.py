"""A book of three pages with the project's own `_config.yml` and `book/_static`: maths, a figure, a widget."""

import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]

INTRO = r"""# A tiny book

Inline maths $\lambda_1$, a citation {cite:p}`joudaki2025barriers`, a link to [the maths](maths.md).
"""

MATHS = r"""# Maths

$$
\mathrm{erank}(H) = \exp\Big(-\sum_i p_i \log p_i\Big)
$$ (eq-rank)

Equation {eq}`eq-rank` is short; this one is wider than a phone:

\begin{align}
a_1 + a_2 + a_3 + a_4 + a_5 + a_6 + a_7 + a_8 + a_9 + a_{10} + a_{11} + a_{12} + a_{13} + a_{14} + a_{15} + a_{16} &= b
\end{align}

:::{prf:theorem} Clones stay clones
:label: thm-clones
Units with equal signals get equal updates $\Delta w$.
:::

By {prf:ref}`thm-clones`, nothing moves.

:::{exercise}
:label: ex-one
Show it for $k = 2$.
:::

:::{solution} ex-one
:class: dropdown
By symmetry.
:::

| a table | that is | rather wide | for the small | screen of a | telephone |
|---|---|---|---|---|---|
| 1.000000000 | 2.000000000 | 3.000000000 | 4.000000000 | 5.000000000 | 6.000000000 |
"""

SETUP = """
import base64
import io
import ipywidgets as widgets
import matplotlib.pyplot as plt
from myst_nb import glue

def picture(power):
    fig, ax = plt.subplots(figsize=(5, 3))
    ax.plot([x**power for x in range(5)])
    ax.set_title(f"power {power}")
    return fig
"""

FIGURE = """
fig = picture(2)
glue("answer", "42.0", display=False)
glue("curve", fig)
plt.close(fig)
"""

WIDGET = r"""
def png(power):
    buffer = io.BytesIO()
    fig = picture(power)
    fig.savefig(buffer, format="png", dpi=80)
    plt.close(fig)
    source = base64.b64encode(buffer.getvalue()).decode()
    return widgets.HTML(f'<img alt="power {power}" src="data:image/png;base64,{source}">')

slider = widgets.IntSlider(min=0, max=2, description=r"\(x^p\)", continuous_update=True)
play = widgets.Play(min=0, max=2)
stack = widgets.Stack([png(1), png(2), png(3)], selected_index=0)
widgets.jslink((slider, "value"), (stack, "selected_index"))
widgets.jslink((play, "value"), (slider, "value"))
widgets.VBox([widgets.HBox([play, slider]), stack])
"""

EXPLORABLE = """
from lop_utils.figures.explorer import Explorable

Explorable(picture, parameter="power", values=[1, 2, 3], alt="a parabola bends").frames()
"""

SHOWN = """:::{glue:figure} curve
:name: fig-curve
:alt: a parabola
A parabola; the answer is {glue:text}`answer`.
:::

See {numref}`fig-curve`."""


def notebook() -> nbformat.NotebookNode:
    """The stripped notebook of the book's third page."""
    cells = [
        new_markdown_cell("# Notebook\n\nPowers $x^p$."),
        new_code_cell(SETUP),
        new_code_cell(FIGURE, metadata={"tags": ["remove-output"]}),
        new_markdown_cell(SHOWN),
        new_code_cell(WIDGET),
        new_code_cell(EXPLORABLE),
        new_code_cell("print('a long line ' * 30)"),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=cells, metadata=kernel)


def write(folder: Path, *, executed: bool) -> Path:
    """Write the book's sources into `folder`, with the notebook executed by papermill or stripped; returns `folder`."""
    shutil.copy(ROOT / "_config.yml", folder)
    shutil.copytree(ROOT / "book/_static", folder / "book/_static")
    for name in ("references.bib", "references.md"):
        shutil.copy(ROOT / "book" / name, folder / "book")
    pages = ["maths", "notebook", "references"]
    (folder / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n" + "".join(f"  - file: book/{page}\n" for page in pages)
    )
    (folder / "book/intro.md").write_text(INTRO)
    (folder / "book/maths.md").write_text(MATHS)
    for stray in (
        ".pytest_cache/README.md",
        ".venv/lib/notes.md",
        "README.md",
        "book/draft.md",
    ):  # none of the book's business
        (folder / stray).parent.mkdir(parents=True, exist_ok=True)
        (folder / stray).write_text("# Stray\n\n{ref}`nowhere`\n")
    path = folder / "book/notebook.ipynb"
    nbformat.write(notebook(), path)
    if executed:
        papermill.execute_notebook(path, path, progress_bar=False)
    return folder


def build(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run jupyter-book on `folder`; the pages are in `folder/_build/html`."""
    command = [str(Path(sys.executable).with_name("jupyter-book")), "build", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
