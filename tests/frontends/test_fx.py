"""The PyTorch front end: what the graph computes is what the module computes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.export import export
from torch.nn import functional as F

import vercomp
from passes.merge_affine import MergeAffine
from passes.strip_head import StripHead
from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError, UsageError, WeightError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.translation import refuse_opaque
from vercomp.frontends.validate import validate
from vercomp.ir.graph import Affine, Opaque
from vercomp.ir.linear_maps import Dense
from vercomp.ir.printer import to_text
from vercomp.ir.reference import evaluate, stored_as
from vercomp.pass_manager import run_passes

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings("default:::torch", "default::DeprecationWarning")


class Net(nn.Module):
    """Two layers around a function, to try one at a time."""

    def __init__(self, function, width=5):
        super().__init__()
        self.fc1 = nn.Linear(4, width)
        self.function = function
        self.fc2 = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc2(self.function(self.fc1(x)))


def merged(model, shape):
    translation = from_torch(model, shape, BUILTIN)
    refuse_opaque_but_softmax = [
        n for n in translation.graph.opaque() if "softmax" not in n.operator
    ]
    assert refuse_opaque_but_softmax == []
    validate(translation)
    return run_passes(translation.graph, [StripHead(), MergeAffine()])


def lines(text):
    return "\n".join(line.strip() for line in text.strip().splitlines())


ACTIVATIONS = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": F.softplus,
    "softplus, beta": lambda x: F.softplus(x, beta=2),
    "softplus, module": nn.Softplus(beta=3),
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "silu in place": nn.SiLU(inplace=True),
    "mish": F.mish,
    "elu": F.elu,
    "celu": lambda x: F.celu(x, alpha=2.0),
    "arctan": torch.arctan,
    "erf": torch.erf,
    "sin": torch.sin,
    "softsign": F.softsign,
    "x sigmoid(x)": lambda x: x * torch.sigmoid(x),
    "x / (1 + exp(-x))": lambda x: x / (1 + torch.exp(-x)),
    "erf gelu spelled out": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
    "erf gelu, float32 constant": lambda x: x * 0.5 * (torch.erf(x * 0.7071067690849304) + 1.0),
    "tanh gelu spelled out": lambda x: (
        0.5 * x * (1 + torch.tanh(0.7978845608028654 * (x + 0.044715 * x**3)))
    ),
    "softplus as log1p exp": lambda x: torch.log1p(torch.exp(-x.abs())) + x.clamp(min=0),
    "softplus that overflows": lambda x: torch.log(1 + torch.exp(5 * x)) / 5,
    "softplus as where": lambda x: torch.where(x > 20, x, torch.log1p(torch.exp(x))),
    "mish spelled out": lambda x: x * torch.tanh(F.softplus(x)),
    "2 sigmoid(x) + 1": lambda x: 2 * torch.sigmoid(x) + 1,
    "scaled tanh (LeCun)": lambda x: 1.7159 * torch.tanh(2 / 3 * x),
    "tanh of sigmoid": lambda x: torch.tanh(torch.sigmoid(x)),
    "residual": lambda x: x + F.gelu(x),
    "silu of softplus": lambda x: (lambda h: h * torch.sigmoid(h))(F.softplus(x, beta=2)),
    "logsigmoid": F.logsigmoid,
    "3 gelu(2 x) - 1": lambda x: 3 * F.gelu(2 * x) - 1,
    "1 - tanh": lambda x: 1 - torch.tanh(x),
    "relu as x (x > 0)": lambda x: x * (x > 0),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_recognised(name):
    torch.manual_seed(0)
    graph = merged(Net(ACTIVATIONS[name]), (4,))
    assert len(list(graph.activations())) >= 1


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("x sigmoid(x)", "silu"),
        ("erf gelu, float32 constant", "gelu"),
        ("softplus as where", "softplus"),
        ("mish spelled out", "mish"),
        ("silu of softplus", "silu"),
    ],
)
def test_a_spelled_out_activation_is_one_node_named_after_it(name, function):
    graph = merged(Net(ACTIVATIONS[name]), (4,))
    last = list(graph.activations())[-1]
    assert last.function.name == function


KINKED = {
    "relu": F.relu,
    "abs": torch.abs,
    "leaky_relu(slope=0.2)": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu(slope=0.25)": nn.PReLU(),
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "hardtanh(upper=0.5)": lambda x: x.clamp(-1, 0.5),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
}
HINGES = {
    "clamp from below": lambda x: x.clamp(min=-1.5),
    "clamp from above": lambda x: x.clamp_max(0.25),
    "clamp to negative": lambda x: x.clamp(max=0.0),
    "maximum with a number": lambda x: torch.maximum(x, torch.tensor(0.5)),
    "minimum with a number": lambda x: torch.minimum(2 * x, torch.tensor(0.5)),
    "a multiple": lambda x: 1 - F.relu(3 * x + 1),
    "x + |x|": lambda x: x + x.abs(),
}


@pytest.mark.parametrize("name", KINKED)
def test_activations_without_a_second_derivative_are_nodes_like_others(name):
    graph = merged(Net(KINKED[name]), (4,))
    assert [str(node.function) for node in graph.activations()] == [name]


@pytest.mark.parametrize("name", HINGES)
def test_a_bound_from_one_side_is_one_activation(name):
    """A clip where x stays x, a ReLU of an affine part where it does not."""
    graph = merged(Net(HINGES[name]), (4,))
    (activation,) = graph.activations()
    assert activation.function.name in ("relu", "clamp_min", "clamp_max")


def test_the_text_of_a_sequential():
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3), nn.LogSoftmax(1)
    )
    translation = from_torch(model, (2, 3), BUILTIN)
    assert to_text(translation.graph) == lines("""
        input input : 2×3
        affine 0 : 6 = reshape(6) · input
        affine 1 : 4 = dense[1.weight] · 0 + 1.bias
        activation 2 : 4 = tanh(1)
        affine 3 : 3 = dense[3.weight] · 2 + 3.bias
        opaque 4 : 3 = log_softmax(3)
        output 4
    """)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.1, 0.2]).reshape(2, 1))
        self.fc1 = nn.Linear(6, 4)
        self.norm = nn.BatchNorm1d(4)
        self.norm.running_mean.uniform_()
        self.norm.running_var.uniform_(0.5, 2.0)
        self.fc2 = nn.Linear(4, 4)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 3, bias=False)

    def forward(self, x):
        x = ((x - self.mean) / 0.25).flatten(1)
        h = torch.tanh(self.norm(self.fc1(x)))
        h = self.drop(h + F.silu(self.fc2(h)))
        return self.head(h).softmax(-1)


def test_the_text_of_a_residual_network_with_normalisation():
    graph = merged(Named(), (2, 3))
    scaled = "scale[norm.weight] · scale[1/√(norm.running_var + 1e-05)] · "
    first = f"{scaled}dense[fc1.weight] · reshape(6) · scale[div.factor]"
    bias = f"- {first} · mean + {scaled}fc1.bias - {scaled}norm.running_mean + norm.bias"
    assert to_text(graph) == lines(f"""
        input x : 2×3
        affine fc1 : 4 = {first} · x {bias}
        activation tanh : 4 = tanh(fc1)
        affine fc2 : 4 = dense[fc2.weight] · tanh + fc2.bias
        activation silu : 4 = silu(fc2)
        affine head : 3 = dense[head.weight] · tanh + dense[head.weight] · silu
        output head
    """)


def test_parameters_keep_their_names_and_who_may_train_them():
    model = Named()
    graph = from_torch(model, (2, 3), BUILTIN).graph
    names = {p.name: p for p in graph.parameters()}
    for name, value in model.named_parameters():
        assert names[name].trainable
        assert torch.equal(names[name].value, value)
        assert names[name].value.data_ptr() != value.data_ptr()
    assert not names["mean"].trainable
    assert not names["norm.running_var"].trainable


def test_division_by_what_has_no_exact_reciprocal_stays_a_division():
    graph = from_torch(Net(lambda x: torch.tanh(x) / 255), (4,), BUILTIN).graph
    assert "scale[1/div.divisor]" in to_text(graph)


def test_the_model_is_left_as_it_was():
    model = Named().train()
    model.drop.eval()
    before = copy.deepcopy(model.state_dict())
    modes = [m.training for m in model.modules()]
    state = torch.get_rng_state()
    validate(from_torch(model, (2, 3), BUILTIN))
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.W1 = nn.Parameter(torch.randn(5, 4))
        self.b1 = nn.Parameter(torch.randn(5))
        self.W2 = nn.Parameter(torch.randn(3, 5))

    def forward(self, x):
        h = torch.sigmoid(x @ self.W1.t() + self.b1)
        return (self.W2 @ h.t()).t()


def test_matrix_products_on_either_side():
    graph = merged(Functional(), (4,))
    dense = [term.map for node in graph.affine() for term in node.terms]
    assert [str(linear) for linear in dense] == ["dense[W1]", "dense[W2]"]


def test_addmm_with_factors():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(3))

        def forward(self, x):
            return torch.addmm(self.b, x, self.w, beta=0.5, alpha=2.0)

    translation = from_torch(Model(), (4,), BUILTIN)
    validate(translation)
    assert list(translation.derived.values()) == [("b",)]


@pytest.mark.parametrize("shape", [(2, 3, 3), (4, 1, 1)])
def test_a_convolution_that_covers_its_input_is_dense(shape):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(shape[0], 5, shape[1:])
            self.last = nn.Conv2d(5, 3, 1, bias=False)

        def forward(self, x):
            return self.last(torch.tanh(self.conv(x))).flatten(1)

    model = Model()
    graph = merged(model, shape)
    maps = [part for p in graph.affine() for t in p.terms for part in t.map.maps]
    dense = [part for part in maps if isinstance(part, Dense)]
    assert [d.weight.shape for d in dense] == [model.conv.weight.shape, model.last.weight.shape]


def test_shapes_and_axes():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(12, 3)

        def forward(self, x):
            x = x.permute(0, 2, 1).unsqueeze(1).transpose(2, 3).squeeze(1).contiguous()
            x = x.reshape(x.shape[0], 2, 6).view(x.size(0), -1).to(torch.float32)
            return self.fc(torch.tanh(x).detach().clone())

    merged(Model(), (3, 4))


def test_constants_go_to_the_device_and_the_type_of_the_input():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.register_buffer("mean", torch.full((4,), 0.1, dtype=torch.float64))

        def forward(self, x):
            return self.fc(torch.tanh(x.to(self.fc.weight) - self.mean.to(x)).to(x.device))

    merged(Model(), (4,))


def test_a_layer_on_one_vector_for_each_input():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(x.unsqueeze(1)).squeeze(1) - self.fc(torch.tanh(x))

    graph = merged(Model(), (4,))
    assert len(graph.parameters()) == 3  # weight, bias and the −1 of the difference


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_precisions(dtype):
    torch.manual_seed(0)
    model = Net(torch.tanh).to(dtype)
    translation = from_torch(model, (4,), BUILTIN)
    validate(translation)
    wanted = torch.float64 if dtype == torch.float64 else torch.float32
    assert {p.value.dtype for p in translation.graph.parameters()} == {wanted}
    assert translation.dtype == dtype


def test_tied_weights_are_one_parameter():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
            self.b.weight = self.a.weight

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)))

    names = [p.name for p in from_torch(Model(), (3,), BUILTIN).graph.parameters()]
    assert names == ["a.weight", "a.bias", "b.bias"]


def test_exported_programs_and_traced_modules():
    model = Net(torch.tanh).eval()
    dynamic = {"x": {0: torch.export.Dim("batch")}}
    for program in (
        export(model, (torch.zeros(2, 4),), dynamic_shapes=dynamic),
        export(model, (torch.zeros(2, 4),)),
        export(model, (torch.zeros(1, 4),)),
        fx.symbolic_trace(model),
    ):
        translation = from_torch(program, (4,), BUILTIN)
        validate(translation)
        x = torch.randn(5, 4)
        assert torch.allclose(translation.source(x), model(x), atol=1e-6)


def test_a_model_fixed_to_one_input_at_a_time():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(torch.tanh(x).reshape(1, 4))

    model = Model()
    translation = from_torch(model, (2, 2), BUILTIN)
    validate(translation)
    x = torch.randn(3, 2, 2)
    graph = translation.graph
    expected = torch.cat([model(piece) for piece in x.split(1)])
    assert torch.allclose(evaluate(graph, x)[graph.output], expected, atol=1e-6)


def test_the_gradient_reaches_the_live_parameters_by_name():
    model = Named().eval()
    graph = merged(model, (2, 3))
    live = dict(model.named_parameters())
    x = torch.randn(4, 2, 3)
    logits = evaluate(graph, x, lambda p: live.get(p.name, stored_as(x.dtype)(p)))[graph.output]
    logits.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


class Uses(nn.Module):
    def __init__(self, function, outputs=4):
        super().__init__()
        self.fc = nn.Linear(4, 4)
        self.function = function
        self.head = nn.Linear(outputs, 3)

    def forward(self, x):
        return self.head(self.function(torch.tanh(self.fc(x))))


OPAQUE = {
    "relu-like square": (lambda x: x**2, 4),
    "product": (lambda x: x * x.flip(1), 4),
    "sorted": (lambda x: x.sort(1)[0], 4),
    "places of maxima": (
        lambda x: F.max_pool1d_with_indices(x.unsqueeze(1), 2)[1].squeeze(1).float(),
        2,
    ),
    "softmax inside": (lambda x: x.softmax(1), 4),
    "layer norm": (nn.LayerNorm(4), 4),
    "dropout": (lambda x: F.dropout(x, 0.0, training=True), 4),
    "floor": (lambda x: torch.div(x, 0.3, rounding_mode="floor"), 4),
    "cast": (lambda x: x.mul(3).to(torch.int64).to(torch.float32), 4),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_what_is_not_understood_is_opaque_and_still_runs(name):
    torch.manual_seed(0)
    function, outputs = OPAQUE[name]
    translation = from_torch(Uses(function, outputs), (4,), BUILTIN)
    graph = translation.graph
    x = torch.randn(5, 4)
    found = evaluate(graph, x, stored_as(x.dtype))[graph.output]
    assert torch.allclose(found, translation.source(x), atol=1e-5)
    if name not in ("dropout",):
        assert any(isinstance(node, Opaque) for node in graph.nodes)


def test_all_opaque_operators_are_listed_at_once():
    def function(x):
        return x.softmax(1).sort(1)[0]

    line = Uses.forward.__code__.co_firstlineno + 1
    graph = from_torch(Uses(function), (4,), BUILTIN).graph
    with pytest.raises(UnsupportedError) as error:
        refuse_opaque(graph)
    assert str(error.value) == lines(f"""
        2 operators are not supported:
        node 'softmax' (softmax) at test_fx.py:{line}: a softmax is no elementwise function
        node 'sort' (aten.sort.default) at test_fx.py:{line}: vercomp has no rule for this operator
        Only affine operators and elementwise activations can be analysed
    """).replace("\nnode", "\n  node")


def test_one_opaque_operator_is_the_subject_of_the_message():
    graph = from_torch(Uses(lambda x: x.exp()), (4,), BUILTIN).graph
    with pytest.raises(UnsupportedError, match=r"^node 'exp' \(aten.exp.default\) at test_fx.py:"):
        refuse_opaque(graph)


def refusal(model, shape, kind):
    with pytest.raises(kind) as error:
        from_torch(model, shape, BUILTIN)
    return str(error.value)


def test_weights_that_are_not_finite():
    model = Net(torch.tanh)
    with torch.no_grad():
        model.fc1.weight[0, :2] = float("nan")
        model.fc1.weight[1, 0] = float("inf")
    assert refusal(model, (4,), WeightError) == (
        "node 'fc1.weight' at Net: 3 of its 20 values are NaN or infinite. "
        "Train again or repair the weights"
    )


def test_the_wrong_input_shape():
    assert refusal(Net(torch.tanh), (7,), UsageError) == (
        f"node 'Net' at test_fx.py:{Net.forward.__code__.co_firstlineno + 1}: the model does not "
        "run on inputs of shape (batch, 7): RuntimeError: mat1 and mat2 shapes cannot be "
        "multiplied (3x7 and 4x5). Give the shape of one input, without the batch, as input_shape"
    )
    assert refusal(Net(torch.tanh), None, UsageError) == (
        "an nn.Module needs input_shape, the shape of one input without the batch"
    )


def test_control_flow_that_depends_on_data(capfd):
    class Branch(Net):
        def forward(self, x):
            return self.fc2(self.fc1(x)) if x.sum() > 0 else self.fc2(-self.fc1(x))

    message = refusal(Branch(None), (4,), UnsupportedError)
    line = Branch.forward.__code__.co_firstlineno + 1
    assert message.startswith(f"node 'Branch' at test_fx.py:{line}: torch.export cannot trace")
    assert message.endswith("Control flow must not depend on the values of tensors")
    assert capfd.readouterr() == ("", "")  # torch's own pages about it are left out


def test_what_is_no_model():
    remedy = "Give an nn.Module, an ExportedProgram or the path of an ONNX file"
    assert refusal(None, (4,), UsageError) == f"a NoneType is no model. {remedy}"
    assert refusal({"fc.weight": 0}, (4,), UsageError) == f"a dict is no model. {remedy}"
    assert refusal(Net, (4,), UsageError) == "Net is a class, not a model. Give an instance"


def test_torchscript():
    assert refusal(torch.jit.ScriptModule(), (4,), UnsupportedError) == (
        "node 'ScriptModule': TorchScript cannot be traced by torch.export. Give the "
        "module that it was made of"
    )


def test_several_inputs_and_outputs():
    class Two(nn.Module):
        def forward(self, a, b):
            return a + b

    class Both(Net):
        def forward(self, x):
            return self.fc1(x), self.fc1(x)

    assert refusal(Two(), (4,), UnsupportedError) == (
        "node 'Two': the model takes 2 inputs (a, b). Wrap it in a module that takes one"
    )
    assert refusal(Both(None), (4,), UnsupportedError) == (
        "node 'Both': the model returns a tuple with the outputs 0, 1, not one tensor of logits. "
        "Name one of them, as in output=0"
    )


def test_outputs_that_are_not_logits():
    class Images(Net):
        def forward(self, x):
            return self.fc1(x).reshape(-1, 1, 5)

    line = Images.forward.__code__.co_firstlineno + 1
    assert refusal(Images(None), (4,), UnsupportedError) == (
        f"node 'reshape' (aten.reshape.default) at test_fx.py:{line}: the output has shape "
        "(batch, 1, 5). A classifier gives one logit for each class: (batch, classes)"
    )


def test_the_batch_must_stay_apart():
    class Mixed(Net):
        def forward(self, x):
            return self.fc2(self.fc1(x)).reshape(-1, 1)

    message = refusal(Mixed(None), (4,), UsageError)
    assert "the first dimension of its result is not the batch" in message


def test_dynamic_dimensions_other_than_the_batch():
    class Sum(nn.Module):
        def forward(self, x):
            return torch.tanh(x).sum(1, keepdim=True)

    dims = {"x": {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}}
    program = export(Sum(), (torch.zeros(2, 4),), dynamic_shapes=dims)
    assert refusal(program, None, UnsupportedError) == (
        "node 'ExportedProgram': dimension 1 of its input is dynamic. "
        "Only the batch (dimension 0) may be: export it with fixed sizes"
    )


def test_meta_parameters_have_no_values():
    model = Net(torch.tanh).to("meta")
    assert refusal(model, (4,), UnsupportedError) == (
        "node 'Net': its parameters are on the meta device and have no values. "
        "Load the weights first"
    )


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_depths(depth):
    torch.manual_seed(depth)
    layers: list[nn.Module] = []
    for _ in range(depth):
        layers += [nn.Linear(4, 4), nn.Softplus()]
    graph = merged(nn.Sequential(*layers, nn.Linear(4, 2)), (4,))
    assert sum(isinstance(node, Affine) for node in graph.nodes) == depth + 1


class Free(nn.Module):
    """A layer, a head and any forward()."""

    def __init__(self, function, **modules):
        super().__init__()
        self.fc, self.head, self.function = nn.Linear(4, 4), nn.Linear(4, 3), function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.function(self, x)


def in_place(net, x):
    x -= 0.5
    h = net.fc(x)
    h += x
    return net.head(h.tanh_())


def without_gradients(net, x):
    with torch.no_grad():
        x = x * 2
    return net.head(torch.tanh(net.fc(x)))


def weight_norm(net, x):
    return net.head(torch.tanh(net.normed(x)))


@pytest.mark.parametrize("function", [in_place, without_gradients, weight_norm])
def test_forward_in_other_styles(function):
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    translation = from_torch(Free(function, normed=normed), (4,), BUILTIN)
    refuse_opaque(translation.graph)
    x = torch.rand(5, 4)
    kept = x.clone()
    translation.source(x)
    assert torch.equal(x, kept)
    validate(translation)
    names = [f"normed.parametrizations.weight.original{i}" for i in (0, 1)]
    wanted = [tuple(names)] if function is weight_norm else []
    assert list(translation.derived.values()) == wanted


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda net, x: net.head(net.fc(x)) * net.fc.weight.max().item(),
            "node 'item' (aten.item.default) at {}: a number is taken out of a tensor. "
            "Keep it a tensor: no .item() in forward()",
        ),
        (
            lambda net, x: net.head(net.fc(x).view(-1, 4).tanh_()),
            "node 'tanh_' (aten.tanh_.default) at {}: it changes a view of another tensor in "
            "place. Assign its result",
        ),
        (
            lambda net, x: net.head(net.fc(x)) * x.shape[0],
            "node 'mul' (aten.mul.Tensor) at {}: its operand 'other' depends on the batch size",
        ),
    ],
)
def test_forward_in_styles_that_are_refused(function, message):
    line = Free.forward.__code__.co_firstlineno + 1
    place = f"test_fx.py:{line}"
    assert refusal(Free(function), (4,), UnsupportedError) == message.format(place)


def test_trainable_scalars_stay_parameters():
    class Temperature(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.tanh(x)) * self.scale

    graph = merged(Temperature(), (4,))
    assert "scale[scale] · dense[fc.weight]" in to_text(graph)


@pytest.mark.parametrize(
    "name",
    ["constant times alpha", "reversed difference times alpha", "weight times a float64 scalar"],
)
def test_scaled_sums_are_the_source(name):
    bodies = {
        "constant times alpha": lambda net, x: torch.add(net.fc1(x), net.fc2.bias[0], alpha=-3),
        "reversed difference times alpha": lambda net, x: torch.rsub(net.fc1(x), 2, alpha=3),
        "weight times a float64 scalar": lambda net, x: F.linear(
            x, net.fc1.weight / torch.dot(net.fc1.bias.double(), net.fc1.bias.double()).float()
        ),
    }

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc2(torch.tanh(bodies[name](self, x)))

    torch.manual_seed(0)
    validate(from_torch(Scaled(), (3,), BUILTIN))


@pytest.mark.parametrize("test", ["window", "of the input"])
def test_truth_values_are_refused_by_name(test):
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            h = self.fc1(x)
            if test == "window":
                return self.fc2(torch.where((h > 1) & (h < 2), -torch.tanh(h), torch.tanh(h)))
            return self.fc2(torch.tanh(h) * torch.where(x > 50, -1.0, 1.0))

    torch.manual_seed(0)
    with pytest.raises(UnsupportedError, match="Only affine operators and elementwise"):
        vercomp.compile(Conditional(), input_shape=(3,))
