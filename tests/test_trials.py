import dataclasses

import numpy as np
import pandas as pd
import pytest

from lib import config, files, trials
from lib.publish import trial_tables
from tests.publications import table


@pytest.mark.parametrize("name", trials.TRIALS)
def test_every_trial_is_a_config_with_a_folder_of_its_own_and_keeps_off_the_test_images(name):
    found = trials.settings(name)
    held = trials.VALIDATIONS[trials.TRIALS[name][0]]["data.val_kind"]
    assert (found.data.val_kind, found.train.test_every_epoch) == (held, False)
    others = {trials.settings(other).run_dir(trials.MODEL, 42) for other in trials.TRIALS if other != name}
    assert found.run_dir(trials.MODEL, 42) not in others


def predictions(*, test_logit: float) -> pd.DataFrame:
    drawn = table(0, 1.5)
    return drawn.assign(logit=drawn["logit"].where(drawn["split"] == "val", test_logit))


def test_the_figures_of_a_trial_are_those_of_the_definition():
    recorded = predictions(test_logit=0.0)
    val = recorded[recorded["split"] == "val"]
    y, logit = val["y_true"], val["logit"]
    found = trials.scores(recorded)
    assert found["sensitivity"] == pytest.approx((logit >= 0)[y == 1].mean(), abs=1e-4)
    assert found["specificity"] == pytest.approx((logit < 0)[y == 0].mean(), abs=1e-4)
    assert found["log_loss"] == pytest.approx(np.log1p(np.exp((1 - 2 * y) * logit)).mean(), abs=1e-4)
    above = np.subtract.outer(logit[y == 1].to_numpy(), logit[y == 0].to_numpy()) > 0
    assert found["val_auc"] == pytest.approx(above.mean(), abs=1e-5)


def test_a_trial_is_judged_by_validation_alone(monkeypatch):
    shown = []
    for logit in (-9.0, 9.0):
        run = dataclasses.make_dataclass("Run", ["predictions"])(predictions(test_logit=logit))
        monkeypatch.setattr(trials.train, "fit", lambda *_, run=run, **__: run)
        shown.append(trials.judged(next(iter(trials.TRIALS))))
    assert shown[0] == shown[1]
    assert (shown[0]["images"], shown[0]["patients"]) == (40, 20)
    assert 0.5 < shown[0]["val_auc"] < 1


def test_on_few_pairs_a_trial_is_also_judged_with_swapped_widths_and_borders(monkeypatch):
    run = dataclasses.make_dataclass("Run", ["predictions", "load"])(
        predictions(test_logit=0.0), lambda: "a model"
    )
    monkeypatch.setattr(trials.train, "fit", lambda *_, **__: run)
    monkeypatch.setattr(trials.pixels, "prepare", lambda *_, **__: "a store")
    figures = {trials.swapped.widths: 0.5, trials.swapped.borders: 0.25}

    def figure(_, name, *given):
        return figures[given[2]] if given[:2] == ("a model", "a store") else 0

    monkeypatch.setattr(trials.swapped, "auc", figure)
    found = {kind: trials.judged(name) for name, (kind, _) in trials.TRIALS.items()}
    assert (found["few"]["swapped_auc"], found["few"]["borders_auc"]) == (0.5, 0.25)
    assert not {"swapped_auc", "borders_auc"} & set(found["block"] | found["matched"])


@pytest.fixture
def written(monkeypatch, tmp_path):
    """The second trial on each validation set is the best; none is trained."""
    monkeypatch.setattr(config, "ROOT", tmp_path)
    tried_on = {k: [name for name, (own, _) in trials.TRIALS.items() if own == k] for k in trials.VALIDATIONS}
    aucs = {
        name: 0.95 if place == 1 else 0.9 for names in tried_on.values() for place, name in enumerate(names)
    }
    monkeypatch.setattr(
        trials, "judged", lambda name: {"trial": name, "validation": trials.TRIALS[name][0], "val_auc": aucs[name]}
    )  # fmt: skip
    return tmp_path / "reports" / "results" / "trials.json"


def test_the_best_on_each_validation_set_is_named(written, capsys):
    assert trials.main([]) == 0
    found, said = files.read_json(written), capsys.readouterr().out
    for kind in trials.VALIDATIONS:
        best = [name for name, (validation, _) in trials.TRIALS.items() if validation == kind][1]
        assert found["best"][kind] == best
        assert f"best on {kind} validation: {best}" in said


def test_trials_on_one_set_leave_what_is_recorded_of_the_other(written):
    trials.main(["block"])
    assert set(files.read_json(written)["best"]) == {"block"}
    trials.main(["matched", "few"])
    assert [row["trial"] for row in files.read_json(written)["trials"]] == list(trials.TRIALS)


def test_an_unknown_validation_set_is_refused(written, capsys):
    with pytest.raises(SystemExit):
        trials.main(["blocks"])
    assert "unknown validation set blocks; they are block, matched, few" in capsys.readouterr().err


def test_without_images_the_command_says_what_to_do(monkeypatch, tmp_path, capsys):
    load = config.load
    monkeypatch.setattr(config, "load", lambda name, **given: load(name, root=tmp_path, **given))
    assert trials.main([]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: there are no images at {tmp_path}")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("kind", trials.VALIDATIONS)
def test_published_profile_is_the_best_trial_on_its_validation_set(kind):
    """What is published as chosen is what was recorded as supported."""
    recorded = files.read_json(config.ROOT / "reports" / "results" / "trials.json")
    best = trials.settings(recorded["best"][kind])
    profile = config.load(trial_tables.CHOSEN_ON[kind][0])
    assert profile.train_for(trials.MODEL) == best.train_for(trials.MODEL)
    assert profile.xception_lstm == best.xception_lstm
    # On matched pairs those trials hold all of them out; the profile trains on most, and says so.
    held = dataclasses.replace(best.data, val_share=0.05) if kind == "matched" else best.data
    assert profile.data == held
