"""How does one explore maps by hand? A viewer for JupyterLab: image, model, layer, method, target and strength at a click."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Iterator, Sequence

import cv2
import ipywidgets as widgets
import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from lib import gradcam, pixels
from lib.gradcam import Maps, cases, overlay, question
from lib.gradcam.question import CLASSES, ExplainError
from lib.models import CNNLSTM
from lib.plots.style import NAMES

ANY = "any outcome"
TARGETS = {"predicted class": None, "pneumonia": 1, "normal": 0}
COLOUR_MAPS = ("inferno", "viridis", "cividis", "jet")
SIDE = 320  # pixels of each of the three pictures


class Viewer:
    """Widgets whose values say what is explained, and the picture that follows them.

    networks     by model name, in eval mode
    predictions  by model name, as a Run has them: gives each test image its outcome, and "predicted class" its meaning
    zooms        by model name, over which those logits are means; without it they are readings at zoom 1, as the maps are
    Set `.image.value`, `.model.value` and so on; `.picture.value` is then the PNG of image, map and overlay, and
    `.caption.value` says what it shows, or in one sentence why there is none. Display `.box`.
    """

    def __init__(
        self,
        networks: dict[str, CNNLSTM],
        store: pixels.PixelStore,
        predictions: dict[str, pd.DataFrame],
        *,
        zooms: dict[str, Sequence[float]] | None = None,
    ) -> None:
        self.networks, self.store = networks, store
        self.recorded = {name: table.set_index("image")["logit"] for name, table in predictions.items()}
        self.zooms = zooms or dict.fromkeys(networks, (1.0,))
        self.outcomes = {
            name: cases.with_outcome(table).set_index("image") for name, table in predictions.items()
        }
        self.row_of = {image: row for row, image in enumerate(store.index["image"])}
        self._maps: tuple[tuple, Maps] | None = None
        self._drawing = True
        first = next(iter(networks))
        wide = {"layout": widgets.Layout(width="420px"), "style": {"description_width": "70px"}}
        self.model = widgets.Dropdown(
            options=[(NAMES[n], n) for n in networks], value=first, description="Model", **wide
        )
        self.outcome = widgets.Dropdown(options=[ANY, *cases.OUTCOMES], description="Outcome", **wide)
        self.image = widgets.Combobox(
            description="Image", placeholder="type or choose an image id", continuous_update=False, **wide
        )
        self.layer = widgets.Dropdown(description="Layer", **wide)
        self.method = widgets.Dropdown(options=gradcam.METHODS, description="Method", **wide)
        self.target = widgets.Dropdown(options=list(TARGETS), description="Explains", **wide)
        self.alpha = widgets.FloatSlider(0.4, min=0, max=1, step=0.05, description="Alpha", **wide)
        self.colours = widgets.Dropdown(options=COLOUR_MAPS, description="Colours", **wide)
        self.picture = widgets.Image(format="png", width=3 * SIDE)
        self.caption = widgets.HTML()
        self._offer_layers()
        self._offer_images()
        self._connect()
        controls = [self.model, self.outcome, self.image, self.layer]
        drawing = [self.method, self.target, self.alpha, self.colours]
        self.box = widgets.VBox(
            [widgets.HBox([widgets.VBox(controls), widgets.VBox(drawing)]), self.picture, self.caption]
        )
        self._draw()

    def _connect(self) -> None:
        self.model.observe(self._model_changed, "value")
        self.outcome.observe(self._outcome_changed, "value")
        for control in (self.image, self.layer, self.method, self.target, self.alpha, self.colours):
            control.observe(self._draw, "value")

    def _model_changed(self, _: object = None) -> None:
        self._offer_layers()
        self._outcome_changed()

    def _outcome_changed(self, _: object = None) -> None:
        """An outcome depends on the model: offer its images, keep the one shown if it is among them."""
        self._offer_images()
        self._draw()

    def _offer_layers(self) -> None:
        network = self.networks[self.model.value]
        names, chosen = question.layer_names(network), question.default_layer(network)
        with self._quiet():
            names = names if chosen in names else [*names, chosen]
            kinds = [type(network.get_submodule(name)).__name__ for name in names]
            self.layer.options = [(f"{n} ({kind})", n) for n, kind in zip(names, kinds, strict=True)]
            self.layer.value = chosen

    def _offer_images(self) -> None:
        table = self.outcomes[self.model.value]
        if self.outcome.value != ANY:
            table = table[table["outcome"] == self.outcome.value]
        images = [image for image in table.index if image in self.row_of]
        with self._quiet():
            self.image.options = images
            if self.image.value not in images:
                self.image.value = images[0] if images else ""

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Options change one after the other; nothing is drawn until they fit together."""
        self._drawing = False
        try:
            yield
        finally:
            self._drawing = True

    def _draw(self, _: object = None) -> None:
        if not self._drawing:
            return
        try:
            maps, row = self._explained()
        except ExplainError as error:
            self.picture.value = b""
            self.caption.value = f"<b>{html.escape(str(error))}</b>"
            return
        gray = np.asarray(self.store.pixels[row])[None]
        heat = maps.heat(colours=self.colours.value)
        over = maps.overlay(gray, alpha=self.alpha.value, colours=self.colours.value)
        parts = [overlay.blend(gray, heat, alpha=0)[0], heat[0], over[0]]
        self.picture.value = _png(parts)
        self.caption.value = self._words(maps, row)

    def _explained(self) -> tuple[Maps, int]:
        """The map that the controls ask for; computed once while only its drawing changes."""
        image = self.image.value.strip()
        if not image and self.image.options:
            raise ExplainError("no image is chosen; type or choose one of the list")
        if not image:
            raise ExplainError(
                f"no test image is a {self.outcome.value} of this model; choose another outcome"
            )
        if image not in self.row_of:
            raise ExplainError(f"there is no image {image!r} in this data set; choose one of the list")
        row = self.row_of[image]
        asked = (row, self.model.value, self.layer.value, self.method.value, self.target.value)
        if self._maps is None or self._maps[0] != asked:
            batch = pixels.to_input(torch.from_numpy(np.array(self.store.pixels[row : row + 1])))
            maps = gradcam.explain(
                self.networks[self.model.value], batch, layer=self.layer.value, method=self.method.value,
                target=self._target(image),
            )  # fmt: skip
            self._maps = asked, maps
        return self._maps[1], row

    def _target(self, image: str) -> int | None:
        """The class asked for; "predicted class" is that of the recorded logit, and of this reading where none is recorded."""
        asked, logit = TARGETS[self.target.value], self._recorded(image)
        return asked if asked is not None or logit is None else int(cases.called(logit))

    def _recorded(self, image: str) -> float | None:
        own = self.recorded[self.model.value]
        return float(own[image]) if image in own.index else None

    def _says(self, maps: Maps, image: str) -> str:
        """The recorded probability, and where it is a mean over zooms that of the one reading that the map explains."""
        logit, here, zooms = self._recorded(image), float(maps.logits[0]), self.zooms[self.model.value]
        if logit is None:
            return f"{expit(here):.3f} (at zoom 1; none is recorded for this image)"
        if cases.read_once(zooms):
            return f"{expit(logit):.3f}"
        turned = ", the other class" if cases.called(logit) != cases.called(here) else ""
        return (
            f"{expit(logit):.3f} (its logit is {cases.readings(zooms)}; at zoom 1 alone, which the map reads, "
            f"{expit(here):.3f}{turned})"
        )

    def _words(self, maps: Maps, row: int) -> str:
        about = self.store.index.iloc[row]
        height, width = maps.values.shape[1:]
        blank = (
            " <b>The map is blank: nothing at this layer speaks for this class.</b>" if maps.blank[0] else ""
        )
        return (
            f"{html.escape(about['image'])}: {about['subtype']}; {NAMES[self.model.value]} says pneumonia "
            f"with probability {self._says(maps, about['image'])}. Map for {CLASSES[maps.targets[0]]}, {maps.method} at {maps.layer} "
            f"({height} x {width}), scaled by its own range.{blank}"
        )


def _png(parts: list[np.ndarray]) -> bytes:
    """RGB pictures beside each other, each SIDE pixels wide."""
    sized = [cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for part in parts]
    return cv2.imencode(".png", np.hstack(sized)[..., ::-1])[1].tobytes()
