"""From predictions tables to figures: each is that of the test images, its interval that of patients, seeds and chosen thresholds."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import confusion_matrix, roc_auc_score

from lib import calibration, comparison, evaluate, measured, metrics, stats
from lib.measured import Measured
from tests.predictions import at, rates, table


class TestDraws:
    def test_blocks_change_nothing_but_the_draw(self, monkeypatch):
        monkeypatch.setattr(stats, "BLOCK", 90 * 7)
        found = Measured([table(1)], n_boot=20, seed=1).draws("specificity")
        test, cuts = evaluate.part(table(1), "test"), evaluate.thresholds_redrawn(table(1), n_boot=20, seed=1)
        weights = np.concatenate(list(stats.patient_weights(test["patient"], 20, seed=1)))
        for value, row, cut in zip(found.values, weights.astype(int), cuts["youden"], strict=True):
            assert value == rates(test.iloc[np.repeat(np.arange(90), row)], cut)[1]

    def test_seeds_and_models_share_the_patients_who_decide(self):
        one, other = (Measured([table(1)], n_boot=40, seed=1, stream=k).draws("accuracy") for k in (0, 1))
        assert ((one - other).values == 0).all()
        assert Measured([table(1)] * 3, n_boot=40, seed=1).draws("accuracy").values == pytest.approx(
            one.values
        )

    def test_the_patients_who_decide_are_drawn_apart_from_those_of_the_test(self):
        patients = pd.Series([f"p{k}" for k in range(50)])
        (test,), (deciding,) = (stats.patient_weights(patients, 200, seed=1, stream=k) for k in (0, 1))
        assert abs(np.corrcoef(test.ravel(), deciding.ravel())[0, 1]) < 0.05

    def test_a_resample_whose_deciding_patients_lack_a_class_is_left_out(self):
        rows = table(1)
        normal = rows[(rows["split"] == "val") & (rows["y_true"] == 0)]
        scarce = rows.drop(normal.index[normal["patient"] != normal["patient"].iloc[0]])  # one normal patient
        for name in metrics.OPERATING:
            found = Measured([scarce], n_boot=100, seed=1).draws(name)
            assert 0.2 < np.isnan(found.values).mean() < 0.6, name  # about 1 in e
            assert np.isfinite([found.interval().low, found.interval().high]).all(), name

    def test_a_threshold_that_nobody_chose_stays(self):
        test = evaluate.part(table(1), "test")
        fixed = stats.patient_bootstrap(test, at("accuracy", 0.5), n_boot=80, seed=1, score="probability")
        assert Measured([table(1)], n_boot=80, seed=1).draws("accuracy", point="half").interval() == fixed

    def test_a_chosen_threshold_widens_the_interval(self):
        test, cut = evaluate.part(table(1), "test"), evaluate.thresholds(table(1))["youden"]
        held = stats.patient_bootstrap(test, at("specificity", cut), n_boot=400, seed=1, score="probability")
        found = Measured([table(1)], n_boot=400, seed=1).draws("specificity").interval()
        assert found.estimate == held.estimate
        assert found.high - found.low > 1.2 * (held.high - held.low)


class TestFigures:
    @pytest.fixture
    def predictions(self):
        return {
            "xception_lstm": [table(k) for k in (1, 2, 3)],
            "custom_cnn_lstm": [table(k, shift=1) for k in (4, 5, 6)],
        }

    def test_the_headline_holds_the_means_over_seeds_of_the_test_images(self, predictions):
        rows = measured.headline(measured.of(predictions, n_boot=40)).set_index("model")
        for model, tables in predictions.items():
            row, tests = rows.loc[model], [evaluate.part(t, "test") for t in tables]
            aucs = [roc_auc_score(t["y_true"], t["logit"]) for t in tests]
            assert row["auc"] == pytest.approx(np.mean(aucs), abs=1e-6)
            assert row["auc_sd"] == pytest.approx(np.std(aucs, ddof=1), abs=1e-6)
            own = [
                rates(t, evaluate.thresholds(full)["youden"]) for t, full in zip(tests, tables, strict=True)
            ]
            assert (row["sensitivity"], row["specificity"]) == pytest.approx(np.mean(own, axis=0), abs=1e-6)
            fitted = [calibration.fit_temperature(evaluate.deciding(t)) for t in tables]
            assert row["temperature"] == pytest.approx(np.mean(fitted), abs=1e-6)
            scaled = [
                metrics.brier(t["y_true"], expit(t["logit"] / k)) for t, k in zip(tests, fitted, strict=True)
            ]
            assert row["brier_scaled"] == pytest.approx(np.mean(scaled), abs=1e-6)
            assert (row["seeds"], row["n"], row["n_patients"]) == (3, 90, 45)

    def test_every_figure_lies_in_its_interval(self, predictions):
        for row in measured.headline(measured.of(predictions, n_boot=200)).to_dict("records"):
            for name in metrics.NAMES:
                assert row[f"{name}_low"] < row[f"{name}_high"], name
                if name != "ece":  # leans upwards in a resample, as its docstring says
                    assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"], name

    def test_the_order_of_rows_changes_no_digit(self, predictions):
        again = {
            m: [t.sample(frac=1, random_state=k) for k, t in enumerate(tables)]
            for m, tables in predictions.items()
        }
        pd.testing.assert_frame_equal(
            measured.headline(measured.of(again, n_boot=40)),
            measured.headline(measured.of(predictions, n_boot=40)),
        )

    def test_cells_of_every_operating_point(self, predictions):
        found = measured.operating_table(measured.of({"xception_lstm": [table(1)]}, n_boot=40)).set_index(
            "point"
        )
        assert list(found.index) == list(evaluate.POINTS)
        test, chosen = evaluate.part(table(1), "test"), evaluate.thresholds(table(1))
        for point, row in found.iterrows():
            tn, fp, fn, tp = confusion_matrix(test["y_true"], test["probability"] >= chosen[point]).ravel()
            assert (row["tn"], row["fp"], row["fn"], row["tp"]) == (tn, fp, fn, tp)
            assert row["accuracy"].estimate == pytest.approx((tp + tn) / 90)

    def test_subgroups_share_one_threshold_and_are_set_against_normal_images(self):
        models = measured.of({"xception_lstm": [table(1)]}, n_boot=40)
        found = measured.subgroups(models).set_index("subtype")
        test, cut = evaluate.part(table(1), "test"), evaluate.thresholds(table(1))["youden"]
        normal = test["subtype"] == "normal"
        for kind in ("bacterial", "viral"):
            own = test["subtype"] == kind
            assert found.loc[kind, "share"].estimate == pytest.approx(
                (test["probability"][own] >= cut).mean()
            )
            pair = test[own | normal]
            assert found.loc[kind, "auc"].estimate == pytest.approx(
                roc_auc_score(pair["y_true"], pair["logit"])
            )
        assert found.loc["normal", "measure"] == "specificity"
        assert found.loc["normal", "share"].estimate == pytest.approx(
            (test["probability"][normal] < cut).mean()
        )
        published = models["xception_lstm"].interval("specificity")
        assert (found.loc["normal", "share"].low, found.loc["normal", "share"].high) == (
            published.low,
            published.high,
        )
        assert found.loc["normal", "auc"] is None
        assert found["n_patients"].tolist() == [15, 15, 15]
        assert found["n"].tolist() == [30, 30, 30]

    def test_a_share_of_one_has_the_width_that_its_patients_leave(self):
        sure = table(1, shift=40.0)
        row = measured.headline(measured.of({"xception_lstm": [sure]}, n_boot=40)).iloc[0]
        assert row["sensitivity"] == row["sensitivity_high"] == 1
        assert row["sensitivity_low"] == pytest.approx(0.025 ** (1 / 30), abs=1e-6)  # 30 patients are ill

    def test_one_miss_leaves_less_than_none(self):
        """Of a single seed, whose sensitivity a bootstrap alone would call surer with one miss than with none."""
        lows = []
        for missed in range(8):
            sure = table(1, shift=40.0)
            ill = sure[(sure["split"] == "test") & (sure["y_true"] == 1)].drop_duplicates("patient").index
            sure.loc[ill[:missed], "logit"] = -40.0
            sure = evaluate.with_probability(sure.drop(columns="probability"))
            lows.append(Measured([sure], n_boot=400, seed=1).interval("sensitivity").low)
        assert (np.diff(lows) < 0).all()

    def test_a_predictive_value_of_one_has_the_width_that_the_patients_so_called_leave(self):
        """Ten normal patients are called normal by one seed and 15 by the other, and none who is ill."""
        seeds = []
        for called in (10, 15):
            one = table(1, shift=40.0)
            normal = one.index[(one["split"] == "test") & (one["y_true"] == 0)]
            kept = one.loc[normal, "patient"].drop_duplicates()[:called]
            one.loc[normal[~one.loc[normal, "patient"].isin(kept)], "logit"] = 40.0
            seeds.append(evaluate.with_probability(one.drop(columns="probability")))
        found = (
            measured.operating_table(measured.of({"xception_lstm": seeds}, n_boot=40))
            .set_index("point")
            .loc["youden"]
        )
        assert found["npv"].estimate == found["npv"].high == 1
        assert found["npv"].low == pytest.approx(0.025 ** (1 / 10))
        assert found["ppv"].low < found["ppv"].estimate < 1  # many normal images are called ill

    def test_an_unknown_metric_is_named(self):
        with pytest.raises(ValueError, match="unknown metric 'gini'; the metrics are auc"):
            Measured([table()], n_boot=10, seed=1).draws("gini")

    def test_every_figure_is_computed_once(self, predictions, monkeypatch):
        """Of 3 seeds: 4 rankings, 3 of probabilities and 3 of them scaled, the cells of 5 points, 2 kinds of ill images and 2 AUCs of them."""
        asked, counted = stats.over_patients, []
        monkeypatch.setattr(
            stats, "over_patients", lambda *one, **how: counted.append(one) or asked(*one, **how)
        )
        models = measured.of(predictions, n_boot=10)
        measured.headline(models), measured.operating_table(models)
        measured.subgroups(models), comparison.differences(models)
        assert len(counted) == 2 * 3 * (4 + 3 + 3 + 5 + 2 + 2)

    def test_the_patients_of_a_subgroup_are_its_trials(self):
        """Fifteen viral patients are ill, and all are found."""
        found = Measured([table(1, shift=40.0)], n_boot=40).interval(
            "sensitivity", subtypes=["viral", "normal"]
        )
        assert found.low == pytest.approx(0.025 ** (1 / 15))

    def test_scaling_moves_no_rank_and_no_call(self, predictions):
        (model, _) = measured.of(predictions, n_boot=40).values()
        for name in metrics.NAMES:
            same = (model.draws(name).values == model.draws(name, scaled=True).values).all()
            assert same == (name not in metrics.PROBABILITY), name


def test_part_of_the_test_images_keeps_the_thresholds_of_all():
    whole = Measured([table(1), table(2)], n_boot=30)
    inside = whole.within(lambda test: (test["subtype"] != "viral").to_numpy())
    assert inside.thresholds == whole.thresholds
    assert inside.interval("auc") == whole.interval("auc", subtypes=("normal", "bacterial"))
    for name in ("specificity", "sensitivity"):
        kept = {"specificity": ("normal",), "sensitivity": ("bacterial",)}[name]
        assert inside.interval(name, subtypes=kept) == whole.interval(name, subtypes=kept)
