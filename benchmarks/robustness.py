"""Everything that the robustness tests try, counted; into reference/robustness.json, and as a table into the book.

python benchmarks/robustness.py            # some minutes; as root on Linux, or full and read-only disks are left out
python benchmarks/robustness.py --table    # only write the table of what is recorded into book/how_to_run.md again
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import page
from page import ROOT

from lop_utils.evidence.provenance import library_versions

RECORD = ROOT / "reference" / "robustness.json"
COLUMNS = {"tried": "tried", "detected": "noticed and made good", "harmless": "no effect", "lost": "lost"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="run nothing")
    if not parser.parse_args().table and (code := measure()):
        print("nothing is recorded: a test failed")
        return code
    page.insert("robustness", table(json.loads(RECORD.read_text(encoding="utf-8"))))
    return 0


def measure() -> int:
    """Run the tests, slow ones included, and record their counts; the exit code of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        counts, started = Path(folder) / "counts.json", time.perf_counter()
        command = [sys.executable, "-m", "pytest", "tests/robustness", "-m", "slow or not slow", "-p", "no:xdist"]
        environment = {**os.environ, "LOP_ROBUSTNESS": str(counts), "OMP_NUM_THREADS": "1"}
        code = subprocess.run(
            [*command, "--durations=25", "--tb=short", "--show-capture=no"], cwd=ROOT, env=environment
        ).returncode
        if code:
            return code
        rows = json.loads(counts.read_text(encoding="utf-8"))
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "root": os.geteuid() == 0,
        "versions": library_versions(),
        "seconds": round(time.perf_counter() - started),
        "rows": sorted(rows, key=lambda row: row["case"]),
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


def table(record: dict) -> str:
    """The record as it stands in the book."""
    rows = [[row["case"], *(str(row[name]) for name in COLUMNS)] for row in record["rows"]]
    rows.append(["all", *(str(sum(row[name] for row in record["rows"])) for name in COLUMNS)])
    return page.table("robustness", ["what was done", *COLUMNS.values()], rows)


if __name__ == "__main__":
    sys.exit(main())
