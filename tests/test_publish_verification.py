import contextlib
import copy
import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import ablation, config, files, publish
from lib.comparison import scored
from lib.config import ROOT
from lib.plots import style
from lib.publish import documents, figure, verification
from lib.publish.results import PublishError, check_settings, published
from tests.publications import SEEN, controlled, stated


def verify(results: Path) -> list[str]:
    """Every check of `make verify` but those of the documents, one after the other: their lines."""
    return [check() for check in verification.checks(results)]


def test_figures_that_follow_from_their_predictions_are_verified(results):
    lines = verify(results)
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


@contextlib.contextmanager
def changed(document, path):
    """The document with one value made another, for a while: a word or a digit more, a missing number given."""
    *way, last = path
    place = functools.reduce(lambda part, key: part[key], way, document)
    value = place[last]
    if isinstance(value, bool):
        place[last] = not value
    elif isinstance(value, str):
        place[last] = value + "x"
    else:
        place[last] = 1.0 if value is None or np.isnan(value) else value * 1.001 + 1e-5
    try:
        yield
    finally:
        place[last] = value


def check_every_value(folder: Path, name: str) -> set:
    """Change each value of a recorded file alone; return the places of those whose change is not seen, by name where it is kept."""
    stated, again = verification._computed(folder, name)
    kept = verification.KEPT[name]
    unseen = set()
    for path in leaves(stated):
        with contextlib.suppress(PublishError), changed(stated, path):
            verification._agree(name, stated, again, kept)
            unseen.add(next((key for key in path if key in kept), path))
    return unseen


def test_every_value_of_a_comparison_is_verified_but_what_models_say(compared):
    assert "04_compare.json: " in verify(compared)[0]
    unseen = check_every_value(compared / "quick", "04_compare.json")
    assert unseen == {"readings", "gflops"}


@pytest.mark.parametrize("change", [0.002, -0.002])
def test_a_sentence_of_what_models_say_follows_from_what_is_recorded_of_it(compared, change):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    said = found["answers"][scored.SEQUENCE]
    assert ", by -0.300 [-0.400, -0.200] in a random order, by " in said
    found["readings"][1]["difference"] += change
    files.write_json(path, found)
    with pytest.raises(PublishError, match=scored.SEQUENCE.rstrip("?")):
        verify(compared)


def test_a_word_in_place_of_a_figure_is_found(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    found["differences"][0]["error"] = "small"
    files.write_json(path, found)
    with pytest.raises(PublishError, match="differences: auc: error is 'small', the predictions give 0"):
        verify(compared)
    files.write_json(path, found | {"n_boot": "many"})
    with pytest.raises(PublishError, match="n_boot is 'many'"):
        verify(compared)


def test_what_nothing_computes_and_what_is_missing_is_found(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    files.write_json(path, found | {"praise": "the best"})
    with pytest.raises(PublishError, match="praise is recorded, and nothing computes it"):
        verify(compared)
    files.write_json(path, {name: value for name, value in found.items() if name != "tests"})
    with pytest.raises(PublishError, match="tests is not recorded"):
        verify(compared)


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
    assert verify(compared)


@pytest.mark.parametrize(("off", "becomes"), [(1e-9, "is as it was"), (1e-3, "renewed")])
def test_a_figure_that_another_machine_rounds_otherwise_is_left(compared, off, becomes):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    found["headline"][0]["brier"] *= 1 + off
    files.write_json(path, found)
    assert verification.renew(compared) == [f"quick: 04_compare.json {becomes}"]


def test_a_sentence_of_models_that_are_gone_is_kept(compared):
    path = compared / "quick" / "04_compare.json"
    found = files.read_json(path)
    found["answers"][scored.SEQUENCE] = "what was said"
    files.write_json(path, {name: value for name, value in found.items() if name != "readings"})
    verification.renew(compared)
    assert files.read_json(path)["answers"][scored.SEQUENCE] == "what was said"
    assert verify(compared)


def test_a_comparison_of_one_model_is_refused(compared):
    for path in (compared / "quick" / "predictions").glob("custom_cnn_lstm*"):
        path.unlink()
    with pytest.raises(ValueError, match="keeps no predictions of custom_cnn_lstm"):
        verify(compared)


def test_a_figure_that_shows_something_else_is_found(results, monkeypatch):
    path = results / "roc.svg"
    svg = path.read_text()
    monkeypatch.setattr(figure, "draw", lambda _, path: path.write_text(svg))  # as it would again
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
        verify(results)


def test_a_band_that_was_moved_is_found(results, monkeypatch):
    path = results / "roc.svg"
    svg = path.read_text()
    monkeypatch.setattr(figure, "draw", lambda _, path: path.write_text(svg))
    before, band = svg.split('id="FillBetween', 1)
    moved = re.sub(r"L ([\d.]+) (-?[\d.]+)", lambda at: f"L {at[1]} {float(at[2]) - 5}", band, count=20)
    assert moved != band
    path.write_text(f'{before}id="FillBetween{moved}')
    with pytest.raises(PublishError, match="does not show what the predictions give"):
        figure.verify(results)


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
        verify(results)


def test_a_changed_prediction_is_found(results):
    path = results / "quick" / "predictions" / "xception_lstm-seed42.csv"
    changed = pd.read_csv(path)
    changed.loc[60:80, "logit"] *= -1
    changed.to_csv(path, index=False)
    with pytest.raises(PublishError, match="xception_lstm: "):
        verify(results)


@pytest.mark.parametrize("rows", [[], [0], [0, 0]])
def test_a_headline_that_lacks_a_model_or_has_one_twice_is_found(results, rows):
    path = results / "quick" / "headline.json"
    found = files.read_json(path)
    files.write_json(path, found | {"headline": [found["headline"][k] for k in rows]})
    with pytest.raises(PublishError, match=r"quick: headline\.json: headline has the rows"):
        verify(results)


def test_nothing_published_is_an_error(tmp_path):
    with pytest.raises(PublishError, match="make publish"):
        verify(tmp_path)


def test_every_value_of_an_ablation_is_verified_but_what_predictions_do_not_tell(ablated):
    """Whose heads were varied is one of those, and weakens no other comparison."""
    path = ablated / "06_ablation.json"
    found = controlled(ablated, gains=SEEN) | {"model": "xception_lstm"}
    assert all(found[part] for part in ("findings", "orders", "beyond", "components", "per_seed", "checks"))
    files.write_json(path, found)
    assert verify(ablated.parent)
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
    files.write_json(path, files.read_json(path) | {"model": "custom_cnn_lstm", "regime": "finetuned"})
    message = r"quick: 06_ablation\.json is of custom_cnn_lstm, and the profile asks xception_lstm"
    with pytest.raises(PublishError, match=message):
        verify(ablated.parent)
    ablated = ablated.rename(ablated.with_name("custom"))
    assert "custom: 06_ablation.json: " in verify(ablated.parent)[1]
    stated(ablated, "finetuned")  # as one from before would be read
    with pytest.raises(PublishError, match="is of xception_lstm, and the profile asks custom_cnn_lstm"):
        verify(ablated.parent)


def test_an_ablation_of_another_regime_than_the_profile_s_is_refused(ablated):
    path = ablated / "06_ablation.json"
    regime = files.read_json(path)["regime"]
    files.write_json(
        path, files.read_json(path) | {"regime": {"frozen": "finetuned", "finetuned": "frozen"}[regime]}
    )
    with pytest.raises(PublishError, match=r"06_ablation\.json is of \w+, and the profile asks \w+"):
        verify(ablated.parent)


def test_rows_that_lack_are_found(ablated):
    path = ablated / "06_ablation.json"
    found = files.read_json(path)
    files.write_json(path, found | {"headline": found["headline"][:1]})
    with pytest.raises(PublishError, match="headline has the rows lstm-"):
        verify(ablated.parent)
    path.unlink()
    with pytest.raises(PublishError, match="holds predictions of an ablation and no 06"):
        verify(ablated.parent)
    files.write_json(path, found)
    shutil.rmtree(ablated / "ablation")
    with pytest.raises(PublishError, match=r"holds 06_ablation\.json and no predictions of it"):
        verify(ablated.parent)


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


def test_what_a_control_states_is_verified(ablated):
    path = ablated / "06_ablation.json"
    found = controlled(ablated, gains=SEEN)
    files.write_json(path, found | {"checks": found["checks"][::-1]})
    with pytest.raises(PublishError, match="checks has the rows"):
        verify(ablated.parent)
    files.write_json(path, found | {"control": {}})
    with pytest.raises(PublishError, match="control: amount is not recorded"):
        verify(ablated.parent)


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
        verify(results)


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


def test_publish_writes_every_document_and_the_figure(shown, capsys):
    (shown / "reports" / "results" / "roc.svg").unlink()
    for name in documents.DOCUMENTS:
        files.write_text(shown / name, f"kept\n{documents.BEGIN}\nwritten long ago\n{documents.END}\n")
    assert publish.main(["publish"]) == 0
    assert publish.main(["verify"]) == 0
    assert all((shown / name).read_text().startswith("kept\n") for name in documents.DOCUMENTS)
    assert "written long ago" not in (shown / "README.md").read_text()


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


@pytest.mark.skipif(
    not published(ROOT / "reports" / "results"), reason="no results of the real study are recorded"
)
def test_what_this_repository_records_and_shows_follows_from_its_predictions(capsys):
    assert publish.main(["verify"]) == 0, capsys.readouterr().err


def test_checking_the_results_loads_no_training(results):
    """Whoever has only the tables waits for no framework: its import takes longer than many a check."""
    script = "import sys, lib.publish as p; print([check() for check in p.verification.checks(p.Path(sys.argv[1]))]); print({'torch', 'sklearn'} & set(sys.modules))"
    seen = subprocess.run(
        [sys.executable, "-c", script, results], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert "figures and sentences follow from the predictions" in seen.stdout
    assert seen.stdout.splitlines()[-1] == "set()"
