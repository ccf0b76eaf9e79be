"""The rules of the layout: imports point one way, and each dependency has one door."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import musicgen

PACKAGE = Path(musicgen.__file__).parent
SOURCES = {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
ABOVE = {"dataset", "training", "generation", "corpora", "evaluation", "lab", "scaling", "commands", "__main__"}

# What each part does not import.
FORBIDDEN = {
    "utils": ABOVE | {"beats", "piano_roll", "midi", "model"},
    "beats": ABOVE | {"piano_roll", "midi", "model"},
    "piano_roll": ABOVE | {"midi", "model"},
    "beat_candidates": ABOVE | {"midi", "model"},
    "home": ABOVE | {"midi", "model"},
    "midi": ABOVE | {"model"},
    "model": ABOVE | {"midi"},
    "dataset": ABOVE - {"dataset"} | {"model"},
    "generation": ABOVE - {"generation"},
    "training": {"generation", "corpora", "lab", "scaling", "commands", "__main__"},
    "corpora": {"training", "evaluation", "lab", "scaling", "commands", "__main__"},
    "evaluation": {"corpora", "lab", "scaling", "commands", "__main__"},
    "scaling": {"corpora", "evaluation", "lab", "commands", "__main__"},
    "lab": {"scaling", "commands", "__main__"},
}
# Where each dependency may be imported.
DOORS = {
    "mido": "midi",
    "safetensors": "training",
    "music21": "corpora",
    "pooch": "corpora dataset",  # downloads; where caches belong
    "matplotlib": "lab",
    "PIL": "lab",
    "ipywidgets": "lab",
    "anywidget": "lab",
    "pretty_midi": "lab",
    "midirenderer": "lab",
    "soundfile": "lab",
    "onnx": "generation",
    "onnxruntime": "generation",
    "sklearn": "evaluation",
    "torch.distributed": "scaling",
}


def part_of(path: Path) -> str:
    """Return the subpackage of a file, or the module itself at the top level."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


@cache
def imports(source: str) -> set[str]:
    """Name every import of a module by its full path, also those inside functions."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def siblings(source: str) -> set[str]:
    """Return the parts of musicgen that a module imports."""
    return {name.split(".")[1] for name in imports(source) if name.startswith("musicgen.")}


GRAPH = {}
for _path, _source in SOURCES.items():
    GRAPH.setdefault(part_of(_path), set()).update(siblings(_source) - {part_of(_path)})


@pytest.mark.parametrize(("line", "name"), [
    ("import mido.midifiles as m", "mido.midifiles"),
    ("from mido import MidiFile", "mido.MidiFile"),
    ("def lazy():\n    import mido", "mido"),
    ("from musicgen.lab.player import sound", "musicgen.lab.player.sound"),
])  # fmt: skip
def test_every_way_to_import_is_seen(line, name):
    assert imports(line) == {name}


@pytest.mark.parametrize("part", FORBIDDEN)
def test_no_part_imports_what_is_above_it(part):
    assert GRAPH[part] & FORBIDDEN[part] == set()


@pytest.mark.parametrize(("package", "door"), DOORS.items())
def test_each_dependency_is_imported_where_it_belongs(package, door):
    users = {
        part_of(path)
        for path, source in SOURCES.items()
        if any(name == package or name.startswith(f"{package}.") for name in imports(source))
    }
    assert users <= set(door.split())


def test_the_map_of_the_package_names_every_module_below_what_it_imports():
    listed = [line for line in musicgen.__doc__.splitlines() if line.startswith("    ")]
    parts = [line.split()[0] for line in listed if line[4] != " "]
    for n, part in enumerate(parts):
        assert GRAPH[part] <= {"utils", *parts[:n]}, part
    modules = [line.split()[0] for line in listed if line[4] == " "]
    divided = ("midi", "model", "evaluation", "training", "generation", "corpora")
    expected = [path.stem for path in SOURCES if part_of(path) in divided and path.stem != "__init__"]
    expected += {path.parts[1] for path in SOURCES if part_of(path) == "lab" and len(path.parts) > 2}
    assert sorted(modules) == sorted(expected)
    assert set(parts) == GRAPH.keys() - {"utils", "checkpoint", "__init__", "__main__"}


def test_the_import_graph_has_no_cycle():
    imports_of = {part: used for part, used in GRAPH.items() if part != "__init__"}
    order = list(TopologicalSorter(imports_of).static_order())  # a cycle is a CycleError
    assert order.index("piano_roll") < order.index("midi") < order.index("dataset") < order.index("training")


@pytest.mark.parametrize("word", ["torchrun", "torch.distributed", "rank()", "world_size"])
def test_only_scaling_and_the_commands_mention_processes(word):
    assert not [
        str(path) for path, source in SOURCES.items() if part_of(path) not in ("scaling", "commands") and word in source
    ]


def test_the_table_of_faults_names_tests_that_exist():
    tests = Path(__file__).parent
    rows = [line.split("|")[1:-1] for line in (tests / "README.md").read_text(encoding="utf-8").splitlines()]
    named = [row[2].strip() for row in rows if len(row) == 3 and ": " in row[2]]
    assert len(named) >= 40
    for name in "; ".join(named).split("; "):
        module, begins = name.split(": ")
        assert f"\ndef test_{begins}" in next(tests.rglob(f"{module}.py")).read_text(encoding="utf-8"), name
