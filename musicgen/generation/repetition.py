"""A penalty that ends figures which a model would repeat for ever."""

import numpy as np
from numpy import ndarray

PERIODS = (0.15, 4.0)  # seconds: shortest and longest figure
SHORT = 0.6  # seconds: a shorter figure, such as a trill, of period p may repeat for `seconds * p / SHORT`
TOLERANCE = 0.1  # seconds: so much earlier or later, a note still counts as repeated
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
    shape : (int, int, int)
        Number of pieces B, most frames T, and pitches K.
    seconds : float
        For this long a figure is repeated freely.
    fps : int

    References
    ----------
    .. [1] Keskar et al., "CTRL: A Conditional Transformer Language Model for Controllable Generation", 2019.
    """

    def __init__(self, shape: tuple[int, int, int], seconds: float, fps: int):
        n_pieces, n_frames, n_pitches = shape
        self.fps = fps
        self.n_known = 0
        self.radius = round(TOLERANCE * fps)  # frames
        shortest = max(self.radius + 1, round(PERIODS[0] * fps))  # what lies one period before must be known
        longest = round(PERIODS[1] * fps)
        self.longest = longest
        self.periods = np.arange(longest, shortest - 1, -1)  # (P,) frames
        self.period_seconds = self.periods.astype(float) / fps  # (P,)
        self.allowed_seconds = np.minimum(self.period_seconds / SHORT, 1) * seconds  # (P,)
        # A shortcut of `penalty`, which counts exactly: fewer repeated frames than this have none for sure. It is one
        # too low, to be safe from rounding.
        fewest = np.maximum(self.periods, (self.allowed_seconds * fps).astype(int) - self.periods) - 1  # (P,)
        self.fewest = np.maximum(fewest, 1)
        self.offset = longest  # frame t has index t + offset: before the piece there is silence
        length = longest + n_frames + self.radius
        self.onsets = np.zeros((n_pieces, length, n_pitches), np.float32)
        self.near_onsets = np.zeros_like(self.onsets)  # 1 up to `radius` frames before and after an onset
        self.n_onsets = np.zeros((n_pieces, length), np.float32)  # of each frame
        # A frame's score for a period is positive where its onsets repeat. A stretch of frames is a repetition if its
        # scores sum to 0 or more, that is, if the running sum before it is not above the running sum after it.
        n_periods = len(self.periods)
        self.running_sum = np.zeros((n_pieces, n_periods), np.float32)  # of the scores of all frames
        self.sum_before = np.full((n_pieces, n_frames, n_periods), np.inf, np.float32)  # finite at repetitions
        # The smallest `sum_before` of the frames that are so long ago that a repetition since then has a penalty.
        self.smallest_sum = np.full((n_pieces, n_periods), np.inf, np.float32)

    def append(self, struck: ndarray) -> None:
        """Add the onsets of the next frame, bool (B, K), and score the frame `radius` frames before it."""
        now = self.n_known + self.offset  # its index
        self.onsets[:, now] = struck
        self.n_onsets[:, now] = struck.sum(axis=-1)
        around = self.near_onsets[:, now - self.radius : now + self.radius + 1]
        np.maximum(around, struck[:, None], out=around)
        if self.n_known >= self.radius:  # now all that is near this frame is known
            self._score(self.n_known - self.radius)
        self.n_known += 1

    def penalty(self) -> ndarray | float:
        """Return the penalty to subtract from the next frame's onset logits: an array (B, K), or 0."""
        if not (self.smallest_sum <= self.running_sum).any():  # as in most frames: no repetition is long enough
            return 0.0
        return self.exact_penalty()

    def exact_penalty(self) -> ndarray:
        """Return the penalty as an array (B, K), without the shortcut of `penalty`."""
        n_repeated = self._repeated_frames()  # (B, P)
        lasting_seconds = n_repeated.astype(float) / self.fps + self.period_seconds
        excess = np.maximum(lasting_seconds - self.allowed_seconds, 0.0) * (n_repeated >= self.periods)
        expected = self._one_period_before(self.near_onsets, self.n_known)  # (B, P, K)
        return ((excess[..., None] * expected).max(axis=1) * PENALTY).astype(np.float32)  # (B, K)

    def select(self, rows: ndarray) -> None:
        """Replace each row i of the batch by a copy of row ``rows[i]``."""
        for name in ("onsets", "near_onsets", "n_onsets", "running_sum", "sum_before", "smallest_sum"):
            setattr(self, name, getattr(self, name)[rows])

    def _repeated_frames(self) -> ndarray:
        """Return the length in frames of the longest repetition up to now, for each period, shape (B, P)."""
        first = max(0, self.n_known - round(WINDOW * self.fps))
        end = max(0, self.n_known - self.radius)  # later frames have no score yet
        starts = self.sum_before[:, first : self.n_known] <= self.running_sum[:, None]  # (B, frames, P)
        earliest = first + starts.argmax(axis=1)  # the first one, where there is any
        return (end - earliest) * starts.any(axis=1)

    def _one_period_before(self, array: ndarray, frame: int) -> ndarray:
        """Return the frame that lies one period before `frame`, for each period, shape (B, P, ...)."""
        first = frame + self.offset - self.longest  # the periods descend
        return array[:, first : first + len(self.periods)]

    def _score(self, frame: int) -> None:
        """Compare a frame with the frame one period before, for all periods."""
        index = frame + self.offset
        onsets_before = self._one_period_before(self.onsets, frame)  # (B, P, K)
        near_onsets_before = self._one_period_before(self.near_onsets, frame)
        occurred_before = near_onsets_before @ self.onsets[:, index, :, None]  # (B, P, 1)
        occurs_again = onsets_before @ self.near_onsets[:, index, :, None]
        n_repeated = (occurred_before + occurs_again)[..., 0]  # (B, P)
        n_onsets = self.n_onsets[:, index, None] + self._one_period_before(self.n_onsets, frame)
        score = (1 + NEW) * n_repeated - NEW * n_onsets
        self.sum_before[:, frame] = np.where(score > np.zeros_like(score), self.running_sum, np.inf)
        self.running_sum = self.running_sum + score
        long_ago = np.maximum(frame + 1 - self.fewest, 0)  # (P,)
        sums = self.sum_before[:, long_ago, np.arange(len(long_ago))]  # (B, P)
        self.smallest_sum = np.minimum(self.smallest_sum, sums)
