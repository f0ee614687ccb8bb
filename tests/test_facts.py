"""Facts: typed, immutable, and missing ones are our own bug."""

from __future__ import annotations

import pytest

from vercomp.errors import InternalError
from vercomp.facts import CONSTANTS, Fact, Facts

WIDTH: Fact[int] = Fact("width")


def test_adding_a_fact_gives_a_new_collection() -> None:
    empty = Facts()
    some = empty.with_fact(WIDTH, 3, "fc1")
    more = some.with_fact(WIDTH, 4, "fc1").with_fact(WIDTH, 5)
    assert not empty.known(WIDTH, "fc1")
    assert (some.of(WIDTH, "fc1"), more.of(WIDTH, "fc1"), more.of(WIDTH)) == (3, 4, 5)
    assert not some.known(WIDTH)
    assert not some.known(CONSTANTS, "fc1")


def test_a_missing_fact_is_an_internal_error() -> None:
    with pytest.raises(InternalError, match="node 'fc1': no pass has established the fact 'width'"):
        Facts().of(WIDTH, "fc1")
