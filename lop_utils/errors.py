"""Errors that tell the user what to do. The command line turns a `UsageError` into one line and exit code 2."""

from functools import partial


class UsageError(ValueError):
    """Something the caller asked for cannot be done; the message names the value and the remedy.

    >>> raise UsageError("profile 'fast' is unknown", remedy="choose smoke, laptop or paper")
    Traceback (most recent call last):
    ...
    lop_utils.errors.UsageError: profile 'fast' is unknown; choose smoke, laptop or paper
    """

    def __init__(self, problem: str, *, remedy: str):
        super().__init__(f"{problem}; {remedy}")
        self.problem, self.remedy = problem, remedy

    def __reduce__(self) -> tuple:
        return partial(type(self), remedy=self.remedy), (self.problem,)  # so that it comes whole out of a process


def check_choice(kind: str, value: object, allowed) -> None:
    """Raise `UsageError` unless `value` is one of `allowed`.

    >>> check_choice("profile", "smoke", ["smoke", "laptop"])
    """
    allowed = list(allowed)
    if value not in allowed:
        raise UsageError(f"{kind} {value!r} is unknown", remedy=f"choose one of: {', '.join(map(str, allowed))}")
