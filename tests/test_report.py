"""Do notebooks open, draw and close as they should, and do executed ones become fit pages?"""

from __future__ import annotations

import base64
import re
import struct

import matplotlib.pyplot as plt
import nbformat
import pytest
from bs4 import BeautifulSoup

from lib import config, files, provenance, report
from lib.plots import style
from lib.study import overview, pages
from lib.study.steps import Step
from tests.test_study import state, write_notebook

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PANDAS = """<div><style scoped>.dataframe tbody tr th {vertical-align: top;}</style>
<table border="1" class="dataframe"><thead><tr style="text-align: right;"><th></th><th>model</th><th>AUC</th><th>time</th></tr></thead>
<tbody><tr><th>0</th><td>Xception-LSTM</td><td>0.958 [0.941, 0.972]</td><td>12.5 s</td></tr>
<tr><th>1</th><td>Custom</td><td>NaN</td><td>3 s</td></tr></tbody></table></div>"""


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would show, in place of a kernel that shows it."""
    outputs = []
    monkeypatch.setattr(report, "display", outputs.append)
    return outputs


def test_a_figure_is_shown_once_at_twice_the_resolution_with_its_words(shown):
    figure, _ = plt.subplots(figsize=(4, 3))
    report.figure(figure, "A falling\n line")
    (output,) = shown
    data, metadata = output._repr_mimebundle_()
    about = metadata["image/png"]
    width, height = struct.unpack(">II", base64.b64decode(data["image/png"])[16:24])
    assert about["alt"] == "A falling line"
    assert (about["width"], about["height"]) == (width // 2, height // 2)
    assert not plt.fignum_exists(figure.number), "an open figure would be shown a second time"


def test_a_panel_stands_for_its_whole_figure(shown):
    _, panels = plt.subplots(1, 2)
    report.figure(panels[1], "two panels")
    assert len(shown) == 1
    assert plt.get_fignums() == []


@pytest.mark.parametrize("alt", ["", "  \n"])
def test_a_figure_without_words_is_refused(alt):
    with pytest.raises(ValueError, match="alternative text"):
        report.figure(plt.figure(), alt)


def test_the_opening_warns_of_synthetic_images_and_of_nothing_else():
    demo = report.opening(config.load("demo")).data
    assert "Synthetic images" in demo
    assert "make data" in demo
    assert "train.epochs" in demo
    assert demo.index("</summary><p>What each means: <code>lib/settings.py</code>") < demo.index("<table>")
    assert "Synthetic images" not in report.opening(config.load("quick")).data


def test_the_closing_tells_what_made_the_page():
    cfg = config.load("demo")
    report.opening(cfg)
    text = report.closing(cfg, data_fingerprint="abc123").data
    for word in (
        "demo",
        "42",
        "abc123",
        "torch 2",
        provenance.device(),
        "Commit",
        "Duration",
        "Settings",
        "UTC",
    ):
        assert word in text, word


def test_models_differ_in_colour_marker_and_gray():
    def luminance(colour: str) -> float:
        red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
        return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255

    a, b = style.COLOURS.values()
    assert abs(luminance(a) - luminance(b)) > 0.2
    assert len(set(style.MARKERS.values())) == len(style.NAMES)
    assert list(style.COLOURS) == list(config.MODELS) == list(style.NAMES)


def test_the_style_is_set_when_asked_only():
    with plt.rc_context():
        plt.rcdefaults()
        before = dict(plt.rcParams)
        ax = style.axes(None)
        assert dict(plt.rcParams) == before
        assert style.axes(ax) is ax
        style.use()
        assert dict(plt.rcParams) != before


def code(source: str, *outputs, tags=()):
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), metadata={"tags": list(tags)})


def image(alt: str | None = "A dot"):
    metadata = {"image/png": {"width": 900, "height": 300} | ({"alt": alt} if alt else {})}
    return nbformat.v4.new_output(
        "display_data", data={"image/png": PIXEL, "text/plain": "<Image>"}, metadata=metadata
    )


def result(kind: str, content: str):
    return nbformat.v4.new_output("execute_result", data={kind: content, "text/plain": "plain"})


@pytest.fixture
def step(tmp_path):
    """A step between two others, executed: headings that repeat, a table, a figure, printed text."""
    for name in ("01_before", "02_this", "03_after"):
        write_notebook(tmp_path / "notebooks" / f"{name}.ipynb", "1", title=f"Title & {name}")
    step = Step("02_this", config.load("demo", root=tmp_path))
    cells = [
        nbformat.v4.new_markdown_cell("# 02 Title & more\n\nA question?"),
        code("profile = None", tags=["parameters"]),
        code("profile = 'demo'", tags=["injected-parameters"]),
        code("report.opening(cfg)", result("text/html", report.opening(step.config).data)),
        nbformat.v4.new_markdown_cell("## Results\n\n### Table"),
        code("table", result("text/html", PANDAS)),
        nbformat.v4.new_markdown_cell("## Results"),
        code("report.figure(ax)", image('A "dot" & more')),
        code("Markdown()", result("text/markdown", "It is **0.9**.")),
        code(
            "print()",
            *(nbformat.v4.new_output("stream", name="stdout", text=f"epoch {i}\n") for i in range(3)),
        ),
        code(
            "tqdm()",
            nbformat.v4.new_output(
                "display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "bar"}}
            ),
        ),
        code(
            "viewer()",
            nbformat.v4.new_output(
                "display_data", data={"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
            ),
        ),
    ]
    step.notebook.parent.mkdir(parents=True)
    views = {
        "application/vnd.jupyter.widget-state+json": {
            "state": {
                "x": {"model_name": "VBoxModel", "state": {}},
                "bar": {"model_name": "HBoxModel", "state": {"children": ["IPY_MODEL_part"]}},
                "part": {"model_name": "FloatProgressModel", "state": {}},
            }
        }
    }
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"widgets": views}), step.notebook)
    return step


def read(path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def test_a_page_has_what_every_page_has(step):
    pages.write(step)
    page = read(step.page)
    assert page.html["lang"] == "en"
    assert "Title & 02_this" in page.title.text
    assert "Synthetic images" in page.select_one(".banner").text
    assert len(page.select(".banner")) == 1, "the notebook's own banner gives way to the page's"
    assert page.select_one("a[rel=prev]")["href"] == "01_before.html"
    assert page.select_one("a[rel=next]")["href"] == "03_after.html"
    assert [a["href"] for a in page.select(".toc a")] == ["#results", "#table", "#results-2"]
    assert len({tag["id"] for tag in page.select("[id]")}) == len(page.select("[id]"))


def test_a_page_asks_for_nothing(step):
    pages.write(step)
    text = step.page.read_text()
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//""", text)
    assert "@import" not in text
    assert not re.search(r"url\(\s*[\"']?http", text)
    for name in ("require", "MathJax", "mermaid"):
        assert name not in text


def test_code_is_folded_and_parameters_are_shown_as_used(step):
    pages.write(step)
    blocks = read(step.page).select("details.code")
    assert len(blocks) == 8
    assert not any(block.has_attr("open") for block in blocks)
    shown = [block.select_one("pre").text for block in blocks if block.summary.text == "Parameters"]
    assert shown == ["profile = 'demo'\n"]


def test_tables_scroll_and_set_words_left_and_numbers_right(step):
    pages.write(step)
    table = read(step.page).select("main table")[-1]
    box = table.parent
    assert box["class"] == ["table"]
    assert (box["tabindex"], box["role"]) == ("0", "region")
    assert "Table" in box["aria-label"]
    assert not table.find_parent("main").find("style"), "pandas' own style would win over the page's"
    name, auc, seconds = table.select("tbody tr")[0].find_all("td")
    assert "text" in name["class"]
    assert not auc.get("class")
    assert not seconds.get("class")
    assert "text" in table.find("th", string="model")["class"]


def test_figures_keep_their_words_and_their_size(step):
    pages.write(step)
    (picture,) = read(step.page).select("main img")
    assert picture["alt"] == 'A "dot" & more'
    assert (picture["width"], picture["height"]) == ("900", "300")


def test_printed_text_is_one_box_and_views_say_where_they_live(step):
    pages.write(step)
    page = read(step.page)
    (stream,) = page.select("pre.stream")
    assert stream.text.split() == ["epoch", "0", "epoch", "1", "epoch", "2"]
    (note,) = page.select("main .note")  # the bar is gone, the viewer is announced
    assert "make lab" in note.text


def test_a_page_with_a_silent_figure_is_refused(step):
    notebook = nbformat.read(step.notebook, as_version=4)
    notebook.cells.append(code("plot()", image(alt=None)))
    nbformat.write(notebook, step.notebook)
    with pytest.raises(pages.PageError, match="02_this shows 1 figure"):
        pages.write(step)
    assert not step.page.exists()


def test_the_index_page_gathers_answers_results_checks_and_states(step):
    files.write_json(
        step.results,
        {
            "findings": [{"check": "Patients <cross>", "result": "0 of 1,353", "verdict": "good"}],
            "answers": {
                "Does it matter?": "Not asked in this run (add `lstm-snake`).",
                "Which is better?": "Neither: 0.1 points [-0.2, 0.4].",
            },
            "headline": [{"AUC": 0.95812, "model": "Xception-LSTM", "parameters": 16936529}],
        },
    )
    step.keep(
        state(
            status="failed",
            started="2026-11-22T10:00:00+00:00",
            duration_s=75.0,
            command="make all PROFILE=demo",
            error={"cell": "a", "name": "ValueError", "message": "<b>"},
        )
    )
    step.partial.write_text("{}")
    overview.write(step.config)
    page = read(step.page.with_name("index.html"))
    text = " ".join(page.main.text.split())
    assert "Neither: 0.1 points [-0.2, 0.4]." in text
    assert [dt.text for dt in page.select("dl.answers dt")] == ["Which is better?", "Does it matter?"]
    assert page.select_one("dl.answers code").text == "lstm-snake"
    assert "16,936,529" in text
    assert "0.958" in text
    assert page.select_one("#results + h3").text == "Title & 02_this"
    assert [th.text for th in page.select_one("#results ~ .table").select("th")] == [
        "model",
        "AUC",
        "parameters",
    ]
    assert "Patients <cross>" in text
    assert page.select_one(".verdict.good")
    assert [verdict.text for verdict in page.select("#pages ~ .table .verdict")] == [
        "not run yet",
        "failed",
        "not run yet",
    ]
    assert page.select_one('a[href="02_this.partial.ipynb"]')
    assert "ValueError: <b>" in text
    assert "1 min 15 s" in text
    assert "22 November 2026" in text
    assert "make all PROFILE=demo" in page.select_one("pre.command").text
    assert page.select_one("#figures ~ figure img")["alt"] == 'A "dot" & more'
    caption = page.select_one("#figures ~ figure figcaption")
    assert caption.text == "Results (from Title & 02_this)", "and not once more what the picture shows"
    assert caption.a["href"] == "02_this.html"


def test_the_index_page_says_which_results_no_step_here_has_written(step):
    files.write_json(step.results, {"answers": {"Which is better?": "Neither."}})
    overview.write(step.config)
    index = step.page.with_name("index.html")
    assert "recorded before: results of 02 Title & 02_this." in read(index).select_one("main .note").text
    step.keep(state())
    overview.write(step.config)
    assert "recorded before" not in index.read_text()
    assert "Neither." in index.read_text()


def test_the_index_page_says_which_results_are_of_an_earlier_run(step):
    files.write_json(step.results, {"answers": {"Which is better?": "Neither."}})
    index = step.page.with_name("index.html")

    def told(status: str, inputs: str) -> bool:
        step.keep(state(status=status, inputs=inputs))
        overview.write(step.config)
        return (
            "Of an earlier run, out of date or failed since: results of 02 Title & 02_this."
            in read(index).text
        )

    assert told("done", "other settings")
    assert told("failed", step.inputs())
    assert not told("done", step.inputs())


def test_wide_results_are_turned_on_their_side_with_their_intervals(step):
    measures = {name: value for at, name in enumerate("abcdefgh") for name, value in
                ((name, at / 10), (f"{name}_low", at / 10 - 0.05), (f"{name}_high", at / 10 + 0.05))}  # fmt: skip
    rows = [{"model": name, "sd": None, "specificity": 0.5, "auc": 0.9, **measures} for name in config.MODELS]
    files.write_json(step.results, {"headline": rows})
    overview.write(step.config)
    table = read(step.page.with_name("index.html")).select_one("#results ~ .table")
    assert [cell.text for cell in table.select("thead th")] == ["model", "Xception-LSTM", "Custom CNN-LSTM"]
    names = [row.find(["th", "td"]).text for row in table.select("tbody tr")]
    assert names == ["AUC", "specificity", *"abcdefgh"], (
        "what matters first, intervals folded in, empty columns left out"
    )
    assert "0.300 [0.250, 0.350]" in table.text


@pytest.mark.parametrize("more", [0, 18])
def test_the_ablation_is_shown_as_its_notebook_shows_it_however_many_variants_it_has(step, more):
    known = {"auc": 0.91, "low": 0.89, "high": 0.94, "parameters": 33729, "seeds": 5, "val_auc": 0.74}
    gap = {"reference": "mean-mlp", "difference": 0.04, "adjusted_low": 0.01, "adjusted_high": 0.07}
    lstm = {"variant": "lstm-raster", **known, **gap, "spread": 0.0078, "p_adjusted": 0.009, "differs": True}
    alone = {name: None for name in (*gap, "spread", "p_adjusted", "differs")}
    rows = [*[lstm] * (1 + more), {"variant": "mean-mlp", **known, **alone}]
    files.write_json(step.results, {"headline": rows})
    overview.write(step.config)
    table = read(step.page.with_name("index.html")).select_one("#results ~ .table")
    names = ["Variant", "Parameters", "AUC", "SD over seeds", "Compared with", "Difference, interval", "p"]
    assert [cell.text for cell in table.select("thead th")] == names
    first, *_, last = ([cell.text for cell in row.find_all(["td", "th"])] for row in table.select("tbody tr"))
    shown = ["33,729", "0.9100 [0.8900, 0.9400]"]
    assert first == ["lstm-raster", *shown, "0.0078", "mean-mlp", "+0.0400 [+0.0100, +0.0700]", "0.009"]
    assert last == ["mean-mlp", *shown, "", "", "", ""]
    assert len(table.select("tbody tr")) == 2 + more


def test_an_ablation_of_the_reference_alone_is_shown_too(step):
    names = ("spread", "reference", "difference", "adjusted_low", "adjusted_high", "p_adjusted")
    row = {"variant": "mean-mlp", "parameters": 33729, "auc": 0.9, "low": 0.8, "high": 1.0}
    files.write_json(step.results, {"headline": [row | dict.fromkeys(names)]})
    overview.write(step.config)
    assert "0.9000 [0.8000, 1.0000]" in step.page.with_name("index.html").read_text()


def test_an_index_page_of_nothing_says_so(tmp_path):
    write_notebook(tmp_path / "notebooks" / "01_a.ipynb", "1")
    cfg = config.load("demo", root=tmp_path)
    overview.write(cfg)
    assert "not run yet" in (cfg.report_dir / "index.html").read_text()
