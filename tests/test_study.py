"""Does a step run, tell its story, fail with a sentence, and stay when nothing has changed? With notebooks of two cells."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import filelock
import nbformat
import papermill
import pytest
from nbclient.exceptions import DeadKernelError

from lib import config, files, study
from lib.config import ROOT
from lib.study import overview, steps, story
from lib.study.steps import State, Step
from tests.conftest import clean_environment


def write_notebook(path: Path, *cells: str, title: str = "Sample") -> None:
    opening = nbformat.v4.new_markdown_cell(f"# {path.stem[:2]} {title}\n\nA question?")
    parameters = nbformat.v4.new_code_cell(
        "profile = None\noverrides = {}", metadata={"tags": ["parameters"]}
    )
    code = [nbformat.v4.new_code_cell(cell) for cell in cells]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[opening, parameters, *code], metadata=kernel), path)


@pytest.fixture
def executed(monkeypatch):
    """The names of the steps that were executed: each writes a notebook at once, and none fails."""
    names = []

    def execute(step, *_):
        names.append(step.name)
        write_notebook(step.partial, "1")
        return {}

    monkeypatch.setattr(study, "_execute", execute)
    return names


@pytest.fixture
def project(tmp_path):
    """A project whose study has one notebook of its own."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", tmp_path)
    return tmp_path


def call(project: Path, *words: str, python=("-m", "lib.study"), **environment: str):
    return subprocess.run(
        [sys.executable, *python, *words],
        cwd=project,
        env=clean_environment() | {"PYTHONPATH": str(project)} | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_step_runs_with_its_settings_in_this_environment(project, tmp_path):
    """From the project's root, with this Python, even if the user has another kernel of the same name."""
    write_notebook(
        project / "notebooks" / "01_sample.ipynb",
        "import os, sys\nfrom lib import config\ncfg = config.load(profile, **overrides)",
        "print('epoch 1/1 done')\nprint({'python': sys.executable, 'cwd': os.getcwd(), 'epochs': cfg.train.epochs})",
    )
    decoy = tmp_path / "home" / "kernels" / "python3"
    decoy.mkdir(parents=True)
    (decoy / "kernel.json").write_text(
        json.dumps({"argv": ["/bin/false"], "display_name": "x", "language": "python"})
    )
    done = call(
        project, "run", "demo", "--set", "train.epochs=7", "01_sample", JUPYTER_DATA_DIR=str(decoy.parents[1])
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    executed = json.loads((project / "reports" / "demo" / "01_sample.ipynb").read_text())
    said = "".join("".join(output["text"]) for output in executed["cells"][-1]["outputs"])
    assert f"'python': '{sys.executable}'" in said
    assert f"'cwd': '{project}'" in said
    assert "'epochs': 7" in said
    lines = done.stdout.splitlines()
    assert lines[0].startswith("[1/1] 01_sample  runs")
    assert "epoch 1/1 done" in lines[1]
    assert "reports/demo/01_sample.html" in lines[-1]
    assert not (project / "reports" / "demo" / "01_sample.partial.ipynb").exists()
    rule = (project / "reports" / "demo" / ".01_sample.d").read_text()
    assert "reports/demo/01_sample.ipynb: " in rule
    assert "lib/config.py" in rule

    page = call(project, "page", "demo", "01_sample")
    assert page.returncode == 0, page.stderr
    assert "train.epochs=7" in (project / "reports" / "demo" / "01_sample.html").read_text()

    again = call(project, "run", "demo", "--set", "train.epochs=7", "01_sample")
    assert "kept" in again.stdout
    (project / "lib" / "config.py").open("a").write("\n# a comment changes nothing\n")
    assert "kept" in call(project, "run", "demo", "--set", "train.epochs=7", "01_sample").stdout


def test_a_failing_cell_is_shown_with_its_error_and_the_last_good_report_stays(project):
    notebook = project / "notebooks" / "04_sample.ipynb"
    write_notebook(notebook, "rate = 'fast'", "print('so far')\nrate / 2")
    good = project / "reports" / "demo" / "04_sample.html"
    good.parent.mkdir(parents=True)
    good.write_text("the last good report")
    done = call(project, "run", "demo", "04_sample")
    assert done.returncode == 1
    assert done.stderr == ""
    assert "rate / 2" in done.stdout
    assert "TypeError: unsupported operand type(s) for /: 'str' and 'int'" in done.stdout
    assert "reports/demo/04_sample.partial.ipynb" in done.stdout
    assert "Traceback" not in done.stdout
    assert len(done.stdout.splitlines()) <= 10
    assert good.read_text() == "the last good report"
    assert "so far" in (project / "reports" / "demo" / "04_sample.partial.ipynb").read_text()
    index = (project / "reports" / "demo" / "index.html").read_text()
    assert "failed" in index
    assert 'href="04_sample.partial.ipynb"' in index
    assert "TypeError" in index


def test_plan_says_which_study_on_which_data_and_how_to_choose_another(project):
    write_notebook(project / "notebooks" / "01_sample.ipynb", "1")
    done = call(project, "plan", "demo")
    assert done.returncode == 0, done.stderr
    assert "Profile demo" in done.stdout
    assert "synthetic" in done.stdout
    others = sorted(path.stem for path in config.PROFILES.glob("*.yaml") if path.stem != "demo")
    assert {"quick", "full"} <= set(others)
    assert f"PROFILE={'|'.join(others)}" in done.stdout
    assert "make data" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["plan", "quick"], "run `make data`"),
        (["plan", "ful"], "unknown profile 'ful'"),
        (["plan", "demo", "--set", "train.epoch=2"], "did you mean 'epochs'"),
        (["plan", "demo", "--set", "epochs"], "SET="),
        (["plan", "demo", "--set", "data.aspect='pad"], "which cannot be read (no closing quotation)"),
    ],
)
def test_a_study_that_cannot_run_is_refused_in_one_sentence(project, words, message):
    write_notebook(project / "notebooks" / "01_sample.ipynb", "1")
    done = call(project, *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_a_page_that_is_not_fit_to_publish_is_refused_in_one_sentence(project):
    write_notebook(project / "notebooks" / "01_sample.ipynb", "1")
    drawn = nbformat.v4.new_code_cell("draw()")
    drawn.outputs = [nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="})]
    executed = project / "reports" / "demo" / "01_sample.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[drawn]), executed)
    done = call(project, "page", "demo", "01_sample")
    assert done.returncode == 1
    assert done.stderr == (
        "error: 01_sample shows 1 figure(s) without alternative text; end those cells with report.figure(figure, alt)\n"
    )


# No file may grow beyond a kilobyte.
FULL_DISK = (
    "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)); "
    "from lib.study import main; sys.exit(main(sys.argv[1:]))"
)


@pytest.mark.skipif(os.name != "posix", reason="limits of a process")
@pytest.mark.parametrize("words", [["run", "demo", "01_sample"], ["index", "demo"]])
def test_a_full_disk_is_told_in_one_sentence(project, words):
    write_notebook(project / "notebooks" / "01_sample.ipynb", "print('a' * 2000)")
    done = call(project, *words, python=("-c", FULL_DISK), PYTHONDONTWRITEBYTECODE="1")
    assert done.returncode == 1
    assert done.stderr.startswith("error: File too large")
    assert done.stderr.endswith("; free some disk space and run again\n")
    assert len(done.stderr.splitlines()) == 1


def test_an_interrupt_before_the_notebook_runs_is_no_traceback(tmp_path, monkeypatch, capsys):
    """In the second that papermill takes to be imported."""
    sample_steps(tmp_path)
    monkeypatch.setattr(study.configs, "load", lambda *_, **__: config.Config("demo", root=tmp_path))
    monkeypatch.setattr(study, "_execute", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert study.main(["run", "demo", "01_a"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "refused"),
    [
        ({"data.image_size": 256}, True),
        ({"data.image_size": 230}, False),
        ({"data.image_size": 256, "ablation.variants": ["mean-mlp", "lstm-raster"]}, False),
        ({"data.image_size": 256, "ablation.variants": ["mean-mlp", "transformer-raster"]}, True),
        ({"xception_lstm.input_size": 299}, False),  # frozen features are of the images as stored
        ({"xception_lstm.input_size": 299, "ablation.regime": "finetuned"}, True),
        (
            {"data.image_size": 256, "ablation.regime": "finetuned", "ablation.model": "custom_cnn_lstm"},
            False,
        ),
    ],
)
def test_an_ablation_that_would_fail_at_its_end_is_refused_at_the_start(tmp_path, settings, refused):
    sample_steps(tmp_path)
    cfg = config.load("demo", root=tmp_path, **{"ablation.variants": []} | settings)
    if refused:
        with pytest.raises(study.StudyError, match="ablation.variants holds a transformer, .* name others"):
            study.plan(cfg, "")
    else:
        study.plan(cfg, "")


def test_a_step_that_there_is_not_is_named_with_those_that_there_are(project):
    write_notebook(project / "notebooks" / "01_sample.ipynb", "1")
    done = call(project, "run", "demo", "01")
    assert done.returncode == 2
    assert done.stderr == "unknown step '01'; the steps are 01_sample\n"


def test_overrides_are_read_as_yaml():
    assert study.overrides("train.epochs=2 seeds=[1,2] data.aspect=pad train.learning_rate=1.0e-3") == {
        "train.epochs": 2,
        "seeds": [1, 2],
        "data.aspect": "pad",
        "train.learning_rate": 1e-3,
    }
    assert study.overrides("") == {}


def sample_steps(root: Path, names=("01_a", "02_train_xception_lstm")) -> list[Step]:
    for name in names:
        write_notebook(root / "notebooks" / f"{name}.ipynb", "1")
    return steps.all_steps(config.load("demo", root=root))


def state(**changes) -> State:
    return State(
        **(
            {
                "status": "done",
                "inputs": "",
                "started": "2026-01-01T00:00:00+00:00",
                "duration_s": 30.0,
                "command": "make all",
            }
            | changes
        )
    )


def test_expected_time_comes_from_the_last_run_or_from_the_profile(tmp_path, monkeypatch):
    both = sample_steps(tmp_path)
    assert story.expect(both, "nothing was measured", "make all") is None
    monkeypatch.setattr(story, "gflops", lambda: 100.0)
    monkeypatch.setattr(story, "accelerated", lambda: True)
    assert story.expect(both, "Takes: 01 10 s, 02 2 min, at 200 GFLOP/s", "make all") is None
    monkeypatch.setattr(story, "accelerated", lambda: False)
    guess = story.expect(both, "Takes: 01 10 s, 02 2 min, at 200 GFLOP/s", "make all")
    assert guess.seconds == {"01_a": 20.0, "02_train_xception_lstm": 240.0}
    assert "scaled" in guess.basis
    both[0].keep(state(duration_s=5.0))
    assert story.expect(both, "Takes: 01 10 s, 02 2 min", "make all").total == 125.0
    both[1].keep(state(started="2026-01-01T00:00:10+00:00"))
    assert story.expect(both, "", "make all").total == 35.0
    both[1].keep(state(started="2026-01-01T00:00:03+00:00"))
    assert story.expect(both, "", "make all").total == 33.0  # two seconds of both at once


def test_a_last_run_that_trained_nothing_promises_no_seconds(tmp_path, monkeypatch):
    both = sample_steps(tmp_path)
    monkeypatch.setattr(story, "accelerated", lambda: False)
    monkeypatch.setattr(story, "gflops", lambda: 100.0)
    header = "Takes at 200 GFLOP/s: 01 10 s, 02 40 min"  # twice as long here
    for step in both:
        step.keep(state(duration_s=12.5))
    found = story.expect(both, header, "make all")
    assert found.seconds == {"01_a": 12.5, "02_train_xception_lstm": 4800.0}
    assert "measurements" in found.basis
    both[1].keep(state(duration_s=2400.0))
    assert story.expect(both, header, "make all").basis == "as the last time here"
    for asked in ({"command": "make all SET=train.epochs=9"}, {"command": "make all", "fresh": True}):
        assert story.expect(both, header, **asked).total == 20 + 4800


def test_what_a_profile_takes_is_not_said_of_other_settings(tmp_path, monkeypatch):
    both = sample_steps(tmp_path)
    monkeypatch.setattr(story, "accelerated", lambda: False)
    found = story.expect(both, "Takes: 01 10 s, 02 2 min", "make all SET=train.epochs=100")
    assert found.total == 130
    assert found.seconds == {}
    assert "without these settings" in found.basis
    for step in both:
        step.keep(state(command="make all SET=train.epochs=100", duration_s=90.0))
    seen = story.expect(both, "Takes: 01 10 s, 02 2 min", "make all SET=train.epochs=100")
    assert seen.basis == "as the last time here"


@pytest.mark.parametrize("fresh", [True, False])
def test_a_repetition_that_fails_is_looked_at_again_without_being_asked_for_as_one(tmp_path, fresh):
    cfg = sample_steps(tmp_path)[0].config
    kept = cfg.report_dir / ".settings"
    kept.parent.mkdir(parents=True)
    kept.write_text("\n")
    study.plan(cfg, "", fresh=fresh)
    assert (kept.read_text().strip() == study.marks.repetition("")) == fresh


@pytest.mark.parametrize(
    ("last", "settings", "complete"),
    [
        (None, "", True),  # nothing to make all of it look at again
        ("", "", True),
        ("n_boot=9", "n_boot=9", True),
        (None, "n_boot=9", False),
        ("", "n_boot=9", False),
        ("n_boot=9", "", False),
    ],
)
def test_a_step_run_alone_with_other_settings_leaves_no_complete_study(
    tmp_path, executed, last, settings, complete
):
    """Else a later `make all` would take what it wrote for that of the last settings."""
    step = sample_steps(tmp_path)[0]
    kept = step.config.report_dir / ".settings"
    if last is not None:
        files.write_text(kept, f"{last}\n")
    assert study.run(step, settings)
    assert (kept.read_text().strip() if kept.exists() else None) == (
        last if complete else study.marks.UNDER_WAY
    )


def test_a_step_run_alone_leaves_the_mark_of_a_repetition(tmp_path, executed):
    step = sample_steps(tmp_path)[0]
    kept = step.config.report_dir / ".settings"
    study.plan(step.config, "n_boot=9", fresh=True)
    assert study.run(step, "") and kept.read_text().strip() == study.marks.repetition("n_boot=9")


@pytest.mark.parametrize(("there", "seen"), [(True, True), (True, False), (False, False)])
def test_a_gpu_that_torch_does_not_see_is_told_before_anything_long_starts(
    tmp_path, monkeypatch, capsys, there, seen
):
    for module in (study, story):
        monkeypatch.setattr(module, "has_gpu", lambda: there)
        monkeypatch.setattr(module, "accelerated", lambda: seen)
    study.plan(sample_steps(tmp_path)[0].config, "")
    assert ("the study will run on the processor" in capsys.readouterr().out) == (there and not seen)


@pytest.mark.parametrize("seen", [True, False])
def test_torch_is_asked_for_a_gpu_where_the_system_knows_of_one(monkeypatch, seen):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: seen)
    for there in (True, False):
        story.accelerated.cache_clear()
        monkeypatch.setattr(story, "has_gpu", lambda there=there: there)
        assert story.accelerated() == (there and seen)
    story.accelerated.cache_clear()


def test_a_repetition_that_was_interrupted_keeps_the_steps_it_had_repeated(tmp_path, monkeypatch):
    names = ("02_train_xception_lstm", "03_train_custom_cnn_lstm")
    both = sample_steps(tmp_path, names)
    executed, stops = [], ["03_train_custom_cnn_lstm"]

    def execute(step, *_):
        executed.append(step.name[:2])
        if step.name in stops:
            return {"cell": "", "name": study.STOPPED, "message": ""}
        write_notebook(step.partial, "1")
        for seed in step.config.seeds:
            files.write_json(step.config.run_dir(step.trains, seed) / "run.json", {})
        return {}

    def studied(*, fresh: bool, settings: str = "") -> list[str]:
        executed.clear()
        study.plan(both[0].config, settings, fresh=fresh)
        all(study.run(step, settings, fresh=fresh) for step in both)
        return list(executed)

    monkeypatch.setattr(study, "_execute", execute)
    kept = both[0].config.report_dir / ".settings"
    files.write_text(kept, "\n")
    long_ago = time.time() - 3600

    def ran_long_ago() -> None:
        for step in both:
            write_notebook(step.notebook, "1")
            step.keep(state(inputs=step.inputs(), started="2026-01-01T00:00:00+00:00"))

    ran_long_ago()
    assert studied(fresh=True) == ["02", "03"], "a repetition repeats what was there before it"
    os.utime(kept, (long_ago, long_ago))
    assert studied(fresh=True) == ["03"], "and what it had repeated when it was stopped is kept"
    stops.clear()
    assert studied(fresh=True) == ["03"]
    ran_long_ago()
    files.write_text(kept, "\n")  # as make does at the end of a study
    assert studied(fresh=True) == ["02", "03"], "the next one is another repetition"


def test_a_new_repetition_forgets_what_one_that_was_given_up_had_repeated(tmp_path):
    cfg = sample_steps(tmp_path)[0].config
    note = cfg.repeated("xception_lstm")
    study.plan(cfg, "", fresh=True)
    files.write_json(note, [42])
    study.plan(cfg, "", fresh=True)
    assert note.exists(), "the same one, which was interrupted"
    study.plan(cfg, "")
    assert note.exists(), "no repetition at all"
    study.plan(cfg, "", fresh=True)
    assert not note.exists()
    files.write_json(note, [42])
    study.plan(cfg, "train.epochs=9", fresh=True)
    assert not note.exists(), "of other settings"


def test_a_repetition_is_not_gone_on_with_after_a_study_of_other_settings(tmp_path):
    cfg = sample_steps(tmp_path)[0].config
    study.plan(cfg, "", fresh=True)
    study.plan(cfg, "train.epochs=9")
    assert (cfg.report_dir / ".settings").read_text().strip() != study.marks.repetition("")


def test_what_is_edited_while_a_step_runs_is_newer_than_its_notebook(tmp_path, monkeypatch):
    (step,) = sample_steps(tmp_path, ("04_b",))
    edited = tmp_path / "lib" / "module.py"
    edited.parent.mkdir()

    def execute(step, *_):
        edited.touch()
        write_notebook(step.partial, "1")
        return {}

    monkeypatch.setattr(study, "_execute", execute)
    step.source.touch()
    assert study.run(step, "")
    assert step.source.stat().st_mtime <= step.notebook.stat().st_mtime <= edited.stat().st_mtime


def test_a_step_that_another_make_runs_is_left_to_it(tmp_path, monkeypatch):
    step = sample_steps(tmp_path)[0]
    monkeypatch.setattr(study, "_execute", lambda *_: pytest.fail("executed at once with the other one"))
    step.lock.parent.mkdir(parents=True)
    with (
        filelock.FileLock(step.lock),
        pytest.raises(study.StudyError, match="another `make all` of profile demo runs 01_a; wait for it"),
    ):
        study.run(step, "")


def test_a_step_that_was_killed_before_its_state_was_kept_is_not_taken_for_done(
    tmp_path, monkeypatch, executed
):
    (step,) = sample_steps(tmp_path, ("04_b",))
    with monkeypatch.context() as killed:
        killed.setattr(Step, "keep", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            study.run(step, "")
    assert step.notebook.exists(), "a state that says done is never of an older notebook"
    assert step.notebook.stat().st_mtime < step.source.stat().st_mtime, "make finds it out of date"
    assert study.run(step, "")
    assert len(executed) == 2
    assert step.notebook.stat().st_mtime >= step.source.stat().st_mtime


@pytest.mark.parametrize(
    ("error", "name", "said"),
    [
        (RuntimeError("Kernel didn't respond in 600 seconds"), "the kernel did not start", "didn't respond"),
        (DeadKernelError("Kernel died"), "the kernel died", "memory or the disk ran out"),
    ],
)
def test_a_kernel_that_does_not_start_or_dies_is_a_step_that_failed(
    tmp_path, monkeypatch, capsys, error, name, said
):
    (step,) = sample_steps(tmp_path, ("04_b",))
    asked = []

    def execute_notebook(*_, **settings):
        asked.append(settings["start_timeout"])
        raise error

    for variable in ("JUPYTER_PATH", "PYDEVD_DISABLE_FILE_VALIDATION"):
        monkeypatch.setenv(variable, "")  # and back to what it was before, afterwards
    monkeypatch.setattr(papermill, "execute_notebook", execute_notebook)
    assert not study.run(step, "")
    assert asked == [study.START_TIMEOUT]
    assert step.state().status == "failed"
    assert step.state().error["name"] == name
    assert said in step.state().error["message"]
    assert f"  {name}: " in capsys.readouterr().out


def test_a_step_whose_models_were_removed_trains_them_again(tmp_path, executed):
    (step,) = sample_steps(tmp_path, ("02_train_xception_lstm",))
    for seed in step.config.seeds:
        files.write_json(step.config.run_dir("xception_lstm", seed) / "run.json", {})
    for _ in range(2):
        assert study.run(step, "")
    assert len(executed) == 1
    (step.config.run_dir("xception_lstm", step.config.seeds[0]) / "run.json").unlink()
    assert study.run(step, "")
    assert len(executed) == 2


def test_plan_and_run_expect_by_the_settings_and_by_fresh(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(study, "expect", lambda _, __, command, *, fresh: asked.append((command, fresh)))
    monkeypatch.setattr(study, "_execute", lambda *_: {"cell": "", "name": "x", "message": "y"})
    monkeypatch.setenv("FRESH", "1")
    cfg = sample_steps(tmp_path)[0].config
    monkeypatch.setattr(study.configs, "load", lambda *_, **__: cfg)
    for words in (["plan", "demo"], ["run", "demo", "02_train_xception_lstm"]):
        study.main([*words, "--set", "n_boot=9"])
    assert asked == [("make all PROFILE=demo SET=n_boot=9", True)] * 2


@pytest.mark.parametrize(
    ("name", "reads", "repeats"),
    [
        ("02_train_xception_lstm", (), True),
        ("04_b", ("02_train_xception_lstm",), False),
        ("06_ablation", (), False),  # one of whose variants may be a run that 02 has just repeated
    ],
)
def test_fresh_reaches_only_the_steps_that_train_the_models(tmp_path, monkeypatch, name, reads, repeats):
    (step,) = sample_steps(tmp_path, (name,))
    seen = []

    def executed(step, *_):
        seen.append("FRESH" in os.environ)
        write_notebook(step.partial, "1")
        return {}

    monkeypatch.setattr(study, "_execute", executed)
    monkeypatch.setenv("FRESH", "1")
    assert study.run(step, "", reads=reads, fresh=True)
    assert study.run(step, "", reads=reads, fresh=True), "it is executed again all the same"
    assert seen == [repeats] * 2


def test_the_machine_s_speed_is_measured_quickly():
    start = time.monotonic()
    assert story.gflops(256) > 0.1
    assert time.monotonic() - start < 5


def test_modules_are_followed_through_imports(tmp_path):
    write_notebook(
        tmp_path / "notebooks" / "01_a.ipynb",
        "%load_ext autoreload\nfrom lib import first\nimport lib.second as s, numpy",
        "from lib.package import inner",
    )
    sources = {
        "__init__": "",
        "first": "def f():\n    from lib import late",
        "late": "",
        "second": "from .third import x",
        "third": "x = 1",
        "unused": "",
        "package/__init__": "",
        "package/inner": "from . import sibling\nfrom ..fourth import y",
        "package/sibling": "",
        "fourth": "y = 1",
    }
    for name, source in sources.items():
        path = tmp_path / "lib" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    found = steps.modules_of(tmp_path / "notebooks" / "01_a.ipynb", root=tmp_path)
    assert {path.relative_to(tmp_path / "lib").with_suffix("").as_posix() for path in found} == set(
        sources
    ) - {"unused"}


def test_data_that_a_module_names_is_what_a_step_depends_on(tmp_path):
    write_notebook(tmp_path / "notebooks" / "01_a.ipynb", "from lib import reader")
    for name, text in (
        ("reader.py", 'X, Y = "pairs.json", "sizes.csv"'),
        ("pairs.json", "{}"),
        ("sizes.csv", ""),
        ("other.json", "{}"),
    ):
        path = tmp_path / "lib" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    step = Step("01_a", config.load("demo", root=tmp_path))
    step.write_dependencies()
    assert "lib/pairs.json" in step._kept("d").read_text()
    assert "lib/sizes.csv" in step._kept("d").read_text()
    assert "other.json" not in step._kept("d").read_text()
    before = step.inputs()
    (tmp_path / "lib" / "other.json").write_text("[]")
    assert step.inputs() == before
    (tmp_path / "lib" / "pairs.json").write_text("[]")
    assert step.inputs() != before


def test_a_step_is_stale_when_what_it_depends_on_says_something_else(tmp_path):
    _, step = sample_steps(tmp_path, ("02_train_xception_lstm", "04_b"))
    reads = ("02_train_xception_lstm",)
    before = step.inputs(reads)
    run = step.config.run_dir("xception_lstm", 42) / "run.json"
    run.parent.mkdir(parents=True)
    run.write_text("{}")
    assert step.inputs(reads) != before, "a model was trained"
    assert step.inputs() == before, "a step that reads no model does not depend on one"
    trained = step.inputs(reads)
    other = step.config.run_dir("xception_lstm", 0) / "run.json"
    other.parent.mkdir(parents=True)
    other.write_text("{}")
    assert step.inputs(reads) == trained, "06 trained a seed that the study does not have"
    assert Step("04_b", config.load("demo", root=tmp_path, **{"train.epochs": 9})).inputs() != before
    step.notebook.parent.mkdir(parents=True, exist_ok=True)
    step.notebook.touch()
    step.keep(state(inputs=before))
    assert overview.state_of(step) == "fresh"
    step.page.touch()
    assert overview.state_of(step) == "fresh"
    later = step.page.stat().st_mtime + 1
    os.utime(step.notebook, (later, later))
    assert overview.state_of(step) == "stale", "the page shows an older notebook"
    step.page.touch()
    os.utime(step.page, (later, later))
    write_notebook(step.source, "2")
    assert overview.state_of(step) == "stale"
    step.keep(state(status="failed"))
    assert overview.state_of(step) == "failed"


@pytest.mark.parametrize("given", ["data/raw/chest_xray", "data/weights/legacy_xception.safetensors"])
def test_a_real_study_is_stale_when_its_images_or_weights_are_replaced_and_the_demo_is_not(tmp_path, given):
    demo = sample_steps(tmp_path)[0]
    real = Step(demo.name, config.load("quick", root=tmp_path))
    before = real.inputs(), demo.inputs()
    (tmp_path / given).mkdir(parents=True)
    there = real.inputs()
    os.utime(tmp_path / given, (1, 1))
    assert len({before[0], there, real.inputs()}) == 3
    assert demo.inputs() == before[1]


def test_a_real_study_is_stale_when_an_image_deep_inside_is_mended_added_or_removed(tmp_path):
    real = Step(sample_steps(tmp_path)[0].name, config.load("quick", root=tmp_path))
    folder = tmp_path / "data/raw/chest_xray/train/NORMAL"
    folder.mkdir(parents=True)
    image = folder / "IM-0001-0001.jpeg"
    image.write_bytes(b"1")
    found = [real.inputs()]
    image.write_bytes(b"two")
    found.append(real.inputs())
    (folder / "IM-0002-0001.jpeg").write_bytes(b"1")
    found.append(real.inputs())
    image.unlink()
    assert len({*found, real.inputs()}) == 4
    (tmp_path / "data/raw/chest_xray/other/chest_xray/train/NORMAL").mkdir(parents=True)
    assert real.inputs()


def test_a_first_run_that_failed_has_not_written_the_results_that_are_shown(tmp_path):
    step = sample_steps(tmp_path)[0]
    files.write_json(step.results, {"answers": {"Which is better?": "Neither."}})
    index = step.config.report_dir / "index.html"

    def said() -> bool:
        overview.write(step.config)
        return "recorded before: results of 01 Sample." in index.read_text()

    step.keep(state(status="failed"))
    assert said()
    write_notebook(step.notebook, "1")
    assert not said(), "an earlier run has come to its end"


@pytest.mark.parametrize(
    "damage", [b"", b'{"status": "done", "inp', b"\xff\xfe\0", b"[]", b"7", b'{"seed": 42}']
)
def test_a_step_of_which_nothing_readable_is_kept_has_never_run(tmp_path, damage, monkeypatch):
    step = sample_steps(tmp_path)[0]
    step.keep(state(inputs=step.inputs()))
    write_notebook(step.notebook, "1")
    assert step.state().command == "make all"
    step._kept("json").write_bytes(damage)
    assert step.state() is None
    overview.write(step.config)
    monkeypatch.setattr(study, "_execute", lambda step, *_: write_notebook(step.partial, "2") or {})
    assert study.run(step, "")
    assert step.state().status == "done"


@pytest.mark.parametrize(
    "damage",
    ['{"answers": ', "[]", '{"answers": 7}', '{"headline": [1]}', '{"findings": [{"check": "a"}]}'],
)
def test_results_that_cannot_be_shown_are_named_with_what_to_do(tmp_path, damage, monkeypatch, capsys):
    step = sample_steps(tmp_path)[0]
    files.write_text(step.results, damage)
    monkeypatch.setattr(study.configs, "load", lambda *_, **__: step.config)
    assert study.main(["index", "demo"]) == 1
    path = "reports/results/demo/01_a.json"
    said = capsys.readouterr().err
    assert said.startswith(f"error: {path} is damaged or holds no results of 01_a; take it back")
    assert f"`git checkout {path}`" in said
    assert said.count("\n") == 1


def test_the_command_shown_is_the_latest_by_time(tmp_path):
    first, second = sample_steps(tmp_path)
    first.keep(state(started="2026-01-02T00:00:00+00:00", command="make all SET=later"))
    second.keep(state(started="2026-01-01T00:00:00+00:00", command="make all SET=earlier"))
    overview.write(first.config)
    page = (first.config.report_dir / "index.html").read_text()
    assert "SET=later</pre>" in page
    assert "SET=earlier" not in page


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_one_living_line(tmp_path, monkeypatch):
    monkeypatch.delenv("MAKEFLAGS", raising=False)
    step, _ = sample_steps(tmp_path)
    out = Terminal()
    with story.Teller(step, 12.0, out=out) as teller:
        teller.write("xception_lstm seed 42: epoch 2/3\n")
        deadline = time.monotonic() + 60
        while out.getvalue().count("epoch 2/3") < 2 and time.monotonic() < deadline:  # written, and rewritten
            time.sleep(0.02)
    teller.end("done")
    assert "about 12 s" in out.getvalue()
    assert out.getvalue().count("epoch 2/3") >= 2
    assert out.getvalue().count("\n") == 1, "nothing but the last line stays"
    assert all(len(part) < 90 for part in out.getvalue().split("\r"))


def test_two_steps_at_once_do_not_rewrite_each_other(tmp_path, monkeypatch):
    monkeypatch.setenv("MAKEFLAGS", " -j2 --jobserver-auth=3,4")
    assert not story.Teller(sample_steps(tmp_path)[0], out=Terminal()).alive


def test_redrawn_bars_are_one_line_at_most(tmp_path):
    out = io.StringIO()
    with story.Teller(sample_steps(tmp_path)[0], out=out) as teller:
        for percent in range(100):
            teller.write(f"\repoch 1/3 {percent}%")
        teller.write("\repoch 1/3 100%\n")
    assert out.getvalue().count("%") == 1


def test_without_notebooks_there_is_no_study(tmp_path):
    with pytest.raises(study.StudyError, match="no notebook"):
        study.plan(config.load("demo", root=tmp_path), "")


def test_importing_a_study_or_a_config_does_not_wait_for_torch():
    code = "import sys, lib.config, lib.study; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
