"""The curvature bound as a callback of Lightning.

trainer = Trainer(callbacks=[CurvatureRegularizer(0.05, (1, 28, 28), network="model")])
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vercomp import live
from vercomp.core.regularizer import Regularizer
from vercomp.errors import UsageError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise UsageError(
        "vercomp.integrations.lightning needs Lightning, which is not installed",
        remedy="pip install 'vercomp[lightning]'",
    ) from error


class CurvatureRegularizer(Callback):  # type: ignore[misc] # Lightning may be missing
    """Adds γ·reg() to the loss that Lightning minimises, by adding its gradient.

    reg() is the mean of κ over all pairs of classes, ∇²(z_y − z_t) ≽ −κ[y, t]·I for every input.

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

    Raises:
        UsageError: When the fit begins, if the module has no such attribute, or if a fused
            optimiser unscales gradients by itself (``precision="16-mixed"``).
        VercompError: When the fit begins, if the network has no curvature bound.
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
            raise UsageError(
                "CurvatureRegularizer adds to unscaled gradients, and a fused optimizer unscales "
                "them by itself",
                remedy="Use fused=False, or precision='bf16-mixed'",
            )
        self.regularizer = live.regularizer(
            self._model(pl_module), self.input_shape, **self.options
        )
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

    def _model(self, module: LightningModule) -> Any:
        if self.network is None:
            return module
        try:
            return attrgetter(self.network)(module)
        except AttributeError as error:
            raise UsageError(
                f"the LightningModule {type(module).__name__} has no attribute {self.network!r}",
                remedy="network= names the attribute that holds the classifier, as 'model' does",
            ) from error
