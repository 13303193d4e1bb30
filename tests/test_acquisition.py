"""What the size of an original tells, on images of which it is known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib import acquisition, measured, metrics, originals, overlap
from lib.comparison import by_acquisition
from lib.publish import size, trial_tables
from tests.predictions import at, table


@pytest.fixture
def small_ill_large_normal(monkeypatch):
    """Images whose originals are the lower the likelier they are ill."""
    found = table(3, each=300)
    rng = np.random.default_rng(1)
    height = np.exp(rng.normal(7.0 - 0.3 * found["y_true"], 0.25)).round().astype(int)
    width = (height * np.exp(rng.normal(0.3, 0.1, len(found)))).round().astype(int)
    for side in (width, height):
        side[::5] = side[::5] // 8 * 8
    known = {name: (w, h) for name, w, h in zip(found["image"], width, height, strict=True)}
    monkeypatch.setattr(originals, "sizes", lambda: known)
    return found


def test_weights_make_the_sizes_of_both_classes_alike(small_ill_large_normal):
    test = small_ill_large_normal[small_ill_large_normal["split"] == "test"]
    sizes, y = acquisition.sized(test), test["y_true"].to_numpy()
    weights = overlap.weights(sizes, y)
    assert ((weights > 0) & (weights < 1)).all()
    high, aspect = np.log(sizes["height"]), np.log(sizes["width"] / sizes["height"])
    for term in (high, aspect, high**2, aspect**2, high * aspect):
        ill, normal = (np.average(term, weights=weights * (y == label)) for label in (1, 0))
        assert ill == pytest.approx(normal, abs=1e-5)
    assert abs(high[y == 1].mean() - high[y == 0].mean()) > 0.2


def test_a_model_of_the_size_alone_has_nothing_left_and_one_that_ignores_it_keeps_its_auc(
    small_ill_large_normal,
):
    height = acquisition.sized(small_ill_large_normal)["height"]
    by_size = small_ill_large_normal.assign(logit=-np.log(height))
    (found, blind) = (measured.Measured([each], n_boot=100) for each in (by_size, small_ill_large_normal))
    assert found.interval("auc").estimate > 0.75
    assert acquisition.balanced_auc(found).estimate == pytest.approx(0.5, abs=0.05)
    left = acquisition.balanced_auc(blind).interval()
    assert left.low < blind.interval("auc").estimate < left.high
    assert left.high - left.low > 0.02


@pytest.mark.parametrize("blocks", [False, True])
def test_balanced_auc_is_the_weighted_one(small_ill_large_normal, blocks):
    found = measured.Measured([small_ill_large_normal], n_boot=20)
    test = found.tests[0]
    weights = overlap.weights(acquisition.sized(test), test["y_true"].to_numpy(), blocks=blocks)
    ill, normal = (np.flatnonzero(test["y_true"] == label) for label in (1, 0))
    above = test["logit"].to_numpy()[ill][:, None] > test["logit"].to_numpy()[normal]
    share = weights[ill][:, None] * weights[normal]
    balanced = acquisition.balanced_auc(found, blocks=blocks)
    assert balanced.estimate == pytest.approx((above * share).sum() / share.sum())


def test_bands_hold_every_test_image_once_at_the_threshold_of_all(small_ill_large_normal):
    whole = measured.Measured([small_ill_large_normal], n_boot=50)
    found = acquisition.by_height({"xception_lstm": whole})
    test = whole.tests[0]
    assert found[["normal", "ill"]].sum().tolist() == [
        (test["y_true"] == 0).sum(),
        (test["y_true"] == 1).sum(),
    ]
    for name, column in (("specificity", "normal"), ("sensitivity", "ill")):
        rightly = sum(row[name].estimate * row[column] for _, row in found.iterrows() if row[name])
        assert rightly / found[column].sum() == pytest.approx(whole.interval(name).estimate, abs=0.02)
    (low,) = found.loc[found["height"] == "below 1,000", "specificity"]
    inside = test[acquisition.sized(test)["height"] < 1000]
    specificity = at("specificity", whole.thresholds[0]["youden"])
    assert low.estimate == pytest.approx(specificity(inside["y_true"], inside["probability"]))


def test_cuts_part_the_images_by_whole_blocks(small_ill_large_normal):
    whole = measured.Measured([small_ill_large_normal], n_boot=20)
    found = acquisition.by_cut({"xception_lstm": whole}).set_index("cut")
    test, size = whole.tests[0], acquisition.sized(whole.tests[0])
    blocks = ((size["width"] % 8 == 0) & (size["height"] % 8 == 0)).to_numpy()
    for cut, own in (("whole blocks", test[blocks]), ("others", test[~blocks])):
        assert found.loc[cut, ["normal", "ill"]].tolist() == [
            (own["y_true"] == label).sum() for label in (0, 1)
        ]
        assert found.loc[cut, "auc"].estimate == pytest.approx(
            metrics.auc(own["y_true"].to_numpy(), own["logit"].to_numpy())
        )


def test_cuts_are_compared_in_the_same_resamples(small_ill_large_normal, monkeypatch):
    """Two cuts whose every resample has one threshold: the gap is surer than two figures that know nothing of each other."""
    tables = [small_ill_large_normal, small_ill_large_normal.assign(logit=lambda t: t["logit"] + 0.3)]
    found = measured.Measured(tables, n_boot=200)
    gap = acquisition.cut_apart(found)
    parts = [
        found.within(keep).draws("specificity", subtypes=("normal",))
        for keep in (acquisition.whole, lambda table: ~acquisition.whole(table))
    ]
    assert gap.estimate == pytest.approx(parts[0].estimate - parts[1].estimate)
    assert gap.low < gap.estimate < gap.high
    assert gap.n == (tables[0]["split"].eq("test") & tables[0]["y_true"].eq(0)).sum()
    apart = np.quantile(
        np.random.default_rng(0).permutation(parts[0].values) - parts[1].values, [0.025, 0.975]
    )
    assert gap.high - gap.low < 1.1 * np.ptp(apart)
    monkeypatch.setattr(acquisition, "whole", lambda table: np.zeros(len(table), bool))
    assert acquisition.cut_apart(found) is None


def test_shares_of_whole_blocks_are_of_images_outside_the_test_set(monkeypatch):
    known = {
        "person1_bacteria_1": (16, 8), "person2_virus_1": (16, 9), "person3_virus_1": (24, 32), "person4_virus_1": (8, 8),
        "IM-0001-0001": (8, 9), "NORMAL2-IM-0002-0001": (8, 16), "IM-0003-0001": (8, 16),
    }  # fmt: skip
    monkeypatch.setattr(originals, "sizes", lambda: known)
    tested = pd.DataFrame({"image": ["test/PNEUMONIA/person4_virus_1.jpeg", "test/NORMAL/IM-0003-0001.jpeg"]})
    assert acquisition.share_of_blocks([tested]) == (pytest.approx(2 / 3), 0.5)


def test_class_that_a_band_lacks_has_no_figure(small_ill_large_normal, monkeypatch):
    known = {
        name: (900, 800 if ill else 1600)
        for name, ill in small_ill_large_normal[["image", "y_true"]].to_numpy()
    }
    monkeypatch.setattr(originals, "sizes", lambda: known)
    found = acquisition.by_height({"xception_lstm": measured.Measured([small_ill_large_normal], n_boot=20)})
    assert found["height"].tolist() == ["below 1,000", "1,500 and more"]
    assert found["specificity"].isna().tolist() == [True, False]
    assert found["sensitivity"].isna().tolist() == [False, True]


def test_image_of_no_known_size_is_named(small_ill_large_normal):
    odd = pd.concat(
        [small_ill_large_normal.head(3), small_ill_large_normal.head(1).assign(image="elsewhere.png")]
    )
    assert not acquisition.known(odd)
    with pytest.raises(ValueError, match="size of elsewhere's original is not known, nor are 0 others"):
        acquisition.sized(odd)


def test_the_page_says_what_is_left_of_both_models_and_of_their_difference(
    small_ill_large_normal, monkeypatch
):
    by_size = small_ill_large_normal.assign(
        logit=-np.log(acquisition.sized(small_ill_large_normal)["height"])
    )
    tables = {"xception_lstm": small_ill_large_normal, "custom_cnn_lstm": by_size}
    models = {model: measured.Measured([each], n_boot=50) for model, each in tables.items()}
    study = SimpleNamespace(models=models, store=SimpleNamespace(source={}))
    said = by_acquisition.told(study)
    first, second = (acquisition.balanced_auc(found, blocks=True) for found in models.values())
    whole, gap = models["xception_lstm"].interval("auc"), (first - second).interval()
    assert (
        f"{first.interval()} of Xception-LSTM ({whole} as they are) and {second.interval()} of Custom CNN-LSTM ("
        in said
    )
    assert (
        f"; Xception-LSTM minus Custom CNN-LSTM is then {gap.estimate:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]."
        in said
    )
    assert "| Xception-LSTM | below 1,000 |" in said and "| Custom CNN-LSTM | whole blocks |" in said
    unknown = "The sizes of these images' originals are not known"
    study.store.source["kind"] = "phantoms"  # which may have published names
    assert by_acquisition.told(study).startswith(unknown)
    study.store.source["kind"] = "folder"
    monkeypatch.setattr(originals, "sizes", dict)
    assert by_acquisition.told(study).startswith(unknown)


def test_what_is_said_of_it(small_ill_large_normal, monkeypatch, tmp_path):
    row = measured.headline(measured.of({"xception_lstm": [small_ill_large_normal]}, n_boot=50)).to_dict(
        "records"
    )[0]
    shown = {"xception_lstm": (tmp_path / "quick", row)}
    monkeypatch.setattr(size, "best", lambda results: shown)
    monkeypatch.setattr(size.first_screen, "rows", lambda results: list(shown.values()))
    monkeypatch.setattr(size, "_measured", lambda *of: measured.Measured([small_ill_large_normal], n_boot=50))
    monkeypatch.setattr(acquisition, "share_of_blocks", lambda tables: (0.79, 0.06))
    said = size.sentence(tmp_path)
    sizes, both = (
        acquisition.balanced_auc(size._measured(), blocks=blocks).interval() for blocks in (False, True)
    )
    assert str(sizes) != str(both)
    assert f"Xception-LSTM (`quick`) has an AUC of {sizes} instead of {row['auc']:.3f} [" in said
    assert (
        f", and of {both} with their cut balanced too. The images that weigh most there may be harder" in said
    )
    rightly = acquisition.by_cut({"": size._measured()}).set_index("cut")["specificity"]["whole blocks"]
    assert (
        "outside test, both sides of 79% of the pneumonia and 6% of the normal ones are multiples of 8 pixels (whole JPEG blocks)"
        in said
    )
    assert f"Xception-LSTM classifies {rightly.estimate:.1%}".rstrip("%") in said
    cuts = acquisition.by_cut({"": size._measured()}).set_index("cut")["specificity"]
    gap = acquisition.cut_apart(size._measured())
    assert gap.estimate == pytest.approx(cuts["whole blocks"].estimate - cuts["others"].estimate)
    assert (
        f", a difference of {gap.estimate * 100:+.0f} [{gap.low * 100:+.0f}, {gap.high * 100:+.0f}] points."
        in said
    )
    assert "| Xception-LSTM (quick) | below 1,000 |" in "\n".join(size.section(tmp_path))
    assert "| Xception-LSTM (quick) | others |" in "\n".join(size.section(tmp_path))
    monkeypatch.setattr(originals, "sizes", dict)
    assert size.sentence(tmp_path) == ""
    assert size.section(tmp_path) == []


def test_the_card_says_how_pairs_were_cut_where_that_is_known():
    names = [name for name in originals.sizes() if name.startswith(("person", "IM"))][::10]
    pairs = pd.DataFrame({"image": names, "y_true": [int(name.startswith("person")) for name in names]})
    assert 0 < pairs["y_true"].mean() < 1
    whole = overlap.whole_blocks(acquisition.sized(pairs))
    ill, normal = (whole[pairs["y_true"] == label].mean() for label in (1, 0))
    said = trial_tables._cut(pairs)
    assert f"{ill:.0%} of the pneumonia images and {normal:.0%} of the normal" in said
    assert f"the AUC would be {(1 + ill - normal) / 2:.2f}" in said
    assert trial_tables._cut(pairs.assign(image="unknown.png")) == ""
