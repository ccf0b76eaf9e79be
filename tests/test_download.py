"""The download lands whole or not at all, whatever the server does."""

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
    """Zip what a dict of names, or a list of (name or ZipInfo, bytes), says."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in members.items() if isinstance(members, dict) else members:
            zipped.writestr(name, content)
    return stream.getvalue()


GOOD_ZIP = zip_of(MEMBERS)


class Handler(BaseHTTPRequestHandler):
    """Send the server's `body`: all of it, from where it is asked for, or up to where it is to fail."""

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range", "bytes=0-")
        server.asked.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if server.resumes else 0
        self.send_response(206 if start else server.status)
        self.send_header("Content-Length", str(len(server.body) - start))
        self.end_headers()
        self.wfile.write(server.body[start : server.stops_at])
        server.hangs.wait(timeout=5)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    """A server on this machine that sends the good zip; a test changes what it does."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.body, server.status, server.stops_at, server.resumes = GOOD_ZIP, 200, None, True
        server.asked, server.hangs = [], threading.Event()
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
def check_refused(data_dir, message, leaves=()):
    """Expect a CorpusError that names the address, and nothing left but what is said."""
    with pytest.raises(CorpusError, match=rf"^'http://127.*/maestro\.zip'.*{message}"):
        yield
    assert sorted(os.listdir(data_dir)) == sorted(leaves)


PART = f"{ROOT}-midi.zip.part"


def test_the_folder_is_a_corpus_and_the_only_thing_left(tmp_path, server):
    folder = download(tmp_path / "new" / "data", archive_at(server))
    assert folder == tmp_path / "new" / "data" / ROOT
    assert [(piece.name, piece.split) for piece in load_corpus(folder)] == [
        ("2004/liszt.midi", "test"),
        ("2008/chopin.midi", "train"),
    ]
    assert (folder / "2008" / "chopin.midi").read_bytes() == b"MThd of Chopin"
    assert os.listdir(folder.parent) == [ROOT]


def test_what_is_there_is_not_asked_for_again(tmp_path, server):
    folder = download(tmp_path, archive_at(server))
    assert download(str(tmp_path), archive_at(server)) == folder
    assert server.asked == ["bytes=0-"]


def test_a_folder_that_lacks_something_is_not_taken_for_maestro(tmp_path, server):
    folder = download(tmp_path, archive_at(server))
    (folder / "2004" / "liszt.midi").write_bytes(b"")
    with pytest.raises(CorpusError, match="has 1 of 2 MIDI files; remove it"):
        download(tmp_path, archive_at(server))


@pytest.mark.parametrize("resumes", [True, False])
def test_a_download_cut_short_goes_on_or_begins_again(tmp_path, server, resumes):
    server.stops_at, server.resumes = 100, resumes
    with check_refused(tmp_path, f"stopped after 100 of {len(GOOD_ZIP)} bytes", leaves=[PART]):
        download(tmp_path, archive_at(server))
    server.stops_at = None
    assert len(load_corpus(download(tmp_path, archive_at(server)))) == 2
    assert server.asked == ["bytes=0-", "bytes=100-"]


def test_a_server_that_stalls_is_left_and_what_came_is_kept(tmp_path, server):
    server.stops_at = 100
    server.hangs.clear()
    with check_refused(tmp_path, "timed out", leaves=[PART]):
        download(tmp_path, archive_at(server))
    assert (tmp_path / PART).read_bytes() == GOOD_ZIP[:100]


def test_what_is_complete_but_not_unpacked_is_not_asked_for_again(tmp_path, server):
    (tmp_path / PART).write_bytes(GOOD_ZIP)
    assert download(tmp_path, archive_at(server)).name == ROOT
    assert server.asked == []


@pytest.mark.parametrize("body", [b"<html>Sign in</html>", GOOD_ZIP + b"more"])
def test_another_length_is_refused_before_anything_is_written(tmp_path, server, body):
    server.body = body
    with check_refused(tmp_path, f"offers {len(body)} bytes and not {len(GOOD_ZIP)}"):
        download(tmp_path, archive_at(server))


@pytest.mark.parametrize("begun", [b"", b"x" * 50, b"x" * 5000])
def test_a_wrong_hash_is_refused_and_the_next_try_begins_again(tmp_path, server, begun):
    server.body = b"?" * len(GOOD_ZIP)
    (tmp_path / PART).write_bytes(begun)
    with check_refused(tmp_path, "came damaged"):
        download(tmp_path, archive_at(server))
    server.body = GOOD_ZIP
    assert download(tmp_path, archive_at(server)).is_dir()


@pytest.mark.parametrize(("status", "message"), [(404, "404"), (500, "500")])
def test_an_error_of_the_server_is_told(tmp_path, server, status, message):
    server.status = status
    with check_refused(tmp_path, message):
        download(tmp_path, archive_at(server))


def test_no_server_and_no_folder_to_write_to_are_told(tmp_path, server):
    archive = archive_at(server)
    with check_refused(tmp_path, "cannot be downloaded to .*refused"):
        download(tmp_path, replace(archive, url="http://127.0.0.1:9/maestro.zip"))
    (tmp_path / "file").touch()
    with check_refused(tmp_path, "cannot be downloaded to .*file", leaves=["file"]):
        download(tmp_path / "file", archive)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = 0o120777 << 16
    return member


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([("../evil.midi", b"MThd")], r"\.\./evil\.midi' is no plain file or folder in maestro"),
        ([(f"{ROOT}/../../evil.midi", b"MThd")], "no plain file"),
        ([("/evil.midi", b"MThd")], "no plain file"),
        ([("C:/evil.midi", b"MThd")], "no plain file"),
        ([(rf"{ROOT}\..\..\evil.midi", b"MThd")], "no plain file"),
        ([("elsewhere/evil.midi", b"MThd")], "no plain file"),
        ([(link(f"{ROOT}/evil.midi"), b"/etc/passwd")], "no plain file"),
        ([(f"{ROOT}/2004/LISZT.midi", b"MThd")], "two of its members have the same name"),
        ([(f"{ROOT}/zeros", bytes(10**6))], "would unpack to 1,000,... bytes"),
    ],
)
def test_an_unsafe_zip_is_refused_before_anything_lands(tmp_path, server, extra, message):
    server.body = zip_of([*MEMBERS.items(), *extra])
    with check_refused(tmp_path, message):
        download(tmp_path, archive_at(server, server.body))
    assert not list(tmp_path.parent.rglob("evil*"))


def test_members_that_overlap_are_refused(tmp_path, server):
    zipped = bytearray(GOOD_ZIP)
    first, second = [match.start() for match in re.finditer(b"PK\x01\x02", zipped)][2:4]
    zipped[second + 42 : second + 46] = zipped[first + 42 : first + 46]  # where the member lies
    server.body = bytes(zipped)
    with check_refused(tmp_path, "overlaps another"):
        download(tmp_path, archive_at(server, server.body))


def test_a_member_that_holds_more_than_it_says_does_not_unpack_to_more(tmp_path, server):
    zipped = bytearray(zip_of(MEMBERS | {f"{ROOT}/zeros": bytes(10**6)}))
    directory = [match.start() for match in re.finditer(b"PK\x01\x02", zipped)][-1]
    zipped[directory + 24 : directory + 28] = (50).to_bytes(4, "little")  # what it says that it unpacks to
    server.body = bytes(zipped)
    with check_refused(tmp_path, "cannot be downloaded .*CRC"):
        download(tmp_path, archive_at(server, server.body))


def test_an_encrypted_member_is_refused(tmp_path, server):
    zipped = bytearray(GOOD_ZIP)
    zipped[zipped.index(b"PK\x01\x02") + 8] |= 1  # the flag in the directory of the zip
    server.body = bytes(zipped)
    with check_refused(tmp_path, "no plain file"):
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
    with check_refused(tmp_path, message):
        download(tmp_path, archive_at(server, server.body))


@pytest.mark.parametrize("damage", [lambda body: body[:-30], lambda body: body.replace(b"chopin", b"mozart", 1)])
def test_a_broken_zip_is_refused(tmp_path, server, damage):
    server.body = damage(zip_of(MEMBERS))
    with check_refused(tmp_path, "cannot be downloaded"):
        download(tmp_path, archive_at(server, server.body))
