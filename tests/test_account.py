"""What a training says of itself follows from its history and its predictions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib import account, models
from tests.predictions import table


def finished(seed, *, chosen, seen, losses=((0.6, 0.5), (0.2, 0.4), (0.1, 0.7))):
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


def test_the_classification_report_is_the_mean_over_seeds():
    runs = [finished(k, chosen=1, seen=[np.nan] * 3) for k in (1, 2)]
    found, alone = account.classification(runs), [account.classification([run]) for run in runs]
    assert found.loc["pneumonia", "recall"] == pytest.approx(
        np.mean([a.loc["pneumonia", "recall"] for a in alone])
    )
