"""Explorable figures: one description, shown as precomputed frames without a kernel and live with one."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from lop_utils.errors import UsageError


@dataclass(frozen=True)
class Explorable:
    """A figure that depends on one parameter, and the values at which it is precomputed.

    draw(value) returns a matplotlib figure; `parameter` names the slider; `values` are its positions, shown through
    `fmt`; `alt` says in words what changes. `frames()` works in a static page, `live()` needs a kernel, `still()` is
    the figure for print.

    >>> figure = Explorable(lambda n: plt.figure(figsize=(1, 1)), parameter="n", values=[1, 2], alt="nothing")
    >>> len(figure.frames().children[1].children)
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

    def frames(self) -> widgets.VBox:
        """A slider and a play button over precomputed images, linked in the browser: no kernel, no network."""
        labels = [self.fmt.format(value) for value in self.values]
        images = [self._image(value, label) for value, label in zip(self.values, labels, strict=True)]
        stack = widgets.Stack(images, selected_index=self.start)
        slider = widgets.SelectionSlider(
            options=[(label, i) for i, label in enumerate(labels)],
            index=self.start,
            description=self.parameter,
            continuous_update=True,
            layout=widgets.Layout(width="min(26em, 90%)"),
            style={"description_width": "initial"},
        )
        play = widgets.Play(min=0, max=len(labels) - 1, value=self.start, interval=600, show_repeat=False)
        links = [
            widgets.jslink((slider, "index"), (stack, "selected_index")),
            widgets.jslink((play, "value"), (slider, "index")),
        ]
        controls = widgets.HBox([play, slider], layout=widgets.Layout(flex_flow="row wrap"))
        box = widgets.VBox([controls, stack])
        box.add_class("lop-explorable")
        box.links = links  # keep them alive as long as the box
        return box

    def live(self) -> widgets.VBox:
        """The same figure, drawn anew by the running kernel at every move of the slider.

        Without an Output widget: executing a notebook with one can stall, because nbclient then writes to the kernel's
        shell channel while it waits for a reply there.
        """
        options = [(self.fmt.format(value), value) for value in self.values]
        slider = widgets.SelectionSlider(options=options, index=self.start, description=self.parameter)
        picture = widgets.HTML()

        def show(_: object = None) -> None:
            picture.value = self._image(slider.value, self.fmt.format(slider.value)).value

        slider.observe(show, names="value")
        show()
        return widgets.VBox([slider, picture])

    def still(self) -> Figure:
        """The figure at its starting value."""
        return self.draw(self.values[self.start])

    def _image(self, value: Any, label: str) -> widgets.HTML:
        figure, buffer = self.draw(value), io.BytesIO()
        figure.savefig(buffer, format="png", dpi=self.dpi, metadata={"Software": None})
        plt.close(figure)
        alt = html.escape(f"{self.parameter} = {label}: {self.alt}", quote=True)
        source = base64.b64encode(_small_png(buffer.getvalue())).decode()
        return widgets.HTML(f'<img alt="{alt}" style="max-width:100%" src="data:image/png;base64,{source}">')


def _small_png(data: bytes, *, colours: int = 96) -> bytes:
    """The same picture with a palette: about a third of the bytes, no visible difference for line figures."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    picture.quantize(colours, dither=Image.Dither.NONE).save(buffer, format="png", optimize=True)
    return buffer.getvalue()
