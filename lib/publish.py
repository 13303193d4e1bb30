"""What does the study publish, and does it follow from the recorded predictions? README's results, and their check.

python -m lib.publish collect --profile P   predictions of the finished runs -> reports/results/P
python -m lib.publish publish               reports/results -> the results between the marks in README.md
python -m lib.publish verify                every published figure again, from the predictions tables alone
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from lib import ablation, comparison, config, evaluate, files
from lib.config import ROOT
from lib.plots import style

BEGIN, END = "<!-- results: written by `make publish` -->", "<!-- end of results -->"
PROFILES = ("full", "tuned", "quick")  # the order in which they are shown; the demo is not published
N_BOOT = 2000

# Published results on the same 624 test images, with what limits the comparison.
ANCHORS = (
    ("Kermany 2018, Inception-v3", "92.8", "0.968", "the test images seem to have guided stopping"),
    (
        "MedMNIST v2, ResNet-18 / ResNet-50 at 224",
        "86.4 / 88.4",
        "0.956 / 0.962",
        "centre square of each image",
    ),
    ("MedMNIST+, ResNet-18, 3 seeds, 224", "91.1 ± 1.0", "0.980", "centre square of each image"),
    ("MedMNIST+, DINO ViT-B/16 linear probe, 3 seeds", "91.6 ± 0.3", "0.989", "best anchor of several seeds"),
    ("Google AutoML Vision (MedMNIST v2)", "94.6", "0.991", "centre square of each image"),
    ("DenseNet121, blocks 3-4 unfrozen", "94.4", "0.980", "one run"),
    ("VGG16 on cropped lungs (Rajaraman 2018)", "96.2", "", "one run"),
    ("Xception (Sci Rep 2025)", "80.5", "", "one run"),
)


class PublishError(RuntimeError):
    """Results that are missing, or figures that do not follow from them."""


def collect(cfg: config.Config) -> Path:
    """Copy predictions, history and run.json of the profile's finished runs to its results folder, with their headline.

    Raises PublishError when no run is finished.
    """
    from lib import runs, store

    prepared = store.prepare(cfg, progress=False)
    found = [
        (model, seed, runs.find(cfg, model, seed, store=prepared))
        for model in config.MODELS
        for seed in cfg.seeds
    ]
    found = [(model, seed, run) for model, seed, run in found if run]
    if not found:
        raise PublishError(f"profile {cfg.profile} has no finished run; train one with `python -m lib.train`")
    with files.replacing(cfg.results_dir / "predictions") as beside:
        beside.mkdir()
        for model, seed, run in found:
            for name in ("predictions.csv", "history.csv", "run.json"):
                stem, ending = name.split(".")
                target = (
                    f"{model}-seed{seed}.csv"
                    if stem == "predictions"
                    else f"{model}-seed{seed}.{stem}.{ending}"
                )
                (beside / target).write_bytes((run.folder / name).read_bytes())
    table = evaluate.headline(predictions(cfg.results_dir), n_boot=N_BOOT)
    files.write_json(
        cfg.results_dir / "headline.json", {"n_boot": N_BOOT, "headline": table.to_dict("records")}
    )
    return cfg.results_dir


def predictions(folder: Path) -> evaluate.Predictions:
    """The recorded predictions tables below a results folder, by model, in the order of their seeds."""
    tables = {}
    for model in config.MODELS:
        paths = sorted((folder / "predictions").glob(f"{model}-seed*.csv"), key=_seed)
        paths = [path for path in paths if not path.stem.endswith(".history")]
        if paths:
            tables[model] = [evaluate.read(path) for path in paths]
    return tables


def verify(results: Path) -> list[str]:
    """One line a published table: what was computed again, from what, and that it agrees.

    Raises PublishError, naming the first figures that differ, when one does not follow from the recorded predictions.
    """
    lines = []
    for folder in _published(results):
        tables = predictions(folder)
        n = len(next(iter(tables.values()))[0])
        lines.append(
            _agree(folder, "headline", _headline(folder), evaluate.headline(tables, n_boot=N_BOOT), n)
        )
        if (folder / "04_compare.json").exists() and len(tables) == 2:
            lines.append(_verify_comparison(folder, tables))
        if (folder / "ablation").is_dir():
            lines.append(_verify_ablation(folder))
    if not lines:
        raise PublishError(f"nothing is published below {results}; run the study, then `make publish`")
    return lines


def render(results: Path) -> str:
    """The results as README shows them: headline table, answer, anchors and figure, from `results` alone."""
    folders = _published(results)
    rows = [_row(folder, row) for folder in folders for row in _headline(folder)]
    parts = [_answer(folders), _markdown(pd.DataFrame(rows))]
    parts.append(
        "Mean over seeds, on the 624 images of the official test set; 95% intervals resample patients and seeds. The threshold and "
        "the epoch were chosen on validation patients. `full` is the original protocol, `quick` its shortened form for 2 cores, "
        "`tuned` the choices that validation supported."
    )
    parts += [_figure(folder, results) for folder in folders[:1]]
    anchors = pd.DataFrame(
        ANCHORS, columns=["Published on the same 624 images", "Accuracy, %", "AUC", "Note"]
    )
    parts.append(_markdown(anchors))
    parts.append("Most of these are single runs, and few state how the epoch and the threshold were chosen.")
    return "\n\n".join(part for part in parts if part)


def readme_with(text: str, block: str) -> str:
    """README's text with the results between the marks replaced. Raises PublishError when the marks are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise PublishError(f"README.md must hold one line {BEGIN!r} and one line {END!r}")
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def _markdown(table: pd.DataFrame) -> str:
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _published(results: Path) -> list[Path]:
    return [results / name for name in PROFILES if (results / name / "predictions").is_dir()]


def _seed(path: Path) -> int:
    return int(path.stem.split("-seed")[1].split(".")[0])


def _headline(folder: Path) -> list[dict]:
    for name in ("04_compare.json", "headline.json"):
        if (folder / name).exists():
            return files.read_json(folder / name)["headline"]
    raise PublishError(
        f"{folder} holds predictions and no headline; run `python -m lib.publish collect --profile {folder.name}`"
    )


def _agree(folder: Path, what: str, recorded: list[dict], computed: pd.DataFrame, n: int) -> str:
    again = {row["model"]: row for row in computed.to_dict("records")}
    figures = 0
    for row in recorded:
        for name, value in again[row["model"]].items():
            if isinstance(value, (int, float)):
                figures += 1
                if not abs(value - row[name]) <= 1.5e-6:
                    raise PublishError(
                        f"{folder.name}: {what}: {row['model']}: {name} is {row[name]}, the predictions give {value}"
                    )
    return f"{folder.name}: {what}: {figures} figures follow from the predictions of {n} images"


def _verify_comparison(folder: Path, tables: evaluate.Predictions) -> str:
    recorded = files.read_json(folder / "04_compare.json")["conclusion"]
    names = [style.NAMES[model] for model in tables]
    computed = comparison.conclusion(comparison.differences(tables, n_boot=N_BOOT), names)
    if computed != recorded:
        raise PublishError(
            f"{folder.name}: the recorded conclusion {recorded!r} is not what the predictions give: {computed!r}"
        )
    return f"{folder.name}: conclusion of the comparison follows from the predictions"


def _verify_ablation(folder: Path) -> str:
    recorded = files.read_json(folder / "06_ablation.json")
    effects = ablation.analyse(ablation.read(folder / "ablation"), n_boot=recorded["n_boot"])
    for question, sentence in ablation.answers(effects).items():
        if recorded["answers"][question] != sentence:
            raise PublishError(
                f"{folder.name}: ablation: {question!r} is answered {recorded['answers'][question]!r}, the predictions give {sentence!r}"
            )
    return f"{folder.name}: ablation: {len(effects.auc)} variants, {len(effects.per_seed)} runs, all answers follow from the predictions"


def _row(folder: Path, row: dict) -> dict:
    infos = [
        files.read_json(path)
        for path in sorted((folder / "predictions").glob(f"{row['model']}-seed*.run.json"))
    ]
    minutes = sum(info["duration_s"] for info in infos) / 60
    return {
        "Model": style.NAMES[row["model"]],
        "Profile": folder.name,
        "Seeds": f"{row['seeds']}",
        "Test AUC": _interval(row, "auc", ".3f"),
        "Accuracy, %": _interval(row, "accuracy", ".1f", 100),
        "Sensitivity, %": _interval(row, "sensitivity", ".1f", 100),
        "Specificity, %": _interval(row, "specificity", ".1f", 100),
        "n (patients)": f"{row['n']} ({row['n_patients']})",
        "Trained on": ", ".join(sorted({info["device"] for info in infos})),
        "Minutes": f"{minutes:.0f}",
    }


def _interval(row: dict, name: str, form: str, scale: int = 1) -> str:
    value, low, high = (row[key] * scale for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def _answer(folders: list[Path]) -> str:
    for folder in folders:
        if (folder / "06_ablation.json").exists():
            found = files.read_json(folder / "06_ablation.json")
            return f"**Does the LSTM help?** {found['answers'][ablation.HELPS]} {found['answers'][ablation.ORDER]}"
    return ""


def _figure(folder: Path, results: Path) -> str:
    figure = folder / "figures" / "roc.svg"
    place = f"reports/results/{figure.relative_to(results).as_posix()}"
    return (
        f"![ROC curves of both models on the official test set, with bootstrap bands]({place})"
        if figure.exists()
        else ""
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.publish", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("collect", "publish", "verify"))
    parser.add_argument("--profile", help="whose runs `collect` records")
    asked = parser.parse_args(argv)
    results, readme = ROOT / "reports" / "results", ROOT / "README.md"
    try:
        if asked.action == "collect":
            print(f"recorded in {collect(config.load(asked.profile))}")
        elif asked.action == "publish":
            files.write_text(readme, readme_with(readme.read_text(encoding="utf-8"), render(results)))
            print(f"results written into {readme.name}")
        else:
            print("\n".join(verify(results)))
            if readme_with(readme.read_text(encoding="utf-8"), render(results)) != readme.read_text(
                encoding="utf-8"
            ):
                raise PublishError("README.md does not show the recorded results; run `make publish`")
            print("README.md shows the recorded results")
    except (PublishError, config.ConfigError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
