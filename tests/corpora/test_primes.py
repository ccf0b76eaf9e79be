"""The bundled openings: they begin with a note, follow their beats, and come from the training or validation split."""

import numpy as np
import pytest

from musicgen.corpora.folder import load_corpus
from musicgen.corpora.primes import PRIMES, prime_recording, shipped_prime
from musicgen.corpora.sample import sample_corpus
from musicgen.midi import read_midi


@pytest.mark.parametrize("composer", PRIMES)
@pytest.mark.parametrize("n_beats", [3, 8, 12.5])
def test_a_prime_begins_with_a_note_and_has_the_beats_asked_for(composer, n_beats):
    prime = shipped_prime(composer, n_beats)
    assert prime.active[0].any() and prime.pedal is not None
    inside = (prime.beats[:, 0] > -0.06) & (prime.beats[:, 0] < prime.duration_seconds - 0.03)
    assert inside.sum() == pytest.approx(n_beats, abs=1)
    assert len(np.unique(prime.notes["velocity"])) > 3


@pytest.mark.parametrize("composer", PRIMES)
def test_primes_are_not_taken_from_the_test_split(composer):
    opening = shipped_prime(composer).velocity
    tested = [piece for piece in load_corpus(sample_corpus()) if piece.split == "test"]
    for piece in tested:
        roll = read_midi(piece.path)
        first = roll.notes["start_frame"][0]
        assert not np.array_equal(roll.velocity[first : first + len(opening)], opening)


@pytest.mark.parametrize(
    ("composer", "n_beats", "words"),
    [
        ("Salieri", 8, "only by Bach, Beethoven"),
        ("Bach", 0, "above 0"),
        ("Bach", 10_000, "at most"),
        ("Liszt", -1, "-1"),
    ],
)
def test_what_is_not_there_is_refused(composer, n_beats, words):
    with pytest.raises(ValueError, match=words):
        shipped_prime(composer, n_beats)


def test_a_recording_by_another_composer_is_refused():
    with pytest.raises(ValueError, match="no opening by 'Mozart' is bundled, only by Bach, Beethoven"):
        prime_recording("Mozart")


def test_the_sample_has_all_splits_beats_and_less_than_a_megabyte():
    pieces = load_corpus(sample_corpus())
    assert {piece.split for piece in pieces} == {"train", "validation", "test"}
    assert all(len(piece.beats) > 20 for piece in pieces) and not pieces.missing
    assert sum(path.stat().st_size for path in sample_corpus().rglob("*") if path.is_file()) < 1_000_000
