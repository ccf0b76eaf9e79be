"""The beats of a whole recording, found by a model, and how well found beats agree with annotated ones.

The model takes beats as input, so it tells how likely the recording is given each of several candidates. Candidates are
tracks through the whole recording: a classical beat tracker proposes some for each tempo, and those that the model
likes suggest others at half, a third and twice their tempo, and between their beats. A path through the tracks
(Viterbi [1]_) changes from one to another only where both have a beat, and pays for it.

References
----------
.. [1] Rabiner, "A Tutorial on Hidden Markov Models and Selected Applications in Speech Recognition", Proc. IEEE, 1989.
.. [2] Davies, Degara and Plumbley, "Evaluation Methods for Musical Audio Beat Tracking Algorithms", Technical Report
       C4DM-TR-09-06, Queen Mary University of London, 2009.
"""

import math

import numpy as np

from musicgen.beat_candidates import bars_of, beat_paths, extend_beats, onset_strength
from musicgen.model import AttentionLSTM
from musicgen.model.given_beats import frame_nlls_given_beats
from musicgen.piano_roll import PianoRoll
from musicgen.utils.inference import for_inference

PERIODS = 0.18 * 1.2 ** np.arange(14)  # seconds, 0.18 to 1.93: 333 to 31 beats per minute
N_ROUNDS = 2  # of new tracks
# The path, in nats
SWITCH = 8.0  # cost of each change of the track
TRIED = (8.0, 3.0, 1.0)  # costs under which paths become new tracks
SWITCH_RUBATO = 0.1  # standard deviation of the logarithmic change of the tempo where the track changes
# Priors, in nats
RUBATO, MOST_RUBATO = 0.14, 4.0  # the same within a track; the highest cost of one change
USUAL_PERIOD, PERIOD_SPREAD = 0.5, 1.4  # seconds, octaves; of one second of music
MIN_GAIN = 2.0  # by which beats must be better than no beats
SHORTEST = 1.0  # seconds: in a shorter recording no beats are looked for, nor among fewer notes than MIN_NOTES
MIN_NOTES = 4
SAME_BEAT = 1  # frames between two beats that may be the same one
TOLERANCE = 0.07  # seconds


def track_beats(
    model: AttentionLSTM,
    roll: PianoRoll,
    fine: PianoRoll | None = None,
    n_rounds: int = N_ROUNDS,
    with_bars: bool = True,
) -> np.ndarray | None:
    """Find the beats of a whole recording under which a model finds it most likely.

    Parameters
    ----------
    model : AttentionLSTM
        With ``config.beats``.
    roll : PianoRoll
        Its own beats are not used.
    fine : PianoRoll, optional
        The same recording at a higher frame rate, so that beats lie exactly at its onsets. The model hears whether a
        beat is 20 ms late: it tells beats from others with it much better than without.
    n_rounds : int
        Of new tracks; fewer rounds take less time.
    with_bars : bool
        Look for the bars, too.

    Returns
    -------
    numpy.ndarray, shape (n_beats, 2), or None
        As in `PianoRoll`, from before the first frame to after the last. None if the recording is too short, has
        fewer than four notes, or is not more likely with beats than without.

    Raises
    ------
    ValueError
        If the model knows no beats, or the roll has another frame rate than the model.
    """
    if not model.config.beats:
        raise ValueError("the model knows no beats, so it cannot find any")
    if roll.fps != model.config.fps:
        raise ValueError(f"the roll has {roll.fps} frames per second, the model was trained with {model.config.fps}")
    if roll.duration_seconds < SHORTEST or roll.n_notes < MIN_NOTES:
        return None
    model = for_inference(model)
    onsets = Onsets(roll, fine)
    tracks: list[np.ndarray] = []
    gains = np.zeros((0, roll.n_frames))
    (free,) = frame_nlls_given_beats(model, roll, [None])
    more = propose_tracks(onsets)
    for number in range(n_rounds + 1):
        if number:
            more = new_tracks(related_tracks(tracks, gains, onsets), tracks)
        if more:
            nll = frame_nlls_given_beats(model, roll, more)
            gains = np.concatenate([gains, free - nll - tempo_costs(more, roll)])
            tracks += more
    beats, gain = best_path(tracks, gains, roll.fps)
    if gain < MIN_GAIN:
        return None
    if with_bars:
        barred = [beats, *bars_of(beats)]
        beats, _ = best_path(barred, free - frame_nlls_given_beats(model, roll, barred), roll.fps)
    return beats


class Onsets:
    """The onsets of a roll: their strength in each frame, and the time of the strongest one in it.

    Parameters
    ----------
    roll : PianoRoll
    fine : PianoRoll, optional
        As in `track_beats`.
    """

    def __init__(self, roll: PianoRoll, fine: PianoRoll | None = None):
        self.fps = roll.fps
        self.seconds = roll.duration_seconds
        self.strength = onset_strength(roll)  # (n_frames,)
        self.times = np.arange(roll.n_frames) / roll.fps  # (n_frames,); of a frame without onsets, its own time
        if fine is not None:
            strength = onset_strength(fine)
            struck = np.flatnonzero(strength)
            frames = np.floor(struck * roll.fps / fine.fps + 0.5).astype(int)  # as the sampler rounds
            struck = struck[frames < roll.n_frames]  # both ascend
            for number in np.argsort(strength[struck], kind="stable"):  # the strongest one remains
                self.times[frames[number]] = struck[number] / fine.fps

    def beats_at(self, frames: np.ndarray) -> np.ndarray:
        """Return beats (n_beats, 2) at the onsets in the given frames, extended to cover the whole roll."""
        return extend_beats(self.times[frames], self.seconds)

    def nearest(self, times: np.ndarray) -> np.ndarray:
        """Move times to the strongest onset within a frame; those without such an onset stay."""
        near = np.rint(times * self.fps).astype(int)[:, None] + np.array([0, -SAME_BEAT, SAME_BEAT])
        is_frame = (near >= 0) & (near < len(self.strength))
        near = near.clip(0, len(self.strength) - 1)
        strength = self.strength[near] * is_frame
        strongest = near[np.arange(len(near)), strength.argmax(axis=1)]  # the first of equals: the frame itself
        return np.where(strength.any(axis=1), self.times[strongest], times)


def propose_tracks(onsets: Onsets) -> list[np.ndarray]:
    """Return candidates for the beats of a whole roll: for each period two, of which the second avoids the first.

    Returns
    -------
    list of numpy.ndarray, shape (n_beats, 2)
        They cover the whole roll, and have no bars.
    """
    tracks = []
    periods = PERIODS * onsets.fps  # frames
    for period in periods[periods > 2 * SAME_BEAT + 1]:
        rest = onsets.strength.copy()
        for _ in range(2):
            paths = beat_paths(rest, period, n_ends=1)
            if paths:
                frames = np.array(next(iter(paths)))
                tracks.append(onsets.beats_at(frames))
                for near in (-SAME_BEAT, 0, SAME_BEAT):
                    rest[(frames + near).clip(0, len(rest) - 1)] = 0
    return tracks


def related_tracks(tracks: list[np.ndarray], gains: np.ndarray, onsets: Onsets) -> list[np.ndarray]:
    """Return tracks that may be better than the given ones: paths through them, and other levels of the best ones."""
    paths = [best_path(tracks, gains, onsets.fps, switch)[0][:, 0] for switch in TRIED]
    best_track = tracks[int(gains.sum(axis=1).argmax())][:, 0]
    levels = []
    for times in (paths[0], best_track):
        between = onsets.nearest((times[:-1] + times[1:]) / 2)
        twice = np.sort(np.concatenate([times, between]))
        levels += [between, twice, *(times[first::step] for step in (2, 3) for first in range(step))]
    slow_enough = [each for each in levels if len(each) > 1 and np.diff(each).min() > 2 * SAME_BEAT / onsets.fps]
    long_enough = [each for each in paths if len(each) > 1]
    return [extend_beats(each, onsets.seconds) for each in long_enough + slow_enough]


def tempo_costs(tracks: list[np.ndarray], roll: PianoRoll) -> np.ndarray:
    """Return the negative log-probability of the tempo in each frame, and of its change at each beat.

    Returns
    -------
    numpy.ndarray, shape (n_tracks, n_frames)
        In nats.
    """
    now = np.arange(roll.n_frames) / roll.fps
    costs = np.zeros((len(tracks), roll.n_frames))
    for cost, beats in zip(costs, tracks):
        times = beats[:, 0]
        log_periods = np.log(np.diff(times))
        beat = (np.searchsorted(times, now, side="right") - 1).clip(0, len(log_periods) - 1)
        octaves = (log_periods[beat] - math.log(USUAL_PERIOD)) / math.log(2)
        cost += (octaves / PERIOD_SPREAD) ** 2 / 2 / roll.fps
        changes = np.minimum(np.diff(log_periods) ** 2 / (2 * RUBATO**2), MOST_RUBATO)
        _add(cost, np.rint(times[1:-1] * roll.fps).astype(int), changes)
    return costs


def new_tracks(proposed: list[np.ndarray], known: list[np.ndarray]) -> list[np.ndarray]:
    """Return the proposed tracks that differ from the known ones, and from each other, by more than 10 ms."""
    new: list[np.ndarray] = []
    for track in proposed:
        if not any(len(each) == len(track) and np.allclose(each, track, atol=0.01) for each in known + new):
            new.append(track)
    return new


def best_path(
    tracks: list[np.ndarray], gains: np.ndarray, fps: int, switch: float = SWITCH
) -> tuple[np.ndarray, float]:
    """Find the path through tracks with the highest gain, less the cost of changing from one track to another.

    A path can change to a track in a frame in which that track has a beat, and in which or next to which the other one
    has a beat, too. That costs `switch`, and more if the tempo changes.

    Parameters
    ----------
    tracks : list of numpy.ndarray, shape (n_beats, 2)
        Each covers all frames.
    gains : numpy.ndarray, shape (n_tracks, n_frames)
        By how much each frame is more likely given a track than without beats, in nats.
    fps : int
    switch : float
        In nats.

    Returns
    -------
    beats : numpy.ndarray, shape (n_beats, 2)
    gain : float
        In nats.
    """
    n_tracks, n_frames = gains.shape
    leaves = np.full((n_tracks, n_frames), np.nan)  # log length of the beat that begins in this frame
    arrives = np.full((n_tracks, n_frames), np.nan)  # log length of the beat that ends in this frame or next to it
    for track, beats in enumerate(tracks):
        frames = np.rint(beats[:, 0] * fps).astype(int)
        log_lengths = np.log(np.diff(beats[:, 0]))
        for near in (-SAME_BEAT, SAME_BEAT, 0):  # where two beats are near, the exact one counts
            _put(arrives[track], frames[1:] + near, log_lengths)
        _put(leaves[track], frames[:-1], log_lengths)

    total = np.zeros(n_tracks)  # of the best path that is on each track
    previous = np.tile(np.arange(n_tracks), (n_frames, 1))  # the track in the frame before
    for t in range(n_frames):
        new = np.flatnonzero(~np.isnan(leaves[:, t]))
        old = np.flatnonzero(~np.isnan(arrives[:, t]))
        if len(new) and len(old):
            change = leaves[new, t][:, None] - arrives[old, t]  # (n_new, n_old)
            totals = total[old] - switch - change**2 / (2 * SWITCH_RUBATO**2)
            best = totals.argmax(axis=1)
            totals = totals[np.arange(len(new)), best]
            better = totals > total[new]
            previous[t, new[better]] = old[best[better]]
            total[new[better]] = totals[better]
        total = total + gains[:, t]

    chosen = np.zeros(n_frames, int)
    track = int(total.argmax())
    for t in range(n_frames - 1, -1, -1):
        chosen[t] = track
        track = previous[t, track]
    return _beats_along(tracks, chosen, fps), float(total.max())


def _add(row: np.ndarray, frames: np.ndarray, values: np.ndarray) -> None:
    inside = (frames >= 0) & (frames < len(row))
    np.add.at(row, frames[inside], values[inside])


def _put(row: np.ndarray, frames: np.ndarray, values: np.ndarray) -> None:
    inside = (frames >= 0) & (frames < len(row))
    row[frames[inside]] = values[inside]


def _beats_along(tracks: list[np.ndarray], chosen: np.ndarray, fps: int) -> np.ndarray:
    """Return the beats of the track that is chosen in each frame, and those before and after all frames."""
    n_frames = len(chosen)
    changes = np.flatnonzero(np.diff(chosen)) + 1
    parts = []
    for start, end in zip([0, *changes], [*changes, n_frames]):
        beats = tracks[chosen[start]]
        frames = np.rint(beats[:, 0] * fps)
        first = -np.inf if start == 0 else start
        last = np.inf if end == n_frames else end
        parts.append(beats[(frames >= first) & (frames < last)])
    beats = np.concatenate(parts)
    # Where the track changes, both tracks may have the same beat. Nowhere is a beat shorter than three frames.
    kept: list[np.ndarray] = []
    for beat in beats:
        if not kept or round(beat[0] * fps) - round(kept[-1][0] * fps) > 2 * SAME_BEAT:
            kept.append(beat)
    return np.array(kept)


def beat_f_measure(found: np.ndarray, annotated: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Return the F-measure of found beats [2]_: a hit is within the tolerance of an annotated beat of its own.

    Parameters
    ----------
    found, annotated : numpy.ndarray, shape (n_beats,)
        Ascending times in seconds.
    tolerance : float
        In seconds.
    """
    hits = i = j = 0
    while i < len(found) and j < len(annotated):
        if abs(found[i] - annotated[j]) <= tolerance:
            hits += 1
            i += 1
            j += 1
        elif found[i] < annotated[j]:
            i += 1
        else:
            j += 1
    return 2 * hits / max(1, len(found) + len(annotated))


def metrical_levels(times: np.ndarray) -> list[np.ndarray]:
    """Return beats, those between them, both together, and every second one from the first or the second beat [2]_."""
    between = (times[:-1] + times[1:]) / 2
    return [times, between, np.sort(np.concatenate([times, between])), times[::2], times[1::2]]
