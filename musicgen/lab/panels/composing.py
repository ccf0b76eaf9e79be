"""A panel to compose with: the prime, the composer, the settings, the player and a gallery."""

import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path, PureWindowsPath

from ipywidgets import (
    HTML,
    BoundedFloatText,
    Box,
    Checkbox,
    Dropdown,
    FileUpload,
    FloatSlider,
    IntSlider,
    Label,
    Layout,
    Stack,
    VBox,
    Widget,
)

from musicgen.corpora.primes import PRIMES, shipped_prime
from musicgen.dataset import Piece
from musicgen.generation import GenerationConfig
from musicgen.lab.figures.html import escape
from musicgen.lab.panels.forms import form, settings_table
from musicgen.lab.panels.panel import FRAME, Message, Panel, button, labelled
from musicgen.lab.panels.takes import Take, compose
from musicgen.lab.player import player
from musicgen.lab.player.keyboard import PianoKeyboard
from musicgen.midi import Performance, midi_bytes, read_performance
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll

ROW = {"align_items": "center", "grid_gap": "6px", "flex_flow": "row wrap", "overflow": "visible"}
HOW_TO = "<i>A panel to compose with: run this cell in JupyterLab.</i>"
Opening = tuple[PianoRoll | None, str]  # a prime, and what to call it


class PrimeChooser(VBox):
    """Controls to choose an opening: bundled, from the corpus, from a file, played by the user, or none.

    Parameters
    ----------
    pieces : sequence of Piece
    fps : int
        Frame rate of the openings.
    """

    def __init__(self, pieces: Sequence[Piece], fps: int):
        self.fps = fps
        self.beats = BoundedFloatText(8, min=0.25, max=256, step=1, layout=Layout(width="70px"))
        self.upload = FileUpload(accept=".mid,.midi", description="Choose a MIDI file")
        self.message = Message()
        self.upload.observe(self._read, "value")
        self.uploaded: tuple[Performance, str] | None = None
        self.warnings: list[str] = []  # about the file of the opening
        self.keyboard = PianoKeyboard()
        shipped = {f"{composer}: {prime.title}": composer for composer, prime in PRIMES.items()}
        listed = [(f"{piece.composer}: {piece.title}"[:90], piece) for piece in pieces]  # some titles come twice
        self.shipped = Dropdown(options=shipped, value="Chopin", layout=Layout(width="420px"))
        self.piece = Dropdown(options=listed, layout=Layout(width="420px"))
        ways: dict[str, tuple[Widget, Callable[[], Opening]]] = {
            "a shipped opening": (labelled("opening", self.shipped), self._from_score),
            "a piece of the corpus": (labelled("piece", self.piece), self._from_corpus),
            "a MIDI file of mine": (Box([self.upload, self.message], layout=Layout(**ROW)), self._from_upload),
            "what I play": (self.keyboard, self._from_keyboard),
            "nothing": (Label("The model starts from silence."), lambda: (None, "Out of silence")),
        }
        if not pieces:
            del ways["a piece of the corpus"]
        self.openings = [opening for _, opening in ways.values()]
        self.way = Dropdown(options=list(ways), layout=Layout(width="190px"))
        stack = Stack([widget for widget, _ in ways.values()], selected_index=0, layout=Layout(margin="4px 0"))
        self.way.observe(lambda change: setattr(stack, "selected_index", self.way.index), "value")
        row = [labelled("Begin with", self.way), labelled("beats", self.beats)]
        super().__init__([Box(row, layout=Layout(**ROW)), stack], layout=Layout(overflow="visible"))

    def opening(self) -> Opening:
        """Return the chosen opening; ValueError if none is chosen."""
        self.warnings = []
        return self.openings[self.way.index]()

    def _from_score(self) -> Opening:
        name = self.shipped.value
        return shipped_prime(name, self.beats.value, self.fps), f"{name}: {PRIMES[name].title}"

    def _from_corpus(self) -> Opening:
        piece = self.piece.value
        return self._begin(read_performance(piece.path)), f"{piece.composer}: {piece.title}"

    def _from_upload(self) -> Opening:
        if not self.uploaded:
            raise ValueError("choose a MIDI file first")
        performance, name = self.uploaded
        return self._begin(performance), name

    def _begin(self, performance: Performance) -> PianoRoll:
        """Return the first beats of a file, and note what was passed over in it."""
        prime = performance.first_beats(self.beats.value, self.fps)
        self.warnings = list(performance.warnings)
        if prime.n_frames < performance.frame_of_beat(self.beats.value, self.fps):
            self.warnings.append(f"shorter than {self.beats.value:g} beats: the prime is {prime.duration_seconds:g} s")
        return prime

    def _from_keyboard(self) -> Opening:
        return self.keyboard.roll(self.fps), "What was played"

    def _read(self, _) -> None:
        """Read an uploaded file, and show its number of notes or an error."""
        self.uploaded = None
        with self.message.errors():
            for file in self.upload.value:
                name = PureWindowsPath(file["name"]).name[:60]  # only shown in messages, never opened
                performance = read_performance(name, bytes(file["content"]))
                self.uploaded = performance, name
                self.message.tell("; ".join([f"{name}: {len(performance.notes):,} notes", *performance.warnings]))


class GenerationPanel(Panel):
    """A panel that composes, shows, plays and keeps pieces.

    Parameters
    ----------
    model : AttentionLSTM
        A trained model with 88 pitches.
    pieces : sequence of Piece
        Pieces of the corpus that are offered as primes.
    folder : Path or str
        Where pieces are saved.
    start : dict
        Values of the `GenerationConfig` to start with.
    """

    def __init__(self, model: AttentionLSTM, pieces: Sequence[Piece] = (), folder: Path | str = "outputs", **start):
        self.model = model
        self.folder = Path(folder)
        self.prime = PrimeChooser(pieces, model.config.fps)
        self.form = form(GenerationConfig, **({"seconds": 30.0} | start))
        composers = [("nobody", ""), *((name, name) for name in model.config.composers)]
        self.composer = Dropdown(options=composers, value="", layout=Layout(width="190px"))
        self.only_new = Checkbox(False, indent=False, layout=Layout(width="auto"))
        self.message = Message()
        self.shown = HTML(layout=Layout(width="100%"))
        self.gallery = VBox()
        self.take: Take | None = None
        self.go = button("Compose", "music", "let the model continue the opening", self._compose, "primary")
        self.another = button("Another", "random", "compose once more, with the next seed", self._compose_another)
        self.keep = button("Keep", "heart", "put this piece into the gallery", self._keep)
        self.only_new.observe(lambda _: self.take and self.show(self.take), "value")
        style = [labelled("In the style of", self.composer), labelled("only what is new", self.only_new)]
        buttons = Box([self.go, self.another, self.keep, self.message], layout=Layout(**ROW, margin="6px 0"))
        style = Box(style, layout=Layout(**ROW))
        super().__init__([self.prime, style, self.form, buttons, self.shown, self.gallery], self._instead, **FRAME)
        self.add_class("musicgen-generation")

    def show(self, take: Take) -> None:
        """Show a piece in the player, without its prime if "only what is new" is ticked."""
        self.take = take
        self.shown.value = player_of(take.continuation if self.only_new.value else take)

    def _compose(self) -> None:
        with self.message.errors():
            config = self.form.value
            if config is None:
                raise ValueError("these settings contradict each other")
            prime, name = self.prime.opening()
            self.message.tell("composing ...")
            started = time.perf_counter()
            take = compose(self.model, prime, name, config, self.composer.value or None, self.message.tell)
            made = time.perf_counter()
            self.show(take)
            took = f"made in {made - started:.1f} s, its sound in {time.perf_counter() - made:.1f} s"
            stopped = "" if take.roll.duration_seconds > config.seconds - 0.1 else "stopped early: "
            made_of = f"{stopped}{take.roll.duration_seconds:g} s of music, {take.roll.n_notes} notes: {took}"
            self.message.tell("; ".join([made_of, *self.prime.warnings]))

    def _compose_another(self) -> None:
        self.form.controls["seed"].value += 1
        self._compose()

    def _keep(self) -> None:
        """Add the current piece to the gallery."""
        with self.message.errors():
            if not self.take:
                raise ValueError("compose something first")
            self.gallery.children += (GalleryItem(self.take, self),)

    def _instead(self) -> str:
        return f"<p>{HOW_TO}</p>{settings_table(self.form.start)}{self.shown.value}"


class ComposePanel(Panel):
    """A smaller panel with five controls: style, opening, temperature, length and seed.

    Parameters
    ----------
    model : AttentionLSTM

    Attributes
    ----------
    take : Take or None
        The last piece; ``panel.take.save("outputs")`` saves it.
    """

    def __init__(self, model: AttentionLSTM):
        self.model = model
        self.take: Take | None = None
        self.message = Message()
        self.shown = HTML(layout=Layout(width="100%"))
        wide = {"layout": Layout(width="480px"), "style": {"description_width": "110px"}}
        composers = [("any", ""), *((name, name) for name in model.config.composers)]
        openings = [(f"{composer}: {prime.title}", composer) for composer, prime in PRIMES.items()]
        self.composer = Dropdown(options=composers, value="", description="in the style of", **wide)
        self.opening = Dropdown(options=openings, description="opening", **wide)
        temperature = GenerationConfig().temperature
        self.temperature = FloatSlider(temperature, min=0.7, max=1.2, step=0.01, description="temperature", **wide)
        self.seconds = IntSlider(20, min=10, max=60, description="seconds", **wide)
        self.seed = IntSlider(0, min=0, max=20, description="seed", **wide)
        self.controls = [self.composer, self.opening, self.temperature, self.seconds, self.seed]
        go = button("Compose", "music", "continue the opening", self._compose, "primary")
        super().__init__([*self.controls, Box([go, self.message]), self.shown], lambda: f"<p>{HOW_TO}</p>")
        self.add_class("musicgen-compose")

    def _compose(self) -> None:
        with self.message.errors():
            self.message.tell("composing ...")
            config = GenerationConfig(float(self.seconds.value), self.temperature.value, seed=self.seed.value)
            prime = shipped_prime(self.opening.value, fps=self.model.config.fps)
            title, style = PRIMES[self.opening.value].title, self.composer.value or None
            self.take = compose(self.model, prime, title, config, style, self.message.tell)
            self.shown.value = player_of(self.take)
            self.message.tell(f"{self.take.roll.n_notes} notes")


class GalleryItem(Box):
    """A composed piece in the gallery: a small piano roll, a title and buttons."""

    def __init__(self, take: Take, panel: GenerationPanel):
        self.take = take
        self.panel = panel
        self.message = Message()
        picture = HTML(thumbnail(take.roll, take.prime_frames, take.title), layout=Layout(flex="none"))
        changed = [
            f"{name.replace('_', ' ')} {value:g}"
            for name, value in vars(take.config).items()
            if value != getattr(GenerationConfig(), name)
        ]
        about = f"<b>{escape(take.title)}</b><br>{', '.join(changed)}"
        buttons = [
            button("Play", "play", "show it in the player", lambda: panel.show(take)),
            button("Save", "save", "write it as MIDI, sound and settings", self._save),
            button("Remove", "trash", "remove it from the gallery", self._remove),
        ]
        text = VBox([HTML(f'<div style="line-height: 1.5">{about}</div>'), Box(buttons), self.message])
        super().__init__([picture, text], layout=Layout(grid_gap="12px", margin="8px 0 0", **FRAME))
        self.add_class("musicgen-kept")

    def _save(self) -> None:
        with self.message.errors():
            take = self.take.continuation if self.panel.only_new.value else self.take
            files = take.save(self.panel.folder)
            self.message.tell("saved " + ", ".join(path.name for path in files))

    def _remove(self) -> None:
        self.panel.gallery.children = tuple(each for each in self.panel.gallery.children if each is not self)


def player_of(take: Take) -> str:
    """Return a piece in a player as HTML; if its sound cannot be rendered, a picture, the reason and its MIDI file."""
    try:
        return player(take.roll, take.title, take.prime_frames).html
    except Exception as error:  # of whatever renders it: the piece is not lost
        reason = escape(f"The piece has no sound here ({error or type(error).__name__}).")
        file = f"data:audio/midi;base64,{b64encode(midi_bytes(take.roll)).decode()}"
        picture = thumbnail(take.roll, take.prime_frames, take.title)
        return f'{picture}<p role="alert">{reason} <a href="{file}" download="piece.mid">Save it as MIDI</a></p>'


def thumbnail(roll: PianoRoll, prime_frames: int, title: str) -> str:
    """Return a small SVG picture of a roll, without axes; its alternative text names the title."""
    lines = "".join(
        f"M{note['start_frame']} {110 - note['pitch']}h{note['end_frame'] - note['start_frame']}" for note in roll.notes
    )
    return (
        f'<svg width="240" height="72" viewBox="0 20 {roll.n_frames} 72" preserveAspectRatio="none" role="img" '
        f'aria-label="piano roll of {escape(title)}">'
        f'<rect y="20" width="{roll.n_frames}" height="72" fill="#808080" fill-opacity=".1"/>'
        f'<rect y="20" width="{prime_frames}" height="72" fill="#56B4E9" fill-opacity=".3"/>'
        f'<path d="{lines}" stroke="#0072B2" stroke-width="1.6"/></svg>'
    )
