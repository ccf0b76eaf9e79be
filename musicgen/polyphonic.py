"""The four polyphonic data sets that papers compare on, read from their MATLAB files into piano rolls."""

import hashlib
from pathlib import Path

import joblib
import numpy as np
from scipy.io import loadmat

from musicgen.corpora.folder import CorpusError, Piece
from musicgen.dataset import RollCache
from musicgen.piano_roll import N_PITCHES
from musicgen.support.limits import system_bounded

# Nats per step on the test split. Independent: the lowest of the recurrent and convolutional networks whose keys are
# independent within a step. Joint: RNN-NADE, Boulanger-Lewandowski, Bengio, Vincent 2012, table 1.
PUBLISHED = {
    "JSB_Chorales": {"independent": 8.10, "joint": 5.56},
    "Nottingham": {"independent": 3.07, "joint": 2.31},
    "MuseData": {"independent": 6.97, "joint": 5.60},
    "Piano_midi": {"independent": 7.46, "joint": 7.05},
}
SPLIT_OF = {"traindata": "train", "validdata": "validation", "testdata": "test"}
VELOCITY = 64  # the data tell which keys sound, not how loud
MAX_BYTES = 2**26  # far more than the largest of the four
MAX_MEMORY = 10**9  # the largest of the four takes 42 MB


def read_polyphonic(path: Path | str) -> RollCache:
    """Read JSB Chorales, Nottingham, MuseData or Piano-midi.de, or any data set in the same layout.

    A frame is one step of the data set, a musical duration (a quarter note in JSB Chorales, an eighth note in the
    others) that has no rate in hertz: the rolls have ``fps=1``, and what they call a second is one step.

    Parameters
    ----------
    path : Path or str
        A MATLAB file of version 5 to 7 with the cells ``traindata``, ``validdata`` and ``testdata``, each 1 x N
        matrices of shape (n_steps, 88) with a one where a key sounds (column 0 is pitch 21).

    Returns
    -------
    RollCache
        The pieces with their splits, in the order of the file. Sounding cells have velocity 64; the key stands for
        the content of the file.

    Raises
    ------
    CorpusError
        If there is no such file, or it holds anything else.

    References
    ----------
    Boulanger-Lewandowski, Bengio, Vincent, "Modeling Temporal Dependencies in High-Dimensional Sequences: Application
    to Polyphonic Music Generation and Transcription", ICML 2012.
    """
    path = Path(path)
    if not path.is_file():
        raise CorpusError(path, "no such file")
    if path.stat().st_size > MAX_BYTES:
        raise CorpusError(path, f"larger than {MAX_BYTES:,} bytes")
    try:  # in a process of its own, which some broken files end: cells in cells in cells overflow SciPy's stack
        [variables] = joblib.Parallel(n_jobs=2, timeout=60, backend="loky")([joblib.delayed(_load)(path, MAX_MEMORY)])
    except Exception as error:  # what SciPy raises has no common type
        reason = f"cannot be read as a MATLAB file of version 5 to 7 ({type(error).__name__})"
        raise CorpusError(path, reason) from error
    pieces, matrices = [], []
    for name, split in SPLIT_OF.items():
        for number, matrix in enumerate(_read_cells(path, name, variables), 1):
            pieces.append(Piece(path, f"{name}/{number}", "unknown", f"{path.stem}, {split} {number}", split))
            matrices.append(matrix.astype(np.uint8) * np.uint8(VELOCITY))
    lengths = np.array([len(matrix) for matrix in matrices])
    key = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return RollCache(pieces, np.concatenate(matrices), np.cumsum(lengths) - lengths, lengths, 1, [], key)


def _load(path: Path, n_bytes: int) -> dict:
    with system_bounded(n_bytes):
        return loadmat(path, variable_names=list(SPLIT_OF))


def _read_cells(path: Path, name: str, variables: dict) -> list[np.ndarray]:
    """Return the matrices of one split, after a look at each."""
    cells = variables.get(name)
    if not isinstance(cells, np.ndarray) or cells.dtype != object or cells.shape[:1] != (1,) or not cells.size:
        raise CorpusError(path, f"cannot be read: {name} is missing, or no 1 x N cells")
    for number, matrix in enumerate(cells[0], 1):
        numbers = isinstance(matrix, np.ndarray) and matrix.dtype.kind in "buif" and matrix.ndim == 2
        if not numbers or not len(matrix) or matrix.shape[1] != N_PITCHES or not np.isin(matrix, (0, 1)).all():
            wanted = f"zeros and ones of shape (n_steps, {N_PITCHES})"
            raise CorpusError(path, f"cannot be read: {name}, piece {number} is no matrix of {wanted}")
    return list(cells[0])
