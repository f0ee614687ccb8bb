"""What the runtime refuses is caught as vercomp's, and as what Python would raise."""

from __future__ import annotations

import copy
import pickle

import pytest

from vercomp import errors
from vercomp.core.errors import (
    ChangedWeightsError,
    InputError,
    InputTypeError,
    VercompError,
    WeightError,
)


@pytest.mark.parametrize(
    ("kind", "builtin"),
    [
        (InputError, ValueError),
        (InputTypeError, TypeError),
        (WeightError, ValueError),
        (ChangedWeightsError, RuntimeError),
    ],
)
def test_faults_have_one_base_and_a_builtin_one(
    kind: type[VercompError], builtin: type[Exception]
) -> None:
    assert getattr(errors, kind.__name__) is kind
    error = kind("it is wrong", node="fc1", remedy="Mend it")
    assert isinstance(error, VercompError)
    assert isinstance(error, builtin)
    assert str(error) == "node 'fc1': it is wrong. Mend it"
    for same in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert (type(same), str(same), same.remedy) == (kind, str(error), "Mend it")


def test_the_tree_has_one_root() -> None:
    assert errors.VercompError is VercompError
    for name in errors.__all__:
        assert issubclass(getattr(errors, name), VercompError)
