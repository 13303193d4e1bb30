"""What do README and the model card say of the size of the originals? How it goes with the mistakes, and what is left without it."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lib import ablation, acquisition, evaluate, measured
from lib.ablation.effects import mean_of
from lib.comparison import by_acquisition
from lib.measured import Measured
from lib.plots import style
from lib.publish import first_screen
from lib.publish.questions import by_recipe, questions
from lib.publish.results import best, interval, published, record
from lib.stats import Draws, Interval
from lib.tables import markdown


def sentence(results: Path) -> str:
    """How much of the first model's AUC is left with the original's size (and cut) balanced; empty where sizes are not known."""
    model, (folder, row) = next(iter(best(results).items()))
    found = _measured(folder, model)
    if not acquisition.known(found.tests[0]):
        return ""
    ill, normal = acquisition.share_of_blocks(found.tests)
    sizes, both = (acquisition.balanced_auc(found, blocks=blocks).interval() for blocks in (False, True))
    count = acquisition.counting(found.tests[0])
    return (
        "Part of such figures may reflect how, and of whom, images were taken ([data/README.md](data/README.md)). The originals (the files before they were "
        f"squashed) differ by class in size, and in how they were cut: outside test, both sides of {ill:.0%} of the pneumonia and {normal:.0%} of the normal ones are "
        f"multiples of 8 pixels (whole JPEG blocks). With the test images weighted so that the originals of both classes agree on average in height and aspect ratio (effective sample size {count}), "
        f"{style.NAMES[model]} (`{folder.name}`) has an AUC of {sizes} instead of {interval(row, 'auc', '.3f')}, and of {both} with their cut balanced too. The images that weigh most there may be harder for other reasons too. {_blocks(model, found)}"
    ).rstrip()


def _blocks(model: str, found: Measured) -> str:
    """How normal test images fare by their originals' cut; empty without both kinds."""
    gap = acquisition.cut_apart(found)
    if gap is None:
        return ""
    rows = acquisition.by_cut({"": found}).set_index("cut")["specificity"]
    return (
        f"{style.NAMES[model]} classifies {_percent(rows['whole blocks'])} of the normal test images with whole blocks correctly, and {_percent(rows['others'])} of the "
        f"other normal test images, a difference of {gap.estimate * 100:+.0f} [{gap.low * 100:+.0f}, {gap.high * 100:+.0f}] points."
    )


def section(results: Path) -> list[str]:
    """Mistakes by the height of the original, and the AUC of the models shown first with its size balanced; empty likewise."""
    shown = {
        f"{style.NAMES[model]} ({folder.name})": _measured(folder, model)
        for model, (folder, _) in best(results).items()
    }
    if not acquisition.known(next(iter(shown.values())).tests[0]):
        return []
    return [
        "### The size of the original",
        "Originals differ in size by class, in train and in test (data card).",
        *by_acquisition.rightly(shown),
        "AUC on the test images as they are, and on the same images weighted (overlap weights, Li, Morgan & Zaslavsky 2018, held as fitted): so that the logs of height and aspect ratio, "
        "their squares and their product have the same mean in both classes (sizes balanced), and so that whole blocks do too. What then counts most are images whose size is common in both "
        f"classes (effective sample size {_counts(next(iter(shown.values())))}); these may be harder for other reasons too:",
        markdown(pd.DataFrame([_balanced(folder, row) for folder, row in first_screen.rows(results)])),
        *_heads(published(results)),
    ]


def _counts(found: Measured) -> str:
    sizes, both = (acquisition.counting(found.tests[0], blocks=blocks) for blocks in (False, True))
    return f"{sizes}, and {both} with the blocks"


def _heads(folders: list[Path]) -> list[str]:
    """Of each model: the LSTM's AUC minus mean-pooling's with the size (and cut) balanced, in the recipe that asked it first."""
    told, asked = [], questions(folders)
    for model in dict.fromkeys(model for model, _ in asked):
        profiles = next(profiles for (of, _), profiles in asked.items() if of == model)
        own = by_recipe(model, profiles)[0]
        sizes, both = (_signed(_gap(own, blocks=blocks).interval()) for blocks in (False, True))
        names = " with ".join(f"`{folder.name}`" for folder in own)
        told.append(f"{sizes} of {style.NAMES[model]} ({names}), {both} with the cut balanced too")
    if not told:
        return []
    return [
        f"With the sizes balanced in this way, the AUC of the LSTM in raster order minus that of mean-pooling with as many weights is {'; '.join(told)}. "
        "(Asked when figures of these heads were known; each interval is by itself.)"
    ]


def _signed(found: Interval) -> str:
    return f"{found.estimate:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


def _gap(folders: list[Path], *, blocks: bool) -> Draws:
    """That difference, the mean over runs of one recipe."""
    gaps = []
    for stream, folder in enumerate(folders):
        tables = ablation.read(folder / "ablation", (ablation.BASE, ablation.REFERENCE))
        n_boot = record(folder)["n_boot"]
        lstm, mean = (
            acquisition.balanced(
                [own for _, own in tables[name].groupby("seed")], n_boot=n_boot, stream=stream, blocks=blocks
            )
            for name in (ablation.BASE, ablation.REFERENCE)
        )
        gaps.append(lstm - mean)
    return mean_of(gaps)


def _balanced(folder: Path, row: dict) -> dict[str, str]:
    found = _measured(folder, row["model"])
    left, cut = (acquisition.balanced_auc(found, blocks=blocks).interval() for blocks in (False, True))
    return {
        "Model": f"{style.NAMES[row['model']]} ({folder.name})", "Test AUC": interval(row, "auc", ".3f"), "Sizes balanced": f"{left}", "Sizes and cut balanced": f"{cut}"
    }  # fmt: skip


def _percent(found: Interval) -> str:
    return f"{found.estimate * 100:.1f} [{found.low * 100:.1f}, {found.high * 100:.1f}]%"


def _measured(folder: Path, model: str) -> Measured:
    return measured.of(evaluate.recorded(folder), n_boot=record(folder)["n_boot"])[model]
