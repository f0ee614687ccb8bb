"""Models as people write them: residual blocks, shared modules, other precisions and devices."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import fx, nn
from torch.export import Dim, export
from torch.nn import functional as F

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends import validate as validation
from vercomp.frontends.fx import from_torch
from vercomp.frontends.torch_source import copied, on_cpu
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.validate import validate
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, result, stored_as

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings(
    "default:::torch", "default::DeprecationWarning", "ignore:`isinstance:FutureWarning"
)


class Block(nn.Module):
    def __init__(self, channels, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.shortcut = nn.Conv2d(channels, out, 1, stride) if stride > 1 else nn.Identity()
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 2.0)

    def forward(self, x):
        h = F.silu(self.norm(self.conv1(x)))
        return F.silu(self.conv2(h) + self.shortcut(x))


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect")
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 8, 2))
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        h = self.blocks(torch.tanh(self.stem(x)))
        return self.head(self.drop(F.adaptive_avg_pool2d(h, 1).flatten(1)))


SHAPE = (3, 8, 8)


def residual():
    torch.manual_seed(0)
    return Residual()


def lines(text):
    return "\n".join(line.strip() for line in text.strip().splitlines())


def faithful(model, shape, **options):
    translation = from_torch(model, shape, BUILTIN, **options)
    refuse_opaque(translation.graph)
    validate(translation)
    return translation


def test_the_text_of_a_convolutional_network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, stride=2, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(8, 3),
    )
    assert to_text(faithful(model, (1, 8, 8)).graph) == lines("""
        input input : 1×8×8
        affine 0.pad : 1×10×10 = pad(1×10×10, circular) · input
        affine 0 : 2×4×4 = conv[0.weight; 3×3, stride 2] · 0.pad + 0.bias
        activation 1 : 2×4×4 = tanh(0)
        affine 2 : 2×2×2 = mean(2×2, stride 2) · 1
        affine 3 : 8 = reshape(8) · 2
        affine 4 : 3 = dense[4.weight] · 3 + 4.bias
        output 4
    """)


def test_a_residual_network_keeps_its_own_parameters():
    model = residual()
    translation = faithful(model, SHAPE)
    assert translation.derived == {}
    names = {p.name for p in translation.graph.parameters() if p.trainable}
    assert names == {name for name, _ in model.named_parameters()}


def test_a_model_in_training_mode_is_translated_as_it_evaluates():
    model = residual().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    translation = faithful(model, SHAPE)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    x = torch.rand(2, *SHAPE)
    found = evaluate(translation.graph, x, stored_as(x.dtype))[translation.graph.output]
    assert torch.allclose(found, model.eval()(x), atol=1e-5)


@pytest.mark.parametrize("kind", ["module", "traced", "exported", "decomposed", "fixed"])
def test_every_way_to_give_a_model(kind):
    model = residual().eval()
    example = torch.rand(2, *SHAPE)
    given = {
        "module": lambda: model,
        "traced": lambda: fx.symbolic_trace(model),
        "exported": lambda: export(model, (example,), dynamic_shapes={"x": {0: Dim("n")}}),
        "decomposed": lambda: export(model, (example,)).run_decompositions({}),
        "fixed": lambda: export(model, (example[:1],)),
    }[kind]()
    graph = faithful(given, SHAPE).graph
    found = result(graph, example, stored_as(example.dtype))
    assert torch.allclose(found, model(example), atol=1e-5)
    assert [node.function.name for node in graph.activations()] == ["tanh", *["silu"] * 4]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_convolutions_in_other_precisions(dtype):
    assert faithful(residual().to(dtype), SHAPE).dtype == dtype


def test_a_module_used_twice_is_one_parameter_and_two_nodes():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = nn.Conv2d(2, 2, 3, padding=1), nn.Softplus()
            self.head = nn.Linear(2, 3)

        def forward(self, x):
            x = self.act(self.conv(self.act(self.conv(x))))
            return self.head(x.mean((2, 3)))

    graph = faithful(Twice(), (2, 5, 5)).graph
    assert [node.name for node in graph.affine()] == ["conv", "conv_2", "mean", "head"]
    assert len(list(graph.activations())) == 2
    assert [p.name for p in graph.parameters()] == [
        "conv.weight",
        "conv.bias",
        "head.weight",
        "head.bias",
    ]


@pytest.mark.parametrize("tied", ["module", "weight", "both"])
def test_a_module_with_two_names_keeps_its_parameters(tied):
    layer, other = nn.Linear(4, 4), nn.Linear(4, 4)
    if tied != "module":
        other.weight = layer.weight
    again = other if tied == "weight" else layer
    layers = [layer, nn.Tanh(), again, nn.Tanh(), *([other] if tied == "both" else [])]
    model = nn.Sequential(*layers, nn.Linear(4, 2))
    before = dict(model.named_parameters(remove_duplicate=False))
    compiled = vercomp.compile(model, (4,))
    after = dict(model.named_parameters(remove_duplicate=False))
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    x = torch.randn(3, 4)
    torch.testing.assert_close(compiled.network(x), model(x))
    vercomp.regularizer(model, (4,))().backward()
    assert layer.weight.grad is not None


def test_functional_code_and_shape_arithmetic():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
            self.bias = nn.Parameter(torch.randn(4))
            self.weight = nn.Parameter(torch.randn(3, 64))

        def forward(self, x):
            batch, _, height, width = x.shape
            h = torch.sigmoid(F.conv2d(x, self.kernel, self.bias, padding=1))
            h = F.avg_pool2d(h, (height // 4, width // 4)).view(batch, -1)
            return F.linear(h, self.weight)

    assert faithful(Functional(), (2, 8, 8)).derived == {}


def test_a_program_exported_in_training_mode_couples_the_inputs():
    model = residual().train()
    model.drop = nn.Identity()
    program = export(model, (torch.rand(2, *SHAPE),))
    with pytest.raises(UnsupportedError, match="statistics of the batch couples the inputs"):
        validate(from_torch(program, None, BUILTIN))


# ── Devices ──────────────────────────────────────────────────────────────────────────────────────


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.b.bias.requires_grad_(False)
        self.register_buffer("mean", torch.ones(3))
        self.shift = torch.full((3,), 0.5)

    def forward(self, x):
        return self.b(torch.tanh(self.a(x - self.mean))) + self.shift


def test_a_copy_shares_no_memory_and_keeps_what_is_tied():
    model = Tied()
    other = copied(model)
    x = torch.randn(4, 3)
    assert torch.equal(model(x), other(x))
    assert other.b.weight is other.a.weight
    assert not other.b.bias.requires_grad
    assert isinstance(other.a.weight, nn.Parameter)
    pairs = zip(model.state_dict().items(), other.state_dict().items(), strict=True)
    for (name, mine), (same, its) in pairs:
        assert name == same
        assert mine.data_ptr() != its.data_ptr()
    assert other.shift.data_ptr() != model.shift.data_ptr()
    assert on_cpu(model) is model


def test_a_module_spread_over_devices_is_refused():
    with pytest.raises(UnsupportedError) as error:
        from_torch(nn.DataParallel(Tied()), (3,), BUILTIN)
    assert str(error.value) == (
        "node 'DataParallel': it spreads batches over devices, which torch.export cannot trace. "
        "Give the module inside: model.module"
    )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_model_on_another_device():
    model = Tied().cuda()
    model.shift = model.shift.cuda()
    translation = faithful(model, (3,))
    assert all(p.device.type == "cuda" for p in model.parameters())
    x = torch.randn(4, 3)
    assert torch.allclose(translation.source(x), model(x.cuda()).cpu(), atol=1e-5)
    assert {p.value.device.type for p in translation.graph.parameters()} == {"cpu"}


# ── Validation ───────────────────────────────────────────────────────────────────────────────────


def test_large_graphs_are_validated_on_fewer_inputs(monkeypatch):
    translation = from_torch(residual(), SHAPE, BUILTIN)
    seen = []

    def spy(x):
        seen.append(len(x))
        return translation.source(x)

    spied = replace(translation, source=spy)
    validate(spied)
    entries = validation._entries(translation.graph)
    monkeypatch.setattr(validation, "ENTRIES", 3 * entries)
    validate(spied)
    monkeypatch.setattr(validation, "ENTRIES", 1)
    validate(spied)
    assert list(dict.fromkeys(seen)) == [8, 3, 2]


def test_the_output_alone_is_the_same():
    graph = from_torch(residual(), SHAPE, BUILTIN).graph
    x = torch.rand(2, *SHAPE)
    assert torch.equal(result(graph, x, stored_as(x.dtype)), evaluate(graph, x)[graph.output])
