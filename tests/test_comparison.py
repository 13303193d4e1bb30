"""Comparing two models: tests equal to their definitions, sentences that claim no more than their figures, planted mistakes found."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score
from torch import nn

from lib import comparison, evaluate, measured, metrics, models, pixels
from lib.comparison import compared, cost, mistakes, original, paired, scored, token_changes
from lib.measured import Measured
from lib.stats import Draws, Interval, resample
from tests import tiny
from tests.predictions import table

NAMES = ["Xception-LSTM", "Custom CNN-LSTM"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pixels.prepare(tiny.custom(tmp_path_factory.mktemp("probe")), progress=False)


def kernel(positive, negative):
    return (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)


def covariance_by_definition(y, first, second):
    """Variance of the difference of two AUCs from the m x n comparisons themselves (DeLong et al. 1988, eq. 7)."""
    components = [kernel(s[y == 1], s[y == 0]) for s in (first, second)]
    by_positive, by_negative = (np.stack([c.mean(axis) for c in components]) for axis in (1, 0))
    s10, s01 = np.cov(by_positive), np.cov(by_negative)
    total = s10 / (y == 1).sum() + s01 / (y == 0).sum()
    return total[0, 0] + total[1, 1] - 2 * total[0, 1]


def scores(n=80, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, n)
    shared = rng.normal(size=n)
    return y, *((shared + lift * y + rng.normal(0, 0.7, n)).round(1) for lift in (1.5, 0.9))


ALONE = "At least one model was trained once, which says nothing of its other seeds. "


class TestPaired:
    @pytest.mark.parametrize("seed", range(4))
    def test_delong_equals_its_definition(self, seed):
        y, first, second = scores(seed=seed)
        found = paired.delong(y, first, second)
        assert found.difference == pytest.approx(roc_auc_score(y, first) - roc_auc_score(y, second))
        assert found.error**2 == pytest.approx(covariance_by_definition(y, first, second))

    def test_delong_does_not_count_a_copied_image_as_a_new_patient(self):
        """Every image ten times, as ten images of one patient: the same difference, and no surer."""
        y, first, second = scores()
        once = paired.delong(y, first, second)
        tenfold = [np.repeat(v, 10) for v in (y, first, second)]
        clustered = paired.delong(*tenfold, patient=np.repeat(np.arange(len(y)), 10))
        assert clustered.difference == pytest.approx(once.difference)
        assert clustered.error == pytest.approx(once.error, rel=0.02)
        assert paired.delong(*tenfold).error < 0.4 * once.error  # what would be claimed without the patients
        assert (clustered.n, clustered.n_patients) == (800, 80)

    def test_delong_takes_a_patient_with_both_classes_as_one(self):
        """A patient's ill and normal image rise and fall together, which steadies the AUC; a bootstrap of patients agrees."""
        rng = np.random.default_rng(2)
        patient, y = np.repeat(np.arange(200), 2), np.tile([0, 1], 200)
        first = 1.0 * y + rng.normal(size=200)[patient] + 0.4 * rng.normal(size=400)
        second = 0.6 * y + rng.normal(size=200)[patient] + 0.4 * rng.normal(size=400)
        tables = [pd.DataFrame({"patient": patient, "y_true": y, "score": s}) for s in (first, second)]
        draws = [resample([t], [metrics.auc], n_boot=2000, seed=1) for t in tables]
        found = paired.delong(y, first, second, patient=patient)
        assert found.error == pytest.approx((draws[0] - draws[1]).error, rel=0.08)
        assert found.error < 0.7 * paired.delong(y, first, second).error
        assert found.p_value == pytest.approx(2 * norm.sf(abs(found.difference) / found.error))

    def test_delong_is_antisymmetric_and_a_model_equals_itself(self):
        y, first, second = scores()
        there, back = paired.delong(y, first, second), paired.delong(y, second, first)
        assert (there.difference, there.error, there.p_value) == pytest.approx(
            (-back.difference, back.error, back.p_value)
        )
        assert paired.delong(y, first, 3 * first + 1).p_value == 1

    def test_delong_needs_two_patients_of_each_class(self):
        with pytest.raises(ValueError, match="at least 2 patients of each class; normal has fewer"):
            paired.delong([1, 1, 0, 0], [1, 2, 3, 4], [1, 2, 3, 4], patient=["a", "b", "c", "c"])

    def test_mcnemar_by_hand(self):
        """Ten images that one model alone gets right, nine of them the second: 2 (1 + 10) / 2^10."""
        y = np.ones(30, int)
        first, second = np.ones(30, int), np.ones(30, int)
        first[:9], second[9] = 0, 0
        found = paired.mcnemar(y, first, second)
        assert found.p_value == pytest.approx(22 / 1024)
        assert found.difference == pytest.approx(-8 / 30)

    def test_mcnemar_without_discordant_images_finds_nothing(self):
        assert paired.mcnemar([0, 1], [1, 1], [1, 1]).p_value == 1

    def test_a_difference_of_the_detectable_size_is_found_in_four_of_five_studies(self):
        size = paired.detectable(0.02)
        found = np.random.default_rng(0).normal(size, 0.02, 20_000)
        assert np.mean(np.abs(found) > 1.959964 * 0.02) == pytest.approx(0.8, abs=0.01)

    def test_the_same_holds_of_few_seeds_whose_spread_is_estimated(self):
        """Patients make a standard error of 1, five seeds a model with a standard deviation of 2.5 the rest; the interval decides."""
        rng, k, spread = np.random.default_rng(3), 5, 2.5

        def study(true):
            seeds = rng.normal(0, spread, (2, k))
            variances = [(float(own.var(ddof=1)) / k, k) for own in seeds]
            gap = true + rng.normal() + seeds[0].mean() - seeds[1].mean()
            error = np.sqrt(1 + sum(variance * (k - 1) / k for variance, _ in variances))
            return Draws(np.array([gap]), gap + rng.normal(0, error, 2000), 100, 50, tuple(variances))

        known = Draws(np.zeros(1), np.sqrt(1 + 2 * spread**2 / k * (k - 1) / k) * rng.normal(size=100_000), 100, 50,
                      2 * ((spread**2 / k, k),))  # fmt: skip
        size = paired.detectable(known.error, known.freedom)
        found = np.mean([study(size).interval().excludes(0) for _ in range(2000)])
        assert found == pytest.approx(0.8, abs=0.035)


class TestDifferences:
    def test_it_is_the_first_minus_the_second(self):
        ours, theirs = [table(1), table(2)], [table(3, shift=1), table(4, shift=1)]
        models = measured.of({"a": ours, "b": theirs}, n_boot=200)
        found = comparison.differences(models, ["auc", "brier"]).set_index("metric")
        for name in ("auc", "brier"):
            rows = {
                m: [(metrics.RANKING | metrics.PROBABILITY)[name](t["y_true"], t["logit" if name == "auc" else "probability"])
                    for t in (evaluate.part(full, "test") for full in tables)]
                for m, tables in (("a", ours), ("b", theirs))
            }  # fmt: skip
            assert found.loc[name, "difference"].estimate == pytest.approx(
                np.mean(rows["a"]) - np.mean(rows["b"])
            )
            drawn = [
                Measured(tables, n_boot=200, seed=42, stream=k).draws(name)
                for k, tables in enumerate((ours, theirs))
            ]
            freedom = (drawn[0] - drawn[1]).freedom
            assert freedom < 100
            sizes = t.ppf(0.975, freedom) + t.ppf(0.8, freedom)
            assert found.loc[name, "detectable"] == pytest.approx(sizes * found.loc[name, "error"])

    def test_one_seed_leaves_the_normal_quantiles(self):
        found = comparison.differences(
            measured.of({"a": [table(1)], "b": [table(2)]}, n_boot=200), ["auc"]
        ).iloc[0]
        assert found["detectable"] == pytest.approx(2.8016 * found["error"], rel=1e-4)

    def test_seeds_of_the_two_models_are_drawn_apart(self):
        """Two models with the same five tables differ by nothing in truth, but who draws which seed is chance."""
        five = [table(k) for k in range(5)]
        gap = comparison.differences(measured.of({"a": five, "b": five}, n_boot=200), ["auc"])["difference"][
            0
        ]
        assert gap.estimate == 0
        assert gap.low < 0 < gap.high

    def test_models_drawn_otherwise_than_together_are_refused(self):
        for own in ({"seed": 1, "stream": 1}, {"stream": 0}):
            models = {"a": Measured([table(1)], n_boot=10), "b": Measured([table(2)], n_boot=10, **own)}
            with pytest.raises(ValueError, match="take them from measured.of"):
                comparison.differences(models, ["auc"])

    def test_three_models_are_no_pair(self):
        with pytest.raises(ValueError, match="takes two models, got 3: a, b, c"):
            comparison.differences(measured.of(dict.fromkeys("abc", [table()]), n_boot=10), ["auc"])

    def test_a_clear_difference_names_the_better_model(self):
        for first, second, better in ((4, 0.5, NAMES[0]), (0.5, 4, NAMES[1])):
            found = comparison.differences(
                measured.of({"a": [table(1, shift=first)], "b": [table(2, shift=second)]}, n_boot=200),
                ["auc"],
            )
            said = comparison.conclusion(found, NAMES)
            assert said.startswith(f"{ALONE}AUC of {better} is ")
            assert "which excludes zero" in said
            assert "These 90 images of 45 patients could have shown (80% power)" in said

    def test_an_unclear_difference_is_not_claimed(self):
        models = {"a": [table(1), table(3)], "b": [table(2), table(4)]}
        said = comparison.conclusion(comparison.differences(measured.of(models, n_boot=200), ["auc"]), NAMES)
        assert said.startswith("No difference in AUC is shown between Xception-LSTM and Custom CNN-LSTM")
        assert "which includes zero" in said

    def test_two_models_without_a_mistake_could_have_shown_nothing_that_is_known(self):
        perfect = [table(1, shift=40)]
        said = comparison.conclusion(
            comparison.differences(measured.of({"a": perfect, "b": perfect}, n_boot=50), ["auc"]), NAMES
        )
        assert said.startswith(f"{ALONE}No difference")
        assert "what they could have shown is unknown" in said
        assert "0.000 or more" not in said


class TestPairedTests:
    def test_seeds_are_paired_in_order_and_all_tests_are_one_family(self):
        found = comparison.paired_tests(
            {"a": [table(k) for k in (1, 2, 3)], "b": [table(k, shift=0.5) for k in (4, 5)]}
        )
        assert found.groupby("test")["pair"].apply(list).to_dict() == {"DeLong": [1, 2], "McNemar": [1, 2]}
        assert (found["p_holm"] >= found["p_value"]).all()
        assert found["p_holm"].min() == pytest.approx(4 * found["p_value"].min())  # Holm's smallest of four
        test = evaluate.part(table(1), "test")
        other = evaluate.part(table(4, shift=0.5), "test")
        alone = paired.delong(test["y_true"], test["logit"], other["logit"], patient=test["patient"])
        assert found.query("pair == 1 and test == 'DeLong'")["p_value"].item() == pytest.approx(alone.p_value)

    def test_the_order_of_rows_does_not_matter(self):
        plain = comparison.paired_tests({"a": [table(1)], "b": [table(2)]})
        mixed = comparison.paired_tests({"a": [table(1)], "b": [table(2).sample(frac=1, random_state=0)]})
        pd.testing.assert_frame_equal(plain, mixed)

    def test_other_test_images_are_refused(self):
        other = table(2)
        other["image"] += "x"
        with pytest.raises(ValueError, match="different test images"):
            comparison.paired_tests({"a": [table(1)], "b": [other]})

    def test_the_sentence_counts_rejections_after_correction(self):
        found = pd.DataFrame(
            {"test": ["DeLong"] * 2 + ["McNemar"] * 2, "p_holm": [0.0001, 0.2, 0.06, 0.0499]}
        )
        assert comparison.paired_tests_sentence(found) == (
            "After Holm's correction over 4 tests, DeLong's test rejects equality in 1 of 2 pairs of seeds (smallest adjusted p "
            "below 0.001) and McNemar's test, which takes images as independent and each threshold as it was chosen, rejects equality in 1 of 2 pairs of seeds (smallest adjusted p 0.050)."
        )


def planted(wrong: dict[str, float]) -> pd.DataFrame:
    """A model without a mistake but for test images given a logit here."""
    sure = table(1)
    sure["logit"] = np.where(sure["y_true"] == 1, 4.0, -4.0)
    for image, value in wrong.items():
        sure.loc[sure["image"] == image, "logit"] = value
    return evaluate.with_probability(sure)


class TestMistakes:
    # test000, test003, ... are normal, the others ill
    first = {"test000": 3.0, "test001": -1.0, "test004": -3.0}
    second = {"test000": 2.0, "test003": 1.0}

    def tables(self):
        return {"xception_lstm": [planted(self.first)], "custom_cnn_lstm": [planted(self.second)]}

    def test_planted_mistakes_are_found_with_their_kind_and_their_maker(self):
        found = mistakes.table(self.tables()).set_index("image")
        assert found["by"].to_dict() == {
            "test000": "both", "test001": "xception_lstm", "test004": "xception_lstm", "test003": "custom_cnn_lstm",
        }  # fmt: skip
        assert found["kind"].to_dict() == {
            "test000": "false alarm", "test001": "missed pneumonia", "test004": "missed pneumonia", "test003": "false alarm",
        }  # fmt: skip
        assert found.index[0] == "test000"  # the surest mistake of both
        counted = mistakes.counts(mistakes.table(self.tables()))
        assert counted.loc["missed pneumonia", "xception_lstm"] == 2
        assert counted.loc["false alarm", "both"] == 1

    def test_a_mistake_of_one_seed_in_three_is_none_of_the_model(self):
        tables = {
            "xception_lstm": [planted({}), planted({"test001": -2.0}), planted({})],
            "custom_cnn_lstm": [planted({}), planted({"test002": -2.0}), planted({"test002": -2.0})],
        }
        found = mistakes.table(tables)
        assert found["image"].tolist() == ["test002"]
        assert found["custom_cnn_lstm_wrong"].tolist() == pytest.approx([2 / 3])

    def test_seeds_that_err_apart_are_not_said_to_be_always_right(self):
        tables = {
            "xception_lstm": [planted({"test001": -2.0}), planted({"test002": -2.0}), planted({})],
            "custom_cnn_lstm": [planted({})] * 3,
        }
        found = mistakes.table(tables)
        said = mistakes.sentence(found, tables, dict(zip(tables, NAMES, strict=True)))
        assert said == "Neither model gets any of the 90 test images wrong in more than half of their seeds."

    def test_the_sentence_counts_and_says_what_chance_would_share(self):
        tables = self.tables()
        said = mistakes.sentence(mistakes.table(tables), tables, dict(zip(tables, NAMES, strict=True)))
        # normal: 1 of 30 against 2 of 30; ill: 2 of 60 against none
        assert said == (
            "Both models call the same 1 of 90 images wrongly (0 missed pneumonia, 1 normal; independent mistakes would share 0.1); 2 are "
            "wrong in Xception-LSTM alone and 1 in Custom CNN-LSTM alone."
        )
        twice = {model: [*own, *own] for model, own in tables.items()}
        said = mistakes.sentence(mistakes.table(twice), twice, dict(zip(tables, NAMES, strict=True)))
        assert "wrongly in more than half of their seeds (0 missed pneumonia, 1 normal; " in said

    def test_models_without_a_mistake_are_said_to_have_none(self):
        tables = {"xception_lstm": [planted({})], "custom_cnn_lstm": [planted({})]}
        found = mistakes.table(tables)
        assert mistakes.sentence(found, tables, dict(zip(tables, NAMES, strict=True))) == (
            "Neither model gets any of the 90 test images wrong."
        )


def finished(*, seed=42, wrong=0, seen=(0.7, 0.9, 0.8), chosen=1, parameters=100, seconds=2.0):
    """As much of a run as the original's figures need."""
    history = pd.DataFrame({"epoch": range(1, len(seen) + 1), original.OPTIMISTIC: seen, "seconds": seconds})
    info = {"trainable_parameters": parameters, "total_parameters": 2 * parameters, "best_epoch": chosen}
    ill = evaluate.part(planted({}), "test").query("y_true == 1")["image"].iloc[:wrong]
    return SimpleNamespace(
        seed=seed, history=history, info=info, predictions=planted(dict.fromkeys(ill, -2.0))
    )


class TestOriginal:
    def runs(self):
        return {
            "xception_lstm": [finished(wrong=9, parameters=4_000_000, seconds=6.0), finished(seed=43, wrong=18, parameters=4_000_000)],
            "custom_cnn_lstm": [finished(wrong=36, parameters=1_000_000, seconds=1.0)],
        }  # fmt: skip

    def test_the_original_table_by_hand(self):
        found = original.comparison_table(self.runs(), {"xception_lstm": "x", "custom_cnn_lstm": "c"})
        row = found.loc["xception_lstm"]
        assert row["accuracy"] == pytest.approx((0.9 + 0.8) / 2)
        assert (row["final_accuracy"], row["best_accuracy"]) == pytest.approx((0.8, 0.9))
        assert row["epoch_seconds"] == pytest.approx(2.0)  # of the faster run
        assert (row["parameters"], row["total_parameters"], row["architecture"]) == (
            4_000_000,
            8_000_000,
            "x",
        )
        assert original.ratios(found) == pytest.approx(
            {
                "parameter_ratio": 4, "accuracy_difference": 25, "time_ratio": 2,
                "accuracy_per_million_xception_lstm": 85 / 4, "accuracy_per_million_custom_cnn_lstm": 60,
            }
        )  # fmt: skip
        assert "+25.0 percentage points" in original.ratios_sentence(found)

    def test_quoting_the_best_test_epoch_flatters_by_what_it_adds(self):
        runs = {"xception_lstm": [finished(wrong=18, seen=(0.8, 0.95, 0.85))]}
        found = original.optimism(runs).iloc[0]
        assert (found["chosen_epoch"], found["best_epoch"]) == (1, 2)
        assert found["flattery"] == pytest.approx(0.15)
        assert "Xception-LSTM by 15.0 percentage points" in original.optimism_sentence(
            original.optimism(runs)
        )

    def test_runs_that_left_the_test_images_alone_have_no_best_test_epoch(self):
        found = original.optimism({"xception_lstm": [finished(seen=(np.nan, np.nan))]})
        assert not len(found)
        assert "cannot be quoted" in original.optimism_sentence(found)


class TestProbe:
    tokens = torch.randn(3, 49, 5, generator=torch.Generator().manual_seed(0))

    def read(self, reading):
        return token_changes.changed(self.tokens, reading, generator=torch.Generator().manual_seed(1))

    def test_readings_do_to_the_tokens_what_they_say(self):
        assert self.read("trained") is self.tokens
        assert torch.equal(self.read("reversed"), self.tokens.flip(1))
        assert torch.allclose(self.read("levelled"), self.tokens.mean(1, keepdim=True).expand(3, 49, 5))
        shuffled = self.read("shuffled")
        assert torch.equal(shuffled.sort(1).values, self.tokens.sort(1).values)
        orders = [(shuffled[i, :, None, 0] == self.tokens[i, None, :, 0]).long().argmax(1) for i in range(3)]
        assert all(torch.equal(shuffled[i], self.tokens[i, orders[i]]) for i in range(3))  # whole tokens move
        assert not torch.equal(orders[0], orders[1])  # another order for each image

    def test_an_unknown_reading_is_named(self):
        with pytest.raises(
            ValueError, match="unknown reading 'sideways'; the readings are trained, reversed"
        ):
            self.read("sideways")

    def readings(self, store, head):
        torch.manual_seed(0)
        model = models.CustomCNNLSTM(head=head).eval()
        rows = token_changes.sample(store, most=9, seed=1)
        return model, rows, token_changes.readings(model, store, rows, seed=1, batch_size=4)

    def test_read_as_trained_it_is_the_model_itself(self, store):
        model, rows, found = self.readings(store, "lstm")
        with torch.no_grad():
            logits = model(pixels.to_input(torch.as_tensor(store.pixels[rows])))
        assert found["trained"].to_numpy() == pytest.approx(logits.numpy(), abs=1e-5)
        assert np.abs(found["reversed"] - found["trained"]).max() > 1e-4  # an LSTM notices
        assert list(found["image"]) == list(store.index["image"].iloc[rows])

    def test_a_head_without_an_order_does_not_notice_one(self, store):
        _, _, found = self.readings(store, "mean")
        for reading in ("reversed", "shuffled", "levelled"):
            assert found[reading].to_numpy() == pytest.approx(found["trained"].to_numpy(), abs=1e-5)

    def test_a_sample_holds_test_rows_in_order(self, store):
        rows = token_changes.sample(store, most=7, seed=3)
        assert len(rows) == 7
        assert set(rows) <= set(store.rows("test"))
        assert (np.diff(rows) > 0).all()
        assert np.array_equal(token_changes.sample(store, most=10_000, seed=3), store.rows("test"))

    def test_effects_are_paired_differences_from_the_trained_reading(self):
        test = evaluate.part(table(1, shift=3), "test")[["image", "patient", "y_true", "logit"]]
        rng = np.random.default_rng(0)
        found = test.rename(columns={"logit": "trained"}).assign(
            reversed=test["logit"], shuffled=rng.normal(size=len(test)), levelled=test["logit"] - 1
        )
        rows = token_changes.effects(found, n_boot=200).set_index("reading")
        assert rows.loc["trained", "difference"] is None
        assert rows.loc["reversed", "difference"].estimate == rows.loc["levelled", "difference"].high == 0
        assert rows.loc["shuffled", "difference"].estimate == pytest.approx(
            roc_auc_score(found["y_true"], found["shuffled"])
            - roc_auc_score(found["y_true"], found["trained"])
        )
        assert rows.loc["shuffled", "difference"].excludes(0)


class TestCost:
    def test_an_architecture_is_told_as_it_is(self):
        model = models.CustomCNNLSTM(head="lstm", order="reverse", readout="mean")
        assert (
            cost.architecture(model)
            == "3 convolutions -> tokens -> LSTM 50 (reverse order, mean state) -> 64 -> 1"
        )

    def test_operations_of_a_model_by_hand(self):
        """A convolution of k x k takes 2 k k C_in C_out for each pixel, a matrix product 2 n m."""
        model = models.CustomCNNLSTM()
        convolutions = 2 * 9 * (3 * 200 * 28 * 28 + 200 * 150 * 14 * 14 + 150 * 100 * 7 * 7)
        recurrent = 2 * 49 * 4 * 50 * (100 + 50)
        dense = 2 * (50 * 64 + 64)
        assert cost.flops(model, 28) == convolutions + recurrent + dense

    def test_counting_leaves_the_model_where_it_was(self):
        model = models.CustomCNNLSTM()
        cost.flops(model, 28)
        assert next(model.parameters()).device.type == "cpu"
        assert model.training

    def test_an_image_takes_a_share_of_its_batchs_time(self, monkeypatch):
        clock = iter(range(0, 800, 8))  # eight seconds a pass
        monkeypatch.setattr(cost.time, "perf_counter", lambda: float(next(clock)))
        assert cost.seconds_per_image(nn.Linear(4, 1), torch.zeros(8, 4)) == 1.0


class TestSentences:
    """What notebook 04 says, from figures made for it."""

    @pytest.fixture
    def found(self):
        predictions = {"xception_lstm": [table(1, shift=4)], "custom_cnn_lstm": [table(2, shift=1)]}
        return SimpleNamespace(
            predictions=predictions,
            headline=measured.headline(measured.of(predictions, n_boot=100)),
            conclusion="the conclusion",
            tests=comparison.paired_tests(predictions),
            subgroups=measured.subgroups(measured.of(predictions, n_boot=100)),
            mistakes=mistakes.table(predictions),
            optimism=original.optimism({"xception_lstm": [finished()]}),
        )

    def reading(self, **ends):
        auc = Interval(0.9, 0.8, 0.95, 0.95, 90, 45)
        table = pd.DataFrame({"reading": ["trained", *ends], "auc": [auc] * (1 + len(ends))})
        differences = [Interval((low + high) / 2, low, high, 0.95, 90, 45) for low, high in ends.values()]
        return table.assign(difference=[None, *differences])

    @pytest.mark.parametrize(
        ("reverse", "shuffled", "levelled", "verdict"),
        [
            (
                (-0.3, -0.1),
                (-0.2, 0.2),
                (-0.1, 0.2),
                "is not shown to rely on the order of its tokens but is misled when they come in reverse",
            ),
            ((-0.3, 0.1), (-0.2, -0.1), (-0.1, 0.2), "relies on the order of its tokens"),
            ((-0.3, -0.1), (-0.2, -0.1), (-0.1, 0.2), "relies on the order of its tokens"),
            ((-0.3, 0.1), (-0.2, 0.2), (-0.5, -0.4), "is not shown to rely on the order of its tokens"),
            ((0.1, 0.3), (0.2, 0.4), (-0.1, 0.2), "is not shown to rely on the order of its tokens"),
        ],
    )
    def test_a_model_relies_on_the_order_only_where_it_surely_loses_in_a_random_one(
        self, reverse, shuffled, levelled, verdict
    ):
        own = self.reading(reversed=reverse, shuffled=shuffled, levelled=levelled)
        readings = {"xception_lstm": own}
        runs = {"xception_lstm": [SimpleNamespace(seed=44), SimpleNamespace(seed=45)]}
        found = SimpleNamespace(readings=readings, runs=runs)
        said = compared.sequence_sentence(found)
        assert said.startswith(f"Xception-LSTM {verdict}: its AUC changes by ")
        written = (
            f"{sum(ends) / 2:+.3f} [{ends[0]:+.3f}, {ends[1]:+.3f}]" for ends in (reverse, shuffled, levelled)
        )
        how = (
            "with its tokens in reverse",
            "in a random order",
            "with each replaced by the image's mean token",
        )
        told = ", by ".join(f"{gap} {words}" for gap, words in zip(written, how, strict=True))
        assert f": its AUC changes by {told} (seed 44, 90 test images; patients resampled). " in said
        assert scored.sequence_sentence(compared.reading_rows(found)) == said  # as it is recorded

    def test_the_headline_is_said_with_its_counts(self, found):
        row, said = found.headline.iloc[0], scored.headline_sentence(found)
        assert (
            f"Xception-LSTM reaches a test AUC of {row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]"
            in said
        )
        assert f"{row['accuracy']:.1%} accuracy (sensitivity {row['sensitivity']:.1%}" in said
        assert said.count("; 1 seed)") == 2 and said.endswith("90 images of 45 patients.")
        found.headline = found.headline.assign(seeds=[5, 2])
        said = scored.headline_sentence(found)
        assert "; 5 seeds); Custom CNN-LSTM" in said and "; 2 seeds). 90 images" in said

    def test_curves_and_operating_points_are_said_in_figures(self, found):
        found.operating = measured.operating_table(measured.of(found.predictions, n_boot=100))
        row, said = found.headline.iloc[1], scored.curve_sentence(found)
        assert f"Custom CNN-LSTM finds {row['sensitivity_at_90_specificity']:.1%} [" in said
        assert f"; its average precision is {row['average_precision']:.3f} [" in said
        rows, said = found.operating.set_index(["model", "point"]), scored.operating_sentence(found)
        assert said.startswith(
            "On the test images Xception-LSTM, set to a sensitivity of at least 95%, reaches "
        )
        for (_, point), chosen in rows.iterrows():
            if point in scored.TARGETS:
                share = chosen[scored.TARGETS[point][0]].estimate
                assert (
                    f"set to a {evaluate.POINTS[point].replace(' at', ' of at')}, reaches {share:.1%}" in said
                )
        assert said.count("set to ") == 6 and said.count("Custom CNN-LSTM") == 1
        shown = compared.operating_shown(found.operating)
        assert list(shown["point"][:2]) == ["0.5", "Youden's index"] and len(shown) == 10
        assert list(shown["model"].unique()) == ["Xception-LSTM", "Custom CNN-LSTM"]
        assert shown["sensitivity"].equals(found.operating["sensitivity"]) and "f1" not in shown

    @pytest.mark.parametrize(
        ("share", "said"),
        [(0.95, "95.0%"), (0.9496, "95.0%"), (0.949, "94.9% (missed)"), (0.99, "99.0%")],
    )
    def test_a_target_that_is_missed_is_told_and_what_is_printed_as_it_is_not(self, share, said):
        reached = Interval(share, 0.5, 1.0, 0.95, 90, 45)
        rows = [{"model": "xception_lstm", "point": point, "sensitivity": reached, "specificity": reached} for point in ("half", "sensitivity_95")]  # fmt: skip
        found = SimpleNamespace(operating=pd.DataFrame(rows))
        told = f"On the test images Xception-LSTM, set to a sensitivity of at least 95%, reaches {said}."
        assert scored.operating_sentence(found) == told

    def test_costs_are_said_beside_what_they_buy(self):
        row = {"parameters": 16_936_529, "gflops": 9.61, "epoch_seconds": 95.9, "image_milliseconds": 287.48}
        costs = pd.DataFrame([row], index=pd.Index(["xception_lstm"], name="model"))
        said = cost.sentence(costs, {"xception_lstm": Interval(0.97, 0.96, 0.98, 0.95, 90, 45)})
        assert (
            "16,936,529 trainable parameters, takes 9.6 giga-operations and 287.5 ms an image and 96 s an epoch"
            in said
        )
        assert "for a test AUC of 0.970 [0.960, 0.980]" in said

    def test_every_kind_of_image_is_named(self, found):
        said = scored.subgroup_sentence(found)
        rows = found.subgroups.set_index(["model", "subtype"])["share"]
        assert f"{rows['xception_lstm', 'viral'].estimate:.1%} of 30 viral" in said
        assert f"{rows['custom_cnn_lstm', 'normal'].estimate:.1%} of 30 normal" in said

    @pytest.mark.parametrize(("error", "verdict"), [(0.049, "good"), (0.051, "caution")])
    def test_calibration_is_good_where_both_models_end_below_five_points(self, found, error, verdict):
        found.headline["ece_scaled"] = [0.01, error]
        rows = {row["check"]: row for row in scored.findings(found)}
        assert rows["Calibration"]["verdict"] == verdict
        assert f"to {error:.3f}" in rows["Calibration"]["result"]

    def test_a_quoted_best_test_epoch_is_a_caution_and_its_lack_is_none(self, found):
        rows = {row["check"]: row for row in scored.findings(found)}
        assert rows["Best test epoch"]["verdict"] == "caution"
        found.optimism = found.optimism.iloc[:0]
        rows = {row["check"]: row for row in scored.findings(found)}
        assert rows["Best test epoch"]["verdict"] == "info"
        assert rows["Difference between the models"]["result"] == "the conclusion"


def test_the_pictures_of_a_table_are_of_its_images():
    store = SimpleNamespace(index=pd.DataFrame({"image": list("abc")}), pixels=np.arange(3)[:, None, None])
    shown = compared.pictures(SimpleNamespace(store=store), pd.DataFrame({"image": ["c", "a"]}))
    assert shown.ravel().tolist() == [2, 0]
