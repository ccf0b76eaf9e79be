"""Fetching MAESTRO: download, verify, unpack."""

import hashlib
import stat
import zlib
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path, PureWindowsPath
from urllib.request import Request, urlopen
from zipfile import BadZipFile, ZipFile, ZipInfo

from tqdm import tqdm

from musicgen.corpora.folder import CorpusError, load_corpus, stays_inside
from musicgen.support.files import atomic_folder

FOLDER = "maestro-v2.0.0"
ENCRYPTED = 1  # the bit in a member's flags


@dataclass(frozen=True)
class Archive:
    """A zip as it must be: its address, its bytes, its SHA-256 in hexadecimal digits, the MIDI files in its table."""

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
    """Download the MIDI files of MAESTRO v2.0.0, 59 MB, whole or not at all; a second call returns at once.

    Parameters
    ----------
    data_dir : Path or str
        Where to put the folder ``maestro-v2.0.0``. What came of a download that was cut off stays beside it as
        ``.part``, and the next call goes on from there.
    archive : Archive
        The zip to fetch.
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
        If the server stops or sends something else, or if the folder is there already and lacks files.
    """
    folder = Path(data_dir) / FOLDER
    if folder.exists():
        if (found := _count_pieces(folder)) != archive.n_files:
            raise CorpusError(folder, f"has {found} of {archive.n_files} MIDI files; remove it to download them anew")
        return folder
    part = folder.with_name(f"{FOLDER}-midi.zip.part")
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        _fetch(archive, part, timeout_seconds, progress)
        _unpack(archive, part, folder)
    except (OSError, HTTPException, BadZipFile, zlib.error) as error:
        raise CorpusError(archive.url, f"cannot be downloaded to {part} ({error or type(error).__name__})") from error
    return folder


def _fetch(archive: Archive, part: Path, timeout_seconds: float, progress: bool) -> None:
    """Add to `part` what it still lacks. Whatever stops this, the next call goes on from there."""
    done = part.stat().st_size if part.exists() else 0
    if done >= archive.size:
        return
    request = Request(archive.url, headers={"Range": f"bytes={done}-"} if done else {})
    with urlopen(request, timeout=timeout_seconds) as response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            done = 0  # this server sends everything again
        if (offered := response.headers["Content-Length"]) != str(archive.size - done):
            raise CorpusError(archive.url, f"offers {offered} bytes and not {archive.size - done}: not MAESTRO's zip")
        bar = tqdm(desc=FOLDER, initial=done, total=archive.size, unit="B", unit_scale=True, disable=not progress)
        with part.open("ab" if done else "wb") as stream, bar:
            while chunk := response.read1(65_536):
                stream.write(chunk)
                bar.update(len(chunk))
    if (got := part.stat().st_size) < archive.size:
        raise CorpusError(archive.url, f"stopped after {got} of {archive.size} bytes; try again to go on from there")


def _unpack(archive: Archive, part: Path, folder: Path) -> None:
    """Verify the zip and unpack it. It is of no more use then: what is wrong with it stays wrong."""
    try:
        with part.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        if sha256 != archive.sha256:
            raise CorpusError(archive.url, f"came damaged, its SHA-256 is {sha256}; try again")
        with ZipFile(part) as zipped, atomic_folder(folder) as temporary:
            _check_members(archive, zipped.infolist())
            zipped.extractall(temporary.parent)  # every member lies in a folder of the same name as ours
            if (found := _count_pieces(temporary)) != archive.n_files:
                raise CorpusError(archive.url, f"holds {found} MIDI files and not {archive.n_files}")
    finally:
        part.unlink()


def _check_members(archive: Archive, members: list[ZipInfo]) -> None:
    """Refuse a zip that could write where it should not, or without end, before anything is unpacked."""
    for member in members:
        inside = stays_inside(member.filename) and PureWindowsPath(member.filename).parts[0] == FOLDER
        kind = stat.S_IFMT(member.external_attr >> 16)
        if not inside or kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & ENCRYPTED:
            raise CorpusError(archive.url, f"its member {member.filename!r} is no plain file or folder in {FOLDER}")
    if len({PureWindowsPath(member.filename) for member in members}) < len(members):
        raise CorpusError(archive.url, "two of its members have the same name")
    ends = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        if member.header_offset < ends:
            raise CorpusError(archive.url, f"its member {member.filename!r} overlaps another")
        ends = member.header_offset + member.compress_size
    if (n_bytes := sum(member.file_size for member in members)) > 10 * archive.size:
        raise CorpusError(archive.url, f"would unpack to {n_bytes:,} bytes, more than MIDI files can")


def _count_pieces(folder: Path) -> int:
    """Count the pieces in MAESTRO's table whose files at least begin as MIDI files do."""
    if not (folder / f"{FOLDER}.csv").is_file():
        return 0
    return sum(piece.path.read_bytes().startswith(b"MThd") for piece in load_corpus(folder))
