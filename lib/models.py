"""CNN-LSTM models: a backbone's map becomes spatial tokens, a head reads them, a classifier gives one logit."""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import timm
import torch
from torch import Tensor, nn

from lib.config import Config
from lib.sequence import Reorder, make_head

# Where the original notebook's state dicts keep what this project calls otherwise. Its timm wrote the Xception
# without the wrapper `body`; newer ones write it, so both are read.
ORIGINAL_KEYS = {
    "xception.body.": "backbone.body.",
    "xception.": "backbone.body.",
    "cnn_backbone.": "backbone.",
    "lstm.": "sequence.rnn.",
}


class WeightsError(ValueError):
    """A weights file that is damaged or belongs to another architecture."""


class CNNLSTM(nn.Module):
    """Backbone -> (channel reducer) -> spatial tokens -> sequence head -> classifier.

    images (B, 3, H, W), normalised with mean 0.5 and std 0.5 -> logits (B,), positive for pneumonia.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        *,
        hidden: int,
        dense: int,
        dropout: float,
        head: str = "lstm",
        order: str = "raster",
        readout: str = "last",
        channel_reducer: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.channel_reducer = channel_reducer or nn.Identity()
        self.reorder = Reorder(order)
        self.sequence = make_head(head, channels, hidden, readout=readout)
        self.classifier = nn.Sequential(
            nn.Linear(self.sequence.out_features, dense), nn.ReLU(), nn.Dropout(dropout), nn.Linear(dense, 1)
        )
        self.register_load_state_dict_pre_hook(_rename_original_keys)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.features(images))

    def features(self, images: Tensor) -> Tensor:
        """The map that becomes tokens, (B, 3, H, W) -> (B, C, h, w)."""
        return self.channel_reducer(self.backbone(images))

    def tokens(self, features: Tensor) -> Tensor:
        """A map (B, C, h, w) -> tokens (B, h*w, C) in this model's order."""
        height, width = features.shape[2:]
        tokens = features.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, h*w, C), raster order
        return self.reorder(tokens, height, width)

    def read(self, tokens: Tensor) -> Tensor:
        """Tokens in this model's order (B, T, C) -> logits (B,)."""
        return self.classifier(self.sequence(tokens)).squeeze(1)

    def classify(self, features: Tensor) -> Tensor:
        """A map (B, C, h, w) -> logits (B,)."""
        return self.read(self.tokens(features))

    def get_spatial_attention(self, images: Tensor) -> Tensor:
        """Softmax over the norms of the sequence head's outputs, (B, h, w), each map summing to 1.

        The original notebook calls this attention. It is an activation map: no weight of the model multiplies it,
        and the state after a token also carries all tokens before it. Read it as "how strong was the state here".
        """
        features = self.features(images)
        height, width = features.shape[2:]
        positions = torch.arange(height * width, device=features.device).expand(len(features), -1)[..., None]
        tokens = self.reorder(
            torch.cat([features.flatten(2).transpose(1, 2), positions.to(features)], -1), height, width
        )
        norms = self.sequence.states(tokens[..., :-1]).float().norm(dim=-1)  # (B, T), in reading order
        back = tokens[..., -1].round().long()  # raster position of each token read
        maps = torch.zeros_like(norms).scatter(1, back, norms.softmax(1))
        return maps.view(-1, height, width)

    def trainable_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad)


class XceptionBackbone(nn.Module):
    """timm's Xception (Chollet 2017), (B, 3, H, W) -> (B, 2048, h, w), its first `freeze_layers` parameter tensors frozen.

    input_size  images are resized to so many pixels first, such as the 299 of the ImageNet weights; 0 leaves them
    While training, the frozen stages run without autograd and frozen BatchNorm layers keep their running statistics.
    """

    channels = 2048

    def __init__(self, freeze_layers: int = 100, *, input_size: int = 0) -> None:
        super().__init__()
        self.resize = nn.Upsample(size=(input_size, input_size), mode="bilinear") if input_size else None
        self.body = timm.create_model("legacy_xception", features_only=True, pretrained=False).body
        for layer in self.body.modules():
            layer._forward_hooks.clear()  # timm's own would keep every stage's map, and its graph, alive
        parameters = list(self.body.parameters())
        if not 0 <= freeze_layers <= len(parameters):
            raise ValueError(
                f"freeze_layers is {freeze_layers}; Xception has 0 to {len(parameters)} parameter tensors"
            )
        for parameter in parameters[:freeze_layers]:
            parameter.requires_grad = False
        self.frozen_stages = self._count_frozen_stages()

    def stages(self) -> list[nn.Module]:
        """The layers in the order in which an image passes them, Xception's blocks being one stage each."""
        names = ["conv1", "bn1", "act1", "conv2", "bn2", "act2", *(f"block{i}" for i in range(1, 13))]
        names += ["conv3", "bn3", "act3", "conv4", "bn4", "act4"]
        return [*filter(None, [self.resize]), *(self.body.get_submodule(name) for name in names)]

    def forward(self, x: Tensor) -> Tensor:
        return self.trainable_part(self.frozen_part(x))

    def frozen_part(self, x: Tensor) -> Tensor:
        # Only while training: an explanation of a frozen layer needs the gradients that training does not.
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            for stage in self.stages()[: self.frozen_stages]:
                x = stage(x)
        return x

    def trainable_part(self, x: Tensor) -> Tensor:
        for stage in self.stages()[self.frozen_stages :]:
            x = stage(x)
        return x

    def train(self, mode: bool = True) -> XceptionBackbone:
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d) and not layer.weight.requires_grad:
                layer.eval()
        return self

    def _count_frozen_stages(self) -> int:
        """How many stages from the input on hold nothing to train."""
        trained = [any(p.requires_grad for p in stage.parameters()) for stage in self.stages()]
        return trained.index(True) if True in trained else len(trained)


class XceptionLSTM(CNNLSTM):
    """Xception -> 49 tokens of 2,048 channels (at 224 pixels) -> LSTM -> one logit.

    input_size  images are resized to so many pixels first (299: 100 tokens); 0 leaves them
    pretrained  file of ImageNet weights under timm's names, or None for random ones
    """

    def __init__(
        self,
        freeze_layers: int = 100,
        use_channel_reduction: bool = False,
        reduced_dim: int = 512,
        *,
        lstm_hidden: int = 512,
        dense: int = 128,
        dropout: float = 0.3,
        head: str = "lstm",
        order: str = "raster",
        readout: str = "last",
        input_size: int = 0,
        pretrained: Path | None = None,
    ) -> None:
        backbone = XceptionBackbone(freeze_layers, input_size=input_size)
        if pretrained:
            load_weights(backbone.body, pretrained)
        channels, reducer = backbone.channels, None
        if use_channel_reduction:
            reducer = nn.Sequential(
                nn.Conv2d(channels, reduced_dim, 1), nn.BatchNorm2d(reduced_dim), nn.ReLU()
            )
            channels = reduced_dim
        super().__init__(
            backbone, channels, channel_reducer=reducer, hidden=lstm_hidden, dense=dense, dropout=dropout,
            head=head, order=order, readout=readout,
        )  # fmt: skip


class CustomCNNLSTM(CNNLSTM):
    """Three convolutions (200, 150, 100 channels) -> 49 tokens of 100 channels -> LSTM -> one logit."""

    def __init__(
        self,
        dropout_rate: float = 0.27,
        lstm_hidden: int = 50,
        *,
        dense: int = 64,
        head: str = "lstm",
        order: str = "raster",
        readout: str = "last",
    ) -> None:
        # Pooling before the ReLU gives the same map (both are monotone) from a quarter of the ReLU's work.
        backbone = nn.Sequential(
            nn.Conv2d(3, 200, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(200, 150, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
            nn.Conv2d(150, 100, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(7),
        )  # fmt: skip
        super().__init__(
            backbone,
            100,
            hidden=lstm_hidden,
            dense=dense,
            dropout=dropout_rate,
            head=head,
            order=order,
            readout=readout,
        )


def build(config: Config, model: str) -> CNNLSTM:
    """The model that a run trains, with ImageNet weights where the profile asks for them.

    Raises FileNotFoundError, saying what to do, when those weights are not there.
    """
    settings = dict(vars(getattr(config, model)))
    settings.pop("train")
    if model == "custom_cnn_lstm":
        return CustomCNNLSTM(**settings)
    settings["pretrained"] = config.weights_file if settings["pretrained"] else None
    if settings["pretrained"] and not config.weights_file.exists():
        raise FileNotFoundError(
            f"the ImageNet weights of Xception are not at {config.weights_file}; run `make data` to fetch them, "
            "or `make data WEIGHTS=<file>` to take them from a file"
        )
    return XceptionLSTM(**settings)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a `.safetensors` file, or of a `.pth` file read as data only. Raises WeightsError for a damaged one."""
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
        return state.get("model_state_dict", state)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise WeightsError(
            f"{path} is not a readable weights file ({type(error).__name__}: {error})"
        ) from error


def load_weights(model: nn.Module, path: Path) -> None:
    """Load a weights file into `model`. Raises WeightsError, naming the file, when the architectures differ."""
    state = read_weights(path)
    own = model.state_dict()
    # Counters of BatchNorm steps are not weights; published files leave them out.
    state = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")} | {
        key: value for key, value in own.items() if key.endswith("num_batches_tracked") and key not in state
    }
    try:
        model.load_state_dict(
            {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
        )
    except (RuntimeError, AttributeError) as error:
        first = str(error).strip().splitlines()
        raise WeightsError(
            f"{path} does not fit {type(model).__name__}: {' '.join(line.strip() for line in first[:2])[:300]}"
        ) from error


def _rename_original_keys(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for key in list(state):
        for old, new in ORIGINAL_KEYS.items():
            if key.startswith(prefix + old):
                state[prefix + new + key.removeprefix(prefix + old)] = state.pop(key)
                break
