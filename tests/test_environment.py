"""pyproject.toml is the one list of dependencies: complete, pinned, with reasons, and environment.yml installs it."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CONDA = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
RUNTIME = [Requirement(line) for line in PROJECT["dependencies"]]
TEST, SOAK, EXPORT, BENCH = (
    [Requirement(line) for line in PROJECT["optional-dependencies"][extra]]
    for extra in ("test", "soak", "export", "bench")
)


def test_conda_adds_only_python_and_pip_to_what_pyproject_lists():
    python, pip, from_pip = CONDA["dependencies"]
    assert (CONDA["name"], pip) == (PROJECT["name"], "pip")
    assert from_pip == {"pip": ["-e .[test]"]}, "the install of the Makefile"
    name, _, release = python.partition("=")
    assert name == "python" and SpecifierSet(PROJECT["requires-python"]).contains(release)


def test_the_makefile_installs_what_conda_installs():
    assert "--editable '.[test]'" in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("file", "entry", "n_entries"),
    [
        ("pyproject.toml", r'^    "[\w-]+==', len(RUNTIME + TEST + SOAK + EXPORT + BENCH)),
        ("environment.yml", r"^ +- (?!pip:)", len(CONDA["channels"]) + len(CONDA["dependencies"])),
    ],
)
def test_every_dependency_has_a_reason_beside_it(file, entry, n_entries):
    entries = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if re.match(entry, line)]
    assert len(entries) == n_entries
    assert [line for line in entries if not re.search(r"  # \w+ \w+", line)] == []


@pytest.mark.parametrize("requirement", RUNTIME + TEST, ids=lambda requirement: requirement.name)
def test_the_pinned_version_is_the_installed_one(requirement):
    (pin,) = requirement.specifier
    assert pin.operator == "=="
    if requirement.marker is None or requirement.marker.evaluate():
        assert version(requirement.name).split("+")[0] == pin.version  # 2.13.0+cpu is a build of 2.13.0


@pytest.mark.parametrize(("folder", "listed"), [("musicgen", RUNTIME + EXPORT), ("tests", RUNTIME + TEST)])
def test_everything_imported_is_listed(folder, listed):
    paths = list((ROOT / folder).rglob("*.py"))
    ours = {"musicgen"} | {path.stem for path in [*paths, *(ROOT / "benchmarks").glob("*.py")]}
    names = set().union(*(imported_packages(path) for path in paths)) - ours - set(sys.stdlib_module_names)
    distributions = packages_distributions()
    owners = {name: distributions.get(name, [name])[0] for name in names}
    known = {canonicalize_name(requirement.name) for requirement in listed}
    assert {name: owner for name, owner in owners.items() if canonicalize_name(owner) not in known} == {}
    assert names, "an empty folder would pass"


def imported_packages(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    modules = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    modules += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {module.split(".")[0] for module in modules}


def test_loading_a_checkpoint_does_not_wait_for_torchs_compiler():
    program = """
import sys
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
load_checkpoint(SHIPPED_CHECKPOINT)
sys.exit("torch._dynamo" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
