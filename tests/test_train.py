"""Training learns, repeats itself to the bit, is found again, and stops with a clear sentence when it cannot go on."""

import dataclasses
import math
import os
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from lib import account, checkpoint, devices, evaluate, files, loop, pixels, provenance, resume, runs, train
from lib.config import ConfigError
from tests import tiny

MODEL = "custom_cnn_lstm"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def run(root):
    return train.fit(tiny.custom(root, train={"epochs": 5}), MODEL, 0, progress=False)


def weights(run):
    return load_file(run.folder / "weights.safetensors")


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def without_seconds(run):
    return run.history.drop(columns="seconds")


@pytest.mark.parametrize("model", ["custom_cnn_lstm", "xception_lstm"])
def test_calibration_images_are_read_with_the_chosen_weights_and_decide_the_thresholds(tmp_path, model, run):
    make = tiny.xception if model == "xception_lstm" else tiny.custom
    stored = {"cache_frozen": 1, "augment": 0.5} if model == "xception_lstm" else {}
    done = train.fit(
        make(tmp_path, train=stored, **{"data.calibration_share": 0.3}), model, 0, progress=False
    )
    store = pixels.prepare(done.config, progress=False)
    rows, found = store.rows("calibration"), evaluate.part(done.predictions, "calibration")
    assert found["image"].tolist() == store.index["image"].iloc[rows].tolist()
    images, _, _ = next(pixels.batches(store, rows, 99))
    with torch.no_grad():
        logits = done.load()(images).numpy()
    np.testing.assert_allclose(logits, found["logit"], atol=0.05)
    pd.testing.assert_frame_equal(evaluate.deciding(done.predictions), found)
    only = done.predictions[done.predictions["split"] != "val"]
    assert evaluate.thresholds(only) == evaluate.thresholds(done.predictions)
    assert set(evaluate.deciding(run.predictions)["split"]) == {"val"}
    assert set(store.index["split"]) == {"train", "val", "calibration", "test"}
    assert (
        account.splits_sentence(store, done.config)
        == "Validation patients are drawn at random from the training patients. No patient is in two splits."
    )
    unnamed = dataclasses.replace(store, source={"own_val": True, "patients": False})
    assert account.splits_sentence(unnamed, done.config).startswith(
        "The validation images are the data set's own. The data set names no patients"
    )


def test_every_seed_starts_from_weights_of_its_own(root):
    config = tiny.custom(root)
    store = pixels.prepare(config, progress=False)
    first, again, other = (
        train.start(config, MODEL, seed, store, progress=False)[0].model.state_dict() for seed in (3, 3, 4)
    )
    assert same(first, again)
    assert not any(torch.equal(value, other[name]) for name, value in first.items())


@pytest.mark.parametrize("every", [True, False])
def test_every_logit_stands_beside_its_own_image(tmp_path, monkeypatch, every):
    """The logits of so small a training hardly differ, so here each is its image's place in the index."""
    monkeypatch.setattr(loop, "evaluate", lambda state, task, rows: torch.tensor(rows, dtype=torch.float32))
    given = {"data.calibration_share": 0.3, "train.test_every_epoch": every}
    done = train.fit(tiny.custom(tmp_path, train={"epochs": 1}, **given), MODEL, 0, progress=False)
    index = pixels.prepare(done.config, progress=False).index
    place = {image: k for k, image in enumerate(index["image"])}
    assert set(done.predictions["split"]) == {"val", "test", "calibration"}
    assert done.predictions["logit"].tolist() == done.predictions["image"].map(place).tolist()


def test_it_learns(run):
    assert run.history["train_loss"].iloc[-1] < run.history["train_loss"].iloc[0]
    assert run.history["val_auc"].max() > 0.85


def test_a_run_holds_what_the_reports_need(run):
    assert list(run.history) == [
        "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "val_auc", "test_accuracy_optimistic",
        "learning_rate", "seconds",
    ]  # fmt: skip
    store = pixels.prepare(run.config, progress=False)
    evaluated = np.concatenate([store.rows("val"), store.rows("test")])
    assert list(run.predictions) == ["image", "patient", "split", "subtype", "y_true", "logit"]
    assert run.predictions["image"].tolist() == store.index["image"].iloc[evaluated].tolist()
    assert (run.predictions["y_true"] == store.index["label"].to_numpy()[evaluated]).all()
    assert run.info["trainable_parameters"] == run.info["total_parameters"] == 444_579
    for key in ("model", "seed", "profile", "config", "data_fingerprint", "code_fingerprint", "commit", "versions", "device", "duration_s", "best_epoch"):  # fmt: skip
        assert run.info[key] not in ("", None), key


def test_predictions_and_weights_are_those_of_the_best_validation_epoch(run):
    best = run.history.set_index("epoch").loc[run.info["best_epoch"]]
    assert best["val_auc"] == run.history["val_auc"].max()
    test = run.predictions[run.predictions["split"] == "test"]
    assert ((test["logit"] > 0) == test["y_true"]).mean() == pytest.approx(best["test_accuracy_optimistic"])
    store = pixels.prepare(run.config, progress=False)
    images, _, _ = next(pixels.batches(store, store.rows("test"), 99))
    with torch.no_grad():
        logits = run.load()(images).numpy()
    np.testing.assert_allclose(
        logits, test["logit"], atol=0.05
    )  # float32 against the training's own precision


def test_test_is_left_alone_until_the_end_if_asked(tmp_path, run):
    config = tiny.custom(tmp_path, train={"epochs": 5}, **{"train.test_every_epoch": False})
    apart = train.fit(config, MODEL, 0, progress=False)
    assert apart.history["test_accuracy_optimistic"].isna().all()
    assert same(weights(apart), weights(run))
    np.testing.assert_allclose(apart.predictions["logit"], run.predictions["logit"], atol=0.02)


def test_a_seed_repeats_to_the_bit_and_another_does_not(root):
    config = tiny.custom(root, train={"epochs": 1, "augment": 0.5})
    torch.manual_seed(1)
    first = train.fit(config, MODEL, 3, progress=False)
    a, history = weights(first), without_seconds(first)
    torch.manual_seed(2)  # what the caller drew before must not matter
    before = torch.get_rng_state()
    again = train.fit(config, MODEL, 3, progress=False, fresh=True)
    assert torch.equal(torch.get_rng_state(), before)  # nor be disturbed
    assert same(a, weights(again))
    pd.testing.assert_frame_equal(history, without_seconds(again))
    assert not same(a, weights(train.fit(config, MODEL, 4, progress=False)))


def test_a_head_that_reads_in_random_order_is_scored_alike_each_time(tmp_path):
    config = tiny.custom(tmp_path, **{"custom_cnn_lstm.order": "shuffle"})
    store = pixels.prepare(config, progress=False)
    state, task = train.start(config, MODEL, 0, store, progress=False)
    before = torch.get_rng_state()
    first, again = (train._logits(state, task, store.rows("test")) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_finished_run_is_found_again(root, run, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("it trains")

    monkeypatch.setattr(train, "_train", refuse)
    again = train.fit(tiny.custom(root, train={"epochs": 5}, **{"n_boot": 7, "explain.images": 9}), MODEL, 0)
    assert again.folder == run.folder


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"epochs": 5, "learning_rate": 3e-3}},
        {"train": {"epochs": 5}, "custom_cnn_lstm.lstm_hidden": 20},
        {"train": {"epochs": 5}, "data.val_share": 0.3},
    ],
    ids=["protocol", "model", "split"],
)
def test_another_protocol_model_or_split_is_trained_again(root, run, change, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *_, **__: "trained")
    assert train.fit(tiny.custom(root, **change), MODEL, 0, progress=False) == "trained"


def test_a_log_says_that_a_training_has_begun(root, capsys):
    config = tiny.custom(root, train={"epochs": 1})
    images = len(pixels.prepare(config, progress=False).rows("train"))
    train.fit(config, MODEL, 25)
    where = f"starts on {provenance.device()}; 1 epochs of {images} images"
    assert f"{MODEL} seed 25: {where}" in capsys.readouterr().out


def test_fresh_forces(root, run, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *_, **__: "trained")
    config = tiny.custom(root, train={"epochs": 5})
    assert train.fit(config, MODEL, 0, progress=False, fresh=True) == "trained"
    monkeypatch.setenv("FRESH", "1")
    assert train.fit(config, MODEL, 0, progress=False) == "trained"
    monkeypatch.setenv("FRESH", "0")
    assert train.fit(config, MODEL, 0, progress=False) != "trained"


def test_frozen_layers_stay_as_they_are_and_the_others_move(root):
    config = tiny.xception(root)
    store = pixels.prepare(config, progress=False)
    state, task = train.start(config, "xception_lstm", 0, store)
    before = {name: value.clone() for name, value in state.model.state_dict().items()}
    loop.train_epoch(state, task, after_step=lambda *_: None)
    trained = {name for name, p in state.model.named_parameters() if p.requires_grad}
    moved = {name for name, value in state.model.state_dict().items() if not torch.equal(value, before[name])}
    assert trained <= moved
    still = {name for name in moved - trained if "running" not in name and "num_batches" not in name}
    assert not still
    frozen = set(dict(state.model.named_parameters())) - trained
    norms = {name.rpartition(".")[0] for name in frozen if name.replace("weight", "running_mean") in before}
    assert norms
    assert not {name for name in moved if name.rpartition(".")[0] in norms}
    x, _ = task.inputs(store.rows("train")[:4], epoch=0)
    assert not x.requires_grad
    task.fabric.backward(state.rest(x).sum())
    assert {name for name, p in state.model.named_parameters() if p.grad is not None} == trained


@pytest.mark.parametrize(
    "settings",
    [
        {"schedule": "cosine", "warmup_epochs": 0.5},
        {"label_smoothing": 0.1, "class_weighting": True},
        {"balanced": True, "mix_style": 0.5, "mix_border": 0.5},
        {"early_stopping": 1, "learning_rate": 0.0, "epochs": 9},
        {"ema": 0.5},
        {"augment": 1.0, "precision": "32-true"},
    ],
    ids=["cosine", "loss", "balanced", "stopping", "ema", "float32"],
)
def test_every_choice_trains(root, settings):
    done = train.fit(tiny.custom(root, train=settings), MODEL, 1, progress=False)
    assert len(done.history) == 2
    assert np.isfinite(done.history["val_loss"]).all()
    if "schedule" in settings:
        assert done.history["learning_rate"].iloc[-1] < done.history["learning_rate"].iloc[0]


def test_the_moving_average_is_what_is_evaluated_and_kept(root):
    config = tiny.custom(root, train={"ema": 0.99999, "epochs": 1})
    store = pixels.prepare(config, progress=False)
    state, task = train.start(config, MODEL, 5, store)
    averaged = weights(train.fit(config, MODEL, 5, progress=False))
    for name, value in state.model.state_dict().items():  # a decay this slow has hardly left the first step
        torch.testing.assert_close(averaged[name], value, atol=5e-3, rtol=0)
    with torch.no_grad():
        state.model.classifier[-1].bias.fill_(7.0)
    assert loop.evaluate(state, task, store.rows("val")).abs().max() < 3


def test_the_moving_average_follows_the_weights_by_its_decay(root):
    config = tiny.custom(root, train={"ema": 0.75, "precision": "32-true"})
    store = pixels.prepare(config, progress=False)
    state, task = train.start(config, MODEL, 5, store, progress=False)
    seen = []
    for state.step in (0, 1):
        loop.train_step(state, task, store.rows("train")[:6], torch.ones(2, device=task.fabric.device))
        seen.append({name: p.detach().clone() for name, p in state.model.named_parameters()})
    assert not same(*seen)
    for name, value in state.evaluated_model.named_parameters():  # the first step is copied
        followed = 0.75 * seen[0][name] + 0.25 * seen[1][name]
        torch.testing.assert_close(value.detach(), followed, rtol=1e-4, atol=1e-6)


def test_a_loss_that_is_no_number_is_told_and_no_checkpoint_is_promised(root, monkeypatch):
    good = tiny.custom(root, train={"epochs": 1})
    train.fit(good, MODEL, 6, progress=False)
    bad = tiny.custom(root, train={"learning_rate": 10.0, "epochs": 30})
    clip = (
        loop.Fabric.clip_gradients
    )  # to a norm that is no number, so that the weights are none after a step
    monkeypatch.setattr(
        loop.Fabric, "clip_gradients", lambda *words, **named: clip(*words, **named | {"max_norm": math.nan})
    )
    with pytest.raises(
        loop.TrainingError,
        match="loss is no longer a number in epoch 1, step 2.*learning rate 10.*nothing was saved so far",
    ):
        train.fit(bad, MODEL, 6, progress=False)
    assert runs.find(good, MODEL, 6) is not None


def finite(saved) -> bool:
    return all(torch.isfinite(value).all() for value in saved["model"].values())


@pytest.mark.parametrize(
    ("minutes", "step", "message"),
    [
        (0.0, 5, "a weight is no longer a number in epoch 2, step 2"),
        (9.0, 5, "the training loss is no longer a number in epoch 2, step 3"),
        (9.0, 6, "a logit of the evaluated images is no longer a number in epoch 2, step 3"),
    ],
    ids=["before a checkpoint", "before a step", "in an epoch's last step"],
)
def test_weights_that_are_no_numbers_never_reach_the_checkpoint(
    root, monkeypatch, minutes, step, message, capsys
):
    """As after a gradient that is no number under a loss that still is one."""
    config = tiny.custom(root, train={"epochs": 3, "checkpoint_minutes": minutes})
    assert -(-len(pixels.prepare(config).rows("train")) // config.train_for(MODEL).batch_size) == 3
    whole = train.fit(config, MODEL, 12, progress=False)
    expected = weights(whole)
    plain, calls = loop.train_step, []

    def poisoned(state, *words):
        sums = plain(state, *words)
        calls.append(1)
        if len(calls) == step:
            with torch.no_grad():
                next(state.model.parameters()).fill_(math.nan)
        return sums

    monkeypatch.setattr(loop, "train_step", poisoned)
    with pytest.raises(loop.TrainingError, match=f"{message} .*the last good checkpoint is intact"):
        train.fit(config, MODEL, 12, progress=False, fresh=True)
    saved = checkpoint.load(train.training_folder(config, MODEL, 12) / "checkpoint.pt")
    assert finite(saved)
    assert (saved["epoch"], saved["step"]) == ((1, 1) if minutes == 0 else (1, 0))
    monkeypatch.undo()
    assert same(expected, weights(train.fit(config, MODEL, 12, fresh=True)))
    assert "goes on from epoch 2" in capsys.readouterr().out


def test_an_overflowing_loss_is_not_kept_either(root, monkeypatch):
    """It would make every later run of the same checkpoint fail again."""
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0})
    plain = loop.train_step
    monkeypatch.setattr(loop, "train_step", lambda *words: plain(*words) * math.inf)
    monkeypatch.setattr(loop, "check_finite", lambda *_: None)  # on a GPU it looks at every 50th step only
    with pytest.raises(loop.TrainingError, match="the training loss is .*nothing was saved so far"):
        train.fit(config, MODEL, 13, progress=False)
    assert not list(train.training_folder(config, MODEL, 13).glob("*"))


def test_ctrl_c_keeps_the_checkpoint_and_the_next_run_goes_on(root, monkeypatch, capsys):
    config = tiny.custom(root, train={"epochs": 3})
    whole = train.fit(config, MODEL, 7, progress=False)
    expected, history = weights(whole), without_seconds(whole)
    step, calls = loop.train_step, []

    def interrupted(*words):
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return step(*words)

    monkeypatch.setattr(loop, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.fit(config, MODEL, 7, fresh=True)
    assert "stopped by hand in epoch 2; the last checkpoint is intact" in capsys.readouterr().out
    assert (train.training_folder(config, MODEL, 7) / "checkpoint.pt").exists()
    (whole.folder / "run.json").unlink()  # else the finished run would be found
    resumed = train.fit(config, MODEL, 7)
    assert "goes on from epoch 2, step 1" in capsys.readouterr().out
    assert same(expected, weights(resumed))
    pd.testing.assert_frame_equal(history, without_seconds(resumed))
    assert not train.training_folder(config, MODEL, 7).exists()


def interrupted(*_):
    raise KeyboardInterrupt


def stop_after_an_epoch(monkeypatch, config, seed, **settings):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train.fit(config, MODEL, seed, **settings)


def test_ctrl_c_before_the_first_checkpoint_promises_none(root, monkeypatch, capsys):
    stop_after_an_epoch(monkeypatch, tiny.custom(root, train={"checkpoint_minutes": 9.0}), 14)
    assert "stopped by hand in epoch 1; nothing was saved so far" in capsys.readouterr().out


def test_an_epochs_figures_are_means_over_its_images(root, monkeypatch):
    """Of batches that differ in size: 12 images each, and what is left."""

    def step(state, task, batch, weights):
        n = len(batch)
        return torch.tensor([2.0 * n + state.step, 0.75 * n, n])

    monkeypatch.setattr(loop, "train_step", step)
    run = train.fit(tiny.custom(root, train={"epochs": 1}), MODEL, 15, progress=False)
    images = len(pixels.prepare(run.config, progress=False).rows("train"))
    steps = math.ceil(images / 12)
    assert run.history["train_loss"][0] == pytest.approx(2 + sum(range(steps)) / images)
    assert run.history["train_accuracy"][0] == pytest.approx(0.75)


def test_the_time_before_a_stop_counts(tmp_path, monkeypatch):
    """By a clock that only the five steps before the stop advance."""
    config = tiny.custom(tmp_path, train={"epochs": 2, "checkpoint_minutes": 0.0})
    pixels.prepare(config, progress=False)
    step, taken, most = loop.train_step, [], 5

    def counted(*about):
        if len(taken) == most:
            raise KeyboardInterrupt
        taken.append(1)
        return step(*about)

    monkeypatch.setattr(time, "perf_counter", lambda: 100.0 * len(taken))
    monkeypatch.setattr(loop, "train_step", counted)
    with pytest.raises(KeyboardInterrupt):
        train.fit(config, MODEL, 0, progress=False)
    monkeypatch.setattr(loop, "train_step", step)
    run = train.fit(config, MODEL, 0, progress=False)
    assert run.info["duration_s"] == run.history["seconds"].sum() == 100 * most


def test_of_two_that_ask_at_once_for_a_training_one_trains(tmp_path, monkeypatch):
    config = tiny.custom(tmp_path, train={"epochs": 1})
    pixels.prepare(config, progress=False)
    began, trained = [], train._train

    def slowly(*about, **settings):
        began.append(1)
        time.sleep(0.3)
        return trained(*about, **settings)

    monkeypatch.setattr(train, "_train", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: train.fit(config, MODEL, 0, progress=False), range(2))
    assert len(began) == 1
    assert first.folder == second.folder


def test_fresh_that_was_stopped_goes_on_when_it_is_asked_for_again(root, monkeypatch, capsys):
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0})
    expected = weights(train.fit(config, MODEL, 15))
    stop_after_an_epoch(monkeypatch, config, 15, fresh=True)
    assert "the same command goes on from it" in capsys.readouterr().out
    again = train.fit(config, MODEL, 15, fresh=True)
    assert "goes on from epoch 1, step 4" in capsys.readouterr().out
    assert same(expected, weights(again))


@pytest.mark.parametrize("damaged", [True, False])
def test_fresh_starts_anew_where_a_checkpoint_is_damaged_or_older_than_the_finished_run(
    root, monkeypatch, capsys, damaged
):
    config, seed = tiny.custom(root, train={"checkpoint_minutes": 0.0}), 16 + damaged
    stop_after_an_epoch(monkeypatch, config, seed)
    checkpoint_file = train.training_folder(config, MODEL, seed) / "checkpoint.pt"
    kept = checkpoint_file.read_bytes()
    expected = weights(train.fit(config, MODEL, seed))
    checkpoint_file.parent.mkdir()
    checkpoint_file.write_bytes(b"damaged" if damaged else kept)
    if not damaged:  # as after a kill between the run's rename and the removal of its checkpoint
        os.utime(checkpoint_file, (0, 0))
    capsys.readouterr()
    again = train.fit(config, MODEL, seed, fresh=True)
    assert "goes on" not in capsys.readouterr().out
    assert same(expected, weights(again))


def test_a_checkpoint_of_other_settings_is_kept_until_it_is_asked_for(root, monkeypatch, capsys):
    first = tiny.custom(root, train={"checkpoint_minutes": 0.0})
    other = tiny.custom(root, train={"epochs": 1, "learning_rate": 1e-3, "checkpoint_minutes": 0.0})
    folder = train.training_folder(first, MODEL, 8)
    stop_after_an_epoch(monkeypatch, first, 8)
    capsys.readouterr()
    stop_after_an_epoch(monkeypatch, other, 8)
    said = capsys.readouterr().out
    (kept,) = folder.glob("checkpoint-*.pt")
    assert f"another config stopped here; its checkpoint is kept as {folder.name}/{kept.name}" in said
    assert "goes on from epoch" not in said
    finished = train.fit(other, MODEL, 8)
    assert "goes on from epoch 1, step 4" in capsys.readouterr().out
    assert list(folder.iterdir()) == [kept]
    assert finished.info["config_fingerprint"] != checkpoint.load(kept)["identity"]["config_fingerprint"]
    train.fit(first, MODEL, 8)
    assert "goes on from epoch 1, step 4" in capsys.readouterr().out
    assert not folder.exists()


def test_two_settings_that_take_turns_each_find_their_checkpoint(root, monkeypatch, capsys):
    both = [tiny.custom(root, train={"checkpoint_minutes": 0.0, "ema": ema}) for ema in (0.5, 0.9)]
    for config in both:
        stop_after_an_epoch(monkeypatch, config, 16)
    for config in both * 2:
        capsys.readouterr()
        stop_after_an_epoch(monkeypatch, config, 16)
        assert "goes on from epoch 1, step 4" in capsys.readouterr().out
    assert len(list(train.training_folder(both[0], MODEL, 16).iterdir())) == 2


def test_a_finished_run_of_other_settings_is_kept_and_found_when_it_is_asked_for(root, monkeypatch, capsys):
    first, other = (tiny.custom(root, train={"epochs": epochs}) for epochs in (2, 1))
    expected = weights(train.fit(first, MODEL, 18))
    capsys.readouterr()
    train.fit(other, MODEL, 18)
    assert (
        "was trained with another config; it is trained again, and the other kept in demo/others"
        in capsys.readouterr().out
    )
    monkeypatch.setattr(train, "_train", lambda *_, **__: pytest.fail("it trains again"))
    for config, epochs in ((first, 2), (other, 1), (first, 2)):
        assert train.fit(config, MODEL, 18).info["epochs"] == epochs
        assert "trained again" not in capsys.readouterr().out
    assert same(expected, weights(train.fit(first, MODEL, 18)))
    assert len(list(first.run_dir(MODEL, 18).parent.glob(f"{runs.OTHERS}/*seed18-*"))) == 1


def test_a_repetition_of_several_seeds_goes_on_with_those_it_had_not_finished(root, monkeypatch, capsys):
    config = tiny.custom(root, train={"epochs": 1}, seeds=[20, 21, 22])
    before = [run.info["finished"] for run in train.fit_all(config, MODEL)]
    trained, plain = [], train._train

    def stopped(config, model, seed, *words, **named):
        trained.append(seed)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return plain(config, model, seed, *words, **named)

    monkeypatch.setattr(train, "_train", stopped)
    monkeypatch.setenv("FRESH", "1")
    with pytest.raises(KeyboardInterrupt):
        train.fit_all(config, MODEL)
    capsys.readouterr()
    note = files.read_json(config.repeated(MODEL))
    assert note["seeds"] == [20]
    assert resume.Repetition(config.repeated(MODEL), note["settings"]).done == [20]
    assert resume.Repetition(config.repeated(MODEL), "others").done == []
    files.write_json(root / "older.json", [20])
    assert resume.Repetition(root / "older.json", note["settings"]).done == []
    assert len(train.fit_all(config, MODEL)) == len(before)
    assert "goes on with a repetition that was stopped; done are the seeds [20]" in capsys.readouterr().out
    assert trained == [20, 21, 21, 22]
    train.fit_all(config, MODEL, progress=False)
    assert trained == [20, 21, 21, 22, 20, 21, 22]  # that one was finished


def test_a_checkpoint_that_cannot_be_read_now_is_not_deleted(root, monkeypatch):
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0})
    train.fit(config, MODEL, 23)
    stop_after_an_epoch(monkeypatch, config, 23, fresh=True)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(
            checkpoint.CheckpointError, match="cannot be read now .*Input/output error.*; run again"
        ):
            train.fit(config, MODEL, 23, fresh=True)
    assert checkpoint.load(train.training_folder(config, MODEL, 23) / "checkpoint.pt")["step"] == 3


def test_a_training_that_goes_on_in_another_precision_says_so_and_records_both(root, monkeypatch, capsys):
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0})
    monkeypatch.setattr(devices, "resolve_precision", lambda _: "32-true")
    stop_after_an_epoch(monkeypatch, config, 24)
    monkeypatch.setattr(devices, "resolve_precision", lambda _: "bf16-mixed")
    run = train.fit(config, MODEL, 24)
    assert "began in float32 and goes on in bfloat16" in capsys.readouterr().out
    assert run.info["precision"] == "float32, then bfloat16"


def test_a_run_is_on_the_disk_before_its_checkpoint_goes(root, monkeypatch):
    order = []
    monkeypatch.setattr(files, "flush", lambda path: order.append(sorted(p.name for p in path.iterdir())))
    monkeypatch.setattr(train, "forget", lambda *words: (order.append("forget"), resume.forget(*words)))
    train.fit(tiny.custom(root, train={"epochs": 1}), MODEL, 17, progress=False)
    assert order == [sorted(runs.PARTS), "forget"]


def test_half_prefixes_of_killed_processes_are_removed_and_those_under_way_are_not(root):
    config = tiny.xception(root, train={"cache_frozen": 1})
    store = pixels.prepare(config, progress=False)
    folder = config.store_dir.with_name("other-28-pad-frozen") / "0123"
    folder.mkdir(parents=True)
    gone, busy = folder / ".train-0.5-0-1.npy.7.part", folder / ".evaluated.npy.7.part"
    whole = folder / "train-0.5-0-1.npy"
    for path in (gone, busy, whole):
        path.touch()
    with filelock.FileLock(folder / "evaluated.lock"):
        train.start(config, "xception_lstm", 0, store)
    assert not gone.exists()
    assert busy.exists()
    assert whole.exists()
    train.start(config, "xception_lstm", 0, store)
    assert not busy.exists()


@pytest.mark.parametrize("split", ["val", "calibration"])
def test_a_training_of_a_split_without_both_classes_does_not_start(tmp_path, monkeypatch, split):
    config = tiny.custom(tmp_path, **{"data.calibration_share": 0.3})
    store = pixels.prepare(config, progress=False)
    table = store.index.assign(label=np.where(store.index["split"] == split, 1, store.index["label"]))
    monkeypatch.setattr(pixels, "prepare", lambda *_, **__: dataclasses.replace(store, index=table))
    words = "images and 1 of the two classes; training needs normal and pneumonia images in every split"
    with pytest.raises(loop.TrainingError, match=f"the {split} split has .* {words}"):
        train.fit(config, MODEL, 0, progress=False)


def test_a_checkpoint_is_written_when_the_last_is_older_than_some_minutes(root, tmp_path, monkeypatch):
    config = tiny.custom(root)
    state, task = train.start(config, MODEL, 0, pixels.prepare(config, progress=False), progress=False)
    now, written = [1000.0], []
    monkeypatch.setattr(resume.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(checkpoint, "save", lambda path, kept: written.append(now[0]))
    keeper = resume.Keeper(tmp_path / "checkpoint.pt", {}, task, minutes=1.0)
    for now[0] in (1059.0, 1061.0, 1062.0, 1120.0, 1122.0):
        keeper.now_and_then(state)
    assert written == [1061.0, 1122.0]


@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("seed", [[], ["--seed", "9"]])
def test_the_command_line_trains_anew_where_it_is_asked_to(root, monkeypatch, fresh, seed):
    asked = []
    monkeypatch.setattr(train, "fit", lambda *_, fresh, **__: asked.append(fresh) or SimpleNamespace(folder="", info={"best_epoch": 1, "epochs": 1}))  # fmt: skip
    words = ["--profile", "demo", "--model", MODEL, "--root", str(root), *seed, *["--fresh"] * fresh]
    assert train.main(words) == 0
    assert asked and {bool(one) for one in asked} == {fresh}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "nosuch", "--model", MODEL], "unknown profile 'nosuch'"),
        (["--profile", "demo", "--model", MODEL, "--set", "train.epoch=2"], "did you mean 'epochs'"),
        (["--profile", "demo", "--model", MODEL, "--set", "train.zooms=[1"], "which cannot be read"),
        (["--profile", "full", "--model", MODEL], "make data"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(words, message, tmp_path, capsys):
    assert train.main([*words, "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_the_command_line_trains(root, capsys):
    words = ["--profile", "demo", "--model", MODEL, "--seed", "9", "--root", str(root)]
    for key, value in (tiny.SMALL | {"custom_cnn_lstm.train": "{epochs: 1}"}).items():
        words += ["--set", f"{key}={value}"]
    assert train.main(words) == 0
    said = capsys.readouterr().out
    assert f"{MODEL} seed 9: epoch 1/1" in said
    assert "best epoch 1 of 1" in said


def test_an_unknown_model_is_refused(root):
    with pytest.raises(ConfigError, match="model is 'resnet'"):
        train.fit(tiny.custom(root), "resnet", 0, progress=False)
