import io
import sys

import pytest

from musicgen.utils import progress

Notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})


@pytest.mark.parametrize(("stream", "where"), [(Notebook, "out"), (io.StringIO, "err")])
def test_progress_is_an_error_stream_only_outside_of_a_notebook(stream, where, monkeypatch, capsys):
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0)
    monkeypatch.setattr(sys, "stderr", stream())
    with progress.progress_bar("chorales", 2, "piece") as bar:
        bar.update(2)
    shown = capsys.readouterr().out if where == "out" else sys.stderr.getvalue()
    assert "chorales" in shown
    assert (sys.stderr.getvalue() == "") == (where == "out")
