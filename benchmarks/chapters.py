"""Whole chapters at the smoke profile: from an empty results store, and again when everything in it is stored.

python benchmarks/chapters.py [CHAPTER ...]

Wall time of `lop run`, start of the interpreter and ledger included, each in a folder of its own; the second run
executes the notebook again. So the ratio says what the store saves where a chapter's experiments are smallest.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

from page import ROOT
from timing import seconds

CHAPTERS = ("05_cloning", "07_continual_learning", "10_noise_recovery")


def run(chapter: str, folder: str) -> None:
    command = [sys.executable, "-m", "lop_utils.kit.cli", "run", chapter, "--profile", "smoke", "--device", "cpu"]
    environment = {**os.environ, "LOP_RESULTS": folder, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--force"], cwd=ROOT, env=environment, check=True, capture_output=True)


def measured(chapters: tuple[str, ...] = CHAPTERS) -> list[dict]:
    rows = []
    for chapter in chapters:
        with tempfile.TemporaryDirectory() as folder:
            cold, warm = (seconds(lambda: run(chapter, folder), time.perf_counter) for _ in "12")  # noqa: B023
        what = f"{chapter}, cold / warm store"
        rows.append({"what": what, "plain_s": cold, "ours_s": warm, "ratio": cold / warm})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chapters", nargs="*", default=CHAPTERS)
    for row in measured(tuple(parser.parse_args().chapters)):
        print(f"{row['what']:44}{row['plain_s']:9.1f} s{row['ours_s']:9.1f} s{row['ratio']:7.1f}")


if __name__ == "__main__":
    main()
