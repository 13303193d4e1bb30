"""What is this run? Frozen settings, and the profiles that override them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROFILES = Path(__file__).with_name("profiles")
MODELS = ("xception_lstm", "custom_cnn_lstm")


class ConfigError(ValueError):
    """A setting that does not exist or has no meaning; the message names the valid ones."""


def _one_of(key: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise ConfigError(f"{key} is {value!r}; it must be one of {', '.join(valid)}")


def _within(key: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ConfigError(f"{key} is {value!r}; it must lie between {low} and {high}")


@dataclass(frozen=True)
class Data:
    """Which images, and how they become pixels."""

    dataset: str = "chest_xray"  # folder of data/raw: chest_xray or phantoms
    image_size: int = 224  # pixels, square
    aspect: str = "squash"  # squash (the original), pad or crop
    val_share: float = 0.1  # share of the training patients
    # random patients, or a validation set that is harder on purpose: one block of the numbering, or matched pairs
    # between whom a thumbnail does not decide (lib.splits)
    val_kind: str = "random"
    split_seed: int = 42
    phantoms: int = 0  # synthetic images to generate; 0 when the images are real

    def __post_init__(self) -> None:
        _one_of("data.aspect", self.aspect, ("squash", "pad", "crop"))
        _one_of("data.val_kind", self.val_kind, ("random", "block", "matched"))
        _within("data.image_size", self.image_size, 28, 1024)
        _within("data.val_share", self.val_share, 0.01, 0.5)


@dataclass(frozen=True)
class Train:
    """The training protocol; defaults are the original study's."""

    epochs: int = 20
    batch_size: int = 8
    eval_batch_size: int = 64
    learning_rate: float = 1e-4
    weight_decay: float = 1e-5
    clip_norm: float = 1.0  # largest gradient norm
    precision: str = "auto"  # auto (bf16-mixed where the hardware has it), bf16-mixed or 32-true
    compile: bool = False  # torch.compile, where it pays
    augment: float = 0.0  # strength, 0 (none) to 1
    mix_style: float = (
        0.0  # share of the images whose map, after the frozen prefix, takes on another's style (lib.augment)
    )
    schedule: str = "constant"  # constant or cosine
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    class_weighting: bool = False  # weigh the loss by inverse class frequency
    balanced: bool = (
        False  # an epoch is the rarer class and as many images of the other, drawn anew each time
    )
    ema: float = 0.0  # decay of the moving average of the weights, 0 for none
    early_stopping: int = 0  # epochs without a better validation AUC, 0 for never
    checkpoint_minutes: float = 10.0  # besides the one at each epoch's end
    # versions of each training image (augmented ones with augment > 0) whose output of the frozen prefix is kept on
    # disk and shared by all seeds (1.5 GB each at 224 pixels); 0 computes the prefix in every step
    cache_frozen: int = 0
    zooms: tuple[float, ...] = (1.0,)  # at which an evaluated image is read; logits are averaged (lib.views)
    test_every_epoch: bool = True  # the original's optimistic per-epoch test accuracy

    def __post_init__(self) -> None:
        _one_of("train.precision", self.precision, ("auto", "bf16-mixed", "32-true"))
        _one_of("train.schedule", self.schedule, ("constant", "cosine"))
        _within("train.epochs", self.epochs, 1, 10_000)
        _within("train.batch_size", self.batch_size, 1, 4096)
        _within("train.learning_rate", self.learning_rate, 0, 10)
        _within("train.augment", self.augment, 0, 1)
        _within("train.mix_style", self.mix_style, 0, 1)
        _within("train.cache_frozen", self.cache_frozen, 0, 100)
        _within("train.label_smoothing", self.label_smoothing, 0, 0.5)
        _within("train.ema", self.ema, 0, 0.99999)
        if self.class_weighting and self.balanced:
            raise ConfigError(
                "train.class_weighting and train.balanced are two ways to one end; set one of them"
            )
        if not self.zooms:
            raise ConfigError("train.zooms is empty; it must name at least one, such as [1.0]")
        for zoom in self.zooms:
            _within("train.zooms", zoom, 0.5, 2)


@dataclass(frozen=True)
class XceptionLSTM:
    """Arguments of `models.XceptionLSTM`, and what its training changes in `train`."""

    pretrained: bool = True  # ImageNet weights, from data/weights
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


@dataclass(frozen=True)
class Ablation:
    """The grid of notebook 06."""

    regime: str = "frozen"  # frozen features, or finetuned
    variants: tuple[str, ...] = ()  # empty: the whole grid
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = 1e-3
    hidden: int = 128  # width of the LSTM whose number of weights every frozen-regime head matches
    components: int = 256  # principal components kept of the backbone's channels; 0 keeps every channel
    control_images: int = 2000  # size of the relation control task


@dataclass(frozen=True)
class Explain:
    """The cases and trust measures of notebook 05."""

    cases_per_outcome: int = 2  # true and false positives and negatives
    images: int = 64  # images scored by the trust measures
    costly_images: int = 24  # of them, those of the measures that ask the model many times
    steps: int = 6  # of a randomisation cascade, and of a deletion or insertion curve
    n_boot: int = 1000
    seed: int = 42


@dataclass(frozen=True)
class Config:
    """One study: a profile, its data, its protocol, its models."""

    profile: str
    seeds: tuple[int, ...] = (42,)
    n_boot: int = 2000  # bootstrap resamples of the reports
    data: Data = Data()
    train: Train = Train()
    xception_lstm: XceptionLSTM = XceptionLSTM()
    custom_cnn_lstm: CustomCNNLSTM = CustomCNNLSTM()
    ablation: Ablation = Ablation()
    explain: Explain = Explain()
    root: Path = ROOT

    @property
    def synthetic(self) -> bool:
        return self.data.dataset == "phantoms"

    @property
    def raw_dir(self) -> Path:
        return self.root / "data" / "raw" / self.data.dataset

    @property
    def store_dir(self) -> Path:
        return self.root / "data" / "store" / f"{self.data.dataset}-{self.data.image_size}-{self.data.aspect}"

    @property
    def weights_file(self) -> Path:
        """ImageNet weights of Xception, put there by `make data`."""
        return self.root / "data" / "weights" / "legacy_xception.safetensors"

    @property
    def report_dir(self) -> Path:
        return self.root / "reports" / self.profile

    @property
    def results_dir(self) -> Path:
        """Small tables and JSON that git keeps; never an image made from a radiograph."""
        return self.root / "reports" / "results" / self.profile

    def run_dir(self, model: str, seed: int) -> Path:
        return self.root / "models" / self.profile / f"{model}-seed{seed}"

    def train_for(self, model: str) -> Train:
        """The protocol of one model: `train` with that model's own overrides."""
        _one_of("model", model, MODELS)
        return _replace(self.train, getattr(self, model).train, f"{model}.train")

    def table(self):
        """Every setting as a DataFrame, one row a key: `key`, `value`."""
        import pandas as pd

        return pd.DataFrame(_flat(self), columns=["key", "value"])

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without `root`: what a fingerprint or a `run.json` records."""
        values = dataclasses.asdict(self)
        del values["root"]
        return values


def load(profile: str | None = None, *, root: Path = ROOT, **overrides: Any) -> Config:
    """The profile's settings, with overrides such as `**{"train.epochs": 2}` on top.

    profile  a file of lib/profiles without its ending; None takes `default_profile(root)`
    Raises ConfigError for an unknown profile, an unknown key or a value out of range.
    """
    profile = profile or default_profile(root)
    known = sorted(path.stem for path in PROFILES.glob("*.yaml"))
    if profile not in known:
        raise ConfigError(f"unknown profile {profile!r}; the profiles are {', '.join(known)}")
    settings = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text(encoding="utf-8")) or {}
    config = _replace(Config(profile, root=Path(root)), settings, "")
    for key, value in overrides.items():
        *section, name = key.split(".")
        nested: dict[str, Any] = {name: value}
        for part in reversed(section):
            nested = {part: nested}
        config = _replace(config, nested, "")
    for model in MODELS:
        config.train_for(model)  # an unknown training key is refused here, not an hour later
    return config


def default_profile(root: Path = ROOT) -> str:
    """`full` once `make data` has prepared real radiographs, else `demo`."""
    return "full" if (Path(root) / "data" / "raw" / "chest_xray").is_dir() else "demo"


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that change when `value` (dataclass or plain data) does."""
    plain = dataclasses.asdict(value) if is_dataclass(value) else value
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _replace(section: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(section) if f.name not in ("profile", "root")}
    changes = {}
    for name, value in values.items():
        key = f"{where}.{name}" if where else name
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            place = f"of {where!r} " if where else ""
            raise ConfigError(f"unknown key {key!r}{hint}; the keys {place}are {', '.join(sorted(known))}")
        changes[name] = _converted(getattr(section, name), value, key)
    return dataclasses.replace(section, **changes)


def _converted(current: Any, value: Any, key: str) -> Any:
    if is_dataclass(current):
        if not isinstance(value, dict):
            raise ConfigError(f"{key} is a section and takes a mapping, not {value!r}")
        return _replace(current, value, key)
    if isinstance(current, dict) and isinstance(value, dict):
        return {**current, **value}
    if isinstance(current, tuple):
        return tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if isinstance(current, bool) and isinstance(value, bool):
        return value
    if isinstance(current, float) and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(current, float) and isinstance(value, str):
        with contextlib.suppress(ValueError):
            return float(value)  # YAML takes 5e-5 for text, since it has no point
    if type(current) is type(value):
        return value
    raise ConfigError(f"{key} takes {type(current).__name__}, not {value!r}")


def _flat(section: Any, where: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for f in fields(section):
        value = getattr(section, f.name)
        if is_dataclass(value):
            rows += _flat(value, f"{where}{f.name}.")
        elif f.name != "root":
            rows.append((where + f.name, value))
    return rows
