"""The regulariser in training loops: autocast, compilation, several processes, moved models."""

from __future__ import annotations

import copy
import multiprocessing
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from torchrun import HANGS, LOOPBACK

import vercomp
from vercomp.core.regularizer import Regularizer
from vercomp.errors import UnsupportedError

X = torch.rand(8, 4, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])


def model(seed: int = 0, activation: type[nn.Module] = nn.Softplus) -> nn.Sequential:
    torch.manual_seed(seed)
    hidden = [nn.Linear(4, 6), activation(), nn.Linear(6, 5), activation()]
    return nn.Sequential(*hidden, nn.Linear(5, 3))


def gradients(network: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    network.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}


def same(network: nn.Module) -> Regularizer:
    """A fresh regulariser: two of them give equal values."""
    return vercomp.regularizer(network, (4,), pairs_per_call=2, every=1)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_autocast_does_not_reach_it(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    network = model().to(device)
    first, second = same(network), same(network)
    expected = gradients(network, first(Y))
    with torch.autocast(device, dtype=torch.bfloat16):
        loss = second(Y)
        assert network(X.to(device)).dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    for name, found in gradients(network, loss).items():
        assert torch.equal(found, expected[name])


def test_it_may_go_backward_within_autocast() -> None:
    """Which torch advises against: its own products are then in half precision."""
    network = model()
    first, second = same(network), same(network)
    expected = gradients(network, first(Y))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(network, second(Y))
    for name, gradient in found.items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, expected[name], rtol=0.05, atol=1e-3)


# torch's tracing of functions with a backward of their own instantiates them, and warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compiled_models_and_losses(backend: str) -> None:
    network = model()
    plain, compiled = same(network), same(network)
    fast = torch.compile(network, backend=backend)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(fast(x), y) + 0.1 * compiled(y) + 0.1 * compiled(y, (y + 1) % 3)

    whole = torch.compile(loss, backend=backend)
    for _ in range(3):
        wanted = F.cross_entropy(network(X), Y) + 0.1 * plain(Y) + 0.1 * plain(Y, (Y + 1) % 3)
        expected = gradients(network, wanted)
        value = whole(X, Y)
        assert value.item() == pytest.approx(wanted.item(), rel=1e-6)
        for name, found in gradients(network, value).items():
            torch.testing.assert_close(found, expected[name])
    torch.testing.assert_close(compiled.latest, plain.latest)
    assert torch.equal(compiled.position, plain.position)


def share(rank: int, file: str, results: Path) -> None:
    """One of two processes: the gradient of its half of the batch, averaged by torch."""
    os.environ.update(LOOPBACK)
    distributed.init_process_group("gloo", f"file://{file}", rank=rank, world_size=2)
    network = model()
    regularizer = vercomp.regularizer(network, (4,), pairs_per_call=None, every=1)
    parallel = DistributedDataParallel(network)
    for _ in range(2):
        x, y = X[rank::2], Y[rank::2]
        loss = F.cross_entropy(parallel(x), y) + 0.1 * regularizer(y) + 0.1 * regularizer()
        found = gradients(network, loss)
    torch.save(found, results / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_make_the_step_of_one(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    arguments = (str(tmp_path / "store"), tmp_path)
    workers = [context.Process(target=share, args=(rank, *arguments)) for rank in range(2)]
    for worker in workers:
        worker.start()
    network = model()
    regularizer = vercomp.regularizer(network, (4,), pairs_per_call=None, every=1)
    for _ in range(2):
        loss = F.cross_entropy(network(X), Y) + 0.1 * regularizer(Y) + 0.1 * regularizer()
        expected = gradients(network, loss)
    for worker in workers:
        worker.join(HANGS)
        assert worker.exitcode == 0
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        torch.testing.assert_close(found, expected)


def test_it_follows_a_model_to_another_type() -> None:
    network = model()
    regularizer = same(network)
    for dtype in (torch.float64, torch.float32):
        network.to(dtype)
        value = regularizer(Y)
        assert value.dtype == regularizer.latest.dtype == dtype
        assert all(v.dtype == dtype for v in regularizer.arithmetic.buffers())
        value.backward()
    assert {p.grad.dtype for p in network.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_follows_a_model_to_a_device() -> None:
    network = model()
    regularizer = same(network)
    network.cuda()
    regularizer(Y.cuda(), Y.cuda().roll(1)).backward()
    assert {b.device.type for b in regularizer.buffers()} == {"cuda"}
    network.cpu()
    regularizer(Y).backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("emitted", [False, True])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, emitted: bool) -> None:
    """The weights are what they are in half precision; gradients arrive in their type."""
    network: nn.Module = model()
    if emitted:
        network = vercomp.compile(network, (4,)).network
    network.to(dtype)
    twin = copy.deepcopy(network).float()

    def made(network: nn.Module) -> Regularizer:
        if emitted:
            module = sys.modules[type(network).__module__]
            found: Regularizer = module.regularizer(network, None)
            return found
        return vercomp.regularizer(network, (4,), pairs_per_call=None, every=1)

    half, single = made(network)(Y), made(twin)(Y)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(single.item(), rel=1e-6)
    expected = gradients(twin, single)
    for name, found in gradients(network, half).items():
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected[name], rtol=2e-2, atol=1e-3)


def test_biases_may_be_computed_from_parameters() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            h = torch.tanh(F.linear(x, self.first.weight, self.first.bias * self.scale))
            out: Tensor = self.second(h)
            return out

    network = Shared()
    vercomp.regularizer(network, (4,))().backward()
    assert network.first.weight.grad is not None
    assert network.scale.grad is None


def test_a_model_without_parameters_is_refused() -> None:
    network = model()
    for module in network:
        if isinstance(module, nn.Linear):
            for name in ("weight", "bias"):
                value = getattr(module, name).detach()
                delattr(module, name)
                module.register_buffer(name, value)
    with pytest.raises(UnsupportedError, match="no parameters that training could change"):
        vercomp.regularizer(network, (4,))
    compiled = vercomp.compile(network, (4,))
    with pytest.raises(UnsupportedError, match="no parameters that training could change"):
        compiled.regularizer()


def test_a_package_from_onnx_trains_with_torch_and_safetensors_alone(tmp_path: Path) -> None:
    network = model(3, nn.Tanh)
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (X[:1],), path, dynamo=False)
    vercomp.compile(path, emit=("regularizer",)).save(tmp_path / "package")
    code = """
import sys
for name in ("vercomp", "passes", "onnx"):
    sys.modules[name] = None
import torch
from package import load, regularizer
network = load()
reg = regularizer(network, pairs_per_call=2, every=1)
optimizer = torch.optim.Adam(network.parameters(), 1e-2)
first = reg.eval()().item()
reg.train()
for _ in range(30):
    optimizer.zero_grad()
    loss = network(torch.rand(4, 4)).square().mean() + 0.1 * reg(torch.tensor([0, 1]))
    loss.backward()
    assert all(p.grad is not None for p in network.parameters())
    optimizer.step()
assert reg.eval()().item() < 0.8 * first
"""
    command = [sys.executable, "-W", "ignore", "-c", code]
    subprocess.run(command, check=True, cwd=tmp_path)


def test_it_may_be_built_within_autocast() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))
    outside = vercomp.regularizer(network, (4,)).pairs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(vercomp.regularizer(network, (4,)).pairs(), outside)
        compiled = vercomp.compile(network, (4,))
    assert torch.equal(
        compiled.network.curvature()[0], vercomp.compile(network, (4,)).curvature()[0]
    )
