"""Models for the notebooks: open one by the name of its run, and let it listen frame by frame."""

from pathlib import Path

import torch
from torch import Tensor

from musicgen.corpora.folder import match_composer
from musicgen.generation.generate import home_of
from musicgen.generation.sampling import median_velocity
from musicgen.model import AttentionLSTM
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint
from musicgen.utils.inference import single_thread


def find_checkpoint(name: Path | str | None = None, runs_dir: Path | str = "../runs") -> Path:
    """Return the path of the shipped checkpoint (None), of the best one of a run by the run's name, or the given path.

    Raises
    ------
    ValueError
        If there is no such run; the message names the runs that there are.
    """
    run = Path(runs_dir) / str(name) / "best.safetensors"
    path = SHIPPED_CHECKPOINT if name is None else run if run.is_file() else Path(name)
    if not path.is_file():
        there = sorted(found.parent.name for found in Path(runs_dir).glob("*/best.safetensors"))
        runs = f"the runs are {', '.join(there)}" if there else "there are no runs yet"
        place = f"{str(name)!r} is no run in {str(runs_dir)!r}"
        raise ValueError(f"{place}: {runs}; CHECKPOINT = None opens the shipped model")
    return path


def open_model(name: Path | str | None = None, runs_dir: Path | str = "../runs") -> AttentionLSTM:
    """Open the model of `find_checkpoint`, and print what it knows besides the notes."""
    model = load_checkpoint(find_checkpoint(name, runs_dir)).model
    config = model.config
    known = [f"{len(config.composers)} composers"] if config.composers else []
    known += [what for what, knows in (("beats", config.beats), ("the pedal", config.pedal)) if knows]
    print(f"{'the shipped model' if name is None else name} knows {', '.join(['notes', *known])}")
    return model


def style_of(model: AttentionLSTM, composer: str | None) -> str | None:
    """Return a composer's full name as the model knows it; None without a composer, or if the model knows none.

    Raises
    ------
    ValueError
        If the model knows composers, but not this one.
    """
    return match_composer(composer, model.config.composers) if composer and model.config.composers else None


def in_style(composer: str | None) -> str:
    """Return a phrase for a title, such as " in the style of Chopin"; an empty string without a composer."""
    return f" in the style of {composer}" if composer else ""


class Listener:
    """A model that has heard a prime. It gives the logits of the next frame, and hears the frame that you choose.

    New notes get the median velocity of the prime, and the pedal its likelier position. Beats are not used.

    Parameters
    ----------
    model : AttentionLSTM
        In evaluation mode.
    prime : PianoRoll
        At least one frame.
    composer : str, optional
        One of ``model.config.composers``.
    """

    @single_thread()
    @torch.inference_mode()
    def __init__(self, model: AttentionLSTM, prime: PianoRoll, composer: str | None = None):
        self.model = model
        self.fps = prime.fps
        self._label = torch.tensor([model.config.label_of(composer)])
        self._velocity = torch.from_numpy(median_velocity(prime.velocity[None])[0])
        self._frames = list(torch.tensor(prime.velocity))  # (K,) each
        self._pedal = list(torch.tensor(prime.pedal_down).float())
        self._home = torch.tensor(home_of(prime))[None] if model.config.home else None
        self._state = None
        self._hear(torch.stack(self._frames), torch.stack(self._pedal))

    @property
    def frame(self) -> Tensor:
        """The last frame, shape (88,): 1 where a pitch sounds, otherwise 0."""
        return (self._frames[-1] > 0).float()

    @property
    def roll(self) -> PianoRoll:
        """All frames heard so far, as a roll."""
        velocity = torch.stack(self._frames).numpy()
        return PianoRoll(velocity, self.fps, torch.stack(self._pedal).numpy() > 0)

    @single_thread()
    @torch.inference_mode()
    def logits(self, guess: Tensor) -> Tensor:
        """Return the logit of each pitch in the next frame, shape (88,), given the lower pitches of a guess (88,)."""
        output = self.model.output
        conditioned = output.condition(self._encoded, self._features.active, guess[None].float())
        return output.logits(conditioned, output.skip_logits(self._features))[0].clone()

    @single_thread()
    @torch.inference_mode()
    def append(self, sounding: Tensor) -> None:
        """Add a frame, shape (88,): true or 1 where a pitch sounds."""
        last = self._frames[-1]
        held = torch.where(last > 0, last, self._velocity)
        self._frames.append(torch.where(sounding.bool(), held, torch.zeros_like(held)))
        self._pedal.append(self._next_pedal[0])
        self._hear(self._frames[-1][None], self._pedal[-1][None])

    def _hear(self, velocity: Tensor, pedal: Tensor) -> None:
        """Let the model hear frames (T, K), and store the features that predict the next one."""
        features, self._state = self.model(velocity[None] / 127, self._state, self._label, pedal[None], home=self._home)
        self._features = features.map(lambda each: each[:, -1])
        output = self.model.output
        self._next_pedal = torch.zeros(1)
        if output.pedal is not None:
            self._next_pedal = (output.pedal.logits(self._features) > 0).float()
        self._encoded = output.encode(self._features, self._next_pedal)
