"""Errors that tell the user what to do. The command line turns a `UsageError` into one line and exit code 2."""

import contextlib
import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path

_FULL = (errno.ENOSPC, errno.EDQUOT)
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM)


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


@contextlib.contextmanager
def writing(where: Path, what: str, *, setting: str) -> Iterator[None]:
    """Turn a full disk, or a folder that cannot be written, into a `UsageError` that names it.

    `setting` is the environment variable that names another folder. Other errors pass.

    >>> with writing(Path("results"), "a figure", setting="LOP_RESULTS"):
    ...     raise OSError(errno.ENOSPC, "No space left on device")
    Traceback (most recent call last):
    ...
    lop_utils.errors.UsageError: no space left in results for a figure; make room, or set LOP_RESULTS to another folder
    """
    try:
        yield
    except OSError as error:
        named = Path(error.filename) if isinstance(error.filename, str) else None
        ours = named is not None and (named == where or where in named.parents or named in where.parents)
        if error.errno in _FULL:
            problem = f"no space left in {where} for {what}"
        elif error.errno == errno.EFBIG:
            problem = f"{what} is larger than a file in {where} may be"
        elif ours or (named is None and error.errno in _REFUSED):
            problem = f"{named or where} cannot be written ({error.strerror})"
        else:
            raise
        raise UsageError(problem, remedy=f"make room, or set {setting} to another folder") from error
