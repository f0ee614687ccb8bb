"""Models as people write them: residual blocks, shared modules, several outputs, other devices."""

from __future__ import annotations

import math
from collections import namedtuple
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import Dim, export, register_dataclass
from torch.nn import functional as F

import vercomp
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError, UsageError
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


# ── Several outputs ──────────────────────────────────────────────────────────────────────────────

Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Output:
    logits: Tensor
    loss: Tensor | None = None


register_dataclass(Output)


class Heads(nn.Module):
    def __init__(self, pack):
        super().__init__()
        self.fc, self.head, self.pack = nn.Linear(4, 4), nn.Linear(4, 3), pack

    def forward(self, x):
        h = torch.tanh(self.fc(x))
        return self.pack(self.head(h), h)


PACKS = {
    "dict": (lambda z, h: {"features": h, "logits": z}, "logits"),
    "tuple": (lambda z, h: (h, z), 1),
    "list": (lambda z, h: [z, h], 0),
    "named tuple": (lambda z, h: Pair(z, h), "logits"),
    "dataclass": (lambda z, h: Output(z), "logits"),
    "one in a tuple": (lambda z, h: (z,), 0),
}


@pytest.mark.parametrize("name", PACKS)
def test_an_output_that_is_named(name):
    pack, output = PACKS[name]
    model = Heads(pack).eval()
    alone = Heads(lambda z, h: z).eval()
    alone.load_state_dict(model.state_dict())
    x = torch.randn(5, 4)
    for given in (model, export(model, (x,), dynamic_shapes=({0: Dim("n")},))):
        translation = faithful(given, (4,), output=output)
        assert torch.allclose(translation.source(x), alone(x), atol=1e-6)
        assert translation.graph.node(translation.graph.output).shape == (3,)


def test_the_named_output_is_compiled_and_regularised():
    model = Heads(PACKS["dict"][0])
    net = vercomp.compile(model, (4,), output="logits")
    _, high = net.curvature()
    assert high.shape == (3, 3)
    x = torch.randn(5, 4)
    assert torch.allclose(net.network(x), model.eval()(x)["logits"], atol=1e-6)
    loss = float(vercomp.regularizer(model, (4,), output="logits")().detach())
    assert 0.0 < loss <= 1.001 * float(high.sum()) / 6


@pytest.mark.parametrize(
    ("pack", "output", "kind", "message"),
    [
        (
            PACKS["dict"][0],
            None,
            UnsupportedError,
            "the model returns a dict with the outputs 'features', 'logits', not one tensor of "
            "logits. Name one of them, as in output='features'",
        ),
        (
            PACKS["tuple"][0],
            None,
            UnsupportedError,
            "the model returns a tuple with the outputs 0, 1, not one tensor of logits. Name one "
            "of them, as in output=0",
        ),
        (
            PACKS["dict"][0],
            "logit",
            UsageError,
            "the model has no output 'logit'. It has the outputs 'features', 'logits'",
        ),
        (
            lambda z, h: z,
            0,
            UsageError,
            "the model has no output 0. It has one; leave the name out",
        ),
        (
            lambda z, h: (z, (h, h)),
            1,
            UnsupportedError,
            "its output 1 is a tuple, not a tensor of logits. Wrap it in a module that returns the "
            "logits alone",
        ),
        (
            lambda z, h: None,
            None,
            UnsupportedError,
            "the model returns a NoneType, not one tensor of logits. Wrap it in a module that "
            "returns the logits alone",
        ),
    ],
)
def test_outputs_that_are_refused(pack, output, kind, message):
    with pytest.raises(kind) as error:
        from_torch(Heads(pack), (4,), BUILTIN, output)
    assert str(error.value) == f"node 'Heads': {message}"


def test_an_exported_program_with_several_outputs():
    program = export(Heads(PACKS["dict"][0]), (torch.zeros(2, 4),))
    with pytest.raises(UnsupportedError) as error:
        from_torch(program, None, BUILTIN)
    assert str(error.value) == (
        "node 'ExportedProgram': the model returns a dict with the outputs 'features', 'logits', "
        "not one tensor of logits. Name one of them, as in output='features'"
    )


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


# ── Refusals ─────────────────────────────────────────────────────────────────────────────────────


class Middle(nn.Module):
    """A function or module between a layer and its head."""

    def __init__(self, function):
        super().__init__()
        self.first, self.function = nn.Conv1d(2, 4, 1), function
        self.head = nn.LazyLinear(3)

    def forward(self, x):
        return self.head(self.function(torch.tanh(self.first(x))).flatten(1))


STATISTICS = "it divides by statistics of its input, which is neither affine nor elementwise"
PRODUCT = "it multiplies two values that both depend on the input"
MIXES = "it mixes the inputs of a batch"

REFUSALS = {
    "layer norm": (nn.LayerNorm(6), "function", "layer_norm.default", STATISTICS),
    "group norm": (nn.GroupNorm(2, 4), "function", "group_norm.default", STATISTICS),
    "instance norm": (nn.InstanceNorm1d(4), "function", "instance_norm.default", STATISTICS),
    "rms norm": (nn.RMSNorm(6), "function", "rms_norm.default", STATISTICS),
    "batch norm of the batch": (
        nn.BatchNorm1d(4, track_running_stats=False),
        "function",
        "batch_norm.default",
        "batch normalisation by the statistics of the batch couples the inputs",
    ),
    "max pool": (
        nn.MaxPool1d(2),
        "function",
        "max_pool1d.default",
        "a maximum over several entries is piecewise linear: its gradient jumps",
    ),
    "deviation": (
        lambda x: x.std(1),
        "std",
        "std.dim",
        "a norm or a deviation is neither affine nor elementwise",
    ),
    "kernel of the input": (
        lambda x: F.conv1d(x, x[0, :, :2].reshape(1, 4, 2)),
        "select",
        "select.int",
        MIXES,
    ),
    "product": (lambda x: x @ x.mT, "matmul", "matmul.default", PRODUCT),
    "attention": (
        lambda x: F.scaled_dot_product_attention(x, x, x),
        "scaled_dot_product_attention",
        "scaled_dot_product_attention.default",
        PRODUCT,
    ),
    "flipped batch": (lambda x: x.flip(0), "flip", "flip.default", MIXES),
    "sum over the batch": (lambda x: x.cumsum(0), "cumsum", "cumsum.default", MIXES),
    "rolled batch": (lambda x: x.roll(1, 0), "roll", "roll.default", MIXES),
    "convolution along the batch": (
        lambda x: F.conv1d(x.permute(2, 1, 0), torch.ones(2, 4, 1)).permute(2, 1, 0),
        "conv1d_1",
        "conv1d.default",
        MIXES,
    ),
    "infinite": (
        lambda x: x.masked_fill(torch.tensor([True, False, False, True])[:, None], -torch.inf),
        "masked_fill",
        "masked_fill.Scalar",
        "its values are not finite",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_an_operator_that_is_refused(name):
    function, node, operator, reason = REFUSALS[name]
    torch.manual_seed(0)
    model = Middle(function)
    model.train()(torch.rand(3, 2, 6))
    with pytest.raises(UnsupportedError) as error:
        refuse_opaque(from_torch(model, (2, 6), BUILTIN).graph)
    place = f"test_fx_models.py:{Middle.forward.__code__.co_firstlineno + 1}"
    message = str(error.value)
    listed = f"node {node!r} (aten.{operator}) at {place}: {reason}"
    assert message == f"{listed}. Only affine operators and elementwise activations can be analysed"


def test_operators_behind_a_view_that_loses_the_batch_are_listed_too():
    class Folded(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc, self.head = nn.Linear(4, 4), nn.Linear(12, 3)

        def forward(self, x):
            h = x.softmax(2).reshape(-1, 4)
            h = self.fc(h).sort(1)[0]
            return self.head(h.softmax(1).reshape(-1, 12))

    line = Folded.forward.__code__.co_firstlineno
    with pytest.raises(UnsupportedError) as error:
        from_torch(Folded(), (3, 4), BUILTIN)
    assert str(error.value) == lines(f"""
        4 operators are not supported:
        node 'softmax' (aten.softmax.int) at test_fx_models.py:{line + 1}: a softmax is no elementwise function
        node 'reshape' (aten.reshape.default) at test_fx_models.py:{line + 1}: it mixes the batch with another dimension
        node 'sort' (aten.sort.default) at test_fx_models.py:{line + 2}: vercomp has no rule for this operator
        node 'softmax_1' (aten.softmax.int) at test_fx_models.py:{line + 3}: a softmax is no elementwise function
        Only affine operators and elementwise activations can be analysed
    """).replace("\nnode", "\n  node")  # noqa: E501 - the message


def test_a_program_exported_in_training_mode_couples_the_inputs():
    model = residual().train()
    model.drop = nn.Identity()
    program = export(model, (torch.rand(2, *SHAPE),))
    with pytest.raises(UnsupportedError, match="statistics of the batch couples the inputs"):
        validate(from_torch(program, None, BUILTIN))


# ── Validation ───────────────────────────────────────────────────────────────────────────────────


def test_large_graphs_are_validated_on_fewer_inputs(monkeypatch):
    translation = from_torch(residual(), SHAPE, BUILTIN)
    seen = []

    def spy(x):
        seen.append(len(x))
        return translation.source(x)

    spied = replace(translation, source=spy)
    validate(spied)
    entries = sum(math.prod(node.shape) for node in translation.graph.nodes)
    monkeypatch.setattr(validation, "ENTRIES", 3 * entries)
    validate(spied)
    monkeypatch.setattr(validation, "ENTRIES", 1)
    validate(spied)
    assert list(dict.fromkeys(seen)) == [8, 3, 2]


def test_the_output_alone_is_the_same():
    graph = from_torch(residual(), SHAPE, BUILTIN).graph
    x = torch.rand(2, *SHAPE)
    assert torch.equal(result(graph, x, stored_as(x.dtype)), evaluate(graph, x)[graph.output])
