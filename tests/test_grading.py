"""Copies for students, and points for what they hand in, also from notebooks that hang, fail or write files."""

import csv
import importlib.util
import json
import sys
from pathlib import Path

import pytest

from musicgen.lab.course.exercises import EXERCISES
from musicgen.lab.course.exercises.functions import Case, FunctionExercise

GRADING = Path(__file__).parents[1] / "notebooks" / "grading"
FUNCTIONS = {name: each for name, each in EXERCISES.items() if isinstance(each, FunctionExercise)}


def load(name):
    spec = importlib.util.spec_from_file_location(name, GRADING / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


grading, hidden = load("grade"), load("hidden_cases")


def hand_in(folder, name, *sources):
    cells = [{"cell_type": "code", "source": source} for source in sources]
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"cells": cells}))


def points_in(folder):
    with (folder / "points.csv").open(encoding="utf-8", newline="") as stream:
        return {row["student"]: row for row in csv.DictReader(stream)}


def test_copies_for_students_have_empty_exercises_and_no_solutions(tmp_path):
    grading.write_student_copies(tmp_path)
    text = "".join(path.read_text(encoding="utf-8") for path in tmp_path.glob("*.ipynb"))
    assert "image/png" not in text and not list(tmp_path.rglob("*solution*")) and not list(tmp_path.rglob("*hidden*"))
    cells = json.loads((tmp_path / "00_hello.ipynb").read_text(encoding="utf-8"))["cells"]
    assert FUNCTIONS["00-2"].stub + '\n    ...\n\n\ncheck("00-2", n_frames);' in [cell["source"] for cell in cells]
    assert all(not cell.get("outputs") for cell in cells)
    assert "](../" not in text  # links to files that students do not have


def test_a_value_that_was_typed_in_is_taken_out_of_the_copies():
    typed = 'check("01-1", round(60 / 120 / 8, 3))  # the milliseconds\ncheck("01-3", 261.6);  # the (frequency)'
    empty = 'check("01-1", None)  # the milliseconds\ncheck("01-3", None);  # the (frequency)'
    assert grading.without_answers(typed, EXERCISES) == empty


@pytest.mark.parametrize("name", hidden.MAKERS)
def test_hidden_cases_find_the_usual_mistakes(name):
    exercise, number = FUNCTIONS[name], name[:2]
    solutions = grading.statements(GRADING.parent / "solutions" / f"{number}_solutions.ipynb")
    solution = grading.definitions(solutions)[exercise.name]
    cases = [Case(each, exercise.call(solution, *each), "") for each in hidden.hidden_arguments(name, 1)]
    only_hidden = FunctionExercise(exercise.stub, tuple(cases), (), exercise.tolerance, exercise.call)
    assert only_hidden.fault(solution) is None
    found = [only_hidden.fault(mistake) is not None for mistake, _ in exercise.mistakes]
    assert sum(found) >= 0.6 * len(found)  # a few, such as what a tie changes, need a case that is made for them


def test_every_function_has_hidden_cases():
    assert set(hidden.MAKERS) == set(FUNCTIONS)


def test_points_are_given_and_misbehaviour_costs_only_its_points(tmp_path, monkeypatch):
    outside = tmp_path / "outside.txt"
    right = "def n_frames(seconds, fps=20):\n    return round(seconds * fps)"
    hand_in(tmp_path / "in", "ann/00_hello.ipynb", "%pip install x", right, 'check("00-1", 52 / 20)', "not python")
    also_right = "def realtime_factor(n_frames, fps, seconds_taken):\n    return n_frames / fps / seconds_taken"
    writing = f"def speed_up(b, a):\n    open({str(outside)!r}, 'w')\n    return np.median(b) / np.median(a)"
    memorised = "def amdahl(*given):\n    return {(1, 4): 4, (0.5, 2): 4 / 3, (0.9, 1e12): 10, (0, 7): 1}[given]"
    bad = ["while True: pass", 'check("07-4", exit())', "import numpy as np", writing, memorised]
    hand_in(tmp_path / "in", "ben/07_profiling.ipynb", *bad, also_right)
    monkeypatch.setattr(sys, "argv", ["grade.py", "grade", str(tmp_path / "in"), "--seed", "7"])
    grading.main()
    rows = points_in(tmp_path / "in")
    assert [rows["ann"][name] for name in ("00-1", "00-2", "points")] == ["1", "1", "2"]
    assert {name: rows["ben"][name] for name in rows["ben"] if name.startswith("07")} == {
        "07-1": "1",
        "07-2": "0",  # it writes outside its folder
        "07-3": "0",  # it knows the visible cases by heart
        "07-4": "0",
    }
    assert not outside.exists()


def test_a_notebook_that_hangs_or_crashes_is_not_graded_and_that_is_no_zero(tmp_path, monkeypatch, capsys):
    hand_in(tmp_path, "dan_00_hello.ipynb", "class Slow:\n    while True: pass")
    (tmp_path / "eve_07_profiling.ipynb").write_text("half a file")
    monkeypatch.setattr(sys, "argv", ["grade.py", "grade", str(tmp_path), "--seconds", "1"])
    with pytest.raises(SystemExit, match="dan/00_hello, eve/07_profiling"):
        grading.main()
    assert "public" in capsys.readouterr().err
    rows = points_in(tmp_path)
    for student in ("dan", "eve"):
        assert {rows[student][name] for name in ("points", "00-1", "00-2", "07-1")} == {""}
    assert "00_hello: not graded (" in rows["dan"]["note"] and "07_profiling: not handed in" in rows["dan"]["note"]
    assert "eve_07_profiling.ipynb is not a notebook" in rows["eve"]["note"]


@pytest.mark.parametrize(("path", "student", "stem"), [
    ("ann/05_generation.ipynb", "ann", "05_generation"),
    ("ann_123/notebooks/05_generation (1).ipynb", "ann_123", "05_generation"),
    ("s02 ann_2024_05_generation.ipynb", "s02 ann_2024", "05_generation"),
    ("05_generation.ipynb", "05_generation", "05_generation"),
    ("ann_05.ipynb", "ann_05", None),
])  # fmt: skip
def test_a_file_is_the_notebook_whose_whole_name_it_has(path, student, stem):
    assert grading.student_and_stem(Path(path)) == (student, stem)


def test_a_notebook_that_was_not_handed_in_is_empty_and_counts_in_the_maximum(tmp_path):
    one = grading.Submission({"00_hello": Path("a")}, {"00-1": 1, "00-2": 0})
    two = grading.Submission({"07_profiling": Path("b")}, {"07-1": 1, "07-2": 1, "07-3": 0, "07-4": 1})
    grading.write_points({"ann": one, "ben": two}, tmp_path / "points.csv")
    rows = points_in(tmp_path)
    assert [rows[name]["points"] for name in ("ann", "ben", "maximum")] == ["1", "3", "6"]
    assert [rows[name]["00-2"] for name in ("ann", "ben", "maximum")] == ["0", "", "1"]
    assert rows["ben"]["note"] == "00_hello: not handed in"


def test_the_columns_are_in_the_order_of_their_numbers(tmp_path):
    grading.write_points({"ann": grading.Submission({"05_generation": Path("a")})}, tmp_path / "points.csv")
    header = (tmp_path / "points.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    exercises = header[2:-1]
    assert exercises[:3] == ["05-1", "05-2", "05-3"] and exercises == sorted(exercises)
