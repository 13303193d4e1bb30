"""Which settings are there, what do they mean, and which values make sense? The sections of a config; defaults of what the original notebook has are its own."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lib.errors import UserError

# What lib.sequence, lib.models and lib.ablation.variants define. They bring torch or pandas along, for which no setting should
# have to wait, so it stands here once more; a test holds the two equal.
HEADS = ("lstm", "bilstm", "gru", "transformer", "mean", "token-mean", "attention")
ORDERS = ("raster", "reverse", "column", "snake", "spiral", "hilbert", "random", "shuffle")
READOUTS = ("last", "mean", "max")
XCEPTION_TENSORS = 154  # parameter tensors that could be frozen
# Numbers of frozen tensors that part a convolution from its BatchNorm. The frozen stages and the trained ones are folded
# apart, each BatchNorm into the convolution before it, and the first of the trained stages would be a BatchNorm that has
# none. Only the two convolutions before Xception's blocks and the two after them are stages of their own; a block is one
# stage with all it holds.
XCEPTION_PARTED = ((1, 2), (4, 5), (148, 149), (152, 153))
VARIANTS = (
    "mean-mlp", "token-mean", "attention-pool", "lstm-raster", "bilstm-raster", "gru-raster", "transformer-raster",
    "lstm-reverse", "lstm-column", "lstm-snake", "lstm-spiral", "lstm-hilbert", "lstm-random", "lstm-shuffle",
    "transformer-shuffle", "lstm-raster-mean", "lstm-reverse-mean", "lstm-raster-max", "mean-mlp-learned", "lstm-raster-learned",
)  # fmt: skip
FROZEN_VARIANTS = (*VARIANTS, "mean-mlp-all", "lstm-raster-all")
# The custom model has no channels to reduce.
CUSTOM_VARIANTS = tuple(name for name in VARIANTS if not name.endswith("-learned"))
LARGEST_SEED = 2**32 - 1  # of NumPy's and scikit-learn's generators


class ConfigError(UserError, ValueError):
    """A setting that does not exist or has no meaning; the message names the valid ones."""


def one_of(key: str, value: str, valid: tuple[str, ...]) -> None:
    """Raises ConfigError, naming the valid ones, for a value that is not among them."""
    if value not in valid:
        raise ConfigError(f"{key} is {value!r}; it must be one of {', '.join(valid)}")


def within(key: str, value: float, low: float, high: float) -> None:
    """Raises ConfigError, naming the range, for a value outside it (both ends belong to it)."""
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value!r}; it must lie between {low} and {high}")


def all_within(key: str, values: tuple[float, ...], low: float, high: float, *, such_as: str) -> None:
    """Raises ConfigError for an empty list, and for one that holds a value outside the range or twice."""
    if not values:
        raise ConfigError(f"{key} is empty; it must name at least one, such as {such_as}")
    if len(set(values)) < len(values):
        raise ConfigError(f"{key} is {list(values)}; it must name each once")
    for value in values:
        within(key, value, low, high)


def check_head(where: str, section: XceptionLSTM | CustomCNNLSTM, dropout: float, *, key: str) -> None:
    """Raises ConfigError for a head, an order, a read-out or a size that no model has; `key` is what the dropout is called."""
    one_of(f"{where}.head", section.head, HEADS)
    one_of(f"{where}.order", section.order, ORDERS)
    one_of(f"{where}.readout", section.readout, READOUTS)
    within(f"{where}.lstm_hidden", section.lstm_hidden, 1, 16_384)
    within(f"{where}.dense", section.dense, 1, 16_384)
    within(f"{where}.{key}", dropout, 0, 1)


@dataclass(frozen=True)
class Data:
    """Which images, and how they become pixels."""

    dataset: str = "chest_xray"  # folder of data/raw: chest_xray or phantoms
    image_size: int = 224  # pixels, square
    # squash (the original), pad or crop; the last two give a squashed copy its original's shape back first (lib.originals)
    aspect: str = "squash"
    # take away what its machine made of an image: sharpness and gray-value curve (lib.harmonise)
    harmonise: bool = False
    val_share: float = 0.1  # share of the training patients
    # random patients, or a validation set that is harder on purpose: one block of the numbering, or matched pairs
    # between whom a thumbnail does not decide, or matched_everything: nor how their images were taken (lib.splits)
    val_kind: str = "random"
    # share of the training patients that are left, drawn at random, on whom thresholds and temperatures are chosen instead of on validation:
    # a validation set that is harder on purpose is no sample of those whom a threshold is for
    calibration_share: float = 0.0
    # with train.balanced, share of an epoch's images drawn so that size and cut of the original tell the classes apart as
    # little as possible (lib.overlap), the rest evenly; 0 for none
    overlap: float = 0.0
    split_seed: int = 42
    phantoms: int = 0  # synthetic images to generate; 0 when the images are real

    def __post_init__(self) -> None:
        one_of("data.dataset", self.dataset, ("chest_xray", "phantoms"))
        one_of("data.aspect", self.aspect, ("squash", "pad", "crop"))
        one_of("data.val_kind", self.val_kind, ("random", "block", "matched", "matched_everything"))
        within("data.image_size", self.image_size, 28, 1024)
        within("data.val_share", self.val_share, 0.01, 0.5)
        within("data.calibration_share", self.calibration_share, 0, 0.4)
        within("data.overlap", self.overlap, 0, 1)
        within("data.split_seed", self.split_seed, 0, LARGEST_SEED)
        within("data.phantoms", self.phantoms, 0, 1_000_000)
        if self.val_kind == "matched_everything" and self.aspect != "squash":
            raise ConfigError(
                f"data.val_kind is matched_everything, whose pairs need squashed images, and data.aspect is {self.aspect}"
            )
        if self.dataset == "phantoms" and not self.phantoms:
            raise ConfigError("data.dataset is phantoms, and data.phantoms is 0; say how many to draw")


@dataclass(frozen=True)
class Train:
    """The training protocol; defaults are the original notebook's, but for the precision."""

    epochs: int = 20
    batch_size: int = 8
    eval_batch_size: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    clip_norm: float = 1.0  # largest gradient norm
    precision: str = "auto"  # auto (bf16-mixed where the hardware has it), bf16-mixed or 32-true
    compile: bool = False  # torch.compile, where there is a compiler
    augment: float = 0.0  # strength, 0 (none) to 1
    stretch: float = 0.0  # of training images: largest log of the factor by which the width alone is varied
    mix_style: float = 0.0  # share of the images whose map after the frozen prefix (or which, without one) takes another's style (lib.augment)
    mix_border: float = 0.0  # share of the images whose map, at the same place, takes the border of another's
    schedule: str = "constant"  # constant or cosine
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    class_weighting: bool = False  # weigh the loss by inverse class frequency
    balanced: bool = False  # an epoch is the rarer class and as many images of the other, drawn anew each time; with data.overlap both are drawn
    ema: float = 0.0  # decay of the moving average of the weights, 0 for none
    # epochs without a better one, which has a higher validation AUC or the same with less validation loss; 0 for never
    early_stopping: int = 0
    checkpoint_minutes: float = 10.0  # besides the one at each epoch's end
    # versions of each training image (varied ones with augment or stretch > 0; without them one, whatever the number) whose output of the frozen prefix is kept on
    # disk and shared by all seeds (1.5 GB each at 224 pixels, 3 GB in float32); 0 computes the prefix in every step
    cache_frozen: int = 0
    zooms: tuple[float, ...] = (1.0,)  # at which an evaluated image is read; logits are averaged (lib.views)
    test_every_epoch: bool = True  # the original's optimistic per-epoch test accuracy

    def __post_init__(self) -> None:
        one_of("train.precision", self.precision, ("auto", "bf16-mixed", "32-true"))
        one_of("train.schedule", self.schedule, ("constant", "cosine"))
        within("train.epochs", self.epochs, 1, 10_000)
        within("train.batch_size", self.batch_size, 1, 4096)
        within("train.eval_batch_size", self.eval_batch_size, 1, 65_536)
        within("train.learning_rate", self.learning_rate, 0, 10)
        within("train.weight_decay", self.weight_decay, 0, 10)
        within("train.clip_norm", self.clip_norm, 1e-6, math.inf)
        within("train.augment", self.augment, 0, 1)
        within("train.stretch", self.stretch, 0, 1)
        within("train.mix_style", self.mix_style, 0, 1)
        within("train.mix_border", self.mix_border, 0, 1)
        within("train.cache_frozen", self.cache_frozen, 0, 100)
        within("train.label_smoothing", self.label_smoothing, 0, 0.5)
        within("train.ema", self.ema, 0, 0.99999)
        within("train.warmup_epochs", self.warmup_epochs, 0, 10_000)
        within("train.early_stopping", self.early_stopping, 0, 10_000)
        within("train.checkpoint_minutes", self.checkpoint_minutes, 0, math.inf)
        if self.class_weighting and self.balanced:
            raise ConfigError(
                "train.class_weighting and train.balanced are two ways to one end; set one of them"
            )
        all_within("train.zooms", self.zooms, 0.5, 2, such_as="[1.0]")


@dataclass(frozen=True)
class XceptionLSTM:
    """Arguments of `models.XceptionLSTM`, and what its training changes in `train`."""

    pretrained: bool = True  # ImageNet weights, from data/weights
    input_size: int = 0  # pixels to which images are resized on their way in (ImageNet: 299); 0 leaves them
    freeze_layers: int = 100  # parameter tensors, from the input on
    use_channel_reduction: bool = False
    reduced_dim: int = 512
    lstm_hidden: int = 512
    dense: int = 128
    dropout: float = 0.3
    head: str = "lstm"
    order: str = "raster"
    readout: str = "last"
    train: dict = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.input_size:
            within("xception_lstm.input_size", self.input_size, 28, 1024)
        within("xception_lstm.freeze_layers", self.freeze_layers, 0, XCEPTION_TENSORS)
        for first, last in XCEPTION_PARTED:
            if first <= self.freeze_layers <= last:
                raise ConfigError(
                    f"xception_lstm.freeze_layers is {self.freeze_layers}, which parts a convolution from its BatchNorm; "
                    f"freeze {first - 1} or {last + 1} tensors"
                )
        within("xception_lstm.reduced_dim", self.reduced_dim, 1, 16_384)
        check_head("xception_lstm", self, self.dropout, key="dropout")


@dataclass(frozen=True)
class CustomCNNLSTM:
    """Arguments of `models.CustomCNNLSTM`, and what its training changes in `train`."""

    dropout_rate: float = 0.27
    lstm_hidden: int = 50
    dense: int = 64
    head: str = "lstm"
    order: str = "raster"
    readout: str = "last"
    train: dict = field(default_factory=lambda: {"learning_rate": 6e-4})

    def __post_init__(self) -> None:
        check_head("custom_cnn_lstm", self, self.dropout_rate, key="dropout_rate")


def variants_of(regime: str, model: str) -> tuple[str, ...]:
    """The variants that an ablation of `model` can ask for."""
    if model == "custom_cnn_lstm":
        return CUSTOM_VARIANTS
    return FROZEN_VARIANTS if regime == "frozen" else VARIANTS


@dataclass(frozen=True)
class Ablation:
    """The grid of notebook 06."""

    regime: str = "frozen"  # frozen features, or finetuned
    model: str = "xception_lstm"  # whose head is varied; the custom model's in the finetuned regime alone
    variants: tuple[str, ...] = ()  # empty: the whole grid
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    # These five are of the frozen regime alone; in the finetuned one heads train by `train` and the model's own settings.
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    hidden: int = 128  # width of the LSTM whose number of weights every head matches
    components: int = 256  # principal components kept of the backbone's channels; 0 keeps every channel
    control_images: int = 2000  # of each control task

    def __post_init__(self) -> None:
        if self.regime not in ("frozen", "finetuned"):
            raise ConfigError(f"ablation.regime is {self.regime!r}; it must be frozen or finetuned")
        one_of("ablation.model", self.model, ("xception_lstm", "custom_cnn_lstm"))
        if self.model == "custom_cnn_lstm" and self.regime == "frozen":
            raise ConfigError(
                "ablation.model is custom_cnn_lstm, which has no pretrained layers to freeze; set ablation.regime to finetuned"
            )
        known = variants_of(self.regime, self.model)
        whose = " of the custom model" if self.model == "custom_cnn_lstm" else ""
        for name in self.variants:
            if name not in known:
                raise ConfigError(
                    f"ablation.variants names {name!r}; the variants of the {self.regime} regime{whose} are {', '.join(known)}"
                )
        all_within("ablation.seeds", self.seeds, 0, LARGEST_SEED, such_as="[0, 1]")
        within("ablation.epochs", self.epochs, 1, 10_000)
        within("ablation.batch_size", self.batch_size, 1, 4096)
        within("ablation.learning_rate", self.learning_rate, 0, 10)
        within("ablation.hidden", self.hidden, 1, 16_384)
        within("ablation.components", self.components, 0, 2048)
        within("ablation.control_images", self.control_images, 40, 1_000_000)


@dataclass(frozen=True)
class Explain:
    """The cases and trust measures of notebook 05."""

    cases_per_outcome: int = 2  # true and false positives and negatives
    images: int = 64  # images scored by the trust measures
    costly_images: int = 24  # of them, those of the measures that ask the model many times
    steps: int = 6  # of a randomisation cascade, and of a deletion or insertion curve
    n_boot: int = 1000
    seed: int = 42

    def __post_init__(self) -> None:
        within("explain.cases_per_outcome", self.cases_per_outcome, 1, 1000)
        within("explain.images", self.images, 2, 1_000_000)
        within("explain.costly_images", self.costly_images, 1, 1_000_000)
        within("explain.steps", self.steps, 3, 1000)
        within("explain.n_boot", self.n_boot, 2, 1_000_000)
        within("explain.seed", self.seed, 0, LARGEST_SEED)
