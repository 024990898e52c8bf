"""Explorable figures: one description, shown as precomputed frames without a kernel and live with one."""

import base64
import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from lop_utils.errors import UsageError

_FRAMES = """<div class="lop-explorable" role="group" aria-label="{name}" data-labels="{labels}">
<div class="lop-controls"><button type="button" aria-label="play">&#9654;</button>
<label>{name} <input type="range" min="0" max="{last}" step="1" value="{start}" aria-valuetext="{label}"></label>
<output>{label}</output></div>
{pictures}
</div><script>{script}</script>"""
# finds the explorables that are not wired yet, so that it may stand on a page more than once
_SCRIPT = """document.querySelectorAll('.lop-explorable:not([data-wired])').forEach(box => {
  box.dataset.wired = '1';
  const labels = JSON.parse(box.dataset.labels), pictures = box.querySelectorAll('img');
  const slider = box.querySelector('input'), button = box.querySelector('button'), shown = box.querySelector('output');
  let timer = null;
  const show = () => {
    pictures.forEach((picture, i) => { picture.hidden = i !== +slider.value; });
    shown.textContent = labels[slider.value];
    slider.setAttribute('aria-valuetext', labels[slider.value]);
  };
  const stop = () => { clearInterval(timer); timer = null; button.textContent = '\u25b6'; button.ariaLabel = 'play'; };
  const step = () => { if (slider.value === slider.max) stop(); else { slider.stepUp(); show(); } };
  slider.addEventListener('input', () => { stop(); show(); });
  button.addEventListener('click', () => {
    if (timer) { stop(); return; }
    if (slider.value === slider.max) slider.value = 0;
    show();
    timer = setInterval(step, 600);
    button.textContent = '\u23f8';
    button.ariaLabel = 'pause';
  });
});"""


@dataclass(frozen=True)
class Explorable:
    """A figure that depends on one parameter, and the values at which it is precomputed.

    draw(value) returns a matplotlib figure; `parameter` names the slider; `values` are its positions, shown through
    `fmt`; `alt` says in words what changes. `frames()` works in a static page, `live()` needs a kernel, `still()` is
    the figure for print.

    >>> figure = Explorable(lambda n: plt.figure(figsize=(1, 1)), parameter="n", values=[1, 2], alt="nothing")
    >>> figure.frames().data.count("<img ")
    2
    """

    draw: Callable[[Any], Figure]
    parameter: str
    values: Sequence[Any]
    alt: str
    fmt: str = "{:g}"
    start: int = 0
    dpi: int = 100

    def __post_init__(self) -> None:
        if len(self.values) < 2 or not 0 <= self.start < len(self.values):
            problem = f"{len(self.values)} values, start {self.start}"
            raise UsageError(problem, remedy="give two or more values and a start among them")
        if not self.alt.strip():
            raise UsageError(f"explorable of {self.parameter!r} has no alt text", remedy="say in words what changes")

    def frames(self) -> HTML:
        """A slider and a play button over precomputed pictures: plain HTML that needs no kernel and no network."""
        labels = [self.fmt.format(value) for value in self.values]
        pictures = [self._image(value, label) for value, label in zip(self.values, labels, strict=True)]
        shown = [picture if i == self.start else _hidden(picture) for i, picture in enumerate(pictures)]
        name = html.escape(self.parameter, quote=True)
        text = _FRAMES.format(
            name=name,
            last=len(labels) - 1,
            start=self.start,
            label=html.escape(labels[self.start], quote=True),
            labels=html.escape(json.dumps(labels), quote=True),
            pictures="".join(shown),
            script=_SCRIPT,
        )
        return HTML(text)

    def live(self) -> widgets.VBox:
        """The same figure, drawn anew by the running kernel at every move of the slider.

        Axes stay where the first picture has them: finding places for axes costs more than drawing them, and a picture
        that jumps is hard to compare with the one before. Without an Output widget: executing a notebook with one can
        stall, because nbclient then writes to the kernel's shell channel while it waits for a reply there.
        """
        options = [(self.fmt.format(value), value) for value in self.values]
        slider = widgets.SelectionSlider(options=options, index=self.start, description=self.parameter)
        picture, places = widgets.HTML(), []

        def show(_: object = None) -> None:
            data = _drawn(self.draw(slider.value), places, self.dpi)
            picture.value = self._tag(data, self.fmt.format(slider.value))

        slider.observe(show, names="value")
        show()
        return widgets.VBox([slider, picture])

    def still(self) -> Figure:
        """The figure at its starting value."""
        return self.draw(self.values[self.start])

    def _image(self, value: Any, label: str) -> str:
        figure, buffer = self.draw(value), io.BytesIO()
        figure.savefig(buffer, format="png", dpi=self.dpi, metadata={"Software": None})
        plt.close(figure)
        return self._tag(_small_png(buffer.getvalue()), label)

    def _tag(self, data: bytes, label: str) -> str:
        alt = html.escape(f"{self.parameter} = {label}: {self.alt}", quote=True)
        source = base64.b64encode(data).decode()
        return f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{source}">'


def _drawn(figure: Figure, places: list[Bbox], dpi: int) -> bytes:
    """A PNG of a figure, which is closed; its axes at `places`, or, while these are none, where it has them, noted."""
    if len(places) == len(figure.axes):
        figure.set_layout_engine("none")
        for ax, place in zip(figure.axes, places, strict=True):
            ax.set_position(place)
    figure.set_dpi(dpi)
    canvas, buffer = FigureCanvasAgg(figure), io.BytesIO()
    canvas.draw()
    places[:] = [ax.get_position(original=True) for ax in figure.axes]
    plt.close(figure)
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _hidden(image: str) -> str:
    return image.replace("<img ", "<img hidden ", 1)


def _small_png(data: bytes, *, colours: int = 96) -> bytes:
    """The same picture with a palette: about a third of the bytes, no visible difference for line figures."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
