"""The audit on stores in which what it should find was planted."""

import dataclasses
import hashlib
import json
import re
from pathlib import PurePosixPath

import cv2
import matplotlib
import numpy as np
import pandas as pd
import pytest

from lib import audit, config, originals, splits
from lib.audit import apart, copied, copies, duplicates, findings, patients, shift, shortcuts
from lib.plots import audit as plots
from lib.stats import Interval
from lib.store import PixelStore

matplotlib.use("Agg")
SIZE = 40
KINDS = (("bacteria", "bacterial"), ("virus", "viral"), ("IM", "normal"), ("NORMAL2-IM", "normal"))
NAMES = {"bacteria": "person{}_bacteria_{}", "virus": "person{}_virus_{}", "IM": "IM-{:04d}-{:04d}", "NORMAL2-IM": "NORMAL2-IM-{:04d}-{:04d}"}  # fmt: skip


def picture(rng: np.random.Generator, like: np.ndarray | None = None) -> np.ndarray:
    """Smooth noise, uint8 (SIZE, SIZE); with `like`, half of it is that picture's."""
    noise = cv2.GaussianBlur(rng.normal(size=(SIZE, SIZE)).astype(np.float32), (0, 0), 1.5)
    gray = 110 + 25 * noise / noise.std()
    return np.clip(gray if like is None else (gray + like) / 2, 0, 255).astype(np.uint8)


def crafted(*, each: int = 12, blocks: bool = True, kin: bool = False) -> PixelStore:
    """Two images of `each` patients of every kind in train, and of a third as many in test, all of them noise.

    blocks  test patients have the lowest numbers, otherwise every fourth one
    kin     the images of one patient are alike
    """
    rng, rows, pixels = np.random.default_rng(0), [], []
    for kind, subtype in KINDS:
        for number in range(1, each + each // 3 + 1):
            test = number <= each // 3 if blocks else number % 4 == 0
            first = picture(rng)
            for k in (1, 2):
                pixels.append(first if k == 1 else picture(rng, first if kin else None))
                split, label = "test" if test else "train", int(subtype != "normal")
                name = f"{split}/{'NORMAL' if not label else 'PNEUMONIA'}/{NAMES[kind].format(number, k)}.png"
                rows.append((name, split, label, subtype, f"{kind}-{number}"))
    index = pd.DataFrame(rows, columns=["image", "split", "label", "subtype", "patient"])
    index = splits.split_validation(index, share=0.25, seed=0)
    index["width"], index["height"], index["mode"] = SIZE + 8, SIZE, "L"
    index["bytes"], index["status"] = rng.integers(900, 1000, len(index)), "ok"
    return hashed(PixelStore(index, np.stack(pixels), "crafted", index.iloc[:0], {"kind": "phantoms", "name": "noise", "patients": True}))  # fmt: skip


def hashed(store: PixelStore) -> PixelStore:
    digests = [hashlib.sha256(image.tobytes()).hexdigest() for image in store.pixels]
    return dataclasses.replace(store, index=store.index.assign(sha256=digests))


def row(store: PixelStore, patient: str, nth: int = 0) -> int:
    return int(np.flatnonzero(store.index["patient"] == patient)[nth])


def planted(store: PixelStore, first: int, second: int, change=lambda image: image) -> PixelStore:
    """The store with the image of `first` copied to `second`."""
    pixels = store.pixels.copy()
    pixels[second] = change(pixels[first])
    return hashed(dataclasses.replace(store, pixels=pixels))


def rejpeg(image: np.ndarray) -> np.ndarray:
    """The image a little brighter and compressed again."""
    packed = cv2.imencode(
        ".jpg", cv2.convertScaleAbs(image, alpha=1.05, beta=6), [cv2.IMWRITE_JPEG_QUALITY, 60]
    )[1]
    return cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE)


@pytest.fixture(scope="module")
def store() -> PixelStore:
    return crafted()


# --- duplicates


def test_noise_has_no_copies_and_the_gap_says_so(store):
    found = duplicates.find(store)
    assert found.copies.empty
    assert found.clear
    assert (found.low, found.high)[1] == 1.0
    assert found.low < found.threshold < found.high


@pytest.mark.parametrize(
    ("change", "mirrored", "identical"),
    [(lambda image: image, False, True), (rejpeg, False, False), (np.fliplr, True, False)],
)
def test_planted_copy_is_found(store, change, mirrored, identical):
    first, second = row(store, "virus-2"), row(store, "IM-9")
    found = duplicates.find(planted(store, first, second, change))
    assert len(found.copies) == 1
    pair = found.copies.iloc[0]
    assert {pair["first"], pair["second"]} == {first, second}
    assert (pair["mirrored"], pair["identical"]) == (mirrored, identical)


def test_pairs_are_found_in_every_block(store, monkeypatch):
    first, second = row(store, "virus-9"), row(store, "IM-9")
    copied = planted(store, first, second)
    whole = duplicates.find(copied).pairs
    monkeypatch.setattr(duplicates, "BLOCK", 7)
    pd.testing.assert_frame_equal(duplicates.find(copied).pairs, whole)


def test_copies_of_copies_are_copies_of_the_first_too(store):
    a, b, c = (row(store, f"virus-{number}") for number in (7, 8, 9))
    copies = duplicates.find(planted(planted(store, a, b), b, c)).copies
    pairs = {frozenset(pair) for pair in copies[["first", "second"]].itertuples(index=False)}
    assert pairs == {frozenset(pair) for pair in ((a, b), (b, c), (a, c))}


def test_without_a_gap_only_the_strictest_threshold_counts():
    low, high = duplicates._gap(np.linspace(0.5, 0.98, 200))
    assert high - low < duplicates.EMPTY
    found = duplicates.Duplicates(pd.DataFrame(), low, high)
    assert not found.clear
    assert found.threshold == duplicates.STRICT


def test_light_changes_are_found_and_displaced_copies_are_not(store):
    made = copies.found(store, 0.9, seed=0).set_index("copy")["found"]
    assert made["compressed again (JPEG, quality 75)"] == made["brightened (gamma 0.7)"] == 1
    far = dataclasses.replace(
        store, pixels=np.stack([copies._mapped(shift=0.2)(image) for image in store.pixels])
    )
    assert (duplicates.details(far.pixels) * duplicates.details(store.pixels)).sum(1).max() < 0.9
    assert (copies.found(store, 1.01, seed=0)["found"] == 0).all()


def test_moving_magnifying_and_turning_nothing_changes_nothing(store):
    assert np.array_equal(copies._mapped()(store.pixels[0]), store.pixels[0])
    moved = copies._mapped(shift=0.1)(store.pixels[0])
    assert np.array_equal(moved[:, SIZE // 10 :], store.pixels[0][:, : -SIZE // 10])


def test_kinds_of_copies_that_pass_unseen_are_named(audited):
    made = pd.DataFrame({"copy": ["bright", "turned"], "correlation": [1.0, 0.5], "found": [1.0, 0.2]})
    _, said, verdict = copied.found(dataclasses.replace(audited, made=made))
    assert "are found if bright; fewer if turned" in said and verdict == "caution"
    _, said, verdict = copied.found(dataclasses.replace(audited, made=made.head(1)))
    assert "fewer" not in said and verdict == "good"


def test_blank_images_are_like_nothing(store):
    pixels = store.pixels.copy()
    pixels[:3] = 0
    assert duplicates.find(dataclasses.replace(store, pixels=pixels)).copies.empty
    assert np.isfinite(duplicates.details(pixels)).all()


def test_examples_show_copies_of_different_patients_first(store):
    both = planted(store, row(store, "IM-6"), row(store, "IM-6", 1))
    both = planted(both, row(store, "virus-6"), row(store, "virus-7"))
    shown = duplicates.examples(duplicates.find(both), both.index, each=2)
    assert set(both.index.loc[shown.iloc[0][["first", "second"]], "patient"]) == {"virus-6", "virus-7"}
    assert list(shown["identical"]) == [True, True] + [False] * (len(shown) - 2)


# --- patients


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("person78_bacteria_380.jpeg", "person78"),
        ("person78_virus_1.jpeg", "person78"),
        ("NORMAL2-IM-0095-0001.jpeg", "IM-95"),
        ("IM-0095-0001.jpeg", "IM-95"),
        ("scan.png", "scan.png"),
    ],
)
def test_naive_key_is_the_bare_number(name, key):
    assert patients.naive_key(name) == key


def test_sharing_counts_patients_on_both_sides():
    table = pd.DataFrame({"split": ["train", "val", "test", "test", "test", "test"]})
    assert patients.sharing(table, pd.Series(list("abaabc"))) == patients.Sharing(test=3, shared=2)


def test_numbers_of_two_kinds(store):
    assert patients.two_kinds(store.index) == 16
    assert patients.two_kinds(store.index[store.index["patient"] != "virus-3"]) == 15
    assert patients.two_kinds(store.index[store.index["label"] == 0]) == 0
    assert patients.two_kinds(store.index, patients.NORMAL) == 16
    assert patients.two_kinds(store.index[store.index["patient"] != "IM-3"], patients.NORMAL) == 15


@pytest.mark.parametrize("kinds", [patients.ILL, patients.NORMAL])
def test_kinship_is_seen_where_it_was_planted(kinds):
    strangers = patients.kinship(crafted(), kinds, n_boot=200, seed=0)
    assert all(abs(found.estimate) < 0.1 for found in strangers.values())
    kin = patients.kinship(crafted(kin=True), kinds, n_boot=200, seed=0)
    assert kin["within a kind"].low > 0.3
    assert kin["across kinds"].high < 0.2
    assert kin["within a kind"].n == 32  # 16 patients of either kind
    assert kin["across kinds"].n == 16  # numbers


def test_kinship_of_normal_images_is_that_of_normal_images():
    """Patients of IM are those of NORMAL2-IM here; those of bacteria and virus are strangers."""
    store = crafted()
    pixels, index = store.pixels.copy(), store.index
    for number in range(1, 17):
        rows = [index.index[index["patient"] == f"{kind}-{number}"] for kind in patients.NORMAL]
        pixels[rows[1]] = pixels[rows[0]]
    twins = dataclasses.replace(store, pixels=pixels)
    assert patients.kinship(twins, patients.NORMAL, n_boot=200, seed=0)["across kinds"].low > 0.3
    assert patients.kinship(twins, patients.ILL, n_boot=200, seed=0)["across kinds"].high < 0.2


def test_what_all_images_of_a_kind_share_is_no_kinship(store):
    """Every image of bacteria and virus bears the mark of its kind; its patients stay strangers."""
    pixels = store.pixels.copy()
    for kind, half in (("bacterial", slice(0, SIZE // 2)), ("viral", slice(SIZE // 2, SIZE))):
        pixels[(store.index["subtype"] == kind).to_numpy(), half] //= 3
    found = patients.kinship(dataclasses.replace(store, pixels=pixels), n_boot=200, seed=0)
    assert all(abs(value.estimate) < 0.1 for value in found.values())


@pytest.mark.parametrize("blocks", [True, False])
def test_blocks_of_the_numbering(blocks):
    found = patients.blocks(crafted(each=24, blocks=blocks).index)
    assert len(found) == 4
    assert (found["runs"] == 2).all() if blocks else (found["runs"] > found["expected"]).all()
    assert (found["z"] < -3).all() == blocks


def test_runs_of_a_known_sequence():
    """Wald and Wolfowitz's own quantities for 3 test patients of 8 in 3 runs."""
    split = ["test", "test", "train", "train", "train", "train", "train", "test"]
    table = pd.DataFrame({"patient": [f"IM-{k}" for k in range(8)], "split": split, "subtype": "normal", "label": 0})  # fmt: skip
    found = patients.blocks(table).iloc[0]
    assert (found["runs"], found["expected"]) == (3, 1 + 2 * 3 * 5 / 8)
    variance = 2 * 3 * 5 * (2 * 3 * 5 - 8) / (8**2 * 7)
    assert found["z"] == pytest.approx((3 - 4.75) / variance**0.5)


# --- shift


def test_no_shift_is_found_in_noise_and_a_planted_one_is(store):
    measured = shift.measure(store)
    assert list(measured.columns) == list(shift.NAMES)
    options = {"n_boot": 200, "seed": 0}
    assert not shift.tell_apart(store, measured, **options).low > 0.5
    brighter = store.pixels.copy()
    test = store.rows("test")
    brighter[test] = np.minimum(brighter[test].astype(int) + 25, 255)
    shifted = dataclasses.replace(store, pixels=brighter)
    measured = shift.measure(shifted)
    assert shift.tell_apart(shifted, measured, **options).low > 0.9
    found = shift.differences(shifted, measured, **options).set_index(["label", "measurement"])["difference"]
    assert found[0, "mean"].low > 1
    train, tested = (
        measured.loc[shifted.index["split"].eq(split) & shifted.index["label"].eq(0), "mean"]
        for split in ("train", "test")
    )
    unit = train.std(ddof=0)  # of the class in train, which the shift does not widen
    assert found[0, "mean"].estimate == pytest.approx((tested.mean() - train.mean()) / unit)
    assert not found[1, "sharpness"].excludes(0.0)
    assert (0, "width") not in found.index  # the same for all


def test_measurements_of_known_images():
    flat = np.full((20, 20), 7, np.uint8)
    found = shift._measure(flat)
    assert (found["mean"], found["spread"], found["entropy"], found["black"], found["sharpness"]) == (
        7,
        0,
        0,
        1,
        0,
    )
    half = flat.copy()
    half[:10] = 107
    assert shift._measure(half)["upper"] == 100
    assert shift._measure(half.T)["sides"] == 100


def test_images_of_one_patient_are_one_observation():
    """Each patient's images are one picture, four times: nothing tells patients of test from those of train, and folds that
    part such images, or intervals that count them as four, would say otherwise."""
    single = crafted(each=24)
    rows = np.repeat(np.flatnonzero(single.index["image"].str.contains("1.png|0001.png")), 4)
    index = single.index.iloc[rows].reset_index(drop=True)
    store = dataclasses.replace(single, index=index, pixels=single.pixels[rows])
    measured, options = shift.measure(store), {"n_boot": 200, "seed": 0}
    apart = shift.tell_apart(store, measured, **options)
    assert apart.estimate < 0.75  # folds that part a patient: nearly 1
    tested = index[index["split"].isin(["train", "test"])]
    assert (apart.n, apart.n_patients) == (len(tested), tested["patient"].nunique())
    four = shift.differences(store, measured, **options)["difference"]
    once = dataclasses.replace(store, index=index.iloc[::4].reset_index(drop=True), pixels=store.pixels[::4])
    one = shift.differences(once, shift.measure(once), **options)["difference"]
    assert [f.n_patients for f in four] == [f.n_patients for f in one]
    widths = [np.mean([f.high - f.low for f in found]) for found in (four, one)]
    assert widths[0] == pytest.approx(widths[1], rel=0.02)
    found = [shortcuts.probes(s, **options).query("split == 'test'") for s in (store, once)]
    probed = [one.dropna()["auc"] for one in found]
    assert [f.n_patients for f in probed[0]] == [f.n_patients for f in probed[1]]
    assert np.mean([f.high - f.low for f in probed[0]]) > 0.8 * np.mean([f.high - f.low for f in probed[1]])


def test_too_few_patients_to_tell_apart(store):
    """Of a single kind test has four patients."""
    few = dataclasses.replace(store, index=store.index[(store.index["split"] != "test") | (store.index["patient"].str.match("virus"))])  # fmt: skip
    assert shift.tell_apart(few, shift.measure(store), n_boot=10, seed=0) is None


# --- shortcuts


def test_probes_find_nothing_in_noise_and_a_planted_mark(store):
    quiet = shortcuts.probes(store, n_boot=200, seed=0).set_index(["probe", "split"])["auc"]
    assert quiet["size", "test"] is None
    assert max(found.low for found in quiet.dropna()) < 0.6  # of a dozen intervals one may miss 0.5
    marked = store.pixels.copy()
    marked[store.index["label"].to_numpy() == 1, :3, :3] = 255
    loud = shortcuts.probes(dataclasses.replace(store, pixels=marked), n_boot=200, seed=0)
    loud = loud.set_index(["probe", "split"])["auc"]
    assert loud["edge", "test"].low > 0.9
    assert loud["no lungs", "val"].low > 0.9


def test_what_lies_in_the_lungs_is_hidden_from_the_probes_without_them(store):
    marked, ill = store.pixels.copy(), store.index["label"].to_numpy() == 1
    side = marked.shape[1]
    high, left, right = (
        slice(round(a * side), round(b * side)) for a, b in ((0.3, 0.7), (0.2, 0.4), (0.6, 0.8))
    )
    for columns in (left, right):
        marked[:, high, columns] //= 3  # two dark lungs, in every image
    middle = slice(round(0.43 * side), round(0.57 * side)), slice(round(0.23 * side), round(0.37 * side))
    marked[(ill, *middle)] = 0  # the sign, inside one of them
    found = shortcuts.probes(dataclasses.replace(store, pixels=marked), n_boot=200, seed=0)
    auc = found.set_index(["probe", "split"])["auc"]
    assert auc["thumbnail", "test"].low > 0.9
    assert auc["edge", "test"].low < 0.6 and auc["no lungs", "test"].low < 0.6


def test_a_split_without_a_class_is_not_asked(store):
    without = store.index[(store.index["split"] != "val") | (store.index["label"] == 1)]
    kept = dataclasses.replace(
        store, index=without.reset_index(drop=True), pixels=store.pixels[without.index]
    )
    found = shortcuts.probes(kept, n_boot=50, seed=0).set_index(["probe", "split"])["auc"]
    assert found["edge", "val"] is None
    assert found["edge", "test"] is not None


def test_lungs_of_phantoms_are_blacked_out(tmp_path):
    from lib import pixels

    cfg = config.load("demo", root=tmp_path, **{"data.phantoms": 60, "data.image_size": 64})
    store = pixels.prepare(cfg, progress=False)
    region = (
        cv2.resize(shortcuts.lungs(store).astype(np.uint8), (64, 64), interpolation=cv2.INTER_NEAREST) > 0
    )
    lesions = np.array(store.masks).mean(0)
    assert lesions[region].sum() > 0.97 * lesions.sum()
    assert region.mean() < 0.75


def test_region_without_lungs_is_no_error(store):
    blank = dataclasses.replace(store, pixels=np.zeros_like(store.pixels))
    assert shortcuts.lungs(blank).shape == (shortcuts.SIDE, shortcuts.SIDE)


# --- the whole


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    return config.load("demo", root=tmp_path_factory.mktemp("audit"), n_boot=100)


@pytest.fixture(scope="module")
def audited(cfg, store):
    return audit.run(cfg, store)


def verdict(found: audit.Audit, check: str) -> str:
    return found.findings.set_index("check")["verdict"][check]


def test_findings_are_complete_sentences_with_verdicts(audited):
    table = audited.findings
    assert set(table["verdict"]) <= {"good", "caution", "bad", "info"}
    assert table["check"].is_unique
    assert table["result"].str.fullmatch(r"[A-Z0-9].*\.").all()
    # Every row of the notebook's first table has its sentence further down; phantoms are cut alike, so they lack that row.
    cells = json.loads((config.ROOT / "notebooks/01_data_audit.ipynb").read_text())["cells"]
    lines = [line for cell in cells for line in cell["source"] if line.startswith("Markdown(")]
    alone = {check for check in table["check"] if not check.startswith(("Shortcut", "Yardstick"))}
    for check in {*alone, "Cut of the originals"}:
        assert any(f'"{check}"' in line for line in lines), check
    assert not table["result"].str.contains("nan|None|<").any()  # a page would take <N> for a tag


def test_findings_of_clean_noise(audited):
    for check in ("Patients across splits", "Identical files", "Near duplicates", "Shift of test, all"):
        assert verdict(audited, check) == "good", audited.finding(check)
    assert verdict(audited, "How test was chosen") == "caution"
    assert (
        "0 of the 4 numbers of bacterial and viral test patients occur outside the test set too"
        in audited.finding("The naive patient key")
    )
    assert (
        "apart: no patient, as file names tell, crosses them, and no copy that the search finds (it finds"
        in findings.answer(audited)
    )


@pytest.mark.parametrize("share", [0, 0.25])
def test_figures_show_every_split(store, share):
    index = splits.split_calibration(store.index, share=share, seed=0)
    divided = dataclasses.replace(store, index=index)
    shown = ["train", "val", *(["calibration"] if share else []), "test"]
    means = plots.means(divided)
    assert [ax.get_title() for ax in means.axes if ax.get_title()][: len(shown) + 1] == [
        *shown,
        "test - train",
    ]
    legend = plots.numbering(divided).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == shown
    assert plots.samples(divided, seed=0).axes
    assert set(audit.counts(divided).reset_index()["split"]) == set(shown)


def test_run_repeats_itself(cfg, store, audited):
    pd.testing.assert_frame_equal(audit.run(cfg, store).findings, audited.findings)


def with_copy(audited, first: int, second: int) -> audit.Audit:
    """The audit with the image of `first` copied to `second`; nothing else in it is measured again."""
    copied = planted(audited.store, first, second)
    return dataclasses.replace(audited, store=copied, duplicates=duplicates.find(copied))


def test_copy_across_splits_is_bad(audited, store):
    found = with_copy(audited, row(store, "virus-2"), row(store, "IM-9"))
    assert verdict(found, "Identical files") == "bad"
    assert "1 across splits, 1 with conflicting labels, 1 across patients (IM-9 = virus-2)" in found.finding(
        "Identical files"
    )
    assert "in doubt (identical files)" in findings.answer(found)


def test_copies_within_a_split_do_not_put_the_splits_in_doubt(audited, store):
    normal, ill = (
        np.flatnonzero((store.index["split"] == "train") & (store.index["label"] == label))[0]
        for label in (0, 1)
    )
    found = with_copy(audited, normal, ill)
    assert verdict(found, "Identical files") == "bad"
    said = findings.answer(found)
    assert said.startswith("The splits are apart: no patient, as file names tell, crosses them")
    assert "copies of one image have different labels (1 times)" in said


def test_recompressed_copy_across_splits_is_bad(cfg, store):
    found = audit.run(cfg, planted(store, row(store, "virus-2"), row(store, "virus-9"), rejpeg))
    assert verdict(found, "Near duplicates") == "bad"
    assert "1 pairs of copies besides identical files (1 across splits, 0 with" in found.finding(
        "Near duplicates"
    )


def found_of(audited, finding, **changed):
    """(result, verdict) of one finding of the audit with other results in it."""
    _, said, verdict = finding(dataclasses.replace(audited, **changed))
    return said, verdict


def auc(low: float, high: float) -> Interval:
    return Interval((low + high) / 2, low, high, 0.95, 100, 50)


def other(audited, **columns) -> PixelStore:
    """The audited store with other values of the first two rows."""
    index = audited.store.index.copy()
    for column, values in columns.items():
        index.loc[index.index[:2], column] = values
    return dataclasses.replace(audited.store, index=index)


@pytest.mark.parametrize(
    ("columns", "verdict", "said"),
    [
        ({"patient": ["IM-1", "IM-2"]}, "caution", "0 across splits, 0 with conflicting labels, 1 across patients (IM-1 = IM-2)"),
        ({"split": ["train", "test"]}, "bad", "1 across splits, 0 with"),
        ({"label": [0, 1]}, "bad", "0 across splits, 1 with conflicting labels, 0 across patients."),
    ],
)  # fmt: skip
def test_identical_files(audited, columns, verdict, said):
    same = {"sha256": "same", "split": "train", "label": 0, "patient": "IM-1"}
    result, found = found_of(audited, copied.identical, store=other(audited, **(same | columns)))
    assert said in result
    assert found == verdict


@pytest.mark.parametrize(
    ("columns", "verdict", "said"),
    [
        ({"patient": ["IM-1", "IM-2"]}, "caution", "(0 across splits, 0 with conflicting labels, 1 across patients)"),
        ({"split": ["train", "test"]}, "bad", "(1 across splits, 0 with"),
        ({"label": [0, 1]}, "bad", "(0 across splits, 1 with conflicting labels, 0"),
    ],
)  # fmt: skip
def test_near_duplicates(audited, columns, verdict, said):
    pair = pd.DataFrame(
        [{"first": 0, "second": 1, "correlation": 0.95, "identical": False, "mirrored": False}]
    )
    alike = duplicates.Duplicates(pair, 0.6, 0.9)
    same = {"split": "train", "label": 0, "patient": "IM-1"}
    changed = {"store": other(audited, **(same | columns)), "duplicates": alike}
    result, found = found_of(audited, copied.alike, **changed)
    assert said in result
    assert found == verdict
    none = found_of(audited, copied.alike, duplicates=dataclasses.replace(alike, pairs=pair.iloc[:0]))
    assert none[1] == "good"
    unclear = dataclasses.replace(alike, low=0.80, high=0.82)
    result, found = found_of(audited, copied.alike, duplicates=unclear)
    assert "(the widest lies between 0.800 and 0.820), so only correlations above 0.99 count" in result
    assert found == "caution"


@pytest.mark.parametrize(
    ("name", "interval", "check", "verdict", "said"),
    [
        ("edge", auc(0.85, 0.95), "Shortcut: border and corners", "bad", "can well be told without looking where lungs usually are"),
        ("edge", auc(0.55, 0.65), "Shortcut: border and corners", "caution", "can in part be told"),
        ("edge", auc(0.45, 0.65), "Shortcut: border and corners", "good", "is not seen to be told by it: AUC 0.550 [0.450, 0.650] on test."),
        ("edge", auc(0.45, 0.85), "Shortcut: border and corners", "caution", "too few images to rule it out"),
        ("edge", auc(0.1, 0.3), "Shortcut: border and corners", "caution", "can in part be told"),
        ("edge", auc(0.15, 0.55), "Shortcut: border and corners", "caution", "too few images to rule it out"),
        ("cut", auc(0.85, 0.95), "Shortcut: whole JPEG blocks of the original", "bad", "can well be told without looking at the lungs"),
        ("bytes", auc(0.85, 0.95), "Yardstick: length of the file", "info", "lungs included"),
        ("thumbnail", auc(0.85, 0.95), "Yardstick: 16 x 16 thumbnail", "info", "needs no fine structure"),
        ("gray", None, "Yardstick: mean and spread of gray", "info", "cannot be asked"),
    ],
)  # fmt: skip
def test_probes_in_words(name, interval, check, verdict, said):
    found = apart.probe(name, pd.Series({"test": interval}))
    assert (found[0], found[2]) == (check, verdict)
    assert said in found[1]


def test_blocks_in_words(audited):
    blocky = audited.blocks.assign(z=[-3.1, *[2.0] * (len(audited.blocks) - 1)])
    assert "set is made of blocks" in found_of(audited, findings._blocks, blocks=blocky)[0]
    said, verdict = found_of(audited, findings._blocks, blocks=blocky.assign(z=-2.9))
    assert "made of blocks" in said and verdict == "caution", "four series together, though none by itself"
    said, verdict = found_of(audited, findings._blocks, blocks=blocky.assign(z=-1.4))
    assert "is not seen to be made of blocks of the numbering" in said and verdict == "good"


@pytest.mark.parametrize(
    ("test", "val", "verdict", "blind"),
    [
        (auc(0.6, 0.7), auc(0.45, 0.55), "caution", True),
        (auc(0.6, 0.7), auc(0.6, 0.7), "caution", False),
        (auc(0.45, 0.55), auc(0.45, 0.55), "good", False),
        (auc(0.45, 0.55), auc(0.4, 0.85), "caution", False),
        (None, None, "info", False),
    ],
)
def test_shift_in_words(audited, test, val, verdict, blind):
    shifts = audited.shift | {("test", None): test, ("val", None): val}
    said, found = found_of(audited, apart.validation, shift=shifts)
    assert found == verdict
    assert ("cannot be seen there" in said) == blind
    _, said, found = apart.told_apart("Shift", test, "a from b")
    differ = test is not None and test.low > 0.5
    assert ("they differ." in said) == differ
    assert found == ("info" if test is None else "caution" if differ else "good")
    few = apart.told_apart("Shift", auc(0.35, 0.86), "a from b")
    assert (
        few[1].endswith("are not seen to differ; these are too few images to rule it out.")
        and few[2] == "caution"
    )


def test_differences_in_words(audited):
    """By chance one in twenty excludes zero; more of them, or a large one, is a caution."""
    small, none = (
        Interval((low + high) / 2, low, high, 0.95, 100, 50) for low, high in ((0.1, 0.3), (-0.1, 0.3))
    )
    names = list(shift.NAMES)[:10]

    def found(clear: int, by: Interval = small) -> tuple[str, str]:
        rows = [(0, name, by if k < clear else none) for k, name in enumerate(names)]
        table = pd.DataFrame(rows, columns=["label", "measurement", "difference"])
        return found_of(audited, apart.differences, differences=table)

    said, verdict = found(2)
    assert said.startswith(
        "2 of 10 differences between test and train exclude 0; the largest of normal images"
    )
    assert f"is {shift.NAMES[names[0]]}, {small} standard deviations." in said
    assert verdict == "caution"
    assert found(1)[1] == found(0)[1] == "good"
    for low, high in ((1.4, 1.6), (-1.6, -1.4)):
        assert found(1, Interval((low + high) / 2, low, high, 0.95, 100, 50))[1] == "caution"
    assert found(0)[0] == "0 of 10 differences between test and train exclude 0."


@pytest.mark.parametrize(
    ("within", "across", "said"),
    [
        (
            auc(0.17, 0.20),
            auc(-0.01, 0.02),
            "so the number alone is no patient, though up to 12% of such numbers may be one.",
        ),
        (
            auc(0.17, 0.20),
            auc(-0.03, -0.01),
            "so the number alone is no patient, though up to 0% of such numbers may be one.",
        ),
        (auc(0.17, 0.20), auc(0.08, 0.12), "so some of the numbers that both kinds have may be one patient."),
        (auc(0.01, 0.20), auc(-0.01, 0.12), "which does not settle"),
    ],
)
def test_the_bare_number_in_words(audited, within, across, said):
    kinship = {"within a kind": within, "across kinds": across}
    numbers = dataclasses.replace(audited.naive, kinship=kinship)
    ill, both = found_of(audited, findings._naive, naive=numbers)
    assert said in ill
    normal, verdict = found_of(audited, findings._naive_normal, naive_normal=numbers)
    assert said in normal and "normal test patients" in normal
    assert verdict == both == ("caution" if across.low > 0 else "info")
    asked = dataclasses.replace(audited, naive=numbers, naive_normal=numbers)
    assert ("some children may have a number in two series" in findings.answer(asked)) == (across.low > 0)
    apart = dataclasses.replace(numbers, both=0)
    assert findings._naive_normal(dataclasses.replace(audited, naive_normal=apart)) is None


def test_patients_across_splits_in_words(audited):
    said, verdict = found_of(audited, findings._patients)
    assert "0 of 16 test patients have images outside the test set; 0 of 64 patients" in said
    assert verdict == "good"
    index = audited.store.index.copy()
    index.loc[
        np.flatnonzero(index["patient"] == index.loc[index["split"] == "train", "patient"].iloc[0])[0],
        "split",
    ] = "val"
    crossing = dataclasses.replace(audited.store, index=index)
    said, verdict = found_of(audited, findings._patients, store=crossing)
    assert "; 1 of 64 patients are in more than one split" in said
    assert verdict == "bad"
    index.loc[index["split"] == "val", "split"] = "test"
    said, verdict = found_of(audited, findings._patients, store=dataclasses.replace(crossing, index=index))
    assert "1 of " in said and "test patients have images outside the test set" in said and verdict == "bad"


def test_counts_of_the_published_set(audited):
    rows = [
        (split, label, f"{split}-{label}-{k}")
        for (split, label), n in splits.PUBLISHED.items()
        for k in range(n)
    ]
    index = pd.DataFrame(rows, columns=["split", "label", "image"])
    index.loc[index.index[:3], "split"] = ["val", "val", "calibration"]  # taken from train
    real = dataclasses.replace(audited.store, index=index, source={"kind": "zip", "name": "x.zip"})
    said, verdict = found_of(audited, findings._images, store=real)
    assert "are those of the published set" in said
    assert verdict == "good"
    fewer = dataclasses.replace(real, index=index.iloc[1:])
    said, verdict = found_of(audited, findings._images, store=fewer)
    assert "are not those of the published set" in said
    assert verdict == "caution"


def test_answer_in_words(audited):
    probes = audited.probes.set_index(["probe", "split"])

    def answered(test: Interval, lungs: Interval) -> str:
        probes.at[("no lungs", "test"), "auc"] = lungs
        changed = {"shift": audited.shift | {("test", None): test}, "probes": probes.reset_index()}
        return findings.answer(dataclasses.replace(audited, **changed))

    said = answered(auc(0.6, 0.7), auc(0.8, 0.9))
    assert "the test set is not drawn like the training set" in said
    assert "pneumonia can be told from test images with the usual place of the lungs blacked out" in said
    assert "pneumonia can be told from" in answered(auc(0.6, 0.7), auc(0.1, 0.3)), "the other way round"
    said = answered(auc(0.45, 0.7), auc(0.4, 0.9))
    assert "is not seen to differ from the training set" in said
    assert "pneumonia is not seen to be told" in said


def test_set_without_patients(cfg, store):
    index = store.index.assign(patient=store.index["image"])
    source = {"kind": "npz", "name": "pneumoniamnist.npz", "patients": False}
    found = audit.run(cfg, dataclasses.replace(store, index=index, source=source))
    assert verdict(found, "Patients across splits") == "bad"
    assert verdict(found, "Images per patient") == "caution"
    assert "one child may be on both sides of a fold" in found.finding("Images per patient")
    assert "carries no patient ids" in found.finding("Patients across splits")
    naive = ("The naive patient key", "The naive patient key, normal")
    assert found.sentences(*naive, "How test was chosen") == []
    assert "in doubt (patients across splits)" in findings.answer(found)
    json.dumps(found.record())


def squashed(store, monkeypatch, shape) -> PixelStore:
    """The store as a squashed copy of originals whose (width, height) is `shape(row of the index)`."""
    known = {PurePosixPath(row.image).stem: shape(row) for row in store.index.itertuples()}
    monkeypatch.setattr(originals, "sizes", lambda: known)
    index = store.index.assign(width=SIZE, height=SIZE)
    return dataclasses.replace(store, index=index, source=store.source | {"kind": "zip"})


def test_squashed_copy_is_told_by_the_sizes_of_its_originals(audited, store, monkeypatch):
    lower = squashed(store, monkeypatch, lambda row: (1200 + len(row.image), 800 if row.label else 1000))
    said, verdict = found_of(audited, findings._sizes, store=lower)
    assert said.startswith(f"The images are {SIZE} x {SIZE} (")
    assert "a squashed copy; the originals are 1,2" in said
    assert re.search(
        r"1\.2\d of normal and 1\.5\d of pneumonia images outside the test set, 1\.2\d and 1\.5\d in it", said
    )
    assert verdict == "caution"
    probed = shortcuts.probes(lower, n_boot=50, seed=0).set_index(["probe", "split"])["auc"]
    assert probed["size", "test"].estimate == probed["size", "val"].estimate == 1
    assert shift.measure(lower)["height"].tolist() == [800 if ill else 1000 for ill in lower.index["label"]]


def test_ways_of_exporting_that_go_with_the_class_are_told(audited, store, monkeypatch):
    apart = squashed(
        store, monkeypatch, lambda row: (1200, 800) if row.label else (1201 + len(row.image), 803)
    )
    said, verdict = found_of(audited, findings._cuts, store=apart)
    assert (
        "in 100.0% of pneumonia and 0.0% of normal images outside the test set, 100.0% and 0.0% in it: "
        in said
    )
    assert verdict == "bad"
    probed = shortcuts.probes(apart, n_boot=50, seed=0).set_index(["probe", "split"])["auc"]
    assert probed["cut", "test"].estimate == 1
    alike = squashed(store, monkeypatch, lambda row: (1200, 800) if row.Index % 2 else (1201, 803))
    said, verdict = found_of(audited, findings._cuts, store=alike)
    assert verdict == "info" and "not cut alike" not in said
    assert findings._cuts(dataclasses.replace(audited, store=store)) is None


@pytest.mark.parametrize("added", [True, False])
def test_a_copy_with_images_added_does_not_pass_for_one_of_known_originals(
    audited, store, monkeypatch, added
):
    """Squares without a published name keep their own size, and 40 is a multiple of 8."""
    mixed = squashed(store, monkeypatch, lambda row: (1201 + len(row.image), 803))
    rows = mixed.index["label"].eq(0).to_numpy() & (np.arange(len(mixed.index)) % 2 == 0) & added
    names = np.where(
        rows, mixed.index["image"].str.replace("IM-", "aug_IM-", regex=False), mixed.index["image"]
    )
    mixed = dataclasses.replace(mixed, index=mixed.index.assign(image=names))
    (sizes, _), (cuts, verdict) = (
        found_of(audited, check, store=mixed) for check in (findings._sizes, findings._cuts)
    )
    told = f"known of {len(rows) - rows.sum():,} of the {len(rows):,} square images"
    assert (told in sizes) == (told in cuts) == added
    assert verdict == ("caution" if added else "info")


def test_a_pair_across_splits_that_is_nearly_a_copy_is_told(audited, store):
    first, second = row(store, "virus-2"), row(store, "virus-9")
    pairs = pd.DataFrame(
        {
            "first": [first],
            "second": [second],
            "correlation": [0.85],
            "identical": [False],
            "mirrored": [False],
        }
    )
    for low, said in ((0.85, True), (0.5, False)):
        alike = duplicates.Duplicates(pairs.assign(correlation=low if said else 0.75), 0.85, 1.0)
        text, verdict = found_of(audited, copied.alike, duplicates=alike)
        assert (
            "The most alike pair across splits that does not count as copies correlates 0.850." in text
        ) == said
        assert verdict == ("caution" if said else "good")


def test_what_was_not_taken_from_a_source_is_told(audited):
    store = dataclasses.replace(audited.store, source=audited.store.source | {"left_out": "500 with .dcm"})
    said, verdict = found_of(audited, findings._images, store=store)
    assert "; not taken from there: 500 with .dcm" in said and verdict == "caution"


def test_copy_whose_originals_are_not_known_says_so(audited, store):
    index = store.index.assign(width=SIZE, height=SIZE)
    said, verdict = found_of(audited, findings._sizes, store=dataclasses.replace(store, index=index))
    assert (
        said
        == f"Every image is {SIZE} x {SIZE} ({len(index)} L): this copy no longer shows the shapes of the originals."
    )
    assert verdict == "caution"


def test_originals_are_told_by_their_own_sizes(audited, store):
    index = store.index.assign(
        width=np.where(store.index["label"], 60, 50), height=np.where(store.index["label"], 40, 45)
    )
    said, verdict = found_of(audited, findings._sizes, store=dataclasses.replace(store, index=index))
    assert said == (
        f"The images ({len(index)} L) are 50 to 60 pixels wide and 40 to 45 high; their median width / height is 1.11 of normal and 1.50 of "
        "pneumonia images outside the test set, 1.11 and 1.50 in it."
    )
    assert verdict == "info"


def test_quarantined_images_are_counted(audited, store):
    out = store.index.iloc[:3].assign(status=["empty file", "damaged: x", "damaged: y"])
    found = dataclasses.replace(audited, store=dataclasses.replace(store, quarantined=out))
    assert "3 left out (2 x damaged; 1 x empty file)" in found.finding("Images")
    assert verdict(found, "Images") == "caution"


def test_unknown_check_names_the_known_ones(audited):
    with pytest.raises(KeyError, match="no check 'Lungs'; the checks are Images, Class balance"):
        audited.finding("Lungs")


def test_record_is_plain(audited):
    record = json.loads(json.dumps(audited.record()))
    assert [finding["check"] for finding in record["findings"]] == list(audited.findings["check"])
    assert record["counts"][0].keys() == {
        "split",
        "label",
        "subtype",
        "images",
        "patients",
        "most of one patient",
    }


def test_counts_begin_with_train(store):
    table = audit.counts(store)
    assert list(dict.fromkeys(table.index.get_level_values("split"))) == ["train", "val", "test"]
    assert table["images"].sum() == len(store.index)
    assert (table["most of one patient"] == 2).all()


def test_every_figure_draws(audited, store):
    copied = planted(store, row(store, "virus-2"), row(store, "IM-9"), np.fliplr)
    pairs = duplicates.find(copied)
    drawn = [
        plots.samples(store, seed=0), plots.means(store), plots.sizes(store), plots.numbering(store), plots.gap(pairs),
        plots.pairs(copied, duplicates.examples(pairs, copied.index)), plots.differences(audited.differences),
        plots.shift(audited.shift), plots.probes(audited.probes), plots.regions(store),
    ]  # fmt: skip
    for one in drawn:
        figure = one.get_figure(root=True) if isinstance(one, matplotlib.axes.Axes) else one
        figure.canvas.draw()
        matplotlib.pyplot.close(figure)
