"""What does the frozen regime read? The radiographs' tokens behind a backbone that does not train."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lib import pixels
from lib.ablation import features, projection
from lib.ablation.fit import Maps
from lib.ablation.variants import Variant
from lib.config import Config, fingerprint


@dataclass(frozen=True)
class FrozenFeatures:
    """The radiographs through the frozen backbone."""

    table: pd.DataFrame
    projected: features.Tokens  # what the base grid reads
    everything: features.Tokens  # every channel

    def _tokens(self, variant: Variant) -> features.Tokens:
        return self.projected if variant.channels == "base" else self.everything

    def maps(self, variant: Variant) -> Maps:
        return self._tokens(variant).maps

    def stored_channels(self, variant: Variant) -> int:
        return self._tokens(variant).channels

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.projected.fingerprint, self.everything.fingerprint])


def frozen_features(config: Config, *, progress: bool = True) -> FrozenFeatures:
    """Tokens of every image, found or computed; components and scale come from the training split only."""
    store = pixels.prepare(config, progress=progress)
    raw = features.extract(config, store, progress=progress)
    rows = store.rows("train")
    everything = projection.standardise(raw, rows)
    components = config.ablation.components
    projected = projection.project(raw, rows, components) if components else everything
    columns = ["image", "patient", "split", "subtype", "label"]
    return FrozenFeatures(store.index[columns].reset_index(drop=True), projected, everything)
