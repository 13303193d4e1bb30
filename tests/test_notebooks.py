"""Are the committed notebooks as notebooks of this project should be?"""

from __future__ import annotations

import json
import re
import subprocess

import nbformat
import pytest

from lib.config import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "01_data_audit",
    "02_train_xception_lstm",
    "03_train_custom_cnn_lstm",
    "04_compare",
    "05_gradcam",
    "06_ablation",
]


def code_of(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def test_the_study_has_its_six_notebooks():
    assert [path.stem for path in NOTEBOOKS] == NAMES


def test_it_is_valid_and_its_cells_have_stable_names(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    names = [cell.id for cell in notebook.cells]
    assert len(set(names)) == len(names)
    assert notebook.metadata.kernelspec.name == "python3"


def test_cells_are_short_and_define_little(notebook):
    for cell in code_of(notebook):
        assert len(cell.source.splitlines()) <= 15, (
            f"cell {cell.id} has {len(cell.source.splitlines())} lines"
        )
        assert not re.search(r"^\s*class ", cell.source, re.MULTILINE), f"cell {cell.id} defines a class"
        for body in re.findall(r"^def .*(?:\n(?:[ \t].*|)$)*", cell.source, re.MULTILINE):
            assert len(body.strip().splitlines()) <= 4, f"cell {cell.id} defines a long function"


def test_it_opens_and_closes_as_all_do(notebook):
    first, code = notebook.cells[0], code_of(notebook)
    assert re.match(r"# 0\d ", first.source), "the first cell is the title"
    assert "Reads" in "".join(cell.source for cell in notebook.cells[:3])
    assert code[0].metadata.get("tags") == ["parameters"]
    assert "profile = None" in code[0].source
    assert "overrides = {}" in code[0].source
    for line in (
        "%load_ext autoreload",
        "%autoreload 2",
        "cfg = config.load(profile, **overrides)",
        "report.opening(cfg",
    ):
        assert line in code[1].source
    assert any(cell.source.startswith("## Limits") for cell in notebook.cells)
    assert "report.closing(cfg" in code[-1].source
    source = "\n".join(cell.source for cell in code)
    assert "files.write_json(cfg.results_dir" in source, "a notebook ends by writing its results"


def test_paths_do_not_depend_on_the_working_directory(notebook):
    for cell in code_of(notebook):
        assert not re.search(r"""["'](\.\./|\./|data/|models/|reports/)""", cell.source), (
            f"cell {cell.id} names a path"
        )


def test_nothing_is_written_in_terms_of_tex(notebook):
    """Pages are self-contained: there is no MathJax in them."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            assert not re.search(r"\$\$|\\\(|\\\[|\$[^$\n]+\$", cell.source), (
                f"cell {cell.id} holds a formula"
            )


def test_what_only_images_of_224_pixels_have_is_said_to_be_theirs(notebook):
    """The demo's are smaller, and `stretched` reads larger ones."""
    for cell in notebook.cells:
        for line in cell.source.splitlines() if cell.cell_type == "markdown" else ():
            assert not re.search(r"\b49\b|\b56 ?x ?56\b", line) or "224 pixels" in line, cell.id


def test_git_holds_no_output():
    """What is committed, not what lies in the working tree: there the filter has not run."""
    listed = subprocess.run(["git", "ls-files", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(lambda name: name.endswith(".ipynb"), listed.stdout.split()):
        text = subprocess.run(
            ["git", "show", f":{name}"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for cell in json.loads(text)["cells"]:
            if cell["cell_type"] == "code":
                assert not cell["outputs"], (
                    f"{name} is committed with outputs; run `make env` to set up the filter"
                )
                assert cell["execution_count"] is None, f"{name} is committed with execution counts"
