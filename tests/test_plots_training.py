"""The curves of trainings: a panel a measure, a line a run, a star at the epoch that validation chose."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.config import MODELS
from lib.plots import training

HELD = ("val_loss", "val_accuracy", "val_auc", training.TESTED)


def run_of(seed, *, tested):
    columns = ["train_loss", "train_accuracy", *HELD]
    history = pd.DataFrame(np.random.default_rng(seed).random((3, len(columns))), columns=columns)
    if not tested:
        history[training.TESTED] = np.nan
    return SimpleNamespace(history=history.assign(epoch=[1, 2, 3]), info={"best_epoch": 1 + seed % 3})


@pytest.mark.parametrize("models", [MODELS[:1], MODELS])
@pytest.mark.parametrize("tested", [True, False])
def test_every_measure_has_a_panel_with_the_chosen_epoch_of_every_run(models, tested):
    runs = {
        model: [run_of(k, tested=tested) for k in range(2 * n, 2 * n + 2)] for n, model in enumerate(models)
    }
    figure = training.curves(runs)
    titles = [ax.get_title().split(" (")[0] for ax in figure.axes]
    assert titles == ["Loss", "Accuracy", "Validation AUC", "Test accuracy every epoch"][: 3 + tested]
    for ax, column, lines in zip(figure.axes, HELD, (2, 2, 1, 1), strict=False):
        stars = [line.get_xydata()[0].tolist() for line in ax.lines if line.get_marker() == "*"]
        every = [run for own in runs.values() for run in own]
        best = [run.info["best_epoch"] for run in every]
        assert stars == [[at, run.history[column][at - 1]] for at, run in zip(best, every, strict=True)]
        assert len(ax.lines) == (lines + 1) * len(every)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert len(names) == len(models) + 1
    plt.close(figure)
