import os
import subprocess
from importlib.metadata import PackageNotFoundError

from lib import provenance


def test_comments_and_docstrings_do_not_change_the_fingerprint_and_code_does(tmp_path):
    path = tmp_path / "room.py"
    found = []
    for text in (
        'def f(x):\n    """Twice."""\n    return 2 * x\n',
        "# a comment\ndef f(x):\n    '''Two times.'''\n\n    return 2 * x\n",
        "def f(x):\n    return 3 * x\n",
    ):
        path.write_text(text)
        found.append(provenance.code_fingerprint([path]))
    assert found[0] == found[1] != found[2]


def test_the_fingerprint_is_the_same_in_every_version_of_python(tmp_path):
    """Their trees differ: 3.12 adds type parameters, 3.13 leaves empty lists out."""
    path = tmp_path / "room.py"
    path.write_text("class A:\n    def f(self):\n        return g()\n\n\nh = lambda: A().f()\n")
    assert provenance.code_fingerprint([path]) == "4895e8bd8cd12a98"


def test_versions_and_device_are_named():
    assert provenance.versions()["torch"].startswith("2.")
    assert provenance.device()


def test_a_folder_outside_git_has_no_commit(tmp_path):
    assert provenance.commit(tmp_path) == "none"


def test_a_commit_is_named_and_whether_the_tree_differs_from_it(tmp_path, monkeypatch):
    for name in filter(lambda name: name.startswith("GIT_"), list(os.environ)):
        monkeypatch.delenv(name)  # of a hook that runs the tests
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def git(*words: str) -> str:
        told = ["git", "-c", "user.name=Somebody", "-c", "user.email=somebody@localhost", *words]
        return subprocess.run(told, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    (tmp_path / "room.py").write_text("x = 1\n")
    git("add", ".")
    git("commit", "-m", "first")
    digits = git("rev-parse", "HEAD")[:12]
    assert provenance.commit(tmp_path) == digits
    (tmp_path / "room.py").write_text("x = 2\n")
    assert provenance.commit(tmp_path) == f"{digits}+changes"


def test_opencv_counts_also_in_its_build_without_windows(monkeypatch):
    installed = provenance.versions() | {"opencv-python-headless": "9.9"}
    del installed["opencv-python"]

    def version(package):
        if package not in installed:
            raise PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(provenance.importlib.metadata, "version", version)
    assert provenance.versions()["opencv-python"] == "9.9"
