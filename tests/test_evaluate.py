"""From predictions tables to figures: thresholds come from held-out images alone, and every figure is that of the test images."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.metrics import confusion_matrix, roc_auc_score

from lib import calibration, evaluate, metrics, stats
from tests.predictions import table


def rates(rows: pd.DataFrame, threshold: float) -> tuple[float, float]:
    called = rows["logit"] >= logit(threshold)
    return called[rows["y_true"] == 1].mean(), (~called)[rows["y_true"] == 0].mean()


class TestTables:
    def test_a_csv_keeps_every_logit(self, tmp_path):
        written = table().drop(columns="probability")
        written.to_csv(tmp_path / "p.csv", index=False)
        found = evaluate.read(tmp_path / "p.csv")
        assert np.array_equal(found["logit"], written["logit"])
        assert found["probability"].to_numpy() == pytest.approx(expit(written["logit"].to_numpy()), abs=0)

    def test_a_table_without_a_column_is_named(self, tmp_path):
        table().drop(columns=["patient", "subtype", "probability"]).to_csv(tmp_path / "p.csv", index=False)
        with pytest.raises(
            ValueError, match="p.csv is not a predictions table: it lacks the columns patient, subtype"
        ):
            evaluate.read(tmp_path / "p.csv")

    def test_a_logit_that_is_no_number_is_named(self):
        bad = table()
        bad.loc[[3, 5], "logit"] = np.nan
        with pytest.raises(ValueError, match="the logit of val003 is not finite, nor are 1 others"):
            evaluate.with_probability(bad)

    def test_a_split_that_is_not_there_is_named(self):
        with pytest.raises(ValueError, match=r"no images of split 'test', only \['val'\]"):
            evaluate.part(table(splits=["val"]), "test")

    def test_tables_are_recorded_by_model_in_the_order_of_their_seeds(self, tmp_path):
        (tmp_path / "predictions").mkdir()
        for seed in (9, 10):
            table(seed).to_csv(tmp_path / "predictions" / f"xception_lstm-seed{seed}.csv", index=False)
        pd.DataFrame({"epoch": [1]}).to_csv(tmp_path / "predictions" / "xception_lstm-seed9.history.csv")
        found = evaluate.recorded(tmp_path)
        assert list(found) == ["xception_lstm"]
        assert [t["logit"][0] for t in found["xception_lstm"]] == [
            table(9)["logit"][0],
            table(10)["logit"][0],
        ]


class TestThresholds:
    def test_test_images_have_no_part_in_them(self):
        other = table()
        other.loc[other["split"] == "test", "logit"] *= -3
        assert evaluate.thresholds(other) == evaluate.thresholds(table())

    def test_validation_decides_unless_there_are_calibration_images(self):
        three = table(splits=("val", "calibration", "test"))
        assert set(evaluate.deciding(three)["split"]) == {"calibration"}
        changed = three.copy()
        changed.loc[changed["split"] == "val", "logit"] += 5
        assert evaluate.thresholds(changed) == evaluate.thresholds(three)
        changed.loc[changed["split"] == "calibration", "logit"] += 5
        assert evaluate.thresholds(changed) != evaluate.thresholds(three)

    @pytest.mark.parametrize("seed", range(5))
    def test_no_cut_has_a_higher_youden_index(self, seed):
        held = evaluate.deciding(table(seed))
        found = sum(rates(held, evaluate.thresholds(table(seed))["youden"]))
        every = [sum(rates(held, p)) for p in expit(np.linspace(-8, 8, 4001))]
        assert found >= max(every) - 1e-12

    def test_of_equally_good_cuts_it_takes_the_one_nearest_to_one_half(self):
        held = pd.DataFrame({"y_true": [0, 0, 1, 0, 1, 1], "logit": [-3.0, -2, -1.4, -1.2, -0.2, 4]})
        rows = table(splits=["val"]).iloc[:6].assign(**held)
        assert logit(evaluate.thresholds(rows)["youden"]) == pytest.approx(-0.7)  # the other is -1.7

    @pytest.mark.parametrize(("point", "which", "least"), [("sensitivity_95", 0, 0.95), ("specificity_90", 1, 0.9), ("specificity_95", 1, 0.95)])  # fmt: skip
    def test_a_target_is_kept_where_it_is_chosen_and_costs_the_other_least(self, point, which, least):
        held = evaluate.deciding(table(3))
        found = rates(held, evaluate.thresholds(table(3))[point])
        assert found[which] >= least
        every = [rates(held, p) for p in expit(np.linspace(-8, 8, 4001))]
        assert found[1 - which] == pytest.approx(max(r[1 - which] for r in every if r[which] >= least))

    def test_one_half_is_one_half(self):
        assert evaluate.thresholds(table())["half"] == 0.5

    def test_one_class_has_no_threshold(self):
        ill = table()
        with pytest.raises(ValueError, match="held-out images of both classes"):
            evaluate.thresholds(ill[(ill["split"] == "test") | (ill["y_true"] == 1)])


class TestThresholdsRedrawn:
    """Each resample of the deciding patients chooses as `thresholds` does on the table that it is."""

    def held(self, rng, *, ties):
        """A few images of fewer patients; whole logits tie many of them."""
        n = rng.integers(3, 60)
        y = np.r_[0, 1, rng.integers(0, 2, n - 2)]
        score = rng.normal(0, 1.5, n) + rng.uniform(0, 4) * y + rng.normal()
        return pd.DataFrame(
            {"image": [f"i{k}" for k in range(n)], "patient": [f"p{k}" for k in rng.integers(0, n // 2 + 1, n)],
             "split": "val", "subtype": "x", "y_true": y, "logit": score.round() if ties else score}
        )  # fmt: skip

    @pytest.mark.parametrize("ties", [False, True])
    def test_they_are_those_of_the_repeated_table(self, ties):
        rng, lacking = np.random.default_rng(5), 0
        for study in range(40):
            held = self.held(rng, ties=ties)
            found = evaluate.thresholds_redrawn(held, n_boot=10, seed=study)
            (weights,) = stats.patient_weights(held["patient"], 10, seed=study, stream=1)
            for k, row in enumerate(weights.astype(int)):
                again, own = (
                    held.iloc[np.repeat(np.arange(len(held)), row)],
                    {p: v[k] for p, v in found.items()},
                )
                if again["y_true"].nunique() == 2:
                    assert own == evaluate.thresholds(again)
                else:
                    lacking += 1
                    assert own.pop("half") == 0.5
                    assert np.isnan(list(own.values())).all()
        assert lacking

    def test_blocks_change_nothing_but_the_draw(self, monkeypatch):
        monkeypatch.setattr(stats, "BLOCK", 90 * 7)
        found = evaluate.draws([table(1)], "specificity", n_boot=20, seed=1)
        test, cuts = evaluate.part(table(1), "test"), evaluate.thresholds_redrawn(table(1), n_boot=20, seed=1)
        weights = np.concatenate(list(stats.patient_weights(test["patient"], 20, seed=1)))
        for value, row, cut in zip(found.values, weights.astype(int), cuts["youden"], strict=True):
            assert value == rates(test.iloc[np.repeat(np.arange(90), row)], cut)[1]

    def test_seeds_and_models_share_the_patients_who_decide(self):
        one, other = (evaluate.draws([table(1)], "accuracy", n_boot=40, seed=1, stream=k) for k in (0, 1))
        assert ((one - other).values == 0).all()
        assert evaluate.draws([table(1)] * 3, "accuracy", n_boot=40, seed=1).values == pytest.approx(
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
            found = evaluate.draws([scarce], name, n_boot=100, seed=1)
            assert 0.2 < np.isnan(found.values).mean() < 0.6, name  # about 1 in e
            assert np.isfinite([found.interval().low, found.interval().high]).all(), name

    def test_a_threshold_that_nobody_chose_stays(self):
        test = evaluate.part(table(1), "test")
        fixed = stats.patient_bootstrap(
            test, metrics.at("accuracy", 0.5), n_boot=80, seed=1, score="probability"
        )
        assert evaluate.draws([table(1)], "accuracy", n_boot=80, seed=1, point="half").interval() == fixed

    def test_a_chosen_threshold_widens_the_interval(self):
        test, cut = evaluate.part(table(1), "test"), evaluate.thresholds(table(1))["youden"]
        held = stats.patient_bootstrap(
            test, metrics.at("specificity", cut), n_boot=400, seed=1, score="probability"
        )
        found = evaluate.draws([table(1)], "specificity", n_boot=400, seed=1).interval()
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
        rows = evaluate.headline(predictions, n_boot=40).set_index("model")
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
        for row in evaluate.headline(predictions, n_boot=200).to_dict("records"):
            for name in metrics.NAMES:
                assert row[f"{name}_low"] < row[f"{name}_high"], name
                if name != "ece":  # leans upwards in a resample, as its docstring says
                    assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"], name

    def test_the_order_of_rows_changes_no_digit(self, predictions):
        again = {m: [t.sample(frac=1, random_state=7) for t in tables] for m, tables in predictions.items()}
        pd.testing.assert_frame_equal(
            evaluate.headline(again, n_boot=40), evaluate.headline(predictions, n_boot=40)
        )

    def test_cells_of_every_operating_point(self, predictions):
        found = evaluate.operating_table({"xception_lstm": [table(1)]}, n_boot=40).set_index("point")
        assert list(found.index) == list(evaluate.POINTS)
        test, chosen = evaluate.part(table(1), "test"), evaluate.thresholds(table(1))
        for point, row in found.iterrows():
            tn, fp, fn, tp = confusion_matrix(test["y_true"], test["probability"] >= chosen[point]).ravel()
            assert (row["tn"], row["fp"], row["fn"], row["tp"]) == (tn, fp, fn, tp)
            assert row["accuracy"].estimate == pytest.approx((tp + tn) / 90)

    def test_subgroups_share_one_threshold_and_are_set_against_normal_images(self):
        found = evaluate.subgroups({"xception_lstm": [table(1)]}, n_boot=40).set_index("subtype")
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
        assert found.loc["normal", "auc"] is None
        assert found["n"].tolist() == [30, 30, 30]

    def test_a_share_of_one_has_the_width_that_its_patients_leave(self):
        sure = table(1, shift=40.0)
        row = evaluate.headline({"xception_lstm": [sure]}, n_boot=40).iloc[0]
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
            found = evaluate.draws([sure], "sensitivity", n_boot=400, seed=1).interval()
            lows.append(evaluate.widened(found, [sure], "sensitivity").low)
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
        found = evaluate.operating_table({"xception_lstm": seeds}, n_boot=40).set_index("point").loc["youden"]
        assert found["npv"].estimate == found["npv"].high == 1
        assert found["npv"].low == pytest.approx(0.025 ** (1 / 10))
        assert found["ppv"].low < found["ppv"].estimate < 1  # many normal images are called ill

    def test_an_unknown_metric_is_named(self):
        with pytest.raises(ValueError, match="unknown metric 'gini'; the metrics are auc"):
            evaluate.draws([table()], "gini", n_boot=10, seed=1)

    def test_the_classification_report_is_that_of_the_calls(self):
        test = evaluate.part(table(2), "test")
        found = evaluate.classification(test, threshold=0.3)
        assert found.loc["pneumonia", "recall"] == pytest.approx(rates(test, 0.3)[0])
        assert found.loc["normal", "recall"] == pytest.approx(rates(test, 0.3)[1])
        assert found.loc["normal", "support"] == 30

    def test_together_is_the_mean_logit(self):
        tables = [table(k) for k in (1, 2)]
        found = evaluate.together(tables)
        assert found["logit"].to_numpy() == pytest.approx(np.mean([t["logit"] for t in tables], axis=0))
        assert found["probability"].to_numpy() == pytest.approx(expit(found["logit"].to_numpy()))
