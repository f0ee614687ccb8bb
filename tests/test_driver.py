"""From a model to a package and back: what can be asked for, and what is refused."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import random_case
from torch import nn

import vercomp
from vercomp.errors import (
    ModelFileError,
    UnsupportedError,
    UsageError,
    WeightError,
)
from vercomp.features import FEATURES


def small(activation: nn.Module | None = None, classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), activation or nn.Tanh(), nn.Linear(6, classes))


def test_public_face() -> None:
    case = random_case(3)
    net = vercomp.compile(case.module, input_shape=tuple(case.x.shape[1:]))
    certificates = net.certify(case.x, case.y)
    attacks = net.attack(case.x, case.y, radius=0.5)
    lo, hi = net.curvature()
    t = (case.y + 1) % net.network.classes
    hessians = net.hessian(case.x, case.y, t)
    assert certificates.radius.shape == attacks.margin.shape == (4,)
    assert lo.shape == hi.shape == (net.network.classes,) * 2
    assert hessians.shape == (4, case.x.shape[1], case.x.shape[1])


def test_regularizer_follows_live_parameters() -> None:
    model = small()
    reg = vercomp.regularizer(model, input_shape=(4,))
    y, t = torch.tensor([0, 1]), torch.tensor([1, 2])
    before = reg(y, t)
    before.backward()
    assert model[0].weight.grad is not None
    assert model[0].weight.grad.norm() > 0
    assert not list(reg.parameters())
    with torch.no_grad():
        model[0].weight.mul_(2.0)
    for _ in range(30):
        after = reg(y, t)
    # κ is quadratic in the first layer's weights.
    assert after.item() == pytest.approx(4.0 * before.item(), rel=1e-2)
    lo, _ = vercomp.compile(model, input_shape=(4,)).curvature()
    assert after.item() == pytest.approx(-lo[y, t].mean().item(), rel=1e-3)


def test_penalty_shrinks_the_certified_bound() -> None:
    model = small()
    reg = vercomp.regularizer(model, input_shape=(4,))
    lo_before, _ = vercomp.compile(model, input_shape=(4,)).curvature()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(30):
        optimizer.zero_grad()
        reg().backward()
        optimizer.step()
    lo_after, _ = vercomp.compile(model, input_shape=(4,)).curvature()
    assert lo_after.abs().sum() < 0.5 * lo_before.abs().sum()


def test_normalisation_in_front_changes_the_units() -> None:
    model = small()
    x = torch.rand(5, 4)
    mean, std = 0.25, 0.5
    inner = vercomp.compile(model, input_shape=(4,))
    outer = vercomp.compile(model, input_shape=(4,), mean=mean, std=std)
    torch.testing.assert_close(outer.network(x), model((x - mean) / std))
    y = model((x - mean) / std).argmax(1)
    inside = inner.certify((x - mean) / std, y).radius
    torch.testing.assert_close(
        outer.certify(x, y).radius.double(), std * inside.double(), rtol=1e-3, atol=1e-9
    )


def test_package_round_trip(tmp_path: Path) -> None:
    case = random_case(5)
    net = vercomp.compile(case.module, input_shape=tuple(case.x.shape[1:]), name="my net")
    net.save(tmp_path / "package")
    opened = vercomp.load_package(tmp_path / "package")
    assert opened.name == "my_net"
    assert opened.network.bounds().fingerprint == net.network.bounds().fingerprint
    assert torch.equal(opened.curvature()[0], net.curvature()[0])
    torch.testing.assert_close(
        opened.certify(case.x, case.y).radius, net.certify(case.x, case.y).radius
    )
    assert opened.analysis().layers == net.analysis().layers


ALONE = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

BLOCKED = {"vercomp", "passes", "numpy", "onnx", "onnxruntime", "sklearn", "matplotlib", "rich",
           "click", "scipy"}
sys.meta_path.insert(0, Block())
import warnings
warnings.simplefilter("ignore")
import torch
from package import attack, certify, hessian, hessian_vector_product, load, regularizer

net = load()
x = torch.linspace(-1, 1, 4).reshape(1, 4)
y = net(x).argmax(1)
print(float(certify(x, y).radius), bool(attack(x, y, 0.1).margin > 0))
t = (y + 1) % 3
H = hessian(x, y, t)
assert torch.allclose(hessian_vector_product(x, y, t, x), (H @ x[:, :, None])[:, :, 0], atol=1e-6)
before = net.curvature()[0].abs().sum()
with torch.no_grad():
    next(net.parameters()).data.mul_(2.0)
assert net.curvature()[0].abs().sum() > 3 * before, "stale bounds"
regularizer(net)().backward()
"""


def test_package_needs_torch_and_safetensors_only(tmp_path: Path) -> None:
    net = vercomp.compile(small(), input_shape=(4,))
    net.save(tmp_path / "package")
    result = subprocess.run(
        [sys.executable, "-c", ALONE], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    x = torch.linspace(-1, 1, 4).reshape(1, 4)
    expected = net.certify(x, net.network(x).argmax(1)).radius
    assert float(result.stdout.split()[0]) == pytest.approx(float(expected), rel=1e-6)


BYTES = """
import hashlib, torch, vercomp
from torch import nn
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
files = vercomp.compile(model, input_shape=(4,)).files
print({path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())})
"""


def test_same_model_same_bytes_in_fresh_processes(tmp_path: Path) -> None:
    outputs = []
    for seed in ("1", "2"):
        folder = tmp_path / seed
        folder.mkdir()
        result = subprocess.run(
            [sys.executable, "-c", BYTES],
            cwd=folder,
            env={**__import__("os").environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        outputs.append(result.stdout)
    assert outputs[0] == outputs[1]
    assert "net.safetensors" in outputs[0]


def test_features() -> None:
    net = vercomp.compile(small(), input_shape=(4,), emit=("hessian", "certify"))
    assert net.manifest["emit"] == ["certify", "hessian"]
    assert "core/methods/attack.py" not in net.files
    with pytest.raises(UsageError) as caught:
        net.attack(torch.zeros(1, 4), torch.zeros(1, dtype=torch.long), 0.1)
    assert str(caught.value) == (
        "this package was compiled without 'attack'. Compile it again with attack in emit"
    )
    with pytest.raises(UsageError) as caught:
        vercomp.compile(small(), input_shape=(4,), emit=("certify", "prove"))
    assert str(caught.value) == (
        "cannot emit 'prove'. Choose from certify, attack, hessian, regularizer, crown"
    )
    one = vercomp.compile(small(), input_shape=(4,), emit="certify")
    assert one.manifest["emit"] == ["certify"]


@pytest.mark.parametrize("shape", [4, (), (3.0,), "4", (0,), (4, -1)])
def test_what_is_no_shape(shape: object) -> None:
    with pytest.raises(UsageError) as caught:
        vercomp.compile(small(), input_shape=shape)  # type: ignore[arg-type]
    assert str(caught.value) == (
        f"{shape!r} is no shape of an input. "
        "Pass whole numbers, as in input_shape=(1, 28, 28), without the batch dimension"
    )


def test_shape_is_needed() -> None:
    with pytest.raises(UsageError) as caught:
        vercomp.compile(small())
    assert str(caught.value) == (
        "a torch model needs the shape of one input. "
        "Pass input_shape=(1, 28, 28), without the batch dimension"
    )


def test_unknown_target() -> None:
    with pytest.raises(UsageError) as caught:
        vercomp.compile(small(), input_shape=(4,), target="verilog")
    assert str(caught.value) == "no target 'verilog'. Known: torch"


def test_relu_networks_are_certified_without_curvature() -> None:
    net = vercomp.compile(small(nn.ReLU()), input_shape=(4,))
    others = ["coap", "coap-projected", "lipschitz", "alpha", "quadratic"]
    assert net.manifest["methods"] == ["interval", "crown", *others]
    assert net.manifest["emit"] == ["certify", "attack", "crown"]
    assert net.manifest["bounds"] is None
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    found = net.certify(x, net.network(x).argmax(1), norm="linf")
    assert (found.radius > 0).any()
    assert set(found.method) <= {"interval", "crown"}
    with pytest.raises(vercomp.VercompError, match="compiled without 'hessian'"):
        net.hessian(x, net.network(x).argmax(1), net.network(x).argmin(1))
    for question in (net.curvature, net.bounds, net.analysis):
        with pytest.raises(UnsupportedError, match="has no second derivative"):
            question()


def test_second_derivatives_of_a_relu_are_refused_by_name() -> None:
    with pytest.raises(UnsupportedError) as caught:
        vercomp.compile(small(nn.ReLU()), input_shape=(4,), emit=("certify", "hessian"))
    assert str(caught.value) == (
        "node '1' (relu): hessian needs second derivatives: the first derivative of relu jumps at "
        "x = 0, so curvature does not exist there. Leave them out: this network can have certify, "
        "attack, crown"
    )


def test_one_output_is_bounded_and_not_classified() -> None:
    model = small(classes=1)
    net = vercomp.compile(model, input_shape=(4,))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    lower = net.bound(vercomp.Ball(x, 0.1, "l2"), torch.ones(1, 1))
    assert (lower[:, 0] < model(x).double()[:, 0]).all()
    assert (lower[:, 0] > model(x).double()[:, 0] - 2.0).all()
    with pytest.raises(
        vercomp.VercompError, match=r"no class to change to. Ask for Threshold\(T\)"
    ):
        net.certify(x, torch.zeros(3, dtype=torch.long))
    assert net.manifest["emit"] == list(FEATURES)


def test_one_output_counts_as_two_classes_of_which_one_is_zero() -> None:
    """Curvature, attack, Hessian and regulariser are those of z."""
    model = small(classes=1)
    net = vercomp.compile(model, input_shape=(4,))
    x = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    y = (model(x)[:, 0] > 0).long()
    hessians = net.hessian(x)
    for point, found in zip(x, hessians, strict=True):
        exact = torch.autograd.functional.hessian(lambda p: model(p[None])[0, 0], point)
        torch.testing.assert_close(found, exact)
    torch.testing.assert_close(
        net.hessian(x, torch.zeros(3).long(), torch.ones(3).long()), -hessians
    )
    v = torch.randn(3, 4, generator=torch.Generator().manual_seed(1))
    product = net.hessian_vector_product(x, None, None, v)
    torch.testing.assert_close(product, (hessians @ v[..., None])[..., 0])
    low, high = net.curvature()
    eigenvalues = torch.linalg.eigvalsh(hessians.double())
    assert low.shape == (2, 2)
    assert bool((low[1, 0] <= eigenvalues.min()) & (eigenvalues.max() <= high[1, 0]))
    attacks = net.attack(x, y, 0.2)
    assert (attacks.margin >= attacks.lower_bound).all()
    signed = torch.where(y == 1, 1.0, -1.0)
    there = signed * model(attacks.point.float())[:, 0]
    torch.testing.assert_close(there.double(), attacks.margin, rtol=1e-4, atol=1e-5)
    sides = net.certify(x, vercomp.Threshold(0.0)).radius
    assert torch.equal(sides > 0.2, attacks.lower_bound > 0)
    penalty = vercomp.regularizer(model, input_shape=(4,))
    penalty().backward()
    assert all(parameter.grad is not None for parameter in [model[0].weight, model[2].weight])
    torch.testing.assert_close(penalty.pairs()[1, 0].double(), -low[1, 0], rtol=1e-2, atol=0.0)
    with pytest.raises(vercomp.VercompError, match="Pass labels y and targets t"):
        vercomp.compile(small(), input_shape=(4,)).hessian(x)


class Numbers(nn.Module):
    """Nodes without axes: one number for each input."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 4)
        self.direction = nn.Parameter(torch.randn(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = torch.tanh(self.fc(x))
        return torch.stack([h @ self.direction, torch.tanh(h.sum(1))], 1)


def test_nodes_may_be_one_number() -> None:
    torch.manual_seed(0)
    model = Numbers()
    net = vercomp.compile(model, input_shape=(3,))
    x = torch.randn(5, 3)
    assert torch.allclose(net.network(x), model(x), atol=1e-6)
    assert (net.certify(x, model(x).argmax(1)).radius > 0).all()


def test_features_that_one_output_lacks_are_refused_for_its_activation_alone() -> None:
    with pytest.raises(UnsupportedError) as caught:
        vercomp.compile(small(nn.ReLU(), classes=1), input_shape=(4,), emit=("attack", "hessian"))
    assert str(caught.value) == (
        "node '1' (relu): hessian needs second derivatives: the first derivative of relu jumps at "
        "x = 0, so curvature does not exist there. Leave them out: this network can have certify, "
        "attack, crown"
    )


def test_bad_weights_are_refused() -> None:
    model = small()
    with torch.no_grad():
        model[2].weight[1, 3] = float("nan")
    with pytest.raises(WeightError, match=r"2\.weight"):
        vercomp.compile(model, input_shape=(4,))


def test_affine_network_has_no_curvature() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    net = vercomp.compile(model, input_shape=(3,))
    assert net.curvature()[0].abs().max() == 0
    x = torch.randn(6, 3)
    y = model(x).argmax(1)
    certificates = net.certify(x, y)
    weight = model[1].weight.double() @ model[0].weight.double()
    normal = weight[0] - weight[1]
    logits = model.double()(x.double())
    distance = (logits[:, 0] - logits[:, 1]).abs() / normal.norm()
    torch.testing.assert_close(certificates.radius.double(), distance, rtol=1e-6, atol=0)
    assert (certificates.radius.double() <= distance * (1 + 1e-12)).all()
    assert certificates.exact.all()


def test_a_network_that_returns_its_input_is_certified_to_the_tie() -> None:
    """The margin x_y − x_t falls by √2 per unit of distance, and no faster."""
    compiled = vercomp.compile(nn.Identity(), input_shape=(3,))
    x, y = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.5, 4.0]]), torch.tensor([0, 2])
    assert torch.equal(compiled.network(x), x)
    lipschitz = compiled.network.lipschitz()
    assert torch.allclose(lipschitz, 2.0**0.5 * (1.0 - torch.eye(3, dtype=torch.float64)))
    radius = compiled.certify(x, y).radius
    distance = torch.tensor([2.0, 3.5], dtype=torch.float64) / 2.0**0.5
    assert torch.allclose(radius, distance)
    assert (radius <= distance).all()


def test_bounds_of_changed_code_or_edited_bounds_are_not_believed(tmp_path: Path) -> None:
    net = vercomp.compile(small(nn.Softplus()), input_shape=(4,))
    honest = net.network.bounds()
    folder = net.save(tmp_path / "package")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["bounds"]["curvature"] = torch.zeros(3, 3).tolist()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    again = vercomp.load_package(folder).network.bounds()
    assert torch.equal(again.curvature, honest.curvature)

    folder = net.save(tmp_path / "edited")
    source = (folder / "net.py").read_text()
    steeper = source.replace("second_range=(0.0, 0.25)", "second_range=(0.0, 25.0)")
    assert steeper != source
    (folder / "net.py").write_text(steeper)
    again = vercomp.load_package(folder).network.bounds()
    torch.testing.assert_close(again.curvature, 100.0 * honest.curvature, rtol=1e-6, atol=0)


def test_an_exported_program_says_its_own_shape() -> None:
    program = torch.export.export(small(), (torch.zeros(2, 4),))
    assert vercomp.compile(program).network.input_shape == (4,)


def test_opening_what_is_not_a_package(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="not a compiled package"):
        vercomp.load_package(tmp_path)
    with pytest.raises(ModelFileError, match="no such folder"):
        vercomp.load_package(tmp_path / "nowhere")
    net = vercomp.compile(small(), input_shape=(4,))
    net.save(tmp_path / "package")
    manifest = tmp_path / "package" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(ModelFileError, match="format 99"):
        vercomp.load_package(tmp_path / "package")


def test_everything_in_the_way_is_refused_at_once() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a = torch.relu(self.first(x))
            return self.last(a * a.softmax(1) + torch.tanh(a) * x)

    with pytest.raises(UnsupportedError) as refusal:
        vercomp.compile(Attention(), input_shape=(4,))
    first, *lines, last = str(refusal.value).splitlines()
    assert first.endswith("operators are not supported:")
    assert int(first.split()[0]) == len(lines)
    assert not any("(relu)" in line for line in lines)
    assert any("(softmax)" in line for line in lines)
    assert not any("tanh)" in line for line in lines)
    assert last == "Only affine operators and elementwise activations can be analysed"


def test_every_activation_without_curvature_is_named_at_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    with pytest.raises(UnsupportedError, match="hessian needs second derivatives: 2 ") as refusal:
        vercomp.compile(model, input_shape=(4,), emit="hessian")
    assert str(refusal.value).count("(relu)") == 2


@pytest.mark.parametrize("activation", [nn.Softplus(), nn.ReLU()])
def test_copies_and_pickles_certify_alike(activation: nn.Module) -> None:
    net = vercomp.compile(small(activation), input_shape=(4,))
    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    y = net.network(x).argmax(1)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):  # noqa: S301
        assert other.files == net.files
        assert torch.equal(other.certify(x, y).radius, net.certify(x, y).radius)
        with torch.no_grad():
            next(other.network.parameters()).mul_(2.0)
        assert not torch.equal(other.network(x), net.network(x))
