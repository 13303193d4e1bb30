"""What is this run? Frozen settings (lib.settings), and the profiles that override them."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from lib import yaml_text
from lib.settings import (
    LARGEST_SEED,
    Ablation,
    ConfigError,
    CustomCNNLSTM,
    Data,
    Explain,
    Train,
    XceptionLSTM,
    all_within,
    one_of,
    within,
)

ROOT = Path(__file__).resolve().parents[1]
NOT_SHAPING = {"checkpoint_minutes"}  # settings of `train` that leave the result as it is
ODD_NUMBER = re.compile(r"(?<![\w.+-])(0\d+|\d+(:\d+)+)(?![\w.])")
LARGEST_MAP = 7  # whose positions a Transformer learns
POSITIONS = (
    "which learns the positions of a map of 7 x 7; here it would be {side} x {side} (230 pixels are the most)"
)
PLAIN = "write it without leading zeros and colons"
PROFILES = Path(__file__).with_name("profiles")
MODELS = ("xception_lstm", "custom_cnn_lstm")


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

    def __post_init__(self) -> None:
        all_within("seeds", self.seeds, 0, LARGEST_SEED, such_as="[42]")
        within("n_boot", self.n_boot, 2, 1_000_000)
        if self.data.overlap and not all(self.train_for(model).balanced for model in MODELS):
            raise ConfigError(
                "data.overlap draws as many images of each class; set train.balanced=true with it"
            )

        head, side = self.xception_lstm.head, map_side(self.xception_lstm.input_size or self.data.image_size)
        if head == "transformer" and side > LARGEST_MAP:
            raise ConfigError(f"xception_lstm.head is a transformer, {POSITIONS.format(side=side)}")

    @property
    def synthetic(self) -> bool:
        return self.data.dataset == "phantoms"

    @property
    def raw_dir(self) -> Path:
        return self.root / "data" / "raw" / self.data.dataset

    @property
    def store_dir(self) -> Path:
        looks = f"{self.data.aspect}-harmonised" if self.data.harmonise else self.data.aspect
        return self.root / "data" / "store" / f"{self.data.dataset}-{self.data.image_size}-{looks}"

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

    def repeated(self, model: str) -> Path:
        """Where a repetition of finished runs (FRESH=1) notes the seeds that it has repeated."""
        return self.root / "models" / self.profile / f".{model}.repeated.json"

    def train_for(self, model: str) -> Train:
        """The protocol of one model: `train` with that model's own overrides."""
        one_of("model", model, MODELS)
        return _replace(self.train, getattr(self, model).train, f"{model}.train")

    def flat(self) -> dict[str, Any]:
        """Every setting by its key, such as `train.epochs`; `root` is left out."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if is_dataclass(value):
                found |= {f"{name}.{key}": one for key, one in vars(value).items()}
            elif name != "root":
                found[name] = value
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without `root`: what a fingerprint or a `run.json` records."""
        values = dataclasses.asdict(self)
        del values["root"]
        return values


def map_side(pixels: int) -> int:
    """Tokens along a side of Xception's map (Chollet 2017): two convolutions without padding, the first of which halves it, then four blocks that do."""
    side = (pixels - 1) // 2 - 2
    for _ in range(4):
        side = -(-side // 2)
    return side


def load(profile: str | None = None, *, root: Path = ROOT, **overrides: Any) -> Config:
    """The profile's settings, with overrides such as `**{"train.epochs": 2}` on top.

    profile    a file of lib/profiles without its ending; None takes `default_profile(root)`
    overrides  win over whatever the profile says, see `changed`
    What a profile says of `train` counts for every model, also for one with an entry of its own by default.
    Raises ConfigError for an unknown profile, an unknown key or a value out of range.
    """
    profile = profile or default_profile(root)
    if profile not in profiles():
        raise ConfigError(f"unknown profile {profile!r}; the profiles are {', '.join(profiles())}")
    return changed(_laid_on(Config(profile, root=Path(root)), _settings_of(profile)), overrides)


def profiles() -> list[str]:
    """The names that `load` knows."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def _settings_of(profile: str) -> dict[str, Any]:
    text = (PROFILES / f"{profile}.yaml").read_text(encoding="utf-8")
    if odd := ODD_NUMBER.search(re.sub("#.*", "", text)):
        raise ConfigError(f"lib/profiles/{profile}.yaml says {odd[0]}, which is no plain number; {PLAIN}")
    try:
        settings = yaml_text.read(text) or {}
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"lib/profiles/{profile}.yaml cannot be read ({_reason(error)})") from None
    if not isinstance(settings, dict):
        raise ConfigError(
            f"lib/profiles/{profile}.yaml holds no settings; write them as `train: {{epochs: 2}}`"
        )
    return settings


def changed(config: Config, overrides: Mapping[str, Any]) -> Config:
    """The config with overrides such as {"train.epochs": 2} on top.

    What they say of `train` counts for every model, also for one with an entry of its own, from its profile or by default;
    only an entry such as `custom_cnn_lstm.train.epochs` among the overrides themselves counts for more.
    Raises ConfigError for an unknown key or a value out of range.
    """
    wanted: dict[str, Any] = {}
    for key, value in overrides.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        wanted = _merged(wanted, value)
    config = _laid_on(config, wanted)
    for model in MODELS:
        config.train_for(model)  # an unknown training key is refused here, not an hour later
    return config


def _laid_on(config: Config, wanted: dict[str, Any]) -> Config:
    """The config with nested settings on top: those of `train` instead of what each model's own entry said of the same until now."""
    common = wanted.get("train")
    for model in MODELS if isinstance(common, dict) else ():
        section = getattr(config, model)
        own = {name: value for name, value in section.train.items() if name not in common}
        config = dataclasses.replace(config, **{model: dataclasses.replace(section, train=own)})
    return _replace(config, wanted, "")


def read_overrides(words: Iterable[str]) -> dict[str, Any]:
    """["train.epochs=2", "seeds=[1,2]"] -> {"train.epochs": 2, "seeds": [1, 2]}; values are YAML.

    Raises ConfigError for a word that is no KEY=VALUE, a value that is no YAML, and for `profile` and `root`.
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key in found:
            raise ConfigError(f"{key} is given twice; say once what it is to be")
        if not (key and equals):
            raise ConfigError(
                f'{word!r} is no KEY=VALUE; write settings as train.epochs=2 (with make: SET="train.epochs=2 seeds=[1,2]")'
            )
        if key in ("profile", "root"):
            raise ConfigError(
                f"{key} is no setting; a profile is chosen by PROFILE=<name> or --profile, a root by --root"
            )
        found[key] = _yaml(key, value)
    return found


def default_profile(root: Path = ROOT) -> str:
    """`full` once `make data` has prepared real radiographs, else `demo`."""
    return "full" if (Path(root) / "data" / "raw" / "chest_xray").is_dir() else "demo"


def fingerprint(value: Any) -> str:
    """Sixteen hexadecimal digits that change when `value` (dataclass or plain data) does."""
    plain = dataclasses.asdict(value) if is_dataclass(value) else value
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _yaml(key: str, text: str) -> Any:
    odd = ODD_NUMBER.search(text)
    if odd:  # YAML 1.1 reads them in base 8 and 60
        raise ConfigError(f"{key} is {text!r}, in which {odd[0]} is no plain number; {PLAIN}")
    try:
        return yaml_text.read(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-13-45
        raise ConfigError(
            f"{key} is {text!r}, which cannot be read ({_reason(error)}); a value with spaces stands in double quotes"
        ) from None


def _reason(error: Exception) -> str:
    """Of what YAML cannot read: the problem without the lines that quote it."""
    return getattr(error, "problem", None) or str(error).splitlines()[0]


def _merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Two nested mappings as one; where both say something, the other's word counts."""
    both = [key for key in one if isinstance(one[key], dict) and isinstance(other.get(key), dict)]
    return one | other | {key: _merged(one[key], other[key]) for key in both}


def _replace(section: Any, values: dict[str, Any], where: str) -> Any:
    known = {f.name: f for f in fields(section) if f.name not in ("profile", "root")}
    changes = {}
    for name, value in values.items():
        key = f"{where}.{name}" if where else name
        if name not in known:
            near = difflib.get_close_matches(str(name), known, 1)
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
        like = current[0] if current else ""  # where nothing is named by default, names are meant
        items = value if isinstance(value, (list, tuple)) else (value,)
        return tuple(_converted(like, item, key) for item in items)
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
