"""An exported page in a browser, as a reader without Jupyter sees it."""

import nbformat
import numpy as np
from lab import faults_of_access

from musicgen.lab.course.pages import export
from musicgen.lab.figures.charts import plot_bars
from musicgen.lab.player import Player
from musicgen.piano_roll import PianoRoll

CHORD = PianoRoll(np.isin(np.arange(88), [39, 43, 46]).astype(np.uint8)[None].repeat(40, axis=0) * 80)


def test_what_a_page_shows_can_be_used_without_eyes(browser, tmp_path):
    figure = plot_bars({"Markov": 4.14, "LSTM": 2.3}, xlabel="nats per frame").figure
    outputs = [
        nbformat.v4.new_output("display_data", each._repr_mimebundle_()) for each in (figure, Player({"A": CHORD}))
    ]
    cells = [nbformat.v4.new_markdown_cell("# A title"), nbformat.v4.new_code_cell("Player(rolls)", outputs=outputs)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "small.ipynb")
    (tmp_path / "small.html").write_text(export(tmp_path / "small.ipynb"), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "small.html").as_uri())
    faults = faults_of_access(page, "body")
    assert [fault for fault in faults if "jp-InputPrompt" not in fault] == [], "the colour of prompts is Jupyter's"
    page.close()
