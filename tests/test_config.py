import dataclasses

import pytest

from lib import config
from lib.config import ConfigError


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
    assert not {"profile", "train.epochs"} - set(cfg.table()["key"])


def test_overrides_reach_the_nested_setting_and_nothing_else():
    cfg = config.load("quick", **{"train.epochs": 7, "seeds": [1, 2]})
    assert (cfg.train.epochs, cfg.seeds) == (7, (1, 2))
    assert dataclasses.replace(cfg, train=config.load("quick").train, seeds=(42,)) == config.load("quick")


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
        ({"train.stretch": 2.0}, "train.stretch is 2.0.*between 0 and 1"),
        ({"xception_lstm.input_size": 7}, "xception_lstm.input_size is 7.*between 28 and 1024"),
        ({"xception_lstm.train": {"epoch": 1}}, "xception_lstm.train.epoch"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(overrides, message):
    with pytest.raises(ConfigError, match=message):
        config.load("demo", **overrides)


def test_an_unknown_profile_names_the_known_ones():
    with pytest.raises(ConfigError, match="'fast'.*calibrated, demo, full, matched, quick"):
        config.load("fast")


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
