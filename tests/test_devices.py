"""In which precision do recurrent layers compute?"""

import copy

import pytest
import torch
from torch import nn

from lib import devices, pixels, train
from tests import tiny


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
def test_recurrent_layers_compute_in_float32_under_autocast(kind):
    torch.manual_seed(0)
    plain = kind(6, 5, batch_first=True)
    kept = nn.Sequential(copy.deepcopy(plain))
    devices.recurrent_in_float32(kept)
    tokens = torch.randn(3, 7, 6).bfloat16()
    expected, _ = plain(tokens.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, _ = kept[0](tokens)
        rounded, _ = plain(tokens)
    assert found.dtype == torch.float32 and torch.equal(found, expected)
    assert rounded.dtype == torch.bfloat16 and not torch.equal(rounded.float(), expected)
    found.sum().backward()
    expected.sum().backward()
    assert all(
        torch.equal(a.grad, b.grad) for a, b in zip(kept.parameters(), plain.parameters(), strict=True)
    )
    assert isinstance(kept[0], kind) and list(kept[0].state_dict()) == list(plain.state_dict())


def test_a_copy_of_such_a_layer_has_weights_of_its_own():
    """As the moving average of a training is one."""
    layer = nn.Sequential(nn.LSTM(6, 5, batch_first=True))
    devices.recurrent_in_float32(layer)
    twin = copy.deepcopy(layer)
    with torch.no_grad():
        for weights in twin.parameters():
            weights.zero_()
    tokens = torch.randn(3, 7, 6)
    assert not twin[0](tokens)[0].any() and layer[0](tokens)[0].any()


def test_a_processor_keeps_the_precision_that_was_asked_for(tmp_path):
    cfg = tiny.custom(tmp_path)
    state, _ = train.start(cfg, "custom_cnn_lstm", 0, pixels.prepare(cfg, progress=False), progress=False)
    assert type(state.model.sequence.rnn) is nn.LSTM
