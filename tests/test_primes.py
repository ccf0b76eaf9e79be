"""The shipped openings: the notation, the notes and their places on the grid."""

from fractions import Fraction
from math import floor

import pytest

from musicgen.corpora.primes import PRIMES, read_voice, shipped_prime

A_BEAT = 480  # ticks


def test_a_voice_reads_like_a_score():
    assert read_voice("C4:2 Eb4+G#3:1/6 r:1 Cb5 A0") == [
        (60, 0, 960),
        (63, 960, 1040),
        (56, 960, 1040),
        (71, 1520, 2000),
        (21, 2000, 2480),
    ]


@pytest.mark.parametrize(("composer", "n_beats"), [("Bach", 16), ("Chopin", 13), ("Liszt", 12)])
def test_all_voices_of_an_opening_end_together(composer, n_beats):
    assert {read_voice(voice)[-1][2] for voice in PRIMES[composer].voices} == {n_beats * A_BEAT}


@pytest.mark.parametrize("n_beats", [0.75, 8, 12])
@pytest.mark.parametrize("composer", PRIMES)
def test_a_prime_has_exactly_the_beats_asked_for(composer, n_beats):
    roll = shipped_prime(composer, n_beats)
    assert roll.n_frames == floor(Fraction(n_beats) * 60 * 20 / PRIMES[composer].beats_per_minute + Fraction(1, 2))
    assert roll == shipped_prime(composer, 12)[: roll.n_frames]
    assert set(roll.velocity[roll.active]) == {PRIMES[composer].velocity}


@pytest.mark.parametrize("composer", PRIMES)
def test_every_typed_note_is_heard_at_its_time(composer):
    frames_a_beat = Fraction(60 * 20, PRIMES[composer].beats_per_minute)
    typed = [note for voice in PRIMES[composer].voices for note in read_voice(voice) if note[1] < 12 * A_BEAT]
    places = {(pitch, floor(Fraction(tick, A_BEAT) * frames_a_beat + Fraction(1, 2))) for pitch, tick, _ in typed}
    assert {(pitch, start) for pitch, _, start, _ in shipped_prime(composer, 12).notes.tolist()} == places
    assert len(places) == len(typed)


def test_the_prelude_breaks_a_seventh_chord_in_its_second_bar():
    bar = shipped_prime("Bach", 8).notes[16:24].tolist()
    assert [pitch for pitch, *_ in bar] == [60, 62, 69, 74, 77, 69, 74, 77]  # C D A D F A D F
    assert [start for *_, start, _ in bar] == [64, 68, 72, 76, 80, 84, 88, 92]  # at 75 a minute, four frames apart


def test_the_etude_begins_with_its_upbeat():
    first = shipped_prime("Chopin", 8).notes[:4].tolist()
    assert first == [(75, 60, 0, 11), (32, 60, 12, 13), (75, 60, 12, 13), (51, 60, 13, 15)]


@pytest.mark.parametrize(
    ("composer", "n_beats", "words"),
    [
        ("Satie", 8, ["'Satie'", "Bach", "Chopin", "Liszt"]),
        ("Liszt", 12.5, ["12.5", "at most 12", "Liszt"]),
        ("Bach", 0, ["above 0", "not 0"]),
        ("Bach", -3, ["-3"]),
        ("Bach", float("nan"), ["nan"]),
    ],
)
def test_what_is_not_typed_is_refused(composer, n_beats, words):
    with pytest.raises(ValueError) as caught:
        shipped_prime(composer, n_beats)
    assert [word for word in words if word not in str(caught.value)] == []
