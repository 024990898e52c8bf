"""What the workflows and the whole check name exists: commands with their options, make targets, files, extras."""

import re
import shlex

import pytest
import typer
import yaml
from project_files import ROOT, make_targets, project

from lop_utils.kit.cli import app

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
LOP = typer.main.get_command(app)


def lines(path) -> list[str]:
    """The shell lines of a workflow's steps, or of a script."""
    text = path.read_text()
    if path.suffix == ".yml":
        jobs = yaml.safe_load(text)["jobs"].values()
        text = "\n".join(step.get("run", "") for job in jobs for step in job["steps"])
    return [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def calls(line: str) -> list[list[str]]:
    """Words after each `lop` of a line, up to what ends the command."""
    found = re.findall(r"(?:^|[\s/])lop ((?:[^|&;\n])*)", line.split(" # ")[0])
    return [shlex.split(words) for words in found]


def wrong(words: list[str]) -> str:
    """Why the command line would refuse the command, or nothing; its values are not looked at."""
    command = LOP.commands.get(words[0])
    if command is None:
        return f"lop has no command {words[0]}"
    values = ["x" if word.startswith("$") else word for word in words[1:]]
    try:
        command.make_context(words[0], values)
    except Exception as error:  # typer brings its own copy of click, whose errors have no public name
        return str(error) or type(error).__name__
    return ""


@pytest.mark.parametrize("path", [*WORKFLOWS, ROOT / ".ci/run"], ids=lambda path: path.name)
def test_every_command_and_target_exists(path):
    found = [words for line in lines(path) for words in calls(line)]
    assert [problem for words in found if (problem := wrong(words))] == []
    targets = set(re.findall(r"\bmake ([a-z-]+)", "\n".join(lines(path))))
    assert targets <= make_targets()
    assert found or targets or ".ci/run" in lines(path)


def test_a_command_or_option_that_does_not_exist_is_noticed():
    assert "no command chekc" in wrong(["chekc"])
    assert "--profil" in wrong(["check", "--profil", "laptop"])
    assert wrong(["check", "--profile", "$PROFILE"]) == ""


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_extras_that_are_installed_and_scripts_that_are_run_exist(path):
    text = "\n".join(lines(path))
    for extra in re.findall(r"\.\[(\w+)\]", text):
        assert extra in project()["optional-dependencies"]
    for script in re.findall(r"(?:^|\s)(\.ci/[\w.]+)", text):
        assert (ROOT / script).is_file()


def test_the_weekly_run_takes_the_newest_versions_judges_them_and_keeps_the_ledger():
    (path,) = [path for path in WORKFLOWS if path.name == "weekly.yml"]
    text, content = "\n".join(lines(path)), yaml.safe_load(path.read_text())
    assert "constraints" not in text and "-c " not in text and "make " not in text  # make installs what is pinned
    assert "--upgrade-strategy eager" in text
    order = [words[0] for line in lines(path) for words in calls(line)]
    assert order == ["doctor", "run", "build", "check", "ledger"]
    assert all("laptop" in words for line in lines(path) for words in calls(line) if words[0] != "doctor")
    (cron,) = content[True]["schedule"]  # YAML reads the key `on` as a truth value
    *_, day, month, weekday = cron["cron"].split()
    assert (day, month) == ("*", "*") and weekday.isdigit()
    last = content["jobs"]["newest"]["steps"][-1]
    (export,) = [words[-1] for line in lines(path) for words in calls(line) if words[0] == "ledger"]
    assert last["if"] == "always()" and export in last["with"]["path"].split()
