"""Lightning's trainer with and without the curvature bound: `python FILE [EPOCHS]`.

Needs `pip install 'vercomp[lightning]'`. Nothing in the LightningModule knows of certificates: the
callback adds the bound to whatever loss the module has.
"""

from __future__ import annotations

import sys

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import vercomp
from vercomp.data import load_data
from vercomp.integrations.lightning import CurvatureRegularizer


class Digits(LightningModule):
    """A small classifier, trained on the cross entropy, and knowing nothing of certificates."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(64, 64), nn.Softplus(), nn.Linear(64, 10))

    def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
        """The loss of a batch."""
        x, y = batch
        return cross_entropy(self.model(x), y)

    def configure_optimizers(self) -> Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def main(epochs: int = 30) -> None:
    """Train without and with the callback; print what each network is worth."""
    training, test = load_data("digits:train", (64,)), load_data("digits", (64,))
    for gamma in (0.0, 0.05):
        seed_everything(0)
        module = Digits()
        trainer = Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            callbacks=[CurvatureRegularizer(gamma, (64,), network="model")] if gamma else [],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )
        batches = DataLoader(TensorDataset(training.x, training.y), batch_size=64, shuffle=True)
        trainer.fit(module, batches)
        network = vercomp.compile(module.model, input_shape=(64,))
        found = network.certify(test.x, test.y)
        clean = (found.prediction == test.y).double().mean()
        certified = (found.radius > 0.5).double().mean()
        print(f"gamma {gamma:g}: clean {clean:.2%}, certified at radius 0.5 {certified:.2%}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
