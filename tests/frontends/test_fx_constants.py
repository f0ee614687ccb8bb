"""Weights that ``forward()`` computes from tensors of several types are those of the source."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import vercomp
from vercomp.errors import UnsupportedError

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")


class Weighted(nn.Module):
    """Two layers; the weights of the first are computed from tables beside its parameters."""

    def __init__(self, compute):
        super().__init__()
        self.compute = compute
        self.hidden, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("f32", torch.randn(8, 6))
        self.register_buffer("f64", torch.randn(8, 6, dtype=torch.float64))
        self.register_buffer("f16", torch.randn(8, 6).half())
        self.register_buffer("bf16", torch.randn(8, 6).bfloat16())
        self.register_buffer("c64", torch.randn(8, 6, dtype=torch.complex64))
        self.register_buffer("mask", torch.rand(8, 6) > 0.3)
        self.register_buffer("i8", torch.randint(-99, 99, (8, 6), dtype=torch.int8))
        self.register_buffer("order", torch.randperm(8))

    def forward(self, x):
        weight = self.compute(self, self.hidden.weight)
        return self.head(F.softplus(F.linear(x, weight, self.hidden.bias)))


def in_place(net: Weighted, w: Tensor) -> Tensor:
    scaled = w * 2
    scaled.add_(1)
    scaled.mul_(0.5)
    return scaled


COMPUTATIONS = {
    "a float64 mask": lambda net, w: (w * net.f64).float(),
    "a product in float64": lambda net, w: (w.double() @ net.f64.T @ net.f64).float(),
    "pieces of two types": lambda net, w: torch.cat([w[:4].double(), net.f64[4:]]).float(),
    "booleans": lambda net, w: torch.where(net.mask ^ net.mask.roll(1, 0), w, 0.5),
    "the lower triangle": lambda net, w: w * torch.ones(8, 6).tril().bool(),
    "int64 arithmetic": lambda net, w: (net.i8.long() * 3 // 2 % 7).float() * 0.1 + w,
    "dequantised integers": lambda net, w: (net.i8.float() - 3.0) * 0.01,
    "quantised here": lambda net, w: w.div(0.05).round().clamp(-128, 127).to(torch.int8) * 0.05,
    "a quantisation of each channel": lambda net, w: torch.fake_quantize_per_channel_affine(
        w, torch.full((8,), 0.01), torch.zeros(8, dtype=torch.int32), 0, -128, 127
    ),
    "rows in another order": lambda net, w: torch.zeros(8, 6).index_copy(0, net.order, w),
    "float16 beside float32": lambda net, w: w * net.f16,
    "products in float16": lambda net, w: (w.half() * net.f16).float(),
    "matrix products in float16": lambda net, w: (w.half() @ w.half().T @ net.f16).float(),
    "sums in bfloat16": lambda net, w: (w.bfloat16() + net.bf16).float(),
    "complex products": lambda net, w: (net.c64 @ net.c64.mH @ w.cfloat()).real * 0.1,
    "complex magnitudes": lambda net, w: net.c64.abs() * w,
    "a Fourier transform": lambda net, w: torch.fft.irfft(torch.fft.rfft(w), n=6),
    "literals": lambda net, w: torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]) * torch.tensor(0.3) + w,
    "a range of numbers": lambda net, w: torch.linspace(0, 1, 6) * torch.linspace(0, 1, 6) + w,
    "a product with a range": lambda net, w: torch.diag(torch.linspace(0, 1, 8) / 3) @ w,
    "the bits of a float": lambda net, w: (w.view(torch.int32) & 0x7FFF0000).view(torch.float32),
    "changes in place": in_place,
    "a reshaped transpose": lambda net, w: w.T.reshape(8, 6) * w / 3,
    "three axes": lambda net, w: (w.reshape(8, 3, 2).mT * net.f32.reshape(8, 2, 3)).flatten(1),
}


@pytest.mark.parametrize("kind", COMPUTATIONS)
def test_weights_computed_from_several_types(kind):
    model = Weighted(COMPUTATIONS[kind])
    x = torch.randn(9, 6)
    network = vercomp.compile(model, (6,)).network
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 8), (8, 6), (6, 6)])
@pytest.mark.parametrize("orthogonal_map", ["householder", "cayley", "matrix_exp"])
def test_orthogonal_parametrisations(orthogonal_map, shape):
    layer = nn.utils.parametrizations.orthogonal(nn.Linear(*shape), orthogonal_map=orthogonal_map)
    model = nn.Sequential(layer, nn.Softplus(), nn.Linear(shape[1], 3))
    x = torch.randn(9, shape[0])
    network = vercomp.compile(model, shape[:1]).network
    torch.testing.assert_close(network(x), model(x), rtol=1e-5, atol=1e-5)


def test_a_kept_parameter_is_still_the_models_own():
    model = Weighted(lambda net, w: w.to(torch.float32).contiguous().T.detach().mT)
    assert "hidden.weight" in vercomp.compile(model, (6,)).manifest["parameters"].values()


@torch.library.custom_op("tests::in_two_rows", mutates_args=())
def in_two_rows(w: Tensor, rows: int) -> Tensor:
    if rows > 100:
        raise RuntimeError(f"{rows} rows are too many")
    return w.sum().expand(6).clone()


@in_two_rows.register_fake
def _(w: Tensor, rows: int) -> Tensor:
    return w.new_empty(6)


def test_constants_that_cannot_be_computed_are_refused_by_name():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(6, 3)

        def forward(self, x):
            return self.head(torch.tanh(x * in_two_rows(self.head.weight, x.shape[0])))

    with pytest.raises(
        UnsupportedError,
        match=r"\(tests.in_two_rows.default\) .*: its constants cannot be computed here "
        r"\(RuntimeError: 7919 rows are too many\)\. Compute it outside forward",
    ):
        vercomp.compile(Sized(), (6,))


def test_a_view_of_a_constant_that_is_changed_in_place_is_refused():
    def compute(net, w):
        rows = torch.zeros(8, 6)
        rows[2:] = w[2:]
        return rows

    with pytest.raises(UnsupportedError, match="it changes a view of another tensor in place"):
        vercomp.compile(Weighted(compute), (6,))
