"""Recipes: what is refused, and that plain data brings one back."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, fields
from typing import Any

import pytest

from vercomp.commands.train_options import HELP
from vercomp.errors import UsageError
from vercomp.train import Recipe
from vercomp.train.methods import METHODS


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"method": "sgd"},
            f"method must be one of {', '.join(METHODS)}, not 'sgd'",
        ),
        ({"target": "all"}, "target must be one of largest, certificate, runner-up"),
        ({"precision": "low"}, "precision must be one of highest, high, medium"),
        ({"radius": 0.0}, "radius must be positive, not 0.0"),
        ({"radius": float("nan")}, "radius must be a finite number"),
        ({"learning_rate": float("inf")}, "learning rate must be a finite number"),
        ({"penalty": -1e-9}, "penalty must be at least 0"),
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 2.0}, "epochs must be a whole number, not 2.0"),
        ({"batch_size": True}, "batch size must be a whole number"),
        ({"shift": -1}, "shift must be at least 0"),
        ({"radius_ramp": 1.5}, "radius ramp must be between 0 and 1"),
        ({"exponent": 2.0}, "exponent must be between 0 and 1"),
        ({"averaging": 1.0}, "averaging must be below 1"),
        ({"temperature": 0.0}, "temperature must be positive, not 0"),
        ({"shift_chance": 1.5}, "shift chance must be between 0 and 1"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"warm_start": "no"}, "warm start must be true or false, not 'no'"),
        ({"norm": "l3"}, "norm must be one of l2, linf, l1, not 'l3'"),
        ({"norm": "linf"}, "method 'crt' is not for linf balls. Choose l2, or another method: "),
        ({"box": (1.0, 0.0)}, "box must be two finite numbers, the first below the second"),
        ({"numbers": {"speed": 1.0}}, "method 'crt' has no number 'speed'. It has none of its own"),
        ({"held": 2.0}, "held must be between 0 and 1"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**changed)


@pytest.mark.parametrize(
    ("count", "batch", "epochs", "rate"),
    [
        (20, 8, 200, 3.428e-3),
        (1078, 32, 61, 1.528e-3),
        (59_000, 256, 20, 1.011e-3),
        (1_000_000, 256, 20, 1e-3),
    ],
)
def test_numbers_follow_the_size_of_the_data(
    count: int, batch: int, epochs: int, rate: float
) -> None:
    recipe = Recipe().fitted(count)
    assert (recipe.batch_size, recipe.epochs) == (batch, epochs)
    assert recipe.learning_rate == pytest.approx(rate, rel=1e-3)
    assert recipe.fitted(10) == recipe  # what is known stays


def test_numbers_that_are_given_stay() -> None:
    recipe = Recipe(epochs=10, batch_size=64).fitted(1078)
    assert (recipe.batch_size, recipe.epochs) == (64, 10)
    assert recipe.learning_rate == 5e-3  # few steps are larger, up to here
    assert Recipe(learning_rate=0.1).fitted(1078).learning_rate == 0.1


def test_plain_data_brings_it_back() -> None:
    recipe = Recipe(method="pgd", radius=1.58, warm_start=False, box=(0.0, 1.0))
    assert Recipe(**json.loads(json.dumps(asdict(recipe)))) == recipe


def test_every_number_has_an_option() -> None:
    assert [*HELP, "numbers"] == [field.name for field in fields(Recipe)]


def test_recipes_need_no_torch() -> None:
    code = (
        "import sys; from vercomp.train import Recipe; Recipe(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_names_of_the_package() -> None:
    import vercomp.train as package

    assert [hasattr(package, name) for name in package.__all__] == [True] * 3
    with pytest.raises(AttributeError, match=r"module 'vercomp\.train' has no attribute 'fit'"):
        package.fit  # noqa: B018
