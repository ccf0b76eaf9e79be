"""An opening and an ending are given, and the middle is composed: of several middles the best-fitting one is kept.

The model only looks back, so no middle is composed towards the ending. But the model tells how likely the ending is
after each middle.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from musicgen.generation.continuation import CHUNK_FRAMES
from musicgen.generation.generate import Callback, GenerationConfig, generate_several, home_of
from musicgen.model import AttentionLSTM
from musicgen.model.heads import frame_nlls
from musicgen.piano_roll import PianoRoll
from musicgen.utils.inference import for_inference

N_MIDDLES = 16
SCORED_SECONDS = 2.0  # of the ending


def fill_between(
    model: AttentionLSTM,
    prime: PianoRoll,
    ending: PianoRoll,
    config: GenerationConfig,
    n_pieces: int = 1,
    composer: str | None = None,
    callback: Callback | None = None,
    device: torch.device | str = "cpu",
    n_middles: int = N_MIDDLES,
    **options: Any,
) -> list[PianoRoll]:
    """Compose several middles at once, and return the pieces in which the ending is most likely.

    Parameters
    ----------
    model, prime, composer, callback, device
        As in `generate_several`.
    ending : PianoRoll
        It follows the middle unchanged.
    config : GenerationConfig
        ``seconds`` is the length of the prime and the middle. Each middle is played by a single candidate: they are
        chosen by the ending instead.
    n_pieces : int
        How many pieces, 1 to `n_middles`; the best one comes first.
    n_middles : int
        Middles to choose from.
    **options
        `engine`, as in `generate`.

    Returns
    -------
    list of PianoRoll
        The prime, a middle and the ending.

    Raises
    ------
    ValueError
        As in `generate`, and if there is no opening, or the ending has no notes or another frame rate.
    """
    if not prime or not prime.n_frames:
        raise ValueError("an ending needs an opening, too")
    if not ending.n_notes or ending.fps != prime.fps:
        raise ValueError(f"the ending needs notes, and {prime.fps} frames per second as the opening")
    if not 1 <= n_pieces <= n_middles:
        raise ValueError(f"of {n_middles} middles, 1 to {n_middles} can be kept, not {n_pieces}")
    config = replace(config, candidates=1)
    starts = generate_several(model, prime, config, n_middles, composer, callback, device, **options)
    pieces = [join(start, ending) for start in starts]
    home = home_of(prime, config.pedal) if config.home else None
    nlls = ending_nlls(model, pieces, starts[0].n_frames, composer, home, device)
    return [pieces[number] for number in np.argsort(nlls, kind="stable")[:n_pieces]]


def join(start: PianoRoll, ending: PianoRoll) -> PianoRoll:
    """Return two rolls as one. What sounds at the end of the first is released before the second strikes it again.

    If both have beats, so has the result. The last beat of the first is left out if it is closer to the first beat of
    the second than half a beat.
    """
    velocity = start.velocity.copy()
    velocity[-1:, ending.active[0]] = 0
    has_pedal = start.pedal is not None or ending.pedal is not None
    beats = start.beats
    if beats is not None and ending.beats is not None:
        later = ending.beats[ending.beats[:, 0] >= 0] + [start.duration_seconds, 0]
        half = float(np.median(np.diff(beats[:, 0]))) / 2 if len(beats) > 1 else 0.0
        before = beats[beats[:, 0] < min([start.duration_seconds, *(later[:1, 0] - half)])]
        beats = np.concatenate([before, later])
    return replace(
        start,
        velocity=np.concatenate([velocity, ending.velocity]),
        pedal=np.concatenate([start.pedal_down, ending.pedal_down]) if has_pedal else None,
        beats=beats,
    )


@torch.inference_mode()
def ending_nlls(
    model: AttentionLSTM,
    pieces: Sequence[PianoRoll],
    n_before: int,
    composer: str | None = None,
    home: np.ndarray | None = None,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Return the negative log-likelihood of the first two seconds of the ending, given all before them.

    Parameters
    ----------
    model, composer, device
        As in `generate_several`. The model is not told the beats.
    pieces : sequence of PianoRoll
        All of the same length.
    n_before : int
        Frames before the ending.
    home : numpy.ndarray, shape (n_pitches, N_HOME_FEATURES), optional

    Returns
    -------
    numpy.ndarray, shape (n_pieces,)
        In nats per frame.
    """
    model = for_inference(model, device)
    B = len(pieces)
    stop = n_before + round(SCORED_SECONDS * pieces[0].fps)
    velocity = torch.tensor(np.stack([piece.velocity[:stop] for piece in pieces]), device=device)  # (B, T, K)
    pedal = torch.tensor(np.stack([piece.pedal_down[:stop] for piece in pieces]), device=device).float()  # (B, T)
    composers = torch.full((B,), model.config.label_of(composer), device=device)
    homes = None
    if home is not None and model.config.home:
        homes = torch.tensor(home, device=device).expand(B, *home.shape)
    state = None
    for begin in range(0, n_before - 1, CHUNK_FRAMES):  # all at once would take too much memory
        chunk = slice(begin, min(begin + CHUNK_FRAMES, n_before - 1))
        _, state = model(velocity[:, chunk] / 127, state, composers, pedal[:, chunk], None, homes)
    last = slice(n_before - 1, -1)  # frame t predicts frame t + 1
    features, _ = model(velocity[:, last] / 127, state, composers, pedal[:, last], None, homes)
    features = features.map(lambda x: x.flatten(0, 1))  # (B T, ...)
    scored = frame_nlls(model.output, features, velocity[:, n_before:].flatten(0, 1), pedal[:, n_before:].flatten())
    return scored.nll.view(B, -1).mean(dim=1).cpu().numpy()
