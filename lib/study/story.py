"""What does someone who waits at a terminal read? One line a step, alive where it can be; how long it will take."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TextIO

from lib.durations import spoken
from lib.study.steps import State, Step, all_steps

HEADER_TIME = re.compile(r"\b(\d\d)\s+([\d.]+)\s*(s|min|h)\b")  # "02 35 min" in a profile's header
HEADER_RATE = re.compile(r"([\d.]+)\s*GFLOP/s")
TRAINING = ("02", "03", "06")  # steps that train, or find what was trained
SECONDS = {"s": 1, "min": 60, "h": 3600}


@dataclass(frozen=True)
class Expectation:
    """Seconds that each step, and all of them, will take here, and how we know."""

    seconds: dict[str, float]
    total: float
    basis: str


def expect(steps: list[Step], header: str, command: str, *, fresh: bool = False) -> Expectation | None:
    """From the last run of each step on this machine; else from the profile's header, scaled to this machine's speed.

    header   the comment lines on top of the profile's file, with times such as `02 35 min` and the speed of the machine
             that they were measured on, such as `185 GFLOP/s`
    command  the one that is about to run: a last run by another one, with other settings, says nothing, and the header
             nothing of the single steps where it has settings of its own
    fresh    whether trainings are repeated, of which a last run need not have made any
    None when neither says anything, or only the header does and a GPU is here, which it knows nothing of.
    """
    from_header = _from_header(steps, header)
    states = {step.name: state for step in steps if not fresh and (state := step.state())}
    from_last_runs = _from_last_runs(states, command, from_header)
    if len(from_last_runs) == len(steps):
        return Expectation(from_last_runs, busy(states.values()), "as the last time here")
    guessed = from_header | from_last_runs
    if len(guessed) < len(steps):
        return None
    basis = (
        "from the profile's measurements, scaled to this machine"
        if HEADER_RATE.search(header)
        else "as measured for the profile"
    )
    if " SET=" in command:
        basis += "; without these settings, which may change it much"
        return Expectation(from_last_runs, sum(guessed.values()), basis)
    return Expectation(guessed, sum(guessed.values()), basis)


def _from_header(steps: list[Step], header: str) -> dict[str, float]:
    """Seconds of each step that the profile's header tells, scaled to this machine where it tells the speed of the one that it is of;
    nothing where a GPU is here, of which that speed, a processor's, says nothing."""
    rate = HEADER_RATE.search(header)
    if rate and accelerated():
        return {}
    scale = float(rate[1]) / gflops() if rate else 1.0
    times = HEADER_TIME.findall(header)
    header_seconds = {number: float(value) * SECONDS[unit] * scale for number, value, unit in times}
    return {step.name: header_seconds[step.name[:2]] for step in steps if step.name[:2] in header_seconds}


def _from_last_runs(
    states: dict[str, State], command: str, from_header: dict[str, float]
) -> dict[str, float]:
    """Seconds of each step whose last run here was this command's and came to its end, unless it was too short to be believed."""
    took = {
        name: state.duration_s
        for name, state in states.items()
        if (state.status, state.command) == ("done", command)
    }
    # A step that trains may have found its models and trained nothing; in less than half of the header's time it has. (Half, since
    # times scaled to another machine are only about right.)
    shortest_believable = {name: from_header.get(name, 0) / 2 for name in took if name[:2] in TRAINING}
    return {name: seconds for name, seconds in took.items() if seconds >= shortest_believable.get(name, 0)}


def busy(states: Iterable[State]) -> float:
    """Seconds in which at least one of these steps was running; two at once count once."""
    starts = sorted(
        (dt.datetime.fromisoformat(state.started).timestamp(), state.duration_s) for state in states
    )
    total, until = 0.0, 0.0
    for start, seconds in starts:
        total += max(0.0, start + seconds - max(start, until))
        until = max(until, start + seconds)
    return total


def gflops(size: int = 1024) -> float:
    """Speed of a matrix product in float32 on the processor, 1e9 operations a second; takes a few hundredths of a second."""
    import numpy as np

    matrix = np.ones((size, size), np.float32)
    best = min(_timed(lambda: matrix @ matrix) for _ in range(4))
    return 2 * size**3 / best / 1e9


def has_gpu() -> bool:
    """Whether the system knows of an NVIDIA GPU."""
    return shutil.which("nvidia-smi") is not None


@functools.cache
def accelerated() -> bool:
    """Whether a GPU will do the work; torch, which takes seconds to load, is asked only where there is one."""
    if not has_gpu():
        return False
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of an old driver, which `plan` tells in a sentence
        return torch.cuda.is_available()


def _timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@dataclass
class Teller:
    """Tells how one step goes: a line that rewrites itself in a terminal; elsewhere a line at its start and end.

    It is also the file that a notebook's printed output goes to: the last complete line shows in the terminal, and
    elsewhere the lines of finished epochs are passed on.
    """

    step: Step
    expected: float | None = None
    out: TextIO = field(default_factory=lambda: sys.stdout)
    said: str = ""
    rest: str = ""

    def __post_init__(self) -> None:
        names = [step.name for step in all_steps(self.step.config)]
        width = max(map(len, names))
        self.label = f"[{names.index(self.step.name) + 1}/{len(names)}] {self.step.name:<{width}}"
        parallel = "-j" in os.environ.get("MAKEFLAGS", "")  # two lines cannot both rewrite themselves
        self.alive = self.out.isatty() and not parallel
        self.started, self.finished = time.monotonic(), threading.Event()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.started

    def __enter__(self) -> Teller:
        if self.alive:
            self.thread = threading.Thread(target=self._live, daemon=True)
            self.thread.start()
        else:
            self._line(f"{self.label}  runs{self._about()}")
        return self

    def __exit__(self, *_) -> None:
        self.finished.set()
        if self.alive:
            self.thread.join()
            self.out.write("\r\x1b[K")
            self.out.flush()

    def write(self, text: str) -> None:
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            line = line.rpartition("\r")[2].strip()
            self.said = line or self.said
            if not self.alive and re.search(r"\bepoch \d+", line):
                self._line(f"{self.label}  {line}")

    def flush(self) -> None:
        """Nothing is held back."""

    def end(self, text: str) -> None:
        self._line(f"{self.label}  {text}")

    def _line(self, text: str) -> None:
        self.out.write(("\r\x1b[K" if self.alive else "") + text + "\n")
        self.out.flush()

    def _about(self) -> str:
        return f" (about {spoken(self.expected)})" if self.expected else ""

    def _live(self) -> None:
        while not self.finished.wait(0.5):
            text = f"{self.label}  {spoken(self.elapsed)}{self._about()}  {self.said.rpartition(': ')[2]}"
            self.out.write(f"\r{text[: shutil.get_terminal_size().columns - 1]}\x1b[K")
            self.out.flush()
