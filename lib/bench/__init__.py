"""How much faster than the original notebook is this project, on this machine? `make bench`.

Each recipe runs in a process of its own, in the order original, project, original, project, for both models. The table, the
figure and the numbers go to `reports/results`, those of phantoms to `reports/results/demo`; ratios compare the better of each
recipe's two turns. Maps are compared with the original's loop over channels, and on real images both recipes train at the
same batch size, to compare their AUCs (which alone took 14 minutes on two cores, beside other work). Interrupted, the same
command within an hour goes on with what it has measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import joblib
import pandas as pd
import torch

from lib import config as configs
from lib import files, pixels, provenance
from lib.bench import map_speed, measurement, notebook, recipes
from lib.bench.unfinished import Unfinished
from lib.config import Config
from lib.errors import reports_errors
from lib.models import WeightsError

SECONDS = 6.0  # of each measurement
BATCH = 32
TURNS = ("original", "project", "original", "project")
PHASES = ("train", "infer", "train_stored")  # the last one of the project alone, where a prefix is frozen


def setting(root: Path = configs.ROOT, *, size: int = 224, batch: int = BATCH) -> Config:
    """Real images where `make data` has put them, else the demo's phantoms at that size; models as in the study."""
    demo = configs.load("demo", root=root)
    given = {
        "data.image_size": size,
        "train": {"batch_size": batch, "augment": 0.0},
        "xception_lstm.train": {"cache_frozen": 0},  # measured apart
    }
    if configs.default_profile(root) == "demo":
        given |= {
            "data.dataset": "phantoms",
            "data.phantoms": demo.data.phantoms,
            "xception_lstm.pretrained": False,
        }
    return configs.load("full", root=root, **given)


def run(config: Config, kept: Unfinished, *, images: int, seconds: float, threads: int | None) -> dict:
    """All turns of both models, those that are `kept` from an interrupted bench as they are; a JSON-like result."""
    store = pixels.prepare(config)
    if kept.begun:
        print("going on with what an interrupted bench has measured", flush=True)
    found = {
        **_circumstances(config), "cores": joblib.cpu_count(), "threads": threads or torch.get_num_threads(),
        **kept.once("start", lambda: {"load_before": os.getloadavg()[0]}),
        "limits_gflops": kept.once("limits", lambda: _turn("limits", config, threads=threads, seconds=min(seconds, 2.0))), "models": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        rows = range(min(images, len(store.index)))
        tree = notebook.image_folder(store, Path(folder), rows, "jpeg")
        for model in configs.MODELS:
            turns = []
            for number, recipe in enumerate(TURNS):
                measure = partial(
                    _turn, recipe, config, model=model, tree=tree, threads=threads, seconds=seconds
                )
                turns.append({"recipe": recipe, **kept.once(f"{model} {number}", measure)})
                print(f"{model}, {recipe}: training {turns[-1]['train']:.1f}, inference {turns[-1]['infer']:.1f} images/s", flush=True)  # fmt: skip
            found["models"][model] = {
                "turns": turns,
                "gflop_per_image": measurement.operations(config, model),
            }
    found["gradcam"] = kept.once(
        "gradcam", partial(_turn, "gradcam", config, threads=threads, seconds=seconds)
    )
    return found | {"load_after": os.getloadavg()[0]}


def _circumstances(config: Config) -> dict:
    return {
        "image_size": config.data.image_size, "images": config.data.dataset,
        "device": provenance.device(), "versions": provenance.versions(), "commit": provenance.commit(),
    }  # fmt: skip


def table(found: dict) -> pd.DataFrame:
    """One row a model, recipe and phase: images/s, ratio to the original, peak memory, share outside the model, share of the limit.

    The ratio is of the better turns; it ranges from the worse turn over the original's better one to the reverse. The memory is the
    most of any turn, each of which trains and infers.
    """
    return pd.DataFrame([_row(found, *measured) for measured in _measured(found)])


def _measured(found: dict) -> Iterator[tuple[str, str, str, dict[str, list[dict]]]]:
    """Model, recipe, phase (of PHASES) and the model's turns by recipe, of every phase that was measured."""
    for model in filter(found["models"].get, configs.MODELS):  # a file has them in another order
        turns = found["models"][model]["turns"]
        turns_by_recipe = {name: [t for t in turns if t["recipe"] == name] for name in dict.fromkeys(TURNS)}
        for recipe, own in turns_by_recipe.items():
            yield from ((model, recipe, phase, turns_by_recipe) for phase in PHASES if phase in own[0])


def _row(found: dict, model: str, recipe: str, phase: str, turns_by_recipe: dict[str, list[dict]]) -> dict:
    kind, stored, turns = phase.removesuffix("_stored"), phase == "train_stored", turns_by_recipe[recipe]
    rates, references = [t[phase] for t in turns], [t[kind] for t in turns_by_recipe["original"]]
    better = turns[rates.index(max(rates))]
    done = better[phase] * found["models"][model]["gflop_per_image"][kind]
    return {
        "model": model, "recipe": recipe + (", frozen prefix stored" if stored else ""), "phase": kind,
        "batch": better["batch"] if kind == "train" else 64, "images_per_second": better[phase],
        "worse_turn": min(rates), "ratio": max(rates) / max(references),
        "ratio_low": min(rates) / max(references), "ratio_high": max(rates) / min(references),
        "peak_memory_gb": max(t["peak_memory_gb"] for t in turns),
        "share_outside_model": None if stored else better[f"{kind}_outside"],
        # with a stored prefix the operations of the prefix are not done
        "share_of_limit": None if stored else done / found["limits_gflops"][better["precision"]],
    }  # fmt: skip


def sentences(found: dict) -> list[str]:
    """What was found, with what was aimed at on two cores: 4 times in training, 5 times in inference and in maps."""
    told, rows = [], pd.DataFrame(found["rows"])
    for model in rows["model"].unique():
        mine = rows[rows["model"] == model].set_index(["recipe", "phase"])
        own, stored = mine.loc["project"], ("project, frozen prefix stored", "train")
        told.append(
            f"{model}: training {_times(own.loc['train'])} and inference {_times(own.loc['infer'])} "
            f"the original's images per second (aims: 4 and 5), {own.loc['train', 'share_outside_model']:.1%} of a training step outside the model."
        )
        if stored in mine.index:
            told.append(
                f"{model}: training with the frozen prefix stored {_times(mine.loc[stored])}, without the time to compute it once."
            )
        maps = found["gradcam"][model]
        told.append(
            f"{model}: Grad-CAM of {maps['batch']} images on the processor {maps['times_faster']:.1f} times as fast as one image at a time, "
            f"{maps['fast_times_faster']:.1f} times with the backbone in bfloat16 (aim: 5)."
        )
    return told + _other_work(found) + (_accuracy(found) if "accuracy" in found else [])


def _times(row: pd.Series) -> str:
    return f"{row['ratio']:.1f} times ({row['ratio_low']:.1f} to {row['ratio_high']:.1f} by turn)"


def _other_work(found: dict) -> list[str]:
    """At the end the load holds the bench's own threads too."""
    start, end, threads = found["load_before"], found["load_after"], found["threads"]
    if max(start, end - threads) <= 0.5 * found.get("cores", threads):  # older records do not tell the cores
        return []
    return [
        f"Other work was running (load {start:.1f} at the start, {end:.1f} at the end with the bench's own): ratios count more than rates."
    ]


def _accuracy(found: dict) -> list[str]:
    """The recorded comparison, and what sets it apart from the speeds or from what would be computed now."""
    accuracy = found["accuracy"]
    device, told = accuracy.get("measured", found)["device"], [accuracy["sentence"]]
    if device != found["device"]:
        told.append(f"The AUCs were measured on {device}.")
    if accuracy.get("method") != recipes.METHOD:
        told.append(
            "The interval of the AUCs was recorded by an earlier method; `python -m lib.bench --only-accuracy` records it anew."
        )
    return told


def _turn(
    what: str, config: Config, *, seconds: float, model: str = "", tree: Path = Path(), threads: int | None
) -> dict:
    """One measurement in a fresh process."""
    asked = {"what": what, "model": model, "tree": str(tree), "seconds": seconds, "threads": threads}
    asked |= {
        "root": str(config.root.resolve()),
        "size": config.data.image_size,
        "batch": config.train.batch_size,
    }
    done = subprocess.run(
        [sys.executable, "-m", "lib.bench", "--turn", json.dumps(asked)],
        cwd=configs.ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise RuntimeError(f"the measurement {' '.join(filter(None, (what, model)))} failed: {reason}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _take_turn(asked: dict) -> dict:
    if asked["threads"]:
        torch.set_num_threads(asked["threads"])
    config = setting(Path(asked["root"]), size=asked["size"], batch=asked["batch"])
    if asked["what"] == "limits":
        return measurement.limits(asked["seconds"])
    if asked["what"] == "gradcam":
        return map_speed.measure(batch=BATCH, size=asked["size"], repeats=2)
    if asked["what"] == "original":
        return measurement.original(config, asked["model"], Path(asked["tree"]), asked["seconds"])
    if asked["what"] == "project":
        return measurement.project(config, asked["model"], asked["seconds"])
    raise RuntimeError(f"there is no measurement {asked['what']!r}")


@reports_errors(WeightsError, RuntimeError)  # RuntimeError: of a measurement or a training that cannot go on
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m lib.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--images", type=int, default=256, help="files in the original's folder")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument(
        "--batch", type=int, default=BATCH, help="this project's batch in training; the original's is 8"
    )
    parser.add_argument("--size", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--root", type=Path, default=configs.ROOT, help="folder of data/ and reports/")
    parser.add_argument("--threads", type=int, help="of torch; without it all cores")
    parser.add_argument("--accuracy", type=int, metavar="N", help="images on which both recipes train at batch 8, to compare validation AUC; 0 for none (512 of real ones)")  # fmt: skip
    parser.add_argument("--seeds", type=int, default=3, help="of the accuracy comparison")
    parser.add_argument("--only-accuracy", action="store_true", help="keep the speeds that are recorded; with --accuracy 0 all, worded anew")  # fmt: skip
    parser.add_argument("--turn", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if (asked.accuracy or 0) < 0 or asked.seeds < 1:
        parser.error("--accuracy takes a number of images, or 0, and --seeds at least 1")
    if asked.turn:
        print(json.dumps(_take_turn(json.loads(asked.turn))))
        return 0
    config = setting(asked.root, size=asked.size, batch=asked.batch)
    # A record of real images stays where phantoms are measured.
    target = config.root / "reports" / "results" / ("demo" if config.synthetic else "") / "bench.json"
    found = files.read_json(target) if target.exists() else {}
    if not asked.only_accuracy:
        found = _accuracy_of_the_same_images(found, config)
        timed = {"images": asked.images, "seconds": asked.seconds, "threads": asked.threads}
        same = _circumstances(config) | timed | {"batch": asked.batch, "host": platform.node()}
        kept = Unfinished(target.with_suffix(".part.json"), same)
        found |= run(config, kept, **timed)
    images = (0 if config.synthetic else 512) if asked.accuracy is None else asked.accuracy
    if images:
        compared = recipes.compare(config, images=images, seeds=range(asked.seeds))
        found["accuracy"] = compared | {"measured": _circumstances(config)}
    if not found:
        raise RuntimeError(f"{target} is not there, and nothing was to be measured")
    _write(found, target)
    if not asked.only_accuracy:
        kept.done()
    return 0


def _accuracy_of_the_same_images(found: dict, config: Config) -> dict:
    """What a new measurement of speeds keeps of a record."""
    if "accuracy" not in found:
        return {}
    now = _circumstances(config)
    # Older records tell the circumstances of the speeds alone, and those are about to be replaced.
    then = found["accuracy"].get("measured") or {name: found.get(name) for name in now}
    same = all(then[name] == now[name] for name in ("images", "image_size"))
    return {"accuracy": found["accuracy"] | {"measured": then}} if same else {}


def _write(found: dict, target: Path) -> None:
    from lib.plots import bench as plots  # a measuring process does without
    from lib.plots import style

    if "models" in found:
        rows = table(found).astype(object)
        found["rows"] = rows.where(rows.notna(), None).to_dict("records")
        found["said"] = sentences(found)
    files.write_json(target, found)
    if "rows" in found:
        rows = pd.DataFrame(found["rows"])
        style.use()
        style.save(plots.speed(rows), target.with_suffix(".svg"))
        print(rows.round(3).to_string(index=False))
        print("\n".join(found["said"]))
    elif "accuracy" in found:
        print(found["accuracy"]["sentence"])
    print(
        f"written to {target} and {target.with_suffix('.svg').name}; `make publish` shows that of real images in reports/README.md"
    )
