"""Does "Run All" work in JupyterLab? Through its server, with the kernels and the working directory that it gives."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
import requests
from jupyter_client import BlockingKernelClient

from lib import files
from tests.conftest import clean_environment
from tests.test_browser import SCREENSHOTS, browser  # noqa: F401
from tests.test_notebooks import NAMES

VOLATILE = re.compile(r"second|duration|date|elapsed|commit|time|memory", re.IGNORECASE)

# What the toolbar shows is idle before there is a kernel, too.
KERNEL_READY = """() => {
  const context = window.jupyterapp.shell.currentWidget?.sessionContext;
  const kernel = context?.isReady && context.session?.kernel;
  return kernel && kernel.connectionStatus === "connected" && kernel.status === "idle";
}"""

pytestmark = pytest.mark.timeout(900)


class Server:
    """JupyterLab as `make lab` starts it, without a window."""

    def __init__(self, root: Path, runtime: Path) -> None:
        self.root, self.runtime, self.token = root, runtime, secrets.token_hex(8)
        options = f"--no-browser --ServerApp.port=0 --IdentityProvider.token={self.token} --LabApp.expose_app_in_browser=True"
        self.log = (runtime / "log").open("w+")
        self.process = subprocess.Popen(
            ["make", "lab", f"PYTHON={sys.executable}", f"ARGS={options}"],
            cwd=root,
            env=clean_environment() | {"JUPYTER_RUNTIME_DIR": str(runtime)},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.url = self._wait_for_url()

    def _wait_for_url(self) -> str:
        for _ in range(300):
            for path in self.runtime.glob("jpserver-*.json"):
                url = files.read_json(path)["url"]
                try:
                    if requests.get(f"{url}api/status", params={"token": self.token}, timeout=5).ok:
                        return url
                except requests.ConnectionError:
                    pass
            if self.process.poll() is not None:
                break
            time.sleep(0.4)
        self.log.seek(0)
        raise AssertionError(f"JupyterLab did not start\n{self.log.read()}")

    def open(self, notebook: str) -> Kernel:
        """A session as JupyterLab opens one for a notebook."""
        answer = requests.post(
            f"{self.url}api/sessions",
            params={"token": self.token},
            json={
                "path": f"notebooks/{notebook}.ipynb",
                "name": notebook,
                "type": "notebook",
                "kernel": {"name": "python3"},
            },
            timeout=60,
        )
        answer.raise_for_status()
        session = answer.json()
        kernel = Kernel(self, session["id"], self.runtime / f"kernel-{session['kernel']['id']}.json")
        assert Path(kernel.text("__import__('lib').__file__")).is_relative_to(self.root), (
            "lib is another project's"
        )
        return kernel

    def close(self, session: str) -> None:
        requests.delete(f"{self.url}api/sessions/{session}", params={"token": self.token}, timeout=60)

    def stop(self) -> None:
        os.killpg(self.process.pid, signal.SIGTERM)
        self.process.wait(30)
        self.log.close()


class Kernel:
    """A notebook's kernel, in which cells are run as a front end does."""

    def __init__(self, server: Server, session: str, connection: Path) -> None:
        self.server, self.session = server, session
        self.client = BlockingKernelClient(connection_file=str(connection))
        self.client.load_connection_file()
        self.client.start_channels()
        self._wait()

    def _wait(self) -> None:
        """A kernel that still starts has no heartbeat, which its client takes for death."""
        for _ in range(120):
            try:
                return self.client.wait_for_ready(timeout=60)
            except RuntimeError:
                time.sleep(1)
        raise AssertionError("the kernel did not start")

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_) -> None:
        self.client.stop_channels()
        self.server.close(self.session)

    def run(self, source: str) -> list[dict]:
        """The outputs of a cell; an error fails the test."""
        outputs = []

        def collect(message: dict) -> None:
            if message["msg_type"] in ("stream", "display_data", "execute_result", "error"):
                outputs.append(message["content"] | {"kind": message["msg_type"]})

        reply = self.client.execute_interactive(source, output_hook=collect, allow_stdin=False, timeout=300)[
            "content"
        ]
        assert reply["status"] == "ok", f"{source}\n{reply.get('ename')}: {reply.get('evalue')}"
        return outputs

    def text(self, expression: str) -> str:
        return self.run(f"print({expression})")[-1]["text"].strip()


@pytest.fixture(scope="module")
def lab(demo_study, tmp_path_factory):
    server = Server(demo_study.root, tmp_path_factory.mktemp("runtime"))
    yield server
    server.stop()


def code_of(demo_study, name: str) -> list[str]:
    notebook = nbformat.read(demo_study.root / "notebooks" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def lasting(value):
    """Results without what differs from run to run, such as durations."""
    if isinstance(value, dict):
        return {key: lasting(inner) for key, inner in value.items() if not VOLATILE.search(key)}
    return [lasting(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_run_all_leaves_the_same_results_as_make_all(lab, demo_study, name):
    results = demo_study.results / f"{name}.json"
    before, written = files.read_json(results), results.stat().st_mtime_ns
    with lab.open(name) as kernel:
        assert Path(kernel.text("__import__('os').getcwd()")) == demo_study.root / "notebooks"
        for source in code_of(demo_study, name):
            kernel.run(source)
    assert results.stat().st_mtime_ns > written
    assert lasting(files.read_json(results)) == lasting(before)


def test_parameters_of_the_first_cell_reach_everything_below(lab, demo_study):
    parameters, opening, *_ = code_of(demo_study, "02_train_xception_lstm")
    with lab.open("02_train_xception_lstm") as kernel:
        kernel.run(parameters)
        kernel.run("profile = 'quick'\noverrides = {'train.epochs': 2, 'n_boot': 123}")
        kernel.run(opening)
        assert kernel.text("(cfg.profile, cfg.train.epochs, cfg.n_boot)") == "('quick', 2, 123)"


def test_an_edited_module_is_loaded_again(lab, demo_study):
    parameters, opening, *_ = code_of(demo_study, "02_train_xception_lstm")
    module = demo_study.root / "lib" / "plots" / "style.py"
    before, dates = module.read_text(), module.stat()
    with lab.open("02_train_xception_lstm") as kernel:
        kernel.run(parameters)
        kernel.run(opening)
        try:
            module.write_text(before + "\nEDITED = 'seen'\n")
            assert kernel.text("style.EDITED") == "seen"
        finally:
            module.write_text(before)
            os.utime(module, ns=(dates.st_atime_ns, dates.st_mtime_ns))


def test_progress_bars_are_widgets(lab):
    with lab.open("02_train_xception_lstm") as kernel:
        outputs = kernel.run("from tqdm.auto import tqdm\nfor _ in tqdm(range(3)):\n    pass")
        assert any("application/vnd.jupyter.widget-view+json" in output.get("data", {}) for output in outputs)
        assert kernel.text("__import__('lib.progress').progress.Progress('a', 1).watched") == "True"


def test_the_run_menu_of_jupyterlab_runs_a_whole_notebook(lab, demo_study, browser):  # noqa: F811
    """In the browser itself: open the notebook, Run All, wait for its last cell."""
    name = "03_train_custom_cnn_lstm"
    results = demo_study.results / f"{name}.json"
    written = results.stat().st_mtime_ns
    page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.goto(f"{lab.url}lab/tree/notebooks/{name}.ipynb?token={lab.token}")
    page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=120_000)
    page.wait_for_function(KERNEL_READY, timeout=120_000)
    # Not awaited: a command that never answers must fail by the deadline, before JupyterLab saves the notebook by itself.
    page.evaluate("void window.jupyterapp.commands.execute('runmenu:run-all')")
    deadline = time.monotonic() + 100
    while results.stat().st_mtime_ns == written and time.monotonic() < deadline:
        page.wait_for_timeout(500)
    page.wait_for_timeout(1500)
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "jupyterlab.png")
    errors = page.locator('[data-mime-type="application/vnd.jupyter.error"]').count()
    figures = page.locator(".jp-RenderedImage img").count()
    page.context.close()
    assert results.stat().st_mtime_ns > written, "the notebook's last cell did not run"
    assert errors == 0
    assert figures > 0
