import contextlib
import dataclasses
import functools
import re

import pytest
import torch

from lib import config, inference, models, sequence, settings
from lib.ablation import variants
from lib.config import ConfigError
from lib.publish.results import PROFILES
from lib.study.story import HEADER_TIME, SECONDS


def test_defaults_are_the_original_protocol():
    cfg = config.load("full")
    assert (cfg.train.batch_size, cfg.train.eval_batch_size, cfg.train.epochs, cfg.data.image_size) == (
        8,
        64,
        20,
        224,
    )
    assert (cfg.xception_lstm.lstm_hidden, cfg.xception_lstm.dense, cfg.xception_lstm.dropout) == (
        512,
        128,
        0.3,
    )
    assert cfg.train_for("xception_lstm").learning_rate == 1e-4
    assert cfg.train_for("custom_cnn_lstm").learning_rate == 6e-4
    assert (cfg.train.weight_decay, cfg.train.clip_norm, cfg.seeds[0]) == (1e-5, 1.0, 42)


@pytest.mark.parametrize("profile", sorted(path.stem for path in config.PROFILES.glob("*.yaml")))
def test_every_profile_loads_and_says_what_it_is(profile):
    cfg = config.load(profile)
    assert cfg.profile == profile
    assert (config.PROFILES / f"{profile}.yaml").read_text().startswith("# ")
    assert not {"profile", "train.epochs"} - set(cfg.flat())


def test_overrides_reach_the_nested_setting_and_nothing_else():
    cfg = config.load("quick", **{"train.epochs": 7, "seeds": [1, 2]})
    assert (cfg.train.epochs, cfg.seeds) == (7, (1, 2))
    assert dataclasses.replace(cfg, train=config.load("quick").train, seeds=(42,)) == config.load("quick")


@pytest.mark.parametrize("model", config.MODELS)
@pytest.mark.parametrize(
    "overrides",
    [
        {"train.epochs": 3, "train.learning_rate": 1e-6},
        {"train": {"epochs": 3, "learning_rate": 1e-6}},
        config.read_overrides(["train.epochs=3", "train.learning_rate=1e-6"]),
    ],
)
def test_an_override_wins_over_what_profile_and_default_say_of_one_model(model, overrides):
    """In demo the custom model has 6 epochs and both have rates of their own; in full its rate is a default."""
    for profile in ("demo", "full"):
        train = config.load(profile, **overrides).train_for(model)
        assert (train.epochs, train.learning_rate) == (3, 1e-6)


@pytest.mark.parametrize(
    "own",
    [
        {"custom_cnn_lstm.train.epochs": 5},
        {"custom_cnn_lstm.train": {"epochs": 5}},
        {"custom_cnn_lstm": {"train": {"epochs": 5}}},
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_an_override_of_one_model_wins_over_that_of_all_in_any_order(own, first):
    common = {"train.epochs": 3, "train.learning_rate": 1e-6}
    cfg = config.load("demo", **(own | common if first else common | own))
    assert cfg.train_for("custom_cnn_lstm").epochs == 5
    assert cfg.train_for("xception_lstm").epochs == 3
    assert cfg.train_for("custom_cnn_lstm").learning_rate == 1e-6


def test_an_override_leaves_the_other_entries_of_a_model_alone():
    before, after = config.load("demo"), config.load("demo", **{"train.epochs": 3})
    assert after.custom_cnn_lstm.train == {"learning_rate": 1e-3}
    assert after.xception_lstm == before.xception_lstm
    assert config.load("demo", **{"data.val_share": 0.2}).custom_cnn_lstm == before.custom_cnn_lstm


@pytest.mark.parametrize("words", [["train.epochs=010"], ["seeds=[42,043]"], ["n_boot=1:30"]])
def test_numbers_that_yaml_reads_in_another_base_are_refused(words):
    with pytest.raises(ConfigError, match="is no plain number; write it without"):
        config.read_overrides(words)
    assert (
        config.read_overrides(["train.learning_rate=1e-05", "data.val_share=0.05"])["data.val_share"] == 0.05
    )


@pytest.mark.parametrize("key", ["seeds", "ablation.seeds", "train.zooms"])
def test_what_is_named_twice_is_refused(key):
    """Two rows of one run would pass for two runs, and make an interval too narrow."""
    with pytest.raises(ConfigError, match=f"{key} is .*; it must name each once"):
        config.load("demo", **{key: [1, 1]})


def test_a_setting_given_twice_is_refused():
    with pytest.raises(ConfigError, match="train.epochs is given twice"):
        config.read_overrides(["train.epochs=2", "train.epochs=3"])


def test_overrides_hold_together_in_any_order():
    """Each of the two would be refused if it came alone."""
    pair = {"train.class_weighting": True, "train.balanced": False}
    for overrides in (pair, dict(reversed(pair.items()))):
        assert config.load("balanced", **overrides).train.class_weighting


def test_overrides_come_on_top_of_a_config_that_was_overridden_before():
    once = config.load("demo", **{"custom_cnn_lstm.train": {"epochs": 2}, "data.image_size": 28})
    twice = config.changed(once, {"train.ema": 0.5})
    assert (twice.train_for("custom_cnn_lstm").epochs, twice.data.image_size, twice.train.ema) == (2, 28, 0.5)
    assert config.changed(once, {}) == once


def test_numbers_of_a_list_become_those_of_its_default():
    assert config.load("demo", **{"train.zooms": [1, "1.1"]}).train.zooms == (1.0, 1.1)
    assert config.load("demo", seeds=7).seeds == (7,)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs", "'epochs' is no KEY=VALUE; write settings as train.epochs=2"),
        ("=2", "'=2' is no KEY=VALUE"),
        ("train.zooms=[1", r"train.zooms is '\[1', which cannot be read \(expected ',' or '\]'"),
        ("data.dataset=2020-13-45", "data.dataset is '2020-13-45', which cannot be read"),
        ("train={epochs: 2, epochs: 3}", r"train is .*cannot be read \(the key epochs is there twice\)"),
        ("profile=x", "profile is no setting; a profile is chosen by PROFILE=<name>"),
        ("root=/tmp", "root is no setting.*--root"),
    ],
)
def test_a_word_that_is_no_override_is_refused_in_one_sentence(word, message):
    with pytest.raises(ConfigError, match=message) as refused:
        config.read_overrides(["n_boot=3", word])
    assert len(str(refused.value).splitlines()) == 1


def test_valid_names_are_those_of_the_modules_that_define_them():
    assert settings.HEADS == sequence.HEADS
    assert settings.ORDERS == sequence.ORDERS
    assert settings.READOUTS == sequence.READOUTS
    assert tuple(variants.all_variants("finetuned")) == settings.VARIANTS
    assert tuple(variants.all_variants("frozen")) == settings.FROZEN_VARIANTS
    assert tuple(variants.all_variants("finetuned", "custom_cnn_lstm")) == settings.CUSTOM_VARIANTS
    assert len(list(models.XceptionBackbone(0).body.parameters())) == settings.XCEPTION_TENSORS


def test_any_number_of_tensors_can_be_frozen_whose_trained_rest_can_be_folded():
    with torch.device("meta"):
        backbone = models.XceptionBackbone(0)

    @functools.cache
    def folds(frozen_stages: int) -> bool:
        try:
            inference.folded(torch.nn.Sequential(*backbone.stages()[frozen_stages:]))
        except ValueError:
            return False
        return True

    for count in range(settings.XCEPTION_TENSORS + 1):
        for place, parameter in enumerate(backbone.body.parameters()):
            parameter.requires_grad = place >= count
        valid = folds(backbone._count_frozen_stages())
        with contextlib.nullcontext() if valid else pytest.raises(ConfigError, match="parts a convolution"):
            settings.XceptionLSTM(freeze_layers=count)


def test_a_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.load("demo").profile = "other"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.epoch": 3}, "did you mean 'epochs'.*batch_size"),
        ({"learning": 3}, "unknown key 'learning'.*xception_lstm"),
        ({"train.epochs": 0}, "train.epochs is 0.*between 1 and"),
        ({"train.epochs": "many"}, "train.epochs takes int"),
        ({"train": 3}, "train is a section"),
        ({"train.class_weighting": True, "train.balanced": True}, "two ways to one end"),
        ({"data.aspect": "stretch"}, "'stretch'.*squash, pad, crop"),
        ({"data.val_kind": "rows"}, "data.val_kind is 'rows'.*random, block, matched, matched_everything"),
        ({"train.stretch": 2.0}, "train.stretch is 2.0.*between 0 and 1"),
        ({"xception_lstm.input_size": 7}, "xception_lstm.input_size is 7.*between 28 and 1024"),
        ({"xception_lstm.train": {"epoch": 1}}, "xception_lstm.train.epoch"),
        ({"xception_lstm.train": {"epochs": 0}}, "train.epochs is 0.*between 1 and"),
        ({"train": {1: 2}}, "unknown key 'train.1'"),
        ({"data.dataset": "chest_xrays"}, "data.dataset is 'chest_xrays'.*chest_xray, phantoms"),
        ({"data.phantoms": 0}, "data.phantoms is 0; say how many"),
        ({"data.phantoms": -1}, "data.phantoms is -1.*between 0 and"),
        ({"data.split_seed": -1}, "data.split_seed is -1.*between 0 and"),
        ({"data.image_size": 27}, "data.image_size is 27.*between 28 and 1024"),
        ({"data.val_share": 0.6}, "data.val_share is 0.6.*between 0.01 and 0.5"),
        ({"data.calibration_share": 0.5}, "data.calibration_share is 0.5.*between 0 and 0.4"),
        ({"data.overlap": 1.1}, "data.overlap is 1.1.*between 0 and 1"),
        ({"train.precision": "bf16"}, "train.precision is 'bf16'.*auto, bf16-mixed, 32-true"),
        ({"train.schedule": "cosin"}, "train.schedule is 'cosin'.*constant, cosine"),
        ({"train.batch_size": 0}, "train.batch_size is 0.*between 1 and"),
        ({"train.learning_rate": -0.1}, "train.learning_rate is -0.1.*between 0 and 10"),
        ({"train.augment": 1.5}, "train.augment is 1.5.*between 0 and 1"),
        ({"train.mix_style": 1.5}, "train.mix_style is 1.5.*between 0 and 1"),
        ({"train.mix_border": -0.5}, "train.mix_border is -0.5.*between 0 and 1"),
        ({"train.cache_frozen": -1}, "train.cache_frozen is -1.*between 0 and 100"),
        ({"train.label_smoothing": 0.6}, "train.label_smoothing is 0.6.*between 0 and 0.5"),
        ({"train.ema": 1.0}, "train.ema is 1.0.*between 0 and 0.99999"),
        ({"train.eval_batch_size": 0}, "train.eval_batch_size is 0.*between 1 and"),
        ({"train.weight_decay": -1.0}, "train.weight_decay is -1.0.*between 0 and 10"),
        ({"train.clip_norm": -1.0}, "train.clip_norm is -1.0.*between 1e-06 and inf"),
        ({"train.clip_norm": 0.0}, "train.clip_norm is 0.0"),
        ({"train.warmup_epochs": -0.5}, "train.warmup_epochs is -0.5.*between 0 and"),
        ({"train.early_stopping": -1}, "train.early_stopping is -1.*between 0 and"),
        ({"train.checkpoint_minutes": -1.0}, "train.checkpoint_minutes is -1.0.*between 0 and inf"),
        ({"train.zooms": ["a"]}, "train.zooms takes float, not 'a'"),
        ({"train.zooms": []}, r"train.zooms is empty; it must name at least one, such as \[1.0\]"),
        ({"seeds": "abc"}, "seeds takes int, not 'abc'"),
        ({"seeds": 1.5}, "seeds takes int, not 1.5"),
        ({"seeds": [1, True]}, "seeds takes int, not True"),
        ({"seeds": []}, r"seeds is empty; it must name at least one, such as \[42\]"),
        ({"seeds": [-1]}, "seeds is -1.*between 0 and"),
        ({"n_boot": 1}, "n_boot is 1.*between 2 and"),
        (
            {"xception_lstm.head": "gru2"},
            "xception_lstm.head is 'gru2'.*lstm, bilstm, gru, transformer, mean",
        ),
        ({"xception_lstm.order": "rastr"}, "xception_lstm.order is 'rastr'.*raster, reverse"),
        ({"xception_lstm.readout": "lst"}, "xception_lstm.readout is 'lst'.*last, mean, max"),
        ({"xception_lstm.dropout": 1.5}, "xception_lstm.dropout is 1.5.*between 0 and 1"),
        ({"xception_lstm.lstm_hidden": 0}, "xception_lstm.lstm_hidden is 0.*between 1 and"),
        ({"xception_lstm.freeze_layers": 155}, "xception_lstm.freeze_layers is 155.*between 0 and 154"),
        (
            {"xception_lstm.freeze_layers": 1},
            "freeze_layers is 1, which parts a convolution from its BatchNorm; freeze 0 or 3 tensors",
        ),
        ({"xception_lstm.freeze_layers": 149}, "freeze_layers is 149, which parts .*; freeze 147 or 150"),
        ({"xception_lstm.reduced_dim": 0}, "xception_lstm.reduced_dim is 0.*between 1 and"),
        ({"custom_cnn_lstm.head": "gru2"}, "custom_cnn_lstm.head is 'gru2'"),
        ({"custom_cnn_lstm.dropout_rate": -0.1}, "custom_cnn_lstm.dropout_rate is -0.1.*between 0 and 1"),
        ({"custom_cnn_lstm.dense": 0}, "custom_cnn_lstm.dense is 0.*between 1 and"),
        ({"ablation.regime": "frosen"}, "ablation.regime is 'frosen'; it must be frozen or finetuned"),
        (
            {"ablation.variants": ["lstm"]},
            "ablation.variants names 'lstm'.*frozen regime are mean-mlp, token-mean",
        ),
        (
            {"ablation.regime": "finetuned", "ablation.variants": ["mean-mlp-all"]},
            "ablation.variants names 'mean-mlp-all'; the variants of the finetuned regime",
        ),
        (
            {"ablation.model": "resnet"},
            "ablation.model is 'resnet'; it must be one of xception_lstm, custom_cnn_lstm",
        ),
        (
            {"ablation.model": "custom_cnn_lstm"},
            "ablation.model is custom_cnn_lstm, which has no pretrained layers to freeze; set ablation.regime to finetuned",
        ),
        (
            {
                "ablation.regime": "finetuned",
                "ablation.model": "custom_cnn_lstm",
                "ablation.variants": ["mean-mlp-learned"],
            },
            "ablation.variants names 'mean-mlp-learned'; the variants of the finetuned regime of the custom model are mean-mlp,.*, lstm-raster-max$",
        ),
        ({"ablation.variants": [3]}, "ablation.variants takes str, not 3"),
        ({"ablation.seeds": []}, "ablation.seeds is empty"),
        ({"ablation.epochs": 0}, "ablation.epochs is 0.*between 1 and"),
        ({"ablation.batch_size": 0}, "ablation.batch_size is 0.*between 1 and"),
        ({"ablation.learning_rate": -1.0}, "ablation.learning_rate is -1.0.*between 0 and"),
        ({"ablation.hidden": 0}, "ablation.hidden is 0.*between 1 and"),
        ({"ablation.components": -1}, "ablation.components is -1.*between 0 and 2048"),
        ({"ablation.control_images": 20}, "ablation.control_images is 20.*between 40 and"),
        ({"explain.cases_per_outcome": 0}, "explain.cases_per_outcome is 0.*between 1 and"),
        ({"explain.images": 0}, "explain.images is 0.*between 2 and"),
        ({"explain.costly_images": 0}, "explain.costly_images is 0.*between 1 and"),
        ({"explain.steps": 2}, "explain.steps is 2.*between 3 and"),
        ({"explain.n_boot": 1}, "explain.n_boot is 1.*between 2 and"),
        ({"explain.seed": -1}, "explain.seed is -1.*between 0 and"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        config.load("demo", **overrides)


def test_a_transformer_is_refused_where_it_would_not_know_the_positions():
    at = {"xception_lstm.head": "transformer", "data.image_size": 224}
    assert config.load("demo", **at).xception_lstm.head == "transformer"
    for key in ("data.image_size", "xception_lstm.input_size"):
        with pytest.raises(ConfigError, match="head is a transformer, .* here it would be 8 x 8"):
            config.load("demo", **at | {key: 256})


@pytest.mark.parametrize("pixels", [28, 80, 224, 230, 231, 299])
def test_the_side_of_the_map_is_that_of_xception(pixels):
    with torch.device("meta"):
        backbone = models.XceptionBackbone(0).eval()
        assert backbone(torch.empty(1, 3, pixels, pixels)).shape[2] == config.map_side(pixels)


def test_the_readme_says_how_long_every_published_profile_takes():
    table = (config.ROOT / "README.md").read_text(encoding="utf-8")
    said = {
        name: float(value) * SECONDS[unit]
        for name, value, unit in re.findall(r"^\| `(\w+)` \| ([\d.]+) (h|min) \|", table, re.M)
    }
    assert set(said) == set(PROFILES)
    for name, seconds in said.items():
        header = (config.PROFILES / f"{name}.yaml").read_text(encoding="utf-8")
        measured = sum(float(value) * SECONDS[unit] for _, value, unit in HEADER_TIME.findall(header))
        assert seconds == pytest.approx(measured, rel=0.05), name


def test_an_unknown_profile_names_the_known_ones():
    known = sorted(path.stem for path in config.PROFILES.glob("*.yaml"))  # also whoever's own
    assert {"demo", "quick", "full"} <= set(known)
    with pytest.raises(ConfigError, match=f"'fast'.*{', '.join(known)}"):
        config.load("fast")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: {epochs: 2", "mine.yaml cannot be read"),
        ("- train", "mine.yaml holds no settings"),
        ("train: {epochs: 010}  # not 8", "mine.yaml says 010, which is no plain number; write it without"),
        (
            "train: {epochs: 2}\ntrain: {batch_size: 4}",
            r"^lib/profiles/mine.yaml cannot be read \(the key train is there twice\)$",
        ),
        ("train:\n  epochs: 2\n  epochs: 3", r"mine.yaml cannot be read \(the key epochs is there twice\)"),
    ],
)
def test_a_profile_that_cannot_be_read_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(config, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load("mine")


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("train: {learning_rate: 3.0e-4}", (3e-4, 3e-4)),
        (
            "train: {learning_rate: 3.0e-4}\ncustom_cnn_lstm: {train: {learning_rate: 1.0e-3}}",
            (3e-4, 1e-3),
        ),
        ("xception_lstm: {train: {learning_rate: 1.0e-3}}\ntrain: {learning_rate: 3.0e-4}", (1e-3, 3e-4)),
        ("train: {epochs: 2}", (1e-4, 6e-4)),
    ],
)
def test_what_a_profile_says_of_training_reaches_a_model_with_an_entry_by_default(
    tmp_path, monkeypatch, text, rates
):
    """By default the custom model has a rate of its own; what the profile says of one model counts for more."""
    monkeypatch.setattr(config, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    cfg = config.load("mine")
    assert tuple(cfg.train_for(model).learning_rate for model in config.MODELS) == rates


def test_a_comment_of_a_profile_may_hold_any_number(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "PROFILES", tmp_path)
    (tmp_path / "mine.yaml").write_text("# Takes: 01 10 s, at 12:30\ntrain: {epochs: 2}\n")
    assert config.load("mine").train.epochs == 2


def test_the_real_study_is_the_default_once_its_images_are_there(tmp_path):
    assert config.default_profile(tmp_path) == "demo"
    (tmp_path / "data" / "raw" / "chest_xray").mkdir(parents=True)
    assert config.default_profile(tmp_path) == "full"


def test_a_fingerprint_changes_with_any_setting_and_not_with_the_place(tmp_path):
    cfg = config.load("demo")
    assert config.fingerprint(cfg.as_dict()) == config.fingerprint(
        config.load("demo", root=tmp_path).as_dict()
    )
    assert config.fingerprint(cfg.as_dict()) != config.fingerprint(config.load("demo", n_boot=7).as_dict())
