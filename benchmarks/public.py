"""Public networks as torch modules, from their files in the folder that VERCOMP_DATA names.

The modules are written down here and filled with the weights of the files, so that whoever reads
torch modules gets the very same network; each one is compared with its ONNX file when it is made.
Inputs are pixels in [0, 1]: what a network expects instead is part of the module.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from .images import CIFAR_SHAPE, data_folder
from .networks import MEAN, STD, normalisation

TOLERANCE = 1e-4
"""Between the logits of a module and those of its ONNX file, relative to the largest."""

Maker = Callable[[], tuple[nn.Module, nn.Module]]
"""The part of a network that its file holds, and all of it: with the normalisation in front."""


class Shortcut(nn.Module):
    """x ↦ relu(W₂ relu(W₁ x) + S x), where S is a convolution or the identity."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride=stride, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        same = channels == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels, out, 1, stride=stride)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + self.shortcut(x))


def resnet_2b() -> tuple[nn.Module, nn.Module]:
    inner = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Shortcut(8, 16, 2),
        Shortcut(16, 16, 1),
        nn.Flatten(),
        nn.Linear(1024, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    return inner, nn.Sequential(normalisation(MEAN, STD), inner)


def convnet_avgpool() -> tuple[nn.Module, nn.Module]:
    inner = nn.Sequential(
        nn.Conv2d(1, 32, 2), nn.ReLU(), nn.AvgPool2d(4), nn.Flatten(), nn.Linear(1152, 10)
    )
    return inner, inner


def colt_mnist() -> tuple[nn.Module, nn.Module]:
    inner = nn.Sequential(
        nn.Conv2d(1, 32, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(32, 64, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    return inner, inner


def cifar_sigmoid() -> tuple[nn.Module, nn.Module]:
    inner = nn.Sequential(
        nn.Conv2d(3, 16, 4, stride=2),
        nn.Sigmoid(),
        nn.Conv2d(16, 32, 4, stride=2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Linear(1152, 100),
        nn.Sigmoid(),
        nn.Linear(100, 10),
    )
    return inner, nn.Sequential(normalisation(MEAN, (0.2023, 0.1994, 0.2010)), inner)


def narrow(activation: Callable[[], nn.Module]) -> Maker:
    """784 → 200 → 100 → 50 → 10; the file's input is 0..255."""

    def make() -> tuple[nn.Module, nn.Module]:
        inner = nn.Sequential(
            nn.Linear(784, 200),
            activation(),
            nn.Linear(200, 100),
            activation(),
            nn.Linear(100, 50),
            activation(),
            nn.Linear(50, 10),
        )
        return inner, inner

    return make


def wong_kolter() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1568, 100),
        nn.ReLU(),
        nn.Linear(100, 10),
    )


MNIST_SHAPE = (1, 28, 28)
ONNX: dict[str, tuple[Maker, tuple[int, ...]]] = {
    "resnet_2b": (resnet_2b, CIFAR_SHAPE),
    "colt_mnist_0.1": (colt_mnist, MNIST_SHAPE),
    "Convnet_avgpool": (convnet_avgpool, MNIST_SHAPE),
    "cifar_conv_small_sigmoid": (cifar_sigmoid, CIFAR_SHAPE),
    "logsig_200_100_50": (narrow(nn.Sigmoid), (784,)),
    "tansig_200_100_50": (narrow(nn.Tanh), (784,)),
}
BYTES = ("logsig_200_100_50", "tansig_200_100_50")
"""Networks whose files take pixels from 0 to 255."""
STATES = ("wongkolter_mnist", "wongkolter_scaled_mnist_small_0_3")
"""State dicts of the same architecture; of a cascade, the first stage."""
NAMES = (*ONNX, *STATES)
SCALED = "wongkolter_scaled_mnist_small_0_3"
"""Three stages, trained for l∞ balls of radius 0.3."""


def scaled(stage: int) -> nn.Module:
    """A stage of that cascade, counted from 0, which says the shape of its inputs."""
    state = torch.load(
        data_folder() / "onnx" / f"{SCALED}.pth", weights_only=True, map_location="cpu"
    )
    network = wong_kolter()
    network.load_state_dict(state["state_dict"][stage])
    network.input_shape = MNIST_SHAPE  # type: ignore[assignment]
    return network.eval()


first, second, third = (partial(scaled, stage) for stage in range(3))
"""What `vercomp cascade benchmarks.public:first …` calls."""


def public(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """The network of a name in ``NAMES``, and the shape of one input.

    Raises:
        SystemExit: The module and its ONNX file disagree.
    """
    folder = data_folder() / "onnx"
    if name in STATES:
        state = torch.load(folder / f"{name}.pth", weights_only=True, map_location="cpu")
        state = state.get("state_dict", state)
        network = wong_kolter()
        network.load_state_dict(state[0] if isinstance(state, list) else state)
        return network.eval(), MNIST_SHAPE
    make, shape = ONNX[name]
    inner, network = make()
    path, scale = folder / f"{name}.onnx", 255.0 if name in BYTES else 1.0
    fill(inner, onnx.load(path).graph, scale)
    check(inner.eval(), path, shape, scale)
    return network.eval(), shape


def fill(module: nn.Module, graph: onnx.GraphProto, scale: float) -> None:
    """Give the layers of a module, in the order of their definition, the weights of an ONNX graph.

    That is the order of its nodes. The file's input is ``scale`` times the module's; the scale, and
    a mean that the graph subtracts first, go into the first layer.
    """
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    mean = 0.0
    for node in graph.node:
        if node.op_type == "Sub":
            mean = held[node.input[1]].astype(np.float64).ravel()
        if node.op_type not in ("Conv", "Gemm"):
            continue
        weight, bias = (held[name].astype(np.float64) for name in node.input[1:])
        if np.any(mean):
            bias = bias - weight.reshape(len(weight), -1) @ mean
        layer = layers.pop(0)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(scale * weight).reshape(layer.weight.shape))
            layer.bias.copy_(torch.tensor(bias))
        mean, scale = 0.0, 1.0
    if layers:
        raise SystemExit(f"the module has {len(layers)} layers more than the file")


def check(module: nn.Module, path: Path, shape: tuple[int, ...], scale: float) -> None:
    """Compare the logits, or what a final softmax makes of them, at a few random points.

    Raises:
        SystemExit: They differ.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: some files hold tensors that nothing uses
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    softmax = onnx.load(path).graph.node[-1].op_type == "Softmax"
    declared = [size if isinstance(size, int) and size > 0 else 1 for size in given.shape]
    generator = np.random.default_rng(0)
    for _ in range(5):
        x = generator.random(shape, dtype=np.float32)
        (theirs,) = session.run(None, {given.name: (scale * x).reshape(declared)})
        with torch.no_grad():
            ours = module(torch.tensor(x)[None])
        ours = (ours.softmax(1) if softmax else ours).numpy()
        if np.abs(ours - theirs).max() > TOLERANCE * max(1.0, np.abs(theirs).max()):
            raise SystemExit(f"{path.name} and its module disagree")
