"""Full disks, files that may not grow, folders that cannot be written: one clear line, nothing lost, and on it goes."""

import errno
import os
import resource
import subprocess

import pandas as pd
import pytest
from harsh import Child, command

from lop_utils.errors import UsageError
from lop_utils.evidence import store

MIB = 2**20
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root mounts file systems")


@pytest.fixture
def disk(tmp_path):
    """A file system of 4 MiB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder):
    """Leave no byte free; returns the file that takes the space."""
    big = folder / "big"
    with big.open("wb") as file:
        try:
            while True:
                file.write(bytes(MIB))
                file.flush()
        except OSError:
            return big


def refused(tmp_path, *words):
    """Whether the command fails with exit code 1 and an error that holds the words, in a line, without a traceback."""
    output = tmp_path / "output"
    code = Child(command, output=output).code()
    text = output.read_text()
    return code == 1 and all(word in text for word in words) and "Traceback" not in text


def heard_from(work):
    """The exit code of a child and what it says, through a pipe: it may be unable to write files."""
    read, write = os.pipe()
    child = Child(work, output=f"/dev/fd/{write}")
    os.close(write)
    with open(read, encoding="utf-8") as pipe:
        text = pipe.read()
    return child.code(), text


@as_root
def test_on_a_full_disk_the_error_is_clear_and_what_was_stored_stays(grid, disk, tally, tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(disk / "results"))
    assert Child(command).code() == 0
    second = grid.paths()[1]
    second.unlink()
    second.with_suffix(".json").unlink()
    big = fill(disk)
    clear = refused(tmp_path, "no space left in", "make room, or set LOP_RESULTS", "1 reused, 1 failed")
    kept = grid.paths()[0].read_bytes() == grid.truth[0] and not grid.half_written()
    big.unlink()
    on = Child(command).code() == 0 and grid.whole()
    tally("results folder on a full disk", "detected" if clear and kept and on else "lost", (clear, kept, on))


@as_root
@pytest.mark.slow
def test_wherever_a_disk_becomes_full_nothing_is_lost(grid, disk, tally, monkeypatch):
    """The disk fills up before the n-th operation on a file of the results folder, for every n."""
    monkeypatch.setenv("LOP_RESULTS", str(disk / "results"))
    for operation in range(0, 40, 4):

        def work(operation=operation):
            filling_at(operation, disk / "results", disk)
            return command()

        code = Child(work).code()
        kept = code in (0, 1) and not grid.half_written()
        (disk / "big").unlink(missing_ok=True)
        on = Child(command).code() == 0 and grid.whole()
        outcome = "lost" if not (kept and on) else "detected" if code else "harmless"
        left = sorted(file.name for file in grid.paths()[0].parent.iterdir())
        tally("disk full before a file operation", outcome, (operation, code, kept, on, left))
        for path in grid.paths():
            path.unlink()


def filling_at(operation, folder, disk):
    """Fill the disk before this process's `operation`-th opening, renaming or removal below `folder`."""
    import sys

    seen, busy = [0], []

    def hook(event, arguments):
        if busy or event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        if any(isinstance(a, str | os.PathLike) and os.fspath(a).startswith(str(folder)) for a in arguments):
            if seen[0] == operation:
                busy.append(True)
                fill(disk)
            seen[0] += 1

    sys.addaudithook(hook)


@pytest.mark.parametrize("limit", [0, 100, 3000, MIB // 2])
def test_where_files_may_not_grow_the_error_is_clear_and_nothing_is_lost(grid, results, tally, limit):
    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        return command()

    code, text = heard_from(limited)
    clear = code == 1 and "is larger than a file in" in text and "Traceback" not in text
    kept = not grid.half_written()
    on = Child(command).code() == 0 and grid.whole()
    tally("limit on the size of files", "detected" if clear and kept and on else "lost", (clear, kept, on, text))


def test_a_folder_that_cannot_be_written_is_named_before_the_work_begins(results, tally):
    results.write_text("a file is in the way")
    worked = []
    with pytest.raises(UsageError, match=r"results.* cannot be written \(.*\); make room, or set LOP_RESULTS"):
        store.fetch("toy", 0, lambda: worked.append(1), device="cpu", modules=["lop_utils.errors"])
    tally("results folder that is none", "lost" if worked else "detected")


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_disk_that_becomes_full_at_the_very_end_is_named_and_leaves_nothing(results, tally, monkeypatch, moment):
    frame, done = pd.DataFrame({"seed": [0], "value": [1.5]}), []
    compute = lambda: done.append(1) or frame  # noqa: E731
    fetch = lambda: store.fetch("toy", 0, compute, device="cpu", modules=["lop_utils.errors"])  # noqa: E731

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, moment, full)
        with pytest.raises(UsageError, match=r"no space left in .* for .*parquet; make room, or set LOP_RESULTS"):
            fetch()
    clean = [path for path in results.rglob("*") if path.is_file()] == []
    on = fetch().fresh and not fetch().fresh and len(done) == 2
    tally("disk full when the result is written", "detected" if clean and on else "lost", (clean, on))


def test_what_a_killed_process_left_of_a_write_is_removed_by_the_next_one(results):
    path = store.place("toy", 0, "cpu")
    path.parent.mkdir(parents=True)
    left, other = path.with_name(f".{path.name}.abc.tmp"), path.with_name(".other.parquet.abc.tmp")
    for file in (left, other):
        file.write_bytes(b"half")
    frame = pd.DataFrame({"seed": [0], "value": [1.5]})
    store.fetch("toy", 0, lambda: frame, device="cpu", modules=["lop_utils.errors"])
    assert not left.exists() and other.exists()  # somebody may be writing that one


@as_root
def test_a_results_folder_that_can_only_be_read_is_read_and_named_when_written(
    grid, disk, tally, tmp_path, monkeypatch
):
    monkeypatch.setenv("LOP_RESULTS", str(disk / "results"))
    assert Child(command).code() == 0
    remount = lambda how: subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)  # noqa: E731
    remount("ro")
    try:
        read = Child(command).code() == 0 and grid.whole()
        tally("read-only results folder, read", "harmless" if read else "lost")
        remount("rw")
        grid.paths()[1].unlink()
        remount("ro")
        clear = refused(tmp_path, "cannot be written (Read-only file system)", "set LOP_RESULTS", "1 reused, 1 failed")
    finally:
        remount("rw")
    on = Child(command).code() == 0 and grid.whole()
    tally("read-only results folder, written", "detected" if clear and on else "lost", (clear, on))


@as_root
def test_a_results_folder_of_somebody_else_is_named(grid, public, tally, tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_RESULTS", str(public))
    public.chmod(0o755)

    def somebody():
        os.setgid(65534)
        os.setuid(65534)
        return command()

    code, text = heard_from(somebody)
    clear = code == 1 and "cannot be written (Permission denied)" in text and "Traceback" not in text
    on = Child(command).code() == 0 and grid.whole()
    tally("results folder of somebody else", "detected" if clear and on else "lost", (clear, on, text))
