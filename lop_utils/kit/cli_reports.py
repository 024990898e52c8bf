"""The commands that give account: `lop ledger`, `lop estimate`. Added to the command line by `kit.cli`."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

Say = Callable[..., None]
ProfileOption = Annotated[str, typer.Option("--profile", help="Size of the experiments: smoke, laptop or paper.")]


def add(app: typer.Typer, exits: Callable[[Callable[..., int]], Callable[..., None]], say: Say) -> None:
    """Add the commands to `app`; `exits` turns what they return into the exit code, `say` is given each line."""

    @app.command("ledger")
    @exits
    def ledger_(
        profile: ProfileOption = "laptop",
        export: Annotated[Path | None, typer.Option(help="Write the ledger's files into this folder.")] = None,
    ) -> int:
        """List every claim with its verdict; with --export, write them as HTML, JSON, CSV and badges."""
        return ledger(profile, export, say)

    @app.command("estimate")
    @exits
    def estimate_(
        names: Annotated[list[str] | None, typer.Argument(help="Experiments; all if none is named.")] = None,
        profile: ProfileOption = "paper",
        device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
        budget: Annotated[float | None, typer.Option(min=0, help="Hours: which claims fit, cheapest first.")] = None,
        allowance: Annotated[float, typer.Option(min=1, help="Seconds of short runs for one experiment.")] = 20.0,
    ) -> int:
        """Predict hours and memory of experiments from short runs here, and say which claims a budget covers."""
        return estimate(names or [], profile, device, budget, allowance, say)


def ledger(profile: str, folder: Path | None, say: Say) -> int:
    """`lop ledger`: the verdicts in words, or the names of the files that hold them."""
    from lop_utils.evidence import badges
    from lop_utils.kit import ledger_files, reference

    verdicts = reference.ledger(profile)
    if folder is None:
        for line in ledger_files.in_words(verdicts):
            say(line)
    else:
        for path in ledger_files.write(folder, profile):
            say(str(path))
    say(f"claims at profile {profile}: {badges.in_words(v.verdict for v in verdicts)}")
    return 0


def estimate(names: list[str], profile: str, device: str, budget: float | None, allowance: float, say: Say) -> int:
    """`lop estimate`: a line an experiment, their sum, and the claims that rest on them."""
    from lop_utils.device import resolve
    from lop_utils.errors import check_choice
    from lop_utils.kit import coverage, experiments
    from lop_utils.kit.estimate import estimate as estimated

    known, where = experiments.known(), resolve(device).type
    for name in names:
        check_choice("experiment", name, known)
    needs = coverage.experiments_of_claims(known)
    found = []
    for name in names or known:
        found.append(estimated(name, profile, device=where, allowance=allowance))
        say(_line(found[-1]))
    costs = {one.name: one.hours for one in found if one.how != "failed"}
    say(f"in all {sum(costs.values()):.2f} hours on {where}, one after the other, at profile {profile}")
    say("these are the experiments' own settings of the profile; chapters run some of them at further settings")
    if budget is None:
        covered = [claim for claim, needed in needs.items() if needed and needed <= costs.keys()]
        say(f"claims that rest on these experiments alone: {', '.join(covered) or 'none'}")
    else:
        bought = coverage.affordable(costs, needs, budget)
        for claim, spent in bought:
            say(f"{spent:9.3f} h  {claim}  ({', '.join(sorted(needs[claim])) or 'computed in its chapter'})")
        say(f"{len(bought)} of {len(needs)} claims fit into {budget:g} hours")
    return int(any(one.how == "failed" for one in found))


def _line(found) -> str:
    if found.how == "failed":
        return f"{found.name:18} not estimated: {found.note}"
    memory = "memory not known" if found.memory_bytes is None else f"{found.memory_bytes / 2**30:.2f} GiB"
    spread = f" ({found.low / 3600:.3f} to {found.high / 3600:.3f})" if found.high > found.low else ""
    return f"{found.name:18} {found.hours:.3f} h{spread}, {memory}; {found.how}: {found.note}"
