import pytest

from musicgen.lab.figures.html import escape, image, readable, table

MARKUP = "<img src=x onerror=alert(1)> \"&'"


def test_markup_is_shown_and_not_obeyed():
    assert escape(MARKUP) == "&lt;img src=x onerror=alert(1)&gt; &quot;&amp;&#x27;"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31m\x00b", "a\\u001b[31m\\u0000b"),
        ("invoice\u202egpj.mid", "invoice\\u202egpj.mid"),
        ("\u2066x\u2069", "\\u2066x\\u2069"),
        ("caf\udce9.mid", "caf\ufffd.mid"),
        ("two\nlines\tand ünïcödé 音楽 ‍", "two\nlines\tand ünïcödé 音楽 ‍"),
    ],
)
def test_control_characters_and_surrogates_become_visible(text, shown):
    assert readable(text) == shown
    assert readable(text).encode("utf-8").decode() == shown


def test_every_cell_and_name_of_a_table_is_escaped():
    made = table([[MARKUP, 1], ["plain", MARKUP]], head=[MARKUP, "b"], bold=[1])
    assert "<img" not in made
    assert made.count(escape(MARKUP)) == 3
    assert made.index("font-weight: bold") > made.index("font-weight: normal")


def test_an_image_has_its_alternative_text():
    assert f' alt="{escape(MARKUP)}" src="data:image/png;' in image(b"PNG", MARKUP)
    assert "<img src=x" not in image(b"PNG", MARKUP)
