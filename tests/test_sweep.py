"""A sweep on workers that die ends with the table of a serial one."""

import os
import signal
import threading
import time

import dask
import pandas as pd
import pytest
from distributed import Client, LocalCluster

from lib import sweep, train
from lib.config import ConfigError
from tests import tiny

MODEL = "custom_cnn_lstm"
VARIANTS = {"base": {}, "slow": {"custom_cnn_lstm.train": {"learning_rate": 1e-4}}}


def planned(root):
    """Four runs; the protocol stands in the profile's section, since a variant starts from the profile."""
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0, "epochs": 4, "batch_size": 4})
    made = sweep.jobs(config, models=[MODEL], seeds=[0, 1])
    slow = tiny.custom(root, train={"checkpoint_minutes": 0.0, "epochs": 2, "learning_rate": 1e-4})
    return made + [
        sweep.Job("slow", job.config, MODEL, 5 + job.seed)
        for job in sweep.jobs(slow, models=[MODEL], seeds=[0, 1])
    ]


def test_jobs_are_every_combination_and_variants_keep_their_runs_apart(tmp_path):
    config = tiny.custom(tmp_path)
    made = sweep.jobs(config, seeds=[3, 4], variants=VARIANTS)
    assert len(made) == len({job.name for job in made}) == 8
    folders = {job.config.run_dir(job.model, job.seed) for job in made}
    assert len(folders) == 8
    assert made[0].config.run_dir(made[0].model, 3) == config.run_dir(made[0].model, 3)
    assert {job.config.train_for(MODEL).learning_rate for job in made if job.variant == "slow"} == {1e-4}
    assert [job.seed for job in sweep.jobs(config, models=[MODEL])] == list(config.seeds)


def test_a_changed_base_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the variant 'base' changes nothing"):
        sweep.jobs(tiny.custom(tmp_path), variants={"base": {"train.ema": 0.5}})


def test_a_killed_worker_loses_nothing(tmp_path):
    expected = sweep.serial(planned(tmp_path / "serial"))
    jobs = planned(tmp_path / "cluster")
    killed = []

    def kill(client):
        """Kill a worker process once its run has taken a step."""
        folder = train.training_folder(jobs[0].config, MODEL, 0).parent
        while not list(folder.glob(".*training/checkpoint.pt")):
            time.sleep(0.01)
        victim = next(iter(client.run(os.getpid).values()))
        os.kill(victim, signal.SIGKILL)
        killed.append(victim)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": sweep.LOST_WORKERS}),
        LocalCluster(2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        killer = threading.Thread(target=kill, args=(client,))
        killer.start()
        table = sweep.run(jobs, client=client)
        killer.join()
    assert killed
    pd.testing.assert_frame_equal(expected.drop(columns="folder"), table.drop(columns="folder"), rtol=1e-4)
    assert "test" not in " ".join(table.columns)  # nothing is chosen on test
    again = sweep.serial(jobs)  # every run is found, none is trained
    pd.testing.assert_frame_equal(again, table)


def test_a_run_that_fails_is_named_after_the_others_have_finished(tmp_path):
    good, bad = planned(tmp_path)[2:]
    broken = sweep.Job("broken", tiny.custom(tmp_path, **{"custom_cnn_lstm.head": "nosuch"}), MODEL, 9)
    with (
        LocalCluster(
            1, threads_per_worker=1, memory_limit=0, dashboard_address=None, processes=False
        ) as cluster,
        Client(cluster) as client,
        pytest.raises(
            train.TrainingError,
            match="1 of 2 runs failed .broken-custom_cnn_lstm-9: unknown sequence head 'nosuch'",
        ),
    ):
        sweep.run([broken, good], client=client)
    assert good.config.run_dir(MODEL, good.seed).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "nosuch"], "unknown profile"),
        (["--profile", "demo", "--variant", "a:train.emma=1"], "did you mean 'ema'"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(words, message, capsys, tmp_path):
    assert sweep.main([*words, "--root", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err


def test_a_variant_is_read_from_the_command_line(tmp_path):
    name, overrides = sweep._variant("slow:train.learning_rate=5e-5,train.ema=0.9")
    (job,) = sweep.jobs(
        tiny.custom(tmp_path), models=["xception_lstm"], seeds=[0], variants={name: overrides}
    )
    assert (job.variant, job.config.train.learning_rate, job.config.train.ema) == ("slow", 5e-5, 0.9)
    assert sweep._variant("base") == ("base", {})
