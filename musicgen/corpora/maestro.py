"""Download MAESTRO and unpack it safely."""

import stat
import zlib
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from zipfile import BadZipFile, ZipFile, ZipInfo

import pooch

from musicgen.corpora.folder import CorpusError, load_corpus, stays_inside
from musicgen.utils.files import atomic_folder
from musicgen.utils.progress import progress_bar

FOLDER = "maestro-v2.0.0"
ENCRYPTED = 1  # the bit in a member's flags
RETRIES = 2


@dataclass(frozen=True)
class Archive:
    """A zip file to download: address, size in bytes, SHA-256 and number of listed MIDI files."""

    url: str
    size: int
    sha256: str
    n_files: int


MAESTRO = Archive(
    url="https://storage.googleapis.com/magentadata/datasets/maestro/v2.0.0/maestro-v2.0.0-midi.zip",
    size=59_243_107,
    sha256="ec2cc9d94886c6b376db1eaa2b8ad1ce62ff9f0a28b3744782b13163295dadf3",
    n_files=1282,
)


def download_maestro(
    data_dir: Path | str, archive: Archive = MAESTRO, timeout_seconds: float = 30, progress: bool = True
) -> Path:
    """Download the MIDI files of MAESTRO v2.0.0 (59 MB), all or nothing; a second call returns at once.

    Parameters
    ----------
    data_dir : Path or str
        Where to put the folder ``maestro-v2.0.0``.
    archive : Archive
        The zip file to download.
    timeout_seconds : float
        How long the server may be silent.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Path
        The folder ``maestro-v2.0.0``, for `load_corpus`.

    Raises
    ------
    CorpusError
        If the download fails three times, if the zip file is not the expected one, or if the folder exists and lacks
        files.
    """
    folder = Path(data_dir) / FOLDER
    if folder.exists():
        if (found := _count_pieces(folder)) != archive.n_files:
            raise CorpusError(folder, f"has {found} of {archive.n_files} MIDI files; remove it to download them again")
        return folder
    path = folder.with_name(f"{FOLDER}-midi.zip")
    try:
        _fetch(archive, path, timeout_seconds, progress)
        _unpack(archive, path, folder)
    except CorpusError:
        raise
    except (OSError, ValueError, BadZipFile, zlib.error) as error:  # requests raises OSError, pooch ValueError
        raise CorpusError(archive.url, f"cannot be downloaded to {path} ({error or type(error).__name__})") from error
    return folder


def _fetch(archive: Archive, path: Path, timeout_seconds: float, progress: bool) -> None:
    """Download the zip file unless it exists with the right hash. A download with a wrong hash is deleted."""
    pooch.get_logger().setLevel("WARNING")
    source = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: f"sha256:{archive.sha256}"},
        urls={path.name: archive.url},
        retry_if_failed=RETRIES,
    )
    with progress_bar("downloading", archive.size, "B", progress, scale=True) as bar:
        bar.reset = lambda: setattr(bar, "n", 0)  # tqdm's own reset would print a line
        source.fetch(path.name, downloader=pooch.HTTPDownloader(progressbar=bar, timeout=timeout_seconds))


def _unpack(archive: Archive, path: Path, folder: Path) -> None:
    """Check and unpack the zip file, then delete it."""
    try:
        with ZipFile(path) as zipped, atomic_folder(folder) as temporary:
            _check_members(archive, zipped.infolist())
            zipped.extractall(temporary.parent)  # every member lies in a folder of the same name as ours
            if (found := _count_pieces(temporary)) != archive.n_files:
                raise CorpusError(archive.url, f"holds {found} MIDI files and not {archive.n_files}")
    finally:
        path.unlink()


def _check_members(archive: Archive, members: list[ZipInfo]) -> None:
    """Raise CorpusError unless a zip file can be unpacked safely: all members inside its folder, and not too large."""
    for member in members:
        inside = stays_inside(member.filename) and PureWindowsPath(member.filename).parts[0] == FOLDER
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not inside or kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & ENCRYPTED:
            raise CorpusError(archive.url, f"its member {member.filename!r} is not a plain file or folder in {FOLDER}")
    if len({PureWindowsPath(member.filename) for member in members}) < len(members):
        raise CorpusError(archive.url, "two of its members have the same name")
    ends = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < ends:
            raise CorpusError(archive.url, f"its member {member.filename!r} overlaps another")
        ends = member.header_offset + member.compress_size
    if (n_bytes := sum(member.file_size for member in members)) > 10 * archive.size:
        raise CorpusError(archive.url, f"would unpack to {n_bytes:,} bytes, far more than expected")


def _count_pieces(folder: Path) -> int:
    """Count the pieces in MAESTRO's table whose files have the header of a MIDI file."""
    if not (folder / f"{FOLDER}.csv").is_file():
        return 0
    return sum(piece.path.read_bytes().startswith(b"MThd") for piece in load_corpus(folder))
