"""Copies for students, and points for what they hand in: ``make student`` and ``make grade FOLDER=...``.

Each notebook is graded in a process of its own, with a time limit, in a temporary folder, and may write nowhere else.
Its functions are called with the arguments of `hidden_cases`, which students do not have; the solutions say what is
right. A notebook whose process does not come to its end is "not graded", and that is no zero.
"""

import argparse
import ast
import csv
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

NOTEBOOKS = Path(__file__).parents[1]
STEMS = [path.stem for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))]
LIMIT_SECONDS = 60  # of the processor, for one notebook, without our imports; a single call has 5 s
PATIENCE = 10  # seconds by the clock for each of those: other programs may keep the processor busy
LONGEST_IMPORTS = 300  # seconds by the clock
LONGEST_REASON = 200  # characters
REFUSED = (
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.kill",
)
REFUSED += ("os.system", "os.exec", "os.fork", "os.posix_spawn", "subprocess.Popen", "shutil.rmtree", "socket.connect")


def write_student_copies(out: Path) -> None:
    """Write the notebooks with empty exercises and without outputs, and the glossary; no solutions, no hidden cases.

    Links to files that students do not have become plain text.
    """
    from musicgen.lab.course.exercises import EXERCISES

    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                cell["outputs"] = []
                cell["execution_count"] = None
                cell["source"] = without_answers(source, EXERCISES)
            else:
                cell["source"] = re.sub(r"\[([^]]+)\]\(\.\./[^)]*\)", r"\1", source)  # a link to a file of the clone
        (out / path.name).write_text(json.dumps(notebook, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    shutil.copy(NOTEBOOKS / "glossary.md", out)
    shutil.copytree(NOTEBOOKS / "figures", out / "figures", dirs_exist_ok=True)


def without_answers(source: str, exercises: dict) -> str:
    """Return the source of a cell with empty exercises: the stub of a function, and None for a value."""
    for name, exercise in exercises.items():
        if not hasattr(exercise, "stub"):
            source = re.sub(rf'check\("{name}", [^#\n]*\)', f'check("{name}", None)', source)
        elif f'check("{name}", {exercise.name})' in source:
            source = f'{exercise.stub}\n    ...\n\n\ncheck("{name}", {exercise.name});'
    return source


def code_of(path: Path) -> list[str]:
    """Return the sources of the code cells of a notebook.

    Raises
    ------
    ValueError
        If the file is no notebook.
    """
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} is not a notebook: {error!r}") from None


def statements(path: Path) -> list[ast.stmt]:
    """Return the statements of a notebook, without cells that are no Python."""
    found = []
    for code in code_of(path):
        source = "\n".join(line for line in code.splitlines() if not re.match(r"\s*[%!]", line))
        try:
            found += ast.parse(source).body
        except SyntaxError:
            continue
    return found


def definitions(notebook: list[ast.stmt]) -> dict:
    """Return what a notebook imports and defines; nothing else of it is executed."""
    namespace = {}
    for statement in notebook:
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
            try:
                exec(compile(ast.Module([statement], []), "notebook", "exec"), namespace)
            except Exception as error:
                print(f"line {statement.lineno} of a cell: {error}", file=sys.stderr)
    return namespace


def answers(notebook: list[ast.stmt]) -> dict[str, ast.expr]:
    """Return the expression that each ``check("01-1", expression)`` of a notebook was given; the last one counts."""
    calls = [node for statement in notebook for node in ast.walk(statement) if isinstance(node, ast.Call)]
    checks = [call for call in calls if getattr(call.func, "id", "") == "check" and len(call.args) == 2]
    return {call.args[0].value: call.args[1] for call in checks if isinstance(call.args[0], ast.Constant)}


def what_they_name(expressions: Iterable[ast.expr]) -> dict:
    """Return the corpus if expressions name it, as some answers do. Opening it takes a second."""
    names = {node.id for each in expressions for node in ast.walk(each) if isinstance(node, ast.Name)}
    if "rolls" not in names:
        return {}
    from musicgen.lab import open_corpus

    return {"rolls": open_corpus()}


def limit_processor_time(seconds: int) -> None:
    """End this process when it has used so much more processor time; on Windows, only the clock ends it."""
    try:
        import resource
    except ImportError:
        return
    used = math.ceil(time.process_time())
    resource.setrlimit(resource.RLIMIT_CPU, (used + seconds, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # its end leaves no dump


def grade_one(path: Path, stem: str, seed: int, seconds: int) -> dict[str, int]:
    """Return the points of one notebook by exercise."""
    handed_in = statements(path)  # before the imports: a file that is no notebook need not wait for them

    from hidden_cases import hidden_arguments

    from musicgen.lab.course.exercises import EXERCISES
    from musicgen.lab.course.exercises.functions import Case, FunctionExercise

    exercises = {name: each for name, each in EXERCISES.items() if name.startswith(stem[:2])}
    functions = {name: each for name, each in exercises.items() if isinstance(each, FunctionExercise)}
    solved = definitions(statements(NOTEBOOKS / "solutions" / f"{stem[:2]}_solutions.ipynb"))
    hidden = {}
    for name, exercise in functions.items():
        right = solved[exercise.name]
        hidden[name] = tuple(Case(each, exercise.call(right, *each), "") for each in hidden_arguments(name, seed))
    expressions = answers(handed_in)
    given = what_they_name(expressions.values())
    tempfile.tempdir = os.getcwd()  # where the notebook may write
    limit_processor_time(seconds)  # from here on: what is ours is imported and computed
    sys.addaudithook(refuse)
    namespace = given | definitions(handed_in)
    points = {}
    for name, exercise in exercises.items():
        points[name] = 0
        try:
            if name in functions:
                answer = namespace[exercise.name]
                points[name] = int(replace(exercise, cases=exercise.cases + hidden[name]).fault(answer) is None)
            elif name in expressions:
                value = eval(compile(ast.Expression(expressions[name]), "notebook", "eval"), namespace)
                points[name] = int(exercise.is_right(value.item() if hasattr(value, "item") else value))
        except (Exception, SystemExit) as error:
            print(f"{name}: {error!r}", file=sys.stderr)
    return points


def refuse(event: str, arguments: tuple) -> None:
    """Refuse to write outside the present folder, to start programs and to open connections (an audit hook)."""
    if event == "open":
        path, mode, flags = arguments
        writes = set(mode or "") & set("wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        inside = isinstance(path, int) or Path(os.fsdecode(path)).resolve().is_relative_to(Path.cwd().resolve())
        if writes and not inside and os.fsdecode(path) != os.devnull:
            raise PermissionError(f"{path} may not be written to")
    elif event.startswith(REFUSED):
        raise PermissionError(f"{event} is not allowed")


class NotGraded(Exception):
    """The grading of a notebook did not come to its end; the message says why."""


@dataclass
class Submission:
    """What one student handed in: files by notebook, points by exercise, and what a teacher should know."""

    files: dict[str, Path] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    not_graded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def student_and_stem(path: Path) -> tuple[str, str | None]:
    """Return who handed a file in, and the notebook that it is, both by its path in the folder of what was handed in.

    The student is the first folder, or else what stands before the notebook's name.
    """
    stem = next((each for each in STEMS if each in path.stem), None)
    if len(path.parts) > 1:
        return path.parts[0], stem
    return path.stem.split(stem or "\0")[0].strip("_- ") or path.stem, stem


def points_in_own_process(path: Path, stem: str, seed: int, seconds: int) -> dict[str, int]:
    """Return the points of one notebook by exercise.

    Raises
    ------
    NotGraded
        If the time is up, or the process fails.
    """
    command = [sys.executable, __file__, "one", str(path.resolve())]
    command += ["--stem", stem, "--seed", str(seed), "--seconds", str(seconds)]
    longest = LONGEST_IMPORTS + PATIENCE * seconds
    with tempfile.TemporaryDirectory() as own:
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, cwd=own, timeout=longest)
        except subprocess.TimeoutExpired:
            raise NotGraded(f"no end after {longest} s by the clock") from None
    if hasattr(signal, "SIGXCPU") and done.returncode == -signal.SIGXCPU:
        raise NotGraded(f"more than {seconds} s of processor time")
    printed, errors = (stream.decode(errors="replace").splitlines() for stream in (done.stdout, done.stderr))
    if done.returncode and errors:
        raise NotGraded(errors[-1][:LONGEST_REASON])
    try:
        return json.loads(printed[-1])
    except (ValueError, IndexError):
        raise NotGraded(f"no result, exit code {done.returncode}") from None


def grade(folder: Path, seed: int, seconds: int = LIMIT_SECONDS) -> dict[str, Submission]:
    """Return what each student handed in, with its points."""
    submissions: dict[str, Submission] = {}
    for path in sorted(folder.rglob("*.ipynb")):
        if ".ipynb_checkpoints" in path.parts:
            continue
        student, stem = student_and_stem(path.relative_to(folder))
        submission = submissions.setdefault(student, Submission())
        if stem is None:
            submission.notes.append(f"{path.name}: not the name of a notebook of the course")
            continue
        if stem in submission.files:
            submission.notes.append(f"{stem}: handed in twice, {path.name} counts")
        submission.files[stem] = path
    for submission in submissions.values():
        for stem, path in submission.files.items():
            try:
                submission.points |= points_in_own_process(path, stem, seed, seconds)
            except NotGraded as reason:
                submission.not_graded.append(stem)
                submission.notes.append(f"{stem}: not graded ({reason})")
    return submissions


def write_points(submissions: dict[str, Submission], out: Path) -> list[str]:
    """Write a row for each student and one with the most that can be had; return the exercises, which are columns.

    The columns are the exercises of all notebooks that somebody handed in. A cell is empty where a notebook was not
    handed in or not graded; so is the sum of a student with a notebook that was not graded.
    """
    from musicgen.lab.course.exercises import EXERCISES
    from musicgen.utils.files import atomic_write

    stems = sorted({stem for each in submissions.values() for stem in each.files})
    names = sorted(name for stem in stems for name in EXERCISES if name.startswith(stem[:2]))
    text = io.StringIO()
    writer = csv.DictWriter(text, ["student", "points", *names, "note"], lineterminator="\n")
    writer.writeheader()
    for student, each in submissions.items():
        missing = [f"{stem}: not handed in" for stem in stems if stem not in each.files]
        total = "" if each.not_graded else sum(each.points.values())
        writer.writerow({"student": student, "points": total, "note": "; ".join(each.notes + missing)} | each.points)
    writer.writerow({"student": "maximum", "points": len(names)} | dict.fromkeys(names, 1))
    with atomic_write(out) as new:
        new.write_text(text.getvalue(), encoding="utf-8", newline="")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("student", "grade", "one"))
    parser.add_argument("path", type=Path, help="where to write the copies, or the folder of what was handed in")
    parser.add_argument("--seed", type=int, help="keep it secret: it makes the hidden cases")
    parser.add_argument("--seconds", type=int, default=LIMIT_SECONDS, help="of the processor, for one notebook")
    parser.add_argument("--stem", choices=STEMS, help=argparse.SUPPRESS)  # which notebook "one" is
    args = parser.parse_args()
    if args.what == "student":
        write_student_copies(args.path)
        print(args.path)
        return
    if args.what == "one":
        points = grade_one(args.path, args.stem, args.seed, args.seconds)
        print("\n" + json.dumps(points))
        return
    if args.seed is None:
        print("No SEED was given, so the cases are public: anybody with the clone can make them.", file=sys.stderr)
    submissions = grade(args.path, args.seed or 0, args.seconds)
    names = write_points(submissions, args.path / "points.csv")
    print(f"{args.path / 'points.csv'}: {len(submissions)} students, {len(names)} exercises")
    not_graded = [f"{student}/{stem}" for student, each in submissions.items() for stem in each.not_graded]
    if not_graded:
        sys.exit(f"Not graded: {', '.join(not_graded)}. The notes say why. Grade again, perhaps with more --seconds.")


if __name__ == "__main__":
    main()
