"""The process that executes one notebook; `notebooks.py` starts one for each. Imports nothing of this package.

Its first line of standard input is the job, in JSON: source, output, parameters, cwd, timeout, folder. Into that folder
go `cell` (the position of the running cell) and at last `outcome.json`: an empty object, or what went wrong.
"""

import json
import logging
import os
import sys
import tempfile
import threading
from pathlib import Path

import nbformat
import papermill
from nbclient.exceptions import CellTimeoutError, DeadKernelError

KERNEL = "python3"  # of this environment, whatever a notebook's metadata say
START_TIMEOUT = 120  # seconds


def main() -> None:
    """Do the job on standard input; end at once, and the kernel with it, when the process that gave it is gone."""
    job = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger("papermill").setLevel(logging.ERROR)
    folder = Path(job["folder"])
    tempfile.tempdir = str(folder)  # where the kernel's connection file goes, so that it is removed with the folder
    outcome = execute(job)
    (folder / "outcome.new").write_text(json.dumps(outcome), encoding="utf-8")
    os.replace(folder / "outcome.new", folder / "outcome.json")


def _end_with_parent() -> None:
    sys.stdin.read()  # returns when the other end of the pipe is closed
    os._exit(1)


def execute(job: dict) -> dict:
    """Execute the notebook; an empty dictionary, or one that names the cell and the error."""
    progress = Path(job["folder"]) / "cell"
    try:
        papermill.execute_notebook(
            job["source"],
            job["output"],
            parameters=job["parameters"],
            kernel_name=KERNEL,
            cwd=job["cwd"],
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            execution_timeout=job["timeout"],
            on_cell_start=lambda cell, cell_index: progress.write_text(str(cell_index + 1)),
        )
    except Exception as error:
        return {**_where(Path(job["output"])), **_what(error, job["timeout"])}
    return {}


def _where(output: Path) -> dict:
    """Number (among the code cells of the source, from 1) and first line of the last cell that was started."""
    number, found = 0, {"started": False}
    if not output.exists():
        return found
    for cell in nbformat.read(output, as_version=4).cells:
        if cell.cell_type != "code":
            continue
        number += "injected-parameters" not in cell.metadata.get("tags", [])
        if cell.metadata.get("papermill", {}).get("start_time"):
            first = next((line for line in cell.source.splitlines() if line.strip()), "")
            found = {"started": True, "number": number, "line": first.strip()}
    return found


def _what(error: Exception, timeout: int | None) -> dict:
    """The error in one line, and whether the chapter says that it was asked for something impossible."""
    if isinstance(error, papermill.PapermillExecutionError):
        text = " ".join(f"{error.ename}: {error.evalue}".split())[:400]
        return {"error": text, "usage": error.ename == "UsageError"}
    if isinstance(error, CellTimeoutError):
        return {"error": f"it did not finish within {timeout} s", "usage": False}
    if isinstance(error, DeadKernelError):
        return {"error": "the kernel died (a crash, or out of memory)", "usage": False}
    return {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400], "usage": False}


if __name__ == "__main__":
    main()
