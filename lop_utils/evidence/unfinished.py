"""Checkpoints of runs that are not finished, beside the results that they will become.

<results>/store/<experiment>/<key>.unfinished/<part>.npz    removed when the result is stored

A checkpoint counts only for the same configuration, kind of device, sources and numerical libraries, and when it is
whole; what is lost when a run is killed is what its parts did since their last checkpoints.
"""

import logging
import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from lop_utils.errors import UsageError, writing
from lop_utils.evidence.files import Unusable, replacing
from lop_utils.evidence.packing import pack, unpack
from lop_utils.evidence.paths import SETTING
from lop_utils.evidence.provenance import digest
from lop_utils.training.checkpoint import Keeper, Place

FORMAT = 1
SECONDS = 20.0  # from one checkpoint of a part to the next
WORTHWHILE = 0.5  # seconds; a finished part that took less is as soon done again
log = logging.getLogger(__name__)


class Unfinished(Keeper):
    """The checkpoints of the run whose result will be at `path`; `made_by` is what must be the same for them to count.

    `within` names the part of the run, if it is only that.
    """

    def __init__(self, path: Path, made_by: Mapping, within: str = ""):
        self.folder, self.made_by, self._within = path.with_suffix(".unfinished"), dict(made_by), within
        self._given: Counter[str] = Counter()

    def place(self, *words: object) -> Place:
        return Part(self, self._name("place", words))

    def branch(self, *words: object) -> Keeper:
        return Unfinished(self.folder, self.made_by, self._name("branch", words))

    def _name(self, kind: str, words: tuple) -> str:
        name = digest([self._within, kind, words])[:32]
        self._given[name] += 1
        return f"{name}-{self._given[name]}"

    def clear(self) -> None:
        """Remove all checkpoints."""
        if self.folder.exists():
            shutil.rmtree(self.folder, ignore_errors=True)


class Part(Place):
    """The checkpoint of one part of a run."""

    def __init__(self, run: Unfinished, name: str):
        self._run, self._path = run, run.folder / f"{name}.npz"
        self._header = {"format": FORMAT, "part": name, "made_by": run.made_by}
        self._at = time.monotonic()  # of the last checkpoint, or of the beginning

    def load(self) -> object | None:
        if not self._path.exists():
            return None
        try:
            header, state = unpack(self._path.read_bytes())
            if header != self._header:
                raise Unusable(f"it is {_difference(header, self._header)}")
        except (Unusable, OSError) as reason:
            log.warning("checkpoint %s is not used and this part of the run starts anew: %s", self._path, reason)
            return None
        self._run.resumed = True
        log.info("going on from checkpoint %s", self._path)
        return state

    def save(self, state: Callable[[], object], *, last: bool = False) -> None:
        now = time.monotonic()
        if now - self._at < (WORTHWHILE if last else SECONDS):
            return
        self._at = now
        try:
            with writing(self._path.parent, "a checkpoint", setting=SETTING):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                with replacing(self._path) as file:
                    pack(file, self._header, state())
        except (UsageError, OSError, TypeError) as reason:  # no reason to end the run
            log.warning("no checkpoint was made: %s", reason)


def _difference(found: object, wanted: Mapping) -> str:
    """In words, why a header is not the wanted one."""
    found = found if isinstance(found, dict) else {}
    if found.get("format") != wanted["format"]:
        return "in another format"
    made = found.get("made_by") if isinstance(found.get("made_by"), dict) else {}
    if made.get("key") != wanted["made_by"].get("key"):
        return "of another configuration"
    return "from another version" if found.get("part") == wanted["part"] else "of another part"
