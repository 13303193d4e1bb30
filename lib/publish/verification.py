"""Does what is recorded follow from the predictions? Each file of a profile computed again: to compare it, or to renew it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from lib import config, evaluate, files, measured
from lib.ablation import record as ablation_record
from lib.comparison import scored
from lib.publish import figure
from lib.publish.results import PublishError, check_settings, published, record

COMPARED, HEADLINE, ABLATION = "04_compare.json", "headline.json", "06_ablation.json"
# By file: what predictions, histories and run.json do not tell. It is neither compared nor renewed, but for the sequence's answer where readings are recorded.
KEPT = {
    COMPARED: {"readings", scored.SEQUENCE, "gflops", "image_milliseconds"},
    HEADLINE: set(),
    ABLATION: {"regime", "model", "data_fingerprint", "parameters", "val_auc", "seconds"},
}
# Of those, what a file says of itself as a whole: in its parts, some of which hold a model too, nothing is kept for it.
OF_ALL = {"regime", "model", "data_fingerprint"}
NOT_COMPUTED = (
    "Not computed again, since it does not follow from predictions: what the trained models themselves say (their tokens in other "
    "orders, 05_gradcam), what training recorded (02, 03, histories, seconds, parameters and validation AUCs of the ablation, "
    "operations and milliseconds of an image), what the images say (01_data_audit), trials.json, bench.json and the figures in "
    "<profile>/figures."
)
NAMING = (
    "model",
    "variant",
    "point",
    "subtype",
    "metric",
    "pair",
    "test",
    "check",
    "seed",
)  # what tells rows apart
P_VALUES = ("p", "p_adjusted", "p_holm", "p_value")
CLOSE = 1.5e-6  # figures are published with 6 digits


def checks(results: Path) -> list[Callable[[], str]]:
    """One function a recorded file, the ROC figure last; they may run at the same time.

    Each returns a line that says what was computed again, and that it agrees: numbers within rounding, words to the letter.
    Where something differs, or a file holds more or less than what is computed and KEPT, it raises PublishError, naming the first.
    """
    folders = published(results)
    if not folders:
        raise PublishError(f"nothing is published below {results}; run the study, then `make publish`")
    for folder in folders:
        record(folder)  # there is one
        check_settings(folder)
        _check_ablation(folder)
    held = [(folder, name) for folder in folders for name in COMPUTERS if (folder / name).exists()]
    return [*(partial(_verified, folder, name) for folder, name in held), partial(figure.verify, results)]


def _verified(folder: Path, name: str) -> str:
    where, (stated, again) = f"{folder.name}: {name}", _computed(folder, name)
    return f"{where}: {_agree(where, stated, again, KEPT[name])} figures and sentences follow from the predictions"


def renew(results: Path) -> list[str]:
    """Write what follows from the predictions anew, in every recorded file, and leave the rest; one line a file.

    For a change of wording or method, also where the trained models are gone.
    """
    lines = []
    for folder in published(results):
        for name, found in renewed(folder).items():
            same = files.read_json(folder / name)
            if files.as_json(found) != files.as_json(same):
                files.write_json(folder / name, found)
                lines.append(f"{folder.name}: {name} renewed")
            else:
                lines.append(f"{folder.name}: {name} is as it was")
    return lines


def renewed(folder: Path) -> dict[str, dict]:
    """By file: its content, with what follows from the predictions computed anew and the rest as it is recorded."""
    _check_ablation(folder)
    return {
        name: _carried(*_computed(folder, name), KEPT[name]) for name in COMPUTERS if (folder / name).exists()
    }


def _computed(folder: Path, name: str) -> tuple[dict, dict]:
    """What a file states, and what follows from the predictions, as JSON would hold it."""
    stated = files.read_json(folder / name)
    return stated, json.loads(files.as_json(COMPUTERS[name](folder, stated)))


def _check_ablation(folder: Path) -> None:
    if (folder / "ablation").is_dir() and not (folder / ABLATION).exists():
        raise PublishError(f"{folder.name} holds predictions of an ablation and no {ABLATION}")
    if (folder / ABLATION).exists():
        found, asked = files.read_json(folder / ABLATION), config.load(folder.name).ablation
        pairs = ((ablation_record.model_of(found), asked.model), (found["regime"], asked.regime))
        for stated, wanted in pairs:  # predictions tell neither, but the profile does
            if stated != wanted:
                raise PublishError(f"{folder.name}: {ABLATION} is of {stated}, and the profile asks {wanted}")


def _comparison(folder: Path, stated: dict) -> dict:
    return scored.stated(scored.recorded(folder, n_boot=_draws(folder, stated)), stated.get("readings"))


def _headline(folder: Path, stated: dict) -> dict:
    n_boot = _draws(folder, stated)
    rows = measured.headline(measured.of(evaluate.recorded(folder), n_boot=n_boot)).to_dict("records")
    return {"n_boot": n_boot, "headline": rows}


def _ablation(folder: Path, stated: dict) -> dict:
    if not (folder / "ablation").is_dir():
        raise PublishError(f"{folder.name} holds {ABLATION} and no predictions of it")
    return ablation_record.recorded(folder / "ablation", n_boot=_draws(folder, stated))


COMPUTERS = {COMPARED: _comparison, HEADLINE: _headline, ABLATION: _ablation}


def _draws(folder: Path, stated: dict) -> int:
    n_boot = stated.get("n_boot")
    if type(n_boot) is not int or n_boot < 1:
        raise PublishError(f"{folder.name}: n_boot is {n_boot!r}; it is the number of resamples")
    return n_boot


def _agree(where: str, stated: object, again: object, kept: set[str]) -> int:
    """How many values of `stated` are those computed `again`. Raises PublishError, with its place, for the first that is not."""
    if isinstance(again, dict) and isinstance(stated, dict):
        if odd := sorted((set(stated) - set(again) - kept) | (set(again) - set(stated))):
            holds = "is recorded, and nothing computes it" if odd[0] in stated else "is not recorded"
            raise PublishError(f"{where}: {odd[0]} {holds}")
        inner = kept - OF_ALL
        return sum(_agree(f"{where}: {name}", stated[name], value, inner) for name, value in again.items())
    if isinstance(again, list) and isinstance(stated, list):
        rows, rows_again = ([_label(row) for row in table] for table in (stated, again))
        if rows != rows_again:
            raise PublishError(
                f"{where} has the rows {'; '.join(rows) or 'none'}, the predictions give {'; '.join(rows_again) or 'none'}"
            )
        pairs = zip(rows, stated, again, strict=True)
        return sum(_agree(f"{where}: {row}", one, other, kept) for row, one, other in pairs)
    if not _same(stated, again, exact=where.rpartition(": ")[2] in P_VALUES):
        raise PublishError(f"{where} is {stated!r}, the predictions give {again!r}")
    return 1


def _label(row: object) -> str:
    """What a row is called: its model, variant, metric or the like. A plain value is called what it is."""
    if not isinstance(row, dict):
        return str(row)
    return ", ".join(str(row[name]) for name in NAMING if name in row)


def _same(stated: object, again: object, *, exact: bool) -> bool:
    """Whether two plain values are one; a missing number may be null or nan. exact: small numbers tell, as of a p-value."""
    numbers = [np.nan if value is None else value for value in (stated, again)]
    if any(isinstance(value, bool) or not isinstance(value, (int, float)) for value in numbers):
        return type(stated) is type(again) and stated == again
    return bool(np.isclose(*numbers, rtol=1e-6, atol=1e-12 if exact else CLOSE, equal_nan=True))


def _carried(stated: object, again: object, kept: set[str]) -> object:
    """`again`, with what is `kept` of the same place in `stated`; a number that another machine rounds otherwise stays as it is stated."""
    if isinstance(again, dict) and isinstance(stated, dict):
        found = {name: _carried(stated.get(name), value, kept - OF_ALL) for name, value in again.items()}
        return found | {name: value for name, value in stated.items() if name in kept and name not in again}
    if isinstance(again, list) and isinstance(stated, list):
        rows = {_label(row): row for row in stated}
        return [_carried(rows.get(_label(row)), row, kept) for row in again]
    return stated if _same(stated, again, exact=True) else again
