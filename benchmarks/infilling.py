"""How much better does an ending fit after a chosen middle?  ``python benchmarks/infilling.py DATA [--pieces 12]``

Of pieces of the validation split that are evenly spread over its list, the first four seconds and the two seconds after
the fourteenth are given, and the ten seconds between them are composed. It prints the negative log-likelihood of the
ending, in nats per frame, after 16 middles on average, after the one that `fill_between` keeps, and after the pianist's
own.
"""

import argparse

import numpy as np

from musicgen.corpora.folder import load_corpus
from musicgen.dataset import prepare
from musicgen.generation import GenerationConfig, generate_several
from musicgen.generation.generate import home_of
from musicgen.generation.infilling import N_MIDDLES, ending_nlls, join
from musicgen.piano_roll import PianoRoll
from musicgen.training import SHIPPED_CHECKPOINT, load_checkpoint

PRIME, MIDDLE, ENDING = 80, 200, 40  # frames


def main() -> None:
    """Measure, and print a row for each piece and the means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="a folder of MIDI files with splits")
    parser.add_argument("--pieces", type=int, default=12)
    args = parser.parse_args()
    model = load_checkpoint(SHIPPED_CHECKPOINT).model
    rolls = prepare(load_corpus(args.data), progress=False).select(split="validation")
    long = [roll for roll in rolls if roll.n_frames >= PRIME + MIDDLE + ENDING]
    rows = []
    for seed, roll in enumerate(long[:: len(long) // args.pieces][: args.pieces]):
        played = PianoRoll(roll.velocity, roll.fps, roll.pedal)[: PRIME + MIDDLE + ENDING]
        prime = played[:PRIME]
        config = GenerationConfig(seconds=(PRIME + MIDDLE) / roll.fps, candidates=1, seed=seed)
        starts = generate_several(model, prime, config, N_MIDDLES)
        pieces = [join(start, played[PRIME + MIDDLE :]) for start in starts]
        nlls = ending_nlls(model, [*pieces, played], PRIME + MIDDLE, home=home_of(prime))
        rows.append([nlls[:-1].mean(), nlls[:-1].min(), nlls[-1]])
        print("mean of {} middles {:.2f}, the best {:.2f}, the pianist's {:.2f}".format(N_MIDDLES, *rows[-1]))
    print("all pieces:", *np.mean(rows, axis=0).round(2))


if __name__ == "__main__":
    main()
