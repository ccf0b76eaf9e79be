"""The rules that keep the package small and its modules pointing one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import musicgen

SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in Path(musicgen.__file__).parent.glob("*.py")}

# What a person meets: they may import all, and each other, but nothing else imports them.
FRONT_ENDS = {"__main__", "corpus_view", "forms", "generation_panel", "keyboard", "panel", "training_view"}
DOORS = {
    "mido": {"midi"},
    "filelock": {"resume", "shards"},
    "psutil": {"limits"},
    "music21": {"corpus"},
    "safetensors": {"checkpoint"},
    "matplotlib": {"plots", "charts", "architecture"},
    "PIL": {"plots"},
    "pretty_midi": {"audio"},
    "midirenderer": {"audio"},
    "soundfile": {"audio"},
    "ipywidgets": FRONT_ENDS - {"__main__"},
    "anywidget": {"keyboard"},
}


def imports(source: str) -> set[str]:
    """Name every import in a module of ours by its full path, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = ["musicgen"] * (node.level > 0) + [node.module] * (node.module is not None)
            found |= {".".join([*parts, alias.name]) for alias in node.names}
    return found


def packages(module: str) -> set[str]:
    return {name.split(".")[0] for name in imports(SOURCES[module])}


def siblings(module: str) -> set[str]:
    parts = [name.split(".") for name in imports(SOURCES[module])]
    return {name[1] for name in parts if name[0] == "musicgen" and name[1:] and name[1] in SOURCES}


def importers(module: str) -> set[str]:
    return {other for other in SOURCES if module in siblings(other)}


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("import mido.midifiles as m", "mido.midifiles"),
        ("from mido import MidiFile", "mido.MidiFile"),
        ("def lazy():\n    import mido", "mido"),
        ("from musicgen import midi", "musicgen.midi"),
        ("from . import midi", "musicgen.midi"),
        ("from .midi import read_midi", "musicgen.midi.read_midi"),
    ],
)
def test_every_way_to_import_is_seen(line, name):
    assert imports(line) == {name}


@pytest.mark.parametrize(("package", "doors"), DOORS.items())
def test_each_dependency_comes_in_by_its_doors_alone(package, doors):
    assert {module for module in SOURCES if package in packages(module)} <= doors


FOUNDATIONS = ["piano_roll", "linear", "files", "settings", "limits", "resume", "distributed"]


@pytest.mark.parametrize("module", FOUNDATIONS)
def test_the_foundations_import_nothing_of_ours(module):
    assert siblings(module) == set()


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        ("attention", {"linear"}),
        ("keys", {"linear"}),
        ("model", {"attention", "keys", "settings"}),
        ("recipe", {"keys", "model", "settings"}),
        ("metrics", {"keys", "model", "piano_roll", "recipe"}),
        ("stepping", {"attention", "keys", "model"}),
        ("generation", {"keys", "model", "piano_roll", "settings", "stepping"}),
    ],
)
def test_what_runs_the_network_imports_no_more_than_it_needs(module, wanted):
    assert siblings(module) == wanted


def test_the_front_ends_are_imported_by_nothing():
    assert {name: importers(name) - FRONT_ENDS for name in FRONT_ENDS} == {name: set() for name in FRONT_ENDS}
    assert importers("__main__") == set()


def test_only_what_runs_the_network_imports_the_model():
    assert importers("attention") == {"model", "stepping"}
    assert importers("keys") == {"model", "recipe", "stepping", "generation", "metrics"}
    runners = {
        "recipe",
        "training",
        "checkpoint",
        "stepping",
        "generation",
        "metrics",
        "commands",
        "attention_view",
        "takes",
    }
    assert importers("model") <= runners | FRONT_ENDS


@pytest.mark.parametrize("module", ["recipe", "resume", "training"])
def test_the_trainer_knows_nothing_of_music(module):
    assert siblings(module) <= {"recipe", "resume", "model", "keys", "checkpoint", "distributed", "files", "settings"}


def test_no_imports_run_in_a_circle():
    graph = {module: siblings(module) for module in SOURCES}
    assert set(TopologicalSorter(graph).static_order()) == set(SOURCES)  # raises CycleError where there is a circle


def n_lines_of_code(source: str) -> int:
    """Count the lines that hold code: no docstrings, comments or blank lines."""
    tree = ast.parse(source)
    documented = [node for node in ast.walk(tree) if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))]
    prose = {
        line
        for node in documented
        if ast.get_docstring(node)
        for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)
    }
    lines = enumerate(source.splitlines(), 1)
    return sum(number not in prose and bool(line.strip()) and line.strip()[0] != "#" for number, line in lines)


def test_docstrings_comments_and_blank_lines_are_not_code():
    assert n_lines_of_code('"""Prose."""\n\n# why\ndef f():\n    """Prose\n    goes on."""\n    return 1  # here') == 2


def test_the_package_can_be_read_in_an_evening():
    assert {module: n for module, source in SOURCES.items() if (n := len(source.splitlines())) > 250} == {}
    assert sum(map(n_lines_of_code, SOURCES.values())) < 3720


def test_the_table_of_faults_names_tests_that_exist():
    tests = Path(__file__).parent
    rows = [line.split("|")[1:-1] for line in (tests / "README.md").read_text(encoding="utf-8").splitlines()]
    named = [row[2].strip() for row in rows if len(row) == 3 and ": " in row[2]]
    assert len(named) >= 40
    for name in "; ".join(named).split("; "):
        module, begins = name.split(": ")
        assert f"\ndef test_{begins}" in (tests / f"{module}.py").read_text(encoding="utf-8"), name
