"""Where a run that takes long may leave what it needs to go on; nowhere, unless somebody provides a place.

    place = current().place("stream", config)      # the same words in the same order give the same places again
    state = place.load()                           # None at the start, else what was last saved
    for index in range(0 if state is None else state["done"], config.tasks):
        ...
        place.save(lambda: {"done": index + 1, ...})

A state is what `save` was given: dictionaries, lists, tuples, numbers, texts, tensors and arrays. Experiments ask for
their places in an order that their configuration decides; the results store provides them (`evidence.unfinished`).
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar


class Place:
    """One run's place. This one keeps nothing."""

    def load(self) -> object | None:
        """What was saved last, None where there is nothing that can be used."""
        return None

    def save(self, state: Callable[[], object], *, last: bool = False) -> None:
        """Keep ``state()`` if it is time for it; the `last` one, with which the run has all it needs, in any case."""


class Keeper:
    """Gives out places. This one's keep nothing. `resumed` says whether something that was kept has been used."""

    resumed = False

    def place(self, *words: object) -> Place:
        """The place of the run that `words` describe; asked again with the same words, the next such run's."""
        return Place()

    def branch(self, *words: object) -> "Keeper":
        """The keeper of a part that `words` describe, which may be computed in another process, by a copy of it."""
        return Keeper()


_keeper: ContextVar[Keeper] = ContextVar("keeper", default=Keeper())  # noqa: B039  it has no state


def current() -> Keeper:
    """The keeper of what is being computed. Ask for it, and for places, in the thread that the experiment began in.

    >>> current().place("a run").load() is None
    True
    """
    return _keeper.get()


@contextlib.contextmanager
def kept_by(keeper: Keeper) -> Iterator[None]:
    """Let `keeper` be the current one."""
    token = _keeper.set(keeper)
    try:
        yield
    finally:
        _keeper.reset(token)
