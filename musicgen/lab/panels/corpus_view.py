"""Look through a corpus in a notebook: choose a composer and a piece, see it, hear it."""

import ipywidgets
from IPython.display import display

from musicgen.corpora.folder import Piece
from musicgen.lab.player import Player, player
from musicgen.midi import MidiError, read_performance

EVERYBODY = "all composers"


def show_piece(piece: Piece, seconds: float = 30, sustain: bool = False) -> Player:
    """Return a player for the opening of a piece.

    Parameters
    ----------
    piece : Piece
    seconds : float
        Length of the opening.
    sustain : bool
        Let notes ring on while the pedal is down, as the pianist heard it; the poster's roll has no pedal.
    """
    roll = read_performance(piece.path).to_roll(sustain=sustain, max_seconds=seconds)
    return player(roll, f"{piece.composer}: {piece.title} ({piece.split})")


def browse(pieces: list[Piece], seconds: float = 30) -> ipywidgets.VBox:
    """Return drop-down lists of composers and pieces, above a player for the chosen piece.

    Parameters
    ----------
    pieces : list of Piece
        As `load_corpus` returns them. For a file that cannot be read, the reason is shown.
    seconds : float
        How much of each piece is played.
    """
    n_by_composer = {name: sum(piece.composer == name for piece in pieces) for name in {p.composer for p in pieces}}
    names = sorted(n_by_composer, key=lambda name: name.split()[-1:])
    options = [(f"{EVERYBODY} ({len(pieces)})", None), *((f"{name} ({n_by_composer[name]})", name) for name in names)]
    wide = {"layout": {"width": "32em"}}
    composer = ipywidgets.Dropdown(options=options, description="composer", **wide)
    piece = ipywidgets.Dropdown(description="piece", **wide)
    sustain = ipywidgets.Checkbox(description="with the sustain pedal", indent=False)
    stage = ipywidgets.Output()

    def fill(_=None):
        own = [each for each in pieces if composer.value in (None, each.composer)]
        piece.options = [(f"{each.title} ({each.split})", each) for each in own]
        piece.index = 0

    def show(_=None):
        stage.clear_output(wait=True)
        with stage:
            try:
                display(show_piece(piece.value, seconds, sustain.value))
            except MidiError as error:
                print(error.reason)

    fill()
    show()
    composer.observe(fill, "value")
    for control in (piece, sustain):
        control.observe(show, "value")
    return ipywidgets.VBox([ipywidgets.HBox([composer, piece, sustain]), stage])
