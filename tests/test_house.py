"""The rules that keep the core small and the imports pointing one way; ``pytest -s`` prints the sizes."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

import musicgen

PACKAGE = Path(musicgen.__file__).parent
SOURCES = {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
CORE = {"piano_roll", "midi", "dataset", "attention", "model", "outputs", "training", "checkpoint", "generation"}
CORE_CODE, CORE_RAW, FILE_RAW, FUNCTION_CODE, FUNCTION_MEDIAN = 1200, 2000, 300, 40, 8

# What each part may import of ours, besides itself.
ALLOWED = {
    "support": set(),
    **{module: CORE | {"support"} for module in CORE},
    "corpora": CORE | {"support"},
    "evaluation": CORE | {"support"},
    "scaling": CORE | {"support"},
    "lab": CORE | {"support", "corpora", "evaluation"},
}
# Where each dependency may be imported.
DOORS = {
    "mido": "midi",
    "safetensors": "checkpoint",
    "music21": "corpora",
    "pooch": "corpora",
    "matplotlib": "lab",
    "PIL": "lab",
    "ipywidgets": "lab",
    "anywidget": "lab",
    "pretty_midi": "lab",
    "midirenderer": "lab",
    "soundfile": "lab",
    "sklearn": "evaluation",
    "torch.distributed": "scaling",
}


def part_of(path: Path) -> str:
    """Return the subpackage of a file, or the module itself at the top level."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


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
    ("from musicgen.lab import audio", "musicgen.lab.audio"),
])  # fmt: skip
def test_every_way_to_import_is_seen(line, name):
    assert imports(line) == {name}


@pytest.mark.parametrize("part", ALLOWED)
def test_each_part_imports_only_what_it_may(part):
    assert GRAPH[part] <= ALLOWED[part]


@pytest.mark.parametrize(("package", "door"), DOORS.items())
def test_each_dependency_is_imported_in_one_place(package, door):
    users = {
        part_of(path)
        for path, source in SOURCES.items()
        if any(name == package or name.startswith(f"{package}.") for name in imports(source))
    }
    assert users <= {door}


def test_the_import_graph_is_small_and_has_no_cycle():
    graph = {part: used for part, used in GRAPH.items() if part != "__init__"}
    assert set(TopologicalSorter(graph).static_order()) >= CORE  # raises CycleError
    n_arrows = sum(map(len, graph.values()))
    print(f"\nimport graph: {len(graph)} nodes, {n_arrows} arrows")
    assert len(graph) <= 20 and n_arrows <= 80


@pytest.mark.parametrize("word", ["torchrun", "torch.distributed", "rank()", "world_size"])
def test_the_core_does_not_mention_processes(word):
    assert not [str(path) for path, source in SOURCES.items() if part_of(path) in CORE and word in source]


def prose(tree: ast.Module) -> set[int]:
    """Return the line numbers of all docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    documented = [node for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)]
    return {line for node in documented for line in range(node.body[0].lineno, node.body[0].end_lineno + 1)}


def n_code(source: str) -> int:
    """Count the lines that hold code: no docstrings, comments or blank lines."""
    quiet, lines = prose(ast.parse(source)), enumerate(source.splitlines(), 1)
    return sum(number not in quiet and bool(line.strip()) and line.strip()[0] != "#" for number, line in lines)


def function_lengths(source: str) -> dict[str, int]:
    """Return the lines of each function without its docstring."""
    tree = ast.parse(source)
    quiet = prose(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return {f.name: sum(n not in quiet for n in range(f.lineno, f.end_lineno + 1)) for f in functions}


def test_docstrings_comments_and_blank_lines_are_not_code():
    source = '"""Prose."""\n\n# why\ndef f():\n    """Prose\n    goes on."""\n    return 1  # here'
    assert n_code(source) == 2
    assert function_lengths(source) == {"f": 2}


def test_the_core_can_be_read_in_an_evening():
    core = {path.stem: source for path, source in SOURCES.items() if part_of(path) in CORE}
    code, raw = ({name: count(source) for name, source in core.items()} for count in (n_code, lambda s: s.count("\n")))
    print(f"\ncore: {sum(code.values())} lines of code, {sum(raw.values())} raw: {raw}")
    for part in sorted({part_of(path) for path in SOURCES} - CORE):
        print(
            f"{part}: {sum(n_code(source) for path, source in SOURCES.items() if part_of(path) == part)} lines of code"
        )
    assert sum(code.values()) <= CORE_CODE and sum(raw.values()) <= CORE_RAW


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_and_functions_are_short(path):
    assert SOURCES[path].count("\n") <= FILE_RAW
    assert {name: n for name, n in function_lengths(SOURCES[path]).items() if n > FUNCTION_CODE} == {}


def test_the_median_function_of_the_core_is_short():
    lengths = [n for path, s in SOURCES.items() if part_of(path) in CORE for n in function_lengths(s).values()]
    assert median(lengths) <= FUNCTION_MEDIAN


def test_the_table_of_faults_names_tests_that_exist():
    tests = Path(__file__).parent
    rows = [line.split("|")[1:-1] for line in (tests / "README.md").read_text(encoding="utf-8").splitlines()]
    named = [row[2].strip() for row in rows if len(row) == 3 and ": " in row[2]]
    assert len(named) >= 40
    for name in "; ".join(named).split("; "):
        module, begins = name.split(": ")
        assert f"\ndef test_{begins}" in (tests / f"{module}.py").read_text(encoding="utf-8"), name
