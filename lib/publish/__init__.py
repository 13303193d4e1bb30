"""What does the study publish, and does it follow from the recorded predictions? README's results, and their check.

python -m lib.publish collect --profile P   predictions of the finished runs -> reports/results/P
python -m lib.publish publish               reports/results -> the ROC figure, and the results between the marks in README.md, the cards and reports/README.md
python -m lib.publish verify                every published figure that follows from recorded predictions again, and what does not
python -m lib.publish renew                 their recorded JSON written anew, after a change of wording or method, also without the models; then `publish`
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import joblib

from lib import config, evaluate, files, measured
from lib.config import ROOT
from lib.errors import reports_errors
from lib.publish import documents, figure, verification
from lib.publish.results import PublishError, check_settings, other_settings, published

N_BOOT = 2000


def collect(cfg: config.Config, *, drop: bool = False) -> Path:
    """Copy predictions, history and run.json of the profile's finished runs to its results folder, with their headline.

    What is recorded of the profile's other seeds stays while its images and settings are the profile's, even if the code has changed
    since: it names its commit. What is of others cannot stay beside the new runs, and goes if `drop` says so. Raises
    PublishError, and changes nothing, where it does not, when no run is finished, or where notebook 04 has recorded its comparison.
    """
    from lib import runs, store  # they bring training along, which takes seconds to load
    from lib.comparison.compared import copy_run

    if (cfg.results_dir / verification.COMPARED).exists():
        raise PublishError(
            f"profile {cfg.profile} has its figures from notebook 04, which records the runs along with them: `make all PROFILE={cfg.profile}`"
        )
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
    lost = sorted(recordings - set(kept) - set(found))
    if lost and not drop:
        raise PublishError(
            f"recorded runs of other images, splits, settings or seeds than profile {cfg.profile} has now would be lost "
            f"({', '.join(lost)}): nothing was changed; --drop gives them up"
        )
    with files.replacing(recorded) as beside:
        beside.mkdir()
        for stem, run in found.items():
            copy_run(run, beside, stem)
        for path in (path for stem in kept for path in recorded.glob(f"{stem}.*")):
            (beside / path.name).write_bytes(path.read_bytes())
    models = measured.of(evaluate.recorded(cfg.results_dir), n_boot=N_BOOT)
    rows = measured.headline(models).to_dict("records")
    files.write_json(cfg.results_dir / "headline.json", {"n_boot": N_BOOT, "headline": rows})
    return cfg.results_dir


def _still_holds(path: Path, cfg: config.Config, data_fingerprint: str) -> bool:
    """Whether a recorded run.json is of the images and settings of `cfg`."""
    run = files.read_json(path) if path.exists() else None
    return bool(run) and run["data_fingerprint"] == data_fingerprint and not other_settings(run, cfg)


@reports_errors(ValueError)  # of tables that are damaged
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lib.publish",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", choices=("collect", "publish", "verify", "renew"))
    parser.add_argument("--profile", help="whose runs `collect` records")
    parser.add_argument(
        "--drop",
        action="store_true",
        help="let `collect` give up recorded runs that are of other images, splits, settings or seeds",
    )
    asked = parser.parse_args(argv)
    results = ROOT / "reports" / "results"
    if asked.action == "collect":
        print(f"recorded in {collect(config.load(asked.profile), drop=asked.drop)}")
    elif asked.action == "publish":
        for folder in published(results):
            check_settings(folder)
        figure.draw(results)
        for name, block in documents.DOCUMENTS.items():
            path = ROOT / name
            files.write_text(path, documents.with_block(path.read_text(encoding="utf-8"), block(results)))
            print(f"results written into {name}")
    elif asked.action == "renew":
        print("\n".join(verification.renew(results)))
    else:
        documented = [partial(documents.check_document, ROOT, results, name) for name in documents.DOCUMENTS]
        for line in _in_order([*verification.checks(results), *documented]):
            print(line, flush=True)
        print(verification.NOT_COMPUTED)
    return 0


def _in_order(checks: Sequence[Callable[[], str]]) -> Iterator[str]:
    """The lines of all checks, which run one a core. Of those that fail the first is raised, not the fastest: a document or a
    figure that differs may only repeat a number that does."""
    pool = joblib.Parallel(n_jobs=min(joblib.cpu_count(), len(checks)), return_as="generator")
    outcomes = pool(joblib.delayed(_outcome)(check) for check in checks)
    for found in outcomes:
        if isinstance(found, Exception):
            with warnings.catch_warnings(action="ignore"):  # joblib's, that the other checks are given up
                outcomes.close()
            raise found
        yield found


def _outcome(check: Callable[[], str]) -> str | Exception:
    try:
        return check()
    except (PublishError, ValueError) as error:
        return error
