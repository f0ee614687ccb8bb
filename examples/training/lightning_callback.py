"""The curvature bound as a Lightning callback: `python examples/training/lightning_callback.py`.

Needs `pip install lightning`, which vercomp itself does not. The callback goes into any project:

    trainer = Trainer(callbacks=[CurvaturePenalty(0.05, (1, 28, 28), network="model")])
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader, TensorDataset

import vercomp
from vercomp.core.regularizer import Regularizer
from vercomp.data import load_data


class CurvaturePenalty(Callback):
    """Adds γ·reg() to the loss that Lightning minimises, by adding its gradient.

    The gradient is added once a step of the optimiser, in ``on_before_optimizer_step``: by then
    Lightning has accumulated the gradients of all micro-batches, undone the scaling of automatic
    mixed precision, and averaged over processes (where the penalty's gradient is the same); it has
    not clipped yet, so that clipping sees the gradient of the whole loss. It works with automatic
    and with manual optimisation; strategies that shard parameters (FSDP, DeepSpeed) are not
    supported.

    ``curvature``, the mean over pairs of the most recent bounds, is logged at every step. The
    singular vectors are saved in Lightning's checkpoints and taken from there.

    Args:
        gamma: γ, the weight of the mean bound over all pairs of classes. May be set at any time.
        input_shape: Shape of one input, without the batch.
        network: Attribute of the LightningModule that holds the network ("encoder.head" for one
            further in); None: the LightningModule itself is called with a batch.
        options: As for :func:`vercomp.regularizer`: ``mean``, ``std``, ``output``,
            ``pairs_per_call``, ``every``.
    """

    def __init__(
        self, gamma: float, input_shape: Sequence[int], network: str | None = None, **options: Any
    ) -> None:
        self.gamma = gamma
        self.input_shape = tuple(input_shape)
        self.network = network
        self.options = options
        self.regularizer: Regularizer | None = None
        self._saved: dict[str, Tensor] = {}

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Build the bound: the model is on its device, and the same in all processes."""
        if trainer.precision == "16-mixed" and any(
            getattr(optimizer, "_step_supports_amp_scaling", False)
            for optimizer in trainer.optimizers
        ):
            raise MisconfigurationException(
                "CurvaturePenalty adds to unscaled gradients, and a fused optimizer unscales them "
                "by itself: use fused=False, or precision='bf16-mixed'"
            )
        model = pl_module if self.network is None else attrgetter(self.network)(pl_module)
        self.regularizer = vercomp.regularizer(model, self.input_shape, **self.options)
        if self._saved:
            self.regularizer.load_state_dict(self._saved)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Add the gradient of γ·reg() to the parameters that this optimiser moves."""
        assert self.regularizer is not None  # noqa: S101 - it was built when the fit began
        moved = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        with torch.enable_grad():
            penalty = self.gamma * self.regularizer()
        # Not penalty.backward(): that would start another all-reduce.
        gradients = torch.autograd.grad(penalty, moved, allow_unused=True)
        for parameter, gradient in zip(moved, gradients, strict=True):
            if gradient is None:
                continue
            if parameter.grad is None:
                parameter.grad = gradient
            else:
                parameter.grad += gradient
        bounds = self.regularizer.latest
        pairs = len(bounds) * (len(bounds) - 1)
        pl_module.log("curvature", bounds.sum() / pairs, prog_bar=True)

    def state_dict(self) -> dict[str, Tensor]:
        """What Lightning puts into a checkpoint."""
        return self._saved if self.regularizer is None else self.regularizer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """What was in it; the bound is built later, when the model is where it will be."""
        self._saved = state_dict


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


def main() -> None:
    """Train without and with the callback; print what each network is worth."""
    training, test = load_data("digits:train", (64,)), load_data("digits", (64,))
    for gamma in (0.0, 0.05):
        seed_everything(0)
        module = Digits()
        trainer = Trainer(
            max_epochs=30,
            accelerator="cpu",
            callbacks=[CurvaturePenalty(gamma, (64,), network="model")] if gamma else [],
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
    main()
