"""Published results as the tests need them: profiles whose predictions are drawn, with what follows from them recorded."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lib import ablation, evaluate, files, measured
from lib.ablation import control, record
from lib.comparison import scored
from lib.publish import figure


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
] + [
    {"model": model, "seed": 42, "n": 80, "n_patients": 40, "reading": "trained", "auc": auc, "difference": None}
    for model, auc in (("xception_lstm", 0.97), ("custom_cnn_lstm", 0.91))
]  # fmt: skip


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


CUSTOM = "custom_cnn_lstm"


def effects_of(folder: Path) -> ablation.Effects:
    return ablation.analyse(ablation.read(folder / "ablation"), n_boot=100)


@pytest.fixture
def ablated(results):
    """The profile with an ablation of several orders beside its headline."""
    heads = ("mean-mlp", "token-mean", "lstm-raster", "lstm-reverse", "lstm-column", "lstm-shuffle")
    folder = asked(results / "quick" / "asked", 0.5, heads=heads, regime="frozen")
    for name in ("ablation", "06_ablation.json"):
        (folder / name).rename(results / "quick" / name)
    folder.rmdir()
    return results / "quick"


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
