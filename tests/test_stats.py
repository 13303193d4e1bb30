import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from scipy.stats import t
from sklearn.metrics import accuracy_score, roc_auc_score

from lib import metrics, proportions, stats
from tests.predictions import at, sample


def accuracy(y_true, score):
    return accuracy_score(y_true, score > 0.75)


class TestPatientBootstrap:
    def test_all_resamples_at_once_give_what_one_at_a_time_gives(self):
        table = sample()
        fast = stats.patient_bootstrap(table, metrics.auc, n_boot=300, seed=3)
        slow = stats.patient_bootstrap(table, lambda y, s: roc_auc_score(y, s), n_boot=300, seed=3)
        assert fast.estimate == pytest.approx(slow.estimate, abs=1e-12)
        assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=1e-12)

    def test_it_counts_images_and_patients(self):
        table = sample()
        found = stats.patient_bootstrap(table, metrics.auc, n_boot=50, seed=1)
        assert (found.n, found.n_patients) == (300, table["patient"].nunique())

    def test_one_seed_gives_one_answer_and_another_seed_another(self):
        table = sample()
        first, again, other = (
            stats.patient_bootstrap(table, metrics.auc, n_boot=200, seed=k) for k in (1, 1, 2)
        )
        assert first == again
        assert first != other

    def test_the_order_of_the_rows_does_not_matter(self):
        table = sample()
        shuffled = table.sample(frac=1, random_state=5)
        assert stats.patient_bootstrap(table, metrics.auc, n_boot=200, seed=1) == stats.patient_bootstrap(
            shuffled, metrics.auc, n_boot=200, seed=1
        )

    def test_copies_of_an_image_within_a_patient_add_no_certainty(self):
        table = sample(n=120, patients=120)
        table["patient"] = [f"IM-{i}" for i in range(len(table))]
        tenfold = pd.concat([table] * 10)
        once = stats.patient_bootstrap(table, metrics.auc, n_boot=500, seed=1)
        ten = stats.patient_bootstrap(tenfold, metrics.auc, n_boot=500, seed=1)
        assert (ten.low, ten.high) == pytest.approx((once.low, once.high), abs=1e-12)

    def test_more_level_is_wider(self):
        narrow, wide = (
            stats.patient_bootstrap(sample(), metrics.auc, n_boot=400, level=level, seed=1)
            for level in (0.5, 0.99)
        )
        assert wide.low < narrow.low < narrow.estimate < narrow.high < wide.high

    def test_single_images_agree_with_scipy(self):
        table = sample(n=200, patients=200)
        table["patient"] = [f"IM-{i}" for i in range(200)]
        found = stats.patient_bootstrap(table, accuracy, n_boot=4000, seed=1)
        right = ((table["score"] > 0.75) == table["y_true"]).to_numpy(float)
        theirs = scipy_stats.bootstrap(
            (right,), np.mean, n_resamples=4000, method="percentile", vectorized=True,
            rng=np.random.default_rng(2),
        ).confidence_interval  # fmt: skip
        assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)

    def test_large_tables_are_resampled_in_blocks(self, monkeypatch):
        monkeypatch.setattr(stats, "BLOCK", 300 * 7)
        blocks = list(stats.patient_weights(sample()["patient"], 20, seed=1))
        assert [block.shape for block in blocks] == [(7, 300), (7, 300), (6, 300)]
        assert not (blocks[0] == blocks[1]).all()  # nor is the second block the first once more
        assert stats.patient_bootstrap(sample(), metrics.auc, n_boot=20, seed=1).low < 1

    def test_pieces_of_a_block_are_those_of_the_whole(self, monkeypatch):
        """A block is drawn at once, so how much of it is computed with at a time changes no figure beyond rounding."""
        whole = list(stats.patient_weights(sample()["patient"], 20, seed=1))
        scored = sample().assign(score=lambda table: 1 / (1 + np.exp(-table["score"])))
        before = [stats.resample([scored], [m], n_boot=20, seed=1) for m in (metrics.auc, metrics.brier)]
        monkeypatch.setattr(stats, "PIECE", 300 * 8)
        pieces = list(stats.patient_weights(sample()["patient"], 20, seed=1))
        assert [len(piece) for piece in pieces] == [8, 8, 4]
        assert (np.concatenate(pieces) == np.concatenate(whole)).all()
        for metric, found in zip((metrics.auc, metrics.brier), before, strict=True):
            again = stats.resample([scored], [metric], n_boot=20, seed=1)
            assert again.values == pytest.approx(found.values, abs=1e-12)

    def test_every_resample_draws_as_many_patients_as_there_are(self):
        patients = pd.Series([f"IM-{i}" for i in range(40)])
        (weights,) = stats.patient_weights(patients, 100, seed=1)
        assert (weights.sum(1) == 40).all()
        assert weights.std() > 0


class TestDegenerateTables:
    def test_an_image_without_a_patient_is_refused(self):
        table = sample()
        table.loc[[3, 5], "patient"] = None
        with pytest.raises(ValueError, match="2 of 300 images have no patient"):
            stats.patient_bootstrap(table, metrics.auc, seed=1)

    def test_one_class_is_refused_and_named(self):
        table = sample().query("y_true == 1")
        with pytest.raises(ValueError, match="every image has y_true 1; both classes are needed"):
            stats.patient_bootstrap(table, metrics.auc, seed=1)

    def test_one_class_is_enough_for_a_metric_of_one_class(self):
        table = sample().query("y_true == 1")
        found = stats.patient_bootstrap(
            table, at("sensitivity", 0.75), n_boot=100, seed=1, both_classes=False
        )
        assert 0 < found.low < found.estimate < found.high <= 1

    def test_a_metric_that_is_not_defined_is_refused_by_name(self):
        table = sample().query("y_true == 1")
        with pytest.raises(ValueError, match="specificity is not defined on this table"):
            stats.patient_bootstrap(table, at("specificity", 0.5), seed=1, both_classes=False)

    def test_one_patient_is_refused(self):
        table = sample().assign(patient="IM-1")
        with pytest.raises(ValueError, match="all images are of one patient"):
            stats.patient_bootstrap(table, metrics.auc, seed=1)

    def test_an_empty_table_is_refused(self):
        with pytest.raises(ValueError, match="the table is empty"):
            stats.patient_bootstrap(sample().head(0), metrics.auc, seed=1)

    def test_missing_columns_are_named(self):
        with pytest.raises(ValueError, match="lacks the columns score; it has patient, y_true"):
            stats.patient_bootstrap(sample().drop(columns="score"), metrics.auc, seed=1)

    def test_scores_that_are_not_numbers_are_counted(self):
        table = sample()
        table.loc[:2, "score"] = np.nan
        with pytest.raises(ValueError, match="3 of 300 values of score are not numbers"):
            stats.patient_bootstrap(table, metrics.auc, seed=1)

    def test_other_labels_are_refused(self):
        with pytest.raises(ValueError, match=r"y_true must be 0 or 1, got \[.*2"):
            stats.patient_bootstrap(sample().assign(y_true=lambda t: 2 * t["y_true"]), metrics.auc, seed=1)

    @pytest.mark.parametrize("level", [0, 1, 95])
    def test_a_level_outside_its_range_is_refused(self, level):
        with pytest.raises(ValueError, match=f"level is {level}; it must lie between 0 and 1"):
            stats.patient_bootstrap(sample(), metrics.auc, level=level, seed=1)

    def test_resamples_without_both_classes_are_left_out(self):
        table = pd.DataFrame({"patient": ["a", "b", "c"], "y_true": [0, 1, 1], "score": [0.1, 0.9, 0.05]})
        for metric in (metrics.auc, lambda y, s: roc_auc_score(y, s)):
            found = stats.patient_bootstrap(table, metric, n_boot=200, seed=1)
            assert (found.low, found.estimate, found.high) == (0.0, 0.5, 1.0)

    @pytest.mark.parametrize("misses", range(4))
    def test_a_share_that_few_miss_gets_an_exact_bound(self, misses):
        """On both sides, the bootstrap having given it none."""
        share = 1 - misses / 30
        theirs = scipy_stats.binomtest(30 - misses, 30).proportion_ci(0.95, "exact")
        found = proportions.no_surer_than_counts(stats.Interval(share, share, share, 0.95, 40, 30), 30)
        assert found.low == pytest.approx(theirs.low)
        few = proportions.no_surer_than_counts(
            stats.Interval(1 - share, 1 - share, 1 - share, 0.95, 40, 30), 30
        )
        assert (few.low, few.high) == pytest.approx((1 - found.high, 1 - theirs.low))

    def test_a_bound_falls_with_every_miss(self):
        patients = [f"p{k}" for k in range(203)]
        lows = []
        for misses in range(20):
            table = pd.DataFrame(
                {"patient": patients, "y_true": 1, "score": 1.0 * (np.arange(203) >= misses)}
            )
            found = stats.patient_bootstrap(
                table, at("sensitivity", 0.5), n_boot=1000, seed=1, both_classes=False
            )
            lows.append(proportions.no_surer_than_counts(found, 203).low)
        assert lows[0] == pytest.approx(0.025 ** (1 / 203))
        assert (np.diff(lows) <= 0).all()
        assert (np.diff(lows[: proportions.FEW + 1]) < 0).all()

    def test_a_share_that_many_miss_keeps_its_interval(self):
        found = stats.Interval(0.8, 0.74, 0.85, 0.95, 300, 200)
        assert proportions.no_surer_than_counts(found, 200) == found

    def test_an_undefined_estimate_has_an_undefined_interval(self):
        found = stats.interval(np.nan, np.full(10, np.nan), level=0.95, n=3, n_patients=2)
        assert np.isnan([found.estimate, found.low, found.high]).all()
        assert not found.excludes(0)
        assert np.isnan(stats.interval(np.nan, np.arange(10.0), level=0.95, n=3, n_patients=2).low)

    def test_an_estimate_without_a_resample_is_an_error(self):
        with pytest.raises(ValueError, match="too few patients for an interval"):
            stats.interval(0.5, np.full(10, np.nan), level=0.95, n=3, n_patients=2)


class TestSeeds:
    def tables(self, spread, seeds=4):
        table = sample()
        noise = np.random.default_rng(1).normal(size=seeds)
        return [
            table.assign(score=table["score"] + spread * noise[k] * table["y_true"]) for k in range(seeds)
        ]

    def test_one_seed_is_the_patient_bootstrap(self):
        table = sample()
        alone = stats.resample([table], [metrics.auc], n_boot=300, seed=1).interval()
        assert alone == stats.patient_bootstrap(table, metrics.auc, n_boot=300, seed=1)

    def test_equal_seeds_add_nothing(self):
        table = sample()
        same = stats.resample([table] * 3, [metrics.auc] * 3, n_boot=300, seed=1)
        alone = stats.patient_bootstrap(table, metrics.auc, n_boot=300, seed=1)
        found = same.interval()
        assert (found.low, found.high) == pytest.approx((alone.low, alone.high), abs=1e-12)
        assert same.spread == pytest.approx(0, abs=1e-12)

    def test_seeds_that_differ_widen_the_interval(self):
        calm, wild = (
            stats.resample(self.tables(s), [metrics.auc] * 4, n_boot=400, seed=1) for s in (0.01, 1.0)
        )
        assert wild.spread > 5 * calm.spread
        assert wild.error > 1.5 * calm.error
        width = [d.interval().high - d.interval().low for d in (calm, wild)]
        assert width[1] > 1.5 * width[0]

    def test_the_estimate_is_the_mean_over_seeds(self):
        tables = self.tables(0.5)
        found = stats.resample(tables, [metrics.auc] * 4, n_boot=50, seed=1)
        assert found.estimate == pytest.approx(np.mean([roc_auc_score(t.y_true, t.score) for t in tables]))
        assert found.spread == pytest.approx(
            np.std([roc_auc_score(t.y_true, t.score) for t in tables], ddof=1)
        )

    def test_two_seeds_never_reach_beyond_what_was_drawn(self):
        found = stats.resample(self.tables(1.5, seeds=2), [metrics.auc] * 2, n_boot=400, seed=1)
        assert found.values.min() <= found.interval().low
        assert found.interval().high <= found.values.max() <= 1

    def test_a_model_does_not_differ_from_itself(self):
        tables = self.tables(0.5)
        one = stats.resample(tables, [metrics.auc] * 4, n_boot=100, seed=1)
        difference = (one - one).values
        assert (difference == 0).all()

    def test_a_paired_difference_is_surer_than_its_parts(self):
        table = sample()
        near = table.assign(score=table["score"] + 0.2 * np.random.default_rng(3).normal(size=len(table)))
        first, second = (stats.resample([t], [metrics.auc], n_boot=400, seed=1) for t in (table, near))
        assert (first - second).error < 0.5 * first.error

    def test_other_images_cannot_be_paired(self):
        first = stats.resample([sample()], [metrics.auc], n_boot=20, seed=1)
        second = stats.resample([sample(n=299)], [metrics.auc], n_boot=20, seed=1)
        with pytest.raises(ValueError, match="needs the same images: 300 images of .* against 299"):
            first - second

    def test_seeds_scored_on_other_images_are_refused(self):
        with pytest.raises(ValueError, match="must be scored on the same images"):
            stats.resample([sample(), sample(n=299)], [metrics.auc] * 2, n_boot=20, seed=1)
        renamed = sample().replace({"patient": {"IM-0": "IM-other"}})
        with pytest.raises(ValueError, match="must be scored on the same images"):
            stats.resample([sample(), renamed], [metrics.auc] * 2, n_boot=20, seed=1)


class TestSeedsDrawnTogether:
    """Two models of five seeds: patients make a standard error of 1 in each, correlated by 0.9, the seeds the rest."""

    def two(self, rng, correlation: float, streams=(0, 0), k=5, n_boot=400):
        patients, seeds = np.array([[1, 0.9], [0.9, 1]]), np.array([[1, correlation], [correlation, 1]])
        seen = rng.multivariate_normal([0, 0], patients) + rng.multivariate_normal([0, 0], seeds, size=k)
        chosen = rng.integers(k, size=(k, n_boot))
        drawn = seen[chosen].mean(0) + rng.multivariate_normal([0, 0], patients, size=n_boot)
        return [
            stats.Draws(own, values, 100, 50, ((own.var(ddof=1) / k, k),), stream)
            for own, values, stream in zip(seen.T, drawn.T, streams, strict=True)
        ]

    @pytest.mark.parametrize("correlation", [-0.5, 0.8])
    def test_their_difference_is_found_by_chance_as_often_as_it_says(self, correlation):
        rng, rejected = np.random.default_rng(3), 0
        for _ in range(1000):
            first, second = self.two(rng, correlation)
            gap = first - second
            rejected += 2 * t.sf(abs(gap.estimate) / gap.error, gap.freedom) < 0.05
        assert 0.032 <= rejected / 1000 <= 0.068  # 5%, and what 1000 studies leave open, 99%

    def test_its_seeds_are_those_of_the_pairs(self):
        first, second = self.two(np.random.default_rng(1), 0.8)
        gap, apart = first - second, first.per_seed - second.per_seed
        np.testing.assert_array_equal(gap.per_seed, apart)
        assert gap.seeds == ((pytest.approx(apart.var(ddof=1) / 5), 5),)

    @pytest.mark.parametrize("streams", [(0, 1), (None, None)])
    def test_seeds_drawn_apart_count_each_for_itself(self, streams):
        first, second = self.two(np.random.default_rng(1), 0.8, streams)
        assert (first - second).seeds == first.seeds + second.seeds
        assert len((first - second).per_seed) == 1

    def test_resamples_of_one_stream_are_pairs(self):
        """Models that the seed alone sets apart from each other, the same in both, differ by nothing in every resample."""
        rng, tables = np.random.default_rng(2), []
        for _ in range(5):
            table = sample()
            tables.append(table.assign(score=table["score"] + 0.7 * rng.normal(size=len(table))))
        one, other, apart = (
            stats.resample(tables, [metrics.auc] * 5, n_boot=50, seed=1, stream=stream)
            for stream in (0, 0, 1)
        )
        assert ((one - other).error, (one - other).freedom) == (0, np.inf)
        assert (one - apart).error > 0


class TestHolm:
    def test_a_worked_example(self):
        assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])

    def test_it_lies_between_no_correction_and_bonferroni(self):
        p = np.random.default_rng(0).uniform(size=40) ** 3
        adjusted = stats.holm(p)
        assert (adjusted >= p).all()
        assert (adjusted <= np.minimum(1, 40 * p) + 1e-15).all()
        assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()

    def test_none_and_one(self):
        assert stats.holm([]).size == 0
        assert stats.holm([0.2]) == pytest.approx([0.2])

    @pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
    def test_what_is_no_p_value_is_refused(self, bad):
        with pytest.raises(ValueError, match="p-values must lie between 0 and 1"):
            stats.holm([0.5, bad])


def test_an_interval_reads_as_people_write_it():
    assert str(stats.Interval(0.9583, 0.9411, 0.9724, 0.95, 624, 428)) == "0.958 [0.941, 0.972]"
    assert stats.Interval(0.1, 0.05, 0.2, 0.95, 1, 1).excludes(0)
    assert not stats.Interval(0.1, -0.05, 0.2, 0.95, 1, 1).excludes(0)
