"""The notebooks: their form, and that they run, also twice and with other settings.

By default they are checked as committed, and 02 is executed. MUSICGEN_RUN_NOTEBOOKS="00 05" executes these two, and
MUSICGEN_RUN_NOTEBOOKS=all all of them, with a wheel that is installed elsewhere; MUSICGEN_ORDERS=10 in ten random
orders.
"""

import ast
import importlib
import os
import random
import re
import shutil
import subprocess
import symtable
import sys
import tomllib
from pathlib import Path
from statistics import median

import course
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from raw_midi import midi_bytes, note

from musicgen.lab.course.exercises import EXERCISES
from musicgen.lab.course.exercises.functions import FunctionExercise

FOLDER = Path(__file__).parents[1] / "notebooks"
PATHS = sorted(FOLDER.glob("[0-9]*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
notebooks = pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
executed = os.environ.get("MUSICGEN_RUN_NOTEBOOKS") or "02"
run_all = executed == "all"
N_ORDERS = int(os.environ.get("MUSICGEN_ORDERS", 2 if run_all else 1))  # 10 for a release


def read(path):
    return nbformat.read(path, as_version=4)


def cells(notebook, kind):
    return [cell for cell in notebook.cells if cell.cell_type == kind]


def sources(notebook, kind):
    return [cell.source for cell in cells(notebook, kind)]


def is_live(cell):
    """Return whether a cell holds a widget, which is saved without its output."""
    return "live" in cell.metadata.get("tags", [])


def n_words(text):
    return len(re.findall(r"\w+", re.sub(r"<[^>]+>", " ", text)))


def headings(notebook, level):
    return re.findall(rf"^{'#' * level} (.+)$", "\n".join(sources(notebook, "markdown")), re.MULTILINE)


def execute(notebook, folder, environment=None):
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": folder}}).execute(env=environment)
    return notebook


FUNCTIONS = {name: each for name, each in EXERCISES.items() if isinstance(each, FunctionExercise)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_function_to_write_stands_in_its_notebook_and_is_solved(name):
    exercise, number = FUNCTIONS[name], name[:2]
    notebook = next(path for path in PATHS if path.stem.startswith(number))
    assert any(
        source.startswith(exercise.stub) and f'check("{name}", {exercise.name})' in source
        for source in sources(read(notebook), "code")
    )
    solved = sources(read(FOLDER / "solutions" / f"{number}_solutions.ipynb"), "code")
    assert any(exercise.stub in source and f'check("{name}", {exercise.name})' in source for source in solved)


def test_the_course_is_complete_and_listed():
    assert [path.stem[:2] for path in PATHS] == ["00", "01", "02", "03", "04", "05", "06", "07"]
    table = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [path.name for path in PATHS if f"({path.name})" not in table] == []


@notebooks
def test_it_is_committed_as_it_ran_from_top_to_bottom(path):
    notebook = read(path)
    nbformat.validate(notebook)
    for count, cell in enumerate(cells(notebook, "code"), 1):
        assert cell.execution_count in ((count, None) if is_live(cell) else (count,))
        assert not (is_live(cell) and cell.outputs)
    outputs = [output for cell in cells(notebook, "code") for output in cell.outputs]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert any("image/png" in output.get("data", {}) for output in outputs)


@notebooks
def test_it_is_small_and_does_not_name_the_machine_it_ran_on(path):
    assert path.stat().st_size < 1_000_000
    machine = re.compile(r"/(home|root|Users|tmp|work|usr|opt)/|https?://(localhost|127|10\.|192\.)")
    text = re.sub(r"base64,[\w+/=]+|\"image/png\": \"[\w+/=\\]+", "", path.read_text(encoding="utf-8"))
    assert machine.search(text) is None


@notebooks
def test_it_has_the_form_of_a_notebook(path):
    notebook = read(path)
    assert len(headings(notebook, 1)) == 1 and notebook.cells[0].source.startswith(f"# {path.stem[:2]} ")
    first, *questions, summary, exercises, following = headings(notebook, 2)
    assert [first, summary, exercises, following] == ["Settings", "Summary", "Exercises", "Next"]
    assert 3 <= len(questions) <= 8 and all(question.endswith("?") for question in questions)
    assert sum("FULL_RUN = False" in source for source in sources(notebook, "code")) == 1
    assert "\n".join(sources(notebook, "markdown")).count("<details>") == 5


@notebooks
def test_it_shows_first_and_explains_then_in_short_cells(path):
    notebook = read(path)
    before = notebook.cells[: next(i for i, cell in enumerate(notebook.cells) if cell.cell_type == "code")]
    assert sum(n_words(cell.source) for cell in before) <= 55
    code = sources(notebook, "code")
    assert median(len(source.splitlines()) for source in code) <= 6
    defines = (ast.FunctionDef, ast.ClassDef)
    for source in code:
        is_building = any(isinstance(node, defines) for node in ast.parse(source).body)
        assert len(source.splitlines()) <= (45 if is_building else 12), source


@notebooks
def test_asserts_have_messages(path):
    nodes = [node for source in sources(read(path), "code") for node in ast.walk(ast.parse(source))]
    assert all(node.msg for node in nodes if isinstance(node, ast.Assert))


def names_in(source):
    """Return what each name of a cell's top level is bound by, and the names that the cell reads from other cells."""
    bound, read = {}, set()
    for statement in ast.parse(source).body:
        table = symtable.symtable(ast.unparse(statement), "cell", "exec")
        assigned = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
        is_block = hasattr(statement, "body")  # a loop assigns its variable before it reads it
        read |= read_by(table) - set(bound) - (assigned if is_block else set())
        bound |= dict.fromkeys(assigned, ast.unparse(statement))
    return bound, read


def read_by(table):
    """Return the names that a scope and those inside it take from outside."""
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced() and symbol.is_global()}
    if table.get_type() == "module":
        names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_referenced()}
    return names.union(*(read_by(child) for child in table.get_children()))


def clashes(codes):
    """Return the names that stand for two things: bound differently in two cells, and read by another cell."""
    found = [names_in(code) for code in codes]
    meanings = {}
    for bound, _ in found:
        for name, statement in bound.items():
            meanings.setdefault(name, set()).add(statement)
    read_elsewhere = set().union(*(read for _, read in found))
    again = {name for bound, read in found for name in bound.keys() & read}  # x = f(x) does something else each time
    return {name for name, statements in meanings.items() if len(statements) > 1 and name in read_elsewhere} | again


@pytest.mark.parametrize(
    ("codes", "names"),
    [
        (["x = 1", "y = x", "x = 2"], {"x"}),
        (["x = 1", "x = x + 1"], {"x"}),
        (["import a", "for x in a.b: print(x)", "x = [x for x in a.c]\nprint(x)"], set()),
        (["def f(x): return x + y", "y = 1", "y = 2"], {"y"}),
        (["from a import b", "from a import b", "b()"], set()),
        (["from a import b", "b = 2", "b()"], {"b"}),
        (["x = 1\nx += 1", "def f(x): return x", "print(f(2))"], set()),
    ],
)
def test_a_name_for_two_things_is_found(codes, names):
    assert clashes(codes) == names


@notebooks
def test_no_two_cells_use_one_name_for_two_things(path):
    assert clashes(sources(read(path), "code")) == set()


def imported_from_us(source):
    """Yield (module, name) for each name that a cell imports from the package."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "musicgen":
            yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize("path", PATHS + SOLUTIONS, ids=lambda path: path.stem)
def test_every_name_that_it_imports_exists(path):
    asked = {each for source in sources(read(path), "code") for each in imported_from_us(source)}
    missing = [each for each in asked if not hasattr(importlib.import_module(each[0]), each[1])]
    assert missing == []


@notebooks
def test_it_reads_nothing_of_the_repository(path):
    """What a notebook reads is in the package: it also runs in Colab and with a wheel. It may write beside itself."""
    strings = [
        node.value
        for source in sources(read(path), "code")
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    outside = [text for text in strings if text.startswith("../") and not re.match(r"\.\./(data|runs|outputs)\b", text)]
    assert outside == []
    assert not [text for text in strings if re.match(r"(benchmarks|docs|tests|notebooks)/", text)]


def in_orders(notebook, n_orders):
    """Return a notebook with every code cell, then all of them in reverse order, then in `n_orders` random orders."""
    code = [cell for cell in cells(notebook, "code") if not is_live(cell)]
    again = list(reversed(code))
    for number in range(n_orders):
        again += random.Random(number).sample(code, len(code))
    copies = [nbformat.v4.new_code_cell(cell.source) for cell in again]
    return nbformat.v4.new_notebook(cells=[*code, *copies], metadata=notebook.metadata)


def with_settings(notebook, **settings):
    """Return a notebook with every code cell, and other settings at the end of their cell."""
    code = [nbformat.v4.new_code_cell(cell.source) for cell in cells(notebook, "code") if not is_live(cell)]
    cell = next(cell for cell in code if "FULL_RUN" in cell.source)
    cell.source = "\n".join([cell.source, *(f"{name} = {value}" for name, value in settings.items())])
    return nbformat.v4.new_notebook(cells=code, metadata=notebook.metadata)


SETTINGS = {
    "00": {"OPENING": '"Liszt"', "STYLE": '"Mozart"', "SEED": 5, "SECONDS": 14},
    "01": {"PIECE": 7},
    "02": {"PIECE": 9, "SECONDS": 5},
    "03": {"UPDATES": 8, "SIZE": 16, "SECONDS": 2, "PIECE": 2, "rolls": "rolls[::4]"},
    "04": {
        "SIZES": "ModelConfig(hidden_size=16, n_attention_layers=1, attention_size=8, attention_span=32, copy_span=32)",
        "RECIPE": 'TrainConfig(optimizer="adamw", learning_rate=0.001, n_epochs=1)',
        "PIECE": 2,
        "SECONDS": 9,
        "rolls": "rolls[::9]",
    },
    "05": {"PIECE": 6, "CONFIG": "GenerationConfig(seconds=12.0, temperature=1.1)", "COMPOSER": "None", "N_SEEDS": 2},
    "06": {"SPLIT": '"validation"'},
    "07": {"REPEAT": 1},
}
SMALL = {  # so that all cells can run a dozen times
    "00": {"SECONDS": 6},
    "03": SETTINGS["03"] | {"rolls": "rolls[::12]"},
    "04": SETTINGS["04"],
    "05": {"CONFIG": "GenerationConfig(seconds=6.0, seed=1)", "N_SEEDS": 1},
    "06": {"SEEDS": "range(1)"},
    "07": {"REPEAT": 1},
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Return the environment of a kernel: with MUSICGEN_RUN_NOTEBOOKS=all, a wheel that is installed elsewhere."""
    if not run_all:
        return dict(os.environ)
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(FOLDER.parent / "musicgen", folder / "source" / "musicgen")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(FOLDER.parent / name, folder / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", folder / "wheel", folder / "source"], check=True)
    shutil.rmtree(folder / "source")
    return os.environ | {"PYTHONPATH": str(folder / "wheel")}


@notebooks
def test_every_cell_runs_again_in_any_order(path, tmp_path, installed):
    if not run_all and path.stem[:2] not in executed:
        pytest.skip("MUSICGEN_RUN_NOTEBOOKS=all runs it: minutes")
    (tmp_path / "notebooks").mkdir()
    notebook, number = read(path), path.stem[:2]
    notebook = with_settings(notebook, **SMALL.get(number, {}))
    done = execute(in_orders(notebook, N_ORDERS), tmp_path / "notebooks", installed)  # an error in a cell ends it
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")


@notebooks
def test_every_cell_runs_with_other_settings(path, tmp_path, installed):
    if not run_all:
        pytest.skip("MUSICGEN_RUN_NOTEBOOKS=all runs it: minutes")
    (tmp_path / "notebooks").mkdir()
    done = execute(with_settings(read(path), **SETTINGS[path.stem[:2]]), tmp_path / "notebooks", installed)
    assert all(cell.execution_count for cell in done.cells if cell.cell_type == "code")


def test_a_wheel_holds_every_file_that_the_package_reads():
    settings = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))
    package = FOLDER.parent / "musicgen"
    packed = {
        path for glob in settings["tool"]["setuptools"]["package-data"]["musicgen"] for path in package.glob(glob)
    }
    read = {path for path in package.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert read - packed == set()


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_right(path, tmp_path, monkeypatch, capsys):
    """Run their cells in this process: they use no display, and a kernel takes seconds to start."""
    monkeypatch.chdir(tmp_path)
    names = {}
    for source in sources(read(path), "code"):
        exec(source, names)
    said = capsys.readouterr().out
    assert f"{path.stem[:2]}-1: " in said and "not yet" not in said


def test_a_piece_out_of_range_is_explained():
    from musicgen.lab import choose_piece, open_corpus

    rolls = open_corpus()
    with pytest.raises(IndexError, match="PIECE must be a whole number from 0 to 21, not 500"):
        choose_piece(rolls, 500)


@pytest.mark.parametrize("make", ["missing", "empty"])
def test_a_missing_or_empty_folder_gives_one_sentence_of_advice(tmp_path, make):
    from musicgen.lab import open_corpus

    if make == "empty":
        (tmp_path / "data").mkdir()
    with pytest.raises(ValueError, match="Set DATA = None for the bundled sample"):
        open_corpus(tmp_path / "data")


@pytest.mark.parametrize("start", ["notebooks", "."])
def test_the_chorales_lie_beside_the_notebooks_also_for_a_program_one_folder_up(tmp_path, monkeypatch, start):
    from musicgen.lab.course import notebook

    (tmp_path / "project" / "notebooks").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "project" / start)
    asked = []
    monkeypatch.setattr(notebook, "make_chorales", lambda folder: asked.append(folder.resolve()) or folder)
    with pytest.raises(ValueError, match="chorales"):
        notebook.open_corpus("chorales")
    assert asked == [tmp_path / "project" / "data" / "chorales"]


def test_what_was_skipped_and_passed_over_in_a_corpus_is_printed(tmp_path, monkeypatch, capsys):
    from musicgen.lab import open_corpus

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    violin = midi_bytes([[(0, b"\xc0\x28"), *note(0, 480, 60)]])
    for name, content in {"violin": violin, **dict.fromkeys("abcde", b"no music")}.items():
        (tmp_path / "data" / f"{name}.mid").write_bytes(content)
    open_corpus(tmp_path / "data")
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:4]] == [*(f"skipped {name}.mid" for name in "abc"), "and 2 more"]
    assert lines[4:] == ["violin.mid: notes of other instruments are read as piano: 1 (strings)"]


def test_a_prime_is_counted_in_annotated_beats_or_else_in_those_of_the_file():
    from musicgen.lab import choose_prime, open_corpus

    rolls = open_corpus()
    prime, whole = choose_prime(rolls, 3)
    assert prime.duration_seconds == pytest.approx(whole.beats[whole.beats[:, 0] >= -0.05][8, 0], abs=0.05)
    np.testing.assert_array_equal(whole.velocity[: prime.n_frames], prime.velocity)
    assert whole.onsets[0].any()
    assert choose_prime(rolls, 3, n_beats=9_000)[0].duration_seconds > 20  # there are fewer beats


def test_the_course_is_built_by_its_reader():
    counts = [course.count(path) for path in PATHS]
    assert max(row["words_before_code"] for row in counts) <= 55
    assert sum(row["n_building_cells"] for row in counts) >= 20
    assert sum(row["n_functions"] for row in counts) >= 12
    assert sum(row["n_checked"] for row in counts) >= 40
