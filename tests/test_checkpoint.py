"""A checkpoint is whole or not there, refuses what is not one, and says so when the disk is full."""

import errno
import multiprocessing
import resource

import pytest
import torch

from lib import checkpoint
from tests import tiny


def test_what_is_saved_comes_back(tmp_path):
    state = {"model": {"weight": torch.arange(5.0)}, "epoch": 3, "history": [{"loss": 0.5}], "best": None}
    checkpoint.save(tmp_path / "a" / "checkpoint.pt", state)
    back = checkpoint.load(tmp_path / "a" / "checkpoint.pt")
    assert torch.equal(back.pop("model")["weight"], torch.arange(5.0))
    assert back == {"epoch": 3, "history": [{"loss": 0.5}], "best": None}
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None], ids=["empty", "foreign", "truncated"])
def test_a_damaged_file_is_refused_by_name(tmp_path, content):
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, {"weight": torch.zeros(10_000)})
    path.write_bytes(path.read_bytes()[:20_000] if content is None else content)
    with pytest.raises(
        checkpoint.CheckpointError, match=r"checkpoint.pt cannot be read .*delete it to start this run anew"
    ):
        checkpoint.load(path)


class Attack:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a file was run')",))


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    path = tmp_path / "checkpoint.pt"
    torch.save({"weight": Attack()}, path)
    with pytest.raises(checkpoint.CheckpointError, match="cannot be read"):
        checkpoint.load(path)


def test_a_full_disk_leaves_the_last_good_one(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"

    def full(state, stream):
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        checkpoint.CheckpointError, match="No space left on device.*nothing was saved so far.*Free some disk"
    ):
        checkpoint.save(path, {})
    monkeypatch.undo()
    checkpoint.save(path, {"epoch": 1})
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(checkpoint.CheckpointError, match="the last good checkpoint is intact"):
        checkpoint.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["checkpoint.pt"]


def save_beyond_the_limit(path, answers):
    checkpoint.save(path, {"epoch": 1})
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, 100_000)
    )  # the system's own refusal, in the middle of the file
    try:
        checkpoint.save(path, {"weight": torch.ones(1_000_000)})
    except checkpoint.CheckpointError as error:
        answers.put((str(error), checkpoint.load(path)))


def test_a_write_that_the_system_refuses_half_way(tmp_path):
    answers = multiprocessing.get_context("forkserver").Queue()
    process = tiny.started(save_beyond_the_limit, tmp_path / "checkpoint.pt", answers)
    said, kept = answers.get(timeout=120)
    process.join()
    assert "could not be written" in said
    assert "File too large" in said
    assert "the last good checkpoint is intact" in said
    assert kept == {"epoch": 1}
    assert [found.name for found in tmp_path.iterdir()] == ["checkpoint.pt"]
