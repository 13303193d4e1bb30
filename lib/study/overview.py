"""What did the study find, and how far is it? The index page of a profile."""

from __future__ import annotations

import contextlib
import html
import re
from typing import Any

import nbformat
import pandas as pd
from bs4 import BeautifulSoup

from lib import files
from lib.config import Config
from lib.durations import spoken
from lib.errors import UserError
from lib.study import pages
from lib.study.steps import Step, all_steps
from lib.tables import dress_tables, spoken_name

QUESTION = (
    "Does a recurrent head over spatial tokens help to find pneumonia on chest radiographs of children?"
)
ANSWERED_BY = ("06_", "04_", "05_", "01_", "02_", "03_")  # whose answers come first
FIGURES_FROM = ("04_", "06_", "02_", "03_")  # steps whose first figure may stand on the index page
FIRST = ("auc", "accuracy", "sensitivity", "specificity")
WIDEST = 8  # columns; a table of results that has more is turned on its side
# By these columns the ablation's headline is known: what is shown of it is made of them.
OF_ABLATION = {
    "variant", "parameters", "auc", "low", "high", "spread", "reference", "difference", "adjusted_low", "adjusted_high", "p_adjusted",
}  # fmt: skip
HEADING = re.compile(r"^#{2,3} (.+)$", re.MULTILINE)
CODE = re.compile("`([^`]+)`")
CHECKS_HEAD = "<thead><tr><th>Check</th><th>Verdict</th><th>Result</th></tr></thead>"
STATES = {
    "fresh": "fresh",
    "stale": "out of date",
    "failed": "failed",
    "missing": "not run yet",
}


def write(config: Config) -> None:
    """Make `report_dir`/index.html from the steps' results and states. Raises UserError for results that cannot be shown."""
    steps = all_steps(config)
    results = {step: _read(step) for step in steps if step.results.exists()}
    parts = [
        f'<h1>{pages.STUDY}</h1><p class="lead">{QUESTION}</p>',
        _not_from_here(results),
        _outdated(results),
        _answers(results),
        _headline(results),
        _figures(steps),
        _findings(results),
        _steps(steps),
        _command(steps, config),
    ]
    content = BeautifulSoup("\n".join(filter(None, parts)), "html.parser")
    dress_tables(content)
    files.write_text(
        config.report_dir / "index.html",
        pages.frame(
            config,
            content,
            kind="index",
            name="index",
            title="Overview",
            colophon="Each page ends with what made it: settings, seeds, commit, versions, device, data.",
        ),
    )


def _read(step: Step) -> dict[str, Any]:
    """A step's results. Raises UserError, saying what to do, for a file that is no JSON or has not the shape of results."""
    with contextlib.suppress(ValueError):
        found = files.read_json(step.results)
        if isinstance(found, dict) and _is_shown(found):
            return found
    path = step.results.relative_to(step.config.root).as_posix()
    raise UserError(
        f"{path} is damaged or holds no results of {step.name}; take it back with `git checkout {path}`, or delete it and run "
        "the step again"
    )


def _is_shown(found: dict[str, Any]) -> bool:
    """Whether what the index page takes from results has the shape that it needs."""
    headline, rows = found.get("headline") or [], found.get("findings") or []
    return (
        isinstance(found.get("answers") or {}, dict)
        and all(
            isinstance(one, list) and all(isinstance(row, dict) for row in one) for one in (headline, rows)
        )
        and all({"check", "verdict", "result"} <= set(row) for row in rows)
    )


def state_of(step: Step) -> str:
    """fresh, stale (also where the page is older than the notebook), failed or missing."""
    state = step.state()
    if state is not None and state.status == "failed":
        return "failed"
    if state is None or not step.notebook.exists():
        return "missing"
    if step.page.exists() and step.page.stat().st_mtime_ns < step.notebook.stat().st_mtime_ns:
        return "stale"
    return "fresh" if step.inputs(tuple(state.reads)) == state.inputs else "stale"


def _not_from_here(results: dict[Step, dict[str, Any]]) -> str:
    """Which of the results shown no step has written here: those that came with the repository, or a notebook run by hand."""
    return _note(
        "Not written by a step that ran here, but recorded before", [s for s in results if not _ran_here(s)]
    )


def _outdated(results: dict[Step, dict[str, Any]]) -> str:
    """Which of the results shown are of a run whose settings, code or data have changed since, or that failed since."""
    steps = [step for step in results if _ran_here(step) and state_of(step) != "fresh"]
    return _note("Of an earlier run, out of date or failed since", steps)


def _note(said: str, steps: list[Step]) -> str:
    names = ", ".join(f"{step.name[:2]} {step.title}" for step in steps)
    return f'<p class="note">{_e(f"{said}: results of {names}.")}</p>' if steps else ""


def _ran_here(step: Step) -> bool:
    """Whether a run has come to its end here, if not the last one."""
    state = step.state()
    return state is not None and (state.status == "done" or step.notebook.exists())


def _answers(results: dict[Step, dict[str, Any]]) -> str:
    order = sorted(
        results, key=lambda step: (*(not step.name.startswith(first) for first in ANSWERED_BY), step.name)
    )
    answers = [pair for step in order for pair in (results[step].get("answers") or {}).items()]
    answers.sort(
        key=lambda pair: str(pair[1]).startswith("Not asked")
    )  # what this run does not answer comes last
    rows = "".join(f"<dt>{_e(question)}</dt><dd>{_words(answer)}</dd>" for question, answer in answers)
    return f'<h2 id="answers">Answers</h2><dl class="answers">{rows}</dl>' if rows else ""


def _headline(results: dict[Step, dict[str, Any]]) -> str:
    tables = [
        f"<h3>{_e(step.title)}</h3>{_table(_grid(result['headline']))}"
        for step, result in results.items()
        if result.get("headline")
    ]
    return f'<h2 id="results">Results</h2>{"".join(tables)}' if tables else ""


def _grid(rows: list[dict[str, Any]]) -> list[list[str]]:
    """A step's headline as cells, the names of its columns first: the ablation's as notebook 06 shows it."""
    if all(set(row) >= OF_ABLATION for row in rows):
        from lib import ablation  # with SciPy, which a plan of the study need not wait for

        shown = ablation.shown(pd.DataFrame(rows))
        return [list(shown), *shown.to_numpy().tolist()]
    return _folded(rows)


def _folded(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Any other headline as cells: what matters first, its intervals folded in, turned on its side where it is wide."""
    rows = [_with_intervals(row) for row in rows]
    names = list(
        dict.fromkeys(name for row in rows for name in row if any(r.get(name) is not None for r in rows))
    )
    names.sort(key=lambda name: (_is_words(rows[0].get(name)), -_weight(name)), reverse=True)
    grid = [
        [spoken_name(str(name)) for name in names],
        *([_plain(row.get(name)) for name in names] for row in rows),
    ]
    return [list(column) for column in zip(*grid, strict=True)] if len(names) > WIDEST else grid


def _table(grid: list[list[str]]) -> str:
    head = "".join(f"<th>{_e(name)}</th>" for name in grid[0])
    body = "".join(f"<tr>{''.join(f'<td>{_e(value)}</td>' for value in row)}</tr>" for row in grid[1:])
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and "[" not in value


def _weight(name: str) -> int:
    """Where a column stands: the first of these names first, others after them."""
    return FIRST.index(str(name).lower()) if str(name).lower() in FIRST else len(FIRST)


def _with_intervals(row: dict[str, Any]) -> dict[str, Any]:
    """`auc`, `auc_low` and `auc_high` become one entry: 0.951 [0.933, 0.967]."""
    whole = {}
    for name, value in row.items():
        ends = row.get(f"{name}_low"), row.get(f"{name}_high")
        if None not in ends and value is not None:
            value = f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
        if not any(name == f"{other}_{end}" for other in row for end in ("low", "high")):
            whole[name] = value
    return whole


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def _figures(steps: list[Step]) -> str:
    found = []
    for prefix in FIGURES_FROM:
        for step in steps:
            if step.name.startswith(prefix) and step.notebook.exists():
                found += _first_figure(step)
    return f'<h2 id="figures">Figures</h2>{"".join(found[:2])}' if found else ""


def _first_figure(step: Step) -> list[str]:
    """Its alternative text says what it shows; its caption, the heading above it and the page that it is from."""
    heading = ""
    for cell in nbformat.read(step.notebook, as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = next(iter(HEADING.findall(cell.source)[-1:]), heading)
        for output in cell.get("outputs", []):
            image = output.get("data", {}).get("image/png")
            about = output.get("metadata", {}).get("image/png", {})
            if image and about.get("alt"):
                size = f'width="{about["width"]}" height="{about["height"]}"' if "width" in about else ""
                data = image.replace("\n", "")
                page = f'<a href="{step.name}.html">{_e(step.title)}</a>'
                caption = f"{_e(heading)} (from {page})" if heading else f"From {page}"
                return [
                    f'<figure><img src="data:image/png;base64,{data}" alt="{_e(about["alt"])}" {size}>'
                    f"<figcaption>{caption}</figcaption></figure>"
                ]
    return []


def _findings(results: dict[Step, dict[str, Any]]) -> str:
    tables = [
        f"<h3>{_e(step.title)}</h3><table>{CHECKS_HEAD}<tbody>{''.join(map(_finding, result['findings']))}</tbody></table>"
        for step, result in results.items()
        if result.get("findings")
    ]
    return f'<h2 id="checks">Checks</h2>{"".join(tables)}' if tables else ""


def _finding(row: dict[str, Any]) -> str:
    verdict = f'<span class="verdict {_e(row["verdict"])}">{_e(row["verdict"])}</span>'
    return f"<tr><td>{_e(row['check'])}</td><td>{verdict}</td><td>{_words(_plain(row['result']))}</td></tr>"


def _steps(steps: list[Step]) -> str:
    head = "<thead><tr><th>Page</th><th>State</th><th>Took</th><th>Ran</th></tr></thead>"
    return f'<h2 id="pages">Pages</h2><table>{head}<tbody>{"".join(map(_step_row, steps))}</tbody></table>'


def _step_row(step: Step) -> str:
    state, name = step.state(), state_of(step)
    title = f"{step.name[:2]} {_e(step.title)}"
    page = f'<a href="{step.name}.html">{title}</a>' if step.page.exists() else title
    word = f'<span class="verdict {name}">{STATES[name]}</span>'
    if name == "failed" and step.partial.exists():
        what = f"{state.error.get('name', '')}: {state.error.get('message', '')}"
        word += f' <a href="{step.partial.name}">partial notebook</a><br><span class="note">{_e(what[:300])}</span>'
    took = spoken(state.duration_s) if state else ""
    ran = pages.when(state.started) if state else ""
    return f"<tr><td>{page}</td><td>{word}</td><td>{took}</td><td>{ran}</td></tr>"


def _command(steps: list[Step], config: Config) -> str:
    commands = {state.started: state.command for step in steps if (state := step.state())}
    latest = commands[max(commands)] if commands else f"make all PROFILE={config.profile}"
    return f'<h2 id="again">Run it again</h2><pre class="command" tabindex="0">{_e(latest)}</pre>'


def _words(text: Any) -> str:
    """A sentence, what stands between backticks in it as code."""
    return CODE.sub(r"<code>\1</code>", _e(text))


def _e(text: Any) -> str:
    return html.escape(str(text))
