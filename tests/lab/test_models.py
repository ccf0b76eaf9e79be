"""Models that the notebooks open, and the frame-by-frame listener of notebook 05."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from musicgen.corpora.primes import shipped_prime
from musicgen.evaluation.likelihood import mean_nll
from musicgen.lab.course.models import Listener, in_style, open_model, style_of
from musicgen.model import AttentionLSTM, ModelConfig
from musicgen.piano_roll import PianoRoll
from musicgen.training import save_checkpoint

SMALL = ModelConfig(hidden_size=16, n_attention_layers=1, attention_size=4, attention_span=8, copy_heads=0)


@pytest.fixture
def runs(tmp_path):
    torch.manual_seed(0)
    (tmp_path / "mine").mkdir()
    save_checkpoint(tmp_path / "mine" / "best.safetensors", AttentionLSTM(SMALL), {}, {})
    return tmp_path


def test_a_run_is_opened_by_its_name(runs, capsys):
    assert open_model("mine", runs).config == SMALL
    assert open_model(runs / "mine" / "best.safetensors").config == SMALL
    assert open_model().config.composers
    assert "mine knows notes" in capsys.readouterr().out
    with pytest.raises(ValueError, match="'yours' is no run.*the runs are mine; CHECKPOINT = None"):
        open_model("yours", runs)


def test_only_models_with_composers_have_styles():
    with torch.device("meta"):
        knowing = AttentionLSTM(replace(SMALL, composers=("Franz Liszt",)))
    assert style_of(knowing, "liszt") == "Franz Liszt" and style_of(knowing, None) is None
    assert style_of(AttentionLSTM(SMALL), "Liszt") is None
    assert in_style(None) == "" and in_style("Franz Liszt") == " in the style of Franz Liszt"
    with pytest.raises(ValueError, match="no composer here"):
        style_of(knowing, "Mozart")


@pytest.mark.parametrize("output", ["joint", "independent"])
def test_the_logits_of_the_listener_give_the_likelihood_of_the_piece(output):
    torch.manual_seed(1)
    model = AttentionLSTM(replace(SMALL, output=output, pedal=False, beats=False)).eval()
    velocity = np.where(shipped_prime("Bach").active, 70, 0).astype(np.uint8)
    roll = PianoRoll(velocity)
    listener, losses = Listener(model, roll[:1]), []
    for row in torch.tensor(roll.active[1:]).float():
        loss = torch.nn.functional.binary_cross_entropy_with_logits(listener.logits(row), row, reduction="sum")
        losses.append(float(loss))
        listener.append(row)
    assert np.mean(losses) == pytest.approx(mean_nll(model, [roll]), abs=1e-4)
    np.testing.assert_array_equal(listener.roll.velocity, velocity)
