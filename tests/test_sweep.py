"""A sweep on workers that die ends with the table of a serial one."""

import dataclasses
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
    """Four runs: two seeds as they are, and the same two of a variant."""
    config = tiny.custom(root, train={"checkpoint_minutes": 0.0, "epochs": 4, "batch_size": 4})
    slow = {"custom_cnn_lstm.train": {"epochs": 2, "batch_size": 12, "learning_rate": 1e-4}}
    return sweep.jobs(config, models=[MODEL], seeds=[0, 1], variants={"base": {}, "slow": slow})


def serial(jobs):
    """The table of a sweep whose runs are trained one after the other, in this process."""
    return sweep._table([sweep._train(job) for job in jobs])


def test_jobs_are_every_combination_and_variants_keep_their_runs_apart(tmp_path):
    config = tiny.custom(tmp_path)
    made = sweep.jobs(config, seeds=[3, 4], variants=VARIANTS)
    assert len(made) == len({job.name for job in made}) == 8
    folders = {job.config.run_dir(job.model, job.seed) for job in made}
    assert len(folders) == 8
    assert made[0].config.run_dir(made[0].model, 3) == config.run_dir(made[0].model, 3)
    assert {job.config.train_for(MODEL).learning_rate for job in made if job.variant == "slow"} == {1e-4}
    assert [job.seed for job in sweep.jobs(config, models=[MODEL])] == list(config.seeds)


def test_a_variant_changes_what_it_names_and_nothing_else_of_the_config(tmp_path):
    config = tiny.custom(tmp_path)
    base, slow = sweep.jobs(config, models=[MODEL], seeds=[0], variants=VARIANTS)
    assert base.config == config
    assert slow.config.data.image_size == 28
    assert slow.config.train_for(MODEL) == dataclasses.replace(config.train_for(MODEL), learning_rate=1e-4)
    assert dataclasses.replace(slow.config, profile="demo", custom_cnn_lstm=config.custom_cnn_lstm) == config


def test_a_changed_base_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the variant 'base' changes nothing"):
        sweep.jobs(tiny.custom(tmp_path), variants={"base": {"train.ema": 0.5}})


@pytest.mark.parametrize(
    "overrides",
    [
        {"seeds": [1, 2, 3]},
        {"n_boot": 9},
        {"explain.images": 3},
        {"explain": {"images": 3}},
        {"ablation.epochs": 9},
        {"xception_lstm.freeze_layers": 3},  # of the other model
    ],
)
def test_a_setting_that_no_run_uses_is_refused(tmp_path, overrides):
    (key,) = overrides
    with pytest.raises(ConfigError, match=f"^the variant 'v' sets {key}, which no run of this sweep uses"):
        sweep.jobs(tiny.custom(tmp_path), models=[MODEL], variants={"v": overrides})


def test_a_killed_worker_loses_nothing(tmp_path):
    expected = serial(planned(tmp_path / "serial"))
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
    again = serial(jobs)  # every run is found, none is trained
    pd.testing.assert_frame_equal(again, table)


def test_a_run_that_fails_is_named_after_the_others_have_finished(tmp_path):
    good = planned(tmp_path)[2]
    broken = sweep.Job("broken", good.config, "nosuch", 9)
    with (
        LocalCluster(
            1, threads_per_worker=1, memory_limit=0, dashboard_address=None, processes=False
        ) as cluster,
        Client(cluster) as client,
        pytest.raises(
            train.TrainingError,
            match="1 of 2 runs failed .broken-nosuch-9: model is 'nosuch'; it must be one of",
        ),
    ):
        sweep.run([broken, good], client=client)
    assert good.config.run_dir(MODEL, good.seed).exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "nosuch"], "unknown profile"),
        (
            ["--profile", "demo", "--scheduler", "localhost"],
            "--scheduler takes an address such as tcp://host:8786, not 'localhost'",
        ),
        (["--profile", "demo", "--variant", "a:train.emma=1"], "did you mean 'ema'"),
        (["--profile", "demo", "--variant", "a:train.zooms=[1"], "train.zooms is '[1', which cannot be read"),
        (
            ["--profile", "demo", "--variant", "train.ema=0.5"],
            "'train.ema=0.5' needs a name that",
        ),
        (["--profile", "demo", "--variant", ":train.ema=0.5"], "':train.ema=0.5' needs a name"),
        (["--profile", "demo", "--variant", "..:train.ema=0.5"], "'..:train.ema=0.5' needs a name"),
        (["--profile", "demo", "--variant", "a/b:train.ema=0.5"], "'a/b:train.ema=0.5' needs a name"),
        (["--profile", "demo", "--variant", "a:train.ema=0.5", "--variant", "a"], "'a' needs a name"),
    ],
)
def test_the_command_line_refuses_in_one_sentence(words, message, capsys, tmp_path):
    assert sweep.main([*words, "--root", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_a_variant_is_read_from_the_command_line(tmp_path):
    name, overrides = sweep._variant("slow:train.learning_rate=5e-5,train.ema=0.9")
    (job,) = sweep.jobs(
        tiny.custom(tmp_path), models=["xception_lstm"], seeds=[0], variants={name: overrides}
    )
    assert (job.variant, job.config.train.learning_rate, job.config.train.ema) == ("slow", 5e-5, 0.9)
    assert sweep._variant("base") == ("base", {})


def test_a_variant_may_set_a_list_or_a_mapping():
    assert sweep._variant(
        "z:train.zooms=[1.0,1.1],xception_lstm.train={ema: 0.5, zooms: [1.0, 1.2]},train.epochs=9"
    ) == (
        "z",
        {
            "train.zooms": [1.0, 1.1],
            "xception_lstm.train": {"ema": 0.5, "zooms": [1.0, 1.2]},
            "train.epochs": 9,
        },
    )
