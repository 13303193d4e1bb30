"""What a training says of itself follows from its history and its predictions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib import account, config, evaluate, metrics, models, splits
from tests.predictions import rates, table


def finished(seed, *, chosen, seen, losses=((0.6, 0.5), (0.2, 0.4), (0.1, 0.7)), cfg=None):
    """A run of three epochs: validation AUCs 0.8, 0.9, 0.85, the test accuracies and the losses given."""
    history = pd.DataFrame(
        {"epoch": [1, 2, 3], "val_auc": [0.8, 0.9, 0.85], "val_accuracy": [0.7, 0.8, 0.75], "seconds": 4.0}
    )
    history["test_accuracy_optimistic"] = seen
    history[["train_loss", "val_loss"]] = losses
    return SimpleNamespace(
        seed=seed,
        model="xception_lstm",
        history=history,
        config=cfg,
        info={"best_epoch": chosen},
        predictions=table(seed),
    )


def test_a_row_a_seed_holds_the_chosen_epoch_and_the_original_figures():
    found = account.table(
        [finished(1, chosen=2, seen=[0.7, 0.9, 0.8]), finished(2, chosen=1, seen=[np.nan] * 3)]
    )
    assert found["chosen epoch"].tolist() == [2, 1]
    assert found["validation AUC"].tolist() == [0.9, 0.8]
    assert found["test accuracy, last epoch"].fillna(-1).tolist() == [0.8, -1]
    assert found["test accuracy, best epoch (optimistic)"].fillna(-1).tolist() == [0.9, -1]


@pytest.mark.parametrize(
    ("kind", "own", "lowest", "verdict"),
    [
        ("random", False, 0.92, "good"),
        ("random", False, 0.8, "caution"),
        ("random", False, 0.6, "bad"),
        ("block", False, 0.6, "info"),
        ("matched", False, 0.6, "info"),
        ("matched_everything", False, 0.92, "info"),
        ("matched", True, 0.6, "bad"),  # the data set's own validation, whatever the profile asks
    ],
)
def test_the_seed_that_learned_least_says_whether_a_model_learns(kind, own, lowest, verdict):
    """Where validation patients are harder than others on purpose, a low AUC of theirs is no failure."""
    cfg = config.load("quick", **{"data.val_kind": kind})
    runs = [finished(k, chosen=2, seen=[np.nan] * 3, cfg=cfg) for k in (1, 2)]
    for run, auc in zip(runs, (0.95, lowest), strict=True):
        run.history["val_auc"] = auc
        run.info |= {"trainable_parameters": 1, "data_fingerprint": ""}
    (found,) = account.record(SimpleNamespace(source={"own_val": own}), runs)["findings"]
    assert (found["check"], found["verdict"]) == ("Xception-LSTM learns", verdict)


def test_choosing_on_test_is_said_to_flatter_by_what_it_adds():
    said = account.sentence([finished(1, chosen=1, seen=[0.7, 0.9, 0.8])])
    assert said.startswith("Xception-LSTM: validation chose epoch 1 of 3")
    assert "would have shown 20.0 percentage points of accuracy more" in said
    best = account.sentence([finished(1, chosen=2, seen=[0.7, 0.9, 0.8])])
    assert "is also the best on the test images" in best


def test_runs_that_left_the_test_images_alone_say_nothing_of_them():
    assert "test images" not in account.sentence([finished(1, chosen=1, seen=[np.nan] * 3)])


def test_the_losses_are_those_of_the_first_and_the_last_epoch():
    said = account.fit_sentence([finished(1, chosen=1, seen=[np.nan] * 3)])
    assert said == (
        "The training loss went from 0.600 in the first epoch to 0.100 in the last; the validation loss ends 0.600 above it."
    )


def test_cells_are_means_over_seeds_and_the_sentence_follows_from_them():
    cells = account.confusion([finished(k, chosen=1, seen=[np.nan] * 3) for k in (1, 2)])
    by_hand = []
    for seed in (1, 2):
        test = table(seed).query("split == 'test'")
        called = test["logit"] >= 0
        by_hand.append([[(called[test["y_true"] == y] == call).sum() for call in (0, 1)] for y in (0, 1)])
    assert cells == pytest.approx(np.mean(by_hand, axis=0))
    said = account.confusion_sentence(np.array([[24.0, 6.0], [3.0, 57.0]]))
    assert "Of 60 test images with pneumonia 3 are missed (sensitivity 95.0%)" in said
    assert "of 30 normal ones" in said
    assert "80.0%" in said


def test_parts_add_up_to_the_model():
    model = models.XceptionLSTM(100)
    found = account.parts(model)
    assert found["part"].tolist() == ["backbone", "sequence", "classifier"]  # an identity has no parameters
    assert found["trained"].sum() == model.trainable_parameters()
    assert found[["trained", "frozen"]].sum().sum() == sum(p.numel() for p in model.parameters())
    assert f"{model.trainable_parameters():,} of " in account.parts_sentence(model)


@pytest.mark.parametrize("seeds", [(2,), (1, 2)])
def test_the_classification_report_is_that_of_the_calls_the_mean_over_seeds(seeds):
    found = account.classification([finished(k, chosen=1, seen=[np.nan] * 3) for k in seeds])
    recalls = np.mean([rates(evaluate.part(table(k), "test"), 0.5) for k in seeds], axis=0)
    assert found.loc[["pneumonia", "normal"], "recall"].to_numpy() == pytest.approx(recalls)
    assert found.loc["normal", "support"] == 30


def limits_of(profile="quick", source=None, seeds=(1,), counts=splits.PUBLISHED, **overrides):
    cfg = config.load(profile, **overrides)
    runs = [finished(k, chosen=2, seen=[np.nan] * 3, cfg=cfg) for k in seeds]
    return account.limits(SimpleNamespace(source=source or {}, index=index_of(counts)), runs)


def index_of(counts):
    rows = [(split, label) for (split, label), n in counts.items() for _ in range(n)]
    return pd.DataFrame(rows, columns=["split", "label"])


@pytest.mark.parametrize(
    ("kind", "said", "unsaid"),
    [
        ("random", ("drawn at random", "from the same blocks of the hospital's numbering"), "thumbnail"),
        ("block", ("a run of consecutive patients", "lie apart"), "same blocks"),
        ("matched", ("between whom a thumbnail does not decide",), "blocks"),
        ("matched_everything", ("neither a thumbnail nor how their images were taken",), "blocks"),
    ],
)
def test_the_limits_say_who_was_validated_on(kind, said, unsaid):
    found = limits_of(**{"data.val_kind": kind})
    assert all(words in found for words in said)
    assert unsaid not in found
    store, cfg = (
        SimpleNamespace(source={}, index=index_of(splits.PUBLISHED)),
        config.load("quick", **{"data.val_kind": kind}),
    )
    for sentence in (account.splits_sentence(store, cfg), account.val_auc_sentence(store, cfg)):
        assert all(words in sentence for words in said), "where the images and where `val_auc` are shown, too"


def test_every_published_profile_is_told_by_its_own_settings():
    assert "drawn at random" in limits_of("quick")
    assert "drawn at random" in limits_of("refit")
    assert "test accuracy of every epoch is recorded" in limits_of("quick")
    assert "a run of consecutive patients" in limits_of("tuned")
    pairs = (
        "matched",
        "balanced",
        "stretched",
        "reframed",
        "calibrated",
        "grid",
        "custom",
        "custom_cpu",
        "custom_again",
    )
    for profile in ("tuned", *pairs, "refit", "centre", "overlap", "harmonised"):
        found = limits_of(profile)
        assert "every epoch is recorded" not in found
        assert "The test images are scored once" in found
    for profile in pairs:
        assert "thumbnail" in limits_of(profile)


def test_a_data_sets_own_validation_and_phantoms_know_no_numbering():
    assert "The validation images are the data set's own." in limits_of(source={"own_val": True})
    assert "hospital" not in limits_of(source={"own_val": True})
    assert "hospital" not in limits_of("demo")
    assert "hospital" in limits_of()
    assert "hospital" not in limits_of(counts=splits.PUBLISHED | {("test", 0): 233}), "images of another set"


def test_the_limits_set_what_validation_said_beside_the_test_images():
    seen = [metrics.auc(t["y_true"], t["logit"]) for t in (evaluate.part(table(k), "test") for k in (1, 2))]
    found = limits_of(seeds=(1, 2))
    side = "lower" if np.mean(seen) < 0.9 else "higher"
    assert f"the AUC is 0.9000 on them and {np.mean(seen):.4f} on the test images" in found
    assert f"{abs(np.mean(seen) - 0.9):.4f} {side} (means of 2 seeds)" in found
    assert "seeds" not in limits_of()


def test_aucs_that_are_printed_alike_are_called_the_same(monkeypatch):
    monkeypatch.setattr(account.metrics, "auc", lambda *_: 0.90004)  # said: 0.9000
    assert "0.9000 on the test images, the same; notebook 04" in limits_of()
