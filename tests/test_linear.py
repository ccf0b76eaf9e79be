"""The linear layer gives what torch's own gives, and the same gradients, whichever library multiplies."""

from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn

from musicgen.linear import Linear

FRAMES = torch.Generator().manual_seed(0)
CASES = {
    "one vector": torch.randn(1, 5, generator=FRAMES),
    "frames of two pieces": torch.randn(2, 7, 5, generator=FRAMES),
    "not laid out in order": torch.randn(5, 7, 2, generator=FRAMES).permute(2, 1, 0),
    "double precision": torch.randn(2, 7, 5, generator=FRAMES, dtype=torch.float64),
    "no frames": torch.zeros(2, 0, 5),
}


def mapped(kind: type, x: Tensor) -> list[Tensor]:
    """What a layer of 5 inputs and 3 outputs makes of `x`, and the gradients of the sum of its squares."""
    torch.manual_seed(1)
    layer, x = kind(5, 3).to(x.dtype), x.clone().requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    return [y.detach(), x.grad, layer.weight.grad, layer.bias.grad]


@pytest.mark.parametrize("precision", [nullcontext, lambda: torch.autocast("cpu", torch.bfloat16)])
@pytest.mark.parametrize("x", CASES.values(), ids=CASES)
def test_output_and_gradients_are_those_of_torch(x, precision):
    with precision():
        for ours, wanted in zip(mapped(Linear, x), mapped(nn.Linear, x)):
            assert ours.dtype == wanted.dtype
            torch.testing.assert_close(ours, wanted)


def test_only_single_precision_on_a_cpu_that_has_it_goes_to_onednn():
    x, convert, converted = CASES["frames of two pieces"], Tensor.to_mkldnn, []
    with patch.object(Tensor, "to_mkldnn", lambda each: converted.append(each) or convert(each)):
        mapped(Linear, x.double())
        with torch.autocast("cpu", torch.bfloat16):
            mapped(Linear, x)
        with patch("torch.backends.mkldnn.is_available", return_value=False):
            mapped(Linear, x)
        with pytest.MonkeyPatch.context() as without:
            without.setattr(torch.backends.mkldnn, "enabled", False)
            mapped(Linear, x)
        assert not converted
        mapped(Linear, x)
        assert len(converted) == torch.backends.mkldnn.is_available()


@torch.inference_mode()
def test_it_maps_without_gradients_too():
    layer, x = Linear(5, 3), CASES["frames of two pieces"]
    torch.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_it_can_be_compiled():
    layer, x = Linear(5, 3), CASES["frames of two pieces"]
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), layer(x))
