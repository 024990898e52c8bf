"""What the user sees while chapters run: a line when one starts and ends, and on a terminal the cells going by."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from rich.console import Console
from rich.live import Live
from rich.table import Table

from lop_utils.kit.pages import read
from lop_utils.kit.running import CACHED, FAILED, Outcome, Running, Task

_STYLES = {CACHED: "dim", FAILED: "bold red"}


class Progress:
    """Writes to `console`; without a terminal there are plain lines only."""

    def __init__(self, console: Console):
        self._console = console
        self._live: Live | None = None
        self._cells: dict[str, int] = {}

    def line(self, text: str, style: str = "") -> None:
        """One line, never broken or marked up."""
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)

    def running(self) -> AbstractContextManager:
        """The context in which `show` draws."""
        if not self._console.is_terminal:
            return nullcontext()
        self._live = Live(console=self._console, refresh_per_second=4, transient=True)
        return self._live

    def started(self, task: Task) -> None:
        """A chapter starts, and why."""
        self._cells[task.page.name] = len(read(task.page.path).cells) + 1  # and the cell of parameters
        self.line(f"  {task.page.name:<28} running   {task.reason}")

    def ended(self, outcome: Outcome) -> None:
        """A chapter has ended, or need not run."""
        taken = f"{outcome.seconds:7.1f} s" if outcome.state != CACHED else f"{'':7}  "
        line = f"  {outcome.name:<28} {outcome.state:<9} {taken}  {outcome.error}"
        self.line(line.rstrip(), _STYLES.get(outcome.state, "green"))

    def show(self, active: Sequence[Running]) -> None:
        """Redraw what is running."""
        if self._live is None:
            return
        grid = Table.grid(padding=(0, 2))
        for run in active:
            name = run.task.page.name
            grid.add_row("…", name, f"cell {run.cell} of {self._cells[name]}", f"{run.seconds:.0f} s")
        self._live.update(grid)
