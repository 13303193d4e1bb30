import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import config, files, trials


@pytest.mark.parametrize("name", trials.TRIALS)
def test_every_trial_is_a_config_with_a_folder_of_its_own_and_keeps_off_the_test_images(name):
    found = trials.settings(name)
    assert (found.data.val_kind, found.train.test_every_epoch) == ("block", False)
    others = {trials.settings(other).run_dir(trials.MODEL, 42) for other in trials.TRIALS if other != name}
    assert found.run_dir(trials.MODEL, 42) not in others


def predictions(*, test_logit: float) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {"image": [f"{n}.png" for n in range(60)], "patient": [f"IM-{n // 2}" for n in range(60)]}
    )
    table["split"] = np.where(table.index < 40, "val", "test")
    table["subtype"], table["y_true"] = "normal", table.index % 2
    return table.assign(
        logit=np.where(table["split"] == "val", table["y_true"] + rng.normal(size=60), test_logit)
    )


def test_a_trial_is_judged_by_validation_alone(monkeypatch):
    shown = []
    for logit in (-9.0, 9.0):
        run = dataclasses.make_dataclass("Run", ["predictions"])(predictions(test_logit=logit))
        monkeypatch.setattr(trials.train, "fit", lambda *_, run=run, **__: run)
        shown.append(trials.judged(next(iter(trials.TRIALS))))
    assert shown[0] == shown[1]
    assert (shown[0]["images"], shown[0]["patients"]) == (40, 20)
    assert 0.5 < shown[0]["val_auc"] < 1


def test_the_best_on_validation_is_named(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(config, "ROOT", tmp_path)
    aucs = dict(zip(trials.TRIALS, np.linspace(0.9, 0.99, len(trials.TRIALS)), strict=True))
    monkeypatch.setattr(trials, "judged", lambda name: {"trial": name, "val_auc": aucs[name]})
    assert trials.main() == 0
    written = files.read_json(tmp_path / "reports" / "results" / "tuned" / "trials.json")
    assert written["best"] == list(trials.TRIALS)[-1]
    assert written["best"] in capsys.readouterr().out


def test_profile_tuned_is_the_best_trial():
    """What is published as tuned is what was recorded as supported."""
    recorded = config.ROOT / "reports" / "results" / "tuned" / "trials.json"
    best = trials.settings(files.read_json(recorded)["best"])
    tuned = config.load("tuned")
    assert tuned.train_for(trials.MODEL) == best.train_for(trials.MODEL)
    assert tuned.data == best.data
    assert (tuned.xception_lstm.order, tuned.xception_lstm.readout) == (
        best.xception_lstm.order,
        best.xception_lstm.readout,
    )
