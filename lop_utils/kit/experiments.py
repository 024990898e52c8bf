"""Experiments without notebooks: a grid of configurations, run side by side, each stored under its key for good.

A run is one configuration of one experiment; its seeds are members of it and, where the experiment trains stacks, train
at once. Runs land in the store that the chapters read. What is stored is not run again, so that a broken-off grid goes
on where it was when the same command is given again; what was running goes on from its checkpoints, if it made any.
"""

import dataclasses
import importlib
import itertools
import os
import pkgutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import pandas as pd
import yaml

from lop_utils import experiments
from lop_utils.errors import UsageError, check_choice
from lop_utils.evidence import paths, store
from lop_utils.training.cores import a_core
from lop_utils.training.side_by_side import cores_lent

BACKENDS = ("joblib", "dask")


@dataclass(frozen=True)
class Run:
    """One configuration of an experiment on one device, and what of it the grid set."""

    module: str
    config: object
    device: str
    label: str

    @property
    def name(self) -> str:
        return importlib.import_module(self.module).NAME

    @property
    def key(self) -> str:
        """The name of its files in the store: the same for the same configuration on every machine."""
        return store.place(self.name, self.config, self.device).stem

    def begun(self) -> bool:
        """Whether there are checkpoints to go on from."""
        return store.begun(self.name, self.config, device=self.device)

    def stored(self) -> bool:
        """Whether a whole and current result is in the store."""
        return store.peek(self.name, self.config, device=self.device, modules=[self.module]) is not None


@dataclass(frozen=True)
class Done:
    """How a run ended: seconds, whether it was computed now, and the error if it failed."""

    run: Run
    seconds: float
    fresh: bool
    error: str = ""


def known() -> dict[str, str]:
    """Module of each experiment by name: those of `lop_utils.experiments` that have NAME, preset and run.

    >>> known()["cloning"]
    'lop_utils.experiments.cloning'
    """
    found = {}
    for info in pkgutil.iter_modules(experiments.__path__):
        module = importlib.import_module(f"{experiments.__name__}.{info.name}")
        if all(hasattr(module, part) for part in ("NAME", "preset", "run")):
            found[module.NAME] = module.__name__
    return dict(sorted(found.items()))


def grid(
    name: str, profile: str, *, device: str, seed: int = 0, seeds: int | None = None, settings: Sequence[str] = ()
) -> list[Run]:
    """The runs of a grid, one for each combination of values in `settings`, each like ``arch=cnn,vit``.

    Values are those of the configuration's fields (lists in brackets); `seeds` is how many, from `seed` on. Raises
    `UsageError` for unknown experiments, fields and values of another kind, and what the configuration refuses.

    >>> [run.label for run in grid("cloning", "smoke", device="cpu", settings=["arch=cnn,vit", "lr=0.1"])]
    ['arch=cnn lr=0.1', 'arch=vit lr=0.1']
    """
    modules = known()
    check_choice("experiment", name, modules)
    module = importlib.import_module(modules[name])
    axes = dict(_axis(module, profile, setting) for setting in settings)
    runs = []
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        if seeds is not None:
            chosen["seeds"] = tuple(range(seed, seed + seeds))
        config = module.preset(profile, seed=seed, **chosen)
        label = " ".join(f"{field}={_shown(chosen[field])}" for field in axes) or "as it is"
        runs.append(Run(module.__name__, config, device, label))
    return runs


def _axis(module: ModuleType, profile: str, setting: str) -> tuple[str, list]:
    """``field=a,b,[1,2]`` -> the field and its values, checked against those of the profile's configuration."""
    field, equals, text = setting.partition("=")
    default = module.preset(profile)
    fields = {f.name: getattr(default, f.name) for f in dataclasses.fields(default)}
    if not equals or not text:
        raise UsageError(f"setting {setting!r} sets nothing", remedy="write FIELD=VALUE or FIELD=VALUE,VALUE")
    check_choice("field", field, fields)
    try:
        values = yaml.safe_load(f"[{text}]")
    except yaml.YAMLError:
        raise UsageError(f"setting {setting!r} cannot be read", remedy="separate values by commas") from None
    return field, [_as(value, fields[field], field) for value in values]


def _as(value: object, like: object, field: str) -> object:
    """`value` as the field wants it: lists as tuples, whole numbers as floats."""
    if isinstance(like, tuple) and isinstance(value, list):
        return _tuple(value)
    if isinstance(like, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not type(like):
        problem = f"{field} = {value!r} is {type(value).__name__}"
        raise UsageError(problem, remedy=f"give {type(like).__name__}, as in {field}={_shown(like)}")
    return value


def _tuple(values: list) -> tuple:
    return tuple(_tuple(value) if isinstance(value, list) else value for value in values)


def _shown(value: object) -> str:
    return f"[{','.join(_shown(v) for v in value)}]" if isinstance(value, tuple) else str(value)


def perform(run: Run, threads: int = 1, resume: bool = True) -> Done:
    """Fetch or compute one run, with so many threads, or as many processes of one thread where it can be split.

    An error is part of what is returned, not raised.
    """
    started, module = time.perf_counter(), importlib.import_module(run.module)
    try:
        with cores_lent(threads):
            result = store.result_of(module, run.config, device=run.device, resume=resume)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({os.path.basename(where.filename)}, line {where.lineno})"
        return Done(run, time.perf_counter() - started, fresh=False, error=text)
    return Done(run, time.perf_counter() - started, fresh=result.fresh)


def run_all(
    runs: Sequence[Run],
    *,
    jobs: int = 1,
    backend: str = "joblib",
    scheduler: str | None = None,
    resume: bool = True,
) -> Iterator[Done]:
    """Perform all runs and yield each as it ends; those that are stored come first.

    A run that was broken off goes on from its checkpoints, or starts anew without `resume`.

    joblib: `jobs` processes of this machine (one on an accelerator), its cores shared out among them. dask: the workers
    of the cluster at `scheduler`, which see the same store; a run whose worker dies is given to another one.
    """
    check_choice("backend", backend, BACKENDS)
    if (backend == "dask") != (scheduler is not None):
        raise UsageError(
            f"backend {backend} with scheduler {scheduler}", remedy="use --backend dask --scheduler ADDRESS"
        )
    waiting = []
    for run in runs:
        if run.stored():
            yield Done(run, 0.0, fresh=False)
        else:
            waiting.append(run)
    if not waiting:
        return
    if backend == "dask":
        yield from _on_dask(waiting, scheduler, resume)
        return
    jobs = min(jobs, len(waiting)) if all(run.device == "cpu" for run in waiting) else 1
    threads = max(1, (os.cpu_count() or 1) // jobs)
    if jobs == 1:
        yield from (perform(run, threads, resume) for run in waiting)
        return
    from joblib import Parallel, delayed

    pool = Parallel(n_jobs=jobs, backend="loky", return_as="generator_unordered", inner_max_num_threads=threads)
    yield from pool(delayed(_perform_at)(str(paths.results_root()), run, threads, resume) for run in waiting)


def _perform_at(results: str, run: Run, threads: int, resume: bool) -> Done:
    """Perform a run in a process that may have been started when results went elsewhere."""
    os.environ[paths.SETTING] = results
    if threads > 1:  # its parts ask for a core each
        return perform(run, threads, resume)
    with a_core(for_process=True):
        return perform(run, threads, resume)


def _on_dask(runs: Sequence[Run], scheduler: str, resume: bool) -> Iterator[Done]:
    try:
        from distributed import Client, as_completed
    except ImportError:
        remedy = "run: pip install 'lop-book[cluster]'"
        raise UsageError("dask's distributed is not installed", remedy=remedy) from None
    try:
        client = Client(scheduler, timeout="30s")
    except (OSError, ValueError) as error:
        raise UsageError(f"no scheduler answers at {scheduler} ({error})", remedy="start one: dask scheduler") from None
    with client:
        submit = lambda run: client.submit(perform, run, resume=resume, key=f"{run.name}-{run.key}", pure=False)  # noqa: E731
        futures = {submit(run): run for run in runs}
        for future in as_completed(futures):
            if future.status == "finished":
                yield future.result()
            else:
                yield Done(futures[future], 0.0, fresh=False, error=f"lost by the cluster: {future.exception()}")


def frame_of(runs: Sequence[Run]) -> pd.DataFrame:
    """The stored results of all runs as one frame, with a column `run` (the label); `UsageError` if one is missing."""
    parts = []
    for run in runs:
        result = store.peek(run.name, run.config, device=run.device, modules=[run.module])
        if result is None:
            raise UsageError(f"run {run.label} has no result", remedy="run the grid first")
        parts.append(result.frame.assign(run=run.label))
    return pd.concat(parts, ignore_index=True)


def summary(done: Sequence[Done], say: Callable[[str], None]) -> bool:
    """Say how many runs were computed, reused and failed; whether none failed."""
    failed = [d for d in done if d.error]
    computed = sum(d.fresh for d in done)
    say(f"{computed} computed, {len(done) - computed - len(failed)} reused, {len(failed)} failed")
    return not failed
