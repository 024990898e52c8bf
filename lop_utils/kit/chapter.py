"""What a chapter holds: its parameters, its results, its verdicts, its glued numbers and figures, its provenance."""

import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from types import ModuleType

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from myst_nb import glue
from threadpoolctl import threadpool_limits

from lop_utils import device as devices
from lop_utils import profiles
from lop_utils.errors import UsageError, check_choice
from lop_utils.evidence import claims, store
from lop_utils.evidence.provenance import provenance
from lop_utils.evidence.render import Html, table
from lop_utils.evidence.stats import interval
from lop_utils.kit.experiments import Run, run_all
from lop_utils.training.cores import cores
from lop_utils.training.side_by_side import allow_processes


class Chapter:
    """One chapter at run time.

    `name` is the file's stem; the rest are the chapter's parameters. Raises `UsageError` for bad ones.

    >>> book = Chapter("05_cloning", profile="smoke", device="cpu", seed=0)
    >>> book.device, book.judged
    (device(type='cpu'), False)
    """

    def __init__(self, name: str, *, profile: str = "smoke", device: str = "auto", seed: int = 0):
        if not isinstance(name, str) or not re.fullmatch(r"[a-z0-9_]+", name):
            raise UsageError(f"chapter name {name!r} is not a file stem", remedy="write it like 05_cloning")
        if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**31:
            raise UsageError(f"seed {seed!r} is not a seed", remedy="use a whole number from 0 to 2147483647")
        self.name = name
        self.profile = profiles.check(profile)
        self.device: torch.device = devices.resolve(device)
        self.seed = seed
        if self.device.type == "cpu" and profile != "paper":
            torch.set_num_threads(1)  # these networks are too small for more threads to pay, and idle threads cost
            threadpool_limits(1, user_api="blas")  # numpy's own: two threads at work on small spectra took 7 times one
            allow_processes(cores() if profile in profiles.JUDGED else 1)  # the others end before a process has started
        self.judged = profile in profiles.JUDGED
        self._seeds: set[int] = set()
        self._made: dict[Path, bool] = {}  # results used, and whether they were made since this chapter began
        self._began, self._started = datetime.now(UTC).replace(microsecond=0), time.perf_counter()

    def __repr__(self) -> str:
        return f"Chapter({self.name!r}, profile={self.profile!r}, device={str(self.device)!r}, seed={self.seed})"

    def results(self, experiment: ModuleType, config: object) -> store.Result:
        """The experiment's result for `config` on this chapter's device: from the store, or run now and stored.

        `experiment` is a module with NAME and `run(config, device) -> DataFrame`.
        """
        result = store.result_of(experiment, config, device=self.device)
        self._seeds.update(result.provenance["seeds"])
        self._made[result.path] = datetime.fromisoformat(result.provenance["date"]) >= self._began
        return result

    def all_results(self, wanted: Mapping[object, tuple[ModuleType, object]]) -> dict[object, store.Result]:
        """`results` of many pairs (experiment, config) by their keys; what is not stored is computed side by side."""
        if self.judged and self.device.type == "cpu":
            runs = [Run(module.__name__, config, "cpu", str(key)) for key, (module, config) in wanted.items()]
            missing = [run for run in runs if not run.stored()]
            if len(missing) > 1:
                deque(run_all(missing, jobs=cores()), maxlen=0)  # one that fails is not stored, and raises below
        return {key: self.results(*pair) for key, pair in wanted.items()}

    def judge(
        self, claim_id: str, *, seeds: Sequence[int] | None = None, **measures: Sequence[float]
    ) -> claims.Verdict:
        """Record the measured values of a claim, glue the verdict and the numbers, return the claim box.

        Glued: `<id>_verdict`, and for each measure the numbers `<id>_<measure>`, `<id>_<measure>_low` and `_high` (of
        the statistic that the criterion names first; the mean otherwise). `seeds` are those of all results fetched so
        far, unless given. Raises `UsageError` for an unknown claim, one of another chapter, and bad values.
        """
        known = claims.load_claims()
        check_choice("claim", claim_id, known)
        claim = known[claim_id]
        if claim.chapter != self.name:
            raise UsageError(f"claim {claim_id} belongs to {claim.chapter}, not {self.name}", remedy="judge it there")
        used = sorted(self._seeds) or [self.seed] if seeds is None else list(seeds)
        wall = time.perf_counter() - self._started
        verdict = claims.record(claim_id, measures, profile=self.profile, device=self.device, seeds=used, wall_s=wall)
        glue(f"{claim_id}_verdict", verdict.verdict, display=False)
        named = {test.measure: test.statistic for test in reversed((*claim.as_stated, *claim.corrected))}
        for name, values in measures.items():
            found = interval(values, named.get(name, "mean"))
            for suffix, number in (("", found.estimate), ("_low", found.low), ("_high", found.high)):
                glue(f"{claim_id}_{name}{suffix}", number, display=False)
        return verdict

    def number(self, name: str, value: float, fmt: str = ".2f") -> None:
        """Glue `value`, formatted, as the text `name` for the chapter's prose."""
        glue(name, format(value, fmt), display=False)

    def figure(self, name: str, figure: Figure) -> None:
        """Glue a figure under `name`, show it and close it."""
        glue(name, figure, display=True)
        plt.close(figure)

    def provenance(self) -> Html:
        """A table for the chapter's end: profile, device, seeds, date, wall time, results, versions.

        Glues `found_stored`, the number of results that were stored before the chapter began.
        """
        made = provenance(
            device=self.device, seeds=sorted(self._seeds) or [self.seed], wall_s=time.perf_counter() - self._started
        )
        versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items() if version != "absent")
        computed = sum(self._made.values())
        stored = len(self._made) - computed
        glue("found_stored", stored, display=False)
        rows = [
            ["profile", self.profile],
            ["device", f"{made['device']} ({made['device_name']})"],
            ["seeds", ", ".join(map(str, made["seeds"]))],
            ["date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"],
            ["wall time", f"{made['wall_s']:.1f} s"],
            ["results", f"{computed} computed in this time, {stored} stored before"],
            ["versions", versions],
        ]
        html = table("What this page was made with", ["what", "value"], [[a, escape(b)] for a, b in rows])
        return Html(html, "\n".join(f"{a}: {b}" for a, b in rows))
