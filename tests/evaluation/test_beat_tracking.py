"""The beats of a whole recording."""

import numpy as np
import pytest

from musicgen.beats import IN_BAR, IN_BEAT, beat_features
from musicgen.evaluation import beat_tracking
from musicgen.evaluation.beat_tracking import (
    Onsets,
    beat_f_measure,
    best_path,
    metrical_levels,
    propose_tracks,
    track_beats,
)
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

FPS = 20


def beats_of(periods, metre, first=0.4):
    """Beats (n, 2) with the given distances in seconds, and a downbeat first."""
    times = first + np.concatenate([[0], np.cumsum(periods)])
    return np.column_stack([times, np.arange(len(times)) % metre == 0])


def recording(beats, fps=FPS):
    """A roll with a chord on each beat, a low one on each downbeat, and a note of a melody between two beats."""
    onsets = np.rint(beats[:, 0] * fps).astype(int)
    velocity = np.zeros((onsets[-1] + 12, 88), np.uint8)
    for number, (frame, is_downbeat) in enumerate(zip(onsets, beats[:, 1])):
        bass, bass_velocity = (15, 90) if is_downbeat else (31, 70)
        velocity[frame : frame + 4, [bass, 39 + number % 4, 43]] = bass_velocity, 60, 55
    for number, frame in enumerate((onsets[:-1] + onsets[1:]) // 2):
        velocity[frame : frame + 3, 51 + (3 * number) % 7] = 50
    return PianoRoll(velocity, fps)


STEADY = beats_of([0.62] * 31, metre=4)
FASTER = beats_of(0.75 * 0.985 ** np.arange(40), metre=4)  # from 80 to 144 per minute
WALTZ = beats_of([0.48, 0.52, 0.5] * 12, metre=3)


@pytest.fixture
def model(tiny_model):
    return tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4)


@pytest.fixture
def knows(monkeypatch):
    """Let the likelihood of each frame tell how well its place in beat and bar agrees with the true one."""

    def install(truth):
        def nlls(model, roll, candidates):
            true = beat_features(truth, roll.n_frames, roll.fps)
            features = np.stack([beat_features(each, roll.n_frames, roll.fps) for each in candidates])
            in_beat = (features * true)[..., IN_BEAT].mean(axis=2) * 2  # 1 if they agree, about 0 by chance
            in_bar = (features * true)[..., IN_BAR].mean(axis=2) * 2
            has_beats = np.array([each is not None for each in candidates])[:, None]
            return 3 + (0.3 - in_beat - 0.5 * in_bar) * has_beats

        monkeypatch.setattr(beat_tracking, "frame_nlls_given_beats", nlls)

    return install


def assert_close(found, truth):
    """Between the first and the last true beat there is one found beat for each, at most 1.5 frames away."""
    start, end = truth[0] - 0.1, truth[-1] - 0.1
    found = found[(found >= start) & (found < end)]
    expected = truth[truth < end]
    assert len(found) == len(expected)
    assert np.abs(found - expected).max() < 1.5 / FPS


@pytest.mark.parametrize("truth", [STEADY, FASTER, WALTZ], ids=["steady", "faster", "waltz"])
def test_the_beats_of_a_recording_are_found_with_their_bars(model, knows, truth):
    knows(truth)
    found = track_beats(model, recording(truth))
    assert_close(found[:, 0], truth[:, 0])
    assert_close(found[found[:, 1] > 0, 0], truth[truth[:, 1] > 0, 0])


def test_beats_reach_beyond_both_ends_and_bars_can_be_left_out(model, knows):
    knows(STEADY)
    roll = recording(STEADY)
    found = track_beats(model, roll, n_rounds=0, with_bars=False)
    assert found[0, 0] <= 0
    assert found[-1, 0] >= roll.duration_seconds
    assert (np.diff(found[:, 0]) > 0).all()
    assert not found[:, 1].any()


def test_with_a_finer_roll_beats_lie_exactly_at_its_onsets(model, knows):
    truth = beats_of([0.613, 0.588] * 12, metre=4)
    knows(truth)
    found = track_beats(model, recording(truth), recording(truth, fps=100))[:, 0]
    nearest = np.abs(found[:, None] - truth[:, 0]).min(axis=0)
    assert nearest.max() < 0.0051
    coarse = track_beats(model, recording(truth))[:, 0]
    assert 0.015 < np.abs(coarse[:, None] - truth[:, 0]).min(axis=0).max() < 0.03


def test_among_the_first_tracks_are_the_beats_and_those_between_them():
    beats = beats_of([0.7] * 20, metre=4)
    tracks = [track[:, 0] for track in propose_tracks(Onsets(recording(beats)))]
    between = (beats[:-1, 0] + beats[1:, 0]) / 2
    for wanted in (beats[:, 0], between):
        assert max(beat_f_measure(track[(track > 0.2) & (track < 14.5)], wanted) for track in tracks) > 0.95


def test_the_shipped_model_hears_the_beat_of_a_waltz():
    found = track_beats(load_checkpoint(SHIPPED_CHECKPOINT).model, recording(WALTZ)[:300], n_rounds=1)
    heard = found[(found[:, 0] > 0.2) & (found[:, 0] < 14.9), 0]
    wanted = WALTZ[WALTZ[:, 0] < 14.9, 0]
    assert max(beat_f_measure(heard, level) for level in metrical_levels(wanted)) > 0.9


def test_what_has_no_beats_gets_none(model, knows):
    knows(STEADY)
    roll = recording(STEADY)
    assert track_beats(model, roll[:0]) is None
    assert track_beats(model, roll[:19]) is None  # 0.95 s
    assert track_beats(model, PianoRoll(np.zeros((400, 88), np.uint8))) is None
    knows(beats_of([0.31] * 80, metre=4) + [40, 0])  # no beats would be right here
    assert track_beats(model, roll, n_rounds=0) is None


def test_a_recording_of_two_seconds_is_enough(model, knows):
    knows(STEADY)
    found = track_beats(model, recording(STEADY)[:40])
    assert beat_f_measure(found[(found[:, 0] > 0.2) & (found[:, 0] < 1.9), 0], STEADY[:3, 0]) == 1


def test_a_model_without_beats_and_another_frame_rate_are_refused(tiny_model, model):
    roll = recording(STEADY)
    deaf = tiny_model(n_pitches=88, pitch_reach=3, pitch_size=4, beats=False)
    with pytest.raises(ValueError, match="the model knows no beats"):
        track_beats(deaf, roll)
    with pytest.raises(ValueError, match="the roll has 10 frames per second, the model was trained with 20"):
        track_beats(model, PianoRoll(roll.velocity, fps=10))


def test_a_path_changes_the_track_at_a_common_beat_if_that_gains_more_than_it_costs():
    tracks = [beats_of([period] * 20, metre=4, first=first) for period, first in ((0.5, 0.0), (0.5, 0.2), (1.0, 0.0))]
    gains = np.zeros((3, 160))
    gains[0, :80] = gains[1, 80:] = gains[2, 80:] = 0.2  # 16 nats in each half
    gains[1, 80:] += 0.1  # the second track never has a beat where the first one has
    _, gain = best_path(tracks, gains, FPS, switch=3.0)
    assert gain == pytest.approx(24.0)
    gains[1] = 0
    beats, gain = best_path([tracks[0], tracks[0] + [0.01, 0]], gains[[0, 2]], FPS, switch=3.0)
    assert gain == pytest.approx(32 - 3.0)
    assert np.diff(beats[:16, 0]) == pytest.approx(np.r_[[0.5] * 7, 0.51, [0.5] * 7])
    _, gain = best_path([tracks[0], tracks[0] + [0.01, 0]], gains[[0, 2]], FPS, switch=17.0)
    assert gain == pytest.approx(16.0)
    _, slower = best_path([tracks[0], tracks[2]], gains[[0, 2]], FPS, switch=3.0)
    assert slower == pytest.approx(16.0)  # half the tempo costs log(2) ** 2 / (2 * 0.1 ** 2) = 24 nats more


def test_beats_two_frames_apart_are_thinned_and_not_all_deleted():
    quick = beats_of([0.1] * 15, metre=4, first=0.0)
    beats, _ = best_path([quick, quick], np.zeros((2, 32)), FPS, switch=3.0)
    assert np.diff(beats[:, 0]).min() > 2.5 / FPS and len(beats) >= 7


def test_a_low_frame_rate_has_no_tracks_with_beats_of_two_frames():
    tracks = propose_tracks(Onsets(recording(beats_of([0.5] * 20, metre=2), fps=8)))
    assert tracks and all(np.diff(track[:, 0]).min() * 8 > 2.5 for track in tracks)


def test_the_f_measure_counts_each_beat_once():
    annotated = np.array([1.0, 2.0, 3.0, 4.0])
    assert beat_f_measure(annotated + 0.06, annotated) == 1
    assert beat_f_measure(annotated + 0.08, annotated) == 0
    assert beat_f_measure(np.array([0.97, 1.03, 3.0]), annotated) == pytest.approx(4 / 7)  # two hits
    assert beat_f_measure(np.zeros(0), annotated) == 0


def test_metrical_levels_are_twice_and_half_the_tempo_and_off_the_beat():
    same, between, twice, odd, even = metrical_levels(np.array([1.0, 2.0, 4.0]))
    assert same.tolist() == [1, 2, 4]
    assert between.tolist() == [1.5, 3]
    assert twice.tolist() == [1, 1.5, 2, 3, 4]
    assert (odd.tolist(), even.tolist()) == ([1, 4], [2])
