import importlib
import io
import warnings

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.cbook import is_math_text
from matplotlib.colors import to_hex, to_rgb
from PIL import Image

from musicgen.lab.figures import fonts, style
from musicgen.lab.figures.charts import plot_bars
from musicgen.lab.figures.html import png_bytes
from musicgen.lab.figures.rolls import plot_roll
from musicgen.lab.figures.style import COLOURS, Figure, axes_for, describe, save_figure, subplots
from musicgen.piano_roll import PianoRoll

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

TINTS = ["#ffffff", *(0.87 + 0.13 * np.array(to_rgb(colour)) for colour in style.PALETTE)]  # of boxes, too


def dark(colour):
    """Return a grey as the dark theme shows it; see `html.image`."""
    return 0.93 - 0.86 * np.array(to_rgb(colour))


def luminance(colour):
    rgb = np.array(to_rgb(colour))
    return np.dot(np.where(rgb < 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), [0.2126, 0.7152, 0.0722])


def contrast(colour, ground):
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted([luminance(colour), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


def test_text_and_colours_stand_out_from_their_ground_in_both_themes():
    assert min(contrast(style.INK, ground) for ground in TINTS) > 4.5
    assert contrast(dark(style.INK), dark(style.GROUND)) > 4.5
    singles = [COLOURS["prime"], COLOURS["now"], COLOURS["pedal"], *style.PALETTE]
    assert min(contrast(colour, style.GROUND) for colour in singles) > 2.2
    assert min(contrast(colour, style.GROUND) for colour in COLOURS["velocity"]) > 2.5


def test_each_velocity_has_a_colour_and_louder_ones_are_more_vivid():
    assert len(set(COLOURS["velocity"])) == 127
    vividness = [np.ptp(to_rgb(colour)) for colour in COLOURS["velocity"][::21]]
    assert vividness == sorted(vividness)


def test_a_figure_shows_itself_with_its_alternative_text():
    ax = axes_for(None, 4, 2)
    ax.set_title('5 < 6 "$x" \udcff')
    describe(ax, "Nothing is drawn")
    bundle = ax.figure._repr_mimebundle_()
    assert bundle["text/plain"] == 'Figure: 5 < 6 "$x" \ufffd. Nothing is drawn.'
    assert 'alt="5 &lt; 6 &quot;$x&quot; \ufffd. Nothing is drawn."' in bundle["text/html"]
    assert bundle["image/png"] in bundle["text/html"]


def test_without_a_description_the_labels_describe_a_figure():
    figure, (upper, lower) = subplots(2)
    upper.set(title="Loss", xlabel="epoch", ylabel="nats\nper frame")
    lower.set(title="Loss")
    assert figure.alt == "Loss. nats per frame by epoch."
    assert Figure().alt == "A figure."


def test_a_small_png_keeps_pale_colours():
    figure = Figure(2, 1)
    figure.add_artist(plt.Rectangle((0, 0), 0.5, 1, color="#ffeeee"))
    figure.add_artist(plt.Rectangle((0.75, 0), 0.25, 1, color=(0, 0, 1)))
    pixels = np.array(Image.open(io.BytesIO(png_bytes(figure, dpi=50))).convert("RGB"), int)
    assert pixels.shape == (50, 100, 3)
    wanted = [(255, 238, 238), (255, 255, 255), (0, 0, 255)]
    assert np.abs(pixels[25, [10, 60, 90]] - wanted).max() < 10


def test_a_figure_is_saved_as_a_png(tmp_path):
    save_figure(axes_for(None, 10, 4), tmp_path / "new" / "roll.png")
    assert plt.imread(tmp_path / "new" / "roll.png").shape == (600, 1500, 4)


@pytest.fixture
def settings_of_the_reader():
    """Choose a style that is unlike ours, as a reader may do at the top of a notebook."""
    with plt.style.context("dark_background"):
        yield


def test_matplotlib_keeps_the_settings_of_the_reader(settings_of_the_reader):
    before = dict(matplotlib.rcParams)
    for module in ("style", "rolls", "charts", "architecture"):
        importlib.reload(importlib.import_module(f"musicgen.lab.figures.{module}"))
    plot_bars({"Bach": 3}).figure.draw_without_rendering()
    assert dict(matplotlib.rcParams) == before


def test_a_figure_does_not_depend_on_the_settings_of_the_reader():
    roll = PianoRoll(np.repeat(np.eye(6, 88, 40, dtype=np.uint8) * 70, 5, axis=0))

    def picture():
        return png_bytes(plot_roll(roll, title="Prime", prime_frames=9), dpi=40)

    before = picture()
    saved = {"savefig.bbox": "tight", "savefig.facecolor": "red", "savefig.transparent": True, "savefig.dpi": 9}
    drawn = {"font.size": 30, "axes.titlelocation": "left", "axes.titlecolor": "red", "xtick.direction": "in"}
    with plt.rc_context(saved | drawn | {"axes.grid": True, "axes.edgecolor": "red", "axes.xmargin": 0.4}):
        assert picture() == before


def test_the_reader_chooses_the_size_of_a_title_under_either_of_its_names():
    ax = axes_for(None, 4, 2)
    assert [ax.set_title("a", size=20).get_size(), ax.set_title("a", fontsize=21).get_size()] == [20, 21]
    assert ax.figure.suptitle("a", fontsize=22).get_size() == 22


def test_what_a_cell_adds_to_a_figure_of_ours_can_be_read(settings_of_the_reader):
    ax = plot_bars({"Bach": 3})
    texts = [ax.text(0, 0, "mine"), ax.annotate("mine", (0, 0)), ax.set_title("mine"), ax.set_ylabel("mine")]
    ax.plot([1], [1], label="mine")
    texts += ax.legend().get_texts() + [ax.figure.suptitle("mine"), *ax.get_xticklabels()]
    assert {to_hex(text.get_color()) for text in texts} == {style.INK}
    assert ax.text(0, 0, "mine", c="red").get_color() == "red"


def test_mathematics_in_a_title_of_the_reader_is_drawn_and_dollars_in_a_name_stay_dollars():
    ax = plot_bars({"$5 or $6": 3})
    ax.set_title("$x^2$")
    ax.figure.draw_without_rendering()
    assert ax.get_yticklabels()[0].get_text() == r"\$5 or \$6"
    assert is_math_text(ax.get_title()) and not is_math_text(ax.get_yticklabels()[0].get_text())
    assert "$5 or $6" in ax.figure.alt


def test_a_title_in_another_script_is_drawn_with_a_font_that_has_it_or_as_codes_that_are_told(capsys, monkeypatch):
    monkeypatch.setattr(fonts, "TOLD", set())
    ax = axes_for(None, 4, 2)
    ax.set_title("音楽 Étude")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of boxes
        ax.figure.draw_without_rendering()
        ax.figure.draw_without_rendering()
    told = capsys.readouterr().err
    if len(fonts.families_for("音")) == 1:
        assert ax.get_title() == r"\u97f3\u697d Étude"
        assert told.count("\n") == 1 and "楽音" in told
    else:
        assert ax.get_title() == "音楽 Étude" and told == ""


def test_a_font_of_any_script_is_found_and_one_that_was_removed_is_passed_over(tmp_path, monkeypatch):
    thai = font_manager.FontEntry(fname="thai.ttf", name="Noto Sans Thai")
    removed = font_manager.FontEntry(fname=str(tmp_path / "removed.ttf"), name="Noto Sans Old")
    monkeypatch.setattr(font_manager.fontManager, "ttflist", [removed, thai, *font_manager.fontManager.ttflist])
    characters = fonts._characters
    monkeypatch.setattr(fonts, "_characters", lambda path: {ord("ไ")} if path == "thai.ttf" else characters(path))
    fonts._family_with.cache_clear()
    assert fonts.drawable("ไ\tx") == "ไ x"
    assert fonts.families_for("ไ") == [fonts.DEFAULT_FAMILY, "Noto Sans Thai"]
    fonts._family_with.cache_clear()


def test_a_roll_without_a_title_leaves_that_of_the_readers_axes():
    _, (upper, lower) = plt.subplots(2)
    upper.set_title("my own")
    roll = PianoRoll(np.full((20, 88), 70, np.uint8))
    assert [plot_roll(roll, upper).get_title(), plot_roll(roll, lower, "a title").get_title()] == ["my own", "a title"]
    plt.close("all")
