"""The bundled sample of MAESTRO: 22 short performances with pedal and annotated beats."""

from pathlib import Path

SAMPLE = Path(__file__).parent / "data" / "maestro-sample"


def sample_corpus() -> Path:
    """Return the folder of the bundled sample, for `load_corpus`.

    It has MAESTRO's layout and official splits: five performances or fewer of Bach, Beethoven, Chopin, Liszt and
    Schubert each, one hour in total, under CC BY-NC-SA 4.0. The README in the folder names the sources.
    """
    return SAMPLE
