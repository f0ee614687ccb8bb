"""Methods of training register themselves: a file of the folder, or a row of somebody else's."""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from importlib.resources import files
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import vercomp
from vercomp.commands.train_options import gathered
from vercomp.data import Dataset
from vercomp.errors import InternalError, PluginError, UsageError
from vercomp.live import live_network
from vercomp.train import Recipe, train
from vercomp.train import methods as door
from vercomp.train.method import NORMS, Method, Number
from vercomp.train.methods import METHODS, declared, objective, register
from vercomp.train.objectives import Batch, Loss, Moment, Objective, right

OURS = [
    path.name.removesuffix(".py")
    for path in files(door).iterdir()
    if path.name.endswith(".py") and path.name != "__init__.py"
]


@pytest.mark.parametrize("name", OURS)
def test_a_file_of_the_folder_is_a_method(name: str) -> None:
    """What was read from its source is what the file itself says, and its class is there."""
    module = import_module(f"vercomp.train.methods.{name}")
    assert METHODS[module.METHOD.name] == module.METHOD
    made = getattr(module, module.METHOD.objective)
    assert issubclass(made, Objective)
    assert set(module.METHOD.norms) <= set(NORMS)
    source = "".join(
        inspect.getsource(each) for each in made.__mro__ if each.__module__ != "builtins"
    )
    for number in module.METHOD.numbers:
        assert f'number("{number.name}")' in source


def test_a_file_without_a_row_is_named() -> None:
    with pytest.raises(InternalError, match=r"methods\.empty has no METHOD"):
        declared("x = 1\n", "vercomp.train.methods.empty")


class Smoothed(Objective):
    """Cross entropy with smoothed labels, on the graph over live parameters."""

    def __call__(self, batch: Batch, now: Moment) -> Loss:
        share = self.recipe.number("smoothing")
        logits = self.model(batch.x)
        value = F.cross_entropy(logits, batch.y, label_smoothing=share)
        parameters = self.network.parameters()
        value = value + 0.0 * sum(p.square().sum() for p in parameters.values())
        region = self.region(batch.x, now.radius)
        assert (region.kind.name, region.box is not None) == ("linf", True)
        correct = right(logits, batch.y)
        return Loss(value, batch.x, correct, correct, None)


SMOOTHED = Method(
    name="smoothed",
    summary="cross entropy with smoothed labels",
    objective="smoothed_training:Smoothed",
    propagated=True,
    norms=NORMS,
    numbers=(Number("smoothing", 0.1, "Share of the other labels.", low=0.0, high=1.0),),
    defaults={"radius_ramp": 0.5},
)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "_METHODS", dict(METHODS))
    monkeypatch.setattr(door, "METHODS", door._METHODS)
    monkeypatch.setattr(door, "_HOMES", dict(door._HOMES))
    monkeypatch.setattr("vercomp.train.recipe.METHODS", door._METHODS)
    module = ModuleType("smoothed_training")
    module.Smoothed = Smoothed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "smoothed_training", module)
    register(SMOOTHED)
    register(SMOOTHED)  # the same again is no other method


@pytest.mark.usefixtures("registered")
def test_a_method_of_ones_own_trains() -> None:
    recipe = Recipe("smoothed", norm="linf", box=(-9.0, 9.0), epochs=2, batch_size=8)
    assert (recipe.number("smoothing"), recipe.radius_ramp, recipe.held) == (0.1, 0.5, 0.0)
    assert Recipe("smoothed", numbers={"smoothing": 0.3}).number("smoothing") == 0.3
    with pytest.raises(UsageError, match="smoothing must be between 0 and 1, not 2"):
        Recipe("smoothed", numbers={"smoothing": 2})
    x = torch.randn(40, 5)
    data = Dataset(x, x[:, :3].argmax(1), "made up")
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    done = train(model, data, recipe, input_shape=(5,))
    assert [row["epoch"] for row in done.history] == [1, 2]


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"name": "crt"}, "a method of training named 'crt' is registered already"),
        ({"name": "other", "objective": "Smoothed"}, "'Smoothed' is no 'package.module:Class'"),
        (
            {"name": "other", "numbers": (Number("smoothing", 0.2, "Another."),)},
            "the number 'smoothing' of method 'other' is another method's already",
        ),
    ],
)
def test_what_is_taken_is_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(PluginError, match=message):
        register(Method(**{**vars(SMOOTHED), **changed}))  # type: ignore[arg-type]


@pytest.mark.usefixtures("registered")
def test_what_a_method_needs_has_to_be_given() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    with pytest.raises(UsageError, match="method 'smoothed' needs the graph of the model"):
        objective(Recipe("smoothed"), model, None)
    assert (
        objective(Recipe("smoothed"), model, None, live_network(model, (5,))).network.outputs == 3
    )
    with pytest.raises(UsageError, match="method 'crt' needs a regulariser"):
        objective(Recipe("crt"), model, None)
    reg = vercomp.regularizer(model, (5,))
    assert objective(Recipe("plain"), model, reg).regularizer is None


def test_numbers_are_gathered_from_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vercomp.commands.train_options.METHODS", {"smoothed": SMOOTHED})
    found = gathered({"epochs": 3, "smoothing": 0.2})
    assert found == {"epochs": 3, "numbers": {"smoothing": 0.2}}
    assert gathered({"smoothing": None}) == {"numbers": {}}
