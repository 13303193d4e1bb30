import copy
import dataclasses
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib import ablation, config, evaluate, files, measured, metrics, publish, runs, store
from lib.ablation import control, record
from lib.comparison import scored
from lib.config import ROOT
from lib.plots import style
from lib.publish import answer, documents, figure, foremost, sequence, size, verification
from lib.publish.results import PublishError, best, check_settings, interval, published

RESULTS = ROOT / "reports" / "results"


def table(seed: int, shift: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, 120)
    return pd.DataFrame(
        {
            "image": [f"image{i}" for i in range(120)],
            "patient": [f"IM-{i // 2}" for i in range(120)],
            "split": ["val"] * 40 + ["test"] * 80,
            "subtype": np.where(y, "viral", "normal"),
            "y_true": y,
            "logit": rng.normal(0, 1, 120) + shift * y,
        }
    )


@pytest.fixture(scope="module")
def drawn_once(tmp_path_factory):
    """Results of one profile, with the figure made from them."""
    results = tmp_path_factory.mktemp("results")
    folder = results / "quick"
    (folder / "predictions").mkdir(parents=True)
    for model, shift in (("xception_lstm", 3.0), ("custom_cnn_lstm", 1.5)):
        table(1, shift).to_csv(folder / "predictions" / f"{model}-seed42.csv", index=False)
        history = pd.DataFrame(
            {"epoch": [1, 2], "test_accuracy_optimistic": [0.8, 0.9], "seconds": [shift, 2 * shift]}
        )
        history.to_csv(folder / "predictions" / f"{model}-seed42.history.csv", index=False)
        about = {"duration_s": 60, "device": "a processor", "best_epoch": 1}
        about |= {"trainable_parameters": int(1e6 * shift), "total_parameters": int(2e6 * shift)}
        files.write_json(folder / "predictions" / f"{model}-seed42.run.json", about)
    rows = measured.headline(measured.of(evaluate.recorded(folder), n_boot=50)).to_dict("records")
    files.write_json(folder / "headline.json", {"n_boot": 50, "headline": rows})
    figure.draw(results)
    return results


@pytest.fixture
def results(drawn_once, tmp_path):
    return Path(shutil.copytree(drawn_once, tmp_path / "results"))


READINGS = [
    {"model": model, "seed": 42, "n": 80, "n_patients": 40, "reading": reading, "auc": 0.9}
    | {"difference": change, "difference_low": change - 0.1, "difference_high": change + 0.1}
    for model, least in (("xception_lstm", -0.3), ("custom_cnn_lstm", 0.05))
    for reading, change in (("reversed", least + 0.01), ("shuffled", least), ("levelled", least + 0.02))
]


READINGS += [
    {
        "model": model,
        "seed": 42,
        "n": 80,
        "n_patients": 40,
        "reading": "trained",
        "auc": auc,
        "difference": None,
    }
    for model, auc in (("xception_lstm", 0.97), ("custom_cnn_lstm", 0.91))
]


@pytest.fixture
def compared(results):
    """The same profile, in which notebook 04 was run."""
    folder = results / "quick"
    found = scored.stated(scored.recorded(folder, n_boot=50), READINGS)
    for row in found["costs"]:
        row["gflops"] = 9.0
    files.write_json(folder / "04_compare.json", found | {"readings": READINGS})
    (folder / "headline.json").unlink()
    return results


def test_figures_that_follow_from_their_predictions_are_verified(results):
    lines = verification.verify(results)
    assert len(lines) == 2
    assert "headline" in lines[0]
    assert "roc.svg" in lines[1]


def leaves(value, path=()):
    """Where the plain values of a JSON document stand."""
    if isinstance(value, (dict, list)):
        for key, one in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(one, (*path, key))
    else:
        yield path


def changed(document, path):
    """The document with one value made another: a word or a digit more, a missing number given."""
    again = copy.deepcopy(document)
    place = again
    for key in path[:-1]:
        place = place[key]
    value = place[path[-1]]
    if isinstance(value, bool):
        place[path[-1]] = not value
    elif isinstance(value, str):
        place[path[-1]] = value + "x"
    else:
        place[path[-1]] = 1.0 if value is None or np.isnan(value) else value * 1.001 + 1e-5
    return again


def check_every_value(folder: Path, name: str) -> set:
    """Change each value of a recorded file alone; return the places of those whose change is not seen, by name where it is kept."""
    stated, again = verification._computed(folder, name)
    kept = verification.KEPT[name]
    unseen = set()
    for path in leaves(stated):
        try:
            verification._agree(name, changed(stated, path), again, kept)
            unseen.add(next((key for key in path if key in kept), path))
        except PublishError:
            pass
    return unseen


def test_every_value_of_a_comparison_is_verified_but_what_models_say(compared):
    assert "04_compare.json: " in verification.verify(compared)[0]
    unseen = check_every_value(compared / "quick", "04_compare.json")
    assert unseen == {"readings", "gflops"}


@pytest.mark.parametrize("change", [0.002, -0.002])
def test_a_sentence_of_what_models_say_follows_from_what_is_recorded_of_it(compared, change):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    said = found["answers"][scored.SEQUENCE]
    assert "by -0.300 [-0.400, -0.200] (seed 42, 80 test images; patients resampled)" in said
    found["readings"][1]["difference"] += change
    files.write_json(path, found)
    with pytest.raises(PublishError, match=scored.SEQUENCE.rstrip("?")):
        verification.verify(compared)


def test_a_word_in_place_of_a_figure_is_found(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    found["differences"][0]["error"] = "small"
    files.write_json(path, found)
    with pytest.raises(PublishError, match="differences: auc: error is 'small', the predictions give 0"):
        verification.verify(compared)
    files.write_json(path, found | {"n_boot": "many"})
    with pytest.raises(PublishError, match="n_boot is 'many'"):
        verification.verify(compared)


def test_what_nothing_computes_and_what_is_missing_is_found(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    files.write_json(path, found | {"praise": "the best"})
    with pytest.raises(PublishError, match="praise is recorded, and nothing computes it"):
        verification.verify(compared)
    files.write_json(path, {name: value for name, value in found.items() if name != "tests"})
    with pytest.raises(PublishError, match="tests is not recorded"):
        verification.verify(compared)


def test_a_small_p_value_is_verified_to_its_digits(compared):
    assert verification._same(1e-9, 1.0000001e-9, exact=True)
    assert not verification._same(1e-9, 2e-9, exact=True)


def test_what_follows_from_predictions_is_renewed_and_the_rest_kept(compared):
    path = compared / "quick" / "04_compare.json"
    before = files.read_json(path)
    found = copy.deepcopy(before)
    found["conclusion"], found["findings"], found["differences"] = "old words", [], []
    found["headline"][0]["auc"] = 0.5
    found["costs"][0] |= {"parameters": 0, "gflops": 7.0}
    found["answers"] = {scored.SEQUENCE: "old words"}
    files.write_json(path, found | {"gone": 1})
    assert verification.renew(compared) == ["quick: 04_compare.json renewed"]
    before["costs"][0]["gflops"] = 7.0
    assert json.dumps(files.read_json(path)) == json.dumps(before)
    assert verification.renew(compared) == ["quick: 04_compare.json is as it was"]
    assert verification.verify(compared)


def test_readme_and_card_say_what_the_trained_models_read_in_their_tokens(compared):
    folders = [compared / "nothing", compared / "quick"]
    said = sequence.relied_on(folders)
    assert said in documents.render(compared)
    assert said in documents.model_card(compared)
    assert "(`quick`, seed 42, 80 test images)" in said
    assert "| Tokens | Xception-LSTM | Custom CNN-LSTM |" in said
    assert (
        "| each replaced by the image's mean token | -0.280 [-0.380, -0.180] | +0.070 [-0.030, +0.170] |\n| in a random order | -0.300 ["
    ) in said
    assert "| in reverse | -0.290 [-0.390, -0.190] |" in said
    assert "As trained they have 0.970 and 0.910 there." in said
    assert sequence.relied_on(folders[:1]) == ""


def test_a_sentence_of_models_that_are_gone_is_kept(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    found["answers"][scored.SEQUENCE] = "what was said"
    files.write_json(path, {name: value for name, value in found.items() if name != "readings"})
    verification.renew(compared)
    assert files.read_json(path)["answers"][scored.SEQUENCE] == "what was said"
    assert verification.verify(compared)


def test_a_comparison_of_one_model_is_refused(compared):
    for path in (compared / "quick" / "predictions").glob("custom_cnn_lstm*"):
        path.unlink()
    with pytest.raises(ValueError, match="keeps no predictions of custom_cnn_lstm"):
        verification.verify(compared)


def test_a_figure_that_shows_something_else_is_found(results):
    path = results / "roc.svg"
    svg = path.read_text()
    lines = svg.splitlines()
    curve = next(k for k, line in enumerate(lines) if 'id="line2d_14"' in line)  # the first model's
    x, y = lines[curve + 40].split()[1:]
    lines[curve + 40] = f"L {x} {float(y) - 1} "
    for other in ("<svg></svg>", "no figure", "\n".join(lines), svg.replace("Xception-LSTM, AUC 0", "Xception-LSTM, AUC 1"),
                  svg.replace("stroke: #0072b2", "stroke: #e69f00")):  # fmt: skip
        assert other != svg
        path.write_text(other)
        with pytest.raises(PublishError, match=r"roc\.svg"):
            figure.verify(results)
    path.unlink()
    with pytest.raises(PublishError, match=r"roc\.svg is missing"):
        verification.verify(results)


def test_the_same_figure_in_the_letters_of_another_machine_is_the_same(results, monkeypatch):
    import matplotlib.pyplot as plt

    plain = style.use

    def other_letters():
        plain()
        plt.rcParams.update({"font.family": "serif", "font.serif": ["DejaVu Serif"], "font.size": 9})

    before = (results / "roc.svg").read_text()
    monkeypatch.setattr(style, "use", other_letters)
    figure.draw(results)
    monkeypatch.undo()
    assert (results / "roc.svg").read_text() != before
    assert figure.verify(results)


def test_a_figure_changed_by_hand_is_found_and_named(results):
    path = results / "quick" / "headline.json"
    found = files.read_json(path)
    found["headline"][1]["auc"] += 0.001
    files.write_json(path, found)
    with pytest.raises(PublishError, match="custom_cnn_lstm: auc is"):
        verification.verify(results)


def test_a_changed_prediction_is_found(results):
    path = results / "quick" / "predictions" / "xception_lstm-seed42.csv"
    changed = pd.read_csv(path)
    changed.loc[60:80, "logit"] *= -1
    changed.to_csv(path, index=False)
    with pytest.raises(PublishError, match="xception_lstm: "):
        verification.verify(results)


@pytest.mark.parametrize("rows", [[], [0], [0, 0]])
def test_a_headline_that_lacks_a_model_or_has_one_twice_is_found(results, rows):
    path = results / "quick" / "headline.json"
    found = files.read_json(path)
    files.write_json(path, found | {"headline": [found["headline"][k] for k in rows]})
    with pytest.raises(PublishError, match=r"quick: headline\.json: headline has the rows"):
        verification.verify(results)


def test_nothing_published_is_an_error(tmp_path):
    with pytest.raises(PublishError, match="make publish"):
        verification.verify(tmp_path)


def test_the_readme_block_shows_every_model_with_its_interval(results):
    block = documents.render(results)
    row = files.read_json(results / "quick" / "headline.json")["headline"][0]
    assert f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]" in block
    assert "Custom CNN-LSTM" in block
    assert "DINO" in block


def test_the_readme_shows_the_best_of_each_model_and_the_original_protocol_and_the_card_every_recipe(results):
    found = files.read_json(results / "quick" / "headline.json")
    for name, rows in (("balanced", found["headline"]), ("matched", found["headline"][:1])):
        (results / name / "predictions").mkdir(parents=True)
        for path in (results / "quick" / "predictions").iterdir():
            if any(path.name.startswith(row["model"]) for row in rows):
                (results / name / "predictions" / path.name).write_bytes(path.read_bytes())
        files.write_json(results / name / "headline.json", found | {"headline": rows})
    listed = "| Xception-LSTM | {} | 1 |".format
    block, card = documents.render(results), documents.model_card(results)
    shown = [line.split("|")[1:3] for line in block.splitlines() if line.endswith("| 1 |")]
    assert shown == [
        [f" {model} ", f" {name} "]
        for name in ("balanced", "quick")
        for model in ("Xception-LSTM", "Custom CNN-LSTM")
    ]
    assert listed("matched") not in block
    assert all(listed(name) in card for name in ("balanced", "matched", "quick"))
    assert "Xception-LSTM (`matched`)" in card
    assert "(matched, 1 seed)" not in card  # in full are those that README shows


def test_the_readme_also_shows_the_recipe_that_pairs_chose_and_says_why(results):
    found = files.read_json(results / "quick" / "headline.json")
    for name in ("overlap", "refit"):
        (results / name / "predictions").mkdir(parents=True)
        for path in (results / "quick" / "predictions").glob("xception*"):
            (results / name / "predictions" / path.name).write_bytes(path.read_bytes())
        files.write_json(results / name / "headline.json", found | {"headline": found["headline"][:1]})
    shown = [(folder.name, row["model"]) for folder, row in foremost.rows(results)]
    xception, custom = "xception_lstm", "custom_cnn_lstm"
    assert shown == [("overlap", xception), ("quick", custom), ("refit", xception), ("quick", xception)]
    assert (
        "by the recipe that was made its primary one before its test figures were known, by the one whose settings validation on matched pairs chose "
        "(Xception-LSTM: `refit`, added when its test figures were known) and by the original study's protocol (`quick`, its short "
        "form for 2 cores); the first need not be the best." in documents.render(results)
    )
    same = foremost._at_sensitivity(results / "quick", xception)  # as all three have the same tables
    assert (
        f"it reaches {same} on test; `refit` by the same rule reaches {same}. The table's rule"
        in documents.render(results)
    )
    card = documents.model_card(results)
    for name in ("overlap", "quick", "refit"):
        assert f"| Xception-LSTM ({name}, 1 seed) |" in card
        assert card.count(f"### Operating points and subgroups, profile `{name}`") == 1


@pytest.mark.parametrize("count", [1, 5])
def test_the_readme_shows_the_recipe_on_centre_squares_once_its_seeds_are_complete(results, count):
    found = files.read_json(results / "quick" / "headline.json")
    for name, number in (("refit", 1), ("centre", count)):
        (results / name / "predictions").mkdir(parents=True)
        rows = [row | {"seeds": number} for row in found["headline"][:1]]
        files.write_json(results / name / "headline.json", found | {"headline": rows})
    shown = foremost.rows(results)
    assert [folder.name for folder, _ in shown] == [
        "refit",
        "quick",
        *(["centre"] if count == 5 else []),
        "quick",
    ]
    said = ", by the one on centre squares, as published figures of several seeds are (Xception-LSTM: `centre`) and by the original"
    assert (said in foremost.recipes(shown)) == (count == 5)
    assert ("squashed images, but for `centre`, whose squares" in foremost.squares(shown)) == (count == 5)


def test_the_recipe_that_pairs_chose_is_shown_once_where_it_is_the_first(results):
    (results / "quick" / "predictions").parent.rename(results / "refit")
    assert [folder.name for folder, _ in foremost.rows(results)] == ["refit", "refit"]
    assert (
        "Each model is shown by the recipe that was made its primary one before its test figures were known; the first need not be the best. "
        in documents.render(results)
    )


def test_the_readme_shows_one_roc_figure_of_both_models(results):
    drawn = (results / "roc.svg").read_text()
    rows = files.read_json(results / "quick" / "headline.json")["headline"]
    for row in rows:
        assert (
            f"{row['auc']:.3f} [{row['auc_low']:.3f}, {row['auc_high']:.3f}]"
            in documents.render(results).split("roc.svg")[0]
        )
    assert drawn.count("<svg") == 1
    (results / "matched" / "predictions").mkdir(parents=True)
    for path in (results / "quick" / "predictions").glob("xception*"):
        path.rename(results / "matched" / "predictions" / path.name)
    files.write_json(results / "matched" / "headline.json", {"n_boot": 50, "headline": rows[:1]})
    files.write_json(results / "quick" / "headline.json", {"n_boot": 50, "headline": rows[1:]})
    shown = {model: folder.name for model, (folder, _) in best(results).items()}
    assert shown == {"xception_lstm": "matched", "custom_cnn_lstm": "quick"}
    figure.draw(results)
    assert (results / "roc.svg").read_text() == drawn  # the same curves, wherever their tables lie
    assert "(profile matched); Custom CNN-LSTM" in documents.render(results)


def test_the_model_card_shows_every_operating_point_and_kind_of_image(results):
    card = documents.model_card(results)
    tables = evaluate.recorded(results / "quick")
    operating = measured.operating_table(measured.of(tables, n_boot=50))
    for row in operating.to_dict("records"):
        assert f"| {evaluate.POINTS[row['point']]} | {row['threshold']:.3f} | {row['accuracy']} |" in card
    for row in measured.subgroups(measured.of(tables, n_boot=50)).to_dict("records"):
        assert (
            f"| {row['subtype']} | {row['n']} | {row['n_patients']} | {row['measure']} | {row['share']} |"
            in card
        )


def test_the_model_card_compares_the_models_where_both_are_recorded(results):
    one_model = results / "matched" / "predictions"  # comes before quick, and has nothing to compare
    one_model.mkdir(parents=True)
    table(1, 2.0).to_csv(one_model / "xception_lstm-seed42.csv", index=False)
    files.write_json(one_model.parent / "headline.json", {"n_boot": 50, "headline": []})
    tests = {
        model: evaluate.part(own[0], "test") for model, own in evaluate.recorded(results / "quick").items()
    }
    first, second = (metrics.auc(tests[model]["y_true"], tests[model]["logit"]) for model in tests)
    (said,) = documents._between([one_model.parent, results / "quick"])
    assert "In profile `quick` (1 seed and 1 seed): AUC of Xception-LSTM is" in said
    assert f"is {first - second:.3f} higher than that of Custom CNN-LSTM" in said
    assert "DeLong's test rejects equality in 1 of 1 pairs of seeds" in said
    assert said in documents.model_card(results)
    (results / "quick" / "headline.json").rename(results / "quick" / "04_compare.json")
    assert documents._between([one_model.parent, results / "quick"]) == []  # notebook 04 says it


def test_the_readme_says_whether_the_threshold_carries_over(results):
    row = files.read_json(results / "quick" / "headline.json")["headline"][0]
    shown = interval(row, "specificity", ".1f", 100)
    held = evaluate.deciding(evaluate.recorded(results / "quick")["xception_lstm"][0])
    normal = (held["y_true"] == 0).sum()
    assert (
        f"% on the {normal} normal images among those that chose it, {shown}% on the test images"
        in documents.render(results)
    )


def test_the_readme_says_what_a_threshold_for_sensitivity_reaches(results):
    (first,) = evaluate.recorded(results / "quick")["xception_lstm"]
    cut = evaluate.thresholds(first)["sensitivity_95"]
    test = evaluate.part(first, "test")
    accuracy = ((test["probability"] >= cut) == test["y_true"]).mean()
    said = foremost.at_sensitivity(results)
    assert f"it reaches accuracy {100 * accuracy:.1f} [" in said
    assert "so reaches" not in said
    assert said in documents.render(results)


def test_the_card_says_what_the_seeds_reach_together(results):
    assert foremost.together(results) == ""  # one seed is no ensemble
    folder = results / "quick" / "predictions"
    second = table(1, 3.0).assign(logit=table(2, 3.0)["logit"])
    second.to_csv(folder / "xception_lstm-seed43.csv", index=False)
    mean = (table(1, 3.0)["logit"] + second["logit"]) / 2
    test = second.assign(logit=mean)[40:]
    said = documents.model_card(results)
    assert "The 2 seeds of Xception-LSTM (`quick`) as one model" in said
    assert f"test AUC {metrics.auc(test['y_true'], test['logit']):.3f} [" in said


def test_seeds_of_different_images_have_no_common_logit():
    with pytest.raises(ValueError, match="different images"):
        evaluate.together([table(1, 3.0), table(1, 3.0)[1:]])


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A profile with one recorded run of an older code, and one finished run that is not recorded yet."""
    cfg = config.load("quick", root=tmp_path, seeds=[42, 43])
    folder = cfg.results_dir / "predictions"
    folder.mkdir(parents=True)
    run = cfg.run_dir("xception_lstm", 43)
    run.mkdir(parents=True)
    about = {"model": "xception_lstm", "data_fingerprint": "the images", "config": dataclasses.asdict(cfg)}
    for path, seed in ((folder / "xception_lstm-seed42.", 1), (run / "x", 2)):
        stem = str(path).removesuffix("x")
        table(seed, 3.0).to_csv(stem + ("csv" if seed == 1 else "predictions.csv"), index=False)
        pd.DataFrame({"epoch": [1]}).to_csv(stem + "history.csv", index=False)
        files.write_json(Path(stem + "run.json"), about)
    monkeypatch.setattr(store, "prepare", lambda *_, **__: SimpleNamespace(fingerprint="the images"))
    monkeypatch.setattr(
        runs, "find",
        lambda cfg, model, seed, **_: SimpleNamespace(folder=run) if (model, seed) == ("xception_lstm", 43) else None,
    )  # fmt: skip
    return cfg


def test_collecting_keeps_what_is_recorded_of_other_seeds(recorded):
    folder = publish.collect(recorded)
    assert [len(tables) for tables in evaluate.recorded(folder).values()] == [2]
    assert files.read_json(folder / "headline.json")["headline"][0]["seeds"] == 2


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda info: info.update(data_fingerprint="other images"), False),
        (lambda info: info["config"]["train"].update(epochs=9), False),
        (lambda info: info["config"]["xception_lstm"].update(readout="mean"), False),
        (lambda info: info["config"]["train"].pop("stretch"), True),  # came later, and is at its default
        (lambda info: info["config"]["train"].pop("epochs"), False),  # came later, and is not
        (lambda info: info["config"]["explain"].update(steps=99), True),  # shapes no prediction
    ],
)
def test_collecting_loses_what_other_images_or_settings_have_given_only_when_told(recorded, change, kept):
    path = recorded.results_dir / "predictions" / "xception_lstm-seed42.run.json"
    info = files.read_json(path)
    change(info)
    files.write_json(path, info)
    if not kept:
        before = sorted((file.name, file.read_bytes()) for file in path.parent.iterdir())
        with pytest.raises(
            publish.PublishError, match=r"would be lost \(xception_lstm-seed42\): nothing was changed"
        ):
            publish.collect(recorded)
        assert sorted((file.name, file.read_bytes()) for file in path.parent.iterdir()) == before
    assert len(evaluate.recorded(publish.collect(recorded, drop=True))["xception_lstm"]) == 1 + kept


def drawn(seed: int, head: int, images: pd.DataFrame, lift: float) -> np.ndarray:
    noise = np.random.default_rng([seed, head]).normal(size=len(images))
    return noise + (1.5 + lift * head) * images["y_true"].to_numpy()


def asked(
    folder: Path, lift: float, *, heads=("mean-mlp", "lstm-raster"), regime="finetuned", model=None
) -> Path:
    """A profile whose ablation is recorded, its LSTM better by `lift`; without a model, as before the custom one could be asked."""
    images = table(0, 0)
    tables = {
        name: pd.concat([images.assign(seed=seed, logit=drawn(seed, k, images, lift)) for seed in (42, 43)])
        for k, name in enumerate(heads)
    }
    folder.mkdir(parents=True)
    ablation.write(folder / "ablation", tables)
    return stated(folder, regime, model)


def stated(folder: Path, regime: str, model: str | None = None) -> Path:
    """Record what the ablation's predictions give, and of each variant what they do not tell."""
    found = record.recorded(folder / "ablation", n_boot=100)
    for row in found["headline"]:
        row |= {"parameters": 1000, "val_auc": 0.9, "seconds": 2.0}
    told = {"regime": regime, "data_fingerprint": "images"} | ({"model": model} if model else {})
    files.write_json(folder / "06_ablation.json", found | told)
    return folder


def at_length(folders: list[Path]) -> str:
    return "\n\n".join(answer.at_length(folders))


def test_the_readme_takes_all_recipes_together_that_asked_whether_the_lstm_helps(tmp_path):
    one, two = asked(tmp_path / "balanced", 0.2), asked(tmp_path / "tuned", 0.8)
    silent = asked(tmp_path / "quick", 0.5, heads=("mean-mlp", "token-mean"))
    alone = at_length([one, silent])
    assert "| balanced | 2 |" in alone
    assert "quick" not in alone and "recipes" not in alone
    both = at_length([one, silent, two])
    gaps = [
        ablation.analyse(ablation.read(f / "ablation"), n_boot=100).row("lstm-raster")["difference"]
        for f in (one, two)
    ]
    table, found, read = alone.split("\n\n")[1:]
    assert found.startswith("Of all heads, token orders and read-outs that were tried")
    assert both.split("\n\n")[1::2] == [table, read]
    assert (
        "With the backbone trained along, over the 2 recipes that were asked (`balanced`, `tuned`; 4 runs of each head) the difference to mean-pooling is "
        f"{np.mean(gaps):+.4f} [" in both
    )


CUSTOM = "custom_cnn_lstm"
OF_CUSTOM = ("mean-mlp", "token-mean", "lstm-raster", "lstm-shuffle")


def effects_of(folder: Path) -> ablation.Effects:
    return ablation.analyse(ablation.read(folder / "ablation"), n_boot=100)


def written(difference: float, low: float, high: float) -> str:
    return f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"


def gap_of(folder: Path, variant: str = "lstm-raster") -> str:
    row = effects_of(folder).row(variant)
    return written(row["difference"], row["adjusted_low"], row["adjusted_high"])


def helps(folder: Path) -> str:
    """The verdict's first words, as README gives them."""
    said = files.read_json(folder / "06_ablation.json")["answers"][ablation.HELPS].split(".")[0]
    return said[0].lower() + said[1:]


def line_of(folder: Path, name: str, *, beyond: str = "", orders: str = "") -> str:
    """The row that README's table has of one profile's LSTM."""
    effects = effects_of(folder)
    (auc,) = effects.auc.loc[effects.auc["variant"] == "lstm-raster", "auc"]
    count = f" (1 of {len(effects.heads)})" if len(effects.heads) > 1 else ""
    return (
        f"| {name} | {folder.name} | 2 | {auc:.3f} | {helps(folder)} | {gap_of(folder)}{count} | "
        f"{detectable(folder)} | {beyond} | {orders} |"
    )


def detectable(folder: Path) -> str:
    return f"{effects_of(folder).row('lstm-raster')['detectable']:.3f}"


def table_of(folders: list[Path]) -> list[str]:
    return [line for line in at_length(folders).splitlines() if line.startswith("| ")][2:]


TRAINED, CUSTOM_TRAINED = (
    f"{name}, with the backbone trained along" for name in ("Xception-LSTM", "Custom CNN-LSTM")
)


def test_where_one_model_was_asked_the_readme_says_that_the_other_was_not(tmp_path):
    one = asked(tmp_path / "tuned", 0.2)
    frozen = asked(tmp_path / "quick", 0.5, regime="frozen", model="xception_lstm")
    assert {helps(one), helps(frozen)} == {"not shown"}
    assert answer.in_short([one, frozen]) == (
        "**Does the LSTM help?** Not shown for Xception-LSTM; the custom CNN-LSTM has not been asked. The test AUC with an LSTM minus that with "
        f"mean-pooling and as many weights is {gap_of(one)} for Xception-LSTM (`tuned`), where {detectable(one)} would have been detected (80% power)."
    )
    assert table_of([one, frozen]) == [
        line_of(one, TRAINED),
        line_of(frozen, "Xception-LSTM, on frozen features"),
    ]
    custom = asked(tmp_path / "custom", 0.3, model=CUSTOM)
    assert "Not shown for the custom CNN-LSTM; Xception-LSTM has not been asked. " in answer.in_short(
        [custom]
    )
    assert answer.in_short([]) == at_length([]) == ""


def test_each_answer_says_of_which_model_it_is_where_both_were_asked(tmp_path):
    custom = asked(tmp_path / "custom", 0.3, heads=OF_CUSTOM, model=CUSTOM)
    one, frozen = asked(tmp_path / "tuned", 0.2), asked(tmp_path / "quick", 0.5, regime="frozen")
    (shuffled,) = effects_of(custom).orders.to_dict("records")
    (beyond,) = effects_of(custom).beyond.to_dict("records")
    apart = written(beyond["difference"], beyond["adjusted_low"], beyond["adjusted_high"])
    added = written(-shuffled["difference"], -shuffled["adjusted_high"], -shuffled["adjusted_low"])
    assert shuffled["difference"] > 0  # so that a sign that was left as recorded is seen
    verdicts = {helps(folder) for folder in (custom, one, frozen)}
    assert verdicts == {"not shown"}  # so that it can be said in short
    assert answer.in_short([custom, one, frozen]) == (
        "**Does the LSTM help?** Not shown for either model. The test AUC with an LSTM minus that with mean-pooling and as many weights is "
        f"{gap_of(one)} for Xception-LSTM (`tuned`) and {gap_of(custom)} for the custom CNN-LSTM (`custom`), where {detectable(one)} and "
        f"{detectable(custom)} would have been detected (80% power)."
    )
    own = line_of(custom, CUSTOM_TRAINED, beyond=apart, orders=added)
    assert table_of([custom, one, frozen]) == [
        line_of(one, TRAINED),
        line_of(frozen, "Xception-LSTM, on frozen features"),
        own,
    ]
    few = asked(tmp_path / "balanced", 0.3, model=CUSTOM)
    assert table_of([one, few])[1] == line_of(few, CUSTOM_TRAINED)  # it had neither
    # Where another profile than the first has them, it is named.
    places = (f"{own} (`custom`)" for own in (apart, added))
    beyond, orders = places
    assert table_of([few, custom]) == [line_of(few, CUSTOM_TRAINED, beyond=beyond, orders=orders)]


def test_recipes_of_one_model_are_not_taken_together_with_those_of_the_other(tmp_path):
    xception = [asked(tmp_path / name, lift) for name, lift in (("calibrated", 0.2), ("tuned", 0.5))]
    custom = [
        asked(tmp_path / name, lift, model=CUSTOM) for name, lift in (("custom", 2.0), ("reframed", 3.0))
    ]
    said = at_length([xception[0], custom[0], custom[1], xception[1]])
    first, second = said.split(" Of the custom CNN-LSTM, with the backbone trained along, over the ")
    for part, folders in ((first, xception), (second, custom)):
        names = ", ".join(f"`{folder.name}`" for folder in folders)
        mean = np.mean([effects_of(folder).row("lstm-raster")["difference"] for folder in folders])
        assert (
            f"2 recipes that were asked ({names}; 4 runs of each head) the difference to mean-pooling is {mean:+.4f} ["
            in part
        )
    alone = at_length(xception).split("\n\n")[2].split(" Of all heads")[0]
    assert alone.removeprefix("With") == first.split("Of Xception-LSTM, with")[1]


def test_the_difference_over_all_recipes_is_said_without_the_original_protocol_too(tmp_path):
    folders = [
        asked(tmp_path / name, lift) for name, lift in (("calibrated", 0.2), ("tuned", 0.5), ("full", 2.0))
    ]
    gaps = [effects_of(folder).row("lstm-raster")["difference"] for folder in folders]
    said = at_length(folders)
    assert f"6 runs of each head) the difference to mean-pooling is {np.mean(gaps):+.4f} [" in said
    assert (
        f", and without the original protocol (`full`; a figure that came when the others were known) {np.mean(gaps[:2]):+.4f} ["
        in said
    )
    assert "without the original" not in at_length(folders[:2])
    assert "without the original" not in at_length(folders[2:])


def test_of_two_verdicts_neither_is_said_for_both(tmp_path):
    one, custom = asked(tmp_path / "tuned", 0.2), asked(tmp_path / "custom", 0.3, model=CUSTOM)
    assert "help?** Not shown for either model. The test AUC " in answer.in_short([one, custom])
    path = custom / "06_ablation.json"
    found = files.read_json(path)
    found["answers"][ablation.HELPS] = "Yes, a little. The rest."
    files.write_json(path, found)
    said = answer.in_short([one, custom])
    assert "help?** That depends on what is asked (The answer at length). The test AUC " in said
    assert f" is {gap_of(one)} for Xception-LSTM (`tuned`) and {gap_of(custom)} for the custom" in said
    assert [line.split(" | ")[4] for line in table_of([one, custom])] == ["not shown", "yes, a little"]


@pytest.mark.parametrize(
    ("differs", "recipes"),
    [
        ("xception_lstm.dropout", "the one recipe that was asked (`custom` with `reframed`"),
        ("custom_cnn_lstm.dropout_rate", "2 recipes that were asked (`custom`, `reframed`"),
    ],
)
def test_a_recipe_is_told_by_the_settings_of_its_model(tmp_path, monkeypatch, differs, recipes):
    folders = [asked(tmp_path / name, 0.5, model=CUSTOM) for name in ("custom", "reframed")]
    load = config.load
    monkeypatch.setattr(
        config, "load", lambda name: load("custom", **({differs: 0.9} if name == "reframed" else {}))
    )
    assert recipes in at_length(folders)


def test_the_model_card_says_the_same_of_the_custom_model_below_xception(tmp_path):
    custom = asked(tmp_path / "custom", 0.3, heads=OF_CUSTOM, model=CUSTOM)
    few = asked(tmp_path / "reframed", 0.4, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2)
    alone = "\n\n".join(sequence.answers([xception]))
    said = "\n\n".join(sequence.answers([custom, few, xception]))
    assert alone.startswith("### Does the sequence help?\n\nWith the backbone trained along (`tuned`):")
    assert "Every variant" not in alone
    first, second = said.split("Of the custom CNN-LSTM, with the backbone trained along (`custom`):\n\n")
    assert first.strip() == alone.replace("With the", "Of Xception-LSTM, with the")
    answered = files.read_json(custom / "06_ablation.json")["answers"]
    assert f"- {ablation.HELPS} {answered[ablation.HELPS]}\n" in second
    assert f"- {ablation.PATTERNS} " in second
    assert "Every variant of `custom`, mean of 2 seeds; " in second
    assert (
        f"| lstm-shuffle | 1,000 | {effects_of(custom).auc.set_index('variant')['auc']['lstm-shuffle']:.4f} |"
        in second
    )
    assert f"| {gap_of(few)} |" in second
    assert "tuned" not in second
    assert "Over the 2 recipes that were asked (`custom`, `reframed`; 4 runs" in second
    assert second.rstrip().endswith("were of Xception-LSTM.")  # which is no rival of the custom model's heads


def test_what_a_control_says_is_of_xception_first_and_mixes_no_models(tmp_path):
    heads = ("mean-mlp", "lstm-raster", control.LSTM)
    custom = asked(tmp_path / "custom", 0.9, heads=heads, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2, heads=heads)
    seen = SEEN - {("relation", "lstm-raster")}
    for folder in (custom, xception):
        controlled(folder, gains=seen)
    alone, own = sequence.left_open([xception]), sequence.left_open([custom])
    assert "(Xception-LSTM, `tuned`, with the backbone trained along)" in alone
    assert "(Custom CNN-LSTM, `custom`, with the backbone trained along)" in own
    for said in (sequence.left_open, sequence.known_truth):
        assert said([custom, xception]) == said([xception])
    assert "(synthetic chests, `tuned`):" in "".join(sequence.answers([custom, xception]))
    frozen = asked(
        tmp_path / "quick", 0.2, regime="frozen"
    )  # it has no largest read-out, which the custom one's is not for
    controlled(frozen, gains=seen)
    assert "largest value" not in sequence.known_truth([custom, frozen])


def test_heads_with_the_size_balanced_are_those_of_xception(tmp_path, monkeypatch):
    custom = asked(tmp_path / "custom", 0.9, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2)
    for folder in (custom, xception):
        files.write_json(folder / "headline.json", {"n_boot": 100, "headline": []})
    monkeypatch.setattr(size.acquisition, "sized", lambda table: table)
    monkeypatch.setattr(size.acquisition.overlap, "weights", lambda _, y, *, blocks: np.ones(len(y)))
    (said,) = size._heads([custom, xception])
    assert f"is {effects_of(xception).row('lstm-raster')['difference']:+.4f} [" in said
    assert "(`tuned`;" in said
    assert size._heads([custom]) == []


@pytest.fixture
def ablated(results):
    """The profile with an ablation of several orders beside its headline."""
    heads = ("mean-mlp", "token-mean", "lstm-raster", "lstm-reverse", "lstm-column", "lstm-shuffle")
    folder = asked(results / "quick" / "asked", 0.5, heads=heads)
    for name in ("ablation", "06_ablation.json"):
        (folder / name).rename(results / "quick" / name)
    folder.rmdir()
    return results / "quick"


def test_every_value_of_an_ablation_is_verified_but_what_predictions_do_not_tell(ablated):
    found = controlled(ablated, gains=SEEN)
    assert all(found[part] for part in ("findings", "orders", "beyond", "components", "per_seed", "checks"))
    assert "06_ablation.json: " in verification.verify(ablated.parent)[1]
    unseen = check_every_value(ablated, "06_ablation.json")
    assert unseen == {"regime", "data_fingerprint", "parameters", "val_auc", "seconds"}
    found["headline"][0]["reference"] = "another head"
    files.write_json(ablated / "06_ablation.json", found)
    with pytest.raises(PublishError, match="reference is 'another head', the predictions give"):
        verification.verify(ablated.parent)


def test_whose_heads_were_varied_is_recorded_and_weakens_no_other_comparison(ablated):
    path = ablated / "06_ablation.json"
    found = controlled(ablated, gains=SEEN) | {"model": "xception_lstm"}
    files.write_json(path, found)
    assert verification.verify(ablated.parent)
    assert check_every_value(ablated, "06_ablation.json") == {
        *("regime", "model", "data_fingerprint", "parameters", "val_auc", "seconds")
    }
    assert "quick: 06_ablation.json is as it was" in verification.renew(ablated.parent)
    kept = verification.KEPT["06_ablation.json"]
    _, again = verification._computed(ablated, "06_ablation.json")
    parts = [("answers",), ("components",), ("control",), ("control", "place")]
    rows = [("headline", 0), ("orders", 0), ("per_seed", 0), ("control", "place", "differences", 0)]
    for name in ("model", "regime", "data_fingerprint"):
        for place in (*parts, *rows):
            other = copy.deepcopy(found)
            functools.reduce(lambda part, key: part[key], place, other)[name] = "custom_cnn_lstm"
            with pytest.raises(PublishError):
                verification._agree("", other, again, kept)
            assert place in rows or verification._carried(other, again, kept) == found


def test_an_ablation_of_another_model_than_the_profile_s_is_refused(ablated):
    path = ablated / "06_ablation.json"
    files.write_json(path, files.read_json(path) | {"model": "custom_cnn_lstm"})
    message = r"quick: 06_ablation\.json is of custom_cnn_lstm, and the profile asks xception_lstm"
    with pytest.raises(PublishError, match=message):
        verification.verify(ablated.parent)
    ablated = ablated.rename(ablated.with_name("custom"))
    assert "custom: 06_ablation.json: " in verification.verify(ablated.parent)[1]
    stated(ablated, "finetuned")  # as one from before would be read
    with pytest.raises(PublishError, match="is of xception_lstm, and the profile asks custom_cnn_lstm"):
        verification.verify(ablated.parent)


def test_rows_that_lack_are_found(ablated):
    path = ablated / "06_ablation.json"
    found = files.read_json(path)
    files.write_json(path, found | {"headline": found["headline"][:1]})
    with pytest.raises(PublishError, match="headline has the rows lstm-"):
        verification.verify(ablated.parent)
    path.unlink()
    with pytest.raises(PublishError, match="holds predictions of an ablation and no 06"):
        verification.verify(ablated.parent)
    files.write_json(path, found)
    shutil.rmtree(ablated / "ablation")
    with pytest.raises(PublishError, match=r"holds 06_ablation\.json and no predictions of it"):
        verification.verify(ablated.parent)


def test_an_ablation_is_renewed_and_keeps_what_it_cost(ablated):
    path = ablated / "06_ablation.json"
    found = controlled(ablated, gains=SEEN)
    old = copy.deepcopy(found)
    old["checks"], old["answers"] = [], {ablation.HELPS: "old words"}
    old["headline"] = old["headline"][::-1]
    old["control"]["place"]["differences"][0]["adjusted_low"] = -9.0
    files.write_json(path, old)
    assert "quick: 06_ablation.json renewed" in verification.renew(ablated.parent)
    assert files.read_json(path) == found
    assert {row["seconds"] for row in found["headline"]} == {2.0}


def test_variants_are_told_in_the_order_of_the_grid(ablated):
    variants = [row["variant"] for row in files.read_json(ablated / "06_ablation.json")["per_seed"][::2]]
    assert variants == [
        "mean-mlp",
        "token-mean",
        "lstm-raster",
        "lstm-reverse",
        "lstm-column",
        "lstm-shuffle",
    ]


def controlled(folder: Path, *, gains: set[tuple[str, str]]) -> dict:
    """Controls beside a profile's ablation, in which the heads of `gains` (task, variant) tell the classes apart."""
    images = table(0, 0)
    found = {
        task: {
            head.name: pd.concat(
                [images.assign(seed=seed, logit=drawn(seed, k, images, 0) if (task, head.name) in gains else 0.0) for seed in (42, 43)]
            )
            for k, head in enumerate(heads)
        }
        for task, heads in control.HEADS.items()
    }  # fmt: skip
    grid = ablation.read(folder / "ablation")
    ablation.write(folder / "ablation", grid, found)
    before = files.read_json(folder / "06_ablation.json")
    stated(folder, before["regime"], before.get("model"))
    return files.read_json(folder / "06_ablation.json")


SEEN = {("place", "lstm-raster"), ("relation", "lstm-raster"), ("relation", control.LSTM)}


@pytest.mark.parametrize("relation", [True, False])
def test_the_card_says_what_the_lstm_sees_where_the_truth_is_known(tmp_path, relation):
    folder = asked(tmp_path / "tuned", 0.5)
    assert sequence.known_truth([folder]) == ""
    assert "truth is known" not in "".join(sequence.answers([folder]))
    controlled(folder, gains=SEEN if relation else SEEN - {("relation", "lstm-raster")})
    said = sequence.known_truth([folder])
    verb = "learns" if relation else "is not seen to learn"
    assert "an LSTM of the same kind with 32 units, " in said
    assert "read out at its last step, as there, learns where one opacity lies (test AUC 0." in said
    assert f", and {verb} whether two opacities are in one lung or in both (test AUC 0." in said
    assert ("could be in radiographs" in said) != relation
    card = "".join(sequence.answers([folder]))
    assert "| lstm-raster sees the relation too |" in card
    assert said in card


def test_the_readme_says_in_short_what_a_difference_of_zero_leaves_open(tmp_path):
    folder = asked(tmp_path / "tuned", 0.5, heads=("mean-mlp", "lstm-raster", control.LSTM))
    assert sequence.left_open([folder]) == ""
    unseen = "is not seen to learn whether two opacities are in one lung or in both"
    largest = "Read out at its largest value it learns that relation"
    for seen, missed, read in (
        (SEEN, None, False),
        (SEEN - {("relation", "lstm-raster")}, unseen, True),
        (SEEN | {("amount", "mean-mlp")}, "loses 0.", False),
    ):
        controlled(folder, gains=seen)
        said = sequence.left_open([folder])
        assert f"an LSTM of the same kind (32 units) {missed}" in said if missed else said == ""
        assert (unseen in said) == (missed == unseen)
        assert (largest in said) == read


def test_the_card_says_what_the_read_out_that_learns_a_relation_makes_of_radiographs(tmp_path):
    few = asked(tmp_path / "tuned", 0.5)
    many = asked(tmp_path / "quick", 0.5, heads=("mean-mlp", "lstm-raster", control.LSTM))
    seen = SEEN - {("relation", "lstm-raster")}
    for folder in (few, many):
        controlled(folder, gains=seen)
    row = ablation.analyse(ablation.read(many / "ablation"), n_boot=100).row(control.LSTM)
    gap = f"is {row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}], adjusted for 2 comparisons."
    assert sequence.known_truth([few, many]).endswith(gap)
    assert "largest value" not in sequence.known_truth([few])
    frozen = asked(tmp_path / "frozen", 0.9, heads=("mean-mlp", "lstm-raster", control.LSTM), regime="frozen")
    controlled(frozen, gains=seen)
    row = ablation.analyse(ablation.read(frozen / "ablation"), n_boot=100).row(control.LSTM)
    first, other = sequence.known_truth([few, many, frozen]).split(gap)
    assert "(Xception-LSTM, `quick`, with the backbone trained along)" in first
    assert other.startswith(" With the seeds of `frozen` it learns that relation (test AUC 0.")
    assert f"and on radiographs (on frozen features) the difference is {row['difference']:+.4f} [" in other
    controlled(many, gains=seen - {("relation", control.LSTM)})  # it does not learn it either
    assert "(Xception-LSTM, `frozen`, on frozen features)" in sequence.known_truth([few, many, frozen])
    assert "largest value" not in sequence.known_truth([few, many])


def test_that_read_out_is_told_over_all_recipes_that_asked_for_it(tmp_path):
    heads = ("mean-mlp", "lstm-raster", control.LSTM)
    lifts = {"tuned": 0.2, "reframed": 0.8}
    one, other = (asked(tmp_path / name, lift, heads=heads) for name, lift in lifts.items())
    lacks = asked(tmp_path / "balanced", 0.5)
    for folder in (one, other, lacks):
        controlled(folder, gains=SEEN - {("relation", "lstm-raster")})
    recipes = [[ablation.read(folder / "ablation")] for folder in (one, other)]
    row, base = (ablation.pooled(recipes, head, n_boot=100) for head in (control.LSTM, "lstm-raster"))
    assert row["variant"] == control.LSTM
    assert row["difference"] != base["difference"]
    gap = f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"
    names = "`tuned`, `reframed`; 4 runs of each head"
    said = sequence.left_open([one, lacks, other])
    assert (
        f"adjusted for 2 comparisons; over the 2 recipes that were asked ({names}) the difference to mean-pooling is {gap} (p = "
        in said
    )
    assert said.endswith("). At length: [models/README.md](models/README.md).")
    assert "recipes that were asked" not in sequence.left_open([one, lacks])


def test_what_a_control_states_is_verified(ablated):
    path = ablated / "06_ablation.json"
    found = controlled(ablated, gains=SEEN)
    files.write_json(path, found | {"checks": found["checks"][::-1]})
    with pytest.raises(PublishError, match="checks has the rows"):
        verification.verify(ablated.parent)
    files.write_json(path, found | {"control": {}})
    with pytest.raises(PublishError, match="control: amount is not recorded"):
        verification.verify(ablated.parent)


@pytest.mark.parametrize(
    ("amount", "loses"), [({("amount", "lstm-raster")}, False), ({("amount", "mean-mlp")}, True)]
)
def test_the_card_says_what_the_lstm_loses_where_no_sequence_can_help(tmp_path, amount, loses):
    folder = asked(tmp_path / "tuned", 0.5)
    found = controlled(folder, gains=SEEN | amount)
    (row,) = found["control"]["amount"]["differences"]
    assert (row["difference"] < 0) == loses
    assert row["differs"]
    gap = f"is {row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]: a difference on radiographs"
    assert (gap in sequence.known_truth([folder])) == loses
    assert (
        "does not by itself mean that the sequence tells nothing" in sequence.known_truth([folder])
    ) == loses


def test_an_interval_of_many_comparisons_says_so(tmp_path):
    assert "] (1 of" not in at_length([asked(tmp_path / "tuned", 0.5)])
    many = asked(tmp_path / "quick", 0.5, heads=("mean-mlp", "lstm-raster", "token-mean"))
    assert f"{gap_of(many)} (1 of 2) |" in at_length([many])


def test_what_is_shown_to_differ_is_named_of_all_that_was_asked(tmp_path):
    one = asked(tmp_path / "tuned", 0.2)
    assert (
        at_length([one]).count("from mean-pooling: none; orders shown to differ from raster order: none.")
        == 1
    )
    many = asked(tmp_path / "quick", 0.9, heads=("mean-mlp", "lstm-raster", "lstm-reverse"), regime="frozen")
    path = many / "06_ablation.json"
    found = files.read_json(path)
    for row in [*found["headline"], *found["orders"]]:
        row["differs"] = row["variant"] == "lstm-reverse"
    files.write_json(path, found)
    (order,) = found["orders"]
    apart = written(order["difference"], order["adjusted_low"], order["adjusted_high"])
    place = "(Xception-LSTM, on frozen features, `quick`)"
    said = at_length([one, many])
    assert f"from mean-pooling: `lstm-reverse` {gap_of(many, 'lstm-reverse')} {place}; orders shown" in said
    assert f"from raster order: `lstm-reverse` {apart} {place}." in said
    assert "a smaller one" in said and "a smaller one" not in at_length([one])


def test_the_model_card_lists_every_recipe_that_asked_whether_the_lstm_helps(tmp_path):
    folders = [asked(tmp_path / "balanced", 0.2), asked(tmp_path / "tuned", 0.8)]
    said = "\n".join(sequence.answers(folders))
    for folder in folders:
        row = ablation.analyse(ablation.read(folder / "ablation"), n_boot=100).row("lstm-raster")
        gap = f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"
        assert f"| {folder.name} | 2 |" in said
        assert f"| {gap} |" in said


def test_the_model_card_answers_each_question_by_the_first_profile_that_asked_it(tmp_path):
    few = asked(tmp_path / "calibrated", 0.2)
    many = asked(tmp_path / "grid", 0.5, heads=("mean-mlp", "lstm-raster", "lstm-reverse", "lstm-shuffle"))
    said = "\n".join(sequence.answers([few, many]))
    first, second = said.index("(`calibrated`):"), said.index("(`grid`):")
    assert first < said.index(f"- {ablation.HELPS}") < second
    assert said.count(f"- {ablation.HELPS}") == 1
    assert second < said.index(f"- {ablation.ORDER}")
    assert second < said.index(f"- {ablation.PATTERNS}")
    assert "Not asked" not in said


def test_the_model_card_lists_every_variant_of_the_largest_ablation(tmp_path):
    few = asked(tmp_path / "calibrated", 0.2)
    assert "Every variant" not in "".join(sequence.answers([few]))
    many = asked(tmp_path / "grid", 0.5, heads=("mean-mlp", "token-mean", "lstm-raster", "lstm-reverse"))
    said = "\n".join(sequence.answers([few, many]))
    assert "Every variant of `grid`, mean of 2 seeds; " in said
    effects = ablation.analyse(ablation.read(many / "ablation"), n_boot=100)

    def gap(row):
        return f"{row['difference']:+.4f} [{row['adjusted_low']:+.4f}, {row['adjusted_high']:+.4f}]"

    lines = {line.split(" | ")[0].strip("| "): line for line in said.splitlines() if line.startswith("| ")}
    auc = effects.auc.set_index("variant")["auc"]
    assert lines["lstm-reverse"].endswith(
        f"| {auc['lstm-reverse']:.4f} | {gap(effects.row('lstm-reverse'))} |  |"
    )
    assert f"| {gap(effects.row('lstm-raster'))} | {gap(effects.beyond.iloc[0])} |" in lines["lstm-raster"]


def test_profiles_that_differ_in_their_ablation_alone_are_one_recipe(tmp_path):
    folders = [
        asked(tmp_path / name, lift) for name, lift in (("calibrated", 0.2), ("grid", 0.8), ("tuned", 0.5))
    ]
    said = at_length(folders)
    assert (
        "over the 2 recipes that were asked (`calibrated` with `grid`, `tuned`; 6 runs of each head)" in said
    )


def test_a_document_without_marks_is_refused():
    with pytest.raises(PublishError, match="marks|one line"):
        documents.with_block("no marks here", "block")


def test_a_run_of_other_settings_is_not_published_as_the_profile_s(results):
    path = results / "quick" / "predictions" / "xception_lstm-seed42.run.json"
    settings = config.load("quick").as_dict()
    about = files.read_json(path) | {"model": "xception_lstm", "config": settings}
    settings["train"]["checkpoint_minutes"] = 77.0  # says nothing of the result
    files.write_json(path, about)
    check_settings(results / "quick")
    settings["train"]["epochs"] = 99
    files.write_json(path, about)
    with pytest.raises(
        PublishError, match="quick: xception_lstm-seed42.run.json was trained with another train.epochs"
    ):
        verification.verify(results)


@pytest.fixture
def shown(compared, tmp_path, monkeypatch):
    """A root whose results and documents agree; `make verify` looks at it."""
    root = tmp_path / "root"
    shutil.copytree(compared, root / "reports" / "results")
    figure.draw(root / "reports" / "results")
    for name, block in documents.DOCUMENTS.items():
        text = f"{documents.BEGIN}\n{documents.END}\n"
        files.write_text(root / name, documents.with_block(text, block(root / "reports" / "results")))
    monkeypatch.setattr(publish, "ROOT", root)
    return root


def test_verify_looks_at_every_record_and_every_document(shown, capsys):
    assert publish.main(["verify"]) == 0
    said = capsys.readouterr().out
    assert "quick: 04_compare.json: " in said
    assert all(f"{name} shows the recorded results" in said for name in documents.DOCUMENTS)


def test_of_several_that_differ_verify_names_the_first_and_nothing_else(shown, capsys, recwarn):
    """A record before the documents, which repeat its numbers and are the faster to check."""
    for name in ("reports/results/quick/04_compare.json", "README.md"):
        path = shown / name
        stated = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r'("auc": |AUC )0\.\d\d', r"\g<1>0.11", stated, count=1), encoding="utf-8")
        assert path.read_text(encoding="utf-8") != stated
    assert publish.main(["verify"]) == 1
    (said,) = capsys.readouterr().err.splitlines()
    assert "quick: 04_compare.json" in said
    assert not [each for each in recwarn if "tasks" in str(each.message)]  # joblib's, that it was left early


def test_verify_finds_a_document_that_shows_something_else(shown, capsys):
    path = shown / "models" / "README.md"
    path.write_text(path.read_text(encoding="utf-8").replace("0.", "0.1", 1), encoding="utf-8")
    assert publish.main(["verify"]) == 1
    assert (
        "models/README.md does not show the recorded results; run `make publish`" in capsys.readouterr().err
    )


def test_the_card_shows_recorded_operating_points_as_it_computes_them(compared, monkeypatch):
    folder = compared / "quick"
    recorded = documents._points(folder)
    files.write_json(
        folder / "headline.json",
        {k: files.read_json(folder / "04_compare.json")[k] for k in ("headline", "n_boot")},
    )
    (folder / "04_compare.json").unlink()
    assert documents._points(folder) == recorded


@pytest.mark.skipif(not published(RESULTS), reason="no results of the real study are recorded")
def test_the_documents_of_this_repository_show_its_recorded_results():
    assert all(documents.check_document(ROOT, RESULTS, name) for name in documents.DOCUMENTS)


@pytest.mark.skipif(not published(RESULTS), reason="no results of the real study are recorded")
def test_every_figure_published_in_this_repository_follows_from_its_predictions():
    assert verification.verify(RESULTS)


@pytest.mark.parametrize("profile", ["balanced", "matched"])
def test_the_model_card_says_what_is_left_without_the_shortcut(results, profile):
    """Only of the profiles whose validation patients are matched pairs."""
    assert "look alike to a thumbnail" not in documents.model_card(results)
    (results / "quick").rename(results / profile)
    validation = table(1, 3.0)[:40]
    auc = metrics.auc(validation["y_true"], validation["logit"])
    card = documents.model_card(results)
    assert "On 40 validation images whose normal and ill patients look alike to a thumbnail" in card
    assert f"Xception-LSTM (`{profile}`) {auc:.3f} over 1 seed;" in card


def test_checking_the_results_loads_no_training(results):
    """Whoever has only the tables waits for no framework: its import takes longer than many a check."""
    script = "import sys, lib.publish as p; print(p.verification.verify(p.Path(sys.argv[1]))); print({'torch', 'sklearn'} & set(sys.modules))"
    seen = subprocess.run(
        [sys.executable, "-c", script, results], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "figures and sentences follow from the predictions" in seen.stdout
    assert seen.stdout.splitlines()[-1] == "set()"
