"""Every benchmark, one after another; the numbers go into reference/benchmarks.json with what they were measured on.

python benchmarks/all.py [--repeats 5]

A ratio compares two things measured in the same run; it means little from one machine to another, and a single time
means nothing. Tests assert a few of the ratios, loosely.
"""

import argparse
import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path

import chapters
import maps
import online
import training

from lop_utils.evidence.provenance import library_versions

RECORD = Path(__file__).parents[1] / "reference" / "benchmarks.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = [*online.measured(repeats=repeats, steps=200_000), *training.measured(repeats)]
    rows += [*maps.measured(repeats), *chapters.measured()]
    print(f"{'':44}{'ratio':>10}{'share of floor':>16}")
    for row in rows:
        print(f"{row['what']:44}{row['ratio']:10,.1f}{row.get('share', ''):>16{'.0%' if 'share' in row else ''}}")
    record = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "versions": library_versions(),
        "repeats": repeats,
        "rows": rows,
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    print(f"recorded in {RECORD}")


if __name__ == "__main__":
    main()
