"""The commands that give account: `lop ledger`. Added to the command line by `kit.cli`."""

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


def ledger(profile: str, folder: Path | None, say: Say) -> int:
    """`lop ledger`: the verdicts in words, or the names of the files that hold them."""
    from lop_utils.evidence import badges, claims
    from lop_utils.kit import ledger_files

    verdicts = claims.ledger(profile)
    if folder is None:
        for line in ledger_files.in_words(verdicts):
            say(line)
    else:
        for path in ledger_files.write(folder, profile):
            say(str(path))
    say(f"claims at profile {profile}: {badges.in_words(v.verdict for v in verdicts)}")
    return 0
