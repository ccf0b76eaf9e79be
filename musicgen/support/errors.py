"""An error that several modules raise."""

from pathlib import Path

from musicgen.support.files import printable


class CorpusError(ValueError):
    """Raised for a corpus that cannot be used; the message names the folder, table or address, and the reason."""

    def __init__(self, place: Path | str, reason: str):
        super().__init__(printable(f"{str(place)!r}: {reason}")[:300])
        self.reason = reason
