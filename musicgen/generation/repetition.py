"""A limit for figures that a model repeats for ever."""

import torch
from torch import Tensor

PERIODS = (0.15, 4.0)  # seconds: shortest and longest figure
SHORT = 0.6  # seconds: figures that are shorter, such as trills, may repeat for a proportionally shorter time
TOLERANCE = 0.1  # seconds
NEW = 9  # a new onset counts as much as nine repeated ones: nine in ten must be repeated
WINDOW = 30.0  # seconds that are searched for the start of a repetition
PENALTY = 2.0  # logits per second


class RepetitionPenalty:
    """Makes onsets that continue a long repetition less and less likely.

    The repetition is the longest stretch up to now in which nine in ten onsets occurred one period before, or occur
    again one period later, as in `musicgen.evaluation.statistics.longest_repeat_seconds`. Beyond `seconds`, each
    further second takes 2 from the logits of the pitches that it expects. Penalties of this kind are common for
    language models [1]_, which fall into the same loops.

    Parameters
    ----------
    velocity : Tensor, shape (n_pieces, n_frames, n_pitches)
        The pieces, which are filled in frame by frame.
    seconds : float
        For this long a figure is repeated freely.
    fps : int

    References
    ----------
    .. [1] Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable Generation", 2019.
    """

    def __init__(self, velocity: Tensor, seconds: float, fps: int):
        self.velocity, self.fps = velocity, fps
        shortest, self.longest = (max(1, round(period * fps)) for period in PERIODS)
        self.reach, self.n_known = round(TOLERANCE * fps), 0
        self.periods = torch.arange(self.longest, shortest - 1, -1)
        self.allowed = seconds * (self.periods / fps / SHORT).clamp(max=1)
        n_pieces, n_frames, n_pitches = velocity.shape
        # Frame t has index t + longest: before the piece there is silence.
        self.onsets = torch.zeros(n_pieces, self.longest + n_frames + self.reach, n_pitches)
        self.near = torch.zeros_like(self.onsets)  # 1 up to `reach` frames before and after an onset
        self.sums = torch.zeros(n_pieces, len(self.periods))  # of the scores of all frames
        self.starts = torch.full((n_pieces, len(self.periods), n_frames), torch.inf)  # `sums` before a repeated onset

    def at(self, frame: int) -> Tensor | float:
        """Return the penalty to subtract from the onset logits of a frame: a tensor (n_pieces, n_pitches), or 0."""
        for known in range(self.n_known, frame):
            self._add(known)
        self.n_known = frame
        known, first = max(0, frame - self.reach), max(0, frame - round(WINDOW * self.fps))
        # The longest stretch whose scores sum to 0 or more begins where the running sum was first as low as now.
        lower = (self.starts[..., first:frame] <= self.sums[..., None]).to(torch.uint8)
        lasting = (known - first - lower.argmax(-1)) * lower.any(-1) if frame else torch.zeros_like(self.sums)
        excess = ((lasting + self.periods) / self.fps - self.allowed).clamp(min=0) * (lasting >= self.periods)
        if not excess.any():
            return 0.0
        return (excess[..., None] * self._before(self.near, frame)).amax(1) * PENALTY

    def _before(self, array: Tensor, frame: int) -> Tensor:
        """Return, for each period, the frame one period before, as a tensor (n_pieces, n_periods, n_pitches)."""
        return array[:, frame : frame + len(self.periods)]

    def _add(self, frame: int) -> None:
        """Read a frame, and score the frame `reach` frames before it."""
        struck = self.velocity[:, frame] > 0
        if frame:
            struck &= self.velocity[:, frame - 1] == 0
        at = frame + self.longest
        self.onsets[:, at] = struck.float()
        self.near[:, at - self.reach : at + self.reach + 1] += struck[:, None]
        self.near[:, at - self.reach : at + self.reach + 1].clamp_(max=1)
        frame, at = frame - self.reach, at - self.reach
        if frame < 0:
            return
        before, near_before = self._before(self.onsets, frame), self._before(self.near, frame)
        again = near_before @ self.onsets[:, at, :, None] + before @ self.near[:, at, :, None]  # (B, L, 1)
        n_onsets = self.onsets[:, at].sum(-1, keepdim=True) + before.sum(-1)  # (B, L)
        scores = again[..., 0] - NEW * (n_onsets - again[..., 0])
        self.starts[..., frame] = torch.where(scores > 0, self.sums, torch.inf)
        self.sums = self.sums + scores
