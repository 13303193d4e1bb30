"""Predictions tables and thresholds: these come from held-out images alone, also where the patients who decide are resampled."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit

from lib import evaluate, stats
from tests.predictions import rates, table


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

    def test_a_file_whose_logit_is_text_is_named(self, tmp_path):
        table().astype({"logit": object}).replace({"logit": {table()["logit"][0]: "high"}}).to_csv(
            tmp_path / "p.csv", index=False
        )
        with pytest.raises(ValueError, match="p.csv is not a predictions table: .*high"):
            evaluate.read(tmp_path / "p.csv")

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

    def test_together_is_the_mean_logit(self):
        tables = [table(k) for k in (1, 2)]
        found = evaluate.together(tables)
        assert found["logit"].to_numpy() == pytest.approx(np.mean([t["logit"] for t in tables], axis=0))
        assert found["probability"].to_numpy() == pytest.approx(expit(found["logit"].to_numpy()))


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
