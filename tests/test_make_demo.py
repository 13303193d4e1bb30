"""Does `make all` turn the notebooks into reports of models that learned? One demo study, from end to end."""

from __future__ import annotations

import shutil
import time

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from sklearn.metrics import roc_auc_score

from lib import files
from lib.config import MODELS
from tests.conftest import Tree
from tests.test_notebooks import NAMES

MEGABYTE = 2**20


def test_every_step_is_told_and_leaves_a_page(demo_study):
    for number, name in enumerate(NAMES, 1):
        for ending in ("ipynb", "html"):
            assert (demo_study.reports / f"{name}.{ending}").is_file()
        if demo_study.story:
            assert f"[{number}/6] {name}" in demo_study.story
            assert f"reports/demo/{name}.html" in demo_study.story
    assert not list(demo_study.reports.glob("*.partial.ipynb"))
    if demo_study.story:
        assert demo_study.story.startswith("Profile demo: ")
        assert "reports/demo/index.html" in demo_study.story


@pytest.mark.parametrize("name", ["index", *NAMES])
def test_no_page_is_heavy(demo_study, name):
    assert (demo_study.reports / f"{name}.html").stat().st_size < 5 * MEGABYTE


def test_a_second_time_there_is_nothing_to_do(demo_study):
    start = time.monotonic()
    done = demo_study.make("all", "PROFILE=demo")
    assert time.monotonic() - start < 2
    assert done.returncode == 0
    assert done.stdout == "Nothing to do: reports/demo/index.html is up to date.\n"


def test_every_step_is_fresh_and_says_what_it_found(demo_study):
    page = BeautifulSoup((demo_study.reports / "index.html").read_text(encoding="utf-8"), "html.parser")
    assert [word.text for word in page.select("#pages ~ .table .verdict")][-6:] == ["fresh"] * 6
    assert page.select("#answers ~ dl.answers dt"), "questions are answered"
    assert page.select("#checks ~ .table .verdict"), "the audit's verdicts"
    assert len(page.select("#figures ~ figure img")) == 2
    for name in NAMES:
        result = files.read_json(demo_study.results / f"{name}.json")
        assert result.get("findings") or result.get("answers"), f"{name} tells the index page nothing"
        assert all(
            finding["verdict"] in ("good", "caution", "bad", "info") for finding in result.get("findings", [])
        )


@pytest.mark.parametrize("model", MODELS)
def test_both_models_learn(demo_study, model):
    (path,) = (demo_study.root / "models" / "demo").glob(f"{model}-seed*/predictions.csv")
    table = pd.read_csv(path)
    test = table[table["split"] == "test"]
    assert roc_auc_score(test["y_true"], test["logit"]) > 0.9


def test_an_edited_figure_is_drawn_again_and_nothing_is_trained(demo_study, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(demo_study.root, root, symlinks=True)  # dates are kept, so nothing is out of date
    tree = Tree(root)
    page, notebook = (tree.reports / f"02_train_xception_lstm.{ending}" for ending in ("html", "ipynb"))
    runs = {path: path.stat().st_mtime_ns for path in (root / "models").rglob("run.json")}
    assert runs
    before = page.stat().st_mtime_ns, notebook.stat().st_mtime_ns
    with (root / "lib" / "plots" / "training.py").open("a", encoding="utf-8") as module:
        module.write("\nEDITED = True\n")
    done = tree.make(str(page.relative_to(root)), "PROFILE=demo")
    assert done.returncode == 0, done.stdout + done.stderr
    assert page.stat().st_mtime_ns > before[0]
    assert notebook.stat().st_mtime_ns > before[1]
    assert {path: path.stat().st_mtime_ns for path in (root / "models").rglob("run.json")} == runs
