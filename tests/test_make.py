"""Does the Makefile run the right steps in the right order? With a stand-in for Python that writes what it was called for."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from lib.config import ROOT
from tests.conftest import clean_environment
from tests.test_notebooks import NAMES as STEPS

STAND_IN = """#!/bin/sh
# python -m lib.study ACTION PROFILE --set SETTINGS [STEP] [--reads STEPS]
echo "$* FRESH=$FRESH" >> calls
[ "$PYTHONPATH" = "$PWD" ] || { echo "lib would come from '$PYTHONPATH'" >&2; exit 9; }
out=reports/$4
mkdir -p "$out"
case $3 in
  plan) [ "$(cat "$out/.settings" 2>/dev/null)" = "$6" ] || echo 'of a study under way' > "$out/.settings" ;;
  run)
    echo "start $7" >> order
    [ ! -e slow ] || sleep 0.05
    [ ! -e "fail-$7" ] || exit 1
    printf 'reports/%s/%s.ipynb: lib/plots/style.py lib/gone.py\\nlib/plots/style.py:\\nlib/gone.py:\\n' "$4" "$7" > "$out/.$7.d"
    echo "end $7" >> order
    touch "$out/$7.ipynb" ;;
  page) touch "$out/$7.html" ;;
  index) touch "$out/index.html" ;;
esac
"""


@dataclass
class Bench:
    """A folder with the Makefile, empty notebooks and the stand-in."""

    root: Path

    def make(self, *words: str) -> subprocess.CompletedProcess:
        (self.root / "calls").write_text("")
        (self.root / "order").write_text("")
        command = ["make", *words, "PYTHON=./stand-in"]
        return subprocess.run(
            command, cwd=self.root, env=clean_environment(), capture_output=True, text=True, timeout=60
        )

    @property
    def calls(self) -> list[str]:
        """`run 04_compare`, `page 04_compare`, `plan`, `index`, in order."""
        words = [line.split() for line in (self.root / "calls").read_text().splitlines()]
        named = [(word[2], next((part for part in word[5:] if part in STEPS), "")) for word in words]
        return [" ".join(filter(None, pair)) for pair in named]

    def touch(self, name: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        later = time.time() + 5  # later than all that was made, whatever the file system's resolution
        os.utime(path, (later, later))


@pytest.fixture
def bench(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("lib/profiles", "lib/study/template", "lib/plots"):
        (tmp_path / folder).mkdir(parents=True)
    for profile in ("custom", "demo", "full", "quick"):
        shutil.copy(ROOT / "lib" / "profiles" / f"{profile}.yaml", tmp_path / "lib" / "profiles")
    for name in (
        "lib/plots/style.py",
        "lib/gone.py",
        "lib/study/pages.py",
        "lib/study/steps.py",
        "lib/study/story.py",
        "lib/tables.py",
        "lib/study/overview.py",
        "lib/study/template/style.css",
    ):
        (tmp_path / name).touch()
    (tmp_path / "notebooks").mkdir()
    for step in STEPS:
        (tmp_path / "notebooks" / f"{step}.ipynb").touch()
    (tmp_path / "stand-in").write_text(STAND_IN)
    (tmp_path / "stand-in").chmod(0o755)
    return Bench(tmp_path)


def test_all_runs_every_step_with_its_page_and_then_the_index(bench):
    (bench.root / "slow").touch()
    done = bench.make("all")
    assert done.returncode == 0, done.stderr
    pairs = [f"{action} {step}" for step in STEPS for action in ("run", "page")]
    assert sorted(bench.calls) == sorted(["plan", *pairs, "index"])
    assert bench.calls[0] == "plan"
    assert bench.calls[-1] == "index"
    assert bench.calls.index("page 01_data_audit") < bench.calls.index("run 04_compare"), (
        "a page is made as soon as it can"
    )
    assert "reports/demo/index.html" in done.stdout


@pytest.mark.parametrize("action", ["verify", "publish"])
def test_what_is_published_is_asked_of_its_module(bench, action):
    done = bench.make(action, "ARGS=--some-word")
    assert done.returncode == 0, done.stderr
    (call,) = (bench.root / "calls").read_text().splitlines()
    assert call.split(" FRESH=")[0] == f"-m lib.publish {action} --some-word"


def test_a_second_time_there_is_nothing_to_do_and_it_says_so_at_once(bench):
    bench.make("all")
    start = time.monotonic()
    done = bench.make("all")
    assert time.monotonic() - start < 2
    assert bench.calls == []
    assert "Nothing to do" in done.stdout


def test_two_at_once_wait_for_what_they_need(bench):
    (bench.root / "slow").touch()
    assert bench.make("-j4", "all").returncode == 0
    order = (bench.root / "order").read_text().splitlines()
    for later in STEPS[1:]:
        assert order.index("end 01_data_audit") < order.index(f"start {later}")
    for reader in ("04_compare", "05_gradcam"):
        for trained in ("02_train_xception_lstm", "03_train_custom_cnn_lstm"):
            assert order.index(f"end {trained}") < order.index(f"start {reader}")
    assert bench.calls[-1] == "index"


def test_the_steps_that_read_models_are_told_which(bench):
    bench.make("all")
    lines = (bench.root / "calls").read_text().splitlines()
    reading = [line for line in lines if "--reads 02_train_xception_lstm 03_train_custom_cnn_lstm" in line]
    assert sorted(re.search(r"0\d_\w+", line)[0] for line in reading) == ["04_compare", "05_gradcam"]


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("notebooks/06_ablation.ipynb", {"plan", "run 06_ablation", "page 06_ablation", "index"}),
        ("lib/study/overview.py", {"plan", "index"}),
        ("lib/study/template/style.css", {"plan", "index", *(f"page {step}" for step in STEPS)}),
        (
            "lib/plots/style.py",
            {"plan", "index", *(f"{do} {step}" for do in ("run", "page") for step in STEPS)},
        ),
    ],
)
def test_a_change_reaches_what_depends_on_it_and_nothing_else(bench, changed, expected):
    bench.make("all")
    bench.touch(changed)
    bench.make("all")
    assert set(bench.calls) == expected


def test_a_training_that_ran_again_reaches_its_readers_only(bench):
    bench.make("all")
    bench.touch("notebooks/02_train_xception_lstm.ipynb")
    bench.make("all")
    ran = {call for call in bench.calls if call.startswith("run")}
    assert ran == {"run 02_train_xception_lstm", "run 04_compare", "run 05_gradcam"}


def test_a_module_that_disappears_makes_steps_run_not_make_stumble(bench):
    bench.make("all")
    (bench.root / "lib" / "gone.py").unlink()
    done = bench.make("all")
    assert done.returncode == 0, done.stderr
    assert "run 01_data_audit" in bench.calls


def test_real_data_once_there_is_the_default_and_newer_data_runs_again(bench):
    bench.make("all")
    image = bench.root / "data/raw/chest_xray/train/x.jpeg"
    image.parent.mkdir(parents=True)
    image.touch()
    assert bench.make("all").returncode == 0
    assert "reports/full/index.html" in bench.make("all").stdout
    assert bench.calls == []
    bench.touch("data/raw/chest_xray")
    bench.make("all")
    assert "run 01_data_audit" in bench.calls
    assert "reports/demo" in bench.make("all", "PROFILE=demo").stdout


@pytest.mark.parametrize("change", ["mended", "added", "removed"])
def test_an_image_that_changed_deep_inside_runs_again_until_the_study_is_complete(bench, change):
    folder = bench.root / "data/raw/chest_xray/train/NORMAL"
    folder.mkdir(parents=True)
    for name in ("IM-0001-0001.jpeg", "IM-0002-0001.jpeg"):
        (folder / name).touch()
    bench.make("all")
    settings, top = bench.root / "reports/full/.settings", folder.parent.parent
    os.utime(settings, (time.time() - 10,) * 2)  # the file system's clock may be too coarse for what follows
    dates = [(path, path.stat().st_mtime) for path in (top, folder.parent)]
    if change == "removed":
        (folder / "IM-0002-0001.jpeg").unlink()
    else:
        (folder / ("IM-0001-0001.jpeg" if change == "mended" else "IM-0003-0001.jpeg")).write_bytes(b"x")
    assert dates == [(path, path.stat().st_mtime) for path in (top, folder.parent)], "which make does not see"
    (bench.root / "fail-04_compare").touch()
    assert bench.make("all").returncode != 0
    (bench.root / "fail-04_compare").unlink()
    before = settings.stat().st_mtime_ns
    bench.make("all")
    assert sum(call.startswith("run") for call in bench.calls) == 6
    assert settings.stat().st_mtime_ns > before
    bench.make("all")
    assert bench.calls == []


def test_new_imagenet_weights_run_the_steps_of_a_real_study_again_and_not_the_demo(bench):
    bench.touch("data/raw/chest_xray/train/x.jpeg")
    bench.touch("data/weights/legacy_xception.safetensors")
    for profile in ("quick", "demo"):
        assert bench.make("all", f"PROFILE={profile}").returncode == 0
    later = time.time() + 60
    os.utime(bench.root / "data" / "weights" / "legacy_xception.safetensors", (later, later))
    bench.make("all", "PROFILE=demo")
    assert bench.calls == []
    bench.make("all", "PROFILE=quick")
    assert {call for call in bench.calls if call.startswith("run")} == {f"run {step}" for step in STEPS}


@pytest.mark.parametrize(
    ("text", "real"),
    [
        ("train: {epochs: 1}\n", True),  # real radiographs are the default
        ('data: {"dataset": "chest_xray"}  # not as in dataset: phantoms\n', True),
        ("# dataset: phantoms\ndata:\n  dataset: 'chest_xray'\n", True),
        ("# dataset: chest_xray\ndata: {dataset: 'phantoms', phantoms: 8}\n", False),
    ],
)
def test_new_weights_are_noticed_however_a_profile_names_its_images(bench, text, real):
    weights = "data/weights/legacy_xception.safetensors"
    (bench.root / "lib" / "profiles" / "mine.yaml").write_text(text)
    bench.touch("data/raw/chest_xray/train/x.jpeg")
    bench.touch(weights)
    assert bench.make("all", "PROFILE=mine").returncode == 0
    later = time.time() + 60
    os.utime(bench.root / weights, (later, later))
    bench.make("all", "PROFILE=mine")
    assert sum(call.startswith("run") for call in bench.calls) == (6 if real else 0)


def test_other_weights_are_none_of_a_study_whatever_they_are_called(bench):
    bench.touch("data/raw/chest_xray/train/x.jpeg")
    bench.touch("data/weights/a copy.safetensors")
    done = bench.make("all", "PROFILE=quick")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("words", [["all", "FRESH=1"], ["clean-models"]])
def test_the_settings_of_the_last_study_are_replaced_and_never_half_written(bench, words):
    bench.make("all")
    kept = bench.root / "reports" / "demo" / ".settings"
    before = kept.stat().st_ino
    assert bench.make(*words).returncode == 0
    assert kept.stat().st_ino != before
    assert [path.name for path in kept.parent.glob(".settings*")] == [".settings"]


def test_other_settings_run_again_and_so_does_fresh(bench):
    bench.make("all")
    bench.make("all", "SET=train.epochs=2 data.image_size=96")
    assert sum(call.startswith("run") for call in bench.calls) == 6
    assert "--set train.epochs=2 data.image_size=96" in (bench.root / "calls").read_text()
    bench.make("all", "SET=train.epochs=2 data.image_size=96")
    assert bench.calls == []
    long = "SET=train.epochs=2 data.image_size=96 n_boot=100"
    for other in (long, "SET=train.epochs=2 n_boot=100", long, "SET=train.epochs=2"):
        bench.make("all", other)
        assert sum(call.startswith("run") for call in bench.calls) == 6, f"{other} is not what ran before"
    bench.make("all")
    assert sum(call.startswith("run") for call in bench.calls) == 6
    (bench.root / "fail-04_compare").touch()
    bench.make("all", "SET=train.epochs=2")
    (bench.root / "fail-04_compare").unlink()
    bench.make("all")
    assert sum(call.startswith("run") for call in bench.calls) == 6, (
        "steps that ran with other settings are not fresh"
    )
    bench.make("all", "FRESH=1")
    assert sum(call.startswith("run") for call in bench.calls) == 6
    assert "FRESH=1" in (bench.root / "calls").read_text()


def test_showing_what_would_run_changes_nothing(bench):
    bench.make("all")
    kept = (bench.root / "reports" / "demo" / ".settings").read_text()
    said = bench.make("all", "-n", "SET=train.epochs=2").stdout
    assert bench.calls == []
    assert (bench.root / "reports" / "demo" / ".settings").read_text() == kept
    assert "run 'demo' --set" in said
    assert "Done" not in said
    bench.make("all", "SET=train.epochs=2")
    assert sum(call.startswith("run") for call in bench.calls) == 6


def test_settings_reach_the_study_as_they_are_written_and_never_the_shell(bench):
    given = "ablation.variants=['mean-mlp'] x='; touch broken; '"
    bench.make("all", f"SET={given}")
    assert f"--set {given}" in (bench.root / "calls").read_text()
    assert not (bench.root / "broken").exists()
    bench.make("all", f"SET={given}")
    assert bench.calls == []


def test_a_model_trained_by_hand_since_is_read_again(bench):
    bench.make("all")
    bench.touch("models/demo/xception_lstm-seed42/run.json")
    bench.make("all")
    assert sorted(call for call in bench.calls if call.startswith("run")) == [
        "run 04_compare",
        "run 05_gradcam",
    ]


def test_models_that_were_removed_are_looked_for_again(bench):
    bench.make("all")
    bench.make("clean-models")
    bench.make("all")
    assert sum(call.startswith("run") for call in bench.calls) == 6


@pytest.mark.parametrize(
    ("profile", "settings", "trained"),
    [
        ("full", "", ["run 02_train_xception_lstm"]),
        ("full", "ablation.model=custom_cnn_lstm", ["run 03_train_custom_cnn_lstm"]),
        ("custom", "", ["run 03_train_custom_cnn_lstm"]),
        ("custom", "ablation.model=xception_lstm", ["run 02_train_xception_lstm"]),
        ("quick", "", []),
        ("quick", "ablation.regime=finetuned", ["run 02_train_xception_lstm"]),
    ],
)
def test_a_fine_tuned_ablation_waits_for_the_model_it_takes_over_and_no_other(
    bench, profile, settings, trained
):
    bench.make(f"reports/{profile}/06_ablation.ipynb", f"PROFILE={profile}", f"SET={settings}")
    assert [call for call in bench.calls if "_train_" in call] == trained
    assert bench.calls[-1] == "run 06_ablation"


def test_a_failure_stops_make_and_leaves_what_was_good(bench):
    bench.make("all")
    page = bench.root / "reports" / "demo" / "04_compare.html"
    before = page.stat().st_mtime_ns
    (bench.root / "fail-04_compare").touch()
    bench.touch("notebooks/04_compare.ipynb")
    assert bench.make("all").returncode != 0
    assert page.stat().st_mtime_ns == before


def test_an_unknown_profile_is_named_with_the_known_ones(bench):
    done = bench.make("all", "PROFILE=ful")
    assert done.returncode != 0
    assert "unknown profile 'ful'" in done.stderr
    assert all(name in done.stderr for name in ("demo", "full", "quick"))
    assert not (bench.root / "reports").exists()


def test_help_fits_one_screen(bench):
    lines = bench.make("help").stdout.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 120
    for target in ("all", "data", "lab", "test", "bench", "clean"):
        assert any(re.match(rf"\s+make {target}\s", line) for line in lines)


def test_clean_keeps_raw_data_weights_and_models_of_real_radiographs(bench):
    kept = ["data/raw/chest_xray/train/x.jpeg", "data/weights/w.safetensors", "models/full/a-seed1/run.json",
            "reports/results/full/04_compare.json", "reports/README.md"]  # fmt: skip
    gone = ["data/raw/phantoms/x.png", "data/store/a/pixels.npy", "models/demo/a-seed1/run.json",
            "reports/full/04_compare.html", "reports/results/demo/04_compare.json"]  # fmt: skip
    for name in kept + gone:
        bench.touch(name)
    assert bench.make("clean").returncode == 0
    assert [name for name in kept if not (bench.root / name).exists()] == []
    assert [name for name in gone if (bench.root / name).exists()] == []


@pytest.mark.parametrize("profile", ["", "../lib", "ful"])
def test_clean_models_of_no_profile_deletes_nothing_and_says_so(bench, profile):
    bench.touch("models/full/a-seed1/run.json")
    before = {path for path in bench.root.rglob("*")}
    done = bench.make("clean-models", f"PROFILE={profile}")
    assert done.returncode != 0
    assert f"unknown profile '{profile}'" in done.stderr
    assert {path for path in bench.root.rglob("*")} - before <= {bench.root / "calls", bench.root / "order"}
    assert before <= {path for path in bench.root.rglob("*")}


def test_clean_models_removes_those_of_its_profile_alone(bench):
    for profile in ("full", "quick"):
        bench.touch(f"models/{profile}/a-seed1/run.json")
    assert bench.make("clean-models", "PROFILE=full").returncode == 0
    assert [path.name for path in (bench.root / "models").iterdir()] == ["quick"]


@pytest.mark.parametrize(("profile", "trains"), [("full", True), ("quick", False)])
def test_clean_models_makes_a_fine_tuned_ablation_train_again(bench, profile, trains):
    for step in STEPS:
        bench.touch(f"reports/{profile}/.{step}.json")
    bench.make("clean-models", f"PROFILE={profile}")
    gone = [step for step in STEPS if not (bench.root / "reports" / profile / f".{step}.json").exists()]
    assert gone == (["06_ablation"] if trains else [])


@pytest.mark.parametrize("name", ["/x/Bob's data.zip", '/x/the "real" one; echo.zip', "/x/a `b`.zip"])
def test_data_passes_any_name_on(bench, name):
    done = bench.make("data", f"SOURCE={name}", f"WEIGHTS={name}.safetensors")
    assert done.returncode == 0, done.stderr
    said = (bench.root / "calls").read_text()
    assert said.startswith(f"-m lib.sources --source {name} --weights {name}.safetensors FRESH=")


def test_data_without_files_names_none(bench):
    bench.make("data")
    assert (bench.root / "calls").read_text().startswith("-m lib.sources FRESH=")


def test_a_conda_environment_is_used_only_when_it_has_the_packages(bench):
    conda = bench.root / "conda"
    shutil.copy(ROOT / "requirements.lock", bench.root)
    (torch,) = re.findall(r"^torch==([\d.]+)", (ROOT / "requirements.lock").read_text(), re.M)
    packages = conda / "lib" / "python3.11" / "site-packages"
    for name in (f"torch-{torch}+cpu.dist-info", "papermill", "timm", "lightning_fabric"):
        (packages / name).mkdir(parents=True)
    (conda / "bin").mkdir()
    shutil.copy(bench.root / "stand-in", conda / "bin" / "python")
    environment = clean_environment() | {"CONDA_PREFIX": str(conda)}
    done = subprocess.run(["make", "env"], cwd=bench.root, env=environment, capture_output=True, text=True)
    assert str(conda / "bin" / "python") in done.stdout, done.stderr
    for name in (f"torch-{torch}+cpu.dist-info", "timm"):
        (packages / name).rename(packages / "torch-2.0.0.dist-info")
        built = make_environment(bench, environment)
        assert ".venv/bin/python" in built.stdout, built.stderr
        assert "The activated conda environment is not used" in built.stdout
        (packages / "torch-2.0.0.dist-info").rename(packages / name)
    assert "is not used" not in make_environment(bench, clean_environment()).stdout


def make_environment(bench: Bench, environment: dict) -> subprocess.CompletedProcess:
    """`make env` with a stand-in for the script that builds .venv."""
    shutil.rmtree(bench.root / ".venv", ignore_errors=True)
    (bench.root / ".ci").mkdir(exist_ok=True)
    (bench.root / "pyproject.toml").touch()
    (bench.root / ".ci" / "environment").write_text(
        "mkdir -p $1/bin && cp stand-in $1/bin/python && echo built\n"
    )
    return subprocess.run(["make", "env"], cwd=bench.root, env=environment, capture_output=True, text=True)


def test_an_environment_whose_python_has_gone_is_built_again(bench):
    (bench.root / "requirements.lock").touch()

    def made() -> bool:
        done = subprocess.run(
            ["make", "env"], cwd=bench.root, env=clean_environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return "built" in done.stdout

    assert "built" in make_environment(bench, clean_environment()).stdout
    assert not made()
    python = bench.root / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to(bench.root / "gone" / "python3.12")  # as after an upgrade of the system
    (bench.root / ".ci" / "environment").write_text(
        "rm -f $1/bin/python; cp stand-in $1/bin/python; echo built\n"
    )
    assert made() and not made()


def test_outputs_of_notebooks_do_not_reach_git(tmp_path):
    """The filter that the environment step sets up, in a repository of its own, with this Python."""
    import nbformat

    for name in ("Makefile", ".gitattributes"):
        shutil.copy(ROOT / name, tmp_path)
    cell = nbformat.v4.new_code_cell("1 + 1", execution_count=3)
    cell.outputs = [nbformat.v4.new_output("stream", text="a secret radiograph")]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    git("init", "-q")
    subprocess.run(
        ["make", "env", f"PYTHON={sys.executable}"], cwd=tmp_path, env=clean_environment(), check=True
    )
    git("add", "a.ipynb")
    assert "1 + 1" in git("show", ":a.ipynb")
    assert "secret" not in git("show", ":a.ipynb")
    assert "secret" in (tmp_path / "a.ipynb").read_text(), "the working copy keeps its outputs"


def test_a_repository_around_the_project_keeps_its_own_filter(tmp_path):
    project = tmp_path / "copied"
    project.mkdir()
    shutil.copy(ROOT / "Makefile", project)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    done = subprocess.run(
        ["make", "env", f"PYTHON={sys.executable}"], cwd=project, env=clean_environment(), capture_output=True, text=True
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "nbstripout" not in (tmp_path / ".git" / "config").read_text()


@pytest.mark.parametrize(
    ("system", "machine", "runs"),
    [
        ("Linux", "x86_64", True),
        ("Linux", "aarch64", True),
        ("Darwin", "arm64", True),
        ("Darwin", "x86_64", False),
        ("MINGW64_NT-10.0", "x86_64", False),
    ],
)
def test_where_torch_is_not_built_it_is_said_before_anything_is_installed(tmp_path, system, machine, runs):
    (tmp_path / "requirements.lock").write_text("uv==1.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "uname").write_text(f"#!/bin/sh\ncase $1 in -s) echo {system} ;; *) echo {machine} ;; esac\n")
    (tmp_path / "python3").write_text(PYTHON3)
    for name in ("uname", "python3"):
        (tmp_path / name).chmod(0o755)
    environment = clean_environment() | {"PYTHON3": str(tmp_path / "python3")}
    environment["PATH"] = f"{tmp_path}:{environment['PATH']}"
    done = subprocess.run(
        ["sh", str(ROOT / ".ci" / "environment"), "env"], cwd=tmp_path, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert (done.returncode == 0, (tmp_path / "env").exists()) == (runs, runs)
    assert ("on Windows use WSL" in done.stderr) == (not runs)


PYTHON3 = """#!/bin/sh
# Stands for the system's python3, and for bin/python of the environments that it makes.
echo "$*" >> calls
case "$1 $2" in
  '-m venv') mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
esac
"""


def test_an_environment_whose_build_was_interrupted_is_built_again(tmp_path):
    """Between the moment at which bin/python is there and the one at which pip is."""
    for name in (".ci", "env/bin", "env/lib"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "environment", tmp_path / ".ci")
    (tmp_path / "requirements.lock").write_text("uv==1.0 \\\n    --hash=sha256:0\n")
    (tmp_path / "python3").write_text(PYTHON3)
    (tmp_path / "env" / "bin" / "python").write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
    for name in ("python3", "env/bin/python"):
        (tmp_path / name).chmod(0o755)

    def build() -> list[str]:
        (tmp_path / "calls").write_text("")
        done = subprocess.run(
            ["sh", ".ci/environment", "env"], cwd=tmp_path, env=clean_environment() | {"PYTHON3": str(tmp_path / "python3")},
            capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return (tmp_path / "calls").read_text().splitlines()

    first = build()
    assert "-m venv --clear env" in first
    assert any("uv pip install" in call and "requirements.lock" in call for call in first)
    assert not [call for call in build() if "venv" in call], "a whole one is kept"


def conda_lines() -> list[list[str]]:
    """The commands that README gives for conda."""
    block = re.search(r"```\n(conda env create.*?)```", (ROOT / "README.md").read_text(), re.S)[1]
    return [shlex.split(line) for line in re.split(r"\n|&&", block) if line.strip()]


def test_condas_door_asks_for_nothing_that_pip_has_to_resolve():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    asked = environment["dependencies"]
    assert all(isinstance(one, str) for one in asked), "a pip section would have pip resolve the lock"
    assert {one.split("=")[0] for one in asked} == {"python", "pip", "make"}
    create, activate, install = conda_lines()
    assert create == ["conda", "env", "create", "-f", "environment.yml"]
    assert activate == ["conda", "activate", environment["name"]]
    comment = (ROOT / "environment.yml").read_text()
    assert f"# {shlex.join(install)}\n" in comment


def test_pip_takes_the_lock_by_the_command_that_readme_gives():
    """Tried where every package of the lock is installed already, so that pip decides without a network."""
    missing = [
        asked.name
        for line in (ROOT / "requirements.lock").read_text().splitlines()
        if re.match(r"[a-z0-9]", line)
        and (asked := Requirement(line.rstrip(" \\"))).name
        and (asked.marker is None or asked.marker.evaluate())
        and not installed(asked)
    ]
    if missing:
        pytest.skip(f"this environment was not made from the lock: {', '.join(missing[:5])}")
    python, *words = conda_lines()[-1]
    assert (python, words[:3]) == ("python", ["-m", "pip", "install"])
    done = subprocess.run(
        [sys.executable, *words, "--dry-run", "--no-index", "--disable-pip-version-check"],
        cwd=ROOT, env=clean_environment() | {"PIP_FIND_LINKS": ""}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def installed(asked: Requirement) -> bool:
    try:
        return asked.specifier.contains(importlib.metadata.version(asked.name), prereleases=True)
    except importlib.metadata.PackageNotFoundError:
        return False
