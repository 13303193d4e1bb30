"""The ROC figure that README shows: how is it drawn, and does it show the recorded predictions?"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np

from lib import curves, evaluate
from lib.plots import evidence, style
from lib.publish import first_screen
from lib.publish.results import PublishError, best

N_BOOT = 2000
NAME = "roc.svg"
LINK = "{http://www.w3.org/1999/xlink}href"
CLOSE = 1e-5  # of the axes' side


def draw(results: Path, path: Path | None = None) -> None:
    """The ROC curves: each model in the first profile that has it, from the recorded predictions; to `path`, else into `results`."""
    shown = best(results)
    drawn = {
        model: curves.roc(evaluate.recorded(folder)[model], n_boot=N_BOOT)
        for model, (folder, _) in shown.items()
    }
    style.use()
    ax = evidence.roc(drawn, first_screen.labels(shown))
    style.save(ax, path or results / NAME)
    plt.close(ax.figure)


def verify(results: Path) -> str:
    """Draw the figure again and compare. Raises PublishError when the recorded one is missing or shows something else.

    Not byte by byte: another machine has other fonts, which move and scale the axes. What is compared are the words, and the
    curves and bands as places within the axes.
    """
    if not (results / NAME).exists():
        raise PublishError(f"{NAME} is missing; run `make publish`")
    with tempfile.TemporaryDirectory() as folder:
        draw(results, Path(folder) / NAME)
        again = (Path(folder) / NAME).read_text(encoding="utf-8")
    stated = (results / NAME).read_text(encoding="utf-8")
    if stated != again and not _alike(read(stated), read(again)):
        raise PublishError(f"{NAME} does not show what the predictions give; run `make publish`")
    return f"{NAME}: curves, bands and legend follow from the recorded predictions"


def read(svg: str) -> tuple[list[str], list[tuple[str, np.ndarray]]]:
    """What a figure shows: its words, and of each curve or band its colours and its corners [n, 2], the axes being 0 to 1.

    The words are those that matplotlib writes as comments beside the outlines of their letters. Raises PublishError when it is
    no such figure.
    """
    words = [text for text in re.findall(r"<!-- (.*?) -->", svg) if re.search("[A-Za-z]", text)]
    try:
        axes = ElementTree.fromstring(svg).find(".//*[@id='axes_1']")
        frame = _corners(axes.find("./*[@id='patch_2']/*"))
        low, side = frame.min(0), np.ptp(frame, axis=0)
        drawn = [part for part in axes if part.get("id", "").startswith(("line2d", "FillBetween"))]
        return words, [(style, (corners - low) / side) for part in drawn for style, corners in _paths(part)]
    except (ElementTree.ParseError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise PublishError(f"{NAME} is not a figure that `make publish` draws") from error


def _paths(part: ElementTree.Element) -> list[tuple[str, np.ndarray]]:
    """Style and corners of every path; a band is kept once and put in its place by a `use`."""
    kept = {f"#{path.get('id')}": path for path in part.iter() if path.get("d") and path.get("id")}
    drawn = [path for path in part.iter() if path.get("d") and not path.get("id")]
    used = [(use, kept[use.get(LINK)]) for use in part.iter() if use.get(LINK)]
    return [(path.get("style", ""), _corners(path)) for path in drawn] + [
        (use.get("style", ""), _corners(path) + [float(use.get(name, 0)) for name in ("x", "y")])
        for use, path in used
    ]


def _corners(path: ElementTree.Element) -> np.ndarray:
    """The corners [n, 2] of a path of straight lines."""
    return np.array(re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", path.get("d")), dtype=float).reshape(-1, 2)


def _alike(stated: tuple, again: tuple) -> bool:
    (words, lines), (words_again, lines_again) = stated, again
    return (
        words == words_again
        and [style for style, _ in lines] == [style for style, _ in lines_again]
        and all(
            len(one) == len(other) and np.allclose(one, other, rtol=0, atol=CLOSE)
            for (_, one), (_, other) in zip(lines, lines_again, strict=True)
        )
    )
