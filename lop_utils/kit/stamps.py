"""When an executed chapter may be reused: its stamp holds all that its outputs follow from.

<results>/<profile>/notebooks/<chapter>.ipynb         the executed notebook
<results>/<profile>/notebooks/<chapter>.stamp.json    what it was made from, its checksum, the records it left
<results>/<profile>/notebooks/<chapter>.failed.ipynb  how far the last run came, if it failed
"""

import contextlib
import copy
from collections.abc import Mapping
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode, from_dict

from lop_utils.evidence.claims import Claim, load_claims
from lop_utils.evidence.files import Unusable, seal, sha256, unseal, write_atomically
from lop_utils.evidence.paths import results_root
from lop_utils.evidence.provenance import digest, imports_of_code, library_versions, source_closure
from lop_utils.kit.pages import LEDGER, Page, read

FORMAT = 1
INJECTED = "injected-parameters"  # papermill's tag on the cell that it adds


def folder(profile: str) -> Path:
    """Where the executed chapters of a profile are."""
    return results_root() / profile / "notebooks"


def executed(page: Page, profile: str) -> Path:
    """Path of the executed notebook."""
    return folder(profile) / f"{page.name}.ipynb"


def stamp_of(page: Page, profile: str) -> Path:
    """Path of the stamp beside the executed notebook."""
    return folder(profile) / f"{page.name}.stamp.json"


def failed(page: Page, profile: str) -> Path:
    """Path of the partial notebook that a failed run leaves."""
    return folder(profile) / f"{page.name}.failed.ipynb"


def claims_of(page: Page) -> list[Claim]:
    """The claims that a chapter judges; all of them for the ledger, which shows them."""
    return [claim for claim in load_claims().values() if page.name in (LEDGER, claim.chapter)]


def records(page: Page, profile: str) -> dict[str, tuple[str, int]]:
    """(sha256, time of writing in ns) of each record that exists among the chapter's claims."""
    found = {}
    for claim in claims_of(page):
        path = results_root() / profile / "claims" / f"{claim.id}.json"
        with contextlib.suppress(FileNotFoundError):
            found[claim.id] = sha256(path.read_bytes()), path.stat().st_mtime_ns
    return found


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The chapter's own code cells, in order."""
    return [c for c in notebook.cells if c.cell_type == "code" and INJECTED not in c.metadata.get("tags", [])]


def _code(notebook: NotebookNode) -> list:
    return [[cell.source, sorted(cell.metadata.get("tags", []))] for cell in code_cells(notebook)]


def imports(notebook: NotebookNode) -> set[str]:
    """Modules of this package that the code cells import; shell lines and magics are understood."""
    manager, found = TransformerManager(), set()
    for cell in code_cells(notebook):
        source = cell.source.partition("\n")[2] if cell.source.startswith("%%") else cell.source
        with contextlib.suppress(SyntaxError):  # such a cell fails when it runs, and a failed run has no stamp
            found |= imports_of_code(manager.transform_cell(source))
    return found


def dependencies(page: Page, notebook: NotebookNode, parameters: Mapping[str, object]) -> dict:
    """What the outputs follow from: code, package sources, parameters (with the device's type), versions, criteria."""
    return {
        "format": FORMAT,
        "code": digest(_code(notebook)),
        "sources": source_closure(imports(notebook)),
        "parameters": dict(parameters),
        "versions": library_versions(),
        "claims": digest(claims_of(page)),
    }


def write(page: Page, profile: str, *, made_from: dict, left: Mapping[str, str], seconds: float) -> None:
    """Stamp the executed notebook: `left` are the records (claim -> sha256) that count with it. Written atomically."""
    content = {
        "made_from": made_from,
        "notebook": sha256(executed(page, profile).read_bytes()),
        "records": dict(left),
        "seconds": round(seconds, 2),
    }
    write_atomically(stamp_of(page, profile), seal(content))


def cold_seconds(page: Page, profile: str, notebook: NotebookNode, seconds: float) -> float:
    """What the chapter takes, as far as it was measured: `seconds` of its last run, executed as `notebook`.

    A run that found results stored did not compute them. If the run before, whose stamp is still there, took longer,
    its time stands.
    """
    before = load(page, profile)
    return max(seconds, before["seconds"]) if before and _found_stored(notebook) else seconds


def _found_stored(notebook: NotebookNode) -> bool:
    """Whether the chapter says, at its end, that it found results stored, see `Chapter.provenance`."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    glued = [o for o in outputs if o.get("metadata", {}).get("scrapbook", {}).get("name") == "found_stored"]
    return any(set(o.data.values()) != {"0"} for o in glued)


def load(page: Page, profile: str) -> dict | None:
    """The chapter's stamp, or None where there is no executed notebook with a whole one."""
    path = stamp_of(page, profile)
    if not path.exists() or not executed(page, profile).exists():
        return None
    with contextlib.suppress(Unusable):
        return unseal(path)
    return None


def why_stale(page: Page, profile: str, made_from: dict | None = None) -> str:
    """Why the executed notebook must not be reused, in words; empty if it may be.

    It is compared with `made_from`, or with the present sources under the parameters of its own run.
    """
    stamp = load(page, profile)
    if stamp is None:
        return "not run yet" if not executed(page, profile).exists() else "its stamp is missing or damaged"
    if made_from is None:
        made_from = dependencies(page, read(page.path), stamp["made_from"].get("parameters", {}))
    if sha256(executed(page, profile).read_bytes()) != stamp["notebook"]:
        return "the executed notebook was edited"
    return _difference(stamp["made_from"], made_from) or _lost(stamp["records"], page, profile)


def _difference(old: dict, new: dict) -> str:
    """The first kind of change between two `dependencies`, with what changed."""
    if old.get("format") != new["format"]:
        return "made by another version of the kit"
    if old["code"] != new["code"]:
        return "its code cells changed"
    for key, words in (("sources", "{} changed"), ("parameters", "{} differs"), ("versions", "{} has another version")):
        names = [k for k in sorted({*old[key], *new[key]}) if old[key].get(k) != new[key].get(k)]
        if names:
            shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
            return words.format(shown)
    return "its claims changed" if old["claims"] != new["claims"] else ""


def _lost(left: Mapping[str, str], page: Page, profile: str) -> str:
    """The first record that is not as the run left it; for the ledger also one that it has not read."""
    present = {name: sha for name, (sha, _) in records(page, profile).items()}
    if page.name == LEDGER and present.keys() - left.keys():
        return f"the record of {min(present.keys() - left.keys())} is new"
    for name, sha in left.items():
        if present.get(name) != sha:
            return f"the record of {name} is {'changed' if name in present else 'missing'}"
    return ""


def merge(source: NotebookNode, done: NotebookNode) -> NotebookNode | None:
    """The present source with the outputs of an executed notebook; None if their code cells differ.

    Text can thus be edited without another run. Papermill's parameter cell is kept where it was.
    """
    if _code(source) != _code(done):
        return None
    result = copy.deepcopy(source)
    for cell, ran in zip(code_cells(result), code_cells(done), strict=True):
        cell.outputs, cell.execution_count = copy.deepcopy(ran.outputs), ran.execution_count
    for injected in (c for c in done.cells if INJECTED in c.metadata.get("tags", [])):
        tagged = [i for i, c in enumerate(result.cells) if "parameters" in c.metadata.get("tags", [])]
        result.cells.insert(tagged[0] + 1 if tagged else 0, copy.deepcopy(injected))
    result.metadata = from_dict({**copy.deepcopy(done.metadata), **result.metadata})
    return result
