"""The viewer without a browser: widget values in, picture and caption out."""

from __future__ import annotations

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from lib.gradcam import viewer
from lib.models import CustomCNNLSTM
from lib.pixels import PixelStore

N = 8


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def app():
    return opened()


def opened(**how):
    torch.manual_seed(0)
    names = [f"chest_xray/test/{'PNEUMONIA' if k % 2 else 'NORMAL'}/image-{k}.png" for k in range(N)]
    index = pd.DataFrame(
        {"image": names, "split": "test", "label": [k % 2 for k in range(N)], "subtype": "unknown"}
    )
    shades = np.random.default_rng(0).integers(0, 255, (N, 28, 28)).astype(np.uint8)
    shades.flags.writeable = False  # as the memory-mapped store's
    store = PixelStore(index, shades, "none", quarantined=index.iloc[:0])
    table = pd.DataFrame({"image": names, "patient": names, "split": "test", "subtype": "unknown"})
    table["y_true"] = index["label"]
    right = table.assign(logit=np.where(table["y_true"] == 1, 2.0, -2.0))
    wrong = table.assign(logit=-right["logit"])
    networks = {
        "xception_lstm": CustomCNNLSTM(readout="mean").eval(),
        "custom_cnn_lstm": CustomCNNLSTM().eval(),
    }
    return viewer.Viewer(networks, store, {"xception_lstm": right, "custom_cnn_lstm": wrong}, **how)


def picture(app):
    return cv2.imdecode(np.frombuffer(app.picture.value, np.uint8), cv2.IMREAD_COLOR)


def test_it_opens_with_image_map_and_overlay(app):
    assert picture(app).shape == (viewer.SIDE, 3 * viewer.SIDE, 3)
    assert "image-0.png" in app.caption.value
    assert "backbone.7" in app.caption.value


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("image", "chest_xray/test/NORMAL/image-4.png"),
        ("model", "custom_cnn_lstm"),
        ("layer", "backbone.3"),
        ("method", "gradcam++"),
        ("method", "ablation"),
        ("alpha", 0.9),
        ("colours", "jet"),
        ("outcome", "true positive"),
    ],
)
def test_every_control_changes_the_picture(app, control, value):
    app.image.value = "chest_xray/test/NORMAL/image-2.png"
    before = app.picture.value
    getattr(app, control).value = value
    assert app.picture.value
    assert app.picture.value != before


def test_the_target_is_explained(app):
    app.target.value = "pneumonia"
    ill = (app.picture.value, app.caption.value)
    app.target.value = "normal"
    assert "Map for pneumonia" in ill[1]
    assert "Map for normal" in app.caption.value
    assert app.picture.value != ill[0]


def test_the_predicted_class_and_its_probability_are_the_recorded_ones(app):
    """Untrained networks call every image about 0.5; what is recorded says 0.881 or 0.119, as the outcomes do."""
    for model, ill in (("xception_lstm", "0.119"), ("custom_cnn_lstm", "0.881")):
        app.model.value = model
        app.image.value = "chest_xray/test/NORMAL/image-2.png"
        called = "pneumonia" if ill == "0.881" else "normal"
        assert f"with probability {ill}. Map for {called}" in app.caption.value
        assert "zoom" not in app.caption.value
    app.target.value = "normal"
    assert "with probability 0.881. Map for normal" in app.caption.value


def test_where_the_recorded_logit_is_a_mean_over_zooms_the_caption_says_what_the_map_reads():
    app = opened(zooms={"xception_lstm": (1.0, 1.1, 0.92), "custom_cnn_lstm": (1.0,)})
    with torch.no_grad():
        app.networks["xception_lstm"].classifier[-1].bias.fill_(2.0)  # it calls every image ill at zoom 1
    app.image.value = "chest_xray/test/NORMAL/image-2.png"  # recorded as normal
    assert (
        "with probability 0.119 (its logit is the mean at zooms 1, 1.1 and 0.92; at zoom 1"
        in app.caption.value
    )
    assert ", the other class). Map for normal" in app.caption.value
    app.image.value = "chest_xray/test/PNEUMONIA/image-3.png"  # recorded as ill
    assert "the other class" not in app.caption.value
    assert "Map for pneumonia" in app.caption.value
    app.model.value = "custom_cnn_lstm"
    assert "zoom" not in app.caption.value


def test_an_image_without_a_record_is_explained_as_it_is_read_now(app):
    app.recorded["xception_lstm"] = app.recorded["xception_lstm"].drop("chest_xray/test/NORMAL/image-2.png")
    app.image.value = "chest_xray/test/NORMAL/image-2.png"
    assert "(at zoom 1; none is recorded for this image)" in app.caption.value
    assert app.picture.value


def test_outcomes_are_those_of_the_model(app):
    app.outcome.value = "true positive"
    assert len(app.image.options) == N // 2
    assert app.image.value in app.image.options
    assert "PNEUMONIA" in app.image.value
    app.model.value = "custom_cnn_lstm"  # it is always wrong here
    assert app.picture.value == b""
    assert "no test image is a true positive" in app.caption.value
    app.outcome.value = "false negative"
    assert app.picture.value
    app.outcome.value = viewer.ANY
    assert len(app.image.options) == N


def test_an_unknown_image_is_named_and_escaped(app):
    app.image.value = "<b>nothing</b>"
    assert app.picture.value == b""
    assert "&lt;b&gt;nothing" in app.caption.value
    app.image.value = ""
    assert "no image is chosen" in app.caption.value
    app.image.value = "chest_xray/test/NORMAL/image-2.png"
    assert app.picture.value


def test_drawing_anew_does_not_explain_anew(app, monkeypatch):
    calls = []
    explain = viewer.gradcam.explain
    monkeypatch.setattr(viewer.gradcam, "explain", lambda *a, **k: calls.append(1) or explain(*a, **k))
    app.alpha.value, app.colours.value = 0.1, "viridis"
    assert not calls
    app.image.value = "chest_xray/test/NORMAL/image-6.png"
    assert calls == [1]


def test_changing_the_model_keeps_the_image_and_takes_its_layer(app):
    app.image.value = "chest_xray/test/NORMAL/image-4.png"
    app.layer.value = "backbone.0"
    app.model.value = "custom_cnn_lstm"
    assert app.image.value == "chest_xray/test/NORMAL/image-4.png"
    assert app.layer.value == "backbone.7"


def test_a_blank_map_is_said_to_be_blank(app):
    torch.nn.init.zeros_(app.networks["xception_lstm"].classifier[-1].weight)
    app.image.value = "chest_xray/test/NORMAL/image-2.png"
    assert "The map is blank" in app.caption.value
    shown = picture(app)
    np.testing.assert_array_equal(shown[:, : viewer.SIDE], shown[:, 2 * viewer.SIDE :])
