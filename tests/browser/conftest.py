"""A JupyterLab for the tests in this folder. Without a browser they are skipped, and say why."""

import os
from pathlib import Path

import pytest
from lab import Lab, serve


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """Make the folder that JupyterLab serves."""
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def server(browser, folder):
    with serve(folder) as (address, token):
        yield address, token


@pytest.fixture(scope="module")
def lab(browser, server):
    context = browser.new_context(viewport={"width": 1180, "height": 900}, device_scale_factor=1.5)
    yield Lab(context, *server)
    context.close()


@pytest.fixture
def picture():
    """Save a picture of a part of a page, where pictures are asked for."""

    def save(lab, locator, name):
        if folder := os.environ.get("MUSICGEN_SCREENSHOTS"):
            lab.show(locator, Path(folder) / f"{name}.png")

    return save
