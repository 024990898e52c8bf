"""Everything that the robustness tests try, counted; into reference/robustness.json, and as a table into the book.

python benchmarks/robustness.py            # some minutes; as root on Linux, or full and read-only disks are left out
python benchmarks/robustness.py --table    # only write the table of what is recorded into book/how_to_run.md again
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from lop_utils.evidence.provenance import library_versions

ROOT = Path(__file__).resolve().parents[1]
RECORD, PAGE = ROOT / "reference" / "robustness.json", ROOT / "book" / "how_to_run.md"
BEGIN, END = "<!-- robustness: begin -->", "<!-- robustness: end -->"
COLUMNS = {"tried": "tried", "detected": "noticed and made good", "harmless": "no effect", "lost": "lost"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="run nothing")
    if not parser.parse_args().table and (code := measure()):
        print("nothing is recorded: a test failed")
        return code
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: table(record), page, flags=re.DOTALL), encoding="utf-8")
    print(table(record))
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
    """The record as a Markdown table, between the marks that it stands between in the book."""
    head = ["what was done", *COLUMNS.values()]
    rows = [[row["case"], *(str(row[name]) for name in COLUMNS)] for row in record["rows"]]
    rows.append(["all", *(str(sum(row[name] for row in record["rows"])) for name in COLUMNS)])
    lines = [f"| {' | '.join(cells)} |" for cells in (head, ["---", *["--:"] * len(COLUMNS)], *rows)]
    return "\n".join([BEGIN, "", *lines, "", END])


if __name__ == "__main__":
    sys.exit(main())
