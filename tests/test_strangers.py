"""No file is executed and no port is open: no unpickling, no sockets except for the download, a closed lab."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

import musicgen

ROOT = Path(__file__).parent.parent
PACKAGE = Path(musicgen.__file__).parent
SOURCES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "copyreg", "jsonpickle", "yaml"}
NETWORK = {
    "socket",
    "socketserver",
    "ssl",
    "http",
    "urllib",
    "ftplib",
    "smtplib",
    "asyncio",
    "requests",
    "xmlrpc",
    "pooch",
}
RUNNERS = {"eval", "exec", "compile", "__import__"}
LOADERS = {"torch.load", "joblib.load", "torch.jit.load", "torch.hub.load", "np.load", "numpy.load", "os.system"}


def unsafe(source):
    """Name everything in a module that could execute what it reads."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLERS}
            found |= {alias.name for alias in node.names if alias.asname and alias.name in ("torch", "joblib")}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name for name in names if name.split(".")[0] in UNPICKLERS or name in LOADERS}
        elif isinstance(node, ast.Call):
            called, keywords = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            safe = called == "np.load" and keywords.get("allow_pickle") == "False"
            found |= {called} & (LOADERS | RUNNERS) if not safe else set()
            found |= {name for name in ("allow_pickle", "shell") if keywords.get(name, "False") != "False"}
            found |= {key.arg for key in node.keywords if key.arg == "weights_only"}
    return found


def opens_sockets(source):
    nodes = list(ast.walk(ast.parse(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name for name in names if name.split(".")[0] in NETWORK} - {"pooch.os_cache"}  # a folder's path


@pytest.mark.parametrize(
    "line",
    ["import pickle", "from pickle import loads", "def f():\n    import dill as d", "torch.load(f, weights_only=True)"]
    + ["from torch import load", "joblib.load(p)", "np.load(p)", "eval(text)", "exec(text)", "__import__(name)"]
    + ["f(p, allow_pickle=True)", "subprocess.run(x, shell=True)", "import torch as t", "compile(a, b, c)"],
)
def test_every_way_to_execute_a_file_is_found(line):
    assert unsafe(line)


def test_harmless_calls_are_not_found():
    assert (
        unsafe("model.eval(); re.compile('a'); torch.compile(model); json.load(f); np.load(p, allow_pickle=False)")
        == set()
    )


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_no_module_executes_what_it_reads(module):
    assert unsafe(SOURCES[module]) == set()


@pytest.mark.parametrize(
    "line", ["import socket", "from urllib.request import urlopen", "import http.client as h", "import pooch"]
)
def test_every_way_to_the_network_is_found(line):
    assert opens_sockets(line)


def test_only_the_download_opens_sockets():
    assert {module for module in SOURCES if opens_sockets(SOURCES[module])} == {"corpora/maestro.py"}


WATCHED = """
import sys
from pathlib import Path

def watch(event, arguments):
    if event.startswith("socket.") and event not in ("socket.__new__", "socket.gethostname"):
        print("SOCKET", event, arguments, file=sys.stderr, flush=True)

sys.addaudithook(watch)
import socket
if len(sys.argv) == 1:
    sys.exit(socket.socket().bind(("127.0.0.1", 0)))
from musicgen.__main__ import main
folder = Path(sys.argv[1])
for seed in range(3):
    made = ["generate", "--seconds", "5", "--seed", str(seed), "--beats", "6", "--out", str(folder / f"{seed}.mid")]
    assert main(made) == 0
tiny = "--hidden-size 4 --attention-size 2 --attention-span 4 --n-epochs 1 --pitch-size 2".split()
assert main(["prepare", sys.argv[1]]) == 0
assert main(["train", sys.argv[1], "--out", sys.argv[1] + "/run", *tiny]) == 0
assert main(["evaluate", sys.argv[1] + "/run/best.safetensors", sys.argv[1]]) == 0
assert main(["sample", str(folder / "0.mid"), "--out", str(folder / "a.npz")]) == 0
"""


@pytest.mark.parametrize("arguments", [[], ["a folder"]])
def test_only_the_download_opens_a_socket_at_run_time(tmp_path, arguments):
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *[tmp_path for _ in arguments]],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert ("SOCKET" in done.stderr) == (not arguments), done.stderr  # without arguments it opens one on purpose


def recipe(target):
    """Return the commands of a target of the Makefile."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    return re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)[1]


def test_jupyterlab_starts_for_this_computer_only_and_keeps_its_token():
    lines = recipe("lab")
    assert re.findall(r"--ip[= ](\S+)", lines) == ["127.0.0.1"]
    assert not re.search(r"token|password|allow.origin|disable_check_xsrf|allow_remote", lines, re.IGNORECASE)


@pytest.mark.skipif(
    not shutil.which("ss") and not Path("/proc/net/tcp").exists(), reason="open ports are read from Linux"
)
def test_jupyterlab_listens_on_this_computer_only_and_requires_its_token(tmp_path):
    command = recipe("lab").strip().replace("$(RUN)", sys.executable).replace("$(AS_ROOT)", "--allow-root").split()
    folders = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("RUNTIME", "CONFIG", "DATA")}
    command += ["--no-browser", "--ServerApp.port=0", "--LabApp.check_for_updates_class="][:2]
    server = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | folders | {"HOME": str(tmp_path)}, stderr=subprocess.DEVNULL
    )
    try:
        about = None
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            time.sleep(0.1)
            files = list((tmp_path / "RUNTIME").glob("jpserver-*.json"))
            about = files and json.loads(files[0].read_text() or "null")
            if about and listening(about["port"]):  # the file exists shortly before the server listens
                break
        assert listening(about["port"]) == {"127.0.0.1"}
        assert len(about["token"]) >= 32
        with pytest.raises(HTTPError, match="403"):
            urlopen(f"{about['url']}api/contents", timeout=30)
        with urlopen(f"{about['url']}api/contents?token={about['token']}", timeout=30) as answer:
            assert answer.status == 200
    finally:
        server.kill()
        server.wait()


def listening(port):
    """Return the addresses on which a port is open."""
    found = set()
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else []:
            address, state = line.split()[1], line.split()[3]
            host, _, at = address.partition(":")
            if state == "0A" and int(at, 16) == port:
                found.add(".".join(str(byte) for byte in bytes.fromhex(host)[::-1]) if table == "tcp" else host)
    return found
