import subprocess
import sys
from importlib.metadata import packages_distributions

import pytest
from floors import imported
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from project_files import ROOT, by_name, constraints, environment, extras, project


def test_the_conda_environment_names_the_dependencies_of_pyproject_and_no_others():
    declared = by_name(project()["dependencies"])
    assert set(environment()) == set(declared)


def test_the_conda_environment_has_the_bounds_of_pyproject():
    declared = by_name(project()["dependencies"])
    assert {name: str(r.specifier) for name, r in environment().items()} == {
        name: str(r.specifier) for name, r in declared.items()
    }


def test_every_constraint_is_one_exact_public_version():
    for requirement in constraints().values():
        (pin,) = requirement.specifier
        assert pin.operator == "==" and "*" not in pin.version, str(requirement)
        assert Version(pin.version).local is None, str(requirement)
        assert not requirement.url and not requirement.marker


def test_the_constraints_pin_every_dependency_within_its_bounds():
    pins = constraints()
    for name, requirement in (by_name(project()["dependencies"]) | extras()).items():
        assert name in pins, f"{name} has no pin"
        (pin,) = pins[name].specifier
        assert requirement.specifier.contains(pin.version, prereleases=True), f"{requirement} but {pins[name]}"


def test_every_dependency_has_a_lower_bound_and_jupyter_book_stays_below_2():
    declared = by_name(project()["dependencies"]) | extras()
    for requirement in declared.values():
        assert any(part.operator == ">=" for part in requirement.specifier), str(requirement)
    assert not declared["jupyter-book"].specifier.contains("2.0")


def test_the_oldest_versions_are_the_lower_bounds_and_older_than_the_pins():
    script = [sys.executable, ROOT / ".ci/oldest.py"]
    printed = subprocess.run(script, capture_output=True, text=True, check=True).stdout.splitlines()
    oldest = {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in printed)}
    assert set(oldest) == set(by_name(project()["dependencies"])) | {
        canonicalize_name(Requirement(text).name) for text in project()["optional-dependencies"]["dev"]
    }
    for name, version in oldest.items():
        (pin,) = constraints()[name].specifier
        assert version <= Version(pin.version), name
        assert any(
            part.version == str(version) for part in (by_name(project()["dependencies"]) | extras())[name].specifier
        )
    without = subprocess.run([*script, "torch"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert set(printed) - set(without) == {f"torch=={oldest['torch']}"}


def test_torch_is_pinned():
    assert str(constraints()["torch"].specifier) == "==2.13.0"


@pytest.mark.parametrize("extra", ["dev", "data", "cluster"])
def test_the_extras_exist(extra):
    assert project()["optional-dependencies"][extra]


def test_the_package_imports_only_what_it_declares():
    package = ROOT / "lop_utils"
    names = {name[0] for path in package.rglob("*.py") for name in imported(path, package)}
    names -= {"lop_utils", *sys.stdlib_module_names}
    declared = set(by_name(project()["dependencies"]) | extras())
    providers = packages_distributions()
    undeclared = {
        name: providers.get(name, [])
        for name in names
        if not declared & {canonicalize_name(provider) for provider in providers.get(name, [name])}
    }
    assert undeclared == {}
