from pathlib import Path

import numpy as np
import pytest

from lib import ablation, config, files
from lib.ablation import control
from lib.publish import answer, documents, sequence, size
from lib.publish import questions as recipes
from tests.publications import CUSTOM, SEEN, asked, controlled, effects_of


def test_the_card_says_what_the_trained_models_read_in_their_tokens(compared):
    folders = [compared / "nothing", compared / "quick"]
    said = sequence.relied_on(folders)
    assert said in documents.model_card(compared)
    assert "(`quick`, seed 42, 80 test images)" in said
    assert "| Tokens | Xception-LSTM | Custom CNN-LSTM |" in said
    assert (
        "| each replaced by the image's mean token | -0.280 [-0.380, -0.180] | +0.070 [-0.030, +0.170] |\n| in a random order | -0.300 ["
    ) in said
    assert "| in reverse | -0.290 [-0.390, -0.190] |" in said
    assert "With their tokens as trained, their AUC on these images is 0.970 and 0.910." in said
    assert sequence.relied_on(folders[:1]) == ""


def at_length(folders: list[Path]) -> str:
    return "\n\n".join(answer.at_length(folders))


def test_the_readme_takes_all_recipes_together_that_asked_whether_the_lstm_helps(tmp_path):
    one, two = asked(tmp_path / "balanced", 0.2), asked(tmp_path / "tuned", 0.8)
    silent = asked(tmp_path / "quick", 0.5, heads=("mean-mlp", "token-mean"))
    alone = at_length([one, silent])
    assert "| balanced | 2 |" in alone
    assert "quick" not in alone and "recipes" not in alone
    both = at_length([one, silent, two])
    gaps = [effects_of(folder).row("lstm-raster")["difference"] for folder in (one, two)]
    read, table, found = alone.split("\n\n")[1:]
    assert found.startswith("- Of all heads, token orders and read-outs that were tried")
    assert both.split("\n\n")[1:3] == [read, table]
    assert (
        "With the backbone trained too: over the 2 recipes that compared the LSTM with mean-pooling (`balanced`, `tuned`; 4 runs of each head) the difference to mean-pooling is "
        f"{np.mean(gaps):+.4f} [" in both
    )


OF_CUSTOM = ("mean-mlp", "token-mean", "lstm-raster", "lstm-shuffle")


def written(difference: float, low: float, high: float) -> str:
    return f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"


def gap_in(row) -> str:
    return written(row["difference"], row["adjusted_low"], row["adjusted_high"])


def gap_of(folder: Path, variant: str = "lstm-raster") -> str:
    return gap_in(effects_of(folder).row(variant))


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


def first_answer(xception: str, custom: str) -> str:
    return (
        "**Does the LSTM help, compared with mean-pooling with as many parameters?**\n\n"
        f"- **Xception-LSTM: {xception}\n- **Custom CNN-LSTM: {custom}\n\n"
        "By head, token order and recipe, and what trained models read in their tokens: [models/README.md](models/README.md#the-answer-at-length)."
    )


def plainly(folder: Path, verdict: str = "not shown") -> str:
    """A verdict and by how much, as the first answer gives them of one profile alone, but for the last period."""
    power = f"where a true difference of {detectable(folder)} would have been detected with 80% power"
    gap = f"{gap_of(folder)} in profile `{folder.name}`"
    return f"{verdict}.** Test AUC of the LSTM minus that of mean-pooling: {gap}, {power}"


TRAINED, CUSTOM_TRAINED = (
    f"{name}, with the backbone trained too" for name in ("Xception-LSTM", "Custom CNN-LSTM")
)


def test_where_one_model_was_asked_the_readme_says_that_the_other_was_not(tmp_path):
    one = asked(tmp_path / "tuned", 0.2)
    frozen = asked(tmp_path / "quick", 0.5, regime="frozen", model="xception_lstm")
    assert answer.in_short([one, frozen]) == first_answer(f"{plainly(one)}.", "not asked.**")
    assert table_of([one, frozen]) == [
        line_of(one, TRAINED),
        line_of(frozen, "Xception-LSTM, on frozen features"),
    ]
    custom = asked(tmp_path / "custom", 0.3, model=CUSTOM)
    assert answer.in_short([custom]) == first_answer("not asked.**", f"{plainly(custom)}.")
    assert answer.in_short([]) == at_length([]) == ""


@pytest.mark.parametrize(
    ("low", "high", "shown"), [(-0.01, 0.05, ""), (0.01, 0.05, ": yes"), (-0.05, -0.01, ": no, it hurts")]
)
def test_the_first_answer_also_gives_the_difference_over_all_that_asked(
    tmp_path, monkeypatch, low, high, shown
):
    custom = [
        asked(tmp_path / name, lift, model=CUSTOM) for name, lift in (("custom", 0.3), ("custom_cpu", 0.4))
    ]
    one = asked(tmp_path / "tuned", 0.2)
    row = {
        "difference": (low + high) / 2,
        "adjusted_low": low,
        "adjusted_high": high,
        "differs": low * high > 0,
    }
    taken = []
    monkeypatch.setattr(recipes, "_family", lambda gaps: taken.append(gaps) or [row])
    said = answer.in_short([*custom, one])
    ((profiles, *of),) = taken[0]
    assert [folder for folder, _ in profiles] == custom and of == [CUSTOM, "lstm-raster", "mean-mlp"]
    over = f", and {written((low + high) / 2, low, high)} over all profiles that compared the two with several seeds (1 recipe, 4 runs of each head){shown}"
    assert said == first_answer(f"{plainly(one)}.", f"{plainly(custom[0])}{over}.")


@pytest.mark.parametrize(
    ("p", "differs", "late"), [(0.039, True, True), (0.021, True, False), (0.3, False, False)]
)
def test_a_third_look_at_the_same_runs_asks_for_a_smaller_p(tmp_path, monkeypatch, p, differs, late):
    """Fresh runs that were settled as a confirmation stand by themselves; what all runs make together was looked at before."""
    lifts = {"custom": 0.3, "custom_cpu": 0.4, "custom_again": 0.5}
    folders = [asked(tmp_path / name, lift, heads=OF_CUSTOM, model=CUSTOM) for name, lift in lifts.items()]
    row = {"difference": 0.03, "adjusted_low": 0.03 - 0.02 * (1 if differs else 2), "adjusted_high": 0.05}
    row |= {"differs": differs, "p": p, "p_adjusted": p, "comparisons": 2}
    monkeypatch.setattr(recipes, "_family", lambda gaps: [row] * len(gaps))
    words = "not shown (p = 0.039; this third look required p < 0.022)"
    assert (words in answer.in_short(folders)) == (words in at_length(folders)) == late
    assert (": yes" in answer.in_short(folders)) == (differs and not late)
    assert "third look" not in answer.in_short(folders[:2])


@pytest.mark.parametrize(
    ("low", "high", "seen"),
    [(0.01, 0.05, "confirmed"), (-0.01, 0.05, "not confirmed"), (-0.05, -0.01, "not confirmed")],
)
def test_the_first_answer_says_what_became_of_a_confirmation(tmp_path, monkeypatch, low, high, seen):
    first, again = (asked(tmp_path / name, 0.4, model=CUSTOM) for name in ("custom_cpu", "custom_again"))
    row = {
        "difference": (low + high) / 2,
        "adjusted_low": low,
        "adjusted_high": high,
        "differs": low * high > 0,
        "p_adjusted": 0.01,
    }
    monkeypatch.setattr(answer, "alone", lambda model, profile: row if profile[0] == again else None)
    found = files.read_json(again / "06_ablation.json")
    for kept in found["headline"]:
        kept["val_auc"] = {"mean-mlp": 0.8, "lstm-raster": 0.7}[kept["variant"]]
    files.write_json(again / "06_ablation.json", found)
    assert f"On a CPU a gain was shown, and {seen} by fresh seeds (below)." in answer.in_short([first, again])
    said = answer.confirmation([first, again])
    assert said.endswith("the LSTM's AUC is 0.700, that of mean-pooling 0.800.")
    shown = f"The LSTM's gain over mean-pooling was shown in `custom_cpu` ({gap_of(first)}) and {seen} by 2 fresh seeds on the same test images"
    assert said.startswith(
        f"{shown} (`custom_again`, {written((low + high) / 2, low, high)}). On validation pairs"
    )
    assert "fresh seeds" not in answer.in_short([first]) and answer.confirmation([first]) == ""


def test_a_confirmation_stays_one_comparison_when_its_profile_gets_more_heads(tmp_path):
    """What was settled for it was the difference to mean-pooling alone; heads that are asked later widen its own table only."""
    profiles = [asked(tmp_path / name, 0.9, model=CUSTOM) for name in ("custom_cpu", "custom_again")]
    more = asked(
        tmp_path / "more" / "custom_again", 0.9, heads=("mean-mlp", "lstm-raster", "token-mean"), model=CUSTOM
    )
    found, wider = (files.read_json(folder / "06_ablation.json") for folder in (profiles[1], more))
    before, after = recipes.alone(CUSTOM, (profiles[1], found)), recipes.alone(CUSTOM, (more, wider))
    assert before == after and before["comparisons"] == 1
    assert gap_of(more) != gap_in(after) and gap_of(profiles[1])[:7] == gap_in(after)[:7]
    said = answer.confirmation([profiles[0], more])
    assert (
        f"on the same test images (`custom_again`, {gap_in(after)}). The LSTM's difference to heads" in said
    )
    (row, having) = recipes.lstm_minus(recipes.UNORDERED, CUSTOM, [(more, wider)], at_least=1)[
        "a head that processes each token by itself"
    ]
    assert [folder for folder, _ in having] == [more]
    shown = "shown" if row["differs"] else "not shown"
    over = f"cannot use the tokens' order: {gap_in(row)} to a head that processes each token by itself ({shown}). On"
    assert over in said
    assert "tokens' order" not in answer.confirmation(profiles)


def test_a_head_that_knows_the_places_is_a_comparison_of_its_own(tmp_path):
    """It was asked by itself: what the LSTM gains over it is not widened by the heads that cannot use the order."""
    heads = ("mean-mlp", "lstm-raster", "token-mean", "transformer-raster")
    again = asked(tmp_path / "custom_again", 0.9, heads=heads, model=CUSTOM)
    profiles = [
        (folder, files.read_json(folder / "06_ablation.json"))
        for folder in (asked(tmp_path / "custom_cpu", 0.9, model=CUSTOM), again)
    ]
    (row, _) = recipes.lstm_minus(recipes.PLACED, CUSTOM, profiles, at_least=1).popitem()[1]
    assert row["comparisons"] == 1 and row["reference"] == "transformer-raster"
    shown = "shown" if row["differs"] else "not shown"
    placed = f"To a Transformer, which is told the tokens' places and has no recurrence, it is {gap_in(row)} ({shown})."
    said = answer.confirmation([folder for folder, _ in profiles])
    assert f"(not shown). {placed} On validation pairs" in said


def test_differences_over_recipes_are_one_family_of_comparisons(tmp_path):
    """A gain that one model's runs show alone need not be one where two models were asked."""
    custom = [asked(tmp_path / name, 0.9, model=CUSTOM) for name in ("custom", "custom_cpu")]
    xception = [asked(tmp_path / name, 0.3) for name in ("calibrated", "tuned")]
    question = (CUSTOM, recipes.REGIMES["finetuned"])
    alone = recipes.over_recipes(recipes.questions(custom))[question]
    found = recipes.over_recipes(recipes.questions([*xception, *custom]))
    both = found[question]
    assert len(found) == 2 and both["difference"] == alone["difference"]
    assert both["adjusted_low"] < alone["adjusted_low"] and both["p_adjusted"] > both["p"]
    assert alone["p_adjusted"] == pytest.approx(alone["p"], abs=0.05)  # of 100 resamples
    assert (ablation.p_value(alone)[:4], ablation.p_value(both)[:13]) == ("p = ", "adjusted p = ")
    silent = recipes.over_recipes(recipes.questions([xception[0], *custom]))
    assert list(silent) == [question]  # one profile has no mean over recipes


def test_a_recipe_of_one_seed_does_not_count_as_if_all_seeds_agreed(tmp_path):
    folders = [asked(tmp_path / name, 0.9, model=CUSTOM) for name in ("custom", "custom_cpu")]
    ((question, profiles),) = recipes.questions(folders).items()
    single = [(folder, found | {"seeds": [42]}) for folder, found in profiles]
    assert list(recipes.over_recipes({question: profiles})) == [question]
    assert recipes.over_recipes({question: [profiles[0], single[1]]}) == {}  # one is left, which has no mean
    assert (
        recipes.over_recipes({question: single})
        == recipes.lstm_minus(recipes.UNORDERED, CUSTOM, single)
        == {}
    )
    said = answer._of_model(CUSTOM, {question: single}, {})
    assert "80% power" not in said and answer._line(question, single)["Detectable"] == ""
    assert answer._line(question, profiles)["Detectable"] and "80% power" in answer._of_model(
        CUSTOM, {question: profiles}, {}
    )


def test_several_profiles_have_a_common_difference_to_heads_without_an_order(tmp_path):
    folders = [
        asked(tmp_path / name, lift, heads=OF_CUSTOM, model=CUSTOM)
        for name, lift in (("custom", 0.3), ("custom_cpu", 0.9))
    ]
    ((_, profiles),) = recipes.questions(folders).items()
    rows = recipes.lstm_minus(recipes.UNORDERED, CUSTOM, profiles)
    apart = [effects_of(folder).beyond.iloc[0]["difference"] for folder in folders]
    order = [-effects_of(folder).orders.iloc[0]["difference"] for folder in folders]
    assert len({*apart, *order}) == 4
    assert [row["difference"] for row, _ in rows.values()] == pytest.approx([np.mean(apart), np.mean(order)])
    lacks = asked(tmp_path / "balanced", 0.3, model=CUSTOM)
    of_two = "; `custom`, `custom_cpu`, 4 runs of each head"
    for said, whose in ((at_length(folders), ""), (at_length([*folders, lacks]), of_two)):
        for words, (row, _) in rows.items():
            assert f"; to {words} it is {gap_in(row)} (adjusted p = {row['p_adjusted']:.2g}{whose})" in said
    few = asked(tmp_path / "reframed", 0.3, model=CUSTOM)
    ((_, profiles),) = recipes.questions([folders[0], few]).items()
    assert (
        recipes.lstm_minus(recipes.UNORDERED, CUSTOM, profiles) == {}
    )  # one profile had them: its table says it


def test_each_answer_says_of_which_model_it_is_where_both_were_asked(tmp_path):
    custom = asked(tmp_path / "custom", 0.3, heads=OF_CUSTOM, model=CUSTOM)
    one, frozen = asked(tmp_path / "tuned", 0.2), asked(tmp_path / "quick", 0.5, regime="frozen")
    (shuffled,) = effects_of(custom).orders.to_dict("records")
    (beyond,) = effects_of(custom).beyond.to_dict("records")
    apart = gap_in(beyond)
    added = written(-shuffled["difference"], -shuffled["adjusted_high"], -shuffled["adjusted_low"])
    assert shuffled["difference"] > 0  # so that a sign that was left as recorded is seen
    verdicts = {helps(folder) for folder in (custom, one, frozen)}
    assert verdicts == {"not shown"}
    assert answer.in_short([custom, one, frozen]) == first_answer(f"{plainly(one)}.", f"{plainly(custom)}.")
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
    first, second = said.split(" Custom CNN-LSTM, with the backbone trained too: over the ")
    for part, folders in ((first, xception), (second, custom)):
        names = ", ".join(f"`{folder.name}`" for folder in folders)
        mean = np.mean([effects_of(folder).row("lstm-raster")["difference"] for folder in folders])
        assert (
            f"2 recipes that compared the LSTM with mean-pooling ({names}; 4 runs of each head) the difference to mean-pooling is {mean:+.4f} ["
            in part
        )


def test_the_difference_over_all_recipes_is_said_without_the_original_protocol_too(tmp_path):
    folders = [
        asked(tmp_path / name, lift) for name, lift in (("calibrated", 0.2), ("tuned", 0.5), ("full", 2.0))
    ]
    gaps = [effects_of(folder).row("lstm-raster")["difference"] for folder in folders]
    said = at_length(folders)
    assert f"6 runs of each head) the difference to mean-pooling is {np.mean(gaps):+.4f} [" in said
    assert f"; without the original protocol (`full`) it is {np.mean(gaps[:2]):+.4f} [" in said
    assert "], a figure that was added when the others were known." in said
    assert "without the original" not in at_length(folders[:2])
    assert "without the original" not in at_length(folders[2:])
    short = asked(
        tmp_path / "quick", 0.3
    )  # of a question that the original protocol and its short form alone asked, nothing is left
    assert recipes.over_recipes(recipes.questions([folders[2], short]), without=("full", "quick")) == {}


def test_each_model_has_its_own_verdict_and_each_regime_that_says_otherwise(tmp_path):
    one, custom = asked(tmp_path / "tuned", 0.2), asked(tmp_path / "custom", 0.3, model=CUSTOM)
    path = custom / "06_ablation.json"
    found = files.read_json(path)
    found["answers"][ablation.HELPS] = "Yes, a little. The rest."
    files.write_json(path, found)
    said = answer.in_short([one, custom])
    assert said == first_answer(f"{plainly(one)}.", f"{plainly(custom, 'yes, a little')}.")
    frozen = asked(tmp_path / "quick", 0.5, regime="frozen")
    assert answer.in_short([one, frozen, custom]) == said  # which says the same
    path = frozen / "06_ablation.json"
    found = files.read_json(path)
    found["answers"][ablation.HELPS] = "Not settled: there is one training of each head. The rest."
    files.write_json(path, found)
    first, *_ = answer.in_short([one, frozen, custom]).split("\n- **Custom CNN-LSTM: ")
    assert first.endswith(f"{plainly(one)}. On frozen features: not settled.")
    assert [line.split(" | ")[4] for line in table_of([one, custom])] == ["not shown", "yes, a little"]


@pytest.mark.parametrize(
    ("differs", "value", "recipes"),
    [
        (
            "xception_lstm.dropout",
            0.9,
            "the one recipe that compared the LSTM with mean-pooling (`custom` with `reframed`",
        ),
        (
            "ablation.seeds",
            [1, 2],
            "the one recipe that compared the LSTM with mean-pooling (`custom` with `reframed`",
        ),
        (
            "custom_cnn_lstm.dropout_rate",
            0.9,
            "2 recipes that compared the LSTM with mean-pooling (`custom`, `reframed`",
        ),
    ],
)
def test_a_recipe_is_told_by_the_settings_of_its_model(tmp_path, monkeypatch, differs, value, recipes):
    folders = [asked(tmp_path / name, 0.5, model=CUSTOM) for name in ("custom", "reframed")]
    load = config.load
    monkeypatch.setattr(
        config, "load", lambda name: load("custom", **({differs: value} if name == "reframed" else {}))
    )
    assert recipes in at_length(folders)


def test_the_model_card_says_the_same_of_the_custom_model_below_xception(tmp_path):
    custom = asked(tmp_path / "custom", 0.3, heads=OF_CUSTOM, model=CUSTOM)
    few = asked(tmp_path / "reframed", 0.4, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2)
    alone = "\n\n".join(sequence.answers([xception]))
    said = "\n\n".join(sequence.answers([custom, few, xception]))
    assert alone.startswith("### Does the sequence help?\n\nWith the backbone trained too (`tuned`):")
    assert "Every variant" not in alone
    first, second = said.split("Custom CNN-LSTM, with the backbone trained too (`custom`):\n\n")
    heading, rest = alone.replace("With the", "Xception-LSTM, with the").split("\n\n", 1)
    assert first.strip() == f"{heading}\n\n{ablation.NAMED}\n\n{rest}"  # where there is a table of variants
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
    assert second.rstrip().endswith("were of Xception-LSTM.")  # which is no rival of the custom model's heads


def test_what_a_control_says_is_of_xception_first_and_mixes_no_models(tmp_path):
    heads = ("mean-mlp", "lstm-raster", control.LSTM)
    custom = asked(tmp_path / "custom", 0.9, heads=heads, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2, heads=heads)
    seen = SEEN - {("relation", "lstm-raster")}
    for folder in (custom, xception):
        controlled(folder, gains=seen)
    alone, own = sequence.left_open([xception]), sequence.left_open([custom])
    assert "(Xception-LSTM, `tuned`, with the backbone trained too)" in alone
    assert "(Custom CNN-LSTM, `custom`, with the backbone trained too)" in own
    assert sequence.left_open([custom, xception]) == alone
    assert "(synthetic chests, `tuned`):" in "".join(sequence.answers([custom, xception]))
    frozen = asked(
        tmp_path / "quick", 0.2, regime="frozen"
    )  # it has no largest read-out, which the custom one's is not for
    controlled(frozen, gains=seen)
    assert "Max-pooled" not in sequence.left_open([custom, frozen])


def test_single_seeds_of_the_known_truth_are_those_of_all_profiles(tmp_path):
    """The same seed repeats itself in every profile, and is counted once."""
    folders = [asked(tmp_path / "tuned", 0.2), asked(tmp_path / "custom", 0.9, model=CUSTOM)]
    for folder in folders:
        controlled(folder, gains=SEEN - {("relation", "lstm-raster")})
    path = folders[1] / "06_ablation.json"
    other = files.read_json(path)
    for row in other["control"]["relation"]["per_seed"]:
        row["auc"] = 0.95 if row["seed"] == 43 else 0.2
        row["seed"] += 1  # 43, which both have then, and 44
    files.write_json(path, other)
    rows = files.read_json(folders[0] / "06_ablation.json")["control"]["relation"]["per_seed"]
    first = [row["auc"] for row in rows if row["variant"] == "lstm-raster"]
    assert f"(test AUC {min(first):.3f} to 0.950 by seed, 1 of 3 above 0.9)" in sequence.left_open(folders)


def test_heads_with_the_size_balanced_are_those_of_the_recipe_that_asked_first(tmp_path, monkeypatch):
    first, again = (
        asked(tmp_path / name, lift, model=CUSTOM) for name, lift in (("custom", 0.9), ("custom_cpu", 0.1))
    )
    other = asked(tmp_path / "matched", 0.5, model=CUSTOM)
    xception = asked(tmp_path / "tuned", 0.2)
    for folder in (first, again, other, xception):
        files.write_json(folder / "headline.json", {"n_boot": 100, "headline": []})
    monkeypatch.setattr(size.acquisition, "sized", lambda table: table)
    monkeypatch.setattr(size.acquisition.overlap, "weights", lambda _, y, *, blocks: np.ones(len(y)))
    (said,) = size._heads([first, again, other, xception])
    gaps = {
        folder: effects_of(folder).row("lstm-raster")["difference"] for folder in (first, again, xception)
    }
    assert f"weights is {gaps[xception]:+.3f} [" in said and "] of Xception-LSTM (`tuned`), " in said
    assert f"; {(gaps[first] + gaps[again]) / 2:+.3f} [" in said
    assert "] of Custom CNN-LSTM (`custom` with `custom_cpu`), " in said and "matched" not in said
    assert size._heads([]) == []


@pytest.mark.parametrize("relation", [True, False])
def test_the_card_says_what_the_lstm_sees_where_the_truth_is_known(tmp_path, relation):
    folder = asked(tmp_path / "tuned", 0.5)
    assert "truth is known" not in "".join(sequence.answers([folder]))
    controlled(folder, gains=SEEN if relation else SEEN - {("relation", "lstm-raster")})
    card = "\n".join(sequence.answers([asked(tmp_path / "balanced", 0.5), folder]))
    assert "Where the truth is known (synthetic chests, `tuned`):" in card
    (row,) = (line for line in card.splitlines() if line.startswith("| lstm-raster sees the relation too |"))
    assert ("such a relation may still be there" in row) != relation


def test_the_readme_says_in_short_what_a_difference_of_zero_leaves_open(tmp_path):
    folder = asked(tmp_path / "tuned", 0.5, heads=("mean-mlp", "lstm-raster", control.LSTM))
    assert sequence.left_open([folder]) == ""
    unseen = "does not reliably learn whether two opacities are in one lung or in both"
    largest = "Max-pooled over its steps instead, it learns that relation"
    for seen, missed, read in (
        (SEEN, None, False),
        (SEEN - {("relation", "lstm-raster")}, unseen, True),
        (SEEN | {("amount", "mean-mlp")}, "has a test AUC 0.", False),
    ):
        controlled(folder, gains=seen)
        said = sequence.left_open([folder])
        assert (
            f"an LSTM of the same kind (32 units, read out at its last step) {missed}" in said
            if missed
            else said == ""
        )
        assert (unseen in said) == (missed == unseen)
        assert (largest in said) == read


def test_the_readme_says_what_the_read_out_that_learns_a_relation_makes_of_radiographs(tmp_path):
    few = asked(tmp_path / "tuned", 0.5)
    many = asked(tmp_path / "quick", 0.5, heads=("mean-mlp", "lstm-raster", control.LSTM))
    seen = SEEN - {("relation", "lstm-raster")}
    for folder in (few, many):
        controlled(folder, gains=seen)
    said = sequence.left_open([few, many])
    assert f" is {gap_of(many, control.LSTM)}, adjusted for 2 comparisons. On the synthetic" in said
    assert "(Xception-LSTM, `quick`, with the backbone trained too)" in said
    assert "Max-pooled" not in sequence.left_open([few])
    frozen = asked(tmp_path / "frozen", 0.9, heads=("mean-mlp", "lstm-raster", control.LSTM), regime="frozen")
    controlled(frozen, gains=seen)
    assert sequence.left_open([few, many, frozen]) == said  # of the first regime that can say
    controlled(many, gains=seen - {("relation", control.LSTM)})  # it does not learn it either
    assert "(Xception-LSTM, `frozen`, on frozen features)" in sequence.left_open([few, many, frozen])
    assert "Max-pooled" not in sequence.left_open([few, many])


def test_that_read_out_is_told_over_all_recipes_that_asked_for_it(tmp_path):
    heads = ("mean-mlp", "lstm-raster", control.LSTM)
    lifts = {"tuned": 0.2, "reframed": 0.8}
    one, other = (asked(tmp_path / name, lift, heads=heads) for name, lift in lifts.items())
    lacks = asked(tmp_path / "balanced", 0.5)
    for folder in (one, other, lacks):
        controlled(folder, gains=SEEN - {("relation", "lstm-raster")})
    recipes = [[ablation.read(folder / "ablation")] for folder in (one, other)]
    draws = [ablation.pooled(recipes, head, n_boot=100) for head in (control.LSTM, "lstm-raster")]
    assert draws[0].estimate != draws[1].estimate
    row = ablation.judged(draws[:1], [(control.LSTM, "mean-mlp")]).iloc[0]
    names = "`tuned`, `reframed`; 4 runs of each head"
    said = sequence.left_open([one, lacks, other])
    assert (
        f"adjusted for 2 comparisons; over the 2 recipes that compared the two ({names}) the difference to mean-pooling is {gap_in(row)} (p = "
        in said
    )
    assert (
        "). On the synthetic chests a token sees its own patch alone; a token of Xception sees most of the image"
        in said
    )
    assert said.endswith(" At length: [models/README.md](models/README.md#does-the-sequence-help).")
    assert "recipes that compared" not in sequence.left_open([one, lacks])
    kept = files.read_json(other / "06_ablation.json")
    files.write_json(other / "06_ablation.json", kept | {"seeds": [42]})  # which tells nothing of other seeds
    assert sequence.left_open([one, lacks, other]) == sequence.left_open([one, lacks])


@pytest.mark.parametrize(
    ("amount", "loses"), [({("amount", "lstm-raster")}, False), ({("amount", "mean-mlp")}, True)]
)
def test_the_card_says_what_the_lstm_loses_where_no_sequence_can_help(tmp_path, amount, loses):
    folder = asked(tmp_path / "tuned", 0.5)
    found = controlled(folder, gains=SEEN | amount)
    (row,) = found["control"]["amount"]["differences"]
    assert (row["difference"] < 0) == loses
    assert row["differs"]
    card = "\n".join(sequence.answers([folder]))
    assert ("zero there does not by itself say that the sequence tells nothing" in card) == loses


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
    apart = gap_in(order)
    place = "(Xception-LSTM, on frozen features, `quick`)"
    said = at_length([one, many])
    assert f"from mean-pooling: `lstm-reverse` {gap_of(many, 'lstm-reverse')} {place}; orders shown" in said
    assert f"from raster order: `lstm-reverse` {apart} {place}." in said
    assert "a smaller one" in said and "a smaller one" not in at_length([one])


def test_the_model_card_lists_every_recipe_that_asked_whether_the_lstm_helps(tmp_path):
    folders = [asked(tmp_path / "balanced", 0.2), asked(tmp_path / "tuned", 0.8)]
    said = "\n".join(sequence.answers(folders))
    for folder in folders:
        assert f"| {folder.name} | 2 |" in said
        assert f"| {gap_of(folder)} |" in said


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
    effects = effects_of(many)
    lines = {line.split(" | ")[0].strip("| "): line for line in said.splitlines() if line.startswith("| ")}
    auc = effects.auc.set_index("variant")["auc"]
    assert lines["lstm-reverse"].endswith(
        f"| {auc['lstm-reverse']:.4f} | {gap_in(effects.row('lstm-reverse'))} |  |"
    )
    assert (
        f"| {gap_in(effects.row('lstm-raster'))} | {gap_in(effects.beyond.iloc[0])} |" in lines["lstm-raster"]
    )


def test_profiles_that_differ_in_their_ablation_alone_are_one_recipe(tmp_path):
    folders = [
        asked(tmp_path / name, lift) for name, lift in (("calibrated", 0.2), ("grid", 0.8), ("tuned", 0.5))
    ]
    said = at_length(folders)
    assert (
        "over the 2 recipes that compared the LSTM with mean-pooling (`calibrated` with `grid`, `tuned`; 6 runs of each head)"
        in said
    )
