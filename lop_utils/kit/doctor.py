"""What this machine has and lacks for running and building the book, each with its remedy."""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
import torch
from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from lop_utils.device import resolve
from lop_utils.errors import UsageError
from lop_utils.evidence.paths import book_root, results_root
from lop_utils.evidence.provenance import LIBRARIES
from lop_utils.kit.data_commands import free_space
from lop_utils.kit.running import environment
from lop_utils.kit.site import check_jupyter_book
from lop_utils.kit.worker import KERNEL
from lop_utils.training.cores import cores

OK, NOTE, WRONG = "ok", "note", "wrong"
_INSTALL = "run: pip install -e . -c constraints.txt"
_FULL = "call torch.set_float32_matmul_precision('highest') to compare with recorded results"
_GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `state`: ok, note (works, but know it) or wrong (a run would break; `remedy` helps)."""

    what: str
    state: str
    detail: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Every finding, in the order in which a user would repair things."""
    yield _python()
    yield _book()
    yield from _requirements()
    yield _pins()
    yield _jupyter_book()
    yield _device()
    yield _precision()
    yield _determinism()
    yield _threads()
    yield _memory()
    yield from _results()
    yield _kernel()
    yield _chromium()


def _python() -> Finding:
    return Finding("python", OK, f"{platform.python_version()} at {sys.executable}")


def _book() -> Finding:
    try:
        home = book_root()
    except UsageError as error:
        return Finding("book", WRONG, error.problem, error.remedy)
    if home is None:
        return Finding("book", WRONG, "no _toc.yml here or above", "go to the book's folder, or set LOP_BOOK to it")
    return Finding("book", OK, str(home))


def _installed(name: str) -> Version | None:
    try:
        return Version(metadata.version(name))
    except (metadata.PackageNotFoundError, InvalidVersion):
        return None


def _requirements() -> Iterator[Finding]:
    """Dependencies of this package that are absent or too old."""
    try:
        lines = metadata.requires("lop-book") or []
    except metadata.PackageNotFoundError:
        yield Finding("packages", NOTE, "lop-book is not installed, only importable", _INSTALL)
        return
    wrong = 0
    for need in (Requirement(line) for line in lines):
        if need.marker and not need.marker.evaluate({"extra": ""}):
            continue
        have = _installed(need.name)
        if have is None or not need.specifier.contains(have, prereleases=True):
            wrong += 1
            yield Finding(need.name, WRONG, f"{have or 'absent'}, but {need.specifier} is needed", _INSTALL)
    if not wrong:
        yield Finding("packages", OK, "every dependency is there")


def pinned(constraints: Path) -> dict[str, str]:
    """Package -> version of the `name==version` lines of a constraints file."""
    lines = (line.split("#")[0].split(";")[0].strip() for line in constraints.read_text(encoding="utf-8").splitlines())
    return {name.strip(): version.strip() for name, _, version in (line.partition("==") for line in lines) if version}


def _pins() -> Finding:
    """Whether the libraries that results depend on have the versions with which the book is checked."""
    home = book_root() if _book().state == OK else None
    if home is None or not (home / "constraints.txt").exists():
        return Finding("versions", NOTE, "no constraints.txt to compare with")
    pins = pinned(home / "constraints.txt")
    differ = []
    for name in LIBRARIES:
        have = _installed(name)
        if name in pins and have is not None and have.public != Version(pins[name]).public:
            differ.append(f"{name} {have} (checked with {pins[name]})")
    if differ:
        return Finding("versions", NOTE, f"results may differ: {', '.join(differ)}", _INSTALL)
    return Finding("versions", OK, f"as in constraints.txt (torch {torch.__version__})")


def _jupyter_book() -> Finding:
    try:
        check_jupyter_book()
    except UsageError as error:
        return Finding("jupyter-book", WRONG, error.problem, error.remedy)
    return Finding("jupyter-book", OK, metadata.version("jupyter-book"))


def _device() -> Finding:
    kind = resolve("auto").type
    if kind == "cuda":
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Finding("device", OK, f"cuda: {name}, {free / _GIB:.1f} of {total / _GIB:.1f} GiB free; auto prefers it")
    if kind == "mps":
        return Finding("device", OK, "mps: there is no cuda device, and auto prefers mps to cpu")
    built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
    return Finding("device", OK, f"cpu: auto finds no cuda device ({built}) and no mps device")


def _precision() -> Finding:
    """Which arithmetic float32 products get, as torch is set here; the results of chapters belong to full precision."""
    matmul = torch.get_float32_matmul_precision()
    if resolve("auto").type != "cuda":
        detail = f"float32 products are {matmul}; TF32 and bf16 would matter on CUDA only"
        return Finding("precision", OK if matmul == "highest" else NOTE, detail, "" if matmul == "highest" else _FULL)
    bf16 = "has" if torch.cuda.is_bf16_supported() else "lacks"
    convolutions = "on" if torch.backends.cudnn.allow_tf32 else "off"
    detail = f"float32 products are {matmul}, TF32 in convolutions is {convolutions}; the device {bf16} bf16"
    return Finding("precision", OK if matmul == "highest" else NOTE, detail, "" if matmul == "highest" else _FULL)


def _determinism() -> Finding:
    """Whether torch is set to refuse algorithms whose results differ from run to run."""
    asked = "only" if torch.are_deterministic_algorithms_enabled() else "also other than"
    tuned = "tried out (benchmark)" if torch.backends.cudnn.benchmark else "not tried out"
    if resolve("auto").type == "cpu":
        return Finding("determinism", OK, f"cpu: the same seed gives the same bytes; {asked} deterministic algorithms")
    detail = (
        f"{asked} deterministic algorithms, cuDNN's are {tuned}: results of one seed may differ in their last digits"
    )
    return Finding("determinism", NOTE if asked != "only" else OK, detail)


def _threads() -> Finding:
    set_ = os.environ.get("OMP_NUM_THREADS")
    limit = f"OMP_NUM_THREADS={set_} limits every chapter" if set_ else "shared out among chapters that run together"
    one = "a chapter on the cpu uses 1 unless its profile is paper"
    return Finding("threads", OK, f"{cores()} cores, torch would use {torch.get_num_threads()}; {one}; {limit}")


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / _GIB:.1f} of {memory.total / _GIB:.1f} GiB free"
    if memory.available < _GIB:
        return Finding("memory", WRONG, detail, "close other programs; a chapter needs about 1 GiB")
    return Finding("memory", OK, detail)


def _results() -> Iterator[Finding]:
    """Whether results can be written, and how much of them."""
    try:
        folder = results_root()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, UsageError) as error:
        yield Finding("results", WRONG, f"cannot write: {error}", "set LOP_RESULTS to a folder that can be written")
        return
    yield Finding("results", OK, str(folder))
    free = shutil.disk_usage(folder).free
    state = WRONG if free < 0.2 * _GIB else NOTE if free < 2 * _GIB else OK
    remedy = "" if state == OK else "free some space, or set LOP_RESULTS to another disk"
    yield Finding("disk", state, f"{free / _GIB:.1f} GiB free", remedy)
    data, room = free_space()
    yield Finding("data", OK, f"fetched data sets are kept in {data}, {room / _GIB:.1f} GiB free")


def _kernel() -> Finding:
    """Start the kernel that chapters run in and ask which Python it is."""
    if _book().state != OK:
        return Finding("kernel", NOTE, "not looked at without a book")
    code = (
        "from jupyter_client.manager import start_new_kernel as start\n"
        f"manager, client = start(startup_timeout=60, kernel_name={KERNEL!r})\n"
        "client.execute_interactive('import sys; print(sys.executable)', timeout=30)\n"
        "client.stop_channels(); manager.shutdown_kernel(now=True)"
    )
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(command, env=environment(1), capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        return Finding("kernel", WRONG, "it does not start within two minutes", _INSTALL)
    answer = done.stdout.strip()
    if done.returncode or not answer:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return Finding("kernel", WRONG, f"it does not start: {last}", _INSTALL)
    if Path(answer).absolute().parent != Path(sys.executable).absolute().parent:
        remedy = f"run: {sys.executable} -m ipykernel install --sys-prefix"
        return Finding("kernel", WRONG, f"it runs another Python: {answer}", remedy)
    return Finding("kernel", OK, f"{KERNEL} starts and is this Python")


def _chromium() -> Finding:
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found:
        return Finding("chromium", OK, found)
    return Finding("chromium", NOTE, "absent: the browser tests are skipped", "install chromium and chromedriver")
