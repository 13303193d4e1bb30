"""How are spatial tokens read? Token orders and the heads that read the sequence."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

ORDERS = ("raster", "reverse", "column", "snake", "spiral", "hilbert", "random", "shuffle")
READOUTS = ("last", "mean", "max")


def token_order(name: str, height: int, width: int, *, seed: int = 0) -> np.ndarray:
    """The order in which a (height, width) map is read, as raster positions [height * width].

    `hilbert` walks the curve of the next power of two and leaves out the cells beyond the map; `random` is one
    fixed permutation drawn from `seed`. `shuffle` (a fresh order for each image) has no fixed order, is drawn
    by `Reorder`, and gives raster order here. Raises ValueError for any other name.
    """
    raster = np.arange(height * width).reshape(height, width)
    if name in ("raster", "shuffle"):
        return raster.ravel()
    if name == "reverse":
        return raster.ravel()[::-1].copy()
    if name == "column":
        return raster.T.ravel().copy()
    if name == "snake":
        return np.concatenate([row[:: -1 if i % 2 else 1] for i, row in enumerate(raster)])
    if name == "spiral":
        return _spiral(raster)
    if name == "hilbert":
        return np.array([raster[y, x] for x, y in _hilbert(max(height, width)) if y < height and x < width])
    if name == "random":
        return np.random.default_rng(seed).permutation(height * width)
    raise ValueError(f"unknown token order {name!r}; the orders are {', '.join(ORDERS)}")


def _spiral(raster: np.ndarray) -> np.ndarray:
    """Clockwise from the top left corner to the centre."""
    rings = []
    while raster.size:
        rings.append(raster[0])
        raster = np.rot90(raster[1:])
    return np.concatenate(rings)


def _hilbert(side: int) -> list[tuple[int, int]]:
    """(x, y) along the Hilbert curve of the smallest power of two >= side (Hilbert 1891)."""
    n = 1 << (side - 1).bit_length()
    path = []
    for distance in range(n * n):
        x = y = 0
        t, s = distance, 1
        while s < n:
            rx, ry = 1 & (t // 2), 1 & (t ^ (t // 2))
            if ry == 0:
                if rx == 1:
                    x, y = s - 1 - x, s - 1 - y
                x, y = y, x
            x, y = x + s * rx, y + s * ry
            t, s = t // 4, s * 2
        path.append((x, y))
    return path


class Reorder(nn.Module):
    """Tokens (B, T, C) in raster order -> the same tokens in the order of `name`.

    `shuffle` draws a fresh order for every image: from torch's global generator in training mode, from a fixed seed in
    eval mode, where an image's order follows from its place in the batch. `lib.inference.FastRest` reads by the mode of the
    model that it is made from: an evaluation between epochs repeats itself if the caller seeds torch.
    """

    def __init__(self, name: str, *, seed: int = 0) -> None:
        super().__init__()
        if name not in ORDERS:
            raise ValueError(f"unknown token order {name!r}; the orders are {', '.join(ORDERS)}")
        self.name, self.seed = name, seed

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        if self.name == "raster":
            return tokens
        if self.name == "shuffle":
            return tokens.gather(1, self._fresh(tokens)[..., None].expand_as(tokens))
        order = token_order(self.name, height, width, seed=self.seed)
        return tokens[:, torch.as_tensor(order, device=tokens.device)]

    def _fresh(self, tokens: Tensor) -> Tensor:
        generator = None if self.training else torch.Generator().manual_seed(self.seed)
        return torch.rand(tokens.shape[:2], generator=generator).argsort(1).to(tokens.device)


def read_out(states: Tensor, how: str) -> Tensor:
    """States of every step (B, T, D) -> one vector an image (B, D): the last step, the mean or the maximum."""
    if how == "last":
        return states[:, -1]
    return states.mean(1) if how == "mean" else states.amax(1)


class Recurrent(nn.Module):
    """LSTM or GRU over the tokens, one layer: (B, T, C) -> (B, out_features).

    Long short-term memory (Hochreiter & Schmidhuber 1997); gated recurrent unit (Cho et al. 2014). With
    `bidirectional`, the read-out `last` joins the last state of each direction.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        cell: str = "lstm",
        bidirectional: bool = False,
        readout: str = "last",
    ) -> None:
        super().__init__()
        _check_readout(readout)
        make = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.rnn = make(channels, hidden, batch_first=True, bidirectional=bidirectional)
        self.readout = readout
        self.out_features = hidden * (2 if bidirectional else 1)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.states(tokens)
        if self.readout == "last" and self.rnn.bidirectional:
            forward, backward = states.chunk(2, dim=-1)
            return torch.cat([forward[:, -1], backward[:, 0]], dim=-1)
        return read_out(states, self.readout)

    def states(self, tokens: Tensor) -> Tensor:
        """The state after every token, (B, T, out_features)."""
        return self.rnn(tokens)[0]


class Transformer(nn.Module):
    """Small pre-norm encoder with learned positions (Vaswani et al. 2017): (B, T, C) -> (B, out_features).

    hidden     width of a token inside; rounded down to a multiple of `heads`, for which the feed-forward layers (twice
               as wide) make up, so that the number of weights grows evenly with `hidden`
    positions  longest sequence; a position belongs to the step of the reading, not to the place in the image
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        readout: str = "mean",
        positions: int = 49,
        layers: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        _check_readout(readout)
        width = max(heads, hidden - hidden % heads)
        feedforward = round((4 * hidden**2 - 2 * width**2) / width)  # 8 * hidden**2 weights a layer in all
        self.embed = nn.Linear(channels, width)
        self.position = nn.Parameter(0.02 * torch.randn(1, positions, width))
        layer = nn.TransformerEncoderLayer(
            width, heads, max(1, feedforward), dropout=0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(
            layer, layers, norm=nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.readout, self.out_features = readout, width

    def forward(self, tokens: Tensor) -> Tensor:
        return read_out(self.states(tokens), self.readout)

    def states(self, tokens: Tensor) -> Tensor:
        steps, positions = tokens.shape[1], self.position.shape[1]
        if steps > positions:
            raise ValueError(
                f"this Transformer learned {positions} positions and was given {steps} tokens; "
                "use images of at most 224 pixels"
            )
        return self.encoder(self.embed(tokens) + self.position[:, :steps])


class MeanPool(nn.Module):
    """The control without a sequence: mean over the tokens, one hidden layer. (B, T, C) -> (B, hidden)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.out_features = hidden

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(tokens.mean(1))

    def states(self, tokens: Tensor) -> Tensor:
        return self.mlp(tokens)


class TokenMean(MeanPool):
    """One hidden layer on every token, then the mean (deep sets, Zaheer et al. 2017). (B, T, C) -> (B, hidden).

    It sees what mean-pooling hides, a token's own nonlinearity, and like it is not told where a token came from: what a
    sequence head gains over this one it owes to being told, to reading one token after the other, or to its cell.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(tokens).mean(1)


class AttentionPool(nn.Module):
    """Gated attention pooling (Ilse, Tomczak & Welling 2018), then one hidden layer. (B, T, C) -> (B, hidden)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.value, self.gate = nn.Linear(channels, hidden), nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)
        self.mlp = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU())
        self.out_features = hidden

    def forward(self, tokens: Tensor) -> Tensor:
        return self.mlp(self.states(tokens).sum(1))

    def states(self, tokens: Tensor) -> Tensor:
        """Every token times its weight, (B, T, C); their sum is what the hidden layer reads."""
        return self.weights(tokens)[..., None] * tokens

    def weights(self, tokens: Tensor) -> Tensor:
        """Attention of every token, (B, T), each row summing to 1."""
        scores = self.score(self.value(tokens).tanh() * self.gate(tokens).sigmoid())  # (B, T, 1)
        return scores.squeeze(-1).softmax(1)


def make_head(name: str, channels: int, hidden: int, *, readout: str = "last") -> nn.Module:
    """The sequence head called `name`, (B, T, channels) -> (B, head.out_features).

    readout  last, mean or max over the states; heads that pool by themselves have none
    Raises ValueError for an unknown name.
    """
    if name in ("lstm", "gru"):
        return Recurrent(channels, hidden, cell=name, readout=readout)
    if name == "bilstm":
        return Recurrent(channels, hidden, cell="lstm", bidirectional=True, readout=readout)
    if name == "transformer":
        return Transformer(channels, hidden, readout=readout)
    if name in POOLS:
        return POOLS[name](channels, hidden)
    raise ValueError(f"unknown sequence head {name!r}; the heads are {', '.join(HEADS)}")


def _check_readout(readout: str) -> None:
    if readout not in READOUTS:
        raise ValueError(f"unknown read-out {readout!r}; the read-outs are {', '.join(READOUTS)}")


POOLS = {"mean": MeanPool, "token-mean": TokenMean, "attention": AttentionPool}
HEADS = ("lstm", "bilstm", "gru", "transformer", *POOLS)
