"""A browser and a JupyterLab for the tests in this folder; without a browser they are skipped, and say why."""

import importlib.util

import pytest

from lab import CHROMIUM, Lab, serve

MISSING = [name for name, there in {
    "Chromium": CHROMIUM,
    "the Python package playwright": importlib.util.find_spec("playwright"),
}.items() if not there]  # fmt: skip


def pytest_collection_modifyitems(items):
    if MISSING:
        reason = f"no {' and no '.join(MISSING)} here: `make browser` installs what the browser tests need"
        for item in items:
            if "browser" in item.path.parts:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="session")
def context(folder):
    from playwright.sync_api import sync_playwright

    options = ["--autoplay-policy=no-user-gesture-required", "--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser.new_context(viewport={"width": 1180, "height": 900})
        browser.close()


@pytest.fixture(scope="session")
def server(folder):
    with serve(folder) as (address, token):
        yield address, token


@pytest.fixture(scope="module")
def lab(context, server):
    lab = Lab(context, *server)
    yield lab
    lab.page.close()
