"""The listening test: both versions are alike but for the music, and the page does not tell which is which."""

import json
import re
from pathlib import Path

import listening
import numpy as np
import pytest

from musicgen.corpora.folder import Piece
from musicgen.dataset import RollCache
from musicgen.piano_roll import PianoRoll

SECONDS = 6.0


@pytest.fixture(scope="module")
def rolls():
    """Five pieces of ten seconds with a beat every half second; the first three are tested, one has no beats."""
    random, beats = np.random.default_rng(3), np.column_stack([np.arange(22) * 0.5, np.arange(22) % 4 == 0])
    made, pieces = [], []
    for number, (composer, split) in enumerate(
        [("Bach", "test"), ("<b>Liszt", "test"), ("Bach", "test"), ("Bach", "validation"), ("Chopin", "test")]
    ):
        velocity = np.zeros((200, 88), np.uint8)
        velocity[:, 40 + number] = 60 * (random.random(200) < 0.6)  # another pitch: another work
        velocity[[0, -1], 30] = 70
        pieces.append(Piece(Path("x"), f"{number}.mid", composer, "Étude", split, None if number == 4 else beats))
        made.append(PianoRoll(velocity))
    return RollCache.from_rolls(pieces, made)


@pytest.fixture(scope="module")
def items(rolls, tiny_model):
    return listening.make_items(tiny_model(n_pitches=88), rolls, 3, SECONDS)


def test_composers_take_turns_and_the_test_split_comes_first(rolls):
    chosen = listening.choose_pieces(rolls, 9, SECONDS)
    assert chosen[0] == 1 and sorted(chosen[1:3]) == [0, 2] and chosen[3:] == [3]  # "<" comes before "B"
    assert listening.choose_pieces(rolls, 2, SECONDS) == chosen[:2]
    assert listening.choose_pieces(rolls, 9, 10.5) == []


def test_a_second_performance_of_a_work_is_left_out(rolls):
    again = Piece(Path("x"), "again.mid", "<b>Liszt", "under another title", "test", rolls.pieces[1].beats)
    more = RollCache.from_rolls([*rolls.pieces, again], [*rolls, rolls[1].stretch(1.1)])
    chosen = listening.choose_pieces(more, 9, SECONDS)
    assert len(chosen) == 4 and len({1, 5} & set(chosen)) == 1


def test_both_versions_are_equally_long_and_loud_and_fade_out():
    quiet, loud = np.zeros((2, 400, 88), np.uint8)
    quiet[:80:7, 20], loud[:80:7, 20] = 60, 60  # the same opening of four seconds
    quiet[80::7, 20], loud[80::3, 50] = 60, 90
    one, other = (sound.samples for sound in listening.same_loudness([PianoRoll(quiet), PianoRoll(loud)], 20, 4))
    rate = len(one) // 20
    assert len(one) == len(other) and one[: 4 * rate - 10] == pytest.approx(other[: 4 * rate - 10], abs=1e-3)
    assert rms(one[4 * rate :]) == pytest.approx(rms(other[4 * rate :]), rel=0.01)
    assert abs(one[-20:]).max() < 1e-3 and max(abs(one).max(), abs(other).max()) <= 0.9


def test_silence_stays_silent_and_is_no_reason_to_clip():
    silent, loud = np.zeros((2, 400, 88), np.uint8)
    silent[:80:7, 20], loud[:80:7, 20], loud[80::3, 50] = 60, 60, 120
    one, other = (sound.samples for sound in listening.same_loudness([PianoRoll(silent), PianoRoll(loud)], 20, 4))
    assert rms(one[len(one) // 2 :]) < 1e-3 < rms(other[len(one) // 2 :]) and abs(other).max() <= 0.9


def rms(samples):
    return np.sqrt((samples.astype(float) ** 2).mean())


def test_the_order_is_random_and_depends_on_the_seed_only(items, rolls, tiny_model, monkeypatch):
    again = listening.make_items(tiny_model(n_pitches=88), rolls, 3, SECONDS)
    assert items == again and {item["real"] for item in items} == {0, 1}
    monkeypatch.setattr(listening, "make_item", lambda *args: args[-1])
    orders = [listening.make_items(tiny_model(seed, n_pitches=88), rolls, 3, SECONDS, seed) for seed in range(4)]
    assert orders[0] == [item["real"] == 0 for item in items] and len({tuple(order) for order in orders}) > 1


def test_the_page_loads_nothing_tells_nothing_and_shows_text_as_text(items):
    page = listening.make_page(items)
    data = json.loads(re.search(r"const items = (\[.*\]);", page)[1])
    assert data == items and "&lt;b&gt;Liszt" in items[0]["title"] and "<b>Liszt" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|fetch\(", page)
    assert "://" not in re.sub(r"[A-Za-z0-9+/=]{200,}", "", page)
    visible = re.sub(r"<script>.*</script>", "", page, flags=re.DOTALL)
    assert "Liszt" not in visible and "base64" not in visible


def test_the_page_says_from_which_splits_the_pieces_come(items):
    assert "The pieces: 3 from the test split.</p>" in listening.make_page(items)
    told = listening.splits([{"split": "test"}, {"split": "train"}])
    assert "1 from the test split, 1 from the training split." in told and "was trained on" in told


def test_without_annotated_beats_there_is_nothing_to_hear(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("sys.argv", ["listening.py", "--out", str(tmp_path / "page.html")])
    monkeypatch.setattr(listening, "make_items", lambda *args, **kwargs: [])
    with pytest.raises(SystemExit, match="no piece with annotated beats"):
        listening.main()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("opens", [True, False])
def test_without_a_browser_the_page_is_written_and_its_path_is_said(opens, items, monkeypatch, tmp_path, capsys):
    path = tmp_path / "new" / "page.html"
    monkeypatch.setattr("sys.argv", ["listening.py", "--out", str(path)])
    monkeypatch.setattr(listening, "make_items", lambda *args, **kwargs: items)
    monkeypatch.setattr(listening.webbrowser, "open", lambda address: opens and address == path.as_uri())
    listening.main()
    said = capsys.readouterr().out
    assert str(path) in said and ("Open this file" in said) is not opens
    assert path.read_text(encoding="utf-8") == listening.make_page(items)


def test_in_a_browser_both_versions_look_alike_until_one_is_chosen(browser, items, tmp_path):
    (tmp_path / "page.html").write_text(listening.make_page(items), encoding="utf-8")
    page, asked, faults = browser.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    section = page.locator("section").first
    parts = [
        re.sub(r"base64,[^\"]*|<b>[AB]</b>|[AB] is", "", part.inner_html())
        for part in section.locator("div > div").all()
    ]
    assert len(parts) == 2 and parts[0] == parts[1] and "Liszt" not in page.inner_text("body")
    assert page.locator("img").count() == 0 and durations(page) == [pytest.approx(durations(page)[0], abs=1e-6)] * 6
    for number, item in enumerate(items):  # the first right, the others wrong
        section = page.locator("section").nth(number)
        section.get_by_role("button").nth(item["real"] if number == 0 else 1 - item["real"]).click()
        answer = section.locator(".answer")
        assert answer.inner_text().startswith(f"{'Wrong' if number else 'Right'}: {'AB'[item['real']]} is the pianist.")
        assert answer.locator("img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 300
        assert section.get_by_role("button", disabled=True).count() == 2
    assert "<b>Liszt" in page.inner_text("body") and page.inner_text("#tally") == "1 of 3 right."
    result = page.locator("#result")
    assert "1 of 3 right: 33 %; with more pairs it would lie between 6 % and 79 %" in result.inner_text()
    with page.expect_download() as download:
        result.get_by_role("link").click()
    saved = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    found = [pair["chosen"] == pair["pianist"] for pair in saved["answers"]]
    assert saved["right"] == 1 and found == [True, False, False]
    assert "<b>Liszt" in saved["answers"][0]["title"]
    assert not faults and {url.split(":")[0] for url in asked} <= {"file", "data"}
    page.close()


def durations(page):
    """Load every sound and return how long the browser says that each lasts."""
    return page.evaluate("""() => Promise.all([...document.querySelectorAll("audio")].map((audio) =>
        new Promise((resolve, reject) => {
          if (audio.readyState) { resolve(audio.duration); return; }
          audio.onloadedmetadata = () => resolve(audio.duration);
          audio.onerror = () => reject(audio.error.message);
          audio.preload = "metadata";
          audio.load();
        })))""")
