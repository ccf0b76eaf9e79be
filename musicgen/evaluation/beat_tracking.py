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

import numpy as np

from musicgen.beat_candidates import beat_paths, extend_beats, onset_strength, smooth_times
from musicgen.model import AttentionLSTM
from musicgen.model.given_beats import frame_nlls_given_beats
from musicgen.piano_roll import PianoRoll
from musicgen.utils.inference import for_inference

PERIODS = 0.18 * 1.2 ** np.arange(14)  # seconds, 0.18 to 1.93: 333 to 31 beats per minute
SMOOTHING = 0.2  # less than for a prime: the model hears whether a beat is 20 ms late
N_ROUNDS = 3  # of new tracks
METRES = (2, 3, 4)
# The path, in nats
SWITCH = 8.0  # cost of each change of the track
TRIED = (8.0, 3.0, 1.0)  # costs under which paths become new tracks
RUBATO = 0.1  # standard deviation of the logarithmic change of the tempo where the track changes
MIN_GAIN = 2.0  # by which beats must be better than no beats
SHORTEST = 1.0  # seconds: in a shorter recording no beats are looked for, nor among fewer notes than MIN_NOTES
MIN_NOTES = 4
SAME_BEAT = 1  # frames between two beats that may be the same one
TOLERANCE = 0.07  # seconds


def track_beats(
    model: AttentionLSTM, roll: PianoRoll, n_rounds: int = N_ROUNDS, with_bars: bool = True
) -> np.ndarray | None:
    """Find the beats of a whole recording under which a model finds it most likely.

    Parameters
    ----------
    model : AttentionLSTM
        With ``config.beats``.
    roll : PianoRoll
        Its own beats are not used.
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
    tracks = propose_tracks(roll)
    free, *nll = frame_nlls_given_beats(model, roll, [None, *tracks])
    gains = free - np.array(nll)  # (n_tracks, n_frames), in nats
    for _ in range(n_rounds):
        more = [track for track in related_tracks(tracks, gains, roll) if not _contains(tracks, track)]
        if not more:
            break
        tracks += more
        gains = np.concatenate([gains, free - frame_nlls_given_beats(model, roll, more)])
    beats, gain = best_path(tracks, gains, roll.fps)
    if gain < MIN_GAIN:
        return None
    if with_bars:
        barred = [beats, *bars_of(beats)]
        beats, _ = best_path(barred, free - frame_nlls_given_beats(model, roll, barred), roll.fps)
    return beats


def propose_tracks(roll: PianoRoll) -> list[np.ndarray]:
    """Return candidates for the beats of a whole roll: for each period two, of which the second avoids the first.

    Returns
    -------
    list of numpy.ndarray, shape (n_beats, 2)
        They cover the whole roll, and have no bars.
    """
    strength = onset_strength(roll)
    tracks = []
    for period in PERIODS * roll.fps:
        rest = strength.copy()
        for _ in range(2):
            paths = beat_paths(rest, period, n_ends=1)
            if paths:
                frames = np.array(next(iter(paths)))
                times = smooth_times(frames / roll.fps, SMOOTHING)
                tracks.append(extend_beats(times, roll.duration_seconds))
                for near in (-1, 0, 1):
                    rest[(frames + near).clip(0, roll.n_frames - 1)] = 0
    return tracks


def related_tracks(tracks: list[np.ndarray], gains: np.ndarray, roll: PianoRoll) -> list[np.ndarray]:
    """Return tracks that may be better than the given ones: paths through them, and other levels of the best path."""
    paths = [best_path(tracks, gains, roll.fps, switch)[0][:, 0] for switch in TRIED]
    times = paths[0]
    between = _snap((times[:-1] + times[1:]) / 2, onset_strength(roll), roll.fps)
    twice = np.sort(np.concatenate([times, between]))
    levels = [between, twice, *(times[first::step] for step in (2, 3) for first in range(step))]
    slow_enough = [each for each in levels if len(each) > 1 and np.diff(each).min() > 2 * SAME_BEAT / roll.fps]
    return [extend_beats(each, roll.duration_seconds) for each in paths + slow_enough]


def bars_of(beats: np.ndarray) -> list[np.ndarray]:
    """Return the beats with bars of two, three and four beats, which begin at each possible beat."""
    barred = []
    for metre in METRES:
        for downbeat in range(metre):
            candidate = beats.copy()
            candidate[downbeat::metre, 1] = 1
            barred.append(candidate)
    return barred


def _snap(times: np.ndarray, strength: np.ndarray, fps: int) -> np.ndarray:
    """Move times to the strongest onset within a frame."""
    frames = np.rint(times * fps).astype(int)
    near = frames[:, None] + np.array([0, -SAME_BEAT, SAME_BEAT])  # the first of equals is chosen
    onsets = np.where((near >= 0) & (near < len(strength)), strength[near.clip(0, len(strength) - 1)], 0)
    snapped = near[np.arange(len(near)), onsets.argmax(axis=1)] / fps
    return np.where(onsets.any(axis=1), snapped, times)


def _contains(tracks: list[np.ndarray], track: np.ndarray) -> bool:
    return any(len(each) == len(track) and np.allclose(each, track, atol=0.01) for each in tracks)


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
            totals = total[old] - switch - change**2 / (2 * RUBATO**2)
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
    # Where the track changes, both tracks may have the same beat.
    is_new = np.diff(np.rint(beats[:, 0] * fps), prepend=-np.inf) > 2 * SAME_BEAT
    return beats[is_new]


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
