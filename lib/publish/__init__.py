"""What does the study publish, and does it follow from the recorded predictions? README's results, and their check.

python -m lib.publish collect --profile P   predictions of the finished runs -> reports/results/P
python -m lib.publish publish               reports/results -> the ROC figure, and the results between the marks in README.md and the cards
python -m lib.publish verify                every published figure again, from the predictions tables alone
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from lib import ablation, comparison, config, curves, evaluate, files
from lib.ablation import control
from lib.comparison.compared import copy_run
from lib.config import ROOT
from lib.plots import evidence, style
from lib.publish import documents, foremost
from lib.publish.results import PublishError, best, published, record
from lib.trouble import told

N_BOOT = 2000


def collect(cfg: config.Config) -> Path:
    """Copy predictions, history and run.json of the profile's finished runs to its results folder, with their headline.

    What is recorded of other seeds stays while its images and settings are the profile's, even if the code has changed
    since: it names its commit. Raises PublishError when no run is finished.
    """
    from lib import runs, store

    prepared, recorded = store.prepare(cfg, progress=False), cfg.results_dir / "predictions"
    wanted = [(model, seed) for model in config.MODELS for seed in cfg.seeds]
    found = {f"{model}-seed{seed}": runs.find(cfg, model, seed, store=prepared) for model, seed in wanted}
    found = {stem: run for stem, run in found.items() if run}
    if not found:
        raise PublishError(f"profile {cfg.profile} has no finished run; train one with `python -m lib.train`")
    kept = [
        stem
        for stem in (f"{model}-seed{seed}" for model, seed in wanted)
        if stem not in found and _still_holds(recorded / f"{stem}.run.json", cfg, prepared.fingerprint)
    ]
    recordings = {path.name.removesuffix(".run.json") for path in recorded.glob("*.run.json")}
    for stem in sorted(recordings - set(kept) - set(found)):
        print(
            f"no longer recorded: {stem}, which is of other images, splits, settings or seeds than profile {cfg.profile} now",
            file=sys.stderr,
        )
    with files.replacing(recorded) as beside:
        beside.mkdir()
        for stem, run in found.items():
            copy_run(run, beside, stem)
        for path in (path for stem in kept for path in recorded.glob(f"{stem}.*")):
            (beside / path.name).write_bytes(path.read_bytes())
    tables = evaluate.recorded(cfg.results_dir)
    rows = evaluate.headline(tables, n_boot=N_BOOT).to_dict("records")
    files.write_json(cfg.results_dir / "headline.json", {"n_boot": N_BOOT, "headline": rows})
    return cfg.results_dir


def _still_holds(path: Path, cfg: config.Config, data_fingerprint: str) -> bool:
    """Whether a recorded run.json is of the images and settings of `cfg`; a setting that came later was at its default."""
    if not path.exists():
        return False
    run = files.read_json(path)
    sections = {part: getattr(cfg, part) for part in ("train", run["model"])}
    then = {part: vars(type(section)()) | run["config"][part] for part, section in sections.items()}
    now = {part: vars(section) for part, section in sections.items()}
    return run["data_fingerprint"] == data_fingerprint and json.dumps(then, sort_keys=True) == json.dumps(
        now, sort_keys=True
    )


def draw_roc(results: Path) -> None:
    """The ROC curves that README shows: each model in the first profile that has it, from the recorded predictions."""
    shown = best(results)
    drawn = {
        model: curves.roc(evaluate.recorded(folder)[model], n_boot=N_BOOT)
        for model, (folder, _) in shown.items()
    }
    style.use()
    style.save(evidence.roc(drawn, foremost.labels(shown)), results / "roc.svg")


def verify(results: Path) -> list[str]:
    """One line a published table: what was computed again, from what, and that it agrees.

    Raises PublishError, naming the first figures that differ, when one does not follow from the recorded predictions.
    """
    lines = []
    for folder in published(results):
        tables, recorded = evaluate.recorded(folder), record(folder)
        computed = evaluate.headline(tables, n_boot=recorded["n_boot"])
        n = len(next(iter(tables.values()))[0])
        figures = _agree(folder, "headline", recorded["headline"], computed.to_dict("records"), key="model")
        lines.append(f"{folder.name}: headline: {figures} figures follow from the predictions of {n} images")
        if (folder / "04_compare.json").exists() and len(tables) == 2:
            lines.append(_verify_comparison(folder, tables))
        if (folder / "ablation").is_dir():
            lines.append(_verify_ablation(folder))
    if not lines:
        raise PublishError(f"nothing is published below {results}; run the study, then `make publish`")
    return lines


def _agree(folder: Path, what: str, recorded: list[dict], computed: list[dict], *, key: str) -> int:
    """How many figures agree, in rows that `key` names. Raises PublishError for the first that does not, or a row too many or few."""
    rows, again = {row[key]: row for row in recorded}, {row[key]: row for row in computed}
    if set(rows) != set(again) or len(rows) != len(recorded):
        raise PublishError(
            f"{folder.name}: {what} has the rows {', '.join(sorted(row[key] for row in recorded)) or 'none'}, the predictions "
            f"are of {', '.join(sorted(again))}"
        )
    figures = 0
    for label, row in rows.items():
        for name, value in again[label].items():
            if isinstance(value, (int, float, np.number)):
                figures += 1
                stated = row.get(name)
                if not np.isclose(
                    value, np.nan if stated is None else stated, rtol=0, atol=1.5e-6, equal_nan=True
                ):
                    raise PublishError(
                        f"{folder.name}: {what}: {label}: {name} is {stated}, the predictions give {value}"
                    )
    return figures


def _verify_comparison(folder: Path, tables: evaluate.Predictions) -> str:
    found = files.read_json(folder / "04_compare.json")
    recorded = found["conclusion"]
    names = [style.NAMES[model] for model in tables]
    computed = comparison.conclusion(
        comparison.differences(tables, [comparison.PRIMARY], n_boot=found["n_boot"]), names
    )
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
    rows = ablation.headline(effects).to_dict("records")
    figures = _agree(folder, "ablation", recorded["headline"], rows, key="variant")
    figures += _verify_control(folder, recorded)
    return f"{folder.name}: ablation: {len(effects.auc)} variants, {len(effects.per_seed)} runs, {figures} figures and all answers follow from the predictions"


def _verify_control(folder: Path, recorded: dict) -> int:
    """How many figures of the ablation's controls agree. Raises PublishError where one does not, or where a check says else."""
    again, stated = control.read(folder / "ablation", n_boot=recorded["n_boot"]), recorded.get("control", {})
    if set(again) != set(stated):
        raise PublishError(
            f"{folder.name}: the controls {', '.join(stated) or 'none'} are recorded, predictions are of {', '.join(again) or 'none'}"
        )
    figures = 0
    for task, found in again.items():
        for name, table in (("auc", found.effects.auc), ("differences", found.effects.heads)):
            rows = table.to_dict("records")
            figures += _agree(folder, f"control {task}", stated[task].get(name, []), rows, key="variant")
        runs = [
            _run_rows(rows)
            for rows in (stated[task].get("per_seed", []), found.effects.per_seed.to_dict("records"))
        ]
        figures += _agree(folder, f"control {task}", *runs, key="run")
    if set(again) == set(control.TASKS) and (checks := control.findings(again)) != recorded.get("checks"):
        raise PublishError(f"{folder.name}: the control's checks are not what the predictions give: {checks}")
    return figures


def _run_rows(rows: list[dict]) -> list[dict]:
    """Rows of `Effects.per_seed`, named by variant and seed."""
    return [{"run": f"{row['variant']}, seed {row['seed']}", "auc": row["auc"]} for row in rows]


@told(ValueError)  # of tables that are damaged
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.publish", description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=("collect", "publish", "verify"))
    parser.add_argument("--profile", help="whose runs `collect` records")
    asked = parser.parse_args(argv)
    results = ROOT / "reports" / "results"
    if asked.action == "collect":
        print(f"recorded in {collect(config.load(asked.profile))}")
    elif asked.action == "publish":
        draw_roc(results)
        for name, block in documents.DOCUMENTS.items():
            path = ROOT / name
            files.write_text(path, documents.with_block(path.read_text(encoding="utf-8"), block(results)))
            print(f"results written into {name}")
    else:
        print("\n".join(verify(results)))
        print("\n".join(documents.check_documents(ROOT, results)))
    return 0
