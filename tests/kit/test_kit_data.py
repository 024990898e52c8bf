"""What `lop data` answers, and its exit codes."""

import sys
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from lop_utils.kit.cli import app
from lop_utils.streams import cache, external


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LOP_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path / "data"


def lop(*arguments):
    return CliRunner().invoke(app, ["data", *arguments])


def test_list_shows_embedded_and_fetchable_sets_with_licences_and_room():
    result = lop("list")
    assert result.exit_code == 0
    assert "MiB free" in result.stdout
    lines = {words[1]: line for line in result.stdout.splitlines() if len(words := line.split()) > 3}
    assert "embedded" in lines["digits"] and "CC BY 4.0" in lines["digits"]
    assert "not fetched" in lines["tiny_imagenet"] and "100000 + 10000 of 3 x 64 x 64" in lines["tiny_imagenet"]


def test_list_shows_what_was_fetched_and_what_is_damaged(data):
    facts = cache.Facts("cifar10", (3, 32, 32), 10, 2, 2, "licence", "citation", "here")
    images, labels = np.zeros((2, 3, 32, 32), np.uint8), np.zeros(2, np.uint8)
    cache.store(facts, [("train", images, labels), ("test", images, labels)])
    assert "fetched" in next(line for line in lop("list").stdout.splitlines() if "cifar10 " in line)
    (data / "cifar10.u8").write_bytes(b"short")
    assert "unusable" in next(line for line in lop("list").stdout.splitlines() if "cifar10 " in line)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["fetch", "imagenet"],
            "data set 'imagenet' is unknown; choose one of: mnist, fashion_mnist, cifar10",
        ),
        (["fetch", "mnist", "--from", "/nowhere"], "/nowhere is no folder; name the folder of the original files"),
    ],
)
def test_a_usage_error_is_one_line_with_the_remedy_and_exit_code_2(arguments, message):
    result = lop(*arguments)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1 and message in result.stderr


def test_without_datasets_fetch_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    result = lop("fetch", "mnist")
    assert result.exit_code == 2 and "pip install 'lop-book[data]'" in result.stderr


def test_fetch_from_a_folder_says_where_it_is_and_under_which_terms(tmp_path, data, monkeypatch):
    entry = external.EXTERNAL["cifar100"]
    facts = replace(entry.facts, train=3, test=3)
    monkeypatch.setitem(external.EXTERNAL, "cifar100", replace(entry, facts=facts, md5={}))
    for name in ("train", "test"):
        (tmp_path / f"{name}.bin").write_bytes(bytes(3 * 3074))
    result = lop("fetch", "cifar100", "--from", str(tmp_path))
    assert result.exit_code == 0
    assert f"cifar100 is ready: {data / 'cifar100.u8'}" in result.stdout
    assert "decoding ..." in result.stdout
    assert "licence: none stated by its authors; please cite Krizhevsky 2009" in result.stdout
