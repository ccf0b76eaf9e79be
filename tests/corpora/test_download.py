"""The download is complete or leaves nothing, whatever the server does."""

import hashlib
import io
import os
import re
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from musicgen.corpora import maestro
from musicgen.corpora.folder import CorpusError, load_corpus
from musicgen.corpora.maestro import Archive, download_maestro

ROOT = "maestro-v2.0.0"
TABLE = (
    "canonical_composer,canonical_title,split,midi_filename\n"
    "Franz Liszt,La Campanella,test,2004/liszt.midi\n"
    "Frédéric Chopin,Nocturne,train,2008/chopin.midi\n"
)
MEMBERS = {
    f"{ROOT}/{ROOT}.csv": TABLE.encode(),
    f"{ROOT}/2004/": b"",
    f"{ROOT}/2004/liszt.midi": b"MThd of Liszt",
    f"{ROOT}/2008/chopin.midi": b"MThd of Chopin",
}


def zip_of(members):
    """Zip a dict of names, or a list of (name or ZipInfo, bytes)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items() if isinstance(members, dict) else members:
            zipped.writestr(name, content)
    return stream.getvalue()


GOOD_ZIP = zip_of(MEMBERS)


class Handler(BaseHTTPRequestHandler):
    """Send the server's `body`: all of it, or the first bytes if it is to fail."""

    def do_GET(self):
        server = self.server
        server.n_requests += 1
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(server.body)))
        self.end_headers()
        self.wfile.write(server.body[: server.stops.pop(0) if server.stops else None])
        server.hangs.wait(timeout=5)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that sends the good zip; a test changes what it does. There is one attempt."""
    monkeypatch.setattr(maestro, "RETRIES", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.status, server.stops = GOOD_ZIP, 200, []
        server.n_requests, server.hangs = 0, threading.Event()
        server.hangs.set()
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.hangs.set()
        server.shutdown()


def archive_at(server, content=GOOD_ZIP, n_files=2):
    url = f"http://127.0.0.1:{server.server_port}/maestro.zip"
    return Archive(url, len(content), hashlib.sha256(content).hexdigest(), n_files)


def download(data_dir, archive):
    return download_maestro(data_dir, archive, timeout_seconds=0.5, progress=False)


@contextmanager
def check_rejected(data_dir, message, leaves=()):
    """Expect a CorpusError that names the address, and no other files than `leaves`."""
    with pytest.raises(CorpusError, match=rf"^'http://127.*/maestro\.zip'.*{message}"):
        yield
    assert sorted(os.listdir(data_dir)) == sorted(leaves)


ZIP = f"{ROOT}-midi.zip"


def test_the_folder_is_a_corpus_and_the_only_thing_left(tmp_path, server):
    folder = download(tmp_path / "new" / "data", archive_at(server))
    assert folder == tmp_path / "new" / "data" / ROOT
    assert [(piece.name, piece.split) for piece in load_corpus(folder)] == [
        ("2004/liszt.midi", "test"),
        ("2008/chopin.midi", "train"),
    ]
    assert (folder / "2008" / "chopin.midi").read_bytes() == b"MThd of Chopin"
    assert os.listdir(folder.parent) == [ROOT]


def test_a_complete_folder_is_not_downloaded_again(tmp_path, server):
    folder = download(tmp_path, archive_at(server))
    assert download(str(tmp_path), archive_at(server)) == folder
    assert server.n_requests == 1


def test_a_folder_that_lacks_files_is_an_error(tmp_path, server):
    folder = download(tmp_path, archive_at(server))
    (folder / "2004" / "liszt.midi").write_bytes(b"")
    with pytest.raises(CorpusError, match="has 1 of 2 MIDI files; remove it"):
        download(tmp_path, archive_at(server))


def test_a_download_cut_short_leaves_nothing(tmp_path, server):
    server.stops = [100]
    with check_rejected(tmp_path, "cannot be downloaded"):
        download(tmp_path, archive_at(server))
    assert len(load_corpus(download(tmp_path, archive_at(server)))) == 2


def test_a_failed_download_is_repeated(tmp_path, server, monkeypatch):
    monkeypatch.setattr(maestro, "RETRIES", 1)
    server.stops = [100]
    assert len(load_corpus(download(tmp_path, archive_at(server)))) == 2
    assert server.n_requests == 2


def test_a_server_that_stalls_is_left(tmp_path, server):
    server.stops = [100]
    server.hangs.clear()
    with check_rejected(tmp_path, "timed out"):
        download(tmp_path, archive_at(server))


def test_a_zip_that_is_there_is_not_downloaded_again(tmp_path, server):
    (tmp_path / ZIP).write_bytes(GOOD_ZIP)
    assert download(tmp_path, archive_at(server)).name == ROOT
    assert server.n_requests == 0


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", GOOD_ZIP + b"more", b"?" * len(GOOD_ZIP), b""])
@pytest.mark.parametrize("begun", [None, b"x" * 50])
def test_a_wrong_hash_is_rejected_and_the_next_call_starts_again(tmp_path, server, body, begun):
    server.body = body
    if begun:
        (tmp_path / ZIP).write_bytes(begun)
    with check_rejected(tmp_path, "hash", leaves=[ZIP] if begun else []):
        download(tmp_path, archive_at(server))
    server.body = GOOD_ZIP
    assert download(tmp_path, archive_at(server)).is_dir()
    assert os.listdir(tmp_path) == [ROOT]


@pytest.mark.parametrize(("status", "message"), [(404, "404"), (500, "500")])
def test_an_error_of_the_server_is_reported(tmp_path, server, status, message):
    server.status = status
    with check_rejected(tmp_path, message):
        download(tmp_path, archive_at(server))


def test_no_server_and_no_folder_to_write_to_are_reported(tmp_path, server):
    archive = archive_at(server)
    with check_rejected(tmp_path, "cannot be downloaded to"):
        download(tmp_path, replace(archive, url="http://127.0.0.1:9/maestro.zip"))
    (tmp_path / "file").touch()
    with check_rejected(tmp_path, "cannot be downloaded to .*file", leaves=["file"]):
        download(tmp_path / "file", archive)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("../evil.midi", b"MThd")], r"\.\./evil\.midi' is not a plain file or folder in maestro"),
        ([(f"{ROOT}/../../evil.midi", b"MThd")], "not a plain file"),
        ([("/evil.midi", b"MThd")], "not a plain file"),
        ([("C:/evil.midi", b"MThd")], "not a plain file"),
        ([(rf"{ROOT}\..\..\evil.midi", b"MThd")], "not a plain file"),
        ([("elsewhere/evil.midi", b"MThd")], "not a plain file"),
        ([(link(f"{ROOT}/evil.midi"), b"/etc/passwd")], "not a plain file"),
        ([(f"{ROOT}/2004/LISZT.midi", b"MThd")], "two of its members have the same name"),
        ([(f"{ROOT}/zeros", bytes(10**6))], "would unpack to 1,000,... bytes"),
    ],
)
def test_an_unsafe_zip_is_rejected_before_anything_is_written(tmp_path, server, extra, message):
    server.body = zip_of([*MEMBERS.items(), *extra])
    with check_rejected(tmp_path, message):
        download(tmp_path, archive_at(server, server.body))
    assert not list(tmp_path.parent.rglob("evil*"))


def test_members_that_overlap_are_rejected(tmp_path, server):
    zipped = bytearray(GOOD_ZIP)
    first, second = [match.start() for match in re.finditer(b"PK\x01\x02", zipped)][2:4]
    zipped[second + 42 : second + 46] = zipped[first + 42 : first + 46]  # the offset of the member
    server.body = bytes(zipped)
    with check_rejected(tmp_path, "overlaps another"):
        download(tmp_path, archive_at(server, server.body))


def test_a_member_that_holds_more_than_it_claims_does_not_unpack_to_more(tmp_path, server):
    zipped = bytearray(zip_of(MEMBERS | {f"{ROOT}/zeros": bytes(10**6)}))
    directory = [match.start() for match in re.finditer(b"PK\x01\x02", zipped)][-1]
    zipped[directory + 24 : directory + 28] = (50).to_bytes(4, "little")  # its claimed size
    server.body = bytes(zipped)
    with check_rejected(tmp_path, "cannot be downloaded"):
        download(tmp_path, archive_at(server, server.body))


def test_an_encrypted_member_is_rejected(tmp_path, server):
    zipped = bytearray(GOOD_ZIP)
    zipped[zipped.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory of the zip
    server.body = bytes(zipped)
    with check_rejected(tmp_path, "not a plain file"):
        download(tmp_path, archive_at(server, server.body))


def without(name):
    return {member: content for member, content in MEMBERS.items() if not member.endswith(name)}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (without("liszt.midi"), "holds 1 MIDI files and not 2"),
        (MEMBERS | {f"{ROOT}/2004/liszt.midi": b""}, "holds 1 MIDI files and not 2"),
        (MEMBERS | {f"{ROOT}/2004/liszt.midi": b"<html>"}, "holds 1 MIDI files and not 2"),
        (without(".csv"), "holds 0 MIDI files and not 2"),
    ],
)
def test_a_right_hash_is_not_the_whole_check(tmp_path, server, members, message):
    server.body = zip_of(members)
    with check_rejected(tmp_path, message):
        download(tmp_path, archive_at(server, server.body))


@pytest.mark.parametrize("damage", [lambda body: body[:-30], lambda body: body.replace(b"chopin", b"mozart", 1)])
def test_a_broken_zip_is_rejected(tmp_path, server, damage):
    server.body = damage(zip_of(MEMBERS))
    with check_rejected(tmp_path, "cannot be downloaded"):
        download(tmp_path, archive_at(server, server.body))


def test_the_progress_of_a_download_is_quiet_in_a_log_file(tmp_path, server, capsys):
    download_maestro(tmp_path, archive_at(server), timeout_seconds=0.5)
    assert capsys.readouterr().err == ""
