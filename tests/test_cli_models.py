"""The command line on models of every kind: pictures, text, outputs by name, units by channel."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import vercomp
from vercomp.report.document import is_report

DIGITS = str(Path(__file__).parent.parent / "examples" / "digits" / "digits.onnx")
ONNX = Path(os.environ.get("VERCOMP_DATA", "/nowhere")) / "onnx"
FILE_REMEDY = "Give another file, or remove this one yourself"
MODELS = '''
import torch
from torch import nn
from torch.nn import functional as F


class Colours(nn.Module):
    """A residual convolution on 3×6×6, with a batch norm, three classes."""

    input_shape = (3, 6, 6)

    def __init__(self, activation=torch.tanh):
        super().__init__()
        self.activation = activation
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        h = self.activation(self.bn(self.conv1(x)))
        return self.head(self.activation(h + self.conv2(h)).mean((2, 3)))


class Two(nn.Module):
    """Two results, under names or side by side."""

    input_shape = (4,)

    def __init__(self, named):
        super().__init__()
        self.named = named
        self.body, self.head, self.other = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 2)

    def forward(self, x):
        h = torch.tanh(self.body(x))
        found = self.head(h), self.other(h)
        return dict(zip(("logits", "other"), found)) if self.named else found


def made(build):
    torch.manual_seed(0)
    return build().eval()


def colours():
    return made(Colours)


def relu():
    return made(lambda: Colours(torch.relu))


def probabilities():
    net = made(lambda: nn.Sequential(Colours(), nn.Softmax(1)))
    net.input_shape = (3, 6, 6)
    return net


def one_output():
    net = made(lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 1)))
    net.input_shape = (4,)
    return net


def attention():
    class Attention(Colours):
        def forward(self, x):
            h = torch.tanh(self.conv1(x)).flatten(2)
            h = F.softmax(h @ h.transpose(1, 2), -1) @ h
            return self.head(h.mean(2))

    return made(Attention)


def controller():
    model = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    model.input_shape = (3,)
    return made(lambda: model)


def named():
    return made(lambda: Two(True))


def pair():
    return made(lambda: Two(False))
'''
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command, in a folder that holds the models above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "cli_models", raising=False)
    (tmp_path / "cli_models.py").write_text(MODELS)
    return run


# ── analyze --html ───────────────────────────────────────────────────────────────────────────


def test_a_report_of_a_residual_convolution(run: Run) -> None:
    code, text, error = run("analyze", "cli_models:colours", "--html", "report.html")
    assert (code, error) == (0, "")
    assert "conv1" in text
    page = Path("report.html").read_bytes()
    assert is_report(page)
    for words in ("conv[conv1.weight; 3×3, padding 1]", "(identity + conv[conv2.", "tanh_1"):
        assert words in page.decode()
    # its own earlier report may be replaced, and the same model gives the same bytes
    run("analyze", "cli_models:named", "--output", "logits", "--html", "report.html")
    assert Path("report.html").read_bytes() != page
    run("analyze", "cli_models:colours", "--html", "report.html")
    assert Path("report.html").read_bytes() == page


def test_a_package_is_drawn_like_its_source(run: Run) -> None:
    assert run("compile", DIGITS, "--out", "package")[0] == 0
    assert run("analyze", DIGITS, "--html", "source.html")[0] == 0
    assert run("analyze", "package", "--html", "package.html")[0] == 0
    assert Path("package.html").read_bytes() == Path("source.html").read_bytes()
    data = ("--data", "digits", "--limit", "20")
    assert run("analyze", "package", *data, "--html", "package.html")[0] == 0
    assert "K_lb: the largest found at 20 inputs of digits" in Path("package.html").read_text()


def test_a_report_replaces_nothing_but_a_report(run: Run, tmp_path: Path) -> None:
    analyze = ("analyze", DIGITS, "--html")
    Path("thesis.html").write_text("<p>years</p>")
    message = (
        "error: at thesis.html: the file there is no report of vercomp, or has been changed. "
        f"{FILE_REMEDY}\n"
    )
    assert run(*analyze, "thesis.html") == (2, "", message)
    assert run(*analyze, "mine.html")[0] == 0
    with Path("mine.html").open("a") as file:
        file.write("<p>my notes</p>")
    assert run(*analyze, "mine.html") == (2, "", message.replace("thesis", "mine"))
    assert run(*analyze, ".") == (2, "", "error: at .: a folder stands there, not a file\n")
    assert run(*analyze, "nowhere/report.html") == (
        2,
        "",
        "error: at nowhere/report.html: its folder is not there, or cannot be written to. Make the "
        "folder, or give another one\n",
    )
    assert run(*analyze, os.devnull)[0] == 2
    Path("dangling.html").symlink_to("elsewhere.html")
    assert "no ordinary file" in run(*analyze, "dangling.html")[2]
    Path("empty.html").touch()  # what mktemp makes
    assert run(*analyze, "empty.html")[0] == 0
    Path("link.html").symlink_to("empty.html")
    assert run(*analyze, "link.html")[0] == 0
    assert Path("link.html").is_symlink()
    assert not list(tmp_path.glob(".*"))  # no temporary file is left


# ── show ─────────────────────────────────────────────────────────────────────────────────────


def test_show_prints_the_translated_graph(run: Run) -> None:
    code, text, error = run("show", "cli_models:colours")
    assert (code, error) == (0, "")
    lines = text.splitlines()
    assert lines[0] == "input x : 3×6×6"
    assert any(line.startswith("affine conv2 : 4×6×6 = conv[conv2.weight; 3×3,") for line in lines)
    assert "activation tanh_1 : 4×6×6 = tanh(" in text
    assert "←" not in text.partition("output ")[0]
    affine = sum(line.startswith("affine ") for line in lines)
    assert lines[-2].startswith(f"{affine} affine nodes, 2 activations of 288 hidden units; ")
    assert "283 parameters" in lines[-2]
    assert lines[-1] == (
        "agrees with its source (torch) on random inputs; nothing in it is refused: it can be "
        "certified by curvature, interval, crown, local, coap, coap-projected, lipschitz, alpha "
        "and quadratic"
    )


def test_show_as_the_analyses_see_it(run: Run) -> None:
    plain = run("show", "cli_models:colours")[1]
    merged = run("show", "cli_models:colours", "--merged")[1]
    assert merged.count("affine ") < plain.count("affine ")
    assert "input.std" not in merged
    code, text, _ = run("show", "cli_models:colours", "--std", ".2,.3,.4")
    assert code == 0
    assert "scale[1/input.std]" in text
    assert text.replace(" · scale[1/input.std]", "").splitlines()[:-2] == merged.splitlines()[:-2]


def test_show_marks_what_is_refused(run: Run) -> None:
    code, text, error = run("show", "cli_models:relu")
    assert (code, error) == (0, "")
    marked = [line for line in text.splitlines() if "  ← " in line]
    assert [line.partition(" : ")[0] for line in marked] == ["activation relu", "activation relu_1"]
    assert all(
        line.endswith(
            "← the first derivative of relu jumps at x = 0, so curvature does not exist there"
        )
        for line in marked
    )
    assert text.endswith(
        "it can be certified by interval, crown, coap, coap-projected, lipschitz, alpha and "
        "quadratic, not by curvature: 2 nodes marked ←\n"
    )
    code, text, _ = run("show", "cli_models:attention")
    assert code == 0
    assert text.count("opaque ") >= 3
    assert all("  ← " in line for line in text.splitlines() if line.startswith("opaque "))
    code, text, error = run("analyze", "cli_models:relu")
    assert (code, error) == (0, "")
    assert "no curvature: an activation has no second derivative; certified by interval" in text
    assert "share of K" in text
    code, text, _ = run("analyze", "cli_models:relu", "--json", "-")
    found = json.loads(text)
    assert found["K"] is None
    others = ["coap", "coap-projected", "lipschitz", "alpha", "quadratic"]
    assert found["methods"] == ["interval", "crown", *others]
    assert all(row["share"] is None for row in found["layers"])
    assert max(row["norm"] or 0.0 for row in found["layers"]) > 0.1
    for option in (["--html", "report.html"], ["--data", "data.npz"]):
        code, text, error = run("analyze", "cli_models:relu", *option)
        assert (code, text) == (2, "")
        assert f"no curvature to look for. Leave out {option[0]}" in error


@pytest.mark.parametrize(
    "model", ["colours", "relu", "probabilities", "one_output", "attention", "named --output other"]
)
def test_show_and_compile_agree_on_what_is_refused(run: Run, model: str) -> None:
    """Both ask one planner about the graph that the passes leave."""
    model, *options = model.split()
    code, text, _ = run("show", f"cli_models:{model}", *options)
    assert code == 0
    fine = "nothing in it is refused" in text
    code, _, error = run("compile", f"cli_models:{model}", *options, "--out", "package")
    assert fine == (code == 0), error
    assert fine or all(
        line.split()[1] in error for line in text.splitlines() if line.startswith("opaque ")
    )


def test_show_says_that_a_softmax_is_left_out(run: Run) -> None:
    text = run("show", "cli_models:probabilities")[1]
    (line,) = (line for line in text.splitlines() if line.startswith("opaque "))
    assert line.endswith("  (left out: without it no two classes change places)")
    assert "  ← " not in text


def test_show_refuses_what_is_no_model(run: Run) -> None:
    Path("package").mkdir()
    assert run("show", "package") == (
        2,
        "",
        "error: at package: this is a folder; show takes a model, not a package. A package is "
        "readable itself: look at its net.py\n",
    )
    assert "no such file" in run("show", "nothing.onnx")[2]


@pytest.mark.skipif(not ONNX.is_dir(), reason="VERCOMP_DATA is not set")
@pytest.mark.parametrize(
    ("name", "refused"),
    [("cifar_conv_small_sigmoid", 0), ("Convnet_avgpool", 1), ("resnet_2b", 6)],
)
def test_show_on_published_networks(run: Run, name: str, refused: int) -> None:
    code, text, error = run("show", ONNX / f"{name}.onnx")
    assert (code, error) == (0, "")
    assert text.count("  ← ") == refused
    assert "agrees with its source (onnx)" in text


# ── --output ─────────────────────────────────────────────────────────────────────────────────


def test_one_of_several_outputs(run: Run) -> None:
    for model, output in (("named", "logits"), ("pair", "0")):
        code, text, error = run("analyze", f"cli_models:{model}", "--output", output, "--json", "-")
        assert code == 0, error
        assert json.loads(text)["classes"] == 3
    assert "affine other" in run("show", "cli_models:named", "--output", "other")[1]
    assert run("compile", "cli_models:pair", "--output", "1", "--out", "package")[0] == 0
    assert vercomp.load_package("package").network.classes == 2


def test_outputs_that_are_none(run: Run) -> None:
    code, _, error = run("analyze", "cli_models:named")
    assert code == 2
    assert "the model returns a dict with the outputs 'logits', 'other'" in error
    code, _, error = run("analyze", "cli_models:named", "--output", "loss")
    assert code == 2
    assert "the model has no output 'loss'. It has the outputs 'logits', 'other'" in error
    assert "the model has no output 'loss'" in run("show", DIGITS, "--output", "loss")[2]
    run("compile", DIGITS, "--out", "package")
    assert run("analyze", "package", "--output", "logits") == (
        2,
        "",
        "error: at package: a compiled package has one output, so --output does not apply. Compile "
        "the source model with it\n",
    )


def test_an_onnx_file_with_two_outputs(run: Run) -> None:
    import onnx

    model = onnx.load(DIGITS)
    hidden = model.graph.node[0].output[0]
    value = onnx.helper.make_tensor_value_info(hidden, onnx.TensorProto.FLOAT, ["batch", 64])
    model.graph.output.append(value)
    onnx.save(model, "two.onnx")
    logits = model.graph.output[0].name
    code, _, error = run("analyze", "two.onnx")
    assert code == 2
    assert f"the model returns 2 results: '{logits}', '{hidden}'" in error
    code, text, error = run("analyze", "two.onnx", "--output", logits, "--json", "-")
    assert code == 0, error
    assert json.loads(text)["K"] == json.loads(run("analyze", DIGITS, "--json", "-")[1])["K"]


# ── --mean and --std by channel ──────────────────────────────────────────────────────────────

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2, 0.3, 0.4)
UNITS = ("--mean", ".4914,.4822,.4465", "--std", ".2,.3,.4")


def test_units_by_channel_are_a_layer_in_front(run: Run) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((6, 3, 6, 6), dtype=np.float32)
    np.savez("d.npz", x=x, y=np.arange(6) % 3)
    np.savez(
        "normalised.npz",
        x=(x - np.array(MEAN, np.float32)[:, None, None])
        / np.array(STD, np.float32)[:, None, None],
        y=np.arange(6) % 3,
    )
    code, text, error = run("attack", "cli_models:colours", *UNITS, "--data", "d.npz",
                            "--radius", "0.1", "--json", "-")  # fmt: skip
    assert code == 0, error
    attacked = json.loads(text)
    options = ("--data", "d.npz", "--json", "-")
    code, text, error = run("certify", "cli_models:colours", *UNITS, *options)
    assert code == 0, error
    certified = json.loads(text)
    assert certified["n"] == 6
    plain = json.loads(
        run("certify", "cli_models:colours", "--data", "normalised.npz", "--json", "-")[1]
    )
    assert certified["clean_accuracy"] == plain["clean_accuracy"] == attacked["clean_accuracy"]
    if certified["mean_radius"] is not None:  # a unit of the input is 2.5 to 5 of the model's
        assert certified["mean_radius"] < plain["mean_radius"]
    code, _, error = run("compile", "cli_models:colours", *UNITS, "--out", "package")
    assert code == 0, error
    by_hand = vercomp.compile(
        sys.modules["cli_models"].colours(), (3, 6, 6), mean=MEAN, std=list(STD)
    )
    torch.testing.assert_close(
        vercomp.load_package("package").curvature()[0], by_hand.curvature()[0]
    )
    module = sys.modules["cli_models"].colours()
    normalise = (torch.tensor(x) - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[
        :, None, None
    ]
    torch.testing.assert_close(by_hand.network(torch.tensor(x)), module(normalise))


@pytest.mark.parametrize(
    ("command", "more"),
    [
        ("compile", ("--out", "package")),
        ("analyze", ()),
        ("show", ()),
        ("certify", ("--data", "d.npz")),
        ("attack", ("--data", "d.npz", "--radius", "1")),
    ],
)
def test_counts_that_do_not_fit(run: Run, command: str, more: tuple[str, ...]) -> None:
    for option in ("--mean", "--std"):
        assert run(command, "cli_models:colours", *more, option, ".5,.5") == (
            2,
            "",
            f"error: node '{option[2:]}': 2 values for an input of 3 channels. Give one number, or "
            "one for each channel (the first dimension of an input)\n",
        )


def test_one_output_is_compiled_and_not_classified(run: Run) -> None:
    code, text, error = run("compile", "cli_models:controller", "--out", "controller")
    assert (code, error) == (0, "")
    assert "inputs 3, 1 output, curvature at most" in text
    code, _, error = run("certify", "controller", "--data", "digits")
    assert code == 2
    assert "has one output, and so no class that could change. Ask for --threshold T" in error


def test_relu_networks_are_certified_in_every_norm(run: Run) -> None:
    Path("data.npz").unlink(missing_ok=True)
    x = np.random.default_rng(0).random((12, 3, 6, 6)).astype(np.float32)
    np.savez("data.npz", x=x, y=np.zeros(12, dtype=np.int64))
    code, text, error = run("compile", "cli_models:relu", "--out", "relu")
    assert (code, error) == (0, "")
    assert "methods: interval, crown, coap" in text
    for norm in ("l1", "l2", "linf"):
        arguments = ["--norm", norm, "--box", "0,1", "--radius", 1e-4, "--json", "-"]
        code, text, error = run("certify", "relu", "--data", "data.npz", *arguments)
        assert code == 0, error
        found = json.loads(text)
        assert found["norm"] == norm
        assert found["box"] == [0.0, 1.0]
        assert set(found["methods"]) <= {"interval", "crown"}
        assert sum(found["methods"].values()) == pytest.approx(found["clean_accuracy"])
        assert found["certified_accuracy"] == found["clean_accuracy"]
    code, _, error = run("certify", "relu", "--data", "data.npz", "--methods", "curvature")
    assert (code, error) == (
        2,
        "error: the network has no method 'curvature'. Choose from interval, crown, coap, "
        "coap-projected, lipschitz, alpha, quadratic\n",
    )


def test_time_that_is_over_leaves_inputs_undecided(run: Run) -> None:
    arguments = ["--data", "digits", "--limit", 40, "--timeout", 1e-6, "--json", "-"]
    code, text, error = run("certify", DIGITS, *arguments)
    assert code == 0
    found = json.loads(text)
    assert found["n"] + found["undecided"] == 40
    assert found["undecided"] > 0
    assert f"the time is over; {found['undecided']} of 40 are undecided" in error
