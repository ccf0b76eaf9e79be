"""Beats: their features in each frame, and how a metronome goes on with them."""

import numpy as np
import pytest

from musicgen.beats import beat_features, metronome


def beats_of(pattern, seconds=0.5):
    """One beat per letter: "1" begins a bar."""
    return np.array([[seconds * number, float(letter == "1")] for number, letter in enumerate(pattern)])


@pytest.mark.parametrize(
    ("known", "beats_per_bar", "goes_on"),
    [
        ("1..1..", 4, "1..1.."),
        ("1..1.", 4, ".1..1."),
        ("11...1..", 3, ".1...1"),  # an upbeat: the bars after it count
        ("11..", 4, ".1...1"),  # only the upbeat is a whole bar: as given
        ("11.....", 4, "1.....1"),  # it has six beats already
        ("..1..1", 4, "..1..1"),
        ("1.1.1.", 4, "1.1.1."),
        ("...", 3, "1..1.."),  # no bar is known
        ("1...1...1..1..", 4, "1..1.."),  # the metre changed from 4 to 3: the latest bar counts
        ("1...11..1.", 4, ".1..1."),  # bars of 1 and 3 beats are not followed by bars of 2
        ("1...1...1..1...1...", 4, "1...1..."),  # one short bar
    ],
)
def test_a_metronome_goes_on_with_the_bars_that_are_known(known, beats_per_bar, goes_on):
    beats = metronome(beats_of(known), len(known) * 0.5, 20, beats_per_bar=beats_per_bar)
    more = beats[len(known) :]
    assert np.diff(beats[:, 0]) == pytest.approx(0.5)
    assert "".join(".1"[int(is_downbeat)] for is_downbeat in more[: len(goes_on), 1]) == goes_on


@pytest.mark.parametrize(("beats_per_bar", "goes_on"), [(0, "1..1.."), (4, ".1...1"), (2, ".1.1.1")])
def test_a_metronome_of_another_tempo_keeps_the_bars_unless_others_are_asked_for(beats_per_bar, goes_on):
    beats = metronome(beats_of("1..1..1.."), 4.5, 20, bpm=100, beats_per_bar=beats_per_bar)
    assert np.diff(beats[8:, 0]) == pytest.approx(0.6)
    assert "".join(".1"[int(is_downbeat)] for is_downbeat in beats[9 : 9 + len(goes_on), 1]) == goes_on


def test_the_phase_within_beat_and_bar_is_a_sine_and_a_cosine():
    features = beat_features(beats_of("1..1..", 0.2), 24, fps=20)  # beats of 4 frames; known up to 1 s
    assert features.shape == (24, 15) and features.dtype == np.float32
    known = features[:20]
    assert known[:4, 0] == pytest.approx([0, 1, 0, -1], abs=1e-6)  # sine of the beat
    assert known[:4, 5] == pytest.approx([1, 0, -1, 0], abs=1e-6)  # cosine of the beat
    assert known[:12, 10] == pytest.approx(np.sin(np.arange(12) * np.pi / 6), abs=1e-6)  # sine of the bar
    assert (known[:, 14] == 1).all() and not features[20:].any()
    assert not beat_features(beats_of("......", 0.2), 20)[:, 10:14].any()  # no bar is known
