"""What did the original notebook's code do for every batch? Its models, its input pipeline and its loop, kept for comparison."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import cv2
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from lib.store import PixelStore

TRAIN_BATCH, TEST_BATCH = 8, 64


class XceptionLSTM(nn.Module):
    """As the notebook had it: frozen by `requires_grad` alone, so BatchNorm of the frozen part keeps updating."""

    def __init__(self, freeze_layers: int = 100) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.xception = timm.create_model("legacy_xception", pretrained=False, features_only=True)
        for parameter in list(self.xception.parameters())[:freeze_layers]:
            parameter.requires_grad = False
        self.lstm = nn.LSTM(2048, 512, batch_first=True)
        self.classifier = nn.Sequential(nn.Linear(512, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.xception(x)[-1]
        b, c, h, w = features.shape
        out, _ = self.lstm(features.view(b, c, h * w).permute(0, 2, 1))
        return self.classifier(out[:, -1]).squeeze(1)


class CustomCNNLSTM(nn.Module):
    """As the notebook had it: ReLU on the whole map, then the pool."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn_backbone = nn.Sequential(
            nn.Conv2d(3, 200, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(200, 150, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(150, 100, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(7),
        )  # fmt: skip
        self.lstm = nn.LSTM(100, 50, batch_first=True)
        self.classifier = nn.Sequential(nn.Linear(50, 64), nn.ReLU(), nn.Dropout(0.27), nn.Linear(64, 1))

    def forward(self, x: Tensor) -> Tensor:
        features = self.cnn_backbone(x)
        b, c, h, w = features.shape
        out, _ = self.lstm(features.view(b, c, h * w).permute(0, 2, 1))
        return self.classifier(out[:, -1]).squeeze(1)


MODELS = {"xception_lstm": XceptionLSTM, "custom_cnn_lstm": CustomCNNLSTM}
LEARNING_RATES = {"xception_lstm": 1e-4, "custom_cnn_lstm": 6e-4}


def image_folder(store: PixelStore, folder: Path, rows: Iterable[int], ending: str) -> Path:
    """The tree that `loader` reads: a file of each of these images of the store, by class."""
    for row in rows:
        path = folder / ("NORMAL", "PNEUMONIA")[store.index["label"].iloc[row]] / f"{row}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(store.pixels[row], cv2.COLOR_GRAY2BGR))
    return folder


def loader(folder: Path, image_size: int, *, training: bool, batch_size: int | None = None) -> DataLoader:
    """Files of an ImageFolder tree, decoded by PIL in the loop, resized and normalised one at a time."""
    prepare = transforms.Compose(
        [
            transforms.Resize((image_size, image_size)),
            transforms.ToTensor(),
            transforms.Normalize([0.5] * 3, [0.5] * 3),
        ]
    )
    images = datasets.ImageFolder(folder, prepare)
    return DataLoader(images, batch_size or (TRAIN_BATCH if training else TEST_BATCH), shuffle=training)


class Loop:
    """The notebook's training and evaluation, one batch a call, with the time that went by outside the model."""

    def __init__(self, network: nn.Module, learning_rate: float, device: torch.device) -> None:
        self.network, self.device = network.to(device), device
        trained = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.Adam(trained, lr=learning_rate, weight_decay=1e-5)
        self.criterion = nn.BCEWithLogitsLoss()
        self.waited = 0.0  # seconds in the input pipeline

    def batches(self, images: DataLoader):
        """Without end, one epoch after the other."""
        while True:
            walk = iter(images)
            while True:
                started = time.perf_counter()
                batch = next(walk, None)
                self.waited += time.perf_counter() - started
                if batch is None:
                    break
                yield batch

    def train_step(self, batch: tuple[Tensor, Tensor]) -> int:
        self.network.train()
        images, labels = batch[0].to(self.device), batch[1].float().to(self.device)
        self.optimizer.zero_grad()
        logits = self.network(images)
        loss = self.criterion(logits, labels)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        loss.item()
        ((torch.sigmoid(logits) > 0.5) == (labels > 0.5)).sum().item()
        return len(images)

    def test_step(self, batch: tuple[Tensor, Tensor]) -> int:
        self.network.eval()
        with torch.no_grad():
            torch.sigmoid(self.network(batch[0].to(self.device))).cpu()
        return len(batch[0])
