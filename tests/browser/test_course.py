"""The course as a student goes through it: notebooks, run from top to bottom in JupyterLab, and their panels used.

MUSICGEN_RUN_NOTEBOOKS asks for it: "00 05" as `make browser` does, or "all". The other notebooks are opened as they
were saved. Pictures go to MUSICGEN_SCREENSHOTS, a folder.
"""

import os
import shutil
from pathlib import Path

import pytest
from lab import Lab, play
from test_notebooks import SETTINGS

PROJECT = Path(__file__).parents[2]
RUN = os.environ.get("MUSICGEN_RUN_NOTEBOOKS", "")
ALL = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))
NOTEBOOKS = [path for path in ALL if RUN == "all" or path.stem[:2] in RUN]
notebooks = pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS])
MINUTES = 60_000
pytestmark = pytest.mark.skipif(not RUN, reason="MUSICGEN_RUN_NOTEBOOKS=all runs the course: half an hour")


def needs(name):
    return pytest.mark.skipif(name[:2] not in RUN and RUN != "all", reason=f"{name} is not run")


@pytest.fixture(scope="module")
def course(browser, server, folder):
    """Run the notebooks: the first alone, since it makes the corpus, then two at once. Give a function to see one."""
    (folder / "course").mkdir()
    shutil.copytree(PROJECT / "benchmarks" / "results", folder / "benchmarks" / "results")
    context = browser.new_context(viewport={"width": 1180, "height": 1000}, device_scale_factor=1.5)
    labs = {path.stem: Lab(context, *server) for path in NOTEBOOKS}
    running = []
    for path in NOTEBOOKS:
        shutil.copy(path, folder / "course")
        lab = labs[path.stem]
        lab.open(f"course/{path.name}")
        lab.clear()
        lab.begin()
        running.append(lab)
        if path is NOTEBOOKS[0] or len(running) == 2:
            running.pop(0).finish(20 * MINUTES)

    def visit(name):
        labs[name].page.bring_to_front()  # what lies behind another page is drawn seldom
        return labs[name]

    yield visit
    context.close()


def run_again(lab):
    """Run all cells once more; return the errors, and the cells that did not run after all the cells of last time."""
    last = max(int(number) for number in lab.prompts())
    lab.begin()
    lab.finish(20 * MINUTES)
    return lab.errors() + [number for number in lab.prompts() if not number.isdigit() or int(number) <= last]


@pytest.mark.parametrize("path", [path for path in ALL if path not in NOTEBOOKS], ids=lambda path: path.stem)
def test_a_saved_notebook_shows_its_figures_and_loads_nothing_from_elsewhere(lab, folder, path):
    (folder / "saved").mkdir(exist_ok=True)
    shutil.copy(path, folder / "saved")
    lab.open(f"saved/{path.name}")
    lab.wait_until(lambda: lab.pictures(lab.page.locator(".jp-CodeCell")) != [])
    assert lab.faults + lab.outside == []


@notebooks
def test_it_runs_and_loads_nothing_from_elsewhere(course, name):
    lab = course(name)
    lab.finish(20 * MINUTES)
    assert lab.errors() == []


@needs("04_training")
@pytest.mark.parametrize("name", ["04_training"])  # the explorer; other sliders wait for a button
def test_its_first_slider_changes_a_picture(course, name):
    lab = course(name)
    cell = lab.page.locator(".jp-CodeCell:has(.noUi-handle)")
    if not cell.count():
        pytest.skip("it has no slider")
    cell = cell.first
    cell.scroll_into_view_if_needed()
    before = lab.pictures(cell)
    cell.locator(".noUi-handle").first.press("ArrowRight")
    lab.wait_until(lambda: lab.pictures(cell) not in (before, []))
    assert lab.errors() == []


@notebooks
def test_its_first_player_plays(course, name, picture):
    lab = course(name)
    output = lab.page.locator('.jp-OutputArea-output:has(iframe[title^="player"])')
    if not output.count():
        pytest.skip("it has no player")
    output.first.scroll_into_view_if_needed()
    play(lab, output.first, lambda: picture(lab, output.first, f"player-{name[:2]}"))
    assert lab.errors() == []


@pytest.mark.skipif(RUN != "all", reason="every cell runs again with other settings")
@notebooks
def test_every_cell_runs_once_more(course, name):
    assert run_again(course(name)) == []


@notebooks
def test_every_cell_runs_with_other_settings(course, name):
    lab = course(name)
    lab.append_to_cell("FULL_RUN = False", "\n".join(f"{key} = {value}" for key, value in SETTINGS[name[:2]].items()))
    assert run_again(lab) == []


@needs("00_hello")
def test_the_panel_of_notebook_00_composes(course, picture):
    lab = course("00_hello")
    panel = lab.page.locator(".musicgen-compose")
    lab.click(panel, "Compose")
    panel.locator(".musicgen-message", has_text="notes").wait_for()
    picture(lab, panel, "compose-panel")
    assert lab.errors() == []


@needs("05_generation")
def test_the_panel_of_notebook_05_composes(course, picture):
    lab = course("05_generation")
    panel = lab.page.locator(".musicgen-generation")
    lab.click(panel, "Compose")
    panel.locator(".musicgen-message", has_text="s of music").wait_for()
    play(lab, panel)
    lab.click(panel, "Keep")
    panel.locator(".musicgen-kept").wait_for()
    picture(lab, panel, "generation-panel")
    panel.locator("select").first.select_option("what I play")
    keyboard = panel.locator(".musicgen-keyboard")
    keyboard.locator(".key").first.wait_for()
    picture(lab, keyboard, "keyboard")
    assert lab.errors() == []
