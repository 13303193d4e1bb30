"""What does a training say of itself? Its parts, its runs, and the sentences that follow from them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import classification_report

from lib import evaluate, metrics, models, pixels, splits
from lib.config import Config
from lib.plots.style import NAMES
from lib.runs import Run

PARTS = ("backbone", "channel_reducer", "sequence", "classifier")
OWN_VALIDATION = "The validation images are the data set's own."
VALIDATION = {  # by data.val_kind
    "random": "Validation patients are drawn at random from the training patients.",
    "block": "Validation patients are a run of consecutive patients of each series of the training images.",
    "matched": "Validation patients are pairs of a normal and an ill training patient between whom a thumbnail does not decide: "
    "a harder question than that of patients as they come.",
    "matched_everything": "Validation patients are pairs of a normal and an ill training patient between whom neither a thumbnail nor "
    "how their images were taken (size, shape and cut of the originals) decides: a far harder question than that of patients as they come.",
}
NUMBERED = {  # what follows from it in the published set, whose hospital numbered its patients
    "random": " They come from the same blocks of the hospital's numbering as those trained on; the official test set does not.",
    "block": " They lie apart from those trained on in the hospital's numbering, as the official test set does.",
    "matched": "",
    "matched_everything": "",
}


def splits_sentence(store: pixels.PixelStore, config: Config) -> str:
    """Who the validation patients are, and whether a patient may be in two splits."""
    return f"{_validation(store, config)} {patients_sentence(store) or 'No patient is in two splits.'}"


def val_auc_sentence(store: pixels.PixelStore, config: Config) -> str:
    """What the `val_auc` of several runs is of, and what it is good for."""
    return (
        "`val_auc` is of the validation images: it chooses each run's epoch and compares nothing; what is compared is of the "
        f"test images. {_validation(store, config)}"
    )


def patients_sentence(store: pixels.PixelStore) -> str:
    """What follows where a data set does not name its patients; nothing where it does."""
    if store.source.get("patients", True):
        return ""
    return (
        "The data set names no patients, so each image counts as a patient of its own: whether one is in two splits cannot be known, and "
        "intervals come out too narrow."
    )


def parts(network: models.CNNLSTM) -> pd.DataFrame:
    """Parameters of each part of a model: trained and frozen."""
    rows = []
    for name in PARTS:
        sizes = [(p.numel(), p.requires_grad) for p in network.get_submodule(name).parameters()]
        if sizes:
            trained = sum(n for n, grad in sizes if grad)
            rows.append({"part": name, "trained": trained, "frozen": sum(n for n, _ in sizes) - trained})
    return pd.DataFrame(rows)


def parts_sentence(network: models.CNNLSTM) -> str:
    total = sum(p.numel() for p in network.parameters())
    share = network.trainable_parameters() / total
    return f"{network.trainable_parameters():,} of {total:,} parameters are trained ({share:.0%})."


def table(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a seed: the epoch that validation chose, what it reached there, and, as the original showed them, its test accuracy
    in the last and in the best epoch (nan where it was not recorded)."""
    rows = []
    for run in runs:
        history = run.history.set_index("epoch")
        chosen = history.loc[run.info["best_epoch"]]
        tested = history["test_accuracy_optimistic"].dropna()
        rows.append(
            {
                "seed": run.seed,
                "epochs": len(history),
                "chosen epoch": run.info["best_epoch"],
                "validation AUC": chosen["val_auc"],
                "validation accuracy": chosen["val_accuracy"],
                "test accuracy, last epoch": tested.iloc[-1] if len(tested) else np.nan,
                "test accuracy, best epoch (optimistic)": tested.max() if len(tested) else np.nan,
                "seconds an epoch": history["seconds"].mean(),
            }
        )
    return pd.DataFrame(rows)


def sentence(runs: Sequence[Run]) -> str:
    """What training reached, in words, for any number of seeds."""
    found = table(runs)
    name, n = NAMES[runs[0].model], len(runs)
    epochs = ", ".join(str(epoch) for epoch in sorted(set(found["chosen epoch"])))
    auc = _spread(found["validation AUC"])
    words = f"{name}: validation chose epoch {epochs} of {found['epochs'].max()}, at an AUC of {auc} ({n} seed{'' if n == 1 else 's'})."
    tested = found["test accuracy, best epoch (optimistic)"]
    if tested.notna().all():
        gap = (tested - _at_chosen(runs)).mean()
        words += (
            f" Choosing the epoch on the test images, as the original did, would have shown {100 * gap:.1f} percentage points"
            " of accuracy more than the epoch that validation chose."
            if gap > 0
            else " The epoch that validation chose is also the best on the test images."
        )
    return words


def fit_sentence(runs: Sequence[Run]) -> str:
    """How far the training loss fell below the validation loss: the model's room to overfit."""
    last = pd.DataFrame([run.history.iloc[-1] for run in runs])
    first = pd.DataFrame([run.history.iloc[0] for run in runs])
    fell = first["train_loss"].mean(), last["train_loss"].mean()
    gap = (last["val_loss"] - last["train_loss"]).mean()
    side = "above" if gap > 0 else "below"
    return (
        f"The training loss went from {fell[0]:.3f} in the first epoch to {fell[1]:.3f} in the last; "
        f"the validation loss ends {abs(gap):.3f} {side} it."
    )


def limits(store: pixels.PixelStore, runs: Sequence[Run]) -> str:
    """What the validation figures and the record of the test images may be read for, as a list in Markdown."""
    every_epoch = runs[0].config.train_for(runs[0].model).test_every_epoch
    record = (
        "The test accuracy of every epoch is recorded because the original showed it. Nothing is chosen on it."
        if every_epoch
        else "The test images are scored once, with the weights of the epoch that validation chose."
    )
    return f"- {_validation(store, runs[0].config)} {_both_aucs(runs)}\n- {record}"


def _validation(store: pixels.PixelStore, config: Config) -> str:
    """Who the validation patients are."""
    if store.source.get("own_val"):
        return OWN_VALIDATION
    published = not config.synthetic and splits.as_published(store.index)
    return VALIDATION[config.data.val_kind] + (NUMBERED[config.data.val_kind] if published else "")


def _both_aucs(runs: Sequence[Run]) -> str:
    """What validation said of the test images, and what they are."""
    tests = [evaluate.part(run.predictions, "test") for run in runs]
    seen = np.mean([metrics.auc(test["y_true"], test["logit"]) for test in tests])
    said = table(runs)["validation AUC"].mean()
    mean = f" (means of {len(runs)} seeds)" if len(runs) > 1 else ""
    gap = round(seen - said, 4)
    apart = f"{abs(gap):.4f} {'lower' if gap < 0 else 'higher'}" if gap else "the same"
    return (
        f"At the chosen epoch the AUC is {said:.4f} on them and {seen:.4f} on the test images, {apart}{mean}; "
        "notebook 04 has the intervals."
    )


def classification(runs: Sequence[Run]) -> pd.DataFrame:
    """scikit-learn's classification report of the test images at probability 0.5, the mean over seeds."""
    reports = [_report(evaluate.part(run.predictions, "test")) for run in runs]
    return pd.concat(reports).groupby(level=0, sort=False).mean()


def _report(table: pd.DataFrame) -> pd.DataFrame:
    """That of one test table: precision, recall, F1 and images of each class."""
    called = (table["probability"] >= 0.5).astype(int)
    found = classification_report(
        table["y_true"], called, labels=[0, 1], target_names=["normal", "pneumonia"], output_dict=True, zero_division=0
    )  # fmt: skip
    return pd.DataFrame({name: values for name, values in found.items() if isinstance(values, dict)}).T


def confusion(runs: Sequence[Run]) -> np.ndarray:
    """Test images at probability 0.5, the mean over seeds: [[true normal, false alarm], [missed, found]]."""
    cells = []
    for run in runs:
        test = evaluate.part(run.predictions, "test")
        tp, fp, fn, tn = metrics.cells(0.5)(test["y_true"], test["probability"])
        cells.append([[tn, fp], [fn, tp]])
    return np.mean(cells, axis=0)


def confusion_sentence(cells: np.ndarray) -> str:
    (tn, fp), (fn, tp) = cells
    right = (tn + tp) / cells.sum()
    return (
        f"Of {tp + fn:.0f} test images with pneumonia {fn:.1f} are missed (sensitivity {tp / (tp + fn):.1%}), and of {tn + fp:.0f} normal ones "
        f"{fp:.1f} raise a false alarm (specificity {tn / (tn + fp):.1%}); {right:.1%} are called rightly."
    ).replace(".0 ", " ")


def record(store: pixels.PixelStore, runs: Sequence[Run]) -> dict:
    """The step's result: plain numbers and the sentences above."""
    found = table(runs)
    finding = {
        "check": f"{NAMES[runs[0].model]} learns",
        "result": sentence(runs),
        "verdict": _learns(store, found["validation AUC"].min(), runs[0].config.data.val_kind),
    }
    return {
        "model": runs[0].model,
        "trainable_parameters": runs[0].info["trainable_parameters"],
        "data_fingerprint": runs[0].info["data_fingerprint"],
        "confusion_at_half": confusion(runs).tolist(),
        "runs": found.rename(columns=lambda name: name.replace(", ", "_").replace(" ", "_")).to_dict(
            "records"
        ),
        "findings": [finding],
        "answers": {
            f"How does {NAMES[runs[0].model]} fit?": fit_sentence(runs),
            f"What does {NAMES[runs[0].model]} call rightly?": confusion_sentence(confusion(runs)),
        },
    }


def _learns(store: pixels.PixelStore, lowest: float, val_kind: str) -> str:
    """The verdict on the lowest validation AUC; none where validation patients are harder than others on purpose."""
    if val_kind != "random" and not store.source.get("own_val"):
        return "info"
    return "good" if lowest > 0.9 else "caution" if lowest > 0.7 else "bad"


def _at_chosen(runs: Sequence[Run]) -> np.ndarray:
    return np.array(
        [
            run.history.set_index("epoch").loc[run.info["best_epoch"], "test_accuracy_optimistic"]
            for run in runs
        ]
    )


def _spread(values: pd.Series) -> str:
    if len(values) == 1:
        return f"{values.iloc[0]:.4f}"
    return f"{values.mean():.4f} ± {values.std(ddof=1):.4f}"
