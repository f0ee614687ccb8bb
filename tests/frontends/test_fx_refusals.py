"""What the PyTorch front end refuses, word for word, all of it at once."""

from __future__ import annotations

from inspect import cleandoc

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from vercomp.activations import BUILTIN
from vercomp.errors import UnsupportedError
from vercomp.frontends.fx import from_torch
from vercomp.frontends.translation import refuse_opaque

# torch.export warns about its own internals
pytestmark = pytest.mark.filterwarnings(
    "default:::torch", "default::DeprecationWarning", "ignore:`isinstance:FutureWarning"
)


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
    "uneven max pool": (
        lambda x: F.adaptive_max_pool1d(x, 4),
        "adaptive_max_pool1d",
        "adaptive_max_pool1d.default",
        "its windows differ in size",
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
    place = f"test_fx_refusals.py:{Middle.forward.__code__.co_firstlineno + 1}"
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
    assert str(error.value) == cleandoc(f"""
        4 operators are not supported:
        node 'softmax' (aten.softmax.int) at test_fx_refusals.py:{line + 1}: a softmax is no elementwise function
        node 'reshape' (aten.reshape.default) at test_fx_refusals.py:{line + 1}: it mixes the batch with another dimension
        node 'sort' (aten.sort.default) at test_fx_refusals.py:{line + 2}: vercomp has no rule for this operator
        node 'softmax_1' (aten.softmax.int) at test_fx_refusals.py:{line + 3}: a softmax is no elementwise function
        Only affine operators and elementwise activations can be analysed
    """).replace("\nnode", "\n  node")  # noqa: E501 - the message
