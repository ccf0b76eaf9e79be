"""JupyterLab as a person meets it: a server of its own, and a page that watches what goes wrong and what is loaded."""

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

HOST = "127.0.0.1"
QUIET = {"@jupyterlab/apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}'}
ERRORS = ".musicgen-error, .jupyter-widgets-error-widget"
IDLE = "() => window.jupyterapp?.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
SLOW = 180_000  # milliseconds
SCROLLS = """
selector => [...document.querySelectorAll(selector)].flatMap(part => [part, ...part.querySelectorAll('*')])
  .filter(node => /auto|scroll/.test(getComputedStyle(node).overflowX) && node.clientWidth
    && node.scrollWidth > node.clientWidth)
  .map(node => `${node.className}: ${node.scrollWidth} in ${node.clientWidth} pixels`)
"""


@contextmanager
def serve(folder):
    """Start JupyterLab on this computer only, with a token and settings of its own; yield its address and token."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = Path(folder) / ".own"
    for name, text in QUIET.items():
        path = own / "settings" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    places = {"CONFIG_DIR": "config", "RUNTIME_DIR": "runtime"}
    env = os.environ | {f"JUPYTER_{name}": str(own / place) for name, place in places.items()}
    env |= {"JUPYTERLAB_SETTINGS_DIR": str(own / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(own / "workspaces")}
    env |= {"JUPYTER_TOKEN": token}
    options = [f"--ServerApp.root_dir={folder}", f"--ip={HOST}", f"--port={port}", "--no-browser", "--allow-root"]
    options += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    with (own / "server.log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyterlab", *options], env=env, stdout=log, stderr=log)
        try:
            _wait_for(f"http://{HOST}:{port}/api/status?token={token}", server, own / "server.log")
            yield f"http://{HOST}:{port}", token
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(address, server, log):
    for _ in range(240):
        if server.poll() is not None:
            break
        try:
            return urlopen(address, timeout=5).close()
        except URLError:
            time.sleep(0.5)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


class Lab:
    """A browser's page with one notebook."""

    def __init__(self, context, address, token):
        self.address, self.token, self.outside, self.faults = address, token, [], []
        self.page = context.new_page()
        self.page.set_default_timeout(SLOW)
        self.page.on("request", lambda request: self._watch(request.url))
        self.page.on("websocket", lambda websocket: self._watch(websocket.url))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))

    def _watch(self, url):
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob", "about") and parts.hostname != HOST:
            self.outside.append(url)

    def open(self, name):
        """Open a notebook alone on the page, and wait until its kernel answers."""
        self.page.goto(f"{self.address}/doc/tree/{name}?token={self.token}")
        self.page.wait_for_function(IDLE)

    def clear(self):
        """Take away the outputs that are saved in the notebook."""
        self.page.locator(".jp-CodeCell").first.wait_for()
        self.wait_until(self._is_clear, every=1000)

    def _is_clear(self):
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:clear-all-cell-outputs'); }")
        return self.prompts() and not any(self.prompts())

    def begin(self):
        """Run all cells, also those that ran before. Asked too early, JupyterLab runs nothing: so it is asked again."""
        self.page.locator(".jp-CodeCell").first.wait_for()
        before = self.prompts()
        self.wait_until(lambda: self._has_begun(before), every=3000)

    def finish(self, milliseconds=SLOW):
        """Wait until all cells have been run, or one has failed and no other waits any more."""
        self.wait_until(lambda: self.page.evaluate(IDLE) and "*" not in self.prompts(), 500, milliseconds)

    def _has_begun(self, before):
        now = self.prompts()
        if now != before and any(now):  # all empty: the outputs were only cleared
            return True
        self.page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def append_to_cell(self, marker, lines):
        """Add lines to the code cell that contains a marker."""
        found = self.page.evaluate(
            """([marker, lines]) => {
                const cells = jupyterapp.shell.currentWidget.content.widgets.map((cell) => cell.model);
                const chosen = cells.filter((cell) => cell.type === 'code' && cell.sharedModel.source.includes(marker));
                chosen.forEach((cell) => cell.sharedModel.setSource(cell.sharedModel.source + '\\n' + lines));
                return chosen.length;
            }""",
            [marker, lines],
        )
        assert found == 1

    def prompts(self):
        """List the numbers of the code cells: empty before they are run, and a star while they wait."""
        return [text.strip("[]: ") for text in self.page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()]

    def errors(self):
        """List what went wrong: in a cell, in a widget, in the page, or by asking another computer for something."""
        shown = [text for text in self.page.locator(ERRORS).all_text_contents() if text.strip()]
        texts = self.page.locator(".jp-OutputArea-output").all_text_contents()
        shown += [text for text in texts if "Traceback (most recent call last)" in text]
        unrun = [f"a cell was not run: {prompt!r}" for prompt in self.prompts() if not prompt.isdigit()]
        dead = self.page.get_by_text("Error displaying widget").count() * ["a widget that is not there"]
        return shown + dead + self.faults + [f"loaded from outside: {url}" for url in self.outside] + unrun

    def click(self, part, name):
        """Click the button of this name in a part of the page, once the notebook no longer moves."""
        button = part.get_by_role("button", name=name)
        seen = []
        self.wait_until(lambda: button.scroll_into_view_if_needed() or seen.append(button.bounding_box())
                        or seen[-2:-1] == seen[-1:], 500)  # fmt: skip
        button.click()

    def wait_for_another(self, part, before):
        """Wait until the pictures in a part of the page are no longer those `before`."""
        self.wait_until(lambda: self.pictures(part) not in (before, []))

    def pictures(self, part):
        """List the sources of the pictures in a part of the page, those of figures that are outputs, too."""
        return [picture.get_attribute("src") for picture in part.locator("img").all()]

    def wait_until(self, true, every=200, at_most=SLOW):
        """Wait until a function of ours returns true; ask it `every` so many milliseconds."""
        for _ in range(at_most // every):
            if true():
                return
            self.page.wait_for_timeout(every)
        raise AssertionError("what was waited for did not come")

    def set_theme(self, name):
        """Choose JupyterLab's "Light" or "Dark" theme."""
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', { theme })", f"JupyterLab {name}"
        )
        body = self.page.locator(f'body[data-jp-theme-light="{str(name == "Light").lower()}"]')
        body.wait_for(state="attached")  # a body without height counts as hidden

    def scroll_bars(self, selector):
        """List the elements of some parts of the page that are wider than their box, and show a scroll bar."""
        return self.page.evaluate(SCROLLS, selector)

    def show(self, locator, path):
        """Save a picture of a part of the page, which is made high enough to hold it."""
        before = self.page.viewport_size
        self.page.set_viewport_size(before | {"height": round(locator.bounding_box()["height"]) + 200})
        locator.scroll_into_view_if_needed()
        locator.screenshot(path=path)
        self.page.set_viewport_size(before)


def faults_of_access(frame, selector):
    """List what axe calls serious or critical in the parts of a page or frame: a control without a name, pale text."""
    package = importlib.util.find_spec("axe_playwright_python")
    if package is None:
        pytest.skip("axe is not installed: pip install --editable '.[test]'")
    frame.evaluate(Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8"))
    found = frame.evaluate("selector => axe.run({ include: [selector] }, { iframes: false })", selector)
    assert found["passes"], f"there is no {selector}"
    return [
        f"{fault['id']}: {node['html'][:150]}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]


def play(lab, part, while_it_plays=lambda: None):
    """Press play in the player of a part of a page, see the playhead move, and return the player's frame."""
    player = 'iframe[title^="player"]'
    part.locator(player).first.scroll_into_view_if_needed()  # a browser does not lay out a frame that nobody sees
    frame = part.frame_locator(player)
    frame.locator('[data-testid="player"][data-ready="yes"]').wait_for()
    frame.get_by_test_id("play").click()
    frame.locator('[data-testid="player"][data-state="playing"]').wait_for()
    head = frame.get_by_test_id("playhead").first
    before = float(head.get_attribute("data-seconds"))
    lab.wait_until(lambda: float(head.get_attribute("data-seconds")) > before + 0.3)
    while_it_plays()
    frame.get_by_test_id("play").click()
    return frame
