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


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"method": "sgd"},
            "method must be one of plain, penalty, pgd, trades, crt, dual, not 'sgd'",
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
        ({"seed": -1}, "seed must be at least 0"),
        ({"warm_start": "no"}, "warm start must be true or false, not 'no'"),
    ],
)
def test_refusals(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Recipe(**changed)


def test_plain_data_brings_it_back() -> None:
    recipe = Recipe(method="pgd", radius=1.58, warm_start=False)
    assert Recipe(**json.loads(json.dumps(asdict(recipe)))) == recipe


def test_every_number_has_an_option() -> None:
    assert list(HELP) == [field.name for field in fields(Recipe)]


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
