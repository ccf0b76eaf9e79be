"""The rules that keep the package small and its modules pointing one way."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import musicgen

SOURCES = {path.stem: path.read_text(encoding="utf-8") for path in Path(musicgen.__file__).parent.glob("*.py")}

DOORS = {
    "mido": "midi",
    "music21": "corpus",
    "safetensors": "checkpoint",
    "matplotlib": "plots",
    "pretty_midi": "audio",
    "midirenderer": "audio",
    "soundfile": "audio",
    "ipywidgets": "widgets",
}
FRONT_ENDS = {"__main__", "widgets"}


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


@pytest.mark.parametrize(("package", "door"), DOORS.items())
def test_each_dependency_has_one_door(package, door):
    assert {module for module in SOURCES if package in packages(module)} <= {door}


@pytest.mark.parametrize("module", ["piano_roll", "model", "files"])
def test_the_foundations_import_nothing_of_ours(module):
    assert siblings(module) == set()


def test_the_front_ends_are_imported_by_nothing():
    assert {front_end: importers(front_end) for front_end in FRONT_ENDS} == {name: set() for name in FRONT_ENDS}


def test_only_what_runs_the_network_imports_the_model():
    assert importers("model") <= {"recipe", "training", "checkpoint", "generation", "metrics"} | FRONT_ENDS


@pytest.mark.parametrize("module", ["recipe", "training"])
def test_the_trainer_knows_nothing_of_music(module):
    assert siblings(module) <= {"recipe", "model", "checkpoint", "files"}


def test_no_imports_run_in_a_circle():
    graph = {module: siblings(module) for module in SOURCES}
    assert set(TopologicalSorter(graph).static_order()) == set(SOURCES)  # raises CycleError where there is a circle


def test_the_package_can_be_read_in_an_evening():
    n_lines = {module: len(source.splitlines()) for module, source in SOURCES.items()}
    assert {module: n for module, n in n_lines.items() if n > 250} == {}
    assert sum(n_lines.values()) < 2000
