"""How the register of real pieces depends on that of their opening: ``python benchmarks/registers.py DATA``.

Prints a table of the training split: for stretches after the first four seconds, the mean pitch, and the share of the
opening's distance from the usual pitch that is left, by linear regression. The constants of `steering.expected_pitch`
come from it.
"""

import argparse

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.generation.steering import USUAL_PITCH, expected_pitch

PRIME_SECONDS = 4
STRETCHES = ((0, 4), (4, 8), (10, 14), (26, 30), (56, 60), (116, 120), (176, 180))  # seconds after the prime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of MIDI files with splits")
    rolls = prepare(load_corpus(parser.parse_args().data)).select(split="train")
    last_second = PRIME_SECONDS + STRETCHES[-1][1]
    rolls = [roll for roll in rolls if roll.duration_seconds >= last_second]
    primes = np.array([mean_pitch(roll, -PRIME_SECONDS, 0) for roll in rolls])
    print(f"{len(rolls)} pieces\nseconds   mean pitch   share of the opening   as expected")
    for start, end in STRETCHES:
        pitches = np.array([mean_pitch(roll, start, end) for roll in rolls])
        known = ~np.isnan(primes + pitches)
        share = np.polyfit(primes[known] - USUAL_PITCH, pitches[known], 1)[0]
        as_expected = expected_pitch(USUAL_PITCH + 1, (start + end) / 2) - USUAL_PITCH
        print(f"{start:3} to {end:3} {np.nanmean(pitches):9.1f} {share:16.2f} {as_expected:20.2f}")


def mean_pitch(roll, start: float, end: float) -> float:
    """Return the mean pitch of the notes between two times, in seconds after the prime: NaN if there are none."""
    part = roll[round((PRIME_SECONDS + start) * roll.fps) : round((PRIME_SECONDS + end) * roll.fps)]
    return part.notes["pitch"].mean() if part.n_notes else np.nan


if __name__ == "__main__":
    main()
