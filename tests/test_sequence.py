"""Token orders visit every place once, and every head reads what it claims to read."""

import numpy as np
import pytest
import torch

from lib import sequence
from lib.sequence import HEADS, ORDERS, POOLS, Reorder, make_head, token_order

FIXED = [name for name in ORDERS if name != "shuffle"]
SHAPES = [(7, 7), (4, 4), (3, 5), (5, 3), (1, 6), (6, 1), (1, 1)]


def steps(order: np.ndarray, width: int) -> np.ndarray:
    """Distance of each step of the reading, in rows plus columns."""
    row, column = order // width, order % width
    return np.abs(np.diff(row)) + np.abs(np.diff(column))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", FIXED)
def test_an_order_visits_every_place_once(name, shape):
    order = token_order(name, *shape)
    assert sorted(order) == list(range(shape[0] * shape[1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["snake", "spiral"])
def test_snake_and_spiral_only_step_to_neighbours(name, shape):
    assert (steps(token_order(name, *shape), shape[1]) == 1).all()


@pytest.mark.parametrize("side", [2, 4, 8])
def test_hilbert_only_steps_to_neighbours_on_powers_of_two(side):
    assert (steps(token_order("hilbert", side, side), side) == 1).all()


def test_padded_hilbert_jumps_only_where_the_curve_leaves_the_map():
    assert (steps(token_order("hilbert", 7, 7), 7) == 1).mean() > 0.85


def test_known_orders_of_a_small_map():
    expected = {
        "raster": [0, 1, 2, 3, 4, 5],
        "reverse": [5, 4, 3, 2, 1, 0],
        "column": [0, 3, 1, 4, 2, 5],
        "snake": [0, 1, 2, 5, 4, 3],
        "spiral": [0, 1, 2, 5, 4, 3],
    }
    for name, order in expected.items():
        assert token_order(name, 2, 3).tolist() == order, name
    assert token_order("spiral", 3, 3).tolist() == [0, 1, 2, 5, 8, 7, 6, 3, 4]
    hilbert = [0, 1, 5, 4, 8, 12, 13, 9, 10, 14, 15, 11, 7, 6, 2, 3]
    assert token_order("hilbert", 4, 4).tolist() == hilbert
    assert len({tuple(token_order(name, 7, 7)) for name in FIXED}) == len(FIXED)


def test_each_recurrent_head_has_the_cell_that_it_is_named_after():
    cells = {name: type(make_head(name, 6, 8).rnn) for name in ("lstm", "bilstm", "gru")}
    assert cells == {"lstm": torch.nn.LSTM, "bilstm": torch.nn.LSTM, "gru": torch.nn.GRU}


@pytest.mark.parametrize("readout", sequence.READOUTS)
@pytest.mark.parametrize("name", ["lstm", "gru", "transformer"])
def test_a_head_is_read_out_as_asked(name, readout):
    torch.manual_seed(0)
    head, tokens = make_head(name, 6, 8, readout=readout).eval(), torch.randn(4, 9, 6)
    torch.testing.assert_close(head(tokens), sequence.read_out(head.states(tokens), readout))


def test_the_random_order_is_fixed_by_its_seed():
    assert (token_order("random", 7, 7, seed=1) == token_order("random", 7, 7, seed=1)).all()
    assert (token_order("random", 7, 7, seed=1) != token_order("random", 7, 7, seed=2)).any()


@pytest.mark.parametrize("name", FIXED)
def test_reorder_permutes_the_tokens(name):
    tokens = torch.arange(2 * 12 * 3.0).view(2, 12, 3)
    read = Reorder(name)(tokens, 3, 4)
    assert torch.equal(read, tokens[:, token_order(name, 3, 4)])


def test_shuffle_is_fresh_for_every_image_and_step_of_training_and_repeats_in_evaluation():
    tokens = torch.arange(49.0).view(1, 49, 1).expand(3, -1, -1)
    shuffle = Reorder("shuffle")
    first, second = shuffle(tokens, 7, 7), shuffle(tokens, 7, 7)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert torch.equal(first.sort(1).values, tokens)
    shuffle.eval()
    evaluated = shuffle(tokens, 7, 7)
    assert torch.equal(evaluated, shuffle(tokens, 7, 7))
    assert torch.equal(evaluated.sort(1).values, tokens)
    assert (
        len({tuple(image.ravel().tolist()) for image in (*evaluated, tokens[0])}) == 4
    )  # no raster, none alike


@pytest.mark.parametrize("name", HEADS)
def test_heads_map_tokens_to_one_vector_and_learn(name):
    torch.manual_seed(0)
    head = make_head(name, 6, 8, readout="mean" if name == "transformer" else "last")
    tokens = torch.randn(4, 9, 6)
    out = head(tokens)
    assert out.shape == (4, head.out_features)
    assert head.states(tokens).shape[:2] == (4, 9)
    out.sum().backward()
    used = [
        p.grad is not None and p.grad.abs().sum() > 0 for n, p in head.named_parameters() if "bias" not in n
    ]
    assert all(used)


@pytest.mark.parametrize("name", POOLS)
def test_pooling_heads_are_blind_to_order(name):
    torch.manual_seed(0)
    head, tokens = make_head(name, 6, 8), torch.randn(4, 9, 6)
    torch.testing.assert_close(head(tokens), head(tokens.flip(1)))


@pytest.mark.parametrize("name", [name for name in HEADS if name not in POOLS])
def test_sequence_heads_see_order(name):
    torch.manual_seed(0)
    head, tokens = make_head(name, 6, 8), torch.randn(4, 9, 6)
    with torch.no_grad():
        if name == "transformer":
            head.position.normal_()
        assert (head(tokens) - head(tokens.flip(1))).abs().max() > 1e-3


def test_a_transformer_grows_evenly_with_its_width():
    counts = [sum(p.numel() for p in make_head("transformer", 64, h).parameters()) for h in range(90, 110)]
    growth = np.diff(counts) / counts[:-1]
    assert growth.min() > 0
    assert growth.max() < 0.04


def test_read_outs():
    states = torch.tensor([[[1.0, 5.0], [3.0, 2.0]]])
    assert sequence.read_out(states, "last").tolist() == [[3.0, 2.0]]
    assert sequence.read_out(states, "mean").tolist() == [[2.0, 3.5]]
    assert sequence.read_out(states, "max").tolist() == [[3.0, 5.0]]


def test_the_bidirectional_read_out_joins_both_ends():
    torch.manual_seed(0)
    head, tokens = make_head("bilstm", 3, 4), torch.randn(2, 5, 3)
    states = head.states(tokens)
    torch.testing.assert_close(head(tokens), torch.cat([states[:, -1, :4], states[:, 0, 4:]], 1))


def test_attention_weights_sum_to_one():
    weights = make_head("attention", 6, 8).weights(torch.randn(4, 9, 6))
    torch.testing.assert_close(weights.sum(1), torch.ones(4))


def test_the_token_mean_sees_what_mean_pooling_cannot():
    """Tokens +1 and -1 have the mean of two zeros; a nonlinearity on each token tells them apart."""
    opposite, zeros = torch.tensor([[[1.0], [-1.0]]]), torch.zeros(1, 2, 1)
    torch.manual_seed(0)
    blind, seeing = make_head("mean", 1, 8), make_head("token-mean", 1, 8)
    assert torch.equal(blind(opposite), blind(zeros))
    assert not torch.allclose(seeing(opposite), seeing(zeros))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: make_head("conv", 6, 8), "unknown sequence head 'conv'; the heads are lstm"),
        (lambda: make_head("lstm", 6, 8, readout="first"), "unknown read-out 'first'; the read-outs are last"),
        (lambda: make_head("transformer", 6, 8, readout="x"), "unknown read-out 'x'"),
        (lambda: token_order("zigzag", 7, 7), "unknown token order 'zigzag'; the orders are raster"),
        (lambda: Reorder("zigzag"), "unknown token order 'zigzag'"),
        (lambda: make_head("transformer", 6, 8)(torch.zeros(1, 50, 6)), "49 positions and was given 50"),
    ],
)  # fmt: skip
def test_errors_name_the_value_and_the_choices(make, message):
    with pytest.raises(ValueError, match=message):
        make()
