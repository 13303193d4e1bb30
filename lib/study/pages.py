"""How does an executed notebook become a page that asks the network for nothing?"""

from __future__ import annotations

import datetime as dt
import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import nbformat
from bs4 import BeautifulSoup
from nbconvert import HTMLExporter
from traitlets.config import Config as Settings

from lib import files
from lib.config import Config
from lib.durations import spoken
from lib.errors import UserError
from lib.study.steps import Step, all_steps
from lib.tables import dress_tables, heading_text

TEMPLATE = Path(__file__).with_name("template")
STUDY = "Pneumonia on chest radiographs"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
WIDGET_STATES = "application/vnd.jupyter.widget-state+json"


class PageError(UserError, RuntimeError):
    """A page that would not be fit to publish; one sentence with what to do."""


@dataclass(frozen=True)
class Heading:
    level: int
    id: str
    text: str


def write(step: Step) -> None:
    """Make `step.page` from the executed notebook."""
    content = BeautifulSoup(cells(step.notebook), "html.parser")
    _number_headings(content)
    dress_tables(content)
    _drop_banners(content)
    _describe_images(content, step)
    steps = all_steps(step.config)
    at = [other.name for other in steps].index(step.name)
    turn = {
        "before": _link(steps[at - 1]) if at else {"href": "index.html", "title": "Overview"},
        "after": _link(steps[at + 1]) if at + 1 < len(steps) else {"href": "index.html", "title": "Overview"},
    }
    files.write_text(
        step.page,
        frame(
            step.config,
            content,
            kind="report",
            name=step.name,
            title=step.title,
            colophon=_colophon(step),
            **turn,
        ),
    )


def cells(notebook: Path) -> str:
    """The notebook's cells as HTML, by the template beside this module."""
    executed = nbformat.read(notebook, as_version=4)
    if any("injected-parameters" in cell.metadata.get("tags", []) for cell in executed.cells):
        # The parameters that were used follow their defaults; one of the two is enough to read.
        executed.cells = [
            cell for cell in executed.cells if "parameters" not in cell.metadata.get("tags", [])
        ]
    _drop_progress_bars(executed)
    settings = Settings({"CoalesceStreamsPreprocessor": {"enabled": True}})
    exporter = HTMLExporter(
        config=settings, template_name=TEMPLATE.name, extra_template_basedirs=[str(TEMPLATE.parent)]
    )
    return exporter.from_notebook_node(executed)[0]


def _drop_progress_bars(notebook: nbformat.NotebookNode) -> None:
    """Bars that are full tell nothing; other widgets are announced by the template."""
    kept = notebook.metadata.get("widgets", {}).get(WIDGET_STATES, {}).get("state", {})

    def is_bar(output: nbformat.NotebookNode) -> bool:
        model = output.get("data", {}).get(WIDGET_VIEW, {}).get("model_id")
        state = kept.get(model, {}).get("state", {})
        parts = [child.removeprefix("IPY_MODEL_") for child in state.get("children", [])]
        return any("Progress" in kept.get(part, {}).get("model_name", "") for part in [model, *parts])

    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not is_bar(output)]


def frame(config: Config, content: BeautifulSoup, **page: Any) -> str:
    """A whole page: `content` with head, navigation, banner and foot."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATE), undefined=jinja2.ChainableUndefined
    )
    page |= {
        "study": STUDY,
        "profile": config.profile,
        "synthetic": config.synthetic,
        "steps": [{"name": step.name, "title": step.title} for step in all_steps(config)],
        "headings": headings(content),
        "style": (TEMPLATE / "style.css").read_text(encoding="utf-8"),
        "script": (TEMPLATE / "page.js").read_text(encoding="utf-8"),
    }
    return environment.get_template("frame.html.j2").render(page=page, content=str(content))


def headings(content: BeautifulSoup) -> list[Heading]:
    """Second and third level headings, for the table of contents."""
    return [
        Heading(int(tag.name[1]), tag["id"], heading_text(tag))
        for tag in content.find_all(["h2", "h3"])
        if tag.get("id") and not tag.find_parent(["details", "figure"])
    ]


def when(moment: str) -> str:
    """An ISO 8601 moment as 22 November 2026, 14:05 UTC."""
    time = dt.datetime.fromisoformat(moment)
    return f"{time.day} {time:%B %Y, %H:%M} UTC"


def _link(step: Step) -> dict[str, str]:
    return {"href": f"{step.name}.html", "title": step.title}


def _colophon(step: Step) -> str:
    state = step.state()
    notebook = f'<a href="{step.name}.ipynb">executed notebook</a>'
    if state is None or state.status != "done":
        return f"Made from the {notebook}."
    return (
        f"Made from the {notebook}, which ran on {when(state.started)} for {spoken(state.duration_s)} "
        f"by <code>{html.escape(state.command)}</code>."
    )


def _number_headings(content: BeautifulSoup) -> None:
    """Give each heading an id of its own, also where two say the same, and let its anchor link point there."""
    seen: dict[str, int] = {}
    for tag in content.find_all(["h1", "h2", "h3", "h4"]):
        words = "".join(letter if letter.isalnum() else " " for letter in heading_text(tag).lower()).split()
        base = "-".join(words) or "section"
        seen[base] = seen.get(base, 0) + 1
        tag["id"] = base if seen[base] == 1 else f"{base}-{seen[base]}"
        for link in tag.find_all("a", class_="anchor-link"):
            link["href"] = f"#{tag['id']}"
            link["aria-label"] = f"Link to {heading_text(tag)}"
            link.string = "#"


def _drop_banners(content: BeautifulSoup) -> None:
    """The notebook's own banner: the frame shows it on top of the page."""
    for banner in content.select(".banner"):
        banner.decompose()


def _describe_images(content: BeautifulSoup, step: Step) -> None:
    silent = [image for image in content.find_all("img") if not image.get("alt")]
    if silent:
        raise PageError(
            f"{step.name} shows {len(silent)} figure(s) without alternative text; end those cells with report.figure(figure, alt)"
        )
