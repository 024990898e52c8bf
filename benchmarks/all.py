"""Every benchmark, one after another; the numbers go into reference/benchmarks.json with what they were measured on.

python benchmarks/all.py [--repeats 5]    # minutes; the table in book/how_to_run.md is written anew too
python benchmarks/all.py --table          # only the table, from what is recorded

A ratio compares two things measured in the same run; it means little from one machine to another, and a single time
means nothing. Tests assert a few of the ratios, loosely.
"""

import argparse
import json
import os
import platform
from datetime import UTC, datetime

import chapters
import maps
import online
import page
import training

from lop_utils.evidence.provenance import library_versions

RECORD = page.ROOT / "reference" / "benchmarks.json"
SIDES = (("plain_s", "ours_s", 1.0), ("loop_ns", "kernel_ns", 1e-9))  # names of the two times, and their unit in s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--table", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if not options.table:
        measure(options.repeats)
    page.insert("benchmarks", table(json.loads(RECORD.read_text(encoding="utf-8"))))


def measure(repeats: int) -> None:
    rows = [*online.measured(repeats=repeats, steps=online.STEPS), *training.measured(repeats)]
    rows += [*maps.measured(repeats), *chapters.measured()]
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": library_versions(),
        "repeats": repeats,
        "rows": rows,
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def table(record: dict) -> str:
    """The record as it stands in the book."""
    rows = []
    for row in record["rows"]:
        plain, ours = next((row[p] * unit, row[o] * unit) for p, o, unit in SIDES if p in row)
        share = f"{row['share']:.0%}" if "share" in row else ""
        rows.append([row["what"], duration(plain), duration(ours), f"{row['ratio']:,.1f}", share])
    return page.table("benchmarks", ["what", "plain", "ours", "ratio", "share of the floor"], rows)


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.3g} ns"


if __name__ == "__main__":
    main()
