import pytest

from musicgen.lab.figures.architecture import plot_architecture, plot_loop
from musicgen.model import ModelConfig

pytestmark = pytest.mark.usefixtures("pyplot_keeps_nothing")


def config_of(**sizes):
    """Return a config; without sizes, of a model that has neither copy attention nor pedal nor beats."""
    plain = {"copy_heads": 0, "pedal": False, "beats": False}
    return ModelConfig(**(plain | sizes))


def texts_of(ax):
    return [text.get_text() for text in ax.texts if text.get_text()]


@pytest.mark.parametrize(("n_layers", "n_attention_layers"), [(1, 1), (2, 0), (3, 2), (4, 4)])
def test_the_architecture_states_the_true_sizes(n_layers, n_attention_layers):
    config = config_of(
        output="independent",
        hidden_size=192,
        n_layers=n_layers,
        n_attention_layers=n_attention_layers,
        attention_size=48,
        attention_span=100,
    )
    texts = texts_of(plot_architecture(config))
    assert "pitches, velocities" in texts
    lstms = [text for text in texts if text.startswith("LSTM")]
    assert lstms == ["LSTM 1: 176 → 192", "LSTM 2: 192 → 192", "LSTM 3: 192 → 192", "LSTM 4: 192 → 192"][:n_layers]
    cells = [text for text in texts if "attention cell" in text]
    assert len(cells) == n_attention_layers
    assert all("values: 48\nlast 100 frames (5 s)" in cell for cell in cells)
    assert "linear: 192 → 88" in texts
    assert texts.count("(batch, frames, 192)") == n_layers + n_attention_layers


@pytest.mark.parametrize("output", ["shared", "joint"])
def test_the_architecture_states_what_a_pitch_sees_of_the_others(output):
    config = config_of(hidden_size=192, output=output, pitch_size=12, pitch_reach=20, composers=("Bach", "Liszt"))
    texts = texts_of(plot_architecture(config))
    assert "LSTM 1: 176 + composer → 192" in texts
    assert "linear: 192 → 88 pitches × 12" in texts
    (known,) = (text for text in texts if "the 20 pitches on either side" in text)
    assert ("lower pitches of the next frame" in known) == (output == "joint")


@pytest.mark.parametrize("n_layers", [1, 2, 3, 4])
@pytest.mark.parametrize("output", ["independent", "joint"])
def test_no_texts_of_the_architecture_overlap(n_layers, output):
    parts = {"copy_heads": 4, "pedal": True, "beats": True, "home": output == "joint", "composers": ("Bach",)}
    config = config_of(n_layers=n_layers, n_attention_layers=n_layers, output=output, **parts)
    ax = plot_architecture(config)
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
    whole = ax.figure.bbox
    assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 and whole.y0 <= box.y0 and box.y1 <= whole.y1 for box in boxes)
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_loop_goes_from_the_next_frame_back_to_the_model():
    ax = plot_loop()
    back = ax.texts[-2]  # an arrow is an annotation without text
    boxes = {text.get_text(): text.get_position()[0] for text in ax.texts if text.get_text()}
    assert (back.xyann[0], back.xy[0]) == (boxes["next frame, 1/20 s"], boxes["model"])


def test_the_architecture_shows_copy_attention_pedal_beats_and_home_if_the_model_has_them():
    config = config_of(hidden_size=192, copy_heads=3, copy_span=500, pedal=True, beats=True, home=True)
    texts = texts_of(plot_architecture(config))
    assert "LSTM 1: 192 → 192" in texts  # 2 × 88 pitches, 1 for the pedal, 15 for the beats
    assert "pitches, velocities, pedal, beats" in texts
    assert any("3 heads search the\nlast 500 frames (25 s)" in text for text in texts)
    assert {"+ the notes that followed", "+ the next pedal and beats", "+ the opening"} <= set(texts)
    plain = texts_of(plot_architecture(config_of(hidden_size=192)))
    assert not any("copy" in text or "pedal" in text or "beat" in text or "opening" in text for text in plain)
    assert "LSTM 1: 176 → 192" in plain


def test_the_architecture_shows_no_part_that_the_settings_ask_for_but_the_model_lacks():
    texts = texts_of(plot_architecture(config_of(attention="none", output="independent", copy_heads=2, pedal=True)))
    assert not any("attention" in text or "pedal" in text for text in texts)


def test_the_alternative_text_lists_the_layers():
    alt = plot_architecture(config_of(hidden_size=192, n_layers=2, n_attention_layers=0)).figure.alt
    assert alt.index("LSTM 1") < alt.index("LSTM 2: 192 → 192") < alt.index("linear: 192 → 88 pitches × 16")
