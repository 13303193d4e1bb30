"""How is one step of the study run? Executes a notebook, makes its page, says what happens; what the Makefile calls.

python -m lib.study plan PROFILE            what runs on what, how long, how to choose another
python -m lib.study run PROFILE NN_name     execute a notebook, unless nothing that it depends on has changed
python -m lib.study page PROFILE NN_name    its page
python -m lib.study index PROFILE           the index page
"""

from __future__ import annotations

import argparse
import datetime as dt
import logging
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import filelock

from lib import config as configs
from lib import files
from lib.config import Config, ConfigError
from lib.durations import spoken
from lib.errors import UserError, reports_errors
from lib.study import marks
from lib.study.steps import State, Step, all_steps
from lib.study.story import Teller, accelerated, expect, has_gpu

STOPPED = "stopped by hand"
START_TIMEOUT = 600  # seconds for a kernel to answer; its imports alone may take minutes on a busy machine


class StudyError(UserError, RuntimeError):
    """A study that cannot start; one sentence with what to do."""


def overrides(text: str) -> dict[str, Any]:
    """`"train.epochs=2 data.image_size=128"` -> {"train.epochs": 2, "data.image_size": 128}; values are YAML.

    Raises ConfigError for a quotation mark without its partner, and for what `config.read_overrides` refuses.
    """
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"SET is {text!r}, which cannot be read ({str(error).lower()})") from None
    return configs.read_overrides(words)


def plan(config: Config, settings: str, *, fresh: bool = False) -> None:
    """Say which study is about to run, on what, for how long; refuse one that cannot run."""
    if not all_steps(config):
        raise StudyError(f"there is no notebook in {config.root / 'notebooks'}")
    if not config.synthetic and not config.raw_dir.is_dir():
        raise StudyError(
            f"profile {config.profile} needs the real radiographs, and data/raw/{config.data.dataset} is not there: "
            "run `make data` (or `make data SOURCE=<zip or folder> WEIGHTS=<file>`); `make all PROFILE=demo` needs neither"
        )
    if config.xception_lstm.pretrained and not config.weights_file.exists():
        raise StudyError(
            f"profile {config.profile} starts from ImageNet weights, and data/weights/{config.weights_file.name} is not there: "
            "run `make data` (or `make data WEIGHTS=<file>`)"
        )
    _check_map(config)
    header = header_of(config.profile)
    expected = expect(all_steps(config), "\n".join(header), command_for(config, settings), fresh=fresh)
    data = (
        f"{config.data.phantoms} synthetic radiographs that the project draws"
        if config.synthetic
        else f"the real radiographs of data/raw/{config.data.dataset}"
    )
    print(f"Profile {config.profile}: {data}{f', with {settings}' if settings else ''}.")
    if expected:
        print(
            f"The whole study takes about {spoken(expected.total)} ({expected.basis}); what is up to date is not run again."
        )
    else:
        print(f"How long it takes here is not known yet. {' '.join(header)}".rstrip())
    if has_gpu() and not accelerated():
        print(
            "There is an NVIDIA GPU here and torch does not see it, most often because the driver is older than torch asks for: the study will run on the processor."
        )
    others = [name for name in configs.profiles() if name != config.profile]
    print(
        f"Another one: make all PROFILE={'|'.join(others)}."
        + (" Real radiographs: make data." if config.synthetic else "")
    )
    print(flush=True)
    if marks.begin(config, settings, fresh=fresh):
        for model in configs.MODELS:
            files.remove(config.repeated(model))  # by a repetition that was given up


def _check_map(config: Config) -> None:
    """Refuse an ablation that would fail after hours of training: its Transformers know the positions of one map."""
    asked = config.ablation
    tuned = config.xception_lstm.input_size if asked.regime == "finetuned" else 0
    side = configs.map_side(tuned or config.data.image_size)
    named = not asked.variants or any(name.startswith("transformer") for name in asked.variants)
    if named and asked.model == "xception_lstm" and side > configs.LARGEST_MAP:
        raise StudyError(
            f"ablation.variants holds a transformer, {configs.POSITIONS.format(side=side)}: name others, such as "
            "ablation.variants=[mean-mlp,token-mean,lstm-raster,lstm-shuffle]"
        )


def header_of(profile: str) -> list[str]:
    """The comment lines on top of a profile's file: what it is, and what it costs."""
    lines = (configs.PROFILES / f"{profile}.yaml").read_text(encoding="utf-8").splitlines()
    first = next((at for at, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return [line.lstrip("# ").rstrip() for line in lines[:first]]


def command_for(config: Config, settings: str) -> str:
    """What makes this study; the same words for the same settings, so that a step's last run can be told from another's."""
    return f"make all PROFILE={config.profile}" + (f" SET={shlex.quote(settings)}" if settings else "")


def run(step: Step, settings: str, *, reads: tuple[str, ...] = (), fresh: bool = False) -> bool:
    """Execute a step's notebook, unless its inputs are those of its last good run. False when a cell fails.

    Raises StudyError while another process runs the step.
    """
    step.lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(step.lock, timeout=0):
            marks.run_alone(step.config, settings)
            return _run(step, settings, reads, fresh)
    except filelock.Timeout:
        raise StudyError(
            f"another `make all` of profile {step.config.profile} runs {step.name}; wait for it to end"
        ) from None


def _run(step: Step, settings: str, reads: tuple[str, ...], fresh: bool) -> bool:
    began = time.time()
    inputs, last = step.inputs(reads), step.state()
    done = last is not None and last.status == "done" and step.notebook.exists() and step.is_trained()
    command, header = command_for(step.config, settings), "\n".join(header_of(step.config.profile))
    expected = expect(all_steps(step.config), header, command, fresh=fresh)
    teller = Teller(step, expected.seconds.get(step.name) if expected else None)
    if done and last.inputs == inputs and (not fresh or marks.ran_in_repetition(step, last, settings)):
        step.write_dependencies()
        _date(step.notebook, began)
        teller.end("kept: what it depends on says the same as before")
        return True
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    if not (fresh and step.trains):
        os.environ.pop("FRESH", None)  # 04, 05 and 06 would train once more what 02 and 03 have trained
    with teller:
        error = _execute(step, overrides(settings), teller)
    status = "failed" if error else "done"
    state = State(status, inputs, started, round(teller.elapsed, 1), command, reads, error)
    if error:
        step.keep(state)
        _tell_failure(step, teller, error)
        return False
    _date(step.partial, 1)  # out of date for make, until all that belongs to it is written
    os.replace(step.partial, step.notebook)
    step.keep(state)
    step.write_dependencies()
    _date(step.notebook, began)
    teller.end(f"done in {spoken(teller.elapsed)}  {_shown(step.page, step.config)}")
    return True


def _date(notebook: Path, began: float) -> None:
    """Date a notebook by when its inputs were read: make compares dates, and finds what was edited while it ran to be newer."""
    os.utime(notebook, (began, began))


def _execute(step: Step, settings: dict[str, Any], teller: Teller) -> dict[str, Any]:
    """The notebook, executed from the project's root into `step.partial`; {} or the cell, name and message of the error."""
    prefix = Path(sys.prefix, "share", "jupyter")
    kernels = [str(prefix), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(
        kernels
    )  # this environment's kernel, whatever else the user has
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"
    import papermill
    from nbclient.exceptions import DeadKernelError

    logging.getLogger("papermill").setLevel(logging.CRITICAL)
    files.remove(step.partial)
    step.partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        papermill.execute_notebook(
            str(step.source),
            str(step.partial),
            {"profile": step.config.profile, "overrides": settings},
            kernel_name="python3",
            progress_bar=False,
            stdout_file=teller,
            cwd=str(step.config.root),
            start_timeout=START_TIMEOUT,
            extra_arguments=["--IPKernelApp.log_level=50"],
            shutdown_kernel="immediate",  # one that is asked to go may still write to the terminal (an assertion of libzmq)
        )
    except papermill.PapermillExecutionError as error:
        return {"cell": error.source, "name": error.ename, "message": error.evalue}
    except DeadKernelError:
        return {
            "cell": "",
            "name": "the kernel died",
            "message": "most often because memory or the disk ran out",
        }
    except RuntimeError as error:  # of a kernel that does not answer, or ends before it has
        return {
            "cell": "",
            "name": "the kernel did not start",
            "message": f"{error}; most often because other work keeps the machine busy, or memory or the disk ran out",
        }
    except KeyboardInterrupt:
        return {
            "cell": "",
            "name": STOPPED,
            "message": "the same command goes on from the last checkpoint, if there is one",
        }
    return {}


def _tell_failure(step: Step, teller: Teller, error: dict[str, Any]) -> None:
    """The cell, the error, the partial notebook; nothing more."""
    stopped = error["name"] == STOPPED
    teller.end(f"{'stopped' if stopped else 'failed'} after {spoken(teller.elapsed)}")
    cell = "".join(f"    {line}\n" for line in error["cell"].strip().splitlines())
    print(
        f"\n{cell}\n  {error['name']}: {error['message']}"
        if cell
        else f"\n  {error['name']}: {error['message']}"
    )
    print(f"  Partial notebook: {_shown(step.partial, step.config)}\n", flush=True)


def _shown(path: Path, config: Config) -> str:
    return path.relative_to(config.root).as_posix()


@reports_errors()
def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lib.study", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("plan", "run", "page", "index"))
    parser.add_argument("profile")
    parser.add_argument("step", nargs="?", default="")
    parser.add_argument(
        "--set", default="", help='settings on top of the profile, "train.epochs=2 seeds=[1,2]"'
    )
    parser.add_argument("--reads", default="", help="the steps whose models this one reads")
    asked = parser.parse_intermixed_args(words)
    sys.modules.setdefault("rfc3987_syntax", None)  # jsonschema would spend a second on a grammar of IRIs
    try:
        config = configs.load(asked.profile, **overrides(asked.set))
        return _act(asked, config)
    except (ConfigError, StudyError) as error:
        print(error, file=sys.stderr)
        return 2


def _act(asked: argparse.Namespace, config: Config) -> int:
    step, known = Step(asked.step, config), [step.name for step in all_steps(config)]
    if asked.action in ("run", "page") and asked.step not in known:
        raise StudyError(f"unknown step {asked.step!r}; the steps are {', '.join(known)}")
    fresh = os.environ.get("FRESH", "") not in ("", "0")
    if asked.action == "plan":
        plan(config, asked.set, fresh=fresh)
    elif asked.action == "run":
        good = run(step, asked.set, reads=tuple(asked.reads.split()), fresh=fresh)
        if not good:
            from lib.study import overview

            overview.write(config)
        return 0 if good else 1
    elif asked.action == "page":
        from lib.study import pages

        pages.write(step)
    else:
        from lib.study import overview

        overview.write(config)
    return 0
