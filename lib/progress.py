"""How does someone who waits see a training advance? A line an epoch, and in a terminal or JupyterLab a bar over its steps."""

from __future__ import annotations

import os
import sys
import time

from tqdm.auto import tqdm


def interactive() -> bool:
    """Whether a person sits before this kernel: a Jupyter server started it. papermill starts kernels without one."""
    return "JPY_SESSION_NAME" in os.environ


def watched() -> bool:
    """Whether a bar would be seen."""
    return sys.stderr.isatty() or interactive()


class Progress:
    """A printed line an epoch, and where someone watches a bar over the steps of each, with loss and accuracy."""

    def __init__(self, label: str, epochs: int, *, enabled: bool = True) -> None:
        self.label, self.epochs, self.enabled = label, epochs, enabled
        self.watched = enabled and watched()
        self.bar: tqdm | None = None
        self.looked = 0.0

    def say(self, sentence: str) -> None:
        if self.enabled:
            tqdm.write(f"{self.label}: {sentence}") if self.bar else print(
                f"{self.label}: {sentence}", flush=True
            )

    def step(self, epoch: int, step: int, steps: int, sums) -> None:
        """After each step; `sums` (loss, correct, images) is read twice a second, since reading stops a GPU."""
        if not self.watched:
            return
        if self.bar is None:
            self.bar = tqdm(
                total=steps,
                initial=step - 1,
                desc=f"{self.label} {epoch + 1}/{self.epochs}",
                unit="batch",
                leave=False,
            )
        self.bar.update()
        if time.monotonic() - self.looked > 0.5 or step == steps:
            self.looked = time.monotonic()
            loss, correct, images = sums.tolist()
            self.bar.set_postfix(loss=f"{loss / images:.4f}", accuracy=f"{correct / images:.3f}")

    def epoch(self, row: dict) -> None:
        self.close()
        self.say(
            f"epoch {row['epoch']}/{self.epochs}  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.3f}  "
            f"validation loss {row['val_loss']:.4f} accuracy {row['val_accuracy']:.3f} AUC {row['val_auc']:.4f}  "
            f"{row['seconds']:.0f} s"
        )

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
