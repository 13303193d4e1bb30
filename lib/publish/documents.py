"""What do README, the two cards and reports/README.md say of the results? Tables and sentences made from reports/results alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import files
from lib.plots import style
from lib.publish import answer, first_screen, metric_tables, sequence, size, trial_tables
from lib.publish.results import (
    BY_PAIRS,
    PROFILES,
    PublishError,
    best,
    every,
    interval,
    published,
)
from lib.tables import markdown

BEGIN, END = "<!-- results: written by `make publish` -->", "<!-- end of results -->"

INTERVALS = "95% bootstrap intervals resample the test patients, the seeds and, for figures at a chosen threshold, also the patients on whom that threshold is chosen."
COVERED = "They are percentile intervals of 2,000 resamples, widened where seeds are few (`lib/stats.py`) and, of proportions, where few patients miss; those of differences between heads are the estimate and so many standard errors (`lib/ablation/effects.py`). (In 150 simulated studies, drawn from the logits of `calibrated`, the interval of the specificity at Youden's index covered the truth in 91%.)"

# Published results on the same 624 test images, with what limits the comparison and where they stand.
KERMANY, V2, PLUS = "doi:10.1016/j.cell.2018.02.010", "doi:10.1038/s41597-022-01721-8", "arXiv:2404.15786"
SQUARE = "centre square of each image"
SMALL = "centre square at 28 x 28 pixels"
ANCHORS = (
    ("Kermany 2018, Inception-v3", "92.8", "0.968", "the test images seem to have guided stopping", KERMANY),
    ("MedMNIST v2, ResNet-18 / ResNet-50 at 224", "86.4 / 88.4", "0.956 / 0.962", f"{SMALL}, enlarged", V2),
    ("MedMNIST+, ResNet-18, 3 seeds, 224", "91.1 ± 1.0", "0.980", SQUARE, PLUS),
    ("MedMNIST+, DINO ViT-B/16 linear probe, 3 seeds", "91.6 ± 0.3", "0.989", f"{SQUARE}; the highest mean of several seeds here", PLUS),
    ("Google AutoML Vision (MedMNIST v2)", "94.6", "0.991", SMALL, V2),
    ("DenseNet121, blocks 3-4 unfrozen (2025)", "94.4", "0.980", "one run", "Garuda, document 5159168"),
    ("VGG16 on cropped lungs (Rajaraman 2018)", "96.2", "", "one run", "doi:10.3390/app8101715"),
    ("Xception (Sci Rep 2025)", "80.5", "", "one run", "doi:10.1038/s41598-025-24180-8"),
)  # fmt: skip


def render(results: Path) -> str:
    """The results as README shows them: headline table, answer, anchors and figure, from `results` alone."""
    shown, folders = first_screen.rows(results), published(results)
    anchors = pd.DataFrame(
        ANCHORS, columns=["Published on the same 624 images", "Accuracy, %", "AUC", "Note", "Where"]
    )
    parts = [
        "A profile is a named set of settings (listed below). Profiles that differ for a model only in seeds, device or ablation variants count as one recipe of it.",
        answer.in_short(folders),
        _headline(shown),
        "Figures are means over seeds, on the 624 images of the official test set, in the copy that [data/README.md](data/README.md) describes. The threshold and the epoch "
        f"were chosen on patients held out of train. {INTERVALS} {_minutes(shown)}",
        first_screen.recipes(shown),
        "Every recipe that was scored: [models/README.md](models/README.md#every-recipe-that-was-scored).",
        markdown(anchors),
        f"Several of these figures are of one run or do not say of how many runs, and few of the sources state how the epoch and the threshold were chosen. {first_screen.squares(shown)}",
        first_screen.figure(results),
        "### What the figures leave open",
        _led("The custom model's gain on a CPU.", answer.confirmation(folders)),
        _led("What the answer may miss.", sequence.left_open(folders)),
        _led("The threshold.", f"{first_screen.threshold(results)} {first_screen.at_sensitivity(results)}"),
        _led("How images were taken.", size.sentence(results)),
    ]
    return "\n\n".join(part for part in parts if part)


def _led(words: str, text: str) -> str:
    return f"**{words}** {text}" if text.strip() else ""


def findings(results: Path, step: str) -> str:
    """What a step found on the real images, as a table: check, result, verdict; of the first profile that ran it."""
    for name in PROFILES:
        path = results / name / f"{step}.json"
        if path.exists():
            found = files.read_json(path)["findings"]
            rows = [
                {"Checked": row["check"], "Result": row["result"], "Verdict": row["verdict"]} for row in found
            ]
            return f"Computed by notebook `{step}`, profile `{name}`.\n\n{markdown(pd.DataFrame(rows))}"
    return f"Notebook `{step}` has not been run on the real images yet."


def model_card(results: Path) -> str:
    """Metrics with intervals, comparison and trust measures, for models/README.md."""
    chosen = [best(results, among).values() for among in (PROFILES, BY_PAIRS)]
    shown = {folder: None for each in chosen for folder, _ in each}  # in their order, each once
    return "\n\n".join(
        [
            f"{INTERVALS} {COVERED}",
            *metric_tables.section(list(shown)),
            *(size.section(results) if shown else []),
            "### Every recipe that was scored",
            _headline(every(results)),
            f"What each profile is: [README](../README.md). {_minutes(every(results))} `balanced` gives the custom model half as many images as `matched` and `quick` do, "
            "and mixes their styles, and hardly trains it; its two seeds lie far apart, and intervals of so few are rather too narrow. All metrics of each: "
            "`reports/results/<profile>/headline.json` or `04_compare.json`.",
            *filter(None, [first_screen.together(results)]),
            *trial_tables.on_pairs(every(results)),
            *trial_tables.trials(results),
            *answer.at_length(published(results)),
            *sequence.answers(published(results)),
            "### Comparison",
            findings(results, "04_compare"),
            "### Explanations",
            findings(results, "05_gradcam"),
        ]
    )


def speed(results: Path) -> str:
    """What `make bench` measured, as sentences and a table."""
    path = results / "bench.json"
    found = files.read_json(path) if path.exists() else {}
    if "rows" not in found:
        return "`make bench` has not been recorded yet."
    rows = [
        {
            "Model": style.NAMES[row["model"]], "Phase": row["phase"], "Recipe": row["recipe"], "Batch": f"{row['batch']}",
            "Images a second": f"{row['images_per_second']:.1f}", "Ratio": _ratio(row),
            "Peak memory, GB": f"{row['peak_memory_gb']:.1f}", "Outside the model": _share(row["share_outside_model"]),
            "Of the machine's limit": _share(row["share_of_limit"]),
        }
        for row in found["rows"]
    ]  # fmt: skip
    limits = ", ".join(f"{value:.0f} GFLOP/s in {name}" for name, value in found["limits_gflops"].items())
    images = "phantoms of " if found["images"] == "phantoms" else ""
    machine = (
        f"Measured on {found['device']}, {found['threads']} threads, {images}{found['image_size']} pixels; its matrix products reach {limits}. "
        "A range goes from the ratio of this recipe's worse turn to the original's better one, up to the ratio of its better turn to the original's worse one."
    )
    listed = "\n".join(f"- {sentence}" for sentence in found["said"])
    return "\n\n".join(
        [
            machine,
            listed,
            markdown(pd.DataFrame(rows)),
            "![Images a second of both recipes](results/bench.svg)",
        ]
    )


def _ratio(row: dict) -> str:
    if row["recipe"] == "original":
        return f"{row['ratio']:.1f}"
    return f"{row['ratio']:.1f} ({row['ratio_low']:.1f} to {row['ratio_high']:.1f})"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


DOCUMENTS = {
    "README.md": render,
    "reports/README.md": speed,
    "data/README.md": lambda results: findings(results, "01_data_audit"),
    "models/README.md": model_card,
}


def with_block(text: str, block: str) -> str:
    """A document with what lies between its marks replaced. Raises PublishError when the marks are missing."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise PublishError(
            f"a document with results holds one line {BEGIN!r} and one line {END!r}; this one does not"
        )
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{block}\n\n{END}{rest.split(END)[1]}"


def check_document(root: Path, results: Path, name: str) -> str:
    """A line saying that a document shows what is recorded. Raises PublishError when it shows something else."""
    text = (root / name).read_text(encoding="utf-8")
    if with_block(text, DOCUMENTS[name](results)) != text:
        raise PublishError(f"{name} does not show the recorded results; run `make publish`")
    return f"{name} shows the recorded results"


def _headline(rows: list[tuple[Path, dict]]) -> str:
    return markdown(pd.DataFrame([_row(folder, row) for folder, row in rows]))


def _minutes(rows: list[tuple[Path, dict]]) -> str:
    """What the column counts; how many trainings shared a device at a time is known of those that ran on the H100."""
    devices = {info["device"] for folder, row in rows for info in _infos(folder, row)}
    shared = "; on the H100, ten trainings ran at a time" if any("H100" in name for name in devices) else ""
    if shared and any(folder.name == "custom" for folder, _ in rows):
        shared += " (of `custom`, sixteen)"
    return (
        f"Training times are summed over the seeds, some of which shared the machine with other work{shared}."
    )


def _infos(folder: Path, row: dict) -> list[dict]:
    """The run.json of each seed of a headline's row."""
    paths = (folder / "predictions").glob(f"{row['model']}-seed*.run.json")
    return [files.read_json(path) for path in sorted(paths)]


def _row(folder: Path, row: dict) -> dict:
    infos = _infos(folder, row)
    minutes = sum(info["duration_s"] for info in infos) / 60
    return {
        "Model": style.NAMES[row["model"]],
        "Profile": folder.name,
        "Seeds": f"{row['seeds']}",
        "Test AUC": interval(row, "auc", ".3f"),
        "Accuracy, %": interval(row, "accuracy", ".1f", 100),
        "Sensitivity, %": interval(row, "sensitivity", ".1f", 100),
        "Specificity, %": interval(row, "specificity", ".1f", 100),
        "Images (patients)": f"{row['n']} ({row['n_patients']})",
        "Hardware": ", ".join(sorted({info["device"] for info in infos})),
        "Training, min": f"{minutes:.0f}",
    }
