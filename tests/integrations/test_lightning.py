"""The callback for Lightning, with Lightning itself."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import vercomp
from vercomp.errors import UsageError

GAMMA, RATE = 0.3, 0.1


class Lightning:
    """The callback on a small network under plain gradient descent."""

    def __init__(self) -> None:
        self.lightning: Any = pytest.importorskip(
            "lightning.pytorch", reason="needs vercomp[lightning]"
        )
        generator = torch.Generator().manual_seed(1)
        self.x = torch.randn(8, 6, generator=generator)
        self.y = torch.arange(8) % 3

    def module(self) -> Any:
        torch.manual_seed(0)

        class Module(self.lightning.LightningModule):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.inner = nn.ModuleDict(
                    {"net": nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3))}
                )

            def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
                return cross_entropy(self.inner.net(batch[0]), batch[1])

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return torch.optim.SGD(self.parameters(), lr=RATE)

        return Module()

    def callback(self, gamma: float = GAMMA, network: str = "inner.net") -> Any:
        from vercomp.integrations.lightning import CurvatureRegularizer

        return CurvatureRegularizer(gamma, (6,), network=network)

    def fit(self, module: Any, callback: Any, **options: Any) -> Any:
        resumed = options.pop("ckpt_path", None)
        trainer = self.lightning.Trainer(
            accelerator="cpu",
            callbacks=[callback],
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            **options,
        )
        data = torch.utils.data.TensorDataset(self.x, self.y)
        batches = torch.utils.data.DataLoader(data, batch_size=2)
        trainer.fit(module, batches, ckpt_path=resumed)
        return trainer


@pytest.fixture
def lightning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lightning:
    monkeypatch.chdir(tmp_path)
    return Lightning()


def weights(module: Any) -> Tensor:
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()])


@pytest.mark.filterwarnings("ignore")
def test_a_step_in_lightning_is_that_of_the_whole_loss(lightning: Lightning) -> None:
    """Micro-batches are accumulated, the penalty is added once, and then all of it is clipped."""
    model = lightning.module()
    before = weights(model)
    bound = vercomp.regularizer(model.inner.net, (6,))
    loss = cross_entropy(model.inner.net(lightning.x[:4]), lightning.y[:4]) + GAMMA * bound()
    loss.backward()
    gradient = torch.cat([p.grad.reshape(-1) for p in model.parameters()])
    once = {"max_steps": 1, "accumulate_grad_batches": 2}

    module = lightning.module()
    trainer = lightning.fit(module, lightning.callback(), **once)
    torch.testing.assert_close(weights(module), before - RATE * gradient)
    latest = bound.latest.sum().item() / 6
    assert trainer.callback_metrics["curvature"].item() == pytest.approx(latest)

    clipped, length = lightning.module(), gradient.norm().item() / 2
    lightning.fit(clipped, lightning.callback(), **once, gradient_clip_val=length)
    torch.testing.assert_close(weights(clipped), before - RATE * gradient / 2)

    low = lightning.module()  # autocast leaves the bound alone
    lightning.fit(low, lightning.callback(), **once, precision="bf16-mixed")
    torch.testing.assert_close(weights(low), before - RATE * gradient, atol=1e-2 * RATE, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_lightning_resumes_with_its_singular_vectors(lightning: Lightning) -> None:
    whole = lightning.module()
    lightning.fit(whole, lightning.callback(), max_epochs=2)
    half, callback = lightning.module(), lightning.callback()
    lightning.fit(half, callback, max_epochs=1).save_checkpoint("half.ckpt")
    rest = lightning.module()
    lightning.fit(rest, lightning.callback(), max_epochs=2, ckpt_path="half.ckpt")
    assert torch.equal(weights(rest), weights(whole))
    assert not torch.equal(weights(rest), weights(half))


@pytest.mark.filterwarnings("ignore")
def test_a_network_that_is_not_there_is_named(lightning: Lightning) -> None:
    with pytest.raises(UsageError, match=r"LightningModule Module has no attribute 'inner\.head'"):
        lightning.fit(lightning.module(), lightning.callback(network="inner.head"), max_steps=1)


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.delitem(sys.modules, "vercomp.integrations.lightning", raising=False)
    with pytest.raises(UsageError, match=r"pip install 'vercomp\[lightning\]'"):
        importlib.import_module("vercomp.integrations.lightning")
