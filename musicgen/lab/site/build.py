"""Write the static site: ``python -m musicgen.lab.site.build NOTEBOOK ... --out outputs/site``.

It holds the exported course, and *Compose*, where the shipped model continues an opening in the visitor's browser. npm
installs the libraries that package-lock.json names, and esbuild bundles the scripts in ``src``. All files are local, so
that any static host can serve the folder.
"""

import argparse
import hashlib
import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import torch

from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.generation import GenerationConfig
from musicgen.generation.browser_steps import RepetitionPass
from musicgen.generation.continuation import FEWEST_SECONDS, RECENT_SECONDS
from musicgen.generation.engines import PASSES, graph_paths
from musicgen.generation.steering import REGISTER_SECONDS, SEGMENT_SECONDS
from musicgen.generation.steps import named_tensors
from musicgen.lab.course.pages import export
from musicgen.lab.figures.html import escape
from musicgen.lab.figures.style import COLOURS
from musicgen.lab.player.sound import sound_font
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import N_PITCHES
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.files import atomic_write

HERE = Path(__file__).parent
PLAYER = HERE.parent / "player"
SOURCES = ("src", "build.mjs", "package.json", "package-lock.json", "index.html", "site.css")
SHARED_SCRIPTS = ("canvas.js", "keyboard.js", "keyboard.css")  # of the course's player and keyboard
GRAPHS = {name: path.name for name, path in graph_paths("maestro.onnx").items() if name not in PASSES}
CANDIDATES = 4  # half as many as `generate` plays: a page shall also be fast enough on a phone
LARGEST = 1e30  # instead of infinity, which JSON does not have
LOADED = ("ort-wasm-simd-threaded.wasm", *GRAPHS.values(), "piano.sf2")  # before the page composes


def write_site(notebooks: Sequence[Path], out: Path, graphs: Path) -> dict[str, int]:
    """Write the site, and return the sizes in bytes of the files that the page loads before it composes.

    Parameters
    ----------
    notebooks : sequence of Path
        Executed notebooks of the course.
    out : Path
        The folder of the site.
    graphs : Path
        The folder of the shipped model's ONNX files.

    Raises
    ------
    OSError
        If Node is missing, or its libraries cannot be installed.
    """
    bundle_scripts(out)
    for name in GRAPHS.values():
        shutil.copyfile(graphs / name, out / name)
    (out / "piano.sf2").write_bytes(sound_font())
    sizes = {name: (out / name).stat().st_size for name in LOADED}
    write_text(out / "site.json", json.dumps(site_data(sizes, out)))
    write_pages(notebooks, out / "pages")
    return sizes


def bundle_scripts(out: Path) -> Path:
    """Bundle the page's scripts in a folder beside the site, with libraries from npm, and return that folder."""
    workshop = out.parent / f".{out.name}-build"
    for name in SOURCES:
        copy(HERE / name, workshop / name)
    for name in SHARED_SCRIPTS:
        copy(PLAYER / name, workshop / "player" / name)
    lock = (workshop / "package-lock.json").read_bytes()
    stamp = workshop / "node_modules" / hashlib.sha256(lock).hexdigest()
    if not stamp.exists():
        run(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], workshop)
        stamp.touch()
    run(["node", "build.mjs", str(out.absolute())], workshop)
    return workshop


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder over an older copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def run(command: list[str], folder: Path) -> None:
    """Run a program of Node.js; raise OSError if it is missing or fails."""
    program = shutil.which(command[0])
    if not program:
        raise OSError(f"{command[0]} was not found: the site needs Node.js 20 or newer (the rest of musicgen does not)")
    done = subprocess.run([program, *command[1:]], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise OSError(f"{' '.join(command)} failed in {str(folder)!r}: {(done.stderr or done.stdout).strip()[-600:]}")


def site_data(sizes: dict[str, int], out: Path) -> dict:
    """Return the data of the page: the openings, the composers, the settings, the colours, and what it loads."""
    model = load_checkpoint(SHIPPED_CHECKPOINT).model
    settings = GenerationConfig()
    seconds = {
        "segment": SEGMENT_SECONDS,
        "recent": RECENT_SECONDS,
        "fewest": FEWEST_SECONDS,
        "register": REGISTER_SECONDS,
    }
    return {
        "files": sizes,
        "version": hashlib.sha256(b"".join((out / name).read_bytes() for name in LOADED)).hexdigest()[:16],
        "graphs": GRAPHS,
        "states": initial_states(model),
        "composers": list(model.config.composers),
        "openings": [opening(name, model.config.composers) for name in PRIMES],
        "temperature": settings.temperature,
        "candidates": CANDIDATES,
        "lengths": {name: round(length * model.config.fps) for name, length in seconds.items()},  # in frames
        "colours": COLOURS,
    }


def initial_states(model: AttentionLSTM) -> list[dict]:
    """Return the name, the shape and the fill value of each tensor that the graphs remember, for one piece."""
    state = named_tensors(model.initial_state(torch.zeros(1, 1, N_PITCHES)).fixed())
    history = named_tensors(RepetitionPass(model).initial_history(), "history")
    return [
        {"name": name, "shape": list(tensor.shape), "value": min(float(tensor.max()), LARGEST)}
        for name, tensor in (*state, *history)
    ]


def opening(name: str, composers: Sequence[str]) -> dict:
    """Return a bundled opening for the page, in the form of src/music.js; beats are in seconds."""
    roll = shipped_prime(name)
    return {
        "title": f"{name}: {PRIMES[name].title}",
        "composer": next((composer for composer in composers if composer.split()[-1] == name), ""),
        "frames": roll.n_frames,
        "notes": roll.notes.tolist(),
        "pedal": roll.pedal_spans(),
        "beats": None if roll.beats is None else roll.beats.tolist(),
    }


def write_pages(notebooks: Sequence[Path], folder: Path) -> None:
    """Export the notebooks as HTML pages, and write an index page."""
    links = ""
    for notebook in notebooks:
        write_text(folder / f"{notebook.stem}.html", export(notebook))
        links += f'<li><a href="{escape(notebook.stem)}.html">{escape(notebook.stem.replace("_", " "))}</a></li>\n'
    page = (HERE / "pages.html").read_text(encoding="utf-8")
    write_text(folder / "index.html", page.replace("<!-- LINKS -->", links))


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line, and write the site."""
    parser = argparse.ArgumentParser(description="Write the static site: the course, and the page that composes.")
    parser.add_argument("notebooks", nargs="*", metavar="NOTEBOOK", type=Path)
    parser.add_argument("--out", type=Path, default=Path("outputs/site"), help="the folder of the site")
    parser.add_argument(
        "--graphs", type=Path, default=SHIPPED_CHECKPOINT.parent, help="the folder of the exported model"
    )
    args = parser.parse_args(arguments)
    try:
        sizes = write_site(args.notebooks, args.out, args.graphs)
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    n_bytes = sum(path.stat().st_size for path in args.out.rglob("*") if path.is_file())
    print(f"{args.out}: {n_bytes / 1e6:.0f} MB, of which composing loads {sum(sizes.values()) / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
