"""Each variant is trained by the study's own loop, in a folder of its own, at its matched width."""

import dataclasses

import pytest

from lib import ablation, config, models, settings
from lib.ablation import analyse, finetuned, regimes, variants
from lib.ablation.regimes import test_rows as scored_rows


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    settings = {
        "data.image_size": 28, "data.phantoms": 80, "train.epochs": 1, "train.precision": "32-true",
        "train.batch_size": 16, "train.test_every_epoch": False, "custom_cnn_lstm.train": {"epochs": 1},
        "ablation.regime": "finetuned", "ablation.seeds": (0, 1), "ablation.variants": ("mean-mlp", "lstm-shuffle"),
    }  # fmt: skip
    return config.load("demo", root=tmp_path_factory.mktemp("finetuned"), **settings)


@pytest.mark.parametrize("name", list(variants.all_variants("finetuned")))
def test_every_variant_becomes_a_matched_xception(cfg, name):
    base = dataclasses.replace(cfg, xception_lstm=config.XceptionLSTM(pretrained=False))
    variant = variants.all_variants("finetuned")[name]
    own = finetuned.variant_config(base, variant).xception_lstm
    assert (own.head, own.order, own.readout) == (variant.head, variant.order, variant.readout)
    assert own.use_channel_reduction == (variant.channels == "learned")
    channels = own.reduced_dim if own.use_channel_reduction else 2048
    size = variants.Size(channels, 512, 128, 0.3)
    target = variants.parameters("lstm", size, 512)
    assert variants.parameters(own.head, size, own.lstm_hidden) == pytest.approx(target, rel=0.02)


def test_the_studys_own_model_is_not_trained_a_second_time(cfg):
    own = variants.all_variants("finetuned")["lstm-raster"]
    as_studied = dataclasses.replace(
        cfg, xception_lstm=config.XceptionLSTM(), custom_cnn_lstm=config.CustomCNNLSTM()
    )
    for model in config.MODELS:
        assert finetuned.variant_config(as_studied, own, model) == as_studied
    assert finetuned.variant_config(cfg, own).run_dir("xception_lstm", 0) != cfg.run_dir(
        "xception_lstm", 0
    )  # mean read-out


def test_variants_are_trained_found_again_and_compared(cfg, monkeypatch):
    chosen = variants.select(cfg)
    runs, tables = finetuned.run(cfg, chosen, model="custom_cnn_lstm", progress=False)
    assert runs[["name", "seed"]].values.tolist() == [
        ["mean-mlp", 0],
        ["lstm-shuffle", 0],
        ["mean-mlp", 1],
        ["lstm-shuffle", 1],
    ]
    folder = cfg.root / "models" / "demo" / "ablation" / "lstm-shuffle" / "custom_cnn_lstm-seed1"
    assert runs["folder"].iloc[3] == folder
    assert (folder / "predictions.csv").exists()
    # The head that was trained is the head that was asked for, at the counted size.
    own = finetuned.variant_config(cfg, chosen[0], "custom_cnn_lstm")
    model = models.build(own, "custom_cnn_lstm")
    counted = runs.loc[runs["name"] == "mean-mlp", "parameters"].iloc[0]
    assert sum(p.numel() for part in (model.sequence, model.classifier) for p in part.parameters()) == counted
    found = analyse({name: scored_rows(table) for name, table in tables.items()}, n_boot=50)
    assert found.auc["n"].tolist() == [24, 24]
    monkeypatch.setattr("lib.train._train", lambda *a, **k: pytest.fail("trained again"))
    again, _ = finetuned.run(cfg, chosen, model="custom_cnn_lstm", progress=False)
    assert again.equals(runs)


@pytest.mark.parametrize("name", list(variants.all_variants("finetuned", "custom_cnn_lstm")))
def test_every_variant_becomes_a_matched_custom_model(cfg, name):
    base = dataclasses.replace(cfg, custom_cnn_lstm=config.CustomCNNLSTM())
    variant = variants.all_variants("finetuned", "custom_cnn_lstm")[name]
    own = finetuned.variant_config(base, variant, "custom_cnn_lstm")
    head = own.custom_cnn_lstm
    assert (head.head, head.order, head.readout) == (variant.head, variant.order, variant.readout)
    assert own.xception_lstm == base.xception_lstm
    built = models.build(own, "custom_cnn_lstm")
    size = variants.Size(100, 50, 64, 0.27)
    counted = sum(p.numel() for part in (built.sequence, built.classifier) for p in part.parameters())
    assert counted == pytest.approx(variants.parameters("lstm", size, 50), rel=0.02)


def asks_custom(cfg, **changes):
    return dataclasses.replace(
        cfg, ablation=dataclasses.replace(cfg.ablation, model="custom_cnn_lstm", **changes)
    )


def test_the_custom_model_is_asked_every_variant_but_those_that_reduce_channels(cfg):
    assert [variant.name for variant in variants.select(asks_custom(cfg, variants=()))] == list(
        config.load("custom", **{"ablation.variants": list(settings.CUSTOM_VARIANTS)}).ablation.variants
    )


def test_the_ablation_of_the_custom_model_trains_its_heads_and_says_so(cfg):
    asked = asks_custom(cfg)
    result = regimes.run(asked, progress=False)
    root = cfg.root / "models" / "demo" / "ablation"
    assert [folder.relative_to(root).as_posix() for folder in result.runs["folder"]] == [
        f"{name}/custom_cnn_lstm-seed{seed}" for seed in (0, 1) for name in ("mean-mlp", "lstm-shuffle")
    ]
    assert set(result.tables) == {"mean-mlp", "lstm-shuffle"}
    weights, scored_often = {"pretrained": True}, {"train": {"test_every_epoch": True}}
    xception = dataclasses.replace(asked.xception_lstm, **weights, **scored_often)
    said = ablation.protocol_sentence(dataclasses.replace(asked, xception_lstm=xception), result)
    assert "heads of the custom CNN-LSTM, the backbone trained too from random weights;" in said
    assert "Scored once a run on 24 test images" in said
    custom = dataclasses.replace(asked.custom_cnn_lstm, **scored_often)
    said = ablation.protocol_sentence(dataclasses.replace(asked, custom_cnn_lstm=custom), result)
    assert "Scored after every epoch (which chooses nothing) on 24 test images" in said
    of_xception = dataclasses.replace(cfg, xception_lstm=xception)
    said = ablation.protocol_sentence(of_xception, result)
    assert "heads of Xception-LSTM, the backbone trained too from ImageNet weights;" in said
    effects = ablation.analyse(result.tables, n_boot=50)
    for config_, model in ((asked, "custom_cnn_lstm"), (cfg, "xception_lstm")):
        saved = ablation.as_json(config_, result, effects, {})
        assert (saved["model"], ablation.model_of(saved)) == (model, model)
    del saved["model"]  # as it was recorded before the custom model could be asked
    assert ablation.model_of(saved) == "xception_lstm"
