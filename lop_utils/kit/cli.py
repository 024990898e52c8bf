"""The command line, `lop`. Exit codes: 0 all well, 1 something failed or does not hold, 2 wrong usage, 130 Ctrl-C."""

import functools
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console
from rich.table import Table

from lop_utils.errors import UsageError
from lop_utils.kit import cli_reports

app = typer.Typer(
    name="lop",
    help="Run, build and check the LoP Book.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Data sets: fetch one, list all.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")
WELL, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
RepositoryOption = Annotated[
    str, typer.Option(envvar="LOP_REPOSITORY", help="Public address, https://github.com/OWNER/NAME.")
]
RefOption = Annotated[str, typer.Option(envvar="LOP_REF", help="Tag or branch that is installed and edited.")]
ProfileOption = cli_reports.ProfileOption


def _say(text: str, *, error: bool = False) -> None:
    print(text, file=sys.stderr if error else sys.stdout, flush=True)


def _exits(command: Callable[..., int]) -> Callable[..., None]:
    """Turn what a command returns, or the error that it raises, into the exit code."""

    @functools.wraps(command)
    def wrapped(*args, **kwargs) -> None:
        try:
            code = command(*args, **kwargs)
        except UsageError as error:
            _say(f"error: {' '.join(str(error).split())}", error=True)
            code = USAGE
        except KeyboardInterrupt:
            _say("interrupted: everything that was running has been stopped", error=True)
            code = INTERRUPTED
        raise typer.Exit(code)

    return wrapped


@app.command()
@_exits
def run(
    chapters: Annotated[list[str] | None, typer.Argument(help="Chapters, as 05_cloning; all if none is named.")] = None,
    profile: ProfileOption = "laptop",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Base seed.")] = 0,
    parameter: Annotated[list[str] | None, typer.Option("-p", help="NAME=VALUE, a parameter of the chapters.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters at the same time (one on an accelerator).")] = 2,
    force: Annotated[bool, typer.Option("--force", help="Execute also what is up to date.")] = False,
    timeout: Annotated[int | None, typer.Option(min=1, help="Seconds that a cell may take; no limit if unset.")] = None,
) -> int:
    """Execute chapters; those whose code, sources, parameters and libraries are unchanged are reused."""
    from lop_utils.kit import notebooks

    outcomes = notebooks.run(
        chapters or (),
        profile=profile,
        device=device,
        seed=seed,
        extra=dict(map(_assignment, parameter or ())),
        jobs=jobs,
        force=force,
        timeout=timeout,
        console=Console(),
    )
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    states = [outcome.state for outcome in outcomes]
    _say(", ".join(f"{states.count(state)} {state}" for state in ("executed", "cached", "failed")))
    for outcome in failed:
        _say(f"error: chapter {outcome.name}, {outcome.error}", error=True)
        if outcome.notebook:
            _say(f"       partial notebook: {outcome.notebook}", error=True)
    if failed:
        return USAGE if all(outcome.usage for outcome in failed) else FAILED
    return WELL


def _assignment(text: str) -> tuple[str, object]:
    """`name=value` with the value read as YAML, so that 3 is a number and true is a truth value."""
    name, equals, value = text.partition("=")
    if not name.isidentifier() or not equals:
        raise UsageError(f"parameter {text!r} is not NAME=VALUE", remedy="write it like -p width=64")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"the value of parameter {text!r} is not understood", remedy="quote it") from None


@app.command()
@_exits
def build(profile: ProfileOption = "laptop", repository: RepositoryOption = "", ref: RefOption = "main") -> int:
    """Build the site from the executed chapters, in _site; warnings are errors.

    With --repository its pages have buttons that open them on Colab and Binder, report an issue and edit the page.
    """
    from lop_utils.kit import site
    from lop_utils.kit.launch import Source

    try:
        index = site.build(profile, say=_say, source=Source(repository, ref) if repository else None)
    except site.BuildError as error:
        _say("error: the site was not built:", error=True)
        for problem in error.args:
            _say(f"  {problem}", error=True)
        return FAILED
    _survey(index.parent)
    _say(f"the site is ready: {index}")
    return WELL


def _survey(site: Path) -> None:
    """The table at the end of a build."""
    from lop_utils.kit.survey import rows, survey

    _say("A first visit to each page in MB; requests to other hosts, images without a text, headings out of")
    _say("order (none in a sound book); formulas:")
    table = Table(box=None, pad_edge=False)
    for head in ("page", "MB", "outside", "no text", "order", "formulas"):
        table.add_column(head, justify="left" if head == "page" else "right")
    for row in rows(survey(site)):
        table.add_row(*row)
    Console().print(table, markup=False)


@app.command()
@_exits
def check(
    profile: ProfileOption = "laptop",
    record: Annotated[bool, typer.Option("--record", help="Make the present verdicts the reference.")] = False,
) -> int:
    """Check notebooks, claims, records, drift from the reference, and that the site asks nothing of other hosts."""
    from lop_utils.kit import checks

    found = checks.check(profile, record=record)
    counted = ", ".join(f"{number} {verdict}" for verdict, number in found.counts.items())
    _say(f"claims at profile {profile}: {counted or 'none'}")
    for note in found.notes:
        _say(f"note: {note}")
    for problem in found.problems:
        _say(f"problem: {problem}", error=True)
    if found.problems:
        _say(f"{len(found.problems)} problem{'s' if len(found.problems) > 1 else ''}", error=True)
        return FAILED
    _say(f"recorded in {found.recorded}" if record else "all well")
    return WELL


@app.command()
@_exits
def pdf(
    target: Annotated[Path, typer.Argument(help="The file to write.")] = Path("lop-book.pdf"),
) -> int:
    """Print the built site as one PDF, with Chromium."""
    from lop_utils.kit.pdf import write

    number = write(target)
    _say(f"{number} pages of the site are in {target} ({target.stat().st_size / 1e6:.1f} MB)")
    return WELL


@app.command()
@_exits
def experiment(
    name: Annotated[str, typer.Argument(help="An experiment, as cloning; none: all are listed.")] = "",
    profile: ProfileOption = "laptop",
    setting: Annotated[list[str] | None, typer.Option("--set", help="FIELD=VALUE,VALUE: one axis of the grid.")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many seeds.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time on this machine.")] = 1,
    backend: Annotated[str, typer.Option(help="joblib: this machine; dask: a cluster.")] = "joblib",
    scheduler: Annotated[str | None, typer.Option(help="Address of the Dask scheduler.")] = None,
    table: Annotated[Path | None, typer.Option(help="Write all results to this CSV file.")] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the checkpoints of unfinished runs, or start them anew.")
    ] = True,
    dry: Annotated[
        bool, typer.Option("--dry-run", help="Only show the runs, their keys and which are stored.")
    ] = False,
) -> int:
    """Run an experiment without its notebook, over a grid of settings; what is stored is not run again."""
    from lop_utils.device import resolve
    from lop_utils.kit import experiments

    if not name:
        for known, module in experiments.known().items():
            _say(f"{known:18} {module}")
        return WELL
    where = resolve(device).type
    runs = experiments.grid(name, profile, device=where, seed=seed, seeds=seeds, settings=setting or ())
    if dry:
        for run in runs:
            state = "stored" if run.stored() else "begun" if run.begun() else "to run"
            _say(f"{run.key}  {state:7}  {run.label}")
        return WELL
    done = []
    for ended in experiments.run_all(runs, jobs=jobs, backend=backend, scheduler=scheduler, resume=resume):
        done.append(ended)
        state = ended.error or (f"{ended.seconds:.1f} s" if ended.fresh else "stored")
        _say(f"[{len(done)}/{len(runs)}] {ended.run.label}: {state}", error=bool(ended.error))
    well = experiments.summary(done, _say)
    if table is not None and well:
        experiments.frame_of(runs).to_csv(table, index=False)
        _say(f"results in {table}")
    return WELL if well else FAILED


@app.command()
@_exits
def launch(
    folder: Annotated[Path, typer.Argument(help="An empty folder, or one that an earlier call wrote.")],
    repository: RepositoryOption = "",
    ref: RefOption = "main",
) -> int:
    """Write the branch that Colab and Binder open: chapters that install the package, and Binder's environment."""
    from lop_utils.kit.launch import BRANCH, Source, write

    written = write(folder, Source(repository, ref))
    _say(f"{len(written)} files in {folder}: push them as the branch {BRANCH} of {repository}")
    return WELL


@app.command("list")
@_exits
def list_(profile: ProfileOption = "laptop") -> int:
    """List the chapters: executed or not, run time, verdicts."""
    from lop_utils.kit.overview import overview

    table = Table("chapter", "title", "state", "seconds", "claims", title=f"profile {profile}")
    for row in overview(profile):
        seconds = "" if row.seconds is None else f"{row.seconds:.1f}"
        claims = ", ".join(f"{number} {verdict}" for verdict, number in row.counts.items())
        table.add_row(row.name, row.title, row.state, seconds, claims)
    Console().print(table, markup=False)
    return WELL


@app.command()
@_exits
def doctor() -> int:
    """Look at this machine: Python, versions, device, memory, disk, kernel, browser."""
    from lop_utils.kit.doctor import WRONG, examine

    wrong = 0
    for finding in examine():
        wrong += finding.state == WRONG
        remedy = f"; {finding.remedy}" if finding.remedy else ""
        _say(f"{finding.state:<6} {finding.what:<14} {finding.detail}{remedy}")
    _say("a run would work" if not wrong else f"{wrong} would break a run")
    return FAILED if wrong else WELL


@data_app.command("fetch")
@_exits
def data_fetch(
    name: Annotated[str, typer.Argument(help="mnist, fashion_mnist, cifar10, cifar100 or tiny_imagenet.")],
    source: Annotated[Path | None, typer.Option("--from", help="A folder of the original files; no download.")] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="Do not compare files with published sums.")] = False,
) -> int:
    """Fetch a data set once, into LOP_DATA or the user's cache; a broken download goes on where it stopped."""
    from lop_utils.kit import data_commands

    found = data_commands.fetch(name, folder=source, verified=not unverified, console=Console())
    _say(f"{name} is ready: {found.path} ({found.facts.size / 2**20:,.1f} MiB, sha256 {found.sha256[:12]})")
    _say(f"licence: {found.facts.licence}; please cite {found.facts.citation}")
    return WELL


@data_app.command("list")
@_exits
def data_list() -> int:
    """List the data sets: embedded or fetched, size, what they hold, licence."""
    from lop_utils.kit import data_commands

    folder, free = data_commands.free_space()
    table = Table("name", "state", "MiB", "images", "licence", title=f"data in {folder}, {free / 2**20:,.0f} MiB free")
    for row in data_commands.overview():
        table.add_row(
            row.name, row.state, "" if row.size is None else f"{row.size / 2**20:,.0f}", row.holds, row.licence
        )
    Console().print(table, markup=False)
    return WELL


@app.command()
@_exits
def plan(
    arch: Annotated[str, typer.Argument(help="mlp, cnn, resnet or vit.")],
    norm: Annotated[str, typer.Option(help="none, batch or layer.")] = "none",
    budget: Annotated[str, typer.Option(help="text: 500 steps a task; code: 500 epochs.")] = "text",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    members: Annotated[int | None, typer.Option(help="Seeds trained at once; default: all five.")] = None,
    steps: Annotated[int, typer.Option(help="Steps of the dry run.")] = 5,
) -> int:
    """What the paper's Tiny ImageNet run of one architecture would need here, from a dry run: memory, hours."""
    from lop_utils.device import resolve
    from lop_utils.experiments import full_size

    config = full_size.configuration(arch, norm=norm, budget=budget)
    found = full_size.plan(config, resolve(device), steps=steps, members=members)
    peak = "not counted" if found.peak_bytes is None else f"{found.peak_bytes / 1e9:.1f} GB"
    _say(f"{arch}, {found.members} seeds at once on {found.device}: {found.parameters:,} parameters each")
    _say(f"disk {found.disk_bytes / 1e9:.1f} GB; images on the device {found.data_bytes / 1e9:.1f} GB")
    _say(f"weights, gradients and moments {found.state_bytes / 1e9:.2f} GB; peak of the dry run {peak}")
    _say(f"{found.step_s * 1000:.1f} ms a step x {found.steps:,} steps = {found.hours:.1f} hours, metrics left out")
    return WELL


cli_reports.add(app, _exits, _say)


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """The entry point: asked to end politely, it does as on Ctrl-C."""
    signal.signal(signal.SIGTERM, _stop)
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a letter is no reason to stop
        stream.reconfigure(errors="backslashreplace")
    app()


if __name__ == "__main__":
    main()
