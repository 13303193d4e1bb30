"""What do all notebooks show alike? Their opening, their figures and their closing."""

from __future__ import annotations

import datetime as dt
import html
import io
import time

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML, Image, display
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from lib import config as configs
from lib import provenance
from lib.config import Config
from lib.durations import spoken

SCREEN_DPI = 100  # a figure's inch on the page is this many CSS pixels
BANNER = (
    '<div class="banner" style="padding: .5em 1em; border-left: 4px solid #c98a00; background: #fdf3dd; color: #5c3a00">'
    "<b>Synthetic images</b>, drawn by the project: nothing here says anything about patients. "
    "For real ones: <code>make data</code>, then <code>make all</code>.</div>"
)
MEANING = (
    "<p>What each means: <code>lib/settings.py</code>. To change one, write it into <code>overrides</code>. In this table a model's own "
    "<code>train</code> entry wins over <code>train</code>; an override of <code>train</code> counts for both models. A fine-tuned "
    "ablation trains by these two.</p>"
)
_opened: dict[str, float] = {}  # when the notebook of this kernel was opened, by profile


def opening(config: Config) -> HTML:
    """The banner where images are synthetic, and the settings of this run, folded.

    From here on tables are shown with their sentences whole.
    """
    pd.set_option("display.max_colwidth", None)
    _opened[config.profile] = time.monotonic()
    rows = "".join(
        f"<tr><td>{html.escape(key)}</td><td>{html.escape(str(value))}</td></tr>"
        for key, value in config.flat().items()
    )
    table = f"<table><thead><tr><th>Setting</th><th>Value</th></tr></thead><tbody>{rows}</tbody></table>"
    return HTML(
        f"{BANNER if config.synthetic else ''}"
        f'<details class="settings"><summary>Settings of profile {html.escape(config.profile)}</summary>{MEANING}{table}</details>'
    )


def closing(config: Config, *, data_fingerprint: str = "") -> HTML:
    """Provenance: what made this page, and how long since `opening`.

    data_fingerprint  of the pixel store that was used
    """
    started = _opened.get(config.profile)
    rows = {
        "Profile": config.profile,
        "Settings": configs.fingerprint(config.as_dict()),
        "Seeds": ", ".join(map(str, config.seeds)),
        "Data": data_fingerprint,
        "Commit": provenance.commit(config.root),
        "Device": provenance.device(),
        "Versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
        "Date": dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "Duration": spoken(time.monotonic() - started) if started is not None else "",
    }
    body = "".join(f"<dt>{key}</dt><dd>{html.escape(value)}</dd>" for key, value in rows.items() if value)
    return HTML(f'<div class="provenance"><dl>{body}</dl></div>')


def figure(drawing: Artist | Figure, alt: str) -> None:
    """Show a figure once, as a PNG of 2x resolution with alternative text, and close it.

    drawing  a figure, or an axes of it
    alt      what the figure shows, in words for those who do not see it
    Raises ValueError when alt is empty.
    """
    if not alt.strip():
        raise ValueError("the figure has no alternative text; say in `alt` what it shows")
    whole = drawing.get_figure(root=True) if isinstance(drawing, Artist) else drawing
    stream = io.BytesIO()
    whole.savefig(stream, format="png", dpi=2 * SCREEN_DPI, bbox_inches="tight", facecolor="white")
    plt.close(whole)
    display(Image(stream.getvalue(), format="png", retina=True, alt=" ".join(alt.split())))
