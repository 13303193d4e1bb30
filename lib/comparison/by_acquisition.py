"""How do the models fare by how an image was taken? What `lib.acquisition` measures of them, as tables and sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from lib import acquisition
from lib.measured import Measured
from lib.plots.style import NAMES
from lib.stats import Interval
from lib.tables import markdown

if TYPE_CHECKING:
    from lib.comparison.compared import Comparison


def rightly(models: dict[str, Measured]) -> list[str]:
    """What is classified correctly by the height of the original and by its cut, paragraphs and tables; models by the name shown."""
    return [
        "Classified correctly at the threshold, by the height of the original in pixels:",
        _table("height", acquisition.by_height(models)),
        "The same by how the original was cut: sides of whole JPEG blocks (8 pixels), which one in 64 has by chance, go with the class "
        "(data/README.md). The AUC is that of the row's images alone:",
        _table("cut", acquisition.by_cut(models)),
    ]


def left(models: dict[str, Measured]) -> str:
    """What is left of the AUC of two models, by the name shown, and of their difference, where size and cut are balanced."""
    first, second = (acquisition.balanced_auc(found, blocks=True) for found in models.values())
    own = " and ".join(
        f"{found.interval()} of {name} ({models[name].interval('auc')} as they are)"
        for name, found in zip(models, (first, second), strict=True)
    )
    gap = (first - second).interval()
    return (
        "Weighted so that the originals of both classes agree on average in height, aspect ratio and cut (overlap weights, Li, Morgan & Zaslavsky "
        f"2018, held as fitted), the test images leave an AUC of {own}; {' minus '.join(models)} is then {gap.estimate:+.3f} "
        f"[{gap.low:+.3f}, {gap.high:+.3f}]. The images that weigh most may be harder for other reasons too."
    )


def told(found: Comparison) -> str:
    """Both, for a page; one sentence where the size of an original is not known, as of phantoms, whatever they are named."""
    models = {NAMES[model]: own for model, own in found.models.items()}
    drawn = found.store.source.get("kind") == "phantoms"
    if drawn or not acquisition.known(next(iter(models.values())).tests[0]):
        return (
            "The sizes of these images' originals are not known, so it cannot be asked here how much of the figures goes with them. "
            "(They are known for the published set: `lib/originals.py`.)"
        )
    return "\n\n".join([*rightly(models), left(models)])


def _table(name: str, found: pd.DataFrame) -> str:
    return markdown(
        pd.DataFrame(
            {
                "Model": found["model"], name.capitalize(): found[name],
                "Normal": found["normal"].map(str), "Specificity": found["specificity"].map(_written),
                "Pneumonia": found["ill"].map(str), "Sensitivity": found["sensitivity"].map(_written), "AUC": found["auc"].map(_written),
            }
        )
    )  # fmt: skip


def _written(found: Interval | None) -> str:
    return "" if found is None else f"{found}"
