"""Copies for students, and points for what they hand in: ``make student`` and ``make grade FOLDER=...``.

Each notebook is graded in a process of its own, with a time limit, in a temporary folder, and may write nowhere else.
Its functions are called with the arguments of `hidden_cases`, which students do not have; the solutions say what is
right.
"""

import argparse
import ast
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import nbformat

NOTEBOOKS = Path(__file__).parents[1]
LIMIT_SECONDS = 120  # for one notebook; a single call has 5 s
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
    """Write the notebooks with empty exercises and without outputs, and the glossary; no solutions, no hidden cases."""
    from musicgen.lab.course.exercises import EXERCISES

    out.mkdir(parents=True, exist_ok=True)
    for path in sorted(NOTEBOOKS.glob("[0-9]*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
            cell.outputs, cell.execution_count = [], None
            for name, exercise in EXERCISES.items():
                if hasattr(exercise, "stub") and f'check("{name}", {exercise.name})' in cell.source:
                    cell.source = f'{exercise.stub}\n    ...\n\n\ncheck("{name}", {exercise.name});'
        nbformat.write(notebook, out / path.name)
    shutil.copy(NOTEBOOKS / "glossary.md", out)
    shutil.copytree(NOTEBOOKS / "figures", out / "figures", dirs_exist_ok=True)


def statements(path: Path) -> list[ast.stmt]:
    """Return the statements of a notebook, without cells that are no Python."""
    found = []
    for cell in nbformat.read(path, as_version=4).cells:
        source = "\n".join(line for line in cell.source.splitlines() if not re.match(r"\s*[%!]", line))
        try:
            found += ast.parse(source).body if cell.cell_type == "code" else []
        except SyntaxError:
            continue
    return found


def definitions(path: Path) -> dict:
    """Return what a notebook imports and defines; nothing else of it is executed."""
    namespace = {}
    for statement in statements(path):
        if isinstance(statement, (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)):
            try:
                exec(compile(ast.Module([statement], []), path.name, "exec"), namespace)
            except Exception as error:
                print(f"{path.name}: {error}", file=sys.stderr)
    return namespace


def answers(path: Path) -> dict[str, ast.expr]:
    """Return the expression that each ``check("01-1", expression)`` of a notebook was given; the last one counts."""
    calls = [node for statement in statements(path) for node in ast.walk(statement) if isinstance(node, ast.Call)]
    checks = [call for call in calls if getattr(call.func, "id", "") == "check" and len(call.args) == 2]
    return {call.args[0].value: call.args[1] for call in checks if isinstance(call.args[0], ast.Constant)}


def grade_one(path: Path, seed: int) -> dict[str, int]:
    """Return the points of one notebook by exercise."""
    from hidden_cases import hidden_arguments

    from musicgen.lab import open_corpus
    from musicgen.lab.course.exercises import EXERCISES
    from musicgen.lab.course.exercises.functions import Case, FunctionExercise

    number = re.search(r"\d\d", path.stem)[0]
    solved = definitions(NOTEBOOKS / "solutions" / f"{number}_solutions.ipynb")
    given = {"rolls": open_corpus()}  # some answers are expressions of it
    sys.addaudithook(refuse)
    namespace, expressions, points = given | definitions(path), answers(path), {}
    for name, exercise in ((name, each) for name, each in EXERCISES.items() if name.startswith(number)):
        points[name] = 0
        try:
            if isinstance(exercise, FunctionExercise):
                hidden = hidden_arguments(name, seed)
                cases = [Case(each, exercise.call(solved[exercise.name], *each), "") for each in hidden]
                answer = namespace[exercise.name]
                points[name] = int(replace(exercise, cases=(*exercise.cases, *cases)).fault(answer) is None)
            elif name in expressions:
                value = eval(compile(ast.Expression(expressions[name]), path.name, "eval"), namespace)
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


def grade(folder: Path, seed: int, seconds: int = LIMIT_SECONDS) -> list[dict]:
    """Return the points of each student: the name of the folder with the notebooks, or of the file."""
    rows: dict[str, dict] = {}
    for path in sorted(folder.rglob("*.ipynb")):
        if not re.search(r"\d\d", path.stem) or ".ipynb_checkpoints" in path.parts:
            continue
        student = path.parent.name if path.parent != folder else re.sub(r"[_-]*\d\d.*", "", path.stem) or path.stem
        row = rows.setdefault(student, {"student": student, "note": ""})
        with tempfile.TemporaryDirectory() as own:
            command = [sys.executable, __file__, "one", str(path.resolve()), "--seed", str(seed)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, cwd=own, timeout=seconds)
                row |= json.loads(done.stdout.splitlines()[-1])
            except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
                row["note"] += f"{path.name}: {type(error).__name__}. "
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("student", "grade", "one"))
    parser.add_argument("path", type=Path, help="where to write the copies, or the folder of what was handed in")
    parser.add_argument("--seed", type=int, default=0, help="keep it secret: it makes the hidden cases")
    args = parser.parse_args()
    if args.what == "student":
        write_student_copies(args.path)
        print(args.path)
        return
    if args.what == "one":
        points = grade_one(args.path, args.seed)
        print("\n" + json.dumps(points))
        return
    rows = grade(args.path, args.seed)
    names = sorted({name for row in rows for name in row} - {"student", "note"})
    with (args.path / "points.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, ["student", "points", *names, "note"], restval=0, lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | {"points": sum(row.get(name, 0) for name in names)} for row in rows)
    print(f"{args.path / 'points.csv'}: {len(rows)} students, {len(names)} exercises")


if __name__ == "__main__":
    main()
