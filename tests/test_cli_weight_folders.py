"""Folders of weights with a configuration, as Hugging Face keeps them, through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import vercomp
from vercomp.commands.models import open_source

Run = Callable[..., tuple[int, str, str]]

SOURCE = '''
import torch
from safetensors.torch import load_file
from torch import nn


class Classifier(nn.Module):
    def __init__(self, hidden_size, num_labels=3, num_channels=1, image_size=4):
        super().__init__()
        self.one = nn.Linear(num_channels * image_size**2, hidden_size)
        self.two = nn.Linear(hidden_size, num_labels)

    def forward(self, x):
        return self.two(torch.nn.functional.silu(self.one(x.flatten(1))))


class Pretrained(Classifier):
    """As the libraries do it: it reads the folder itself, and returns logits by name."""

    @classmethod
    def from_pretrained(cls, folder):
        model = cls(5)
        model.load_state_dict(load_file(f"{folder}/model.safetensors"), strict=False)
        return model

    def forward(self, x):
        return {"logits": super().forward(x), "hidden": x}


class Forgetful(Pretrained):
    """It reads the folder, and does not keep what it has read."""

    @classmethod
    def from_pretrained(cls, folder):
        return cls(5)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 3)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.head(torch.tanh(self.two(torch.tanh(self.one(x)))))


def anything(**config):
    return Classifier(config["hidden_size"])


def broken(hidden_size):
    raise ValueError("no such size")


def number(hidden_size):
    return 3


network = Classifier(5)
'''
CONFIG = {
    "architectures": ["Classifier"],
    "model_type": "classifier",
    "hidden_size": 5,
    "num_channels": 1,
    "image_size": 4,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model's folder beside the module with its class."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "weighted.py").write_text(SOURCE, encoding="utf-8")
    made = tmp_path / "model"
    made.mkdir()
    write(made, CONFIG, weights())
    monkeypatch.delitem(__import__("sys").modules, "weighted", raising=False)
    return made


def weights() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    one, two = nn.Linear(16, 5), nn.Linear(5, 3)
    return {
        "one.weight": one.weight.detach(),
        "one.bias": one.bias.detach(),
        "two.weight": two.weight.detach(),
        "two.bias": two.bias.detach(),
    }


def write(folder: Path, config: Any, tensors: dict[str, torch.Tensor]) -> None:
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(tensors, folder / "model.safetensors")


def expected(x: torch.Tensor) -> torch.Tensor:
    w = weights()
    h = torch.nn.functional.silu(x.flatten(1) @ w["one.weight"].T + w["one.bias"])
    return h @ w["two.weight"].T + w["two.bias"]


@pytest.mark.parametrize("options", [(), ("--output", "logits")], ids=["arguments", "pretrained"])
def test_a_folder_compiles_with_its_class(folder: Path, run: Run, options: Any) -> None:
    name = "Pretrained" if options else "Classifier"
    code, out, error = run("compile", f"weighted:{name}@model", "--out", "package", *options)
    assert code == 0, error
    assert "inputs 1×4×4, 3 classes" in out
    net = vercomp.load_package("package")
    x = torch.rand(4, 1, 4, 4)
    torch.testing.assert_close(net.network(x), expected(x))
    assert (net.certify(x, expected(x).argmax(1)).radius > 0).all()


def test_several_files_are_one_model(folder: Path) -> None:
    whole = weights()
    halves = [dict(list(whole.items())[:2]), dict(list(whole.items())[2:])]
    (folder / "model.safetensors").unlink()
    for place, half in enumerate(halves):
        save_file(half, folder / f"model-0000{place + 1}-of-00002.safetensors")
    source = open_source(f"weighted:Classifier@{folder}")
    x = torch.rand(2, 1, 4, 4)
    assert isinstance(source.model, nn.Module)
    torch.testing.assert_close(source.model(x), expected(x))
    assert source.input_shape == (1, 4, 4)


def test_weights_that_two_layers_share_are_there_once(folder: Path) -> None:
    state = {name: torch.randn(4, 4) for name in ("one.weight",)}
    state |= {"one.bias": torch.randn(4), "two.bias": torch.randn(4)}
    state |= {"head.weight": torch.randn(3, 4), "head.bias": torch.randn(3)}
    write(folder, {"input_shape": [4]}, state)
    source = open_source("weighted:Tied@model")
    assert source.input_shape == (4,)
    assert isinstance(source.model, nn.Module)
    assert torch.equal(source.model.two.weight, state["one.weight"])


def test_a_configuration_may_go_to_a_function(folder: Path) -> None:
    write(folder, {**CONFIG, "initializer_range": 0.02}, weights())
    assert isinstance(open_source("weighted:anything@model").model, nn.Module)


def less(folder: Path) -> None:
    write(folder, CONFIG, {k: v for k, v in weights().items() if not k.startswith("two")})


def more(folder: Path) -> None:
    write(folder, CONFIG, {**weights(), "three.weight": torch.zeros(2)})


def wider(folder: Path) -> None:
    write(folder, {**CONFIG, "hidden_size": 6}, weights())


def twice(folder: Path) -> None:
    save_file(weights(), folder / "copy.safetensors")


REFUSED: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing weights": (
        less,
        "Classifier",
        "the weights hold no 'two.weight' and 1 more, which the model has",
    ),
    "missing weights of a class that reads the folder": (
        less,
        "Pretrained",
        "the weights hold no 'two.weight' and 1 more, which the model has",
    ),
    "weights that were not loaded": (
        lambda folder: None,
        "Forgetful",
        "the model's 'one.weight' and 3 more is not what the weights hold",
    ),
    "weights that are not the model's": (more, "Classifier", "the model has no 'three.weight'"),
    "shapes": (wider, "Classifier", "the weights do not fit"),
    "two files with one name": (twice, "Classifier", "is in another file of the folder as well"),
    "no configuration": (
        lambda folder: (folder / "config.json").unlink(),
        "Classifier",
        "the folder has no config.json",
    ),
    "no JSON": (
        lambda folder: (folder / "config.json").write_text("{"),
        "Classifier",
        "cannot be read",
    ),
    "a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "Classifier",
        "not a JSON object",
    ),
    "pickles": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "Classifier",
        "Weights in pickles are never read: save them with safetensors",
    ),
    "truncated weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x10"),
        "Classifier",
        "cannot be read",
    ),
    "an argument that the class has not": (
        lambda folder: write(folder, {**CONFIG, "depth": 2}, weights()),
        "Classifier",
        "config.json has 'depth', which 'weighted:Classifier' does not take",
    ),
    "an argument that the class needs": (
        lambda folder: write(folder, {}, weights()),
        "Classifier",
        "calling 'weighted:Classifier' failed: TypeError",
    ),
    "an error of the class": (
        lambda folder: write(folder, {"hidden_size": 5}, weights()),
        "broken",
        "calling 'weighted:broken' failed: ValueError: no such size",
    ),
    "no module": (
        lambda folder: write(folder, {"hidden_size": 5}, weights()),
        "number",
        "'weighted:number' returned a int, not a torch nn.Module",
    ),
    "a module in the place of a class": (
        lambda folder: None,
        "network",
        "'weighted:network' is a module already",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_in_one_line(folder: Path, run: Run, case: str) -> None:
    spoil, name, said = REFUSED[case]
    spoil(folder)
    code, out, error = run("show", f"weighted:{name}@model", "--input-shape", "1,4,4")
    assert (code, out) == (2, "")
    assert said in error
    assert "Traceback" not in error


def test_the_folder_alone_is_refused_with_the_way(folder: Path, run: Run) -> None:
    for command in (("compile", "model", "--out", "package"), ("analyze", "model")):
        code, _, error = run(*command)
        assert code == 2
        assert "MODEL is package.module:Class@FOLDER" in error
    code, _, error = run("show", "weighted:Classifier@nowhere")
    assert code == 2
    assert "at nowhere: no such folder" in error


def test_a_model_of_the_hub_library(folder: Path, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs huggingface_hub")
    source = SOURCE.replace("class Classifier(nn.Module)", "class Classifier(nn.Module, Hub)")
    head = "from huggingface_hub import PyTorchModelHubMixin as Hub\n"
    (tmp_path / "hub_model.py").write_text(head + source, encoding="utf-8")
    import hub_model

    model = hub_model.Classifier(hidden_size=5)
    model.save_pretrained(tmp_path / "saved")
    arguments = ("--input-shape", "1,4,4", "--out", "package")
    code, _, error = run("compile", "hub_model:Classifier@saved", *arguments)
    assert code == 0, error
    x = torch.rand(2, 1, 4, 4)
    torch.testing.assert_close(vercomp.load_package("package").network(x), model(x))
