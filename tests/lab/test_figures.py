import io

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from musicgen.lab.figures import style
from musicgen.lab.figures.style import COLOURS, INK, Figure, axes_for, describe, png_bytes, save_figure, subplots

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")

GROUNDS = "#ffffff", "#111111"  # of JupyterLab's light and dark theme


def luminance(colour):
    rgb = np.array(to_rgb(colour))
    return np.dot(np.where(rgb < 0.04, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4), [0.2126, 0.7152, 0.0722])


def contrast(colour, ground):
    """Return the contrast ratio of WCAG 2."""
    low, high = sorted([luminance(colour), luminance(ground)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
def test_text_and_colours_stand_out_from_both_themes(ground):
    assert contrast(INK, ground) > 4
    singles = [COLOURS["prime"], COLOURS["now"], COLOURS["pedal"], *style.PALETTE]
    assert min(contrast(colour, ground) for colour in singles) > 2.2
    assert min(contrast(colour, ground) for colour in COLOURS["velocity"]) > 2.5


def test_each_velocity_has_a_colour_and_louder_ones_are_more_vivid():
    assert len(set(COLOURS["velocity"])) == 127
    vividness = [np.ptp(to_rgb(colour)) for colour in COLOURS["velocity"][::21]]
    assert vividness == sorted(vividness)


def test_a_figure_shows_itself_with_its_alternative_text_and_a_transparent_ground():
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


def test_a_small_png_keeps_transparency_and_pale_colours():
    figure = Figure(2, 1)
    figure.add_artist(plt.Rectangle((0, 0), 0.5, 1, color=(1, 0, 0, 0.1)))
    figure.add_artist(plt.Rectangle((0.75, 0), 0.25, 1, color=(0, 0, 1, 1)))
    png = png_bytes(figure, dpi=50)
    pixels = np.array(Image.open(io.BytesIO(png)).convert("RGBA"))
    assert pixels.shape == (50, 100, 4)
    assert np.abs(pixels[25, [10, 60, 90]] - np.array([[255, 0, 0, 26], [0, 0, 0, 0], [0, 0, 255, 255]])).max() < 10


def test_a_figure_is_saved_as_a_png(tmp_path):
    save_figure(axes_for(None, 10, 4), tmp_path / "new" / "roll.png")
    assert plt.imread(tmp_path / "new" / "roll.png").shape == (600, 1500, 4)
