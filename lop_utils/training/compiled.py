"""Compiling with numba: machine code is kept on disk under the digest of the sources that it came from.

numba by itself keeps it beside the source, one index a function, and looks at that function's own file only. Functions
that were compiled into it from another file may then be those of yesterday, and an index that names a class which is
gone makes the first call fail. Under a digest of all these sources neither can happen.
"""

import hashlib
import logging
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from lop_utils.errors import UsageError
from lop_utils.streams.cache import user_cache

try:
    import numba
except ImportError:  # the torch engine takes over
    numba = None

AVAILABLE = numba is not None
SOURCES = "online_*.py"  # files beside this one whose functions are compiled, or compiled into others
_HERE = Path(__file__).resolve().parent
_OPTIONS = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}
log = logging.getLogger(__name__)


def compiled(function: Callable) -> Callable:
    """`function` compiled without the lock; the machine code is kept on disk where there is a place for it."""
    if not AVAILABLE:
        return function
    place = folder()
    if place is None:
        return numba.njit(**_OPTIONS)(function)
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(place)  # read when the function is decorated
    try:
        return numba.njit(cache=True, **_OPTIONS)(function)
    finally:
        numba.config.CACHE_DIR = before


@cache
def folder() -> Path | None:
    """Where machine code from the present sources is kept; None where nothing can be written."""
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(_HERE.glob(SOURCES))))
    for base in _bases():
        place = base / f"numba-{digest.hexdigest()[:16]}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=place).close()
            return place
        except OSError:
            continue
    log.info("no place for machine code: it is compiled in this process only")
    return None


def _bases() -> list[Path]:
    """$NUMBA_CACHE_DIR, else Python's own folder of compiled files, else the user's cache."""
    if numba.config.CACHE_DIR:
        return [Path(numba.config.CACHE_DIR)]
    try:
        return [_HERE / "__pycache__", user_cache("NUMBA_CACHE_DIR")]
    except UsageError:  # a user without a home
        return [_HERE / "__pycache__"]


def settled(call: Callable[[], object]) -> object:
    """What `call` returns; where machine code on disk cannot be read, it is thrown away and made anew.

    `call` compiles or loads functions and has no effect besides.
    """
    try:
        return call()
    except Exception as error:  # numba passes on whatever reading its files raises
        place = folder() if AVAILABLE else None
        if place is None or not any(place.rglob("*.nb?")):
            raise
        log.warning("machine code in %s cannot be used (%s) and is made anew", place, type(error).__name__)
        for kept in place.rglob("*.nb?"):
            kept.unlink(missing_ok=True)
        return call()
