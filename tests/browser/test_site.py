"""The site as a visitor meets it: a static server, a browser, and nothing else on the network."""

import functools
import http.server
import json
import shutil
import subprocess
import threading
import time

import numpy as np
import pytest
from lab import faults_of_access
from raw_midi import midi_bytes, note

from musicgen.beats import beat_features
from musicgen.corpora.primes import shipped_prime
from musicgen.lab.site.build import HERE, bundle_scripts, write_site
from musicgen.midi import read_midi
from musicgen.training import SHIPPED_CHECKPOINT

pytestmark = pytest.mark.skipif(
    not shutil.which("npm") or not SHIPPED_CHECKPOINT.with_suffix(".onnx").exists(),
    reason="the site needs Node.js and the exported model",
)
HOST = "127.0.0.1"
SECONDS = 120_000  # milliseconds: the longest wait


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Log nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Write the site without the course, and serve it."""
    folder = tmp_path_factory.mktemp("served") / "site"
    write_site([], folder, SHIPPED_CHECKPOINT.parent)
    server = http.server.ThreadingHTTPServer((HOST, 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://{HOST}:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def page(browser, address):
    """Open the page in a browser whose network is cut off, but for the static server."""
    context = browser.new_context(viewport={"width": 1100, "height": 1000})
    context.route("**/*", lambda route: route.continue_() if route.request.url.startswith(address) else route.abort())
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.faults = []
    page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.goto(address)
    page.get_by_test_id("opening").first.wait_for()
    yield page
    context.close()


def numbers_of_python():
    """Return inputs and results in Python of what the page computes, too."""
    opening = shipped_prime("Chopin")
    features = beat_features(opening.beats, opening.n_frames)
    return {"beats": opening.beats.tolist(), "beatFeatures": features.tolist()}


def test_the_pure_parts_of_the_scripts(tmp_path):
    workshop = bundle_scripts(tmp_path / "site")
    shutil.copytree(HERE / "test", workshop / "test")
    (workshop / "python.json").write_text(json.dumps(numbers_of_python()))
    done = subprocess.run(["node", "--test"], cwd=workshop, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


def status_of(page):
    return page.get_by_test_id("status").inner_text()


def compose(page, seconds):
    """Compose a piece of some seconds; return how long the frames took, and the loudest level."""
    page.get_by_test_id("seconds").fill(str(seconds))
    page.get_by_test_id("compose").click()
    page.wait_for_function("() => /times as fast/.test(document.getElementById('status').textContent)")
    started, level = time.monotonic(), 0.0
    while "is complete" not in status_of(page):
        assert not page.locator("#status.error").count(), status_of(page)
        level = max(level, page.get_by_test_id("level").evaluate("meter => meter.value"))
        assert time.monotonic() < started + 120
        time.sleep(0.1)
    return time.monotonic() - started, level


def saved_roll(page, path):
    with page.expect_download() as download:
        page.get_by_test_id("save").click()
    download.value.save_as(path)
    return read_midi(path)


def test_an_opening_is_continued_while_it_is_heard(page, tmp_path):
    page.get_by_test_id("opening").nth(1).click()
    prime = shipped_prime("Beethoven")
    took, level = compose(page, 36)  # about 30 seconds after the opening
    assert took < 30, "composing is faster than listening"
    assert level > 0.001, "the piano sounds"
    roll = saved_roll(page, tmp_path / "saved.mid")
    np.testing.assert_array_equal(roll.velocity[: prime.n_frames], prime.velocity)
    assert roll.n_frames > 25 * 20 and roll[prime.n_frames :].n_notes > 30
    assert page.faults == []


def test_the_page_is_drawn_by_one_loop(page):
    page.get_by_test_id("seconds").fill("300")
    page.get_by_test_id("compose").click()
    page.wait_for_function("() => /times as fast/.test(document.getElementById('status').textContent)")
    for _ in range(4):
        page.get_by_test_id("play").click()  # pauses, and plays again
    n_drawn = page.evaluate(
        """() => new Promise((resolve) => {
          const original = requestAnimationFrame;
          let n = 0;
          window.requestAnimationFrame = (...given) => { n++; return original(...given); };
          setTimeout(() => { window.requestAnimationFrame = original; resolve(n); }, 2000);
        })"""
    )
    page.get_by_test_id("compose").click()  # stops
    assert 3 < n_drawn < 40  # once in 60 milliseconds, and not by several loops


def test_a_seed_gives_the_same_piece_again(page, tmp_path):
    pieces = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        page.get_by_test_id("seed").fill(str(seed))
        compose(page, 12)
        pieces.append(saved_roll(page, tmp_path / f"{name}.mid"))
    assert pieces[0] == pieces[1] != pieces[2]


def test_a_file_of_ones_own_is_continued(page, tmp_path):
    path = tmp_path / "own.mid"
    path.write_bytes(midi_bytes([[event for i in range(9) for event in note(240 * i, 240 * i + 200, 60 + 2 * i)]]))
    page.get_by_test_id("file").set_input_files(path)
    page.wait_for_function("() => /own.mid/.test(document.getElementById('status').textContent)")
    compose(page, 8)
    roll = saved_roll(page, tmp_path / "saved.mid")
    own = read_midi(path)
    np.testing.assert_array_equal(roll.velocity[: own.n_frames], own.velocity)
    assert roll.n_frames > 100


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"<html>", "not a MIDI file"),
        (bytes(20_000_000), "more than 4 MB"),
        (midi_bytes([note(0, 48, 60, channel=9)]), "no piano notes"),
    ],
)
def test_bad_files_get_one_sentence(page, tmp_path, content, reason):
    path = tmp_path / "bad.mid"
    path.write_bytes(content)
    page.get_by_test_id("file").set_input_files(path)
    page.wait_for_function("reason => document.getElementById('status').textContent.includes(reason)", arg=reason)
    assert page.locator("#status.error").count() == 1


def test_the_second_visit_loads_no_large_file(page, address):
    urls = []
    second = page.context.new_page()
    second.on("request", lambda request: urls.append(request.url))
    second.goto(address)
    second.get_by_test_id("opening").first.wait_for()
    second.get_by_test_id("compose").click()
    second.wait_for_function(
        "() => /times as fast/.test(document.getElementById('status').textContent)", timeout=SECONDS
    )
    second.close()
    assert urls and not [url for url in urls if url.endswith((".onnx", ".wasm", ".sf2"))]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_can_be_used_on_a_phone_and_without_eyes(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": 380, "height": 800})
    page.locator("details").evaluate("details => { details.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert faults_of_access(page, "body") == []
