"""The grid: matched heads, one protocol, runs that are kept, found again and published."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from lib import ablation, config, files
from lib.ablation import fit as fitting
from lib.ablation import grid, published, regimes, variants
from lib.ablation.fit import Maps, fit, protocol, reader
from lib.ablation.variants import Size, Variant, matched_hidden, parameters
from lib.sequence import HEADS

SIZES = [
    Size(256, 128, 128, 0.3),
    Size(2048, 128, 128, 0.3),
    Size(2048, 512, 128, 0.3),
]


@dataclasses.dataclass(frozen=True)
class Toy:
    """Forty images of 2 by 2 tokens whose mean tells the class."""

    images: int = 40
    shift: float = 1.5

    @property
    def table(self) -> pd.DataFrame:
        names = [f"i{k:02d}" for k in range(self.images)]
        return pd.DataFrame(
            {
                "image": names,
                "patient": names,
                "split": np.resize(["train", "train", "val", "test"], self.images),
                "subtype": "unknown",
                "label": (np.arange(self.images) // 4) % 2,
            }
        )

    @property
    def fingerprint(self) -> str:
        return f"toy-{self.images}-{self.shift}"

    def maps(self, variant: Variant) -> Maps:
        x = torch.randn(self.images, 6, 2, 2, generator=torch.Generator().manual_seed(0))
        x = x + self.shift * torch.tensor(self.table["label"].tolist())[:, None, None, None]
        return lambda rows: x[torch.as_tensor(rows)]

    def stored_channels(self, variant: Variant) -> int:
        return 6


@pytest.fixture
def cfg(tmp_path):
    settings = {"ablation.epochs": 2, "ablation.seeds": (0, 1), "train.precision": "32-true"}
    return config.load("demo", root=tmp_path, **settings)


def toy_cells(cfg, names=("mean-mlp", "lstm-snake"), hidden=24):
    chosen = [variants.all_variants()[name] for name in names]
    return grid.cells(cfg, Toy(), chosen, train=protocol(cfg), hidden=hidden)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("head", HEADS)
def test_heads_have_as_many_parameters_as_the_lstm(head, size):
    target = parameters("lstm", size, size.hidden)
    assert parameters(head, size, matched_hidden(head, size)) == pytest.approx(target, rel=0.02)


def test_counted_parameters_are_those_of_the_model():
    size = Size(32, 64, 16, 0.0)
    for variant in variants.all_variants().values():
        model = reader(variant, size, stored_channels=48)
        reducer = sum(p.numel() for p in model.channel_reducer.parameters())
        counted = parameters(variant.head, size, matched_hidden(variant.head, size))
        assert model.trainable_parameters() - reducer == counted, variant.name
        channels = 48 if variant.channels == "learned" else 32
        assert model(torch.randn(3, channels, 2, 2)).shape == (3,)


def test_a_head_that_cannot_be_matched_is_refused():
    with pytest.raises(
        ValueError,
        match="no width of the head 'transformer' .* take a larger LSTM .ablation.hidden on frozen",
    ):
        matched_hidden("transformer", Size(16, 4, 8, 0.0))


def test_a_head_whose_width_changes_nothing_is_refused_and_not_widened_for_ever(monkeypatch):
    monkeypatch.setattr(variants, "parameters", lambda head, size, hidden: 1000 if head == "lstm" else 10)
    with pytest.raises(
        ValueError,
        match="the head 'maximum' has 10 parameters at a width of 1,024, so no width gives it the 1,000",
    ):
        matched_hidden("maximum", Size(16, 5, 8, 0.0))


def test_the_grid_is_the_one_that_was_planned():
    names = set(variants.all_variants("frozen"))
    orders = {
        f"lstm-{order}" for order in ("reverse", "column", "snake", "spiral", "hilbert", "random", "shuffle")
    }
    heads = {"mean-mlp", "attention-pool", "lstm-raster", "bilstm-raster", "gru-raster", "transformer-raster"}
    assert (
        orders | heads | {"lstm-raster-mean", "lstm-raster-max", "lstm-raster-all", "mean-mlp-learned"}
        <= names
    )
    assert "lstm-raster-all" not in variants.all_variants("finetuned")  # there it is the base


def test_select_keeps_the_reference():
    one = config.load("demo", **{"ablation.variants": ["lstm-raster"]})
    assert [v.name for v in variants.select(one)] == ["mean-mlp", "lstm-raster"]


def toy_fit(seed=0, epochs=3, toy=None, name="lstm-shuffle"):
    toy = toy or Toy()
    splits = {split: np.flatnonzero(toy.table["split"] == split) for split in ("train", "val", "test")}
    train = config.Train(
        epochs=epochs, batch_size=8, learning_rate=0.02, precision="32-true", schedule="cosine"
    )
    variant = variants.all_variants()[name]
    y = toy.table["label"].to_numpy()
    return fit(
        lambda: reader(variant, Size(6, 8, 8, 0.3)), toy.maps(variant), y, splits, train=train, seed=seed
    )


def test_one_seed_gives_the_same_bits_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = toy_fit(), toy_fit(), toy_fit(seed=1)
    assert (first.logits["test"] == again.logits["test"]).all()
    assert (first.logits["test"] != other.logits["test"]).any()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_sets_both_the_start_and_the_order_of_the_batches(monkeypatch):
    starts, seen, real = [], [], fitting.make_optimizer

    class Watched(Toy):
        def maps(self, variant):
            read = super().maps(variant)
            return lambda rows: (seen.append(tuple(rows)), read(rows))[1]

    def begin(model, train):
        starts.append(next(model.parameters()).detach().clone())
        return real(model, train)

    monkeypatch.setattr(fitting, "make_optimizer", begin)
    orders = set()
    for seed in (0, 1):
        seen.clear()
        toy_fit(seed=seed, epochs=2, toy=Watched())
        orders |= {sum(seen[:3], ()), sum(seen[4:7], ())}  # three batches, then validation
    assert len(orders) == 4
    assert not torch.equal(*starts)


def test_a_fit_learns_what_is_plain():
    done = toy_fit(epochs=10, toy=Toy(shift=3.0), name="mean-mlp")
    assert done.history["val_auc"].max() == 1
    assert done.history["train_loss"].iloc[-1] < done.history["train_loss"].iloc[0]


def test_test_is_scored_once_by_the_best_epoch_on_validation(monkeypatch):
    """Validation says the second epoch is best; test has to come from its weights, after all epochs."""
    calls, real = [], fitting.score

    def spying(model, maps, rows):
        calls.append((len(rows), next(model.parameters()).detach().clone()))
        return real(model, maps, rows)

    ranks = iter([0.6, 0.9, 0.9, 0.7])
    monkeypatch.setattr(fitting, "score", spying)
    monkeypatch.setattr(fitting, "auc", lambda *_: next(ranks))
    monkeypatch.setattr(fitting, "_loss", lambda *_: 1.0)
    toy = Toy(images=44)
    assert (toy.table["split"] == "val").sum() == 11
    done = toy_fit(epochs=4, toy=toy)
    assert done.best_epoch == 2  # the first of equals
    assert len(calls) == 5
    assert torch.equal(calls[4][1], calls[1][1])
    assert not torch.equal(calls[4][1], calls[3][1])


def test_runs_are_kept_and_found_again(cfg, monkeypatch):
    cells = toy_cells(cfg)
    runs = grid.run(Toy(), cells, progress=False, workers=1)
    assert runs["name"].tolist() == ["mean-mlp", "lstm-snake"] * 2
    assert runs["seed"].tolist() == [0, 0, 1, 1]
    assert cells[0].folder == cfg.root / "models/demo/ablation/mean-mlp-seed0"
    monkeypatch.setattr(grid, "make", lambda *_: pytest.fail("made again"))
    assert grid.run(Toy(), cells, progress=False, workers=1).equals(runs)


def test_only_what_is_missing_damaged_or_stale_is_made(cfg, monkeypatch):
    cells = toy_cells(cfg)
    grid.run(Toy(), cells, progress=False, workers=1)
    (cells[0].folder / "run.json").write_text("{", encoding="utf-8")
    key = Toy().fingerprint
    assert [grid.is_done(cell, key) for cell in cells] == [False, True, True, True]
    assert not any(grid.is_done(cell, "other pixels") for cell in cells)
    wider = toy_cells(cfg, hidden=25)
    assert not any(grid.is_done(cell, key) for cell in wider)
    longer = dataclasses.replace(cfg, ablation=dataclasses.replace(cfg.ablation, epochs=3))
    assert not any(grid.is_done(cell, key) for cell in toy_cells(longer))
    taken = []
    monkeypatch.setattr(
        grid.provenance, "code_fingerprint", lambda paths: taken.append(set(paths)) or "other code"
    )
    assert not any(grid.is_done(cell, key) for cell in cells)
    assert {"sequence.py", "models.py", "objective.py", "fit.py"} <= {path.name for path in taken[0]}


def test_a_killed_grid_loses_the_run_under_way_only(cfg, monkeypatch):
    cells, real = toy_cells(cfg), grid.fit

    def dying(*arguments, seed, **settings):
        if seed == 1:
            raise KeyboardInterrupt
        return real(*arguments, seed=seed, **settings)

    monkeypatch.setattr(grid, "fit", dying)
    with pytest.raises(KeyboardInterrupt):
        grid.run(Toy(), cells, progress=False, workers=1)
    assert [grid.is_done(cell, Toy().fingerprint) for cell in cells] == [True, True, False, False]
    assert not list(cells[0].folder.parent.glob(".*"))


def test_two_processes_give_what_one_gives(cfg, tmp_path):
    alone = grid.run(Toy(), toy_cells(cfg), progress=False, workers=1)
    other = dataclasses.replace(cfg, root=tmp_path / "other")
    together = grid.run(Toy(), toy_cells(other), progress=False, workers=2)
    for one, two in zip(alone["folder"], together["folder"], strict=True):
        assert (one / "predictions.csv").read_bytes() == (two / "predictions.csv").read_bytes()


def test_every_image_of_a_split_is_scored_in_an_order_of_its_own():
    """As many test images as the study has (the control has fewer) in one batch: images that share an order would make chance look like an effect."""
    seen = []

    class Spy(torch.nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x[:, 0, 0, 0]

    fitting.score(Spy(), lambda rows: torch.zeros(len(rows), 1, 1, 1), np.arange(624))
    assert seen == [624]


def test_a_split_of_one_class_is_refused(cfg):
    class OneClass(Toy):
        @property
        def table(self):
            return super().table.assign(label=lambda t: t["label"].where(t["split"] != "val", 1))

    with pytest.raises(ValueError, match="the val split holds 10 images of fewer than two classes"):
        grid.run(OneClass(), toy_cells(cfg), progress=False, workers=1)


def test_predictions_are_published_and_read_back(cfg, tmp_path):
    runs = grid.run(Toy(), toy_cells(cfg), progress=False, workers=1)
    tables = regimes.collect(runs)
    assert set(tables["mean-mlp"].columns) == {"image", "patient", "subtype", "y_true", "seed", "logit"}
    assert len(tables["mean-mlp"]) == 10 * 2
    published.write(tmp_path / "out", tables)
    published.write(tmp_path / "out", tables, {"place": tables})  # replaces
    assert ablation.read(tmp_path / "out" / "control-place").keys() == tables.keys()
    published.write(tmp_path / "out", tables)
    assert list(ablation.read(tmp_path / "out", ("mean-mlp", "absent"))) == ["mean-mlp"]
    back = ablation.read(tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "images.csv",
        "lstm-snake.csv",
        "mean-mlp.csv",
    ]
    mine, theirs = (ablation.analyse(t, n_boot=50) for t in (tables, back))
    pd.testing.assert_frame_equal(mine.auc.sort_values("variant", ignore_index=True), theirs.auc)
    pd.testing.assert_frame_equal(mine.heads, theirs.heads)


def test_nothing_published_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no published ablation; run notebook 06_ablation"):
        ablation.read(tmp_path)


def test_what_is_recorded_is_plain_json(cfg):
    from lib.ablation import control

    runs = grid.run(
        Toy(), toy_cells(cfg, ("mean-mlp", "lstm-raster", "lstm-shuffle")), progress=False, workers=1
    )
    result = regimes.Result(runs, regimes.collect(runs), "toy")
    effects = ablation.analyse(result.tables, n_boot=50)
    names = {variant.name for heads in control.HEADS.values() for variant in heads} - {"mean-mlp"}
    tables = {name: result.tables["lstm-shuffle"] for name in names}
    tables["mean-mlp"] = result.tables["mean-mlp"]
    found = control.Control("relation", tables, ablation.analyse(tables, n_boot=50), 50)
    saved = ablation.as_json(cfg, result, effects, dict.fromkeys(control.TASKS, found))
    read = json.loads(files.as_json(saved))
    assert read["per_seed"] == saved["per_seed"]  # numbers as numbers
    assert read["headline"][0]["auc"] >= read["headline"][-1]["auc"]
    assert len(saved["findings"]) == 4 + 5
    assert set(saved["control"]) == {"place", "relation", "amount"}
    assert set(saved["answers"]) == {ablation.HELPS, ablation.PATTERNS, ablation.ORDER}
    sentence = ablation.protocol_sentence(cfg, result)
    assert "3 variants with 2 seeds each (6 runs" in sentence
    quick = dataclasses.replace(result, runs=runs.assign(seconds=1.5))
    assert "(6 runs, 9 s of computing)" in ablation.protocol_sentence(cfg, quick)
    larger = runs["parameters"].where(runs["name"] != "mean-mlp", 2 * runs["parameters"].min())
    spread = larger.max() / larger.min() - 1
    doubled = dataclasses.replace(result, runs=runs.assign(parameters=larger))
    assert f"differ by at most {spread:.1%} in parameters" in ablation.protocol_sentence(cfg, doubled)
    assert len(ablation.shown(ablation.headline(effects, result.costs()))) == 3
