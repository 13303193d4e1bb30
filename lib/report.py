"""How do notebooks become pages? Opening and closing of a notebook, HTML export, index page."""

from __future__ import annotations

import datetime as dt

from IPython.display import HTML

from lib import provenance
from lib.config import Config


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
