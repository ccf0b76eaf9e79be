import io
import json
import re
from base64 import b64decode

import matplotlib
import numpy as np
import pytest
import soundfile

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from musicgen.lab.figures.style import COLOURS
from musicgen.lab.player import Player, player
from musicgen.midi import midi_bytes
from musicgen.piano_roll import NOTE_DTYPE, PianoRoll

# A bass note that is held beneath two chords, at 20 frames a second: 6 s.
NOTES = [(36, 80, 0, 120), (60, 70, 20, 40), (64, 70, 20, 40), (62, 100, 60, 90), (67, 100, 60, 90)]
ROLL = PianoRoll.from_notes(np.array(NOTES, NOTE_DTYPE))
SHORT = PianoRoll.from_notes(np.array([(72, 50, 0, 110)], NOTE_DTYPE))
MARKUP = "</script><img src=x onerror=alert(1)> \"&amp;' <!-- $x {0} \udce9"


@pytest.fixture(autouse=True)
def quiet_unless_heard(request):
    if "browser" not in request.fixturenames:
        request.getfixturevalue("quick_sound")


def data_of(shown):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', shown.page, re.S)[1])


def test_the_page_holds_the_notes_the_prime_and_the_midi_file():
    data = data_of(player(ROLL, "Two chords", prime_frames=40))
    (track,) = data["tracks"]
    assert (track["title"], track["fps"], track["prime"], track["frames"]) == ("Two chords", 20, 40, 120)
    assert [tuple(note) for note in track["notes"]] == ROLL.notes.tolist()
    assert b64decode(track["midi"]) == midi_bytes(ROLL)


def test_markup_in_a_title_is_shown_as_text():
    shown = player(ROLL, MARKUP)
    assert data_of(shown)["tracks"][0]["title"] == MARKUP.replace("\udce9", "\ufffd")
    assert "<img src=x" not in shown.page and "<img src=x" not in shown.html
    assert shown.page.count("</script>") == 2
    for part in shown._repr_mimebundle_().values():
        part.encode("utf-8")


def test_the_frame_may_run_scripts_and_save_files_but_not_reach_the_page():
    (sandbox,) = re.findall(r'sandbox="(.*?)"', player(ROLL).html)
    assert sandbox == "allow-scripts allow-downloads"
    assert "http" not in re.sub(r"http-equiv", "", player(ROLL).page)


def test_a_notebook_gets_the_player_and_a_figure():
    bundle = Player({"real": ROLL, "made": SHORT}, 20)._repr_mimebundle_()
    assert plt.imread(io.BytesIO(b64decode(bundle["image/png"]))).shape == (512, 800, 4)
    assert bundle["text/plain"] == "Player: real, made"
    assert "data:image/png;base64," in bundle["text/html"]  # beneath the frame, for where frames are taken out


def test_a_matrix_of_ones_own_is_played_beside_rolls():
    shown = Player({"prime": ROLL[:40], "own model": ROLL.active, "Bach": ROLL}, prime_frames=60)
    tracks = data_of(shown)["tracks"]
    assert [track["title"] for track in tracks] == ["prime", "own model", "Bach"]
    assert [len(track["notes"]) for track in tracks] == [3, 5, 5]
    assert [track["prime"] for track in tracks] == [40, 60, 60], "a prime ends with its piece"
    with pytest.raises(ValueError, match="at least one"):
        Player({})


def test_the_frame_and_its_figure_are_described():
    shown = player(ROLL, "Two < three", prime_frames=40)
    assert 'title="player: Two &lt; three"' in shown.html
    assert 'alt="Two &lt; three. Piano roll: 5 notes from C2 to G4 in 6 seconds, the first 2.0 seconds' in shown.html


def test_the_page_has_the_pedal_the_beats_and_the_colours_of_the_figures():
    pedal = np.arange(120) % 50 < 20
    beats = np.array([[-0.25, 0], [0.25, 1], [0.75, 0], [9, 1]])
    data = data_of(player(PianoRoll(ROLL.velocity, pedal=pedal, beats=beats)))
    assert data["tracks"][0]["pedal"] == [[0, 20], [50, 70], [100, 120]]
    assert data["tracks"][0]["beats"] == [[0.25, 1], [0.75, 0]]
    assert data["music"] == COLOURS
    assert [data_of(player(ROLL))["tracks"][0][name] for name in ("pedal", "beats")] == [None, None]


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.complaints, page.requests = [], []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("dialog", lambda dialog: (page.complaints.append(dialog.message), dialog.dismiss()))
    page.on("request", lambda request: page.requests.append(request.url))
    yield page
    page.close()


def show(page, shown, theme="true"):
    page.set_content(f'<body data-jp-theme-light="{theme}">{shown.html}')
    frame = page.frame_locator("iframe")
    frame.locator("[data-ready=yes]").wait_for()
    return frame.get_by_test_id


def seconds_of(find):
    return float(find("player").get_attribute("data-seconds"))


def test_play_moves_the_playhead_and_lights_the_keys_and_space_stops_it(page):
    find = show(page, player(ROLL, MARKUP))
    before = find("playhead").bounding_box()["x"]
    find("play").click()
    page.frame_locator("iframe").locator("[data-sounding='36 60 64']").wait_for(timeout=10_000)  # from 1 s to 2 s
    assert find("player").get_attribute("data-state") == "playing"
    assert find("playhead").bounding_box()["x"] > before + 100
    page.keyboard.press("Space")
    page.wait_for_timeout(100)
    stopped = seconds_of(find)
    page.wait_for_timeout(200)
    assert find("player").get_attribute("data-state") == "paused"
    assert seconds_of(find) == stopped > 1
    assert find("title").inner_text() == MARKUP.replace("\udce9", "\ufffd")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("blob:null/")] == []


def test_a_click_seeks_and_keys_move(page):
    find = show(page, player(ROLL))
    box = find("roll").bounding_box()
    find("roll").click(position={"x": 34 + (box["width"] - 40) * 3.2 / 7.5, "y": 50})  # of 6 s and 1.5 s that ring
    page.wait_for_timeout(100)
    assert seconds_of(find) == pytest.approx(3.2, abs=0.02)
    assert find("keyboard").get_attribute("data-sounding") == "36 62 67"
    for key, seconds in {"ArrowLeft": 0, "ArrowRight": 5, "End": 7.5, "Home": 0}.items():
        page.keyboard.press(key)
        page.wait_for_timeout(100)
        assert seconds_of(find) == pytest.approx(seconds, abs=0.01)


def test_two_pieces_share_the_axis_and_switching_keeps_the_moment(page):
    find = show(page, Player({"real": ROLL, "made": SHORT}))
    assert find("playhead").count() == 2
    find("play").click()
    page.wait_for_timeout(500)
    find("listen").nth(1).click()
    page.wait_for_timeout(200)
    assert seconds_of(find) > 0.5
    assert find("keyboard").get_attribute("data-sounding") == "72"
    assert find("player").get_attribute("data-state") == "playing"
    page.keyboard.press("1")
    assert find("keyboard").get_attribute("data-sounding") != "72"
    assert [find("listen").nth(i).get_attribute("aria-pressed") for i in range(2)] == ["true", "false"]
    find("play").click()
    left, right = (find("playhead").nth(i).bounding_box()["x"] for i in range(2))
    assert left == pytest.approx(right, abs=1)


def test_the_volume_is_set_by_a_slider_and_the_prime_can_be_skipped(page):
    find = show(page, Player({"made": ROLL, "real": SHORT}, prime_frames=40))
    find("volume").press("Home")
    find("volume").press("ArrowRight")
    assert page.frames[1].evaluate("tracks.map(track => track.audio.volume)") == [0.05, 0.05]
    find("skip-prime").click()
    page.wait_for_timeout(100)
    assert seconds_of(find) == 2
    find("play").click()
    find("player").locator("[role=status]", has_text="Playing made").wait_for(state="attached")
    assert page.complaints == []


def test_the_midi_file_and_the_sound_can_be_saved(page, tmp_path):
    find = show(page, player(ROLL, "Étude op. 10/3"))
    for kind in ("midi", "wav"):
        with page.expect_download() as saved:
            find(kind).click()
        saved.value.save_as(tmp_path / kind)
        assert saved.value.suggested_filename == "Étude-op-10-3." + kind.removesuffix("i")
    assert (tmp_path / "midi").read_bytes() == midi_bytes(ROLL)
    samples, rate = soundfile.read(tmp_path / "wav")
    assert len(samples) / rate == pytest.approx(7.5, abs=0.1)
    assert np.abs(samples).max() > 0.5


def colours_in(find):
    """Return the colours of all pixels of the first canvas."""
    script = """it => {
        const pixels = it.getContext("2d").getImageData(0, 0, it.width, it.height).data;
        return [...new Set(new Uint32Array(pixels.buffer))];
    }"""
    return {"#" + pixel.to_bytes(4, "little")[:3].hex() for pixel in find("roll").evaluate(script)}


def test_the_canvas_shows_notes_and_pedal_in_the_same_colours_in_both_themes(page):
    pedal = np.arange(120) % 50 < 20
    for theme in ("true", "false"):
        with_pedal = colours_in(show(page, player(PianoRoll(ROLL.velocity, pedal=pedal)), theme))
        without = colours_in(show(page, player(ROLL), theme))
        assert {COLOURS["velocity"][velocity - 1] for velocity in (70, 100)} <= with_pedal & without
        assert COLOURS["pedal"] in with_pedal - without


def test_the_frame_is_as_light_or_dark_as_the_page(page):
    for theme, name in {"true": "light", "false": "dark"}.items():
        find = show(page, player(ROLL), theme)
        assert find("player").evaluate("it => it.ownerDocument.documentElement.dataset.theme") == name
