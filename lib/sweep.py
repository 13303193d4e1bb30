"""How are many independent runs trained on many workers? Models x seeds x variants through dask.distributed.

`python -m lib.sweep --profile quick --seeds 0 1 2 --variant slow:train.learning_rate=5e-5` on this machine's cores, or with
`--scheduler tcp://host:8786` on any cluster whose workers see the same folders. Each run is a `train.fit`: found if finished,
resumed if its worker was lost.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import dask
import joblib
import pandas as pd
import torch
from distributed import Client, LocalCluster, as_completed
from tqdm.auto import tqdm

from lib import config as configs
from lib import files, pixels, train
from lib.config import Config
from lib.errors import reports_errors
from lib.models import WeightsError
from lib.progress import watched
from lib.runs import Run
from lib.settings import LARGEST_SEED, all_within

COLUMNS = [
    "variant",
    "model",
    "seed",
    "epochs",
    "best_epoch",
    "val_auc",
    "val_loss",
    "val_accuracy",
    "folder",
]
OF_REPORTS = ("n_boot", "ablation", "explain")  # settings that no training reads
LOST_WORKERS = 5  # how many workers a run may lose before it is given up, on this machine; a scheduler of one's own has its own number
RETRIES = 2  # after an error of the run itself, such as a disk that was full for a moment


@dataclass(frozen=True)
class Job:
    """One run of a sweep."""

    variant: str
    config: Config
    model: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant}-{self.model}-{self.seed}"


def jobs(
    config: Config,
    *,
    models: Sequence[str] = configs.MODELS,
    seeds: Sequence[int] | None = None,
    variants: dict[str, dict] | None = None,
) -> list[Job]:
    """Every combination of model, seed (None: the config's) and variant (name -> overrides such as {"train.ema": 0.99}).

    Overrides come on top of the config that is given, as `config.changed` says.
    The variant called `base` changes nothing and shares its runs with the notebooks; the others keep theirs in
    `models/<profile>/sweep/<variant>`. Raises ConfigError for overrides that none of its runs would heed.
    """
    seeds = config.seeds if seeds is None else tuple(seeds)
    all_within("seeds", seeds, 0, LARGEST_SEED, such_as="42")
    made = []
    for variant, overrides in (variants or {"base": {}}).items():
        changed = configs.changed(config, overrides)
        _must_count(variant, overrides, models)
        if variant != "base":
            changed = dataclasses.replace(changed, profile=f"{config.profile}/sweep/{variant}")
        elif overrides:
            raise configs.ConfigError(f"the variant 'base' changes nothing, but was given {overrides}")
        made += [Job(variant, changed, model, seed) for model in models for seed in seeds]
    return made


def _must_count(variant: str, overrides: dict, models: Sequence[str]) -> None:
    """Raises ConfigError for a setting that would leave every run of the variant as it is."""
    ignored = {"seeds", *OF_REPORTS, *configs.MODELS} - set(models)
    for key in overrides:
        if key.split(".")[0] in ignored:
            hint = "; seeds are chosen for all variants, by --seeds" if key == "seeds" else ""
            raise configs.ConfigError(
                f"the variant {variant!r} sets {key}, which no run of this sweep uses{hint}"
            )


def run(
    planned: Sequence[Job],
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    client: Client | None = None,
) -> pd.DataFrame:
    """Train every job on a cluster; one row a run, in the order of the jobs.

    scheduler  address of a running dask scheduler; None starts workers on this machine
    workers    how many of them; None: one a core, but no more than runs
    client     an open connection, instead of either
    The run of a worker that dies goes to another one and resumes from its checkpoint. An error of a run is raised once
    all others have finished, so nothing else is lost.
    """
    if client is not None:
        return _gather(planned, client)
    with dask.config.set({"distributed.scheduler.allowed-failures": LOST_WORKERS}):
        if scheduler:
            with _connected(scheduler) as opened:
                return _gather(planned, opened)
        workers = workers or min(len(planned), joblib.cpu_count())
        # Threads of one worker are torch's; a memory limit would kill a run that merely reads its pixels.
        with (
            LocalCluster(workers, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster,
            Client(cluster) as opened,
        ):
            return _gather(planned, opened, threads=max(1, joblib.cpu_count() // workers))


def _connected(scheduler: str) -> Client:
    try:
        return Client(scheduler)
    except ValueError as error:  # of an address that is none
        raise configs.ConfigError(
            f"--scheduler takes an address such as tcp://host:8786, not {scheduler!r} ({error})"
        ) from None


def _gather(planned: Sequence[Job], client: Client, *, threads: int | None = None) -> pd.DataFrame:
    for config in {job.config.store_dir: job.config for job in planned}.values():
        pixels.prepare(config)  # once, before many need it
    futures = {
        client.submit(_train, job, threads=threads, key=job.name, retries=RETRIES, pure=False): job
        for job in planned
    }
    rows, errors = {}, {}
    for future in tqdm(
        as_completed(futures), total=len(planned), desc="sweep", unit="run", disable=not watched()
    ):
        job = futures[future]
        if future.status == "error":
            errors[job.name] = future.exception()
        else:
            rows[job.name] = future.result()
    if errors:
        told = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise train.TrainingError(
            f"{len(errors)} of {len(planned)} runs failed ({told}). The others are finished and will be found again"
        )
    return _table([rows[job.name] for job in planned])


def _train(job: Job, *, threads: int | None = None) -> dict:
    if threads:
        torch.set_num_threads(threads)
    return _row(job, train.fit(job.config, job.model, job.seed, progress=False))


def _row(job: Job, done: Run) -> dict:
    best = done.history.set_index("epoch").loc[done.info["best_epoch"]]
    row = {"variant": job.variant, "model": job.model, "seed": job.seed, "epochs": len(done.history)}
    row |= {name: float(best[name]) for name in ("val_auc", "val_loss", "val_accuracy")}
    return row | {"best_epoch": done.info["best_epoch"], "folder": str(done.folder)}


def _table(rows: list[dict]) -> pd.DataFrame:
    """Validation figures only: a sweep is there to choose, and nothing is chosen on the test images."""
    return pd.DataFrame(rows, columns=COLUMNS)


def _variants(texts: Iterable[str]) -> dict[str, dict]:
    """Overrides by the name of the variant. Raises ConfigError for a name that is not fit for a folder, or not its own."""
    found: dict[str, dict] = {}
    for text in texts:
        name, overrides = _variant(text)
        if not name.strip(".") or set("=/") & set(name) or name in found:
            raise configs.ConfigError(
                f"the variant {text!r} needs a name that no other one has, without = and /, as in slow:train.learning_rate=5e-5"
            )
        found[name] = overrides
    return found


def _variant(text: str) -> tuple[str, dict]:
    name, _, changes = text.partition(":")
    return name, configs.read_overrides(_pieces(changes))


def _pieces(text: str) -> list[str]:
    """What stands between the commas; those of a list or a mapping divide nothing."""
    pieces, depth = [""], 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and not depth:
            pieces.append("")
        else:
            pieces[-1] += letter
    return [piece for piece in pieces if piece]


@reports_errors(WeightsError, RuntimeError)  # RuntimeError: of a run that cannot go on
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lib.sweep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--profile", help="a file of lib/profiles, such as quick")
    parser.add_argument("--models", nargs="+", choices=configs.MODELS, default=configs.MODELS)
    parser.add_argument("--seeds", nargs="+", type=int, help="without them the profile's")
    parser.add_argument(
        "--variant",
        action="append",
        default=[],
        metavar="NAME:KEY=VALUE,...",
        help="may be repeated; NAME alone is the profile as it is",
    )
    parser.add_argument("--scheduler", help="address of a dask scheduler")
    parser.add_argument(
        "--workers", type=int, help="workers on this machine; without it one a core, at most one a run"
    )
    parser.add_argument("--root", type=Path, default=configs.ROOT, help="folder of data/ and models/")
    asked = parser.parse_args(argv)
    if asked.scheduler and asked.workers:
        parser.error("--workers are started on this machine, --scheduler has its own; give one of the two")
    config = configs.load(asked.profile, root=asked.root)
    variants = _variants(asked.variant)
    planned = jobs(config, models=asked.models, seeds=asked.seeds, variants=variants)
    table = run(planned, scheduler=asked.scheduler, workers=asked.workers)
    target = config.root / "models" / config.profile / "sweep.csv"
    files.write_text(target, table.to_csv(index=False))
    print(table.drop(columns="folder").to_string(index=False))
    print(f"written to {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
