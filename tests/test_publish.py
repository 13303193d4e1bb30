import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from lib import config, evaluate, files, measured, metrics, publish, runs, stats, store
from lib.config import ROOT
from lib.plots import style
from lib.publish import documents, figure, first_screen, metric_tables
from lib.publish.results import PROFILES, PublishError, best, interval, published, record, seeds
from tests.publications import table

RESULTS = ROOT / "reports" / "results"


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
    assert card.count(listed("matched")) == 2  # among all recipes, and on the pairs
    assert "(matched, 1 seed)" not in card  # in full are those that README shows


def test_the_readme_also_shows_the_recipe_that_pairs_chose_and_says_why(results):
    found = files.read_json(results / "quick" / "headline.json")
    for name in ("overlap", "refit"):
        (results / name / "predictions").mkdir(parents=True)
        for path in (results / "quick" / "predictions").glob("xception*"):
            (results / name / "predictions" / path.name).write_bytes(path.read_bytes())
        files.write_json(results / name / "headline.json", found | {"headline": found["headline"][:1]})
    shown = [(folder.name, row["model"]) for folder, row in first_screen.rows(results)]
    xception, custom = "xception_lstm", "custom_cnn_lstm"
    assert shown == [("overlap", xception), ("quick", custom), ("refit", xception), ("quick", xception)]
    assert (
        "The table lists, for each model:\n\n- the recipe declared primary before that recipe's test figures were known (listed first, not necessarily the best)\n"
        "- the recipe chosen by validation on matched pairs, equal numbers of normal and pneumonia training patients whom a classifier on thumbnails cannot "
        "tell apart (Xception-LSTM: `refit`, added when its test figures were known)\n"
        "- the protocol of the notebook that this project grew out of (`quick`, its short form for 2 cores)\n"
        in documents.render(results)
    )
    same = first_screen._at_sensitivity(results / "quick", xception)  # as all three have the same tables
    assert (
        f"it reaches {same} on test; `refit` by the same rule reaches {same}. The rule of the first table"
        in documents.render(results)
    )
    card = documents.model_card(results)
    for name in ("overlap", "quick", "refit"):
        assert card.count(f"| Xception-LSTM ({name}, 1 seed) |") == 1
        assert card.count(f"| Xception-LSTM | {name} | 0.5 |") == 1


@pytest.mark.parametrize("count", [1, 5])
def test_the_readme_shows_the_recipe_on_centre_squares_once_its_seeds_are_complete(results, count):
    found = files.read_json(results / "quick" / "headline.json")
    for name, number in (("refit", 1), ("centre", count)):
        (results / name / "predictions").mkdir(parents=True)
        rows = [row | {"seeds": number} for row in found["headline"][:1]]
        files.write_json(results / name / "headline.json", found | {"headline": rows})
    shown = first_screen.rows(results)
    assert [folder.name for folder, _ in shown] == [
        "refit",
        "quick",
        *(["centre"] if count == 5 else []),
        "quick",
    ]
    said = "- the recipe on centre squares, as published figures of several seeds are (Xception-LSTM: `centre`)\n- the protocol"
    assert (said in first_screen.recipes(shown)) == (count == 5)
    assert ("into a square). The exception is `centre`: its squares" in first_screen.squares(shown)) == (
        count == 5
    )


def test_the_recipe_that_pairs_chose_is_shown_once_where_it_is_the_first(results):
    (results / "quick" / "predictions").parent.rename(results / "refit")
    assert [folder.name for folder, _ in first_screen.rows(results)] == ["refit", "refit"]
    assert (
        "The table lists, for each model:\n\n- the recipe declared primary before that recipe's test figures were known (listed first, not necessarily the best)\n\n"
        in documents.render(results)
    )


def test_the_readme_shows_the_intervals_and_one_roc_figure_of_both_models_and_what_others_reach(results):
    drawn = (results / "roc.svg").read_text()
    assert "DINO" in documents.render(results)
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
            f"| {row['subtype']} | {row['n']} ({row['n_patients']}) | {row['measure']} {row['share']} |"
            in card
        )


def test_the_readme_says_whether_the_threshold_carries_over(results):
    row = files.read_json(results / "quick" / "headline.json")["headline"][0]
    shown = interval(row, "specificity", ".1f", 100)
    held = evaluate.deciding(evaluate.recorded(results / "quick")["xception_lstm"][0])
    normal = (held["y_true"] == 0).sum()
    assert (
        f"% on the {normal} normal images among those on which the threshold was chosen, and of {shown}% on the test set, whose distribution differs"
        in documents.render(results)
    )


def test_the_readme_says_what_a_threshold_for_sensitivity_reaches(results):
    (first,) = evaluate.recorded(results / "quick")["xception_lstm"]
    cut = evaluate.thresholds(first)["sensitivity_95"]
    test = evaluate.part(first, "test")
    accuracy = ((test["probability"] >= cut) == test["y_true"]).mean()
    said = first_screen.at_sensitivity(results)
    assert f"it reaches accuracy {100 * accuracy:.1f} [" in said
    assert "so reaches" not in said
    assert said in documents.render(results)


def test_the_card_says_what_the_seeds_reach_together(results):
    assert first_screen.together(results) == ""  # one seed is no ensemble
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


def test_collecting_is_notebook_04s_where_it_has_recorded_the_profile(recorded):
    """Its figures would go on being shown beside the new predictions."""
    files.write_json(recorded.results_dir / "04_compare.json", {})
    with pytest.raises(publish.PublishError, match="figures from notebook 04.*make all PROFILE=quick"):
        publish.collect(recorded)
    assert [len(tables) for tables in evaluate.recorded(recorded.results_dir).values()] == [1]


def test_a_document_without_marks_is_refused():
    with pytest.raises(PublishError, match="marks|one line"):
        documents.with_block("no marks here", "block")


def test_the_card_shows_recorded_operating_points_as_it_computes_them(compared, monkeypatch):
    folder = compared / "quick"
    recorded = metric_tables.section([folder])
    files.write_json(
        folder / "headline.json",
        {k: files.read_json(folder / "04_compare.json")[k] for k in ("headline", "n_boot")},
    )
    (folder / "04_compare.json").unlink()
    assert metric_tables.section([folder]) == recorded


@pytest.mark.parametrize("folder", published(RESULTS), ids=lambda folder: folder.name)
def test_what_is_recorded_is_json_that_others_read_too(folder):
    for path in folder.rglob("*.json"):
        json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # NaN and the like are none


@pytest.mark.parametrize("folder", published(RESULTS), ids=lambda folder: folder.name)
def test_a_profiles_header_says_what_was_reached(folder):
    (said,) = re.findall(
        r"^# Test AUC reached: (.*)\.$", (config.PROFILES / f"{folder.name}.yaml").read_text(), re.M
    )
    assert said == ", ".join(
        f"{style.NAMES[row['model']]} {interval(row, 'auc', '.3f')} ({seeds(row['seeds'])})"
        for row in record(folder)["headline"]
    )


def test_the_profile_table_says_how_many_seeds_are_recorded():
    numbers = {"one": 1, "two": 2, "five": 5}
    patterns = {
        "xception_lstm": r"(one|two|five) seeds? of Xception-LSTM",
        "custom_cnn_lstm": r"(one|two|five) of the custom model",
    }
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]* \| (.*) \|$", (ROOT / "README.md").read_text(), re.M))
    told = [
        (profile, model, numbers[word])
        for profile, text in rows.items()
        for model, pattern in patterns.items()
        for word in re.findall(pattern, text)
    ]
    recorded = [
        (folder.name, row["model"], row["seeds"])
        for folder in published(RESULTS)
        for row in record(folder)["headline"]
    ]
    assert len(told) > 8 and set(told) <= set(recorded)


def test_figures_that_are_typed_into_the_model_card_are_those_recorded():
    def of(profile: str) -> dict:
        return next(row for row in record(RESULTS / profile)["headline"] if row["model"] == "custom_cnn_lstm")

    def head(profile: str, variant: str = "lstm-raster") -> dict:
        found = files.read_json(RESULTS / profile / "06_ablation.json")["headline"]
        return next(row for row in found if row["variant"] == variant)

    means = {
        name: f"{of(name)['auc']:.3f}" for name in ("calibrated", "custom", "custom_cpu", "custom_again")
    }
    cpu, pairs = (
        head("custom_cpu"),
        [head("custom_again", name)["val_auc"] for name in ("lstm-raster", "mean-mlp")],
    )
    card = (ROOT / "models" / "README.md").read_text()
    for said in (
        f"recipe of `calibrated` (test AUC {means['calibrated']}) has {means['custom']} on an H100 (`custom`), and {means['custom_cpu']} and {means['custom_again']} with other seeds",
        f"LSTM minus mean-pooling is {cpu['difference']:+.3f} [{cpu['adjusted_low']:+.3f}, {cpu['adjusted_high']:+.3f}] on test",
        f"the pairs read {pairs[0]:.3f} and {pairs[1]:.3f} (",
    ):
        assert said in card


def test_counts_of_held_out_images_in_the_data_card_are_those_recorded():
    def of(profile: str, split: str) -> str:
        images = pd.read_csv(RESULTS / profile / "predictions" / "xception_lstm-seed42.csv")
        classes = images[images["split"] == split].groupby("y_true")["patient"]
        return ", ".join(
            f"{size} of {patients}" for size, patients in zip(classes.size(), classes.nunique(), strict=True)
        )

    card = (ROOT / "data" / "README.md").read_text()
    names = (
        "full",
        "quick",
        "refit",
        "centre",
        "overlap",
        "harmonised",
        "tuned",
        "matched",
        "balanced",
        "stretched",
        "reframed",
    )
    for counts in [of("calibrated", "calibration"), *(of(name, "val") for name in (*names, "calibrated"))]:
        assert f"({counts})" in card
    normal, ill = of("full", "test").split(", ")
    assert f"test {normal.replace('of ', '(')}) and {ill.replace('of ', '(')});" in card


@pytest.mark.parametrize("profile", ["balanced", "matched"])
def test_the_model_card_says_what_is_left_without_the_shortcut(results, profile):
    """Only of the profiles whose validation patients are matched pairs."""
    assert "look alike to a thumbnail" not in documents.model_card(results)
    (results / "quick").rename(results / profile)
    validation = table(1, 3.0)[:40]
    found = stats.resample([validation], [metrics.auc], n_boot=2000, seed=42, score="logit").interval()
    card = documents.model_card(results)
    assert (
        "Mean AUC on 40 validation images whose normal and pneumonia patients look alike to a thumbnail"
        in card
    )
    assert f"| Xception-LSTM | {profile} | 1 | {found} |" in card


def test_git_takes_the_published_studies_alone():
    """Results of a profile of one's own hold file names and labels of one's own images."""
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "reports/results/*" in lines
    taken = [line for line in lines if re.fullmatch(r"!reports/results/\w+/", line)]
    assert sorted(taken) == sorted(f"!reports/results/{name}/" for name in PROFILES)
