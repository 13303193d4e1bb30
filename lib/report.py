"""What do all notebooks show alike? Their opening, their figures and their closing."""

from __future__ import annotations

import datetime as dt
import io

import matplotlib.pyplot as plt
from IPython.display import HTML, Image, display
from matplotlib.artist import Artist
from matplotlib.figure import Figure

from lib import provenance
from lib.config import Config

SCREEN_DPI = 100  # a figure's inch on the page is this many CSS pixels


def opening(config: Config) -> HTML:
    """The banner (synthetic data) and the settings of this run, folded."""
    banner = (
        '<div class="banner">Synthetic data: these images are phantoms drawn by the project. '
        "For real radiographs run <code>make data</code>, then <code>make all</code>.</div>"
        if config.synthetic
        else ""
    )
    return HTML(
        f"{banner}<details><summary>Settings of profile {config.profile}</summary>{config.table().to_html(index=False)}</details>"
    )


def closing(config: Config, *, data_fingerprint: str = "", duration_s: float | None = None) -> HTML:
    """Provenance: what made this page."""
    rows = {
        "profile": config.profile,
        "seeds": ", ".join(map(str, config.seeds)),
        "commit": provenance.commit(),
        "device": provenance.device(),
        "data": data_fingerprint,
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "versions": ", ".join(f"{name} {version}" for name, version in provenance.versions().items()),
    }
    body = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in rows.items() if value)
    return HTML(f'<footer class="provenance"><dl>{body}</dl></footer>')


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
